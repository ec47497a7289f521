"""Partitioned indexes and filters: cut alike by both twins, read only when needed, and found in by every way of reading."""

from __future__ import annotations

import random
import threading
from itertools import pairwise
from typing import Any

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.kinds import FilterKind, Kind
from lsmsql.engine.kernel.partitions import Partition, Partitions
from lsmsql.engine.kernel.plain.index import Index
from lsmsql.errors import CorruptionError

from .stream_world import (
    KERNELS,
    OVERHEAD,
    Entry,
    FinishedTable,
    compiled,
    make_memtable,
    make_tables,
    make_world,
    needs_compiled,
    random_entries,
)

LAST = 1 << 50
ROWS = [(b"key-%05d" % number, b"value-%d" % number * 3) for number in range(600)]
CUT: dict[str, Any] = {"partition_bytes": 200, "block_bytes": 120}


def row_table(kernels: Any, **settings: Any) -> FinishedTable:
    (made,) = make_tables(kernels, [kernels.SortedRows(ROWS)], **{**CUT, **settings})
    return made


def long_histories(keys: int = 12, versions: int = 40) -> list[Entry]:
    """Keys whose versions go on through several blocks, and more than one partition."""
    return [
        (b"key-%02d" % key, 1 + version * keys + key, int(Kind.VALUE), b"%d-%d" % (key, version))
        for version in range(versions)
        for key in range(keys)
    ]


def reads(table: Any) -> tuple[int, int, int]:
    """Partitions of index and filter, and data blocks, that were read so far."""
    return table.cache.index_reads, table.cache.filter_reads, table.cache.misses


@needs_compiled
@pytest.mark.parametrize("seed", range(12))
def test_the_twins_cut_the_same_partitions(seed: int) -> None:
    rng = random.Random(seed)
    entries = random_entries(rng, rng.choice((30, 300)), 80) if seed % 3 else long_histories()
    settings: dict[str, Any] = {
        "partition_bytes": rng.choice((1, 60, 200, 1000)),
        "spill_bytes": rng.choice((0, 0, 500)),
        "full_filter": rng.random() < 0.3,
        "block_bytes": rng.choice((1, 100, 400)),
        "table_bytes": rng.choice((1500, 1 << 30)),
        "filter_kind": rng.choice((FilterKind.BLOOM, FilterKind.BURR, FilterKind.NONE)),
        "filter_bits": rng.choice((10, 3)),
        "index_bytes": rng.choice((100, 1 << 26)),
        "filter_bytes": rng.choice((20, 1 << 26)),
        "overhead": rng.choice((0, OVERHEAD)),
    }
    made = [make_tables(kernels, [make_memtable(kernels, entries)], **settings) for kernels in (plain, compiled())]
    assert [table.summary for table in made[0]] == [table.summary for table in made[1]]
    assert [table.frames for table in made[0]] == [table.frames for table in made[1]]


@pytest.mark.parametrize("kernels", KERNELS)
def test_partitions_are_the_whole_index_in_pieces(kernels: Any) -> None:
    whole, cut = row_table(kernels, partition_bytes=0), row_table(kernels)
    assert whole.summary.index and not whole.summary.partitions and not cut.summary.index and not cut.summary.filter
    assert whole.frames == cut.frames and whole.summary.filter_kind == cut.summary.filter_kind == FilterKind.BLOOM
    one, pieces = Index(whole.summary.index, 0), [Index(part.index, 0) for part in cut.summary.partitions]
    assert len(pieces) > 10
    for name in ("sizes", "entries", "min_seqnos", "max_seqnos", "masks", "last_keys"):
        assert getattr(one, name) == [value for piece in pieces for value in getattr(piece, name)]
    assert all(sum(27 + len(key) for key in piece.last_keys[:-1]) < 200 <= sum(27 + len(key) for key in piece.last_keys) for piece in pieces[:-1])


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_short_index_is_not_partitioned_and_a_long_one_is(kernels: Any) -> None:
    size = len(row_table(kernels, partition_bytes=0).summary.index) - 4
    assert not row_table(kernels, spill_bytes=size).summary.partitions
    assert row_table(kernels, spill_bytes=size - 1).summary.partitions
    assert row_table(kernels, spill_bytes=size, filter_bytes=len(ROWS) * 10 // 8).summary.partitions, (
        "nor may a filter be one block if that is too long"
    )
    whole = row_table(kernels, full_filter=True)
    assert whole.summary.filter == row_table(kernels, partition_bytes=0).summary.filter
    assert all(part.filter == b"" for part in whole.summary.partitions)
    assert row_table(kernels, filter_kind=FilterKind.NONE).summary.filter_kind == FilterKind.NONE


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_table_ends_where_its_filter_would_be_too_long(kernels: Any) -> None:
    for settings in ({"partition_bytes": 0}, {"partition_bytes": 200, "full_filter": True}):
        made = make_tables(kernels, [kernels.SortedRows(ROWS)], block_bytes=120, filter_bytes=125, **settings)
        assert [table.summary.keys for table in made] == [100] * 6
    (made,) = [make_tables(kernels, [kernels.SortedRows(ROWS)], filter_bytes=125, **CUT)]
    assert [table.summary.keys for table in made] == [600]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("full_filter", [False, True])
