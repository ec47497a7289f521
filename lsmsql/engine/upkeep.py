"""Upkeep: the work that writing leaves behind, flush and compaction, one unit at a time, whoever calls for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import ClosedError, Error
from .compaction.dictionary_choice import DictionaryChoice
from .compaction.job import run
from .compaction.picker import Compaction, pick, pick_all
from .flush import flush_generation
from .generation import Generation
from .manifest.version import Levels, Version
from .pins import Pins
from .read_state import LiveVersion
from .reentry import owned, refuse_reentry
from .version_line import VersionLine


class Stopped(ClosedError):
    """The database is closing: the unit of work is given up, and its files are removed."""


class Upkeep:
    """error: what failed first, for good: every later write raises it. stopping: units of work end with Stopped at their next chunk.

    on_change: called after each unit of work; the counters are for statistics. drain_rate: bytes of WAL flushed per second, lately.
    """

    def __init__(self, line: VersionLine, pins: Pins) -> None:
        self._line = line
        self._pins = pins
        self._flushing = threading.RLock()
        self.compacting = threading.RLock()
        self._picking = threading.RLock()
        self._locks = (self._flushing, self.compacting, self._picking, line.edits, line.swap, line.obsolete.lock, pins.lock)
        self.error: BaseException | None = None
        self.stopping = False
        self.on_change: Callable[[], None] = lambda: None
        self.drain_rate = 0.0
        self.dictionaries = DictionaryChoice()
        self._idle: Version | None = None  # In which no compaction is due.
        self._not_due: dict[int, Levels] = {}
        self.flushes = self.flushed_bytes = 0
        self.compactions = self.moves = self.compacted_bytes_read = self.compacted_bytes_written = 0

    def sealed(self) -> tuple[Generation, ...]:
        """Sealed generations that wait for their flush, newest first."""
        return self._line.published.state.generations[1:]

    def level_0_tables(self) -> int:
        """Tables in the fullest level 0 of any tree."""
        return max((len(levels[0]) for levels in self._line.version.levels.values()), default=0)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """No flush and no compaction runs, on any thread."""
        with self._flushing, self.compacting:
            yield

    @property
    def working(self) -> bool:
        """Whether this thread is in the middle of anything that a unit of work may have to wait for."""
        return owned(*self._locks)

    def refuse_reentry(self) -> None:
        """UsageError if this thread is in the middle of anything that a unit of work may have to wait for."""
        refuse_reentry(*self._locks)

    def check(self) -> None:
        """Raise the error that stopped the upkeep, if one did."""
        if self.error is not None:
            raise Error(f"writing has stopped since a flush or compaction failed: {self.error!r}") from self.error

    def flush_next(self) -> bool:
        """Flush the oldest sealed generation; False if there is none. An error is kept in `error` and raised."""
        self.refuse_reentry()
        with self._flushing:
            sealed = self.sealed()
            if not sealed:
                return False
            generation = sealed[-1]
            began = time.monotonic()
            with _Sticky(self):
                self.check()
                # Not needed for the flush itself, but a full commit in a later WAL waits for this, and a flush may take long.
                generation.wal.sync()
                tables = flush_generation(self._line, self._pins, generation, self._pace)
            self.flushes += 1
            self.flushed_bytes += sum(table.size for table in tables)
            self.drain_rate = generation.wal.length / max(time.monotonic() - began, 1e-6)
        self.on_change()
        return True

    @property
    def unchanged(self) -> bool:
        """Whether no edit is durable that is not published: then a unit of work that was broken off has left no trace."""
        return self._line.version is self._line.published.state.version

    def compaction_due(self) -> bool:
        return self._pick(self._line.published.state.version) is not None or self._garbage_due()

    def compact_next(self) -> bool:
        """Run the most urgent compaction, or else collect garbage of the blob store; False if nothing is due.

        An error is kept in `error` and raised."""
        self.refuse_reentry()
        with self.compacting:
            live = self._line.published.state.live
            compaction = self._pick(live.version)
            if compaction is not None:
                self._compact(compaction, live)
            elif self._garbage_due():
                self._collect_garbage()
            else:
                return False
        self.on_change()
        return True

    def _garbage_due(self) -> bool:
        return self._line.blobs.garbage_due(self._line.options.blob_live_share)

    def _collect_garbage(self) -> None:
        """Write frames again of which too much is dead. No compaction runs, so what leads into them stays where it is, or goes."""
        blobs = self._line.blobs
        with _Sticky(self):
            self.check()
            held = self._line.obsolete.held()
            tables = {file_id: table for live in held for file_id, table in live.tables.items()}
            blobs.relocate(blobs.poor_frames(self._line.options.blob_live_share), tables.values(), self._pace)
            blobs.sync()

    def compact_all(self, tree_id: int) -> None:
        """Merge all tables of a tree into one level."""
        self.refuse_reentry()
        with self.compacting:
            live = self._line.published.state.live
            compaction = pick_all(live.version, tree_id, self._pins.retention()[0])
            if compaction is not None:
                self._compact(compaction, live)
            if self._line.blobs.is_open:
                del live  # It would hold what is garbage now.
                self._line.obsolete.collect()
                while self._garbage_due():
                    self._collect_garbage()
        self.on_change()

    def _pick(self, version: Version) -> Compaction | None:
        """The compaction of the tree with the most tables in level 0 among those that have one due."""
        with self._picking:
            return self._pick_from(version)

    def _pick_from(self, version: Version) -> Compaction | None:
        if version is self._idle:
            return None
        # Most versions change one tree of many; a tree found not to be due stays so while its levels are the same object.
        trees = [tree_id for tree_id, levels in version.levels.items() if self._not_due.get(tree_id) is not levels]
        for tree_id in sorted(trees, key=lambda tree_id: -len(version.levels[tree_id][0])):
            compaction = pick(version, tree_id, self._line.options)
            if compaction is not None:
                return compaction
            self._not_due[tree_id] = version.levels[tree_id]
        self._not_due = {tree_id: levels for tree_id, levels in self._not_due.items() if tree_id in version.levels}
        self._idle = version
        return None

    def _compact(self, compaction: Compaction, live: LiveVersion) -> None:
        """live: the version that the compaction was picked from. It keeps the inputs open; the whole read state would keep memtables, too."""
        line = self._line
        with _Sticky(self):
            self.check()
            floor, retained = self._pins.retention()
            sink = line.table_sink(live.version, compaction.tree_id, compaction.output_level, self._pace)
            self.dictionaries.keep(live.version.trees)
            dictionary = None if compaction.trivial_move else self.dictionaries.choose(compaction, live.tables, line.options)
            try:
                edit = run(compaction, live.tables, sink, floor=floor, snapshots=retained, dictionary=dictionary)
            except BaseException:
                sink.separation.give_up()
                raise
            opened = {}
            if not compaction.trivial_move:
                line.sync_directory()  # Before the edit, which removes the inputs: the outputs must be found after a crash.
                opened = line.open_tables(edit.added)
            line.install(edit, opened)
        if compaction.trivial_move:
            self.moves += 1
        else:
            self.compactions += 1
            self.compacted_bytes_read += compaction.size
            self.compacted_bytes_written += sum(table.size for table in edit.added)

    def _pace(self, _written: int) -> None:
        if self.stopping:
            raise Stopped("the database is closing")


class _Sticky:
    """Keeps an error for every later write: after it nobody knows how far the work has come."""

    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        upkeep = self._upkeep
        if error is None or isinstance(error, Stopped) or upkeep.error is not None:
            return
        if not isinstance(error, Exception) and upkeep.unchanged:
            return  # An interrupt of the caller's thread: the unit is given up, its files are removed, nothing has changed.
        upkeep.error = error
        upkeep.on_change()
