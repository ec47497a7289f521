"""The top-level index of a table whose index is partitioned: where the partitions stand, what lies in them (docs/formats.md, "Partitioned index").

0 u32 partitions   4 u32 filter frame size[partitions] (0: no filter)   u32 data blocks[partitions]   u64 data bytes[partitions]
then an index whose blocks are the partitions: their frame sizes, entries, seqno bounds, kinds and last keys
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..kernel.partitions import Partition, Partitions

_EXTRA = 4 + 4 + 8


@dataclass(frozen=True, slots=True)
class TopIndex:
    """index: the raw index of the partitions; places: (offset, size) of each one's frame in its section; filter_places: likewise, or empty."""

    index: bytes
    partitions: Partitions
    places: tuple[tuple[int, int], ...]
    filter_places: tuple[tuple[int, int], ...]


def pack_top_index(parts: Sequence[Partition], frames: Sequence[int], filter_frames: Sequence[int]) -> bytes:
    """frames, filter_frames: size of each partition's frame, and of its filter's; no filters: an empty sequence."""
    columns = [_summary(part.index) for part in parts]
    count = len(parts)
    blocks, data_bytes, entries, minima, maxima, masks, keys = zip(*columns, strict=True)
    head = struct.pack(f"<I{count}I{count}I{count}Q", count, *(filter_frames or [0] * count), *blocks, *data_bytes)
    index = struct.pack(f"<I{count}I{count}I{count}Q{count}Q{count}B{count}H", count, *frames, *entries, *minima, *maxima, *masks, *map(len, keys))
    return head + index + b"".join(keys)


def parse_top_index(raw: bytes) -> TopIndex:
    """The inverse, as far as the kernels do not check it; ValueError, saying what, when it is malformed."""
    count = int.from_bytes(raw[:4], "little")
    start = 4 + _EXTRA * count
    if not count or len(raw) < start + 4 + 4 * count:
        raise ValueError("top-level index shorter than its columns")
    numbers = struct.unpack_from(f"<{count}I{count}I{count}Q", raw, 4)
    filters, blocks, data_bytes = numbers[:count], numbers[count : 2 * count], numbers[2 * count :]
    index = raw[start:]
    if int.from_bytes(index[:4], "little") != count:
        raise ValueError("top-level index of another number of partitions than its index")
    if any(filters) and not all(filters):
        raise ValueError("top-level index with a filter for some partitions only")
    frames = struct.unpack_from(f"<{count}I", index, 4)
    partitions = Partitions(blocks, data_bytes, filtered=any(filters))
    return TopIndex(index, partitions, _places(frames), _places(filters) if partitions.filtered else ())


def _places(sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(accumulate(sizes, initial=0), sizes, strict=False))


def _summary(index: bytes) -> tuple[int, int, int, int, int, int, bytes]:
    """Of a raw index: blocks, bytes of their frames, entries, smallest and largest seqno, kind mask, last key."""
    count = int.from_bytes(index[:4], "little")
    numbers = struct.unpack_from(f"<{count}I{count}I{count}Q{count}Q{count}B{count}H", index, 4)
    sizes, entries, minima, maxima, masks, lengths = (numbers[n * count : (n + 1) * count] for n in range(6))
    mask = 0
    for found in masks:
        mask |= found
    return count, sum(sizes), sum(entries), min(minima), max(maxima), mask, index[len(index) - lengths[-1] :]