def test_a_get_reads_one_partition_and_one_block(kernels: Any, full_filter: bool) -> None:
    finished = row_table(kernels, full_filter=full_filter)
    per_get = (1, 0 if full_filter else 1, 1)
    for key, value in ROWS[::37]:
        table = finished.open(kernels, kernels.BlockCache(1 << 20))
        levels = kernels.Levels([[table]])
        assert reads(table) == (0, 0, 0), "opening reads no partition"
        assert kernels.get([], levels, key, LAST) == value
        assert reads(table) == per_get
        assert kernels.get_many([], levels, [key, key], LAST) == [value, value]
        assert reads(table) == per_get, "the second time they are at hand"
    for absent in (b"a", b"key-00100x", b"z"):
        table = finished.open(kernels, kernels.BlockCache(1 << 20))
        assert kernels.get([], kernels.Levels([[table]]), absent, LAST) is None
        assert reads(table)[2] == reads(table)[0] == 0, "the filter answers alone"
    table = finished.open(kernels, kernels.BlockCache(0))
    levels = kernels.Levels([[table]])
    assert kernels.get_many([], levels, [key for key, _ in ROWS], LAST) == [value for _, value in ROWS]
    assert reads(table)[2] == len(ROWS), "one block for a get, and no more, even if nothing stays"
    assert table.cache.used == 0


@pytest.mark.parametrize("kernels", KERNELS)
def test_pinned_partitions_stay_without_a_cache(kernels: Any) -> None:
    finished = row_table(kernels)
    table = finished.open(kernels, kernels.BlockCache(0), pin_index=True, pin_filter=True)
    levels = kernels.Levels([[table]])
    for _ in range(2):
        assert kernels.get_many([], levels, [key for key, _ in ROWS], LAST) == [value for _, value in ROWS]
        assert list(kernels.Scan([], levels, None, None, LAST, reverse=True)) == ROWS[::-1]
    assert reads(table)[:2] == (table.partitions, table.partitions)
    assert table.cache.used == 0
    table.cache.capacity = 1 << 20
    table.pin(False, True)
    assert table.cache.used > 0
    assert list(kernels.Scan([], levels, None, None, LAST)) == ROWS
    assert reads(table)[0] == table.partitions, "what was pinned is in the cache now"
    table.release()
    assert table.cache.used == 0
    assert kernels.get([], levels, ROWS[5][0], LAST) == ROWS[5][1]
    assert reads(table)[:2] == (table.partitions + 1, table.partitions + 1), "released ones are read again"


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_full_scan_reads_every_partition_once_and_leaves_nothing_behind(kernels: Any) -> None:
    for reverse in (False, True):
        table = row_table(kernels).open(kernels, kernels.BlockCache(1 << 20))
        found = list(kernels.Scan([], kernels.Levels([[table]]), None, None, LAST, reverse=reverse, keep=False))
        assert found == (ROWS[::-1] if reverse else ROWS)
        assert table.cache.index_reads == table.partitions and table.cache.filter_reads == 0 and table.cache.used == 0


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("cache_bytes", [0, 4000, 1 << 20])
def test_scans_begin_and_end_anywhere(kernels: Any, cache_bytes: int) -> None:
    table = row_table(kernels).open(kernels, kernels.BlockCache(cache_bytes))
    levels = kernels.Levels([[], [table]])
    rng = random.Random(1)
    edges = [Index(part.index, 0).last_keys[-1] for part in row_table(kernels).summary.partitions]
    for number in range(120):
        bounds = [rng.choice(edges) if rng.random() < 0.5 else rng.choice(ROWS)[0] for _ in range(2)]
        lower, upper = sorted(bound + rng.choice((b"", b"\0")) for bound in bounds)
        wanted = [row for row in ROWS if lower <= row[0] < upper]
        before = table.cache.index_reads
        assert list(kernels.Scan([], levels, lower, upper, LAST, keep=number % 2 == 0)) == wanted
        assert table.cache.index_reads - before <= sum(lower <= edge < upper for edge in edges) + 1
        assert list(kernels.Scan([], levels, lower, upper, LAST, reverse=True)) == wanted[::-1]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("cache_bytes", [0, 3000, 1 << 20])
