"""CURRENT: which generation of the manifest is the truth; 72 bytes, readable without a key (docs/formats.md, "CURRENT").

0 8s magic "LSMSQLCU"   8 u16 format version   10 u16 flags (1: the database is encrypted)   12 u32 0
16 u64 generation   24 16B database id   40 u64 length of one copy of the snapshot   48 16B digest of the snapshot
64 u64 check: XXH3-64 over bytes 0..64
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ...errors import CorruptionError
from ..storage.checksum import checksum64
from ..storage.encryption import OVERHEAD
from ..storage.filenames import FileKind, FileName, file_name, parse_file_name
from ..storage.filesystem import FileSystem, replace_file
from ..storage.record_log import HEADER_BYTES as RECORD_HEADER_BYTES
from .advice import REBUILD
from .snapshot_file import SnapshotDigest

FORMAT_VERSION = 2
FIRST_GENERATION = 1
DATABASE_ID_BYTES = 16

_MAGIC = b"LSMSQLCU"
_FIELDS = struct.Struct("<8sHHIQ16sQ16s")
_CHECK = struct.Struct("<Q")
_ENCRYPTED = 1
CURRENT_BYTES = _FIELDS.size + _CHECK.size
START_RECORD_BYTES_MAX = RECORD_HEADER_BYTES + OVERHEAD + DATABASE_ID_BYTES + 16

_BEFORE_FIRST = {FileName(FileKind.MANIFEST, FIRST_GENERATION), FileName(FileKind.EVENT_LOG, FIRST_GENERATION)}
_HOLDS_DATA = {FileKind.MANIFEST, FileKind.EVENT_LOG, FileKind.WAL, FileKind.SSTABLE, FileKind.BLOBS, FileKind.SLOT_MAP, FileKind.SLOT_LOG}


@dataclass(frozen=True, slots=True)
class Current:
    """The content of CURRENT. database_id: 16 random bytes."""

    generation: int
    encrypted: bool
    database_id: bytes
    snapshot: SnapshotDigest


def write_current(fs: FileSystem, directory: str, current: Current) -> None:
    """Make `current` the truth, durably. The files of its generation must be durable, names included, before this is called."""
    fields = _FIELDS.pack(
        _MAGIC,
        FORMAT_VERSION,
        _ENCRYPTED if current.encrypted else 0,
        0,
        current.generation,
        current.database_id,
        current.snapshot.length,
        current.snapshot.digest,
    )
    replace_file(fs, directory, file_name(FileKind.CURRENT), fields + _CHECK.pack(checksum64(fields)))


def read_current(fs: FileSystem, directory: str) -> Current | None:
    """CURRENT, or None where no database has ever been: nothing is there, or only what an interrupted creation leaves.

    CorruptionError when it is damaged, or missing although other files show that there was a database."""
    path = fs.join(directory, file_name(FileKind.CURRENT))
    try:
        data = fs.read(path)
    except FileNotFoundError:
        _require_unborn(fs, directory, path)
        return None
    return parse_current(path, data)


def parse_current(path: str, data: bytes) -> Current:
    """What the bytes of CURRENT say; CorruptionError when they are damaged."""
    if len(data) != CURRENT_BYTES:
        raise CorruptionError(path, None, f"CURRENT has {len(data)} bytes instead of {CURRENT_BYTES}", REBUILD)
    fields, (check,) = data[: _FIELDS.size], _CHECK.unpack(data[_FIELDS.size :])
    magic, version, flags, zero, generation, database_id, length, digest = _FIELDS.unpack(fields)
    if magic != _MAGIC or check != checksum64(fields):
        raise CorruptionError(path, 0, "CURRENT does not match its own check", REBUILD)
    if version != FORMAT_VERSION or flags & ~_ENCRYPTED or zero:
        raise CorruptionError(path, 8, f"format version {version}, flags {flags:#06x} are unknown", "another version of lsmsql wrote this directory")
    return Current(generation, bool(flags & _ENCRYPTED), database_id, SnapshotDigest(length, digest))


def _require_unborn(fs: FileSystem, directory: str, path: str) -> None:
    """CorruptionError unless a directory without CURRENT can be one whose creation was interrupted.

    CURRENT is durable before creation returns, so before any WAL, SSTable, edit or second generation; an interrupted creation leaves at most
    KEYS, the files of the first generation with no edit in them, and temporary files. None of these holds anything that was acknowledged.
    """
    for name in fs.list(directory):
        parsed = parse_file_name(name)
        if parsed is None or parsed.kind not in _HOLDS_DATA:
            continue
        if parsed in _BEFORE_FIRST and not (parsed.kind is FileKind.EVENT_LOG and fs.size(fs.join(directory, name)) > START_RECORD_BYTES_MAX):
            continue
        raise CorruptionError(path, None, f"CURRENT is missing, but {name} is there", REBUILD)
