"""Commit: the only write path. Encode, write to the WAL, sync, index, publish; under one lock (write_line.py).

A commit becomes visible only once its record is where its durability wants it: synced ("full"), written ("normal") or held in memory ("off").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import time_ns

from ..errors import Error, UsageError
from .background import Background, Inline
from .generation import Generation
from .kernel import Batch, Kind, fill_record_header
from .prepared import PreparedCommit
from .storage.filesystem import Bytes
from .storage.record_log import HEADER_BYTES, RecordKind
from .upkeep import Upkeep
from .version_line import VersionLine
from .write_batch import add_operation
from .write_line import WriteLine

GROUP_BYTES_MAX = 1 << 20  # of waiting batches that one write takes along

_SEALED_BY_KERNEL_MAX = 64 << 10  # Bytes of a value; of a record beyond it the arena would keep the memory.

_COMMIT = int(RecordKind.COMMIT)
_PREPARE = int(RecordKind.PREPARE)
_VALUE = int(Kind.VALUE)
_TOMBSTONE = int(Kind.TOMBSTONE)


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


class CommitLine(WriteLine):
    """Group commit without a thread of its own: who gets the lock writes for all who wait, with one write and one sync.

    groups: of several batches, for statistics.
    """

    def __init__(
        self, line: VersionLine, upkeep: Upkeep, worker: Background | Inline, generation: Generation, previous: int, host_seqno: int
    ) -> None:
        """See WriteLine."""
        super().__init__(line, upkeep, worker, generation, previous, host_seqno)
        self._waiting: deque[_Request] = deque()
        self._outcome = bytearray(HEADER_BYTES)
        self.groups = 0

    # The fast path: one operation, durability "normal", nobody waiting. `begin` is not called: between commits no record is open.

    def delete(self, tree: int, key: bytes) -> None:
        self.put(tree, key, b"", _TOMBSTONE)

    def put(self, tree: int, key: bytes, value: bytes, kind: int = _VALUE) -> None:
        if not (self._slow or self._busy or type(key) is not bytes or type(value) is not bytes):
            with self._lock:  # Never by acquire(): an interrupt behind it would leave the lock held for good.
                if not (self._slow or self._busy):
                    self._busy = True
                    try:
                        arena, wal, published = self._arena, self._wal, self._published
                        seqno = published.seqno + 1
                        try:
                            now = time_ns() // 1000
                            if not self._encrypted:
                                record = arena.put_record(tree, kind, key, value, _COMMIT, wal.id, wal.ordinal, seqno, self._previous, now)
                            elif len(value) <= _SEALED_BY_KERNEL_MAX:
                                record = arena.put_sealed(tree, kind, key, value, _COMMIT, wal.cipher, wal.ordinal, seqno, self._previous, now)
                            else:
                                arena.add(tree, key, kind, value)
                                record = self._sealed(_COMMIT, seqno)
                        except BaseException as error:
                            self._reject(error)
                        try:  # As `_publish` and wal.append, whose calls alone would be a tenth of all this.
                            if wal.held:
                                wal.append(record, 1)
                            else:
                                wal.write(record)
                                wal.length += len(record)
                                wal.ordinal += 1
                            arena.index(seqno)
                            if tree not in self._trees:
                                self._meet((tree,))
                        except BaseException as error:
                            self._poison(error)
                            raise
                        self._previous = published.seqno = seqno
                        if now >= self._times.due:
                            self._times.note(seqno, now)
                        if arena.full:
                            self._slow = True
                        return
                    finally:
                        self._busy = False
        batch = Batch()
        add_operation(batch, tree, Kind(kind), key, value)
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
        self.ask_again()
        try:
            self._waiting.append(request)
            with self._lock:  # Who waits here is often done by the time it gets in.
                self._busy = True
                try:
                    while not request.done:
                        self._wait_settled(lambda: request.done)
                        if not request.done:  # Who held the lock meanwhile may have taken it along.
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

    def _finish(self, tree: int, durability: str, others: Sequence[int] = ()) -> None:
        """Seal, write, index and publish the arena's open record, which writes to `tree` and maybe to others."""
        seqno = self._published.seqno + 1
        self._publish(self._sealed(_COMMIT, seqno), seqno, durability, tree, others)

    def _sealed(self, kind: int, seqno: int) -> Bytes:
        """The arena's open record as it goes to the WAL, good until the next."""
        arena, wal = self._arena, self._wal
        self._sealed_at = now = time_ns() // 1000
        try:
            if self._encrypted:
                return wal.seal(kind, arena.payload(), wal.ordinal, seqno, self._previous, now)
            return arena.seal(kind, wal.id, wal.ordinal, seqno, self._previous, now)  # type: ignore[no-any-return]
        except BaseException as error:
            self._reject(error)

    def _publish(self, record: Bytes, seqno: int, durability: str, tree: int, others: Sequence[int] = ()) -> None:
        arena = self._arena
        try:
            self._write(record, 1, durability)
            arena.index(seqno)
            if tree not in self._trees or others:
                self._meet((tree, *others))
        except BaseException as error:
            self._poison(error)
            raise
        self._previous = seqno
        self._published.seqno = seqno  # From here on everyone sees the commit, all of it.
        if self._sealed_at >= self._times.due:  # As `_note_time`, without the call.
            self._times.note(seqno, self._sealed_at)
        if arena.full:
            self._slow = True

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
        self._note_time(previous, now)
        self.groups += 1
        if arena.full:
            self._slow = True

    # Prepared commits. The arena's record stays open from PREPARE to the outcome.

    def prepare(
        self, payload: bytes, trees: tuple[int, ...], durability: str | None = None, adopt: Callable[[PreparedCommit], None] | None = None
    ) -> PreparedCommit:
        """Make a batch durable, to be decided later. "off" counts as "normal": the host's part survives the process.

        adopt: told of it before anything is written, so that an interrupt behind that cannot leave it without an owner; if this raises and it is
        not `complete`, nothing was prepared."""
        self.refuse_reentry()
        self.ask_again()
        with self._lock:  # As `held`, which takes twice as long as all of this.
            self._busy = True
            try:
                self._wait_settled()
                self.admit(trees, len(payload))
                prepared = PreparedCommit(self, self._published.seqno + 1, trees)
                if adopt is not None:
                    adopt(prepared)
                try:
                    self._write_prepare(prepared, payload, durability)
                except BaseException:
                    self._prepared = None  # Nobody will settle it. If it is in the WAL, the host is asked at the next opening.
                    raise
                return prepared
            finally:
                self._busy = False

    def prepare_again(self, prepared: PreparedCommit, payload: bytes, trees: tuple[int, ...]) -> None:
        """See PreparedCommit.replace."""
        with self.held(undecided=True):
            if prepared is not self._prepared:
                raise UsageError("the prepared commit has its outcome already")
            self.check()
            self._arena.abandon()
            prepared.complete = False
            prepared.trees = trees
            # Synced whatever the durability: a power loss that took this record and left the one before it would make the host's commit mean that.
            self._write_prepare(prepared, payload, "full")

    def _write_prepare(self, prepared: PreparedCommit, payload: bytes, durability: str | None = None) -> None:
        arena = self._arena
        arena.begin()
        try:
            arena.append(payload)
        except BaseException as error:
            self._reject(error)
        record = self._sealed(_PREPARE, prepared.seqno)
        try:
            self._slow = True  # Everyone looks around from here on, and waits.
            self._prepared = prepared
            self._write(record, 1, "full" if (durability or self._durability) == "full" else "normal")
            prepared.complete = True
        except BaseException as error:
            self._poison(error)
            raise

    def settle(self, prepared: PreparedCommit, kind: RecordKind) -> None:
        """See PreparedCommit.commit and abort."""
        self.refuse_reentry()
        with self._lock:  # As `held`.
            self._busy = True
            try:
                if prepared is self._prepared and self._refusal is None:
                    self._settle(prepared, kind)
                # Else closed with the commit undecided: the host is asked at the next opening.
            finally:
                self._busy = False

    def _settle(self, prepared: PreparedCommit, kind: RecordKind) -> None:
        if kind is RecordKind.OUTCOME_COMMIT and not prepared.complete:
            raise UsageError("the commit was not prepared whole")
        failure: BaseException | None = None
        try:
            self.check()
            if prepared.journal and kind is RecordKind.OUTCOME_COMMIT:
                fs = self._line.fs
                if not fs.exists(prepared.journal):
                    fs.sync_directory(fs.join(self._line.directory, ".."))
            # Not synced: should it be lost, the host is asked, and says the same.
            self._write(self._sealed_outcome(kind, prepared.seqno), 1, "normal")
        except BaseException as error:
            failure = error
        try:
            self._conclude(prepared, kind)
        except BaseException as error:  # an interrupt, most likely
            failure = failure or error
            self._error = self._error or failure  # Whoever asks again must not write the outcome a second time.
            self._conclude(prepared, kind)
        if failure is not None:
            self._poison(failure)
            raise failure

    def _sealed_outcome(self, kind: RecordKind, seqno: int) -> Bytes:
        """The record of an outcome, good until the next."""
        wal = self._wal
        if self._encrypted:
            return wal.seal(kind, b"", wal.ordinal, seqno, self._previous, time_ns() // 1000)
        fill_record_header(self._outcome, int(kind), 0, wal.id, wal.ordinal, seqno, self._previous, 0, time_ns() // 1000)
        return self._outcome

    def _conclude(self, prepared: PreparedCommit, kind: RecordKind) -> None:
        """What an outcome means to this process. Again does no harm."""
        if kind is RecordKind.OUTCOME_COMMIT:
            # Also after a failure: the host's readers see its part already.
            self._arena.index(prepared.seqno)
            self._meet(prepared.trees)
            self._previous = self.host_seqno = prepared.seqno
        else:
            self._arena.abandon()
        if kind is RecordKind.OUTCOME_COMMIT and self._published.seqno < prepared.seqno:
            self._note_time(prepared.seqno, time_ns() // 1000)
        self._published.seqno = prepared.seqno
        self._prepared = None
        prepared.settled = True
        if self._waiters:
            self._settled.notify_all()