@pytest.mark.parametrize("overhead", [0, OVERHEAD])
def test_versions_of_a_key_go_on_through_partitions(kernels: Any, cache_bytes: int, overhead: int) -> None:
    entries = long_histories()
    made = make_tables(kernels, [make_memtable(kernels, entries)], partition_bytes=60, block_bytes=100, overhead=overhead)
    assert any(not part.filter for part in made[0].summary.partitions), "some partition begins no key"
    table = made[0].open(kernels, kernels.BlockCache(cache_bytes))
    levels = kernels.Levels([[table]])
    newest = max(seqno for _, seqno, _, _ in entries)
    for seqno in (0, 1, 13, 100, 200, newest - 1, newest):
        state: dict[bytes, bytes] = {}
        for key, at, _, value in entries:
            if at <= seqno:
                state[key] = value
        keys = sorted({key for key, *_ in entries})
        assert kernels.get_many([], levels, keys, seqno) == [state.get(key) for key in keys]
        assert [kernels.get([], levels, key, seqno) for key in keys] == [state.get(key) for key in keys]
        for keep in (False, True):
            assert list(kernels.Scan([], levels, None, None, seqno, keep=keep)) == sorted(state.items())
            assert list(kernels.Scan([], levels, None, None, seqno, keep=keep, reverse=True)) == sorted(state.items(), reverse=True)
            changed = [row for row in sorted(state.items(), reverse=True) if seqno > 100 and (*row,) in {(k, v) for k, s, _, v in entries if s > 100}]
            if seqno > 100:
                assert list(kernels.Scan([], levels, None, None, seqno, keep=keep, reverse=True, since=100)) == changed
    again = make_tables(kernels, [[table]], partition_bytes=60, block_bytes=100)
    assert again[0].summary.partitions == made[0].summary.partitions or overhead
    assert again[0].summary.entries == len(entries)


@pytest.mark.parametrize("kernels", KERNELS)
def test_the_cache_may_empty_itself_under_every_read(kernels: Any) -> None:
    """A read lets other threads go on; here one of them throws everything out that is not in use."""
    for reverse in (False, True):
        table = row_table(kernels).open(kernels, kernels.BlockCache(1 << 20))
        levels = kernels.Levels([[table]])
        table.source.on_read = table.release
        assert list(kernels.Scan([], levels, ROWS[3][0], None, LAST, reverse=reverse)) == (ROWS[3:][::-1] if reverse else ROWS[3:])
        assert kernels.get_many([], levels, [key for key, _ in ROWS[::7]], LAST) == [value for _, value in ROWS[::7]]
        (again,) = make_tables(kernels, [table], **CUT)
        assert again.frames == row_table(kernels).frames


@pytest.mark.parametrize("kernels", KERNELS)
def test_threads_read_partitions_together(kernels: Any) -> None:
    table = row_table(kernels).open(kernels, kernels.BlockCache(6000))
    levels = kernels.Levels([[table]])
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(60):
                key, value = rng.choice(ROWS)
                assert kernels.get([], levels, key, LAST) == value
                first = rng.randrange(len(ROWS))
                assert list(kernels.Scan([], levels, ROWS[first][0], None, LAST, limit=20)) == ROWS[first : first + 20]
                assert list(kernels.Scan([], levels, None, key, LAST, limit=20, reverse=True)) == [row for row in ROWS if row[0] < key][::-1][:20]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_partition_that_is_not_the_one_described_is_damage(kernels: Any) -> None:
    finished = row_table(kernels)
    parts = finished.summary.partitions
    for bad in (b"", parts[1].index[:-1], parts[2].index, parts[1].index[:-1] + b"\xff", parts[1].index.replace(b"key", b"kex")):
        table = finished.open(kernels, kernels.BlockCache(1 << 20))
        table.source.partitions = (parts[0], Partition(bad, parts[1].filter), *parts[2:])
        levels = kernels.Levels([[table]])
        key = Index(parts[1].index, 0).last_keys[0]
        assert kernels.get([], levels, ROWS[0][0], LAST) == ROWS[0][1]
        for ask in (
            lambda key=key, levels=levels: kernels.get([], levels, key, LAST),
            lambda levels=levels: list(kernels.Scan([], levels, None, None, LAST)),
            lambda table=table: make_tables(kernels, [table]),
        ):
            with pytest.raises(CorruptionError):
                ask()
        assert kernels.get([], levels, ROWS[-1][0], LAST) == ROWS[-1][1]
    for blocks, sizes in (((1, 0), (1, 1)), ((1,), (1, 1)), ((1 << 31, 1 << 31), (1, 1))):
        with pytest.raises(ValueError, match="impossible"):
            Partitions(blocks, sizes, filtered=False)


@pytest.mark.parametrize("kernels", KERNELS)
def test_generated_worlds_have_partitions(kernels: Any) -> None:
    """What the other tests of these kernels stand on."""
    tables = [table for seed in range(6) for level in make_world(kernels, seed, commits=20).levels for table in level]
    assert any(table.partitions > 1 for table in tables) and any(not table.partitions for table in tables)
    assert all(a.largest < b.smallest for a, b in pairwise(make_world(kernels, 1, table_bytes=700).levels[2]))
