"""The BuRR filter (docs/formats.md, "Filter: BuRR"): a random linear system modulo 2, whose solution is all that is stored.

Each key asks that the XOR of some of the 64 slots from its start on be its fingerprint of r bits; a key that was never added finds that so by
chance, once in 2^r. As many slots as keys would not satisfy every equation, so each bucket of 128 slots *bumps* those of its keys that lie before
a threshold: they go to the next, much smaller layer. What no layer takes is kept as a sorted list, the stash, so building cannot fail.

After P. C. Dillinger, L. Huebschle-Schneider, P. Sanders, S. Walzer: Fast Succinct Retrieval and Approximate Membership Using Ribbon, SEA 2022.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from ....errors import UsageError

HEADER = struct.Struct("<IBBBB")  # keys in the stash, fingerprint bits, version, layers, 0
VERSION = 2
BITS_MAX = 16
LAYERS_MAX = 8
STASH_KEYS = 13  # so many or fewer are stashed at once: the smallest layer would take more room
BLOCK_SLOTS = 64
BUCKET_SLOTS = 128
BLOCKS_MAX = 1 << 26
KEYS_MAX = 1 << 31

_WORD = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15


class Layer(NamedTuple):
    """positions: how many starts there are. words, thresholds: where they stand in the filter."""

    positions: int
    words: int
    thresholds: int


def build_burr(hashes: Sequence[int], bits: int) -> bytes:
    """The filter over the 64-bit hashes of keys, which may repeat, with fingerprints of 1 to 16 bits; b"" when there is no key.

    Which hashes there are decides every byte. UsageError for more than 2^31 keys; ValueError for other bits."""
    if not 1 <= bits <= BITS_MAX:
        raise ValueError(f"fingerprints have 1 to {BITS_MAX} bits, not {bits}")
    if len(hashes) > KEYS_MAX:
        raise UsageError(f"a filter over {len(hashes)} keys, at most {KEYS_MAX} are possible: make table_bytes smaller")
    if not hashes:
        return b""
    keys = sorted({mix(key_hash) for key_hash in hashes})
    blocks, words, thresholds = list[int](), list[bytes](), list[bytes]()
    while len(keys) > STASH_KEYS and len(blocks) < LAYERS_MAX:
        blocks.append(max(2, len(keys) * 99 // (100 * BLOCK_SLOTS) + 1))
        rows, results, ends, bumped = _insert(keys, blocks[-1], (1 << bits) - 1)
        words.append(_solve(rows, results, bits))
        thresholds.append(ends)
        keys = sorted(map(mix, bumped))
    header = HEADER.pack(len(keys), bits, VERSION, len(blocks), 0) + struct.pack(f"<{len(blocks)}I", *blocks)
    return b"".join((header, *words, struct.pack(f"<{len(keys)}Q", *keys), *thresholds))


def mix(x: int) -> int:
    """One step of SplitMix64: a one-to-one map of 64-bit numbers. Each layer sees the keys mixed once more than the layer before."""
    x = x + _STEP & _WORD
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _WORD
    return x ^ x >> 31


def row_of(x: int) -> int:
    """The slots, counted from its start, that a key's equation has: 64 bits, the lowest set."""
    x = x * _STEP & _WORD
    return (x ^ x >> 32) | 1


