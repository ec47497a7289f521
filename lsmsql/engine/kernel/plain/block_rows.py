"""The data block's second layout, rows (docs/formats.md, "Data block, rows"): a key is looked up in its encoded form, without decoding it all.

Every `restart_interval`-th entry is a restart head and holds its whole key; those behind it leave out the bytes that they share with the head's.
Heads are found by an array of offsets, and keys, where there is room for it, by a hash index: one byte for each bucket.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import xxhash

from ..kinds import BLOCK_KEY_BYTES_MAX, KEY_BYTES_MAX, KINDS_READABLE, Kind
from .checksums import split_checks
from .decoded_block import Block

ROWS = 2
HEADER = struct.Struct("<IBBH")  # count, layout, restart interval, flags (1: checksums)
TRAILER = struct.Struct("<IIII")  # count, restarts, where the entries end, buckets
FREE = 254
CONFLICT = 255
WITHOUT_VALUE = frozenset((Kind.TOMBSTONE, Kind.WEAK_TOMBSTONE))
_U32_MAX = (1 << 32) - 1
_U64_MAX = (1 << 64) - 1

_ENTRY = "data block entry runs past the entries"
_KINDS = "data block holds a kind or seqno that this version does not know"
_VARINT = "data block number is overlong or cut short"


class Row(NamedTuple):
    """shared: bytes taken from the restart head's key; rest: the key's others."""

    kind: int
    seqno: int
    shared: int
    rest: bytes
    value: bytes


# --- encoding


def encode_rows(block: Block, restart_interval: int = 16, hash_ratio: float = 0.75) -> bytes:
    """The raw row form of a block of at least one entry. hash_ratio: buckets for each entry, 0 for no hash index.

    A kind that has no value is written without one."""
    keys = block.keys()
    if not keys:
        raise ValueError("a data block has at least one entry")
    if not 1 <= restart_interval <= 255 or not 0 <= hash_ratio <= 8:
        raise ValueError("restart intervals are from 1 to 255, hash ratios from 0 to 8")
    out = bytearray(HEADER.pack(len(keys), ROWS, restart_interval, 0))
    offsets: list[int] = []
    head = b""
    for number, (key, seqno, kind, value) in enumerate(zip(keys, block.seqnos(), block.kinds(), block.values(), strict=True)):
        at_head = number % restart_interval == 0
        shared = 0
        if at_head:
            offsets.append(len(out))
            head = key
        else:
            shared = _shared(head, key)
        out.append(kind)
        out += _varint(seqno)
        if not at_head:
            out += _varint(shared)
        out += _varint(len(key) - shared) + key[shared:]
        if kind not in WITHOUT_VALUE:
            out += _varint(len(value)) + value
    end = len(out)
    buckets = _hash_index(keys, restart_interval, hash_ratio) if len(offsets) <= FREE else b""
    out += struct.pack(f"<{len(offsets)}{_offset_code(end)}", *offsets)
    return bytes(out + buckets + TRAILER.pack(len(keys), len(offsets), end, len(buckets)))


def _hash_index(keys: list[bytes], interval: int, ratio: float) -> bytes:
    """One byte for each bucket: the restart that all keys of the bucket lie behind, CONFLICT if they lie behind several, FREE if there is none."""
    if not ratio:
        return b""
    buckets = bytearray([FREE]) * max(1, int(len(keys) * ratio))
    for number, key in enumerate(keys):
        bucket = xxhash.xxh3_64_intdigest(key) % len(buckets)
        restart = number // interval
        if buckets[bucket] == FREE:
            buckets[bucket] = restart
        elif buckets[bucket] != restart:
            buckets[bucket] = CONFLICT
    return bytes(buckets)


def _offset_code(end: int) -> str:
    return "H" if end <= 65_535 else "I"


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _shared(a: bytes, b: bytes) -> int:
    length = min(len(a), len(b))
    difference = int.from_bytes(a[:length], "big") ^ int.from_bytes(b[:length], "big")
    return length - (difference.bit_length() + 7) // 8


# --- reading


@dataclass(frozen=True, slots=True)
class _Rows:
    """The parts of a raw block whose header and trailer fit together; its entries are checked as they are read."""

    raw: bytes
    count: int
    interval: int
    offsets: tuple[int, ...]
    end: int
    hashes: bytes

    def row(self, position: int, number: int, head: bytes) -> tuple[Row, int]:
        """Entry `number` at a position, and where the next begins. head: the key of its restart head."""
        raw, end = self.raw, self.end
        at_head = number % self.interval == 0
        if at_head and position != self.offsets[number // self.interval]:
            raise ValueError("data block restart is not where its offset says")
        if not HEADER.size <= position < end:
            raise ValueError(_ENTRY)
        kind = raw[position]
        if not KINDS_READABLE >> kind & 1:
            raise ValueError(_KINDS)
        seqno, position = _read_varint(raw, position + 1, end, _U64_MAX)
        shared = 0
        if not at_head:
            shared, position = _read_varint(raw, position, end, _U32_MAX)
            if shared > len(head):
                raise ValueError("data block key shares more than its restart head has")
        size, position = _read_varint(raw, position, end, _U32_MAX)
        if shared + size > KEY_BYTES_MAX:
            raise ValueError("data block key over the limit")
        if size > end - position:
            raise ValueError(_ENTRY)
        rest = raw[position : position + size]
        position += size
        size = 0
        if kind not in WITHOUT_VALUE:
            size, position = _read_varint(raw, position, end, _U32_MAX)
            if size > end - position:
                raise ValueError(_ENTRY)
        return Row(kind, seqno, shared, rest, raw[position : position + size]), position + size

    def rows(self) -> Iterator[tuple[bytes, Row]]:
        """Every entry with its whole key; they end where the restart offsets begin."""
        position, head, total = HEADER.size, b"", 0
        for number in range(self.count):
            row, position = self.row(position, number, head)
            if number % self.interval == 0:
                head = row.rest
            total += row.shared + len(row.rest)
            if total > BLOCK_KEY_BYTES_MAX:
                raise ValueError("data block keys larger than 256 MiB")
            yield head[: row.shared] + row.rest, row
        if position != self.end:
            raise ValueError("data block parts do not fill it")

    def head(self, restart: int) -> Row:
        return self.row(self.offsets[restart], restart * self.interval, b"")[0]

    def restart(self, key: bytes, seqno: int) -> int:
        """The last restart whose head is not behind (key, seqno) in the order of entries; the first if all are."""
        low, high = 0, len(self.offsets)
        while low < high:
            middle = (low + high) // 2
            head = self.head(middle)
            if head.rest < key or (head.rest == key and head.seqno >= seqno):
                low = middle + 1
            else:
                high = middle
        return max(low, 1) - 1


def _read_varint(raw: bytes, position: int, end: int, limit: int) -> tuple[int, int]:
    """A number of at most `limit`, in as few bytes as it can stand in, and where it ends."""
    number = shift = 0
    while position < end:
        byte = raw[position]
        position += 1
        number |= (byte & 127) << shift
        if number > limit or (byte == 0 and shift):
            break
        if byte < 128:
            return number, position
        shift += 7
    raise ValueError(_VARINT)


def _open(raw: bytes) -> _Rows:
    if len(raw) < HEADER.size + TRAILER.size:
        raise ValueError("data block shorter than its header")
    raw, _ = split_rows(raw)
    count, layout, interval, zero = HEADER.unpack_from(raw)
    if layout != ROWS or not interval or zero or not count:
        raise ValueError("unknown data block layout")
    same_count, restarts, end, buckets = TRAILER.unpack_from(raw, len(raw) - TRAILER.size)
    width = struct.calcsize(_offset_code(end))
    if (
        same_count != count
        or restarts != (count + interval - 1) // interval
        or end < HEADER.size
        or end + restarts * width + buckets + TRAILER.size != len(raw)
        or (buckets and restarts > FREE)
    ):
        raise ValueError("data block trailer does not describe it")
    offsets = struct.unpack_from(f"<{restarts}{_offset_code(end)}", raw, end)
    return _Rows(raw, count, interval, offsets, end, raw[end + restarts * width : len(raw) - TRAILER.size])


def split_rows(raw: bytes) -> tuple[bytes, tuple[int, ...] | None]:
    """The block as if it had no checksums of its entries, and those, if it has any."""
    if raw[4] != ROWS or raw[6] > 1 or raw[7] or not raw[5] or not any(raw[:4]):
        return raw, None  # Refused for that.
    return split_checks(raw, HEADER.size + TRAILER.size, "data block trailer does not describe it")


def decode_rows(raw: bytes) -> Block:
    """The block that `encode_rows` encoded; ValueError, naming the check, when the bytes are not one."""
    rows = _open(raw)
    found = list(rows.rows())
    if any(len(rows.offsets) <= bucket < FREE for bucket in rows.hashes):
        raise ValueError("data block hash index names a restart that is not there")
    return Block([key for key, _ in found], [row.seqno for _, row in found], [row.kind for _, row in found], [row.value for _, row in found])


def rows_find(raw: bytes, key: bytes, seqno: int) -> tuple[int, int, bytes] | None:
    """The newest version at a seqno that a raw block has of a key, as (seqno, kind, value); ValueError for damage on the way to it.

    Reads only the hash index or some restart heads, and what lies between two of them. The bytes have been checked as a whole by whoever keeps them:
    a hash index that denies a key which is there goes unnoticed here."""
    rows = _open(raw)
    restart, alone = 0, False
    bucket = rows.hashes[xxhash.xxh3_64_intdigest(key) % len(rows.hashes)] if rows.hashes else CONFLICT
    if bucket == FREE:
        return None
    if bucket == CONFLICT:
        restart = rows.restart(key, seqno)
    else:
        restart, alone = bucket, True
        if restart >= len(rows.offsets):
            raise ValueError("data block hash index names a restart that is not there")
    position, head = rows.offsets[restart], b""
    first = restart * rows.interval
    for number in range(first, rows.count):
        if alone and number == first + rows.interval:
            return None
        row, position = rows.row(position, number, head)
        if number % rows.interval == 0:
            head = row.rest
        found = head[: row.shared] + row.rest
        if found > key:
            return None
        if found == key and row.seqno <= seqno:
            return row.seqno, row.kind, row.value
    return None
