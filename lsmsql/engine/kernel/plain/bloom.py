"""The blocked Bloom filter (docs/formats.md, "Filter: Bloom"): every key's bits lie in one 64-byte line."""

from __future__ import annotations

import struct
from collections.abc import Sequence

HEADER = struct.Struct("<IBBH")  # lines, probes, version, 0
VERSION = 1
LINE_BYTES = 64
LINE_BITS = 512


def build_bloom(hashes: Sequence[int], bits_per_key: int) -> bytes:
    """The filter over the XXH3-64 hashes of distinct user keys; b"" when bits_per_key is 0 or there is no key."""
    if not bits_per_key or not hashes:
        return b""
    lines = max(1, -(-len(hashes) * bits_per_key // LINE_BITS))
    probes = max(1, min(16, round(bits_per_key * 0.69)))
    bits = bytearray(lines * LINE_BYTES)
    for key_hash in hashes:
        line = ((key_hash >> 32) * lines >> 32) * LINE_BYTES
        position, step = key_hash & 0x1FF, (key_hash >> 9) & 0x1FF | 1
        for _ in range(probes):
            bits[line + (position >> 3)] |= 1 << (position & 7)
            position = (position + step) & 0x1FF
    return HEADER.pack(lines, probes, VERSION, 0) + bytes(bits)


class BloomFilter:
    """A filter to ask. ValueError unless the bytes are a filter of this version."""

    def __init__(self, data: bytes) -> None:
        if len(data) < HEADER.size:
            raise ValueError("filter shorter than its header")
        self._data = data
        self._lines, self._probes, version, zero = HEADER.unpack_from(data)
        if version != VERSION or zero or not 1 <= self._probes <= 16 or not self._lines or len(data) != HEADER.size + self._lines * LINE_BYTES:
            raise ValueError("unknown filter version or wrong length")

    def may_contain(self, key_hash: int) -> bool:
        """False only if no key with that hash was added."""
        line = HEADER.size + ((key_hash >> 32) * self._lines >> 32) * LINE_BYTES
        position, step = key_hash & 0x1FF, (key_hash >> 9) & 0x1FF | 1
        for _ in range(self._probes):
            if not self._data[line + (position >> 3)] & 1 << (position & 7):
                return False
            position = (position + step) & 0x1FF
        return True
