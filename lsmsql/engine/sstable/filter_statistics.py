"""What a table's filter is made of, and how often it errs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
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


def filter_statistics(raws: Sequence[bytes], keys: int) -> FilterStatistics:
    """Of a raw filter, or its partitions, over `keys` distinct user keys; ValueError, saying what, for bytes that are none."""
    asked = _ASKED // len(raws)
    hashes = b"".join(xxhash.xxh3_64_digest(number.to_bytes(4, "little"), seed=1) for number in range(asked))
    positives = sum(count_maybe(raw, hashes) for raw in raws)
    kind = FilterKind(raws[0][_KIND_AT])
    shape: dict[str, float] = {"partitions": len(raws)} if len(raws) > 1 else {}
    if kind == FilterKind.BURR:
        heads = [_BURR.unpack_from(raw) for raw in raws]
        slots = sum(64 * sum(struct.unpack_from(f"<{head[3]}I", raw, _BURR.size)) for head, raw in zip(heads, raws, strict=True))
        layers, stashed = max(head[3] for head in heads), sum(head[0] for head in heads)
        shape |= {"fingerprint bits": heads[0][1], "layers": layers, "slots": slots, "stashed keys": stashed}
    else:
        lines = sum(_BLOOM.unpack_from(raw)[0] for raw in raws)
        ones = sum(int.from_bytes(raw[_BLOOM.size :], "little").bit_count() for raw in raws)
        shape |= {"lines": lines, "probes": raws[0][4], "share of ones": ones / (512 * lines)}
    return FilterStatistics(kind, sum(map(len, raws)), keys, shape, asked * len(raws), positives)
