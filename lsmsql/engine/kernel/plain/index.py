"""A table's index, taken apart (docs/formats.md, "Index block, raw"): whole, or one of its partitions."""

from __future__ import annotations

import struct
from itertools import accumulate, pairwise

from ..kinds import DUPLICATES, KINDS_READABLE

BLOCK_OVERHEAD = 27  # bytes of an entry besides its key


class Index:
    """Of each block: size of its frame, entries, seqno bounds (global_seqno is added), kind mask, last key.

    first, start: number and offset of the first block. ValueError, naming the check, when the raw index is malformed."""

    def __init__(self, raw: bytes, global_seqno: int, first: int = 0, start: int = 0) -> None:
        self.sizes, self.entries, minima, maxima, self.masks, self.last_keys = parse_index(raw)
        self.min_seqnos = [seqno + global_seqno for seqno in minima]
        self.max_seqnos = [seqno + global_seqno for seqno in maxima]
        self.first = first
        self.blocks = len(self.sizes)
        self.offsets = list(accumulate(self.sizes, initial=start))

    def require_summary(self, top: Index, number: int, blocks: int, end: int) -> None:
        """ValueError unless this is the partition that the top-level index describes under that number, up to the offset `end`."""
        mask = 0
        for found in self.masks:
            mask |= found
        mine = self.blocks, self.offsets[-1], sum(self.entries), min(self.min_seqnos), max(self.max_seqnos), mask, self.last_keys[-1]
        columns = top.entries, top.min_seqnos, top.max_seqnos, top.masks, top.last_keys
        if mine != (blocks, end, *(column[number] for column in columns)):
            raise ValueError("it is not the partition that the top-level index describes")


def parse_index(raw: bytes) -> tuple[list[int], list[int], list[int], list[int], list[int], list[bytes]]:
    """Frame sizes, entries, min and max seqnos, kind masks and last keys of the blocks; ValueError, naming the check, for bytes that are no index."""
    count = int.from_bytes(raw[:4], "little")
    fixed = 4 + count * BLOCK_OVERHEAD
    if len(raw) < fixed or not count:
        raise ValueError("index shorter than its columns")
    numbers = struct.Struct(f"<{count}I{count}I{count}Q{count}Q{count}B{count}H").unpack_from(raw, 4)
    sizes, entries, minima, maxima, masks, lengths = (list(numbers[n * count : (n + 1) * count]) for n in range(6))
    if fixed + sum(lengths) != len(raw):
        raise ValueError("index keys do not fill it")
    keys = [raw[a:b] for a, b in pairwise(accumulate(lengths, initial=fixed))]
    if any(a > b for a, b in pairwise(keys)):
        raise ValueError("index keys out of order")
    if not all(sizes) or not all(entries) or any(mask & ~(DUPLICATES | KINDS_READABLE) for mask in masks):
        raise ValueError("impossible index entry")
    return sizes, entries, minima, maxima, masks, keys
