"""Checksums of single entries, which a data block may carry behind its layout (docs/formats.md, "Checksums of entries").

They are made from an entry as it is known above any layout, so that a block which was encoded, kept in memory or decoded wrongly is found out
although its frame is whole.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import xxhash

from .decoded_block import Block

_ENTRY = struct.Struct("<QQQ")  # XXH3-64 of the key, of the value, seqno << 8 | kind
_FLAG_AT = {1: (5, 4), 2: (6, 1)}  # by layout: the byte, and the bit in it, that say that there are checksums
CHECK_BYTES = 4
_U32 = (1 << 32) - 1
_U64 = (1 << 64) - 1


def entry_check(key: bytes, seqno: int, kind: int, value: bytes) -> int:
    """32 bits. seqno: as in the file."""
    parts = _ENTRY.pack(xxhash.xxh3_64_intdigest(key), xxhash.xxh3_64_intdigest(value), seqno << 8 & _U64 | kind)
    return xxhash.xxh3_64_intdigest(parts) & _U32


def block_checks(block: Block) -> list[int]:
    """Of every entry."""
    return [entry_check(*entry) for entry in zip(block.keys(), block.seqnos(), block.kinds(), block.values(), strict=True)]


def with_checks(raw: bytes, checks: Sequence[int]) -> bytes:
    """A raw block of either layout with the checksums of its entries behind it."""
    at, flag = _FLAG_AT[raw[4]]
    return raw[:at] + bytes((raw[at] | flag,)) + raw[at + 1 :] + struct.pack(f"<{len(checks)}I", *checks)


def split_checks(raw: bytes, fixed: int, message: str) -> tuple[bytes, tuple[int, ...] | None]:
    """The block as if it had no checksums, and those; None if it has none. The header is there; ValueError(message) unless `fixed` bytes and the
    checksums are."""
    place = _FLAG_AT.get(raw[4])
    if place is None or not raw[place[0]] & place[1]:
        return raw, None
    at, flag = place
    count = int.from_bytes(raw[:4], "little")
    if len(raw) < fixed + count * CHECK_BYTES:
        raise ValueError(message)
    end = len(raw) - count * CHECK_BYTES
    return raw[:at] + bytes((raw[at] ^ flag,)) + raw[at + 1 : end], struct.unpack_from(f"<{count}I", raw, end)
