"""Batch and memtable: operations encoded once, in order, and a hash index over them that is sorted when a scan needs it.

The encoding of an operation (docs/formats.md, "Operations") is the WAL's payload, the batch's buffer and the arena's content alike.
"""

from __future__ import annotations

import struct
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from copy import copy
from itertools import islice

from sortedcontainers import SortedList

from ...storage.encryption import FileCipher
from ...storage.record_log import FLAG_ENCRYPTED, HEADER_BYTES, record_header, seal_payload
from ..entry_error import EntryError, EntryTypeError, pair_of, require_key
from ..kinds import BATCH_BYTES_MAX, BATCH_SEQNO, KEY_BYTES_MAX, KIND_WRITABLE_MAX, SELECT_TREE, VALUE_BYTES_MAX, Kind
from .checksums import CHECK_BYTES, entry_check

OPERATION = struct.Struct("<IHBB")  # value length, key length, kind, 0
Version = tuple[int, int, bytes]  # seqno, kind, value
Group = tuple[bytes, list[Version]]  # a user key and its versions, newest first

_KEYS_AT_ONCE = 256
_NODE_BYTES, _SLOT_BYTES = 32, 8  # of the compiled index
_ENTRY_BYTES = 164  # of record and index, at 100-byte values: what arenas are sized for
_ENTRIES_RESERVED_MAX = 1 << 24


class Memtable:
    """The entries of one tree in one generation or batch: a hash index, brought into key order by the first scan.

    `limit`, where set, replaces the reader's seqno: a batch is read as of one of its own operations.
    """

    def __init__(self, tree: int, limit: int | None = None, checked: bool = False) -> None:
        """checked: every entry gets a checksum as it is indexed."""
        self.tree = tree
        self.checks: dict[tuple[bytes, int], int] | None = {} if checked else None  # by key and seqno
        self.limit = limit
        self.entries = 0
        self.min_seqno = 0
        self.max_seqno = 0
        self.kind_mask = 0
        self.versions: dict[bytes, list[Version]] = {}  # per key in ascending order of seqno
        self._order: SortedList[bytes] = SortedList()
        self._unordered: list[bytes] = []
        self._ordering = threading.Lock()  # Readers on other threads bring the keys into order while the writer adds some.

    def add(self, key: bytes, seqno: int, kind: int, value: bytes) -> None:
        """Index one operation; one with the same key and seqno is replaced."""
        if self.checks is not None:
            self.checks[key, seqno] = entry_check(key, seqno, kind, value)
        found = self.versions.get(key)
        if found is None:
            self.versions[key] = [(seqno, kind, value)]
            with self._ordering:
                self._unordered.append(key)
            self.entries += 1
        elif found[-1][0] == seqno:
            found[-1] = (seqno, kind, value)
        else:
            found.append((seqno, kind, value))
            self.entries += 1
        self.min_seqno = min(self.min_seqno or seqno, seqno)
        self.max_seqno = max(self.max_seqno, seqno)
        self.kind_mask |= 1 << kind

    def remove_last(self, key: bytes) -> None:
        """Undo the newest `add` of a key (a batch that rolls back)."""
        found = self.versions[key]
        found.pop()
        self.entries -= 1
        if not found:
            del self.versions[key]
            with self._ordering:
                if self._unordered and self._unordered[-1] == key:
                    self._unordered.pop()
                else:
                    self._ordered().remove(key)

    def get(self, key: bytes, seqno: int) -> Version | None:
        """The newest version of a key at a seqno, tombstones included."""
        require_key(key)
        found = self.versions.get(key)
        if found is None:
            return None
        position = bisect_right(found, seqno if self.limit is None else self.limit, key=_seqno_of)
        return found[position - 1] if position else None

    def as_of(self, limit: int) -> Memtable:
        """The same entries, always read at `limit`."""
        view = copy(self)  # Shallow: the index is shared, and later operations of the batch lie above the limit.
        view.limit = limit
        return view

    def _ordered(self) -> SortedList[bytes]:
        """All keys in ascending order. The caller holds `_ordering`."""
        if self._unordered:
            self._order.update(self._unordered)
            self._unordered.clear()
        return self._order

    def groups(self, lower: bytes | None, upper: bytes | None, seqno: int, reverse: bool) -> Iterator[Group]:
        """The keys in [lower, upper) with their versions visible at a seqno, newest first; later writes may interleave."""
        limit = seqno if self.limit is None else self.limit
        inclusive = (True, False)
        while keys := self._some_keys(lower, upper, inclusive, reverse):
            for key in keys:
                if visible := [version for version in reversed(self.versions.get(key, ())) if version[0] <= limit]:
                    yield key, visible
            if reverse:
                upper = keys[-1]
            else:
                lower, inclusive = keys[-1], (False, False)

    def has_key_in(self, smallest: bytes, largest: bytes) -> bool:
        """Whether any key lies in [smallest, largest], deleted ones included."""
        with self._ordering:
            return any(True for _ in self._ordered().irange(smallest, largest))

    def _some_keys(self, lower: bytes | None, upper: bytes | None, inclusive: tuple[bool, bool], reverse: bool) -> list[bytes]:
        with self._ordering:
            return list(islice(self._ordered().irange(lower, upper, inclusive, reverse), _KEYS_AT_ONCE))

    def __len__(self) -> int:
        return self.entries


