"""The write line: the lock under which all that writes takes its turn; admission, the WAL, rotation, and what failed for good.

If writing, syncing or indexing fails, the end of the WAL is unknown, so every later commit is refused: a record behind a torn one would
never be found, and a second sync would claim what the first one lost. Opening the database again finds out what is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import time_ns
from typing import NoReturn

from ..errors import ClosedError, Error, LockedError, UsageError
from .background import Background, Inline
from .generation import Generation
from .kernel import SEQNO_MAX
from .manifest.events import encode_edit
from .manifest.version_edit import VersionEdit
from .prepared import PreparedCommit
from .pressure import Pressure
from .read_state import Published
from .reentry import refuse_reentry
from .storage.filesystem import Bytes
from .storage.record_log import RecordKind
from .upkeep import Upkeep
from .version_line import VersionLine

_SEQNO_LAST = SEQNO_MAX - (1 << 40)  # Behind it nothing is admitted; one admission is good for as many commits as fit a memtable.


class WriteLine:
    """What goes on under the lock; `commit.py` has the ways to commit.

    host_seqno: of the last prepared commit that was committed.
    """

    def __init__(
        self, line: VersionLine, upkeep: Upkeep, worker: Background | Inline, generation: Generation, previous: int, host_seqno: int
    ) -> None:
        """previous: seqno of the last commit record in the line of WALs."""
        options = line.options
        self._line = line
        self._edits = line.edits
        self._published: Published = line.published
        self._upkeep = upkeep
        self._worker = worker
        self._lock = threading.RLock()  # Never taken twice; but it knows its owner: see refuse_reentry.
        self._busy = False  # Whether its owner is in the middle of something.
        self._prepared: PreparedCommit | None = None  # It holds the line.
        self._settled = threading.Condition(self._lock)
        self._waiters = 0  # for `_settled`: to notify nobody costs more than to seal a record
        self.host_seqno = host_seqno
        self._previous = previous
        self._refusal: Error | None = None
        self._error: BaseException | None = None
        self._pressure = Pressure(upkeep, worker, options.l0_slowdown, options.l0_stop, options.sealed_max)
        self._durability = options.durability
        self._encrypted = line.keyring is not None
        self._careful = self._durability != "normal"
        self._slow = True  # Whether a commit must look around before it writes.
        self._wal_bytes = 0
        self._first = self._published.seqno
        self._sealed_at = 0  # When the last record was, microseconds since the Unix epoch.
        self._enter(generation)

    def _enter(self, generation: Generation) -> None:
        self._generation = generation
        self._arena = generation.arena
        self._wal = generation.wal
        self._trees = generation.trees
        self._times = generation.times

    @contextmanager
    def held(self, undecided: bool = False) -> Iterator[None]:
        """The commit line stands still: no commit, no rotation, no seqno but the caller's. undecided: also while a commit is prepared."""
        self.refuse_reentry()
        if not undecided:
            self.ask_again()
        with self._lock:
            self._busy = True
            try:
                if not undecided:
                    self._wait_settled()
                yield
            finally:
                self._busy = False

    def refuse_reentry(self) -> None:
        """UsageError for a write in the middle of another, or of an edit, on the same thread: it could never get the lock."""
        if self._lock._is_owned() or self._edits._is_owned():  # type: ignore[attr-defined]
            refuse_reentry(self._lock, self._edits)

    def admit(self, trees: Sequence[int], size: int = 0) -> None:
        """Look around before a commit of about `size` bytes into some trees: may it be, is there room, must it wait."""
        self.check()
        known = self._line.version.trees
        for tree in trees:
            if tree not in known:
                raise UsageError(f"tree {tree} was dropped")
        if self._published.seqno > _SEQNO_LAST:
            raise UsageError(f"the last commit has seqno {self._published.seqno}; the limit is {SEQNO_MAX}")
        arena = self._arena
        # A batch larger than a memtable gets a generation of its own.
        if arena.full or (size >= self._line.options.memtable_bytes and arena.entries):
            self.rotate()
        if self._pressure.level:
            self._pressure.slow_down(self.bytes_written)
        self._slow = False
        # After the line above, so that a reason which comes up meanwhile is either seen here or sets the flag again.
        if self._careful or self._refusal or self._error or self._upkeep.error or self._pressure.level or self._arena.full:
            self._slow = True

    def check(self) -> None:
        """Raise what forbids every write: closed, or failed before."""
        if self._refusal is not None:
            raise self._refusal
        if self._error is not None:
            raise Error(f"the database takes no more writes since one failed: {self._error!r}") from self._error
        if self._upkeep.error is not None:
            self._upkeep.check()

    def _wait_settled(self, done: Callable[[], bool] = bool) -> None:
        """Wait for the outcome of a prepared commit, or until `done`. LockedError when it does not come: the host may be stuck."""
        prepared = self._prepared
        if prepared is None:
            return
        timeout = 0.0 if prepared.thread == threading.get_ident() else self._line.options.lock_timeout
        self._busy = False  # Who waits is in the middle of nothing.
        self._waiters += 1
        try:
            if not self._settled.wait_for(lambda: self._prepared is None or done(), timeout):
                raise LockedError("a transaction of an SQL connection is prepared and not decided yet; end it by COMMIT or ROLLBACK")
        finally:
            self._waiters -= 1
            self._busy = True

    def ask_again(self) -> None:
        """Ask the host about a prepared commit that it could not decide before. LockedError when it still cannot. Not under the lock."""
        prepared = self._prepared
        if prepared is not None and prepared.ask is not None:
            prepared.ask_again()

    def wait_settled(self) -> None:
        """Wait until no commit is prepared. LockedError when that does not come."""
        if self._prepared is not None:
            with self.held():
                pass

    def wait_for_host(self, seqno: int) -> bool:
        """Wait until the prepared commit of this seqno, which the host has committed, is visible; False when it does not come to that."""
        self.ask_again()
        with self._lock:
            prepared = self._prepared
            if prepared is None or prepared.seqno != seqno or prepared.thread == threading.get_ident():
                return self.host_seqno >= seqno
            self._waiters += 1
            try:
                self._settled.wait_for(lambda: self._prepared is not prepared, self._line.options.lock_timeout)
            finally:
                self._waiters -= 1
            return self.host_seqno >= seqno

    def _reject(self, error: BaseException) -> NoReturn:
        """Nothing was written: forget the open record."""
        self._arena.abandon()
        raise error

    def _meet(self, trees: Iterable[int]) -> None:
        """Publish the state anew if a commit has written to trees that had no memtable in this generation until now."""
        if not self._trees.issuperset(trees):
            self._trees.update(trees)
            self._line.touch()

    def _write(self, records: Bytes, count: int, durability: str) -> None:
        wal = self._wal
        if durability == "off":
            wal.hold(records, count)
            return
        if wal.held:
            wal.append(records, count)
        else:
            wal.write(records)  # As wal.append, on the shortest way.
            wal.length += len(records)
            wal.ordinal += count
        if durability == "full":
            self._sync_all()

    def _sync_all(self) -> None:
        # Sealed WALs first: a commit that is durable while one before it is not would be cut off by recovery.
        for generation in reversed(self._published.state.generations):
            generation.wal.sync()

    def _poison(self, error: BaseException) -> None:
        self._arena.abandon()
        if self._error is None:
            self._error = error
        self._slow = True

    # Rotation and pressure.

    def rotate(self) -> None:
        """Seal the generation that takes commits, and begin another. The caller holds the commit line."""
        self.check()
        self._pressure.wait_for_room()
        try:
            self._wal.write_held()
            self._wal_bytes += self._wal.length
            self._generation.last_seqno = self._previous
            self._generation.host_seqno = self.host_seqno
            self._enter(self._line.start_generation(self._previous))
        except BaseException as error:
            self._poison(error)
            raise
        self.update_pressure()
        self._worker.wake()

    def update_pressure(self) -> None:
        """Work out how near the writers are to having to stop (0 far, 1 there). Upkeep calls this whenever it has changed something."""
        self._pressure.update(self.bytes_written)
        if self._pressure.level or self._upkeep.error:
            self._slow = True

    def sync(self) -> None:
        """Make every commit so far durable. The caller holds the commit line."""
        try:
            self._wal.write_held()
            self._sync_all()
        except BaseException as error:
            self._poison(error)
            raise

    def note_trees(self, edit: VersionEdit) -> None:
        """Write down what an edit that follows does to trees, so that a manifest can be rebuilt without it. The caller holds the commit line."""
        wal = self._wal
        try:
            wal.append(wal.seal(RecordKind.TREES, encode_edit(edit), wal.ordinal, self._published.seqno, self._previous, time_ns() // 1000), 1)
        except BaseException as error:
            self._error, self._slow = self._error or error, True  # As `_poison`, but for a prepared commit, which keeps its open record.
            raise

    def next_seqno(self) -> int:
        """Of a commit that does not go through the WAL; `publish_with` follows. The caller holds the commit line."""
        return self._published.seqno + 1

    def publish_with(self, seqno: int, install: Callable[[], object]) -> None:
        """Install what a commit outside the WAL has made, and publish it. The caller holds the commit line."""
        try:
            install()
        except BaseException as error:
            self._poison(error)  # It may be durable, so its seqno must not be given to another commit.
            raise
        self._published.seqno = seqno
        self._note_time(seqno, time_ns() // 1000)

    def _note_time(self, seqno: int, time_us: int) -> None:
        """A commit is published that was made at a time."""
        if time_us >= self._times.due:
            self._times.note(seqno, time_us)

    @property
    def has_commits(self) -> bool:
        """Whether the generation that takes commits holds any."""
        return bool(self._arena.entries)

    @property
    def commits(self) -> int:
        """Since opening."""
        return self._published.seqno - self._first

    @property
    def generation(self) -> Generation:
        return self._generation

    @property
    def pressure(self) -> Pressure:
        return self._pressure

    @property
    def bytes_written(self) -> int:
        """Of WALs, since opening."""
        return self._wal_bytes + self._wal.length

    @property
    def failed(self) -> bool:
        return self._error is not None

    def refuse(self, refusal: ClosedError) -> None:
        """From now on every write raises `refusal`."""
        self._refusal = refusal
        self._slow = True

    def forked(self) -> None:
        """In the child of a fork: whoever held the lock is not there to release it."""
        self._lock = threading.RLock()
        self._settled = threading.Condition(self._lock)
        self._waiters = 0
        self._busy = False
        self.refuse(ClosedError("opened before fork"))
