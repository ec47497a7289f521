"""The data block's first layout, columns (docs/formats.md, "Data block, columns"), and decoding a block of either layout."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise

from ..kinds import BLOCK_KEY_BYTES_MAX, KEY_BYTES_MAX, KINDS_READABLE, Kind
from .block_rows import ROWS, decode_rows, split_rows
from .checksums import block_checks, split_checks
from .decoded_block import Block

HEADER = struct.Struct("<IBBBBQII")  # count, layout, flags, seqno width, value width, base seqno, value length, suffix bytes
COLUMNS = 1
HAS_KINDS = 1
WIDE_SUFFIXES = 2
CHECKED = 4
SHARED_MAX = 255


def encode_block(block: Block) -> bytes:
    """The raw column form of a block of at least one entry."""
    keys, seqnos, kinds, values = block.keys(), block.seqnos(), block.kinds(), block.values()
    shared = [0, *(_shared(a, b) for a, b in pairwise(keys))]
    suffixes = [key[n:] for key, n in zip(keys, shared, strict=True)]
    suffix_lengths = [len(suffix) for suffix in suffixes]
    value_lengths = [len(value) for value in values]
    base = min(seqnos)
    seqno_width = _width(max(seqnos) - base)
    same_length = min(value_lengths) == max(value_lengths)
    value_width = 0 if same_length else _width(max(value_lengths))
    wide = max(suffix_lengths) > 255
    has_kinds = any(kind != Kind.VALUE for kind in kinds)
    return b"".join(
        (
            HEADER.pack(
                len(keys),
                COLUMNS,
                (HAS_KINDS if has_kinds else 0) | (WIDE_SUFFIXES if wide else 0),
                seqno_width,
                value_width,
                base,
                value_lengths[0] if same_length else 0,
                sum(suffix_lengths),
            ),
            bytes(shared),
            _planes(suffix_lengths, 2 if wide else 1),
            _planes(value_lengths, value_width),
            _planes([seqno - base for seqno in seqnos], seqno_width),
            bytes(kinds) if has_kinds else b"",
            *suffixes,
            *values,
        )
    )


def decode_block(raw: bytes) -> Block:
    """The block that `encode_block` or `encode_rows` encoded; ValueError, naming the check, when the bytes are not one."""
    if len(raw) < HEADER.size:
        raise ValueError("data block shorter than its header")
    if raw[4] == ROWS:
        return decode_rows(raw)
    raw, _ = _split(raw)
    count, layout, flags, seqno_width, value_width, base, value_length, suffix_bytes = HEADER.unpack_from(raw)
    if layout != COLUMNS or flags & ~(HAS_KINDS | WIDE_SUFFIXES) or seqno_width > 8 or value_width > 4 or not count:
        raise ValueError("unknown data block layout")
    suffix_width = 2 if flags & WIDE_SUFFIXES else 1
    has_kinds = flags & HAS_KINDS
    fixed = HEADER.size + count * (1 + suffix_width + value_width + seqno_width + (1 if has_kinds else 0))
    if fixed + suffix_bytes > len(raw):
        raise ValueError("data block columns run past its end")
    columns = _Columns(raw, HEADER.size, count)
    shared = columns.take(1)
    suffix_lengths = columns.take(suffix_width)
    value_lengths = columns.take(value_width) if value_width else [value_length] * count
    seqnos = [base + delta for delta in columns.take(seqno_width)]
    kinds = columns.take(1) if has_kinds else [int(Kind.VALUE)] * count
    if sum(suffix_lengths) != suffix_bytes or fixed + suffix_bytes + sum(value_lengths) != len(raw):
        raise ValueError("data block parts do not fill it")
    if any(not KINDS_READABLE >> kind & 1 for kind in set(kinds)) or max(seqnos) >= 1 << 64:
        raise ValueError("data block holds a kind or seqno that this version does not know")
    keys = _join_keys(raw, fixed, shared, suffix_lengths)
    ends = list(accumulate(value_lengths, initial=fixed + suffix_bytes))
    values = [raw[a:b] for a, b in pairwise(ends)]
    return Block(keys, seqnos, kinds, values)


def verify_block(raw: bytes, block: Block) -> None:
    """ValueError where an entry of a decoded block, seqnos as in the file, does not match its checksum in the raw form, if that has any."""
    _, checks = split_rows(raw) if raw[4] == ROWS else _split(raw)
    if checks is not None and list(checks) != block_checks(block):
        raise ValueError("data block entry does not match its checksum")


def has_checks(raw: bytes) -> bool:
    """Whether a raw block that can be decoded carries checksums of its entries."""
    return (split_rows(raw) if raw[4] == ROWS else _split(raw))[1] is not None


def _split(raw: bytes) -> tuple[bytes, tuple[int, ...] | None]:
    if raw[4] != COLUMNS or raw[5] & ~(HAS_KINDS | WIDE_SUFFIXES | CHECKED) or raw[6] > 8 or raw[7] > 4 or not any(raw[:4]):
        return raw, None  # Refused for that.
    return split_checks(raw, HEADER.size, "data block columns run past its end")


def _join_keys(raw: bytes, position: int, shared: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
    keys, key = [], b""
    if any(prefix + length > KEY_BYTES_MAX for prefix, length in zip(shared, lengths, strict=True)):
        raise ValueError("data block key over the limit")
    if sum(shared) + sum(lengths) > BLOCK_KEY_BYTES_MAX:
        raise ValueError("data block keys larger than 256 MiB")
    for prefix, length in zip(shared, lengths, strict=True):
        if prefix > len(key):
            raise ValueError("data block key shares more than the key before it has")
        key = key[:prefix] + raw[position : position + length]
        position += length
        keys.append(key)
    return keys


def _shared(a: bytes, b: bytes) -> int:
    """How many leading bytes two keys share, capped at SHARED_MAX."""
    length = min(len(a), len(b), SHARED_MAX)
    difference = int.from_bytes(a[:length], "big") ^ int.from_bytes(b[:length], "big")
    return length - (difference.bit_length() + 7) // 8


def _width(number: int) -> int:
    return (number.bit_length() + 7) // 8


def _planes(numbers: Sequence[int], width: int) -> bytes:
    """Numbers as `width` byte planes: the low byte of each, then the next of each, and so on."""
    return b"".join(bytes((number >> shift) & 255 for number in numbers) for shift in range(0, 8 * width, 8))


class _Columns:
    """Reads columns of byte planes off a buffer, one after another."""

    def __init__(self, raw: bytes, position: int, count: int) -> None:
        self.raw = raw
        self.position = position
        self.count = count

    def take(self, width: int) -> list[int]:
        planes = [self.raw[start : start + self.count] for start in range(self.position, self.position + width * self.count, self.count)]
        self.position += width * self.count
        if not planes:
            return [0] * self.count
        if width == 1:
            return list(planes[0])
        return [int.from_bytes(digits, "little") for digits in zip(*planes, strict=True)]
