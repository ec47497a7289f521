"""Range tombstones in an SSTable: fragments, which do not overlap, each with the seqnos at which it was deleted (docs/formats.md).

After RocksDB's fragmented range tombstones: what overlaps is cut where one begins or ends, so that a lookup finds one fragment by binary search.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from ..kernel import KEY_BYTES_MAX, SEQNO_MAX

_COUNTS = struct.Struct("<II")  # fragments, seqnos
_FRAGMENT_BYTES = 8  # u16 start length, u16 end length, u32 seqnos


class RangeTombstone(NamedTuple):
    """Hides the versions older than `seqno` of the keys from `start` on and before `end`."""

    start: bytes
    end: bytes
    seqno: int


class Fragment(NamedTuple):
    """The tombstones, by descending seqno, that all reach over the same keys: from `start` on and before `end`."""

    start: bytes
    end: bytes
    seqnos: tuple[int, ...]


def fragment(tombstones: Iterable[RangeTombstone]) -> tuple[Fragment, ...]:
    """Tombstones, in any order and overlapping, as ascending fragments. Those that reach over nothing vanish."""
    found = sorted(tombstone for tombstone in tombstones if tombstone.start < tombstone.end)
    bounds = sorted({bound for tombstone in found for bound in tombstone[:2]})
    fragments: list[Fragment] = []
    active: list[RangeTombstone] = []
    arriving = iter([*found, None])
    coming = next(arriving)
    for start, end in pairwise(bounds):
        while coming is not None and coming.start == start:
            active.append(coming)
            coming = next(arriving)
        active = [tombstone for tombstone in active if tombstone.end > start]
        seqnos = tuple(sorted({tombstone.seqno for tombstone in active}, reverse=True))
        if not seqnos:
            continue
        if fragments and fragments[-1].end == start and fragments[-1].seqnos == seqnos:
            fragments[-1] = fragments[-1]._replace(end=end)
        else:
            fragments.append(Fragment(start, end, seqnos))
    return tuple(fragments)


def pack_fragments(fragments: Sequence[Fragment]) -> bytes:
    """The raw section; ValueError, saying what, for fragments that `parse_fragments` would refuse."""
    check_fragments(fragments)
    seqnos = [seqno for fragment in fragments for seqno in fragment.seqnos]
    starts, ends = [fragment.start for fragment in fragments], [fragment.end for fragment in fragments]
    count = len(fragments)
    lengths = struct.pack(f"<{count}H{count}H{count}I", *map(len, starts), *map(len, ends), *(len(fragment.seqnos) for fragment in fragments))
    return b"".join((_COUNTS.pack(count, len(seqnos)), lengths, struct.pack(f"<{len(seqnos)}Q", *seqnos), *starts, *ends))


def parse_fragments(data: bytes) -> tuple[Fragment, ...]:
    """The inverse of `pack_fragments`; ValueError, saying what, for bytes that are none."""
    if len(data) < _COUNTS.size:
        raise ValueError("range tombstones cut short")
    count, total = _COUNTS.unpack_from(data)
    keys_at = _COUNTS.size + count * _FRAGMENT_BYTES + total * 8
    if len(data) < keys_at:
        raise ValueError(f"{count} fragments with {total} seqnos take more than {len(data)} bytes")
    columns = struct.unpack_from(f"<{count}H{count}H{count}I", data, _COUNTS.size)
    starts, ends, counts = (columns[n * count : (n + 1) * count] for n in range(3))
    if sum(counts) != total or keys_at + sum(starts) + sum(ends) != len(data):
        raise ValueError("range tombstones do not fill their section")
    seqnos = struct.unpack_from(f"<{total}Q", data, _COUNTS.size + count * _FRAGMENT_BYTES)
    keys = [data[a:b] for a, b in pairwise(accumulate((*starts, *ends), initial=keys_at))]
    groups = [seqnos[a:b] for a, b in pairwise(accumulate(counts, initial=0))]
    fragments = tuple(map(Fragment, keys[:count], keys[count:], groups))
    check_fragments(fragments)
    return fragments


def check_fragments(fragments: Sequence[Fragment]) -> None:
    """ValueError, saying what, unless there are any, in order, and each reaches over something at seqnos that descend."""
    if not fragments:
        raise ValueError("no range tombstones where there should be some")
    for start, end, seqnos in fragments:
        if start >= end or len(end) > KEY_BYTES_MAX or len(start) > KEY_BYTES_MAX:
            raise ValueError(f"no range tombstone goes from {start[:100]!r} to {end[:100]!r}")
        if not seqnos or not 0 < seqnos[-1] <= seqnos[0] <= SEQNO_MAX or any(a <= b for a, b in pairwise(seqnos)):
            raise ValueError(f"impossible seqnos of the range tombstones from {start[:100]!r} on")
    if any(before.end > after.start for before, after in pairwise(fragments)):
        raise ValueError("range tombstones out of order")


def seqno_bounds(fragments: Sequence[Fragment]) -> tuple[int, int]:
    """The smallest and the largest seqno of some fragments."""
    return min(fragment.seqnos[-1] for fragment in fragments), max(fragment.seqnos[0] for fragment in fragments)


def lowest(fragments: Sequence[Fragment]) -> tuple[bytes, int]:
    """The start and the seqno of the tombstone with the lowest seqno: where a table without entries has its sentinel."""
    found = min(fragments, key=lambda fragment: fragment.seqnos[-1])
    return found.start, found.seqnos[-1]
