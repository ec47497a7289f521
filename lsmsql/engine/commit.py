"""Commit: the only write path. Encode, write to the WAL, sync, index, publish; under one lock, the commit line.

A commit becomes visible only once its record is where its durability wants it: synced ("full"), written ("normal") or held in memory ("off").
If writing, syncing or indexing fails, the end of the WAL is unknown, so every later commit is refused: a record behind a torn one would
never be found, and a second sync would claim what the first one lost. Opening the database again finds out what is there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import time_ns
from typing import NoReturn

from ..errors import ClosedError, Error, UsageError
from .background import Background, Inline
from .generation import Generation
from .kernel import SEQNO_MAX, Batch, Kind
from .pace import Pace
from .read_state import Published
from .reentry import refuse_reentry
from .storage.filesystem import Bytes
from .storage.record_log import RecordKind
from .upkeep import Upkeep
from .version_line import VersionLine
from .write_batch import add_operation

GROUP_BYTES_MAX = 1 << 20  # of waiting batches that one write takes along

_COMMIT = int(RecordKind.COMMIT)
_SEQNO_LAST = SEQNO_MAX - (1 << 40)  # Behind it nothing is admitted; one admission is good for as many commits as fit a memtable.


class _Request:
    """One batch that waits for its commit."""

    __slots__ = ("done", "durability", "error", "payload", "seqno", "trees")

    def __init__(self, payload: bytes, trees: Sequence[int], durability: str) -> None:
        self.payload = payload
        self.trees = trees
        self.durability = durability
        self.seqno = 0
        self.done = False
        self.error: BaseException | None = None


class CommitLine:
    """Group commit without a thread of its own: who gets the lock writes for all who wait, with one write and one sync.

    commits, groups, stops: for statistics.
    """

    def __init__(self, line: VersionLine, upkeep: Upkeep, worker: Background | Inline, generation: Generation, previous: int) -> None:
        """previous: seqno of the last commit record in the line of WALs."""
        options = line.options
        self._line = line
        self._published: Published = line.published
        self._upkeep = upkeep
        self._worker = worker
        self._lock = threading.RLock()  # Never taken twice; but it knows its owner: see refuse_reentry.
        self._busy = False  # Whether its owner is in the middle of something.
        self._waiting: deque[_Request] = deque()
        self._previous = previous
        self._refusal: Error | None = None
        self._error: BaseException | None = None
        self._pace = Pace()
        self._pressure = 0.0  # 0: nothing behind; 1: writers stop.
        self._paced = 0  # Bytes of WAL that `_pace` knows of.
        self._durability = options.durability
        self._encrypted = line.keyring is not None
        self._careful = self._durability != "normal"
        self._slow = True  # Whether a commit must look around before it writes.
        self.groups = self.stops = self._wal_bytes = 0
        self._first = self._published.seqno
        self._enter(generation)

    def _enter(self, generation: Generation) -> None:
        self._generation = generation
        self._arena = generation.arena
        self._wal = generation.wal
        self._trees = generation.trees

    # The fast path: one operation, durability "normal", nobody waiting. `begin` is not called: between commits no record is open.

    def put(self, tree: int, key: bytes, value: bytes) -> None:
        if not (self._slow or self._busy or type(key) is not bytes or type(value) is not bytes):
            with self._lock:  # Never by acquire(): an interrupt behind it would leave the lock held for good.
                if not (self._slow or self._busy):
                    self._busy = True
                    try:
                        try:
                            self._arena.put(tree, key, value)
                        except BaseException as error:
                            self._reject(error)
                        self._finish(tree)
                        return
                    finally:
                        self._busy = False
        self._one(tree, Kind.VALUE, key, value)

    def delete(self, tree: int, key: bytes) -> None:
        if not (self._slow or self._busy or type(key) is not bytes):
            with self._lock:
                if not (self._slow or self._busy):
                    self._busy = True
                    try:
                        try:
                            self._arena.delete(tree, key)
                        except BaseException as error:
                            self._reject(error)
                        self._finish(tree)
                        return
                    finally:
                        self._busy = False
        self._one(tree, Kind.TOMBSTONE, key, b"")

    def _reject(self, error: BaseException) -> NoReturn:
        """Nothing was written: forget the open record."""
        self._arena.abandon()
        raise error

    def _one(self, tree: int, kind: Kind, key: bytes, value: bytes) -> None:
        batch = Batch()
        add_operation(batch, tree, kind, key, value)
        self.commit(batch.payload(), (tree,))

    def put_many(self, tree: int, items: Iterable[tuple[bytes, bytes]], durability: str | None = None) -> int:
        """One commit of all items, encoded straight into the arena. Returns how many there were; an error of the iterable leaves nothing."""
        with self.held():
            self.admit((tree,))
            arena = self._arena
            arena.begin()
            try:
                count = arena.put_many(tree, items)
            except BaseException as error:
                self._reject(error)
            if not count:
                arena.abandon()
                return 0
            self._finish(tree, durability or self._durability)
            return int(count)

    def commit(self, payload: bytes, trees: Sequence[int], durability: str | None = None) -> int:
        """Commit an encoded batch; returns its seqno. Concurrent callers share one write and one sync."""
        request = _Request(payload, trees, durability or self._durability)
        self.refuse_reentry()
        try:
            self._waiting.append(request)
            with self._lock:  # Who waits here is often done by the time it gets in.
                self._busy = True
                try:
                    while not request.done:
                        self._lead()
                finally:
                    self._busy = False
        except BaseException:
            with suppress(ValueError):
                self._waiting.remove(request)  # Interrupted before its turn: nobody else may commit it.
            raise
        if request.error is not None:
            raise request.error
        return request.seqno

    def _lead(self) -> None:
        """Commit the batches that wait, oldest first, as far as one write should go."""
        taken: list[_Request] = []
        try:
            size = self._take_group(taken)
            group = self._admit_group(taken, size)
            if len(group) == 1:
                request = group[0]
                self._arena.begin()
                try:
                    self._arena.append(request.payload)
                except BaseException as error:
                    self._reject(error)
                request.seqno = self._published.seqno + 1
                self._finish(request.trees[0], request.durability, request.trees)
            elif group:
                self._finish_group(group)
        except BaseException as error:
            for request in taken:
                if request.error is None and not 0 < request.seqno <= self._published.seqno:
                    # An interrupt is for the thread that it came to.
                    request.error = error if isinstance(error, Exception) else Error(f"the write was given up, for another thread: {error!r}")
            if not isinstance(error, Exception):
                raise
        finally:
            for request in taken:
                request.done = True

    def _take_group(self, taken: list[_Request]) -> int:
        """Move what waits to `taken`, which the caller answers whatever happens here. Returns the bytes of its payloads."""
        waiting = self._waiting
        size = 0
        while waiting and (not taken or size + len(waiting[0].payload) <= GROUP_BYTES_MAX):
            taken += (waiting[0],)
            waiting.popleft()
            size += len(taken[-1].payload)
        return size

    def _admit_group(self, group: list[_Request], size: int) -> list[_Request]:
        """The requests that may be committed; the others get their error."""
        admitted = []
        for request in group:
            try:
                self.admit(request.trees, size)
                admitted.append(request)
            except UsageError as error:
                request.error = error
        return admitted

    # Under the lock.

    @contextmanager
    def held(self) -> Iterator[None]:
        """The commit line stands still: no commit, no rotation, no seqno but the caller's."""
        self.refuse_reentry()
        with self._lock:
            self._busy = True
            try:
                yield
            finally:
                self._busy = False

    def refuse_reentry(self) -> None:
        """UsageError for a write in the middle of another, or of an edit, on the same thread: it could never get the lock."""
        refuse_reentry(self._lock, self._line.edits)

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
        if self._pressure:
            self._slow_down()
        self._slow = False
        # After the line above, so that a reason which comes up meanwhile is either seen here or sets the flag again.
        if self._careful or self._refusal or self._error or self._upkeep.error or self._pressure or self._arena.full:
            self._slow = True

    def _slow_down(self) -> None:
        written = self.bytes_written
        self._pace.rest(written - self._paced, self._upkeep.drain_rate * max(0.05, 1 - self._pressure))
        self._paced = written
        if self._pressure >= 1:
            self.stops += 1
            self._worker.wait_until(self._level_0_has_room)

    def check(self) -> None:
        """Raise what forbids every write: closed, or failed before."""
        if self._refusal is not None:
            raise self._refusal
        if self._error is not None:
            raise Error(f"the database takes no more writes since one failed: {self._error!r}") from self._error
        self._upkeep.check()

    def _finish(self, tree: int, durability: str = "normal", others: Sequence[int] = ()) -> None:
        """Seal, write, index and publish the arena's open record, which writes to `tree` and maybe to others."""
        published = self._published
        arena = self._arena
        wal = self._wal
        seqno = published.seqno + 1
        try:
            if self._encrypted:
                record = wal.seal(_COMMIT, arena.payload(), wal.ordinal, seqno, self._previous, time_ns() // 1000)
            else:
                record = arena.seal(_COMMIT, wal.id, wal.ordinal, seqno, self._previous, time_ns() // 1000)
        except BaseException as error:
            self._reject(error)
        try:
            if durability == "normal" and not wal.held:
                wal.write(record)  # As wal.append, on the shortest way.
                wal.length += len(record)
                wal.ordinal += 1
            else:
                self._write(record, 1, durability)
            arena.index(seqno)
            if tree not in self._trees or others:
                self._meet((tree, *others))
        except BaseException as error:
            self._poison(error)
            raise
        self._previous = seqno
        published.seqno = seqno  # From here on everyone sees the commit, all of it.
        if arena.full:
            self._slow = True

    def _meet(self, trees: Iterable[int]) -> None:
        """Publish the state anew if a commit has written to trees that had no memtable in this generation until now."""
        if not self._trees.issuperset(trees):
            self._trees.update(trees)
            self._line.touch()

    def _finish_group(self, group: list[_Request]) -> None:
        """As `_finish`, for several batches with one write and one sync: each is a commit of its own."""
        published = self._published
        arena, wal = self._arena, self._wal
        first = published.seqno + 1
        now = time_ns() // 1000
        records = []
        previous = self._previous
        for number, request in enumerate(group):
            request.seqno = first + number
            records.append(bytes(wal.seal(_COMMIT, request.payload, wal.ordinal + number, request.seqno, previous, now)))
            previous = request.seqno
        durabilities = {request.durability for request in group}
        strongest = next(name for name in ("full", "normal", "off") if name in durabilities)
        try:
            self._write(b"".join(records), len(records), strongest)
            for request in group:
                arena.begin()
                arena.append(request.payload)
                arena.index(request.seqno)
            self._meet([tree for request in group for tree in request.trees])
        except BaseException as error:
            self._poison(error)
            raise
        self._previous = published.seqno = previous
        self.groups += 1
        if arena.full:
            self._slow = True

    def _write(self, records: Bytes, count: int, durability: str) -> None:
        if durability == "off":
            self._wal.hold(records, count)
            return
        self._wal.append(records, count)
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
        if not self._has_room():
            self.stops += 1
            self._worker.wait_until(self._has_room)
        try:
            self._wal.write_held()
            self._wal_bytes += self._wal.length
            self._generation.last_seqno = self._previous
            self._enter(self._line.start_generation(self._previous))
        except BaseException as error:
            self._poison(error)
            raise
        self.update_pressure()
        self._worker.wake()

    def _has_room(self) -> bool:
        return len(self._upkeep.sealed()) < self._line.options.sealed_max

    def _level_0_has_room(self) -> bool:
        return self._upkeep.level_0_tables() < self._line.options.l0_stop

    def update_pressure(self) -> None:
        """Work out how near the writers are to having to stop (0 far, 1 there). Upkeep calls this whenever it has changed something."""
        options = self._line.options
        sealed = len(self._upkeep.sealed())
        level_0 = self._upkeep.level_0_tables()
        pressure = 0.0
        if level_0 >= options.l0_slowdown:
            pressure = level_0 / options.l0_stop
        if sealed >= options.sealed_max:
            pressure = max(pressure, 0.5)
        if pressure and not self._pressure:
            self._paced = self.bytes_written  # What was written while nothing was behind is not to be paid for.
        self._pressure = pressure
        if pressure or self._upkeep.error:
            self._slow = True

    def sync(self) -> None:
        """Make every commit so far durable. The caller holds the commit line."""
        try:
            self._wal.write_held()
            self._sync_all()
        except BaseException as error:
            self._poison(error)
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
    def pace(self) -> Pace:
        return self._pace

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
        self._busy = False
        self.refuse(ClosedError("opened before fork"))