def _seqno_of(version: Version) -> int:
    return version[0]


class Batch:
    """The operations of one write batch, in order, readable as the newest layer over a read view.

    Sizes and marks: `size` is the encoded payload in bytes, `len()` and `mark()` count operations.
    """

    def __init__(self) -> None:
        self._payload = bytearray()
        self._operations: list[tuple[int, bytes, int, int]] = []  # tree, key, payload length before, tree selected before
        self._selected = -1
        self._memtables: dict[int, Memtable] = {}

    def put(self, tree: int, key: bytes, value: bytes) -> None:
        self.add(tree, key, Kind.VALUE, value)

    def delete(self, tree: int, key: bytes) -> None:
        self.add(tree, key, Kind.TOMBSTONE, b"")

    def put_many(self, tree: int, items: Iterable[tuple[bytes, bytes]]) -> int:
        """Put every (key, value); when the iterable raises, the operations before stay. Returns how many were put."""
        before = len(self)
        for item in items:
            key, value = pair_of(item)
            self.add(tree, key, Kind.VALUE, value)
        return len(self) - before

    def add(self, tree: int, key: bytes, kind: int, value: bytes) -> None:
        """Append one operation. EntryError when a key, value or the batch is too large (limits in kinds.py)."""
        _check_operation(key, kind, value)
        if len(self._payload) + 2 * OPERATION.size + len(key) + len(value) > BATCH_BYTES_MAX:
            raise EntryError("write batch larger than 4 GiB")
        self._operations.append((tree, key, len(self._payload), self._selected))
        self._selected = _append_operation(self._payload, self._selected, tree, key, kind, value)
        if tree not in self._memtables:
            self._memtables[tree] = Memtable(tree)
        self._memtables[tree].add(key, BATCH_SEQNO + len(self._operations), kind, value)

    def get(self, tree: int, key: bytes, mark: int | None = None) -> tuple[int, bytes] | None:
        """(kind, value) of the last operation on a key, among the first `mark` operations if given; None if there is none."""
        require_key(key)
        memtable = self._memtables.get(tree)
        found = memtable and memtable.get(key, BATCH_SEQNO + (len(self) if mark is None else mark))
        return (found[1], found[2]) if found else None

    def mark(self) -> int:
        return len(self._operations)

    def rollback(self, mark: int) -> None:
        """Forget every operation after the first `mark`."""
        while len(self._operations) > mark:
            tree, key, length, self._selected = self._operations.pop()
            del self._payload[length:]
            self._memtables[tree].remove_last(key)

    def memtable(self, tree: int, mark: int | None = None) -> Memtable | None:
        """The batch's entries of one tree, as a source of reads as of its first `mark` operations (default: all so far)."""
        memtable = self._memtables.get(tree)
        if memtable is None:
            return None
        return memtable.as_of(BATCH_SEQNO + (len(self) if mark is None else mark))

    def trees(self) -> list[int]:
        return sorted(tree for tree, memtable in self._memtables.items() if memtable.versions)

    def payload(self) -> bytes:
        return bytes(self._payload)

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]

    @property
    def size(self) -> int:
        return len(self._payload)

    def __len__(self) -> int:
        return len(self._operations)