def _insert(keys: Sequence[int], blocks: int, mask: int) -> tuple[list[int], list[int], bytes, list[int]]:
    """Gaussian elimination over ascending keys: rows and results by slot, threshold by bucket, bumped keys."""
    positions = BLOCK_SLOTS * (blocks - 1)
    rows, results = [0] * (BLOCK_SLOTS * blocks), [0] * (BLOCK_SLOTS * blocks)
    thresholds = bytearray(blocks // 2)
    bumped: list[int] = []
    for bucket, group in groupby(keys, key=lambda x: ((x >> 32) * positions >> 32) // BUCKET_SLOTS):
        members = list(group)
        by_start = groupby(reversed(members), key=lambda x: (x >> 32) * positions >> 32)  # From the right: what does not fit is on the left.
        kept = 0
        for start, same in by_start:
            equations = [(row_of(x), x & mask) for x in same]
            if not _insert_start(start, equations, rows, results):
                thresholds[bucket] = start % BUCKET_SLOTS + 1
                bumped += members[: len(members) - kept]
                break
            kept += len(equations)
    return rows, results, bytes(thresholds), bumped


def _insert_start(start: int, equations: Sequence[tuple[int, int]], rows: list[int], results: list[int]) -> bool:
    """Add the equations of one start: all, or none and False."""
    taken: list[int] = []
    for first_row, first_result in equations:
        row, result, at = first_row, first_result, start
        while row and rows[at]:
            row ^= rows[at]
            result ^= results[at]
            step = (row & -row).bit_length() - 1 if row else 0
            row >>= step
            at += step
        if row:
            rows[at], results[at] = row, result
            taken.append(at)
        elif result:
            for slot in taken:
                rows[slot] = 0
            return False
    return True


def _solve(rows: Sequence[int], results: Sequence[int], bits: int) -> bytes:
    """The slots' values, from the last slot back; free ones are 0. Word j of a block has bit j of its 64 slots."""
    state = [0] * bits  # bit t of state[j]: bit j of the slot t behind
    blocks: list[bytes] = []
    pack = struct.Struct(f"<{bits}Q").pack
    for slot in range(len(rows) - 1, -1, -1):
        row, result = rows[slot], results[slot]
        for j in range(bits):
            moved = state[j] << 1 & _WORD
            state[j] = moved | ((row & moved).bit_count() ^ result >> j) & (row & 1)
        if slot % BLOCK_SLOTS == 0:
            blocks.append(pack(*state))
    return b"".join(reversed(blocks))


class BurrFilter:
    """A filter to ask. ValueError, saying what, for bytes that are none."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        if len(data) < HEADER.size:
            raise ValueError("filter shorter than its header")
        stashed, self._bits, version, layers, zero = HEADER.unpack_from(data)
        if version != VERSION or zero:
            raise ValueError("unknown filter version")
        if not 1 <= self._bits <= BITS_MAX or layers > LAYERS_MAX or not layers + stashed:
            raise ValueError("BuRR filter with impossible fingerprint bits or layers")
        at = HEADER.size + 4 * layers
        if len(data) < at:
            raise ValueError("BuRR filter shorter than its header")
        blocks = struct.unpack_from(f"<{layers}I", data, HEADER.size)
        if any(not 2 <= count <= BLOCKS_MAX for count in blocks):
            raise ValueError("BuRR filter with an impossible layer")
        stash = at + 8 * self._bits * sum(blocks)
        thresholds = stash + 8 * stashed
        if thresholds + sum(count // 2 for count in blocks) != len(data):
            raise ValueError("BuRR filter of a wrong length")
        if any(threshold > BUCKET_SLOTS for threshold in data[thresholds:]):
            raise ValueError("BuRR filter with an impossible threshold")
        self._stash = struct.unpack_from(f"<{stashed}Q", data, stash)
        if any(x >= y for x, y in pairwise(self._stash)):
            raise ValueError("BuRR filter with a stash out of order")
        self._layers: list[Layer] = []
        for count in blocks:
            self._layers.append(Layer(BLOCK_SLOTS * (count - 1), at, thresholds))
            at += 8 * self._bits * count
            thresholds += count // 2

    def may_contain(self, key_hash: int) -> bool:
        """False only if no key with that hash was added."""
        x = key_hash
        for layer in self._layers:
            x = mix(x)
            start = (x >> 32) * layer.positions >> 32
            if start % BUCKET_SLOTS >= self._data[layer.thresholds + start // BUCKET_SLOTS]:
                return self._value(layer, start, row_of(x)) == x & (1 << self._bits) - 1
        x = mix(x)
        place = bisect_left(self._stash, x)
        return place < len(self._stash) and self._stash[place] == x

    def _value(self, layer: Layer, start: int, row: int) -> int:
        """The XOR of the slots of a row."""
        block, offset = divmod(start, BLOCK_SLOTS)
        words = struct.unpack_from(f"<{2 * self._bits}Q", self._data, layer.words + 8 * self._bits * block)
        low, high = row << offset & _WORD, row << offset >> BLOCK_SLOTS
        value = 0
        for j in range(self._bits):
            value |= ((words[j] & low) ^ (words[j + self._bits] & high)).bit_count() % 2 << j
        return value
