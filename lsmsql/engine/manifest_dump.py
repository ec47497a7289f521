"""Looking into the manifest of a directory, without its lock and without changing anything: what CURRENT, snapshot and event log say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from ..errors import CorruptionError, UsageError
from .manifest.current import Current, read_current
from .manifest.event_log import replay
from .manifest.events import decode_edit
from .manifest.snapshot_file import read_snapshot
from .manifest.table_record import TableRecord
from .manifest.version import Version
from .manifest.version_edit import VersionEdit
from .recovery import open_keyring
from .storage.checksum import RunningChecksum
from .storage.filenames import FileKind, file_name
from .storage.filesystem import FileSystem, OsFileSystem
from .storage.keyring import Key
from .storage.parity import Repairs
from .storage.record_log import RecordKind, scan_records

_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Edit:
    """One record of the event log. offset, size: bytes in the file; time_us: microseconds since the Unix epoch."""

    number: int
    offset: int
    size: int
    time_us: int
    edit: VersionEdit


@dataclass(frozen=True, slots=True)
class ManifestDump:
    """directory: absolute; start: the version in the snapshot; edits: those since; version: after them; repairs: what was read only by parity, or
    from a mirror or the other copy; end: what is wrong at the end of the event log, "" if nothing is."""

    directory: str
    current: Current
    options_text: str
    start: Version
    edits: list[Edit]
    version: Version
    repairs: Repairs
    end: str
    fs: FileSystem

    def check_tables(self) -> Iterator[tuple[TableRecord, str]]:
        """Each table of the version, and what is wrong with its file, "" if it is byte for byte what was written."""
        for record in self.version.tables():
            path = self.fs.join(self.directory, file_name(FileKind.SSTABLE, record.file_id))
            try:
                found = _checksum(self.fs, path)
            except FileNotFoundError:
                yield record, "the file is missing"
                continue
            if found != (record.size, record.checksum):
                yield record, f"the file has {found[0]} bytes instead of {record.size}, or another checksum"
            else:
                yield record, ""


def dump_manifest(path: str | PurePath, key: Key | None = None, filesystem: FileSystem | None = None) -> ManifestDump:
    """The manifest of an engine directory. UsageError where there is none, KeyUnavailableError without the key of an encrypted one, CorruptionError
    as at opening; a writer beside this may rotate the manifest away meanwhile, which looks like that."""
    fs = filesystem or OsFileSystem()
    directory = fs.absolute(str(path))
    current = read_current(fs, directory) if fs.exists(directory) else None
    if current is None:
        raise UsageError(f"there is no database in {path}")
    keyring = open_keyring(fs, directory, current.encrypted, key)  # type: ignore[arg-type]
    cipher = keyring.cipher(current.generation) if keyring else None
    repairs = Repairs()
    start, options_text = read_snapshot(fs, directory, current.generation, current.snapshot, cipher, repairs)
    log = fs.join(directory, file_name(FileKind.EVENT_LOG, current.generation))
    data = fs.read(log) if fs.exists(log) else b""
    records, end = scan_records(log, data, current.generation, cipher)
    version, _ = replay(fs, directory, current, start, cipher, "point_in_time")
    edits = [
        Edit(record.seqno, record.offset, record.length, record.time_us, decode_edit(record.payload))
        for record in records
        if record.kind == RecordKind.EDIT
    ]
    wrong = str(CorruptionError(log, end.offset, end.reason)) if end.reason else ""
    return ManifestDump(directory, current, options_text, start, edits, version, repairs, wrong, fs)


def _checksum(fs: FileSystem, path: str) -> tuple[int, bytes]:
    file = fs.open(path)
    try:
        size, checksum = file.size(), RunningChecksum()
        for offset in range(0, size, _CHUNK_BYTES):
            checksum.update(file.read_at(offset, min(_CHUNK_BYTES, size - offset)))
        return size, checksum.digest()
    finally:
        file.close()