class MemtableArena:
    """The operations of one generation in commit order, as the WAL holds them, indexed by tree.

    A commit is: `begin`, then operations, then `seal` (header and checksum filled in; these bytes go to the WAL), then `index` once they are
    written, or `abandon`. Nothing is visible before `index`. size: bytes of memory that the compiled arena takes: records, and nodes and slots of
    the index (0 as long as it is empty). `capacity` is the size at which `full` turns true; a record may exceed it. checked: every entry gets a
    checksum when it is indexed, to be held to when it is flushed.
    """

    def __init__(self, capacity: int, checked: bool = False) -> None:
        self.capacity = capacity
        self.checked = checked
        self.size = 0
        self._keys = 0
        self._slots = _slots_for(min(capacity // _ENTRY_BYTES, _ENTRIES_RESERVED_MAX))
        self._slots_counted = 0
        self._memtables: dict[int, Memtable] = {}
        self._pending: list[tuple[int, bytes, int, bytes]] = []
        self._payload = bytearray()
        self._selected = -1
        self._open = False

    def begin(self) -> None:
        self.abandon()
        self._open = True

    def put(self, tree: int, key: bytes, value: bytes) -> None:
        self.add(tree, key, Kind.VALUE, value)

    def delete(self, tree: int, key: bytes) -> None:
        self.add(tree, key, Kind.TOMBSTONE, b"")

    def add(self, tree: int, key: bytes, kind: int, value: bytes) -> None:
        """Append one operation to the open record; errors as Batch.add."""
        _check_operation(key, kind, value)
        if len(self._payload) + 2 * OPERATION.size + len(key) + len(value) > BATCH_BYTES_MAX:
            raise EntryError("write batch larger than 4 GiB")
        self._selected = _append_operation(self._payload, self._selected, tree, key, kind, value)
        self._pending.append((tree, key, kind, value))
        self._open = True

    def put_many(self, tree: int, items: Iterable[tuple[bytes, bytes]]) -> int:
        """Put every (key, value) into the open record. Returns how many there were."""
        before = len(self._pending)
        for item in items:
            key, value = pair_of(item)
            self.add(tree, key, Kind.VALUE, value)
        return len(self._pending) - before

    def append(self, payload: bytes) -> int:
        """Append an encoded payload (a batch's, or a WAL record's). Returns the number of operations; ValueError if it is malformed."""
        operations = list(_operations(payload))
        self._pending.extend(operations)
        self._payload += payload
        self._selected = -1
        self._open = True
        return len(operations)

    def payload(self) -> bytes:
        """The open record's payload, for sealing elsewhere (encryption)."""
        self._reserve_index()
        return bytes(self._payload)

    def seal(self, kind: int, log_id: int, ordinal: int, seqno: int, previous: int, time: int) -> bytes:
        """The open record as the WAL takes it, unencrypted: its 64-byte header (storage/record_log.py), filled in, and the payload."""
        self._open = True
        self._reserve_index()
        return record_header(kind, 0, log_id, ordinal, seqno, previous, self._payload, 0, time) + self._payload

    def put_record(
        self, tree: int, kind: int, key: bytes, value: bytes, record_kind: int, log_id: int, ordinal: int, seqno: int, previous: int, time: int
    ) -> bytes:
        """`add` and `seal` of a record of one operation."""
        self.add(tree, key, kind, value)
        return self.seal(record_kind, log_id, ordinal, seqno, previous, time)

    def put_sealed(
        self, tree: int, kind: int, key: bytes, value: bytes, record_kind: int, cipher: FileCipher, ordinal: int, seqno: int, previous: int, time: int
    ) -> bytes:
        """`add`, and the record of this one operation as an encrypted WAL takes it: sealed under the cipher, whose file is the log."""
        self.add(tree, key, kind, value)
        self._reserve_index()
        stored = seal_payload(record_kind, ordinal, self._payload, cipher)
        return record_header(record_kind, FLAG_ENCRYPTED, cipher.file_id, ordinal, seqno, previous, stored, cipher.epoch, time) + stored

    def index(self, seqno: int) -> None:
        """Make the open record's operations readable at `seqno`, and close it."""
        if not self._open:
            return
        self._reserve_index()
        for tree, key, kind, value in self._pending:
            memtable = self._memtables.get(tree)
            if memtable is None:
                memtable = self._memtables[tree] = Memtable(tree, checked=self.checked)
            self._keys += key not in memtable.versions
            memtable.add(key, seqno, kind, value)
        entry_bytes = _NODE_BYTES + (CHECK_BYTES if self.checked else 0)
        self.size += HEADER_BYTES + len(self._payload) + entry_bytes * len(self._pending) + _SLOT_BYTES * (self._slots - self._slots_counted)
        self._slots_counted = self._slots
        self.abandon()

    def _reserve_index(self) -> None:
        """Room in the index for the open record: at most 70 % of its slots are in use."""
        keys = self._keys + len(self._pending)
        if keys * 10 > self._slots * 7:
            self._slots = max(_slots_for(keys), 2 * self._slots)

    def abandon(self) -> None:
        """Drop the open record."""
        self._pending = []
        self._payload = bytearray()
        self._selected = -1
        self._open = False

    def memtable(self, tree: int) -> Memtable | None:
        return self._memtables.get(tree)

    def trees(self) -> list[int]:
        return sorted(self._memtables)

    @property
    def full(self) -> bool:
        return self.size >= self.capacity

    @property
    def entries(self) -> int:
        return sum(len(memtable) for memtable in self._memtables.values())


def _slots_for(keys: int) -> int:
    return 1 << (keys * 10 // 7 + 16).bit_length()


def _check_operation(key: bytes, kind: int, value: bytes) -> None:
    if not 0 <= kind <= KIND_WRITABLE_MAX:
        raise ValueError(f"operation of unknown kind {kind}")
    if not isinstance(key, bytes) or not isinstance(value, bytes):
        raise EntryTypeError(f"keys and values are bytes, not {type(key).__name__} and {type(value).__name__}")
    if len(key) > KEY_BYTES_MAX:
        raise EntryError(f"key of {len(key)} bytes; the limit is {KEY_BYTES_MAX}")
    if len(value) > VALUE_BYTES_MAX:
        raise EntryError(f"value of {len(value)} bytes; the limit is {VALUE_BYTES_MAX}")


def _append_operation(payload: bytearray, selected: int, tree: int, key: bytes, kind: int, value: bytes) -> int:
    if tree != selected:
        payload += OPERATION.pack(tree, 0, SELECT_TREE, 0)
    payload += OPERATION.pack(len(value), len(key), kind, 0)
    payload += key
    payload += value
    return tree


def _operations(payload: bytes) -> Iterator[tuple[int, bytes, int, bytes]]:
    """(tree, key, kind, value) of every operation; ValueError where the bytes are not operations."""
    position, end, tree = 0, len(payload), -1
    while position < end:
        if end - position < OPERATION.size:
            raise ValueError(f"operation header cut short at byte {position} of the payload")
        value_length, key_length, kind, zero = OPERATION.unpack_from(payload, position)
        position += OPERATION.size
        if kind == SELECT_TREE and not key_length and not zero:
            tree = value_length
            continue
        if kind > KIND_WRITABLE_MAX or zero or tree < 0:
            raise ValueError(f"unknown operation at byte {position - OPERATION.size} of the payload")
        if end - position < key_length + value_length:
            raise ValueError(f"operation runs past the payload at byte {position - OPERATION.size}")
        key = bytes(payload[position : position + key_length])
        position += key_length
        yield tree, key, kind, bytes(payload[position : position + value_length])
        position += value_length
