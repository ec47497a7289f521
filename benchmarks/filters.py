"""Measure a table's filters: python -m benchmarks.filters -n 1000000 --probes 10000000

Bits a key, false positives, and nanoseconds to build and to ask, for BuRR, for the blocked Bloom filter of the same `filter_bits`, and for the
smallest Bloom filter that errs no more often than BuRR. Times are of the processor, the best of --repeat, the kinds taking turns.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lsmsql.engine.kernel import FilterKind, plain
from lsmsql.engine.kernel._choice import compiled_kernels

from .run import at_least

FILTER_BITS_MAX = 64


@dataclass
class Figures:
    """Of one filter; times are nanoseconds a key."""

    title: str
    bits: float
    false_positives: float
    handed: float = float("inf")  # part of built: turning Python's numbers into hashes, which a table has at hand
    built: float = float("inf")
    hit: float = float("inf")
    miss: float = float("inf")

    @property
    def build(self) -> float:
        return max(self.built - self.handed, 0.1)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    kernels = compiled_kernels() or plain
    source = random.Random(options.seed)
    keys, strangers = source.randbytes(8 * options.keys), source.randbytes(8 * options.probes)
    hashes = array("Q", keys)
    bits = options.filter_bits
    burr = kernels.build_filter(hashes, bits, FilterKind.BURR)
    equal = equal_bloom_bits(kernels, hashes, strangers, kernels.count_maybe(burr, strangers), bits)
    wanted = [("BuRR", FilterKind.BURR, bits), ("Bloom, same option", FilterKind.BLOOM, bits), ("Bloom, equal rate", FilterKind.BLOOM, equal)]
    found = [measured(kernels, *each, hashes, strangers) for each in wanted]
    for _ in range(options.repeat):
        for figures, (_, kind, filter_bits) in zip(found, wanted, strict=True):
            take_times(figures, kernels, kind, filter_bits, hashes, keys, strangers)
    print(f"{options.keys:,} keys, {options.probes:,} probes, filter_bits = {bits}, {'plain' if kernels is plain else 'compiled'} kernels\n")
    print(table(found))
    return 0


def equal_bloom_bits(kernels: Any, hashes: Sequence[int], strangers: bytes, allowed: int, filter_bits: int) -> int:
    """Of the smallest Bloom filter with no more false positives than `allowed`."""
    for bits in range(filter_bits, FILTER_BITS_MAX):
        if kernels.count_maybe(kernels.build_filter(hashes, bits), strangers) <= allowed:
            return bits
    return FILTER_BITS_MAX


def measured(kernels: Any, title: str, kind: FilterKind, filter_bits: int, hashes: Sequence[int], strangers: bytes) -> Figures:
    made = kernels.build_filter(hashes, filter_bits, kind)
    return Figures(f"{title} ({filter_bits})", 8 * len(made) / len(hashes), 8 * kernels.count_maybe(made, strangers) / len(strangers))


def take_times(figures: Figures, kernels: Any, kind: FilterKind, filter_bits: int, hashes: Sequence[int], keys: bytes, strangers: bytes) -> None:
    """Time everything once, and keep what is better."""
    made = kernels.build_filter(hashes, filter_bits, kind)
    figures.handed = min(figures.handed, nanoseconds(lambda: kernels.build_filter(hashes, 0), len(hashes)))
    figures.built = min(figures.built, nanoseconds(lambda: kernels.build_filter(hashes, filter_bits, kind), len(hashes)))
    figures.hit = min(figures.hit, nanoseconds(lambda: kernels.count_maybe(made, keys), len(hashes)))
    figures.miss = min(figures.miss, nanoseconds(lambda: kernels.count_maybe(made, strangers), len(strangers) // 8))
    if kernels.count_maybe(made, keys) != len(hashes):
        raise SystemExit(f"{figures.title} denies a key")


def nanoseconds(work: Callable[[], object], count: int) -> float:
    """For each of `count`."""
    before = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - before) / count


def table(found: Sequence[Figures]) -> str:
    """One row for each filter, and what the first takes relative to the others."""
    lines = ["| filter (filter_bits) | bits/key | false positives | build ns/key | hit ns | miss ns |", "|---|---:|---:|---:|---:|---:|"]
    for each in found:
        lines.append(f"| {each.title} | {each.bits:.2f} | {each.false_positives:.3%} | {each.build:.0f} | {each.hit:.1f} | {each.miss:.1f} |")
    first = found[0]
    for each in found[1:]:
        ratios = [first.bits / each.bits, first.false_positives / max(each.false_positives, 1e-12), first.build / each.build]
        ratios += [first.hit / each.hit, first.miss / each.miss]
        lines.append(f"| {first.title} / {each.title} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.filters", description=(__doc__ or "").partition("\n")[0])
    result.add_argument("-n", "--keys", type=at_least(1), default=1_000_000, help="keys (default 1000000)")
    result.add_argument("--probes", type=at_least(1), default=10_000_000, help="hashes asked for that are none of them (default 10000000)")
    result.add_argument("--filter-bits", type=at_least(1), default=10, help="the option (default 10)")
    result.add_argument("--repeat", type=at_least(1), default=5, help="times each is timed (default 5)")
    result.add_argument("--seed", type=int, default=1, help="of the hashes (default 1)")
    return result


if __name__ == "__main__":
    sys.exit(main())
