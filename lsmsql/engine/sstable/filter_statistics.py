"""What a table's filter is made of, and how often it errs."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import xxhash

from ..kernel import FilterKind, count_maybe

_KIND_AT = 5
_BLOOM = struct.Struct("<IBBH")  # lines, probes, version, 0
_BURR = struct.Struct("<IBBBB")  # keys in the stash, fingerprint bits, version, layers, 0
_ASKED = 100_000


@dataclass(frozen=True, slots=True)
class FilterStatistics:
    """size: bytes of the raw filter. shape: what it is made of, name and number. false_positives: of `asked` keys that are in no table, by hashes
    that are the same in every run."""

    kind: FilterKind
    size: int
    keys: int
    shape: dict[str, float]
    asked: int
    false_positives: int

    @property
    def bits_per_key(self) -> float:
        return self.size * 8 / self.keys if self.keys else 0.0


def filter_statistics(raw: bytes, keys: int) -> FilterStatistics:
    """Of a raw filter over `keys` distinct user keys; ValueError, saying what, for bytes that are none."""
    hashes = b"".join(xxhash.xxh3_64_digest(number.to_bytes(4, "little"), seed=1) for number in range(_ASKED))
    positives = count_maybe(raw, hashes)
    if raw[_KIND_AT] == FilterKind.BURR:
        stashed, bits, _, layers, _ = _BURR.unpack_from(raw)
        blocks = struct.unpack_from(f"<{layers}I", raw, _BURR.size)
        shape: dict[str, float] = {"fingerprint bits": bits, "layers": layers, "slots": 64 * sum(blocks), "stashed keys": stashed}
    else:
        lines, probes, _, _ = _BLOOM.unpack_from(raw)
        ones = int.from_bytes(raw[_BLOOM.size :], "little").bit_count()
        shape = {"lines": lines, "probes": probes, "share of ones": ones / (512 * lines)}
    return FilterStatistics(FilterKind(raw[_KIND_AT]), len(raw), keys, shape, _ASKED, positives)
