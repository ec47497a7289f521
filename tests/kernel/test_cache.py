"""The cache keeps what is read again and again, whatever else passes through; shown by counters."""

from __future__ import annotations

import random
from typing import Any

import pytest

from .stream_world import KERNELS, make_tables

LAST = 1 << 50
ROWS = [(b"key-%06d" % number, b"%06d" % number * 5) for number in range(12_000)]
HOT = [key for key, _ in ROWS[2000:4000:10]]


class Reader:
    """A table much larger than its cache, and how many blocks reading it takes."""

    def __init__(self, kernels: Any, share: float = 0.1, **settings: Any) -> None:
        self.kernels = kernels
        (made,) = make_tables(kernels, [kernels.SortedRows(ROWS)], **{"block_bytes": 400, "table_bytes": 1 << 40, **settings})
        whole = kernels.BlockCache(1 << 30)
        table = made.open(kernels, whole)
        for ordinal in range(table.blocks):
            table.block(ordinal)
        table.release()
        for ordinal in range(table.blocks):
            table.block(ordinal)
        self.cache = kernels.BlockCache(int(whole.used * share))
        self.table = made.open(kernels, self.cache)
        self.levels = kernels.Levels([[self.table]])

    def missed(self, keys: list[bytes]) -> int:
        before = self.cache.misses
        for key in keys:
            assert self.kernels.get([], self.levels, key, LAST) is not None
        return int(self.cache.misses - before)

    def scan(self, lower: bytes | None = b"", upper: bytes | None = None, keep: bool = True) -> int:
        before = self.cache.misses
        assert len(list(self.kernels.Scan([], self.levels, lower, upper, LAST, keep=keep))) > 0
        return int(self.cache.misses - before)


def blocks_of(reader: Reader, keys: list[bytes]) -> int:
    """How many blocks hold them."""
    other = Reader(reader.kernels, 2)
    return other.missed(keys)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("settings", [{}, {"partition_bytes": 400}], ids=["full", "partitioned"])
def test_a_scan_of_everything_leaves_the_hot_blocks_where_they_are(kernels: Any, settings: dict[str, int]) -> None:
    reader = Reader(kernels, 0.3, **settings)
    for _ in range(3):
        reader.missed(HOT)
    assert reader.missed(HOT) == 0, "they fit"
    for reverse in (False, True):
        assert reader.scan() > 200 and reader.cache.evictions > 100
        list(kernels.Scan([], reader.levels, None, b"\xff", LAST, reverse=reverse))
        assert reader.missed(HOT) <= blocks_of(reader, HOT) // 20
    assert reader.cache.used <= reader.cache.capacity


@pytest.mark.parametrize("kernels", KERNELS)
def test_partitions_stay_through_scans(kernels: Any) -> None:
    reader = Reader(kernels, 0.3, partition_bytes=400)
    for _ in range(2):
        reader.missed(HOT)
    before = reader.cache.index_reads, reader.cache.filter_reads
    reader.scan(ROWS[2000][0], ROWS[4000][0])
    reader.scan(ROWS[5000][0])
    reader.missed(HOT)
    assert reader.cache.filter_reads == before[1], "of what is read, the filters are read again least of all"


@pytest.mark.parametrize("kernels", KERNELS)
def test_what_becomes_hot_takes_the_place_of_what_was(kernels: Any) -> None:
    reader = Reader(kernels, 0.2)
    later = [key for key, _ in ROWS[8000:9500:10]]
    for _ in range(4):
        reader.missed(HOT[:100])
    for _ in range(8):
        reader.missed(later)
    assert reader.missed(later) <= blocks_of(reader, later) // 10


@pytest.mark.parametrize("kernels", KERNELS)
def test_reads_without_any_pattern_find_as_much_as_fits(kernels: Any) -> None:
    reader = Reader(kernels, 0.5)
    rng = random.Random(1)
    keys = [rng.choice(ROWS)[0] for _ in range(6000)]
    reader.missed(keys[:3000])
    assert reader.missed(keys[3000:]) < 0.6 * 3000


@pytest.mark.parametrize("kernels", KERNELS)
def test_the_cache_holds_no_more_than_its_bytes(kernels: Any) -> None:
    rng = random.Random(2)
    reader = Reader(kernels, 0.05, partition_bytes=300)
    other = Reader(kernels, 0.05)
    for _ in range(300):
        first = rng.randrange(len(ROWS))
        list(kernels.Scan([], reader.levels, ROWS[first][0], None, LAST, limit=rng.randrange(1, 200)))
        reader.missed([rng.choice(ROWS)[0]])
        assert reader.cache.used <= reader.cache.capacity
        if rng.random() < 0.02:
            reader.table.release()
            assert reader.cache.used == 0
    assert reader.cache.evictions > 100
    assert other.cache.used == 0
