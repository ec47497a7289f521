"""A WAL file: the catalog, then one record per commit (docs/formats.md, "Record" and "WAL catalog").

The catalog is the payload of the first record, whose seqno is the last one published and whose previous seqno is that of the
commit record before it in the line of WALs:

    0 u16 version (2)   2 u16 0   4 u32 trees   8 u32 predecessors   12 u32 next tree id   16 16B database id
    32 u64 number of the last durable version edit   40 u64 seqno of the last prepared commit that was committed
    48 predecessors * (u64 WAL id, u64 length, u64 synced length)
    then trees * (u32 tree id, u16 name length, u32 schema length, name, schema in UTF-8)

Predecessors are the WALs live when this one began: each ends at `length`, and below `synced length` no crash can tear it.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import UsageError
from .kernel import fill_record_header
from .storage.encryption import OVERHEAD, SEALED_BYTES_MAX, FileCipher
from .storage.filenames import FileKind, file_name
from .storage.filesystem import Bytes, File, FileSystem
from .storage.record_log import FLAG_ENCRYPTED, HEADER_BYTES, SECTION_RECORD, RecordKind

HELD_BYTES_MAX = 64 << 10  # What durability "off" may keep in memory.
_ROOM_BYTES_MIN = 4 << 10
_ROOM_BYTES_MAX = 1 << 20  # What a WAL keeps of the memory in which it seals.

_VERSION = 2
_CATALOG = struct.Struct("<HHIII16sQQ")
_PREDECESSOR = struct.Struct("<QQQ")
_TREE = struct.Struct("<IHI")


class Predecessor(NamedTuple):
    """A WAL that was live when another one began: where it ends, and up to where it was synced (bytes)."""

    wal_id: int
    length: int
    synced: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a WAL says of the database at its beginning, so that a manifest can be rebuilt from it. edit: number of the last durable version edit;
    trees: id -> name; schemas: tree id -> text; next_tree_id: none at or above was ever used; host_seqno: see Generation."""

    database_id: bytes
    edit: int
    predecessors: tuple[Predecessor, ...] = ()
    trees: Mapping[int, str] = field(default_factory=dict)
    schemas: Mapping[int, str] = field(default_factory=dict)
    next_tree_id: int = 1
    host_seqno: int = 0

    def encode(self) -> bytes:
        counts = len(self.trees), len(self.predecessors), self.next_tree_id
        parts = [_CATALOG.pack(_VERSION, 0, *counts, self.database_id, self.edit, self.host_seqno)]
        parts += [_PREDECESSOR.pack(*predecessor) for predecessor in self.predecessors]
        for tree_id, name in sorted(self.trees.items()):
            encoded, schema = name.encode("utf-8"), self.schemas.get(tree_id, "").encode("utf-8")
            parts += [_TREE.pack(tree_id, len(encoded), len(schema)), encoded, schema]
        return b"".join(parts)

    @classmethod
    def decode(cls, payload: bytes) -> Catalog:
        """The inverse of `encode`; ValueError, saying what, for bytes that are no catalog."""
        if len(payload) < _CATALOG.size:
            raise ValueError("WAL catalog is cut short")
        version, zero, trees, predecessors, next_tree_id, database_id, edit, host_seqno = _CATALOG.unpack_from(payload)
        if version != _VERSION or zero:
            raise ValueError(f"WAL catalog version {version} is unknown")
        position = _CATALOG.size + predecessors * _PREDECESSOR.size
        if position + trees * _TREE.size > len(payload):
            raise ValueError("WAL catalog is cut short")
        before = tuple(Predecessor(*numbers) for numbers in _PREDECESSOR.iter_unpack(payload[_CATALOG.size : position]))
        names: dict[int, str] = {}
        schemas: dict[int, str] = {}
        for _ in range(trees):
            if position + _TREE.size > len(payload):
                raise ValueError("WAL catalog is cut short")
            tree_id, length, schema = _TREE.unpack_from(payload, position)
            middle = position + _TREE.size + length
            names[tree_id] = payload[middle - length : middle].decode("utf-8")  # UnicodeDecodeError is a ValueError.
            position = middle + schema
            if schema:
                schemas[tree_id] = payload[middle:position].decode("utf-8")
        if position != len(payload):
            raise ValueError("WAL catalog does not fill its record")
        return cls(database_id, edit, before, names, schemas, next_tree_id, host_seqno)


