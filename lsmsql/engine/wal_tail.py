"""WalTail: a WAL that another process may be appending to, read as far as it goes, and further the next time."""

from __future__ import annotations

from ..errors import CorruptionError
from .generation import Generation
from .kernel import MemtableArena
from .manifest.version import Version
from .replay import OldWal, Replayed, WalRecords
from .storage.filesystem import FileSystem
from .storage.record_log import LogState, Record, RecordKind, scan_records
from .wal import Wal

_ADVICE = "open the database for writing: options.recovery chooses what to do about a damaged WAL"


class WalTail(WalRecords):
    """generation: what was read so far, for read states; result: where that has led to. The file stays open, so it can be read to its end even
    when it was removed.

    As recovery mode "tolerate_tail": the end may be torn, since the writer may be in the middle of an append; other damage is CorruptionError.
    """

    def __init__(self, fs: FileSystem, wal: OldWal, version: Version, arena_bytes: int) -> None:
        super().__init__(wal, version, Replayed(), MemtableArena(arena_bytes))
        self._file = fs.open(wal.path)
        self._begun = False
        self._offset = wal.first.length
        self._ordinal = 1
        self._size = 0  # of the file, when everything in it was read
        self._newest_tree = 0  # of those that it writes to
        self._settled = 0  # seqno of a commit that the host has decided before its outcome was written
        self.generation = Generation(self._arena, Wal(wal.path, wal.wal_id, None, wal.cipher, wal.first.length), times=self.times)

    @property
    def wal(self) -> OldWal:
        return self._wal

    @property
    def result(self) -> Replayed:
        return self._result

    def continues(self, before: WalTail) -> bool:
        """Whether no WAL lies between another and this one."""
        return self._wal.first.previous == before.result.previous

    def follow(self, version: Version, before: Replayed | None, later: int | None) -> bool:
        """Read what is new. False if the file is torn although a later WAL is there, which must be ignored then.

        before: how the WAL before ended, None for the first; later: the last commit before the next WAL, None for the newest WAL."""
        wal = self._wal
        self._version = version
        if not self._begun:
            self._begin(before)
        if wal.length is None or self._offset < wal.length:
            self._read()
        self.generation.wal.length = self._offset
        end = wal.synced if wal.length is None else wal.length
        whole = self._offset >= end
        if not whole and self._offset < wal.synced:
            message = f"the WAL is torn here; up to byte {wal.synced} it was synced"
            raise CorruptionError(wal.path, self._offset, message, _ADVICE)
        if self._newest_tree >= version.next_tree_id:
            raise CorruptionError(wal.path, 0, f"the WAL writes to tree {self._newest_tree}, which the manifest never had")
        if later is not None and self.prepared is not None:
            self.settle(later >= self.prepared.seqno)
        return whole

    def _begin(self, before: Replayed | None) -> None:
        wal, result = self._wal, self._result
        if before is None:
            result.previous, result.host_seqno = wal.first.previous, self._version.host_seqno
            result.last_time = self._version.times[-1] if self._version.times else (0, 0)
        else:
            result.previous, result.seqno, result.host_seqno = before.previous, before.seqno, before.host_seqno
            result.last_time = before.last_time
        self.times.go_on_from(result.last_time)
        result.seqno = max(result.seqno, wal.first.seqno)
        if wal.first.previous != result.previous:
            message = f"the WAL continues from seqno {wal.first.previous}, but what is before it ends at {result.previous}"
            raise CorruptionError(wal.path, 0, message, _ADVICE)
        self._begun = True

    def _read(self) -> None:
        wal = self._wal
        size = self._file.size()
        if size == self._size:
            return
        start = self._offset
        data = self._file.read_at(start, (size if wal.length is None else min(size, wal.length)) - start)
        records, end = scan_records(wal.path, data, wal.wal_id, wal.cipher, ordinal=self._ordinal)
        for record in records:
            problem = self.take(record._replace(offset=start + record.offset))
            if problem:
                raise CorruptionError(wal.path, start + record.offset, problem, _ADVICE)
            self._offset += record.length
            self._ordinal += 1
        if end.state is LogState.CORRUPT:
            raise CorruptionError(wal.path, start + end.offset, end.reason, _ADVICE)
        self._size = size
        self._newest_tree = max(self._arena.trees(), default=0)

    def take(self, record: Record) -> str:
        """See WalRecords.take."""
        if record.kind == RecordKind.OUTCOME_COMMIT and record.seqno == self._settled:
            return ""
        return super().take(record)

    def settle_by_host(self, seqno: int) -> bool:
        """The host's last commit is `seqno`: take what is prepared, and was committed by that, as committed. Says whether there was any."""
        if self.prepared is None or self.prepared.seqno > seqno:
            return False
        self._settled = self.prepared.seqno
        self.settle(True)
        return True

    def close(self) -> None:
        self._file.close()
