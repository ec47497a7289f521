"""A table's filter, of whichever kind: how to build one, to open one from its block, and to ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import xxhash

from ..kinds import FilterKind
from .bloom import BloomFilter, build_bloom
from .burr import BITS_MAX, BurrFilter, build_burr

_VERSION_AT = 5  # Both kinds say there which they are.


class Filter(Protocol):
    """What can be asked."""

    def may_contain(self, key_hash: int) -> bool:
        """False only if no key with that XXH3-64 hash is in the table."""


def fingerprint_bits(filter_bits: int) -> int:
    """Of a BuRR filter that errs no more often than a blocked Bloom filter of so many bits a key; more than 16 there cannot be."""
    return min(BITS_MAX, -(-filter_bits * 69 // 100))


def build_filter(hashes: Sequence[int], filter_bits: int, kind: FilterKind = FilterKind.BLOOM) -> bytes:
    """The filter over the XXH3-64 hashes of user keys; b"", which answers "maybe", for no bits, no kind, or no key.

    filter_bits: what a Bloom filter spends on each key. ValueError for an unknown kind."""
    if not filter_bits or FilterKind(kind) == FilterKind.NONE:
        return b""
    if kind == FilterKind.BLOOM:
        return build_bloom(hashes, filter_bits)
    return build_burr(hashes, fingerprint_bits(filter_bits))


def open_filter(data: bytes) -> Filter | None:
    """The filter of a block, None for b""; ValueError, saying what, for bytes that are no filter of a known kind."""
    if not data:
        return None
    if len(data) > _VERSION_AT and data[_VERSION_AT] == FilterKind.BURR:
        return BurrFilter(data)
    return BloomFilter(data)


def may_contain(data: bytes, key: bytes) -> bool:
    """False only if the key is certainly absent. Errors as `open_filter`."""
    found = open_filter(data)
    return found is None or found.may_contain(xxhash.xxh3_64_intdigest(key))


def count_maybe(data: bytes, hashes: bytes) -> int:
    """Of how many hashes, each 8 bytes, the filter does not rule out. Errors as `open_filter`."""
    found = open_filter(data)
    if len(hashes) % 8:
        raise ValueError("hashes take 8 bytes each")
    return sum(found is None or found.may_contain(int.from_bytes(hashes[at : at + 8], "little")) for at in range(0, len(hashes), 8))
