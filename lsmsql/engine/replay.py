"""Replay: the WALs that the manifest names, read back into memtables (engine rule 6).

What damage means depends on `options.recovery`:

    absolute        any damage is CorruptionError, a torn tail too
    tolerate_tail   a torn tail is cut, and WALs behind it are discarded; damage below a length known to be synced, or with a valid later
                    record behind it, is CorruptionError
    point_in_time   everything from the first damage on is discarded
    skip_corrupt    damaged records are left out, what can be read behind them is kept
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import CorruptionError, UsageError
from ..options import Options
from .commit_times import CommitTimes
from .generation import Generation
from .kernel import MemtableArena
from .manifest.advice import REBUILD
from .manifest.time_points import TimePoint
from .manifest.version import Version
from .prepared import Host
from .storage.encryption import FileCipher
from .storage.filenames import FileKind, file_name
from .storage.filesystem import FileSystem
from .storage.keyring import Keyring
from .storage.record_log import HEADER_BYTES, LogState, Record, RecordKind, scan_records
from .wal import Catalog, Predecessor, Wal

_ADVICE = "options.recovery chooses what to do about a damaged WAL"
_LENGTH_FIELD = slice(40, 44)  # Of a record header: the stored payload length.


@dataclass
class Replayed:
    """generations: of the WALs that hold commits, oldest first. discarded: ids of WALs to drop, empty ones included. previous: seqno of the last
    commit record; seqno: the highest that any WAL speaks of; host_seqno: of the last prepared commit that was committed. damaged: something
    was cut, skipped or discarded."""

    generations: list[Generation] = field(default_factory=list)
    discarded: list[int] = field(default_factory=list)
    previous: int = 0
    seqno: int = 0
    host_seqno: int = 0
    damaged: bool = False
    last_time: TimePoint = (0, 0)  # The newest time point so far.


@dataclass
class OldWal:
    """A WAL that somebody else has written, known by its first record."""

    wal_id: int
    path: str
    cipher: FileCipher | None
    catalog: Catalog
    first: Record
    length: int | None = None  # Where it ends, and up to where it was synced, as a later WAL says; of the newest the manifest says the latter.
    synced: int = 0


def replay_wals(
    fs: FileSystem, directory: str, version: Version, database_id: bytes, keyring: Keyring | None, options: Options, host: Host | None = None
) -> Replayed:
    """Read every WAL of the version, oldest first, change nothing on disk, and sync what was read: it is about to be relied on.

    host: decides a commit that was prepared and has no outcome; without one that is a UsageError. CorruptionError, with file and offset, for
    a missing WAL and for damage that the recovery mode does not take."""
    wals = [open_catalog(fs, directory, wal_id, version, database_id, keyring) for wal_id in version.wals]
    learn_lengths(wals, version)
    result = Replayed(host_seqno=version.host_seqno, last_time=version.times[-1] if version.times else (0, 0))
    if wals:
        result.previous = wals[0].first.previous
    for number, wal in enumerate(wals):
        # What the next WAL continues from is the outcome that the recovery which began it has found.
        later = wals[number + 1].first.previous if number + 1 < len(wals) else None
        whole = _Replay(fs, wal, version, options, result, host, later).run()
        if not whole:
            result.discarded += [later.wal_id for later in wals[number + 1 :]]
            break
    return result


def learn_lengths(wals: Sequence[OldWal], version: Version) -> None:
    """Note of every WAL of a version what the others, given in ascending order, and the manifest know of its length."""
    known: dict[int, Predecessor] = {}
    for wal in wals:  # Ascending, so a later WAL's word on where an earlier one ends counts: a recovery may have cut it.
        known.update({predecessor.wal_id: predecessor for predecessor in wal.catalog.predecessors})
    for wal in wals:
        if wal.wal_id in known:
            wal.length, wal.synced = known[wal.wal_id].length, known[wal.wal_id].synced
        elif wal.wal_id == version.wal_synced[0]:
            wal.synced = version.wal_synced[1]


def open_catalog(fs: FileSystem, directory: str, wal_id: int, version: Version, database_id: bytes, keyring: Keyring | None) -> OldWal:
    """Read the first record. It was durable before the manifest named the WAL, so no recovery mode may do without it."""
    path = fs.join(directory, file_name(FileKind.WAL, wal_id))
    cipher = keyring.cipher(wal_id) if keyring else None
    try:
        data = _first_record(fs, path)
    except FileNotFoundError:
        raise CorruptionError(path, None, "the WAL that the manifest names is missing", f"restore it from a backup, or {REBUILD}") from None
    records, end = scan_records(path, data, wal_id, cipher)
    if not records:
        raise CorruptionError(path, 0, f"the WAL's catalog is damaged: {end.reason or 'it is missing'}")
    first = records[0]
    try:
        if first.kind != RecordKind.CATALOG:
            raise ValueError(f"the first record is of kind {first.kind}")
        catalog = Catalog.decode(first.payload)
    except ValueError as error:
        raise CorruptionError(path, 0, str(error)) from None
    if catalog.database_id != database_id:
        raise CorruptionError(path, 0, "the WAL belongs to another database")
    if catalog.edit > version.number:
        message = f"the WAL knows of version edit {catalog.edit}, but the manifest ends at {version.number}"
        raise CorruptionError(path, 0, message, f"the manifest is older than the WAL: restore the newer one, or {REBUILD}")
    return OldWal(wal_id, path, cipher, catalog, first)


def catalog_end(fs: FileSystem, path: str, wal_id: int, keyring: Keyring | None) -> int | None:
    """Where the first record of a WAL ends; None if it is not whole."""
    records, _ = scan_records(path, _first_record(fs, path), wal_id, keyring.cipher(wal_id) if keyring else None)
    return records[0].length if records else None


def _first_record(fs: FileSystem, path: str) -> bytes:
    """The bytes of the first record of a log, as far as they are there."""
    file = fs.open(path)
    try:
        header = file.read_at(0, HEADER_BYTES)
        return header + file.read_at(HEADER_BYTES, int.from_bytes(header[_LENGTH_FIELD], "little"))
    finally:
        file.close()


class WalRecords:
    """One WAL into one arena: which record may come behind which. result: where that has led to, and before it where the WALs before ended.

    lenient: as recovery mode "skip_corrupt" wants it. prepared: a commit that waits for its outcome.
    """

    def __init__(self, wal: OldWal, version: Version, result: Replayed, arena: MemtableArena, lenient: bool = False) -> None:
        self.prepared: Record | None = None
        self._wal = wal
        self._version = version
        self._result = result
        self._arena = arena
        self._lenient = lenient
        self._commits = 0
        self.times = CommitTimes(result.last_time)

    def take(self, record: Record) -> str:
        """Take one record; why it cannot follow the one before it, "" if it does."""
        result, kind, prepared, lenient = self._result, record.kind, self.prepared, self._lenient
        if kind == RecordKind.TREES:
            return ""  # For those who have no manifest: that one is the truth about trees.
        if kind in (RecordKind.OUTCOME_COMMIT, RecordKind.OUTCOME_ABORT):
            if prepared is None or prepared.seqno != record.seqno:
                return f"record of the outcome of seqno {record.seqno}, which was not prepared"
            self.settle(kind == RecordKind.OUTCOME_COMMIT)
            return ""
        if kind not in (RecordKind.COMMIT, RecordKind.PREPARE):
            raise CorruptionError(self._wal.path, record.offset, f"record kind {kind} is unknown here", "a newer version may have written it")
        if prepared is not None and not (kind == RecordKind.PREPARE and record.seqno == prepared.seqno):
            if not lenient:
                return f"record of seqno {record.seqno} after seqno {prepared.seqno}, which was prepared and has no outcome"
            self.settle(record.previous >= prepared.seqno)  # Its outcome was damaged.
        missing = ""
        if record.previous != result.previous or record.seqno <= result.previous:
            missing = f"record of seqno {record.seqno} after {record.previous} follows seqno {result.previous}"
        elif record.seqno - 1 > max(result.seqno, self._version.last_seqno):
            # Seqnos that are not in the WAL are those of ingested rows, and their edit was durable before this record was written.
            missing = f"the commit before this one, seqno {record.seqno - 1}, is in no WAL and no SSTable"
        if missing and (not lenient or record.seqno <= result.previous):
            return missing
        result.damaged |= bool(missing)
        if kind == RecordKind.PREPARE:
            self.prepared = record  # Or prepared again, with another batch.
        else:
            self._add(record)
        return ""

    def _add(self, record: Record) -> None:
        self._arena.begin()
        try:
            self._arena.append(record.payload)
        except ValueError as error:
            raise CorruptionError(self._wal.path, record.offset, str(error)) from None
        self._arena.index(record.seqno)
        self._commits += 1
        result = self._result
        if record.time_us >= self.times.due:
            self.times.note(record.seqno, record.time_us, gap=record.seqno - 1 > result.seqno)
            result.last_time = self.times.last
        result.previous = record.seqno
        result.seqno = max(result.seqno, record.seqno)

    def settle(self, committed: bool) -> None:
        """The outcome of what is prepared."""
        prepared, self.prepared = self.prepared, None
        assert prepared is not None
        result = self._result
        result.seqno = max(result.seqno, prepared.seqno)
        if committed:
            self._add(prepared)
            result.host_seqno = prepared.seqno


def undecided(path: str, prepared: Record) -> UsageError:
    """For a WAL whose last commit was prepared, and nobody can say what became of it."""
    return UsageError(
        f"{path} ends in a transaction, seqno {prepared.seqno}, that only the SQLite database beside it can decide: "
        "open that with lsmsql.connect() and read from one of its lsm tables"
    )


class _Replay(WalRecords):
    """A whole WAL, as recovery reads it."""

    def __init__(
        self, fs: FileSystem, wal: OldWal, version: Version, options: Options, result: Replayed, host: Host | None, later: int | None
    ) -> None:
        """later: the last commit before the next WAL, if there is one."""
        super().__init__(
            wal, version, result, MemtableArena(options.memtable_bytes, options.kv_check_at == "insert"), options.recovery == "skip_corrupt"
        )
        self._host = host
        self._later = later
        self._fs = fs
        self._mode = options.recovery

    def run(self) -> bool:
        """Read it all; False if what comes after it must be discarded."""
        wal, result = self._wal, self._result
        data = self._read()
        result.seqno = max(result.seqno, wal.first.seqno)
        offset, whole = wal.first.length, True
        if wal.first.previous != result.previous:
            message = f"the WAL continues from seqno {wal.first.previous}, but what is before it ends at {result.previous}"
            self._damage(0, message, torn=False)
            if self._mode != "skip_corrupt":
                return self._discard()
        ordinal = 1
        while True:
            records, end = scan_records(wal.path, data, wal.wal_id, wal.cipher, offset=offset, ordinal=ordinal)
            good = self._index(records)
            if good is not None:
                offset, whole = good, False
                break
            offset = end.offset
            short = offset < (wal.synced if wal.length is None else wal.length)
            if end.state is LogState.CLEAN and not short:
                break
            ends = "the file ends here" if wal.length is None else f"the file ends here instead of at byte {wal.length}"
            self._damage(offset, end.reason or ends, torn=end.state is not LogState.CORRUPT)
            if self._mode == "skip_corrupt":
                if end.resume is None:
                    break
                offset, ordinal = end.resume
                continue
            whole = False
            break
        self._decide()
        self._keep(len(data) if self._mode == "skip_corrupt" else offset)
        return whole

    def _decide(self) -> None:
        """A prepared commit is the last thing in the WAL: find out what became of it."""
        prepared = self.prepared
        if prepared is None:
            return
        if self._later is not None:
            committed = self._later >= prepared.seqno
        elif self._host is not None:
            committed = self._host.committed >= prepared.seqno
        else:
            raise undecided(self._wal.path, prepared)
        self.settle(committed)

    def _read(self) -> bytes:
        """The file up to where it ends by a later WAL's word: a recovery may have cut it there. Synced, since what is read is relied on."""
        wal = self._wal
        file = self._fs.open(wal.path)
        try:
            file.sync()
            data = file.read_at(0, file.size())
        finally:
            file.close()
        return data if wal.length is None else data[: wal.length]

    def _index(self, records: list[Record]) -> int | None:
        """Index records into the arena; the offset of the first that cannot follow the one before it, else None."""
        for record in records:
            problem = self.take(record)
            if problem:
                self._damage(record.offset, problem, torn=False)
                if self._mode != "skip_corrupt":
                    return record.offset
        return None

    def _damage(self, offset: int, message: str, *, torn: bool) -> None:
        """Raise CorruptionError unless the recovery mode takes this damage. torn: an interrupted append may have left it."""
        wal = self._wal
        path = wal.path
        if self._mode == "absolute":
            raise CorruptionError(path, offset, message, _ADVICE)
        if self._mode == "tolerate_tail":
            if not torn:
                raise CorruptionError(path, offset, message, _ADVICE)
            if offset < wal.synced:
                raise CorruptionError(path, offset, f"{message}; up to byte {wal.synced} the WAL was synced", _ADVICE)
        self._result.damaged = True

    def _discard(self) -> bool:
        self._result.discarded.append(self._wal.wal_id)
        return False

    def _keep(self, length: int) -> None:
        """The generation of what was read; its WAL takes nothing more."""
        wal, result = self._wal, self._result
        unknown = [tree_id for tree_id in self._arena.trees() if tree_id >= self._version.next_tree_id]
        if unknown:
            raise CorruptionError(wal.path, 0, f"the WAL writes to tree {unknown[0]}, which the manifest never had")
        if not self._commits:
            result.discarded.append(wal.wal_id)
            return
        closed = Wal(wal.path, wal.wal_id, None, wal.cipher, length)
        result.generations.append(Generation(self._arena, closed, result.previous, result.host_seqno, self.times))