class Wal:
    """The WAL of one generation, open for appending, or closed with `length` and `durable` kept.

    ordinal: of the next record; write: the file's append, after which `length` and `ordinal` go on; length: bytes written; durable: of those,
    known to survive a power loss; held: bytes not yet written. Appending is for one thread at a time (the commit lock); `sync` and `close`
    may come from others. What fails here must poison every later commit: see commit.py.
    """

    __slots__ = ("_file", "_room", "_syncing", "cipher", "durable", "held", "id", "length", "ordinal", "path", "write")

    def __init__(self, path: str, wal_id: int, file: File | None, cipher: FileCipher | None = None, length: int = 0) -> None:
        self.path = path
        self.id = wal_id
        self.cipher = cipher
        self.ordinal = 0
        self.length = self.durable = length
        self._file = file
        self.write = file.append if file is not None else _refuse
        self.held = bytearray()
        self._room = memoryview(b"")  # Where records are sealed: fresh memory for each costs more than sealing it.
        self._syncing = threading.RLock()  # A signal handler that commits in the middle of a sync may sync as well.

    @classmethod
    def create(
        cls, fs: FileSystem, directory: str, wal_id: int, cipher: FileCipher | None, catalog: Catalog, seqno: int, previous: int, time_us: int
    ) -> Wal:
        """A new WAL, durable with its name and catalog when this returns, so that the manifest may name it."""
        path = fs.join(directory, file_name(FileKind.WAL, wal_id))
        wal = cls(path, wal_id, fs.create(path), cipher)
        try:
            wal.append(wal.seal(RecordKind.CATALOG, catalog.encode(), 0, seqno, previous, time_us), 1)
            wal.sync()  # Before the manifest names the file: a WAL that is named is whole up to its catalog.
            fs.sync_directory(directory)  # And it is found: a named WAL that is missing is corruption.
        except BaseException:
            wal.close()
            raise
        return wal

    def seal(self, kind: int, payload: Bytes, ordinal: int, seqno: int, previous: int, time_us: int) -> memoryview:
        """The record of a payload, encrypted if the database is; good until the next call."""
        room = self._room
        cipher = self.cipher
        size = HEADER_BYTES + len(payload) + (0 if cipher is None else OVERHEAD)
        if len(room) < size:
            room = self._larger_room(size)
        record = room[:size]
        if cipher is None:
            record[HEADER_BYTES:] = payload
            fill_record_header(record, kind, 0, self.id, ordinal, seqno, previous, 0, time_us)
        else:
            cipher.seal_into(record[HEADER_BYTES:], SECTION_RECORD + kind, ordinal, 0, 0, payload)
            fill_record_header(record, kind, FLAG_ENCRYPTED, self.id, ordinal, seqno, previous, cipher.epoch, time_us)
        return record

    def _larger_room(self, size: int) -> memoryview:
        if self.cipher is not None and size - HEADER_BYTES > SEALED_BYTES_MAX:
            limit = SEALED_BYTES_MAX - OVERHEAD
            raise UsageError(f"a commit of an encrypted database may take {limit} bytes, not {size - HEADER_BYTES - OVERHEAD}")
        room = memoryview(bytearray(max(size, _ROOM_BYTES_MIN)))
        if size <= _ROOM_BYTES_MAX:
            self._room = room
        return room

    def append(self, records: Bytes, count: int) -> None:
        """Write `count` records, and first what is held."""
        if self.held:
            self.held += records
            self.ordinal += count
            self.write_held()
            return
        self.write(records)
        self.length += len(records)
        self.ordinal += count

    def hold(self, records: Bytes, count: int) -> None:
        """Keep `count` records in memory until HELD_BYTES_MAX have gathered, or something is written."""
        self.held += records
        self.ordinal += count
        if len(self.held) >= HELD_BYTES_MAX:
            self.write_held()

    def write_held(self) -> None:
        if self.held:
            held, self.held = bytes(self.held), bytearray()
            self.write(held)
            self.length += len(held)

    def sync(self) -> None:
        """Make what was written before this call durable. On a closed WAL nothing is left to do: close comes after sync or flush."""
        with self._syncing:
            length = self.length  # Before the sync: what is appended meanwhile may or may not be covered.
            if self._file is not None and self.durable < length:
                self._file.sync()
                self.durable = length

    def close(self) -> None:
        with self._syncing:
            file, self._file, self.write = self._file, None, _refuse
            if file is not None:
                file.close()


def _refuse(_: Bytes) -> None:
    raise RuntimeError("a sealed WAL takes no more records")
