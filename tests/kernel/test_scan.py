"""Scans answer what a dict of versions answers: at every seqno, in both directions, over every kind of source, whatever happens meanwhile."""

from __future__ import annotations

import gc
import random
import weakref
from types import ModuleType
from typing import Any

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.kinds import BATCH_SEQNO, Kind
from lsmsql.errors import CorruptionError

from .stream_world import KERNELS, TREE, MemorySource, compiled, make_arena, make_memtable, make_tables, make_world, needs_compiled, some_bounds

SPACE = 400


def all_rows(scan: Any, rng: random.Random | None = None) -> list[tuple[bytes, bytes]]:
    """Every row of a scan: by fill in chunks of random size, by blocks, or by iteration."""
    way = rng.randrange(3) if rng else 0
    if way == 1:
        return list(scan)
    rows: list[tuple[bytes, bytes]] = []
    if way == 2:
        while (block := scan.next_block()) is not None:
            assert len(block)
            rows += block.items()
        return rows
    while part := scan.fill(rng.choice((1, 2, 7, 100, 1000)) if rng else 256):
        rows += part
    assert scan.fill(10) == []
    return rows


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("seed", range(6))
def test_a_scan_answers_as_the_dict(kernels: ModuleType, seed: int) -> None:
    world = make_world(kernels, seed, SPACE)
    rng = random.Random(seed)
    for _ in range(80):
        lower, upper = some_bounds(rng, SPACE)
        seqno = rng.choice((0, 1, world.last, world.last, rng.randrange(world.last), world.last + 5))
        options: dict[str, Any] = {"reverse": rng.random() < 0.5}
        if rng.random() < 0.3:
            options["since"] = rng.randrange(world.last)
        if rng.random() < 0.3:
            options["limit"] = rng.choice((0, 1, 5, 100))
        expected = world.rows(lower, upper, seqno, **options)
        found = all_rows(world.scan(lower, upper, seqno, keep=rng.random() < 0.5, **options), rng)
        assert found == expected, (lower, upper, seqno, options)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("reverse", [False, True])
def test_every_seqno_of_the_history_can_be_read(kernels: ModuleType, reverse: bool) -> None:
    world = make_world(kernels, 77, 60, commits=12)
    for seqno in range(world.last + 2):
        assert all_rows(world.scan(None, None, seqno, reverse=reverse)) == world.rows(None, None, seqno, reverse=reverse)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("cache_bytes", [0, 700, 5000])
def test_a_scan_survives_a_cache_too_small_for_it(kernels: ModuleType, cache_bytes: int) -> None:
    world = make_world(kernels, 5, SPACE, cache_bytes=cache_bytes)
    forward, backward, other = world.scan(), world.scan(reverse=True), world.scan(b"k")
    rows: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for _ in range(2000):
        for scan, found, step in zip((forward, backward, other), rows, (3, 5, 1), strict=True):
            found += scan.fill(step)
    assert rows[0] == world.rows()
    assert rows[1] == world.rows(reverse=True)
    assert rows[2] == world.rows(b"k")


@pytest.mark.parametrize("kernels", KERNELS)
def test_blocks_carry_the_entries_columns(kernels: ModuleType) -> None:
    world = make_world(kernels, 21, SPACE)
    for reverse in (False, True):
        for seqno in (world.last, world.last // 2):
            scan = world.scan(seqno=seqno, reverse=reverse)
            entries: list[Any] = []
            while (block := scan.next_block()) is not None:
                entries += zip(block.keys(), block.seqnos(), block.kinds(), block.values(), strict=True)
            assert entries == world.entries(seqno=seqno, reverse=reverse)


@pytest.mark.parametrize("kernels", KERNELS)
def test_one_plain_table_passes_through(kernels: ModuleType) -> None:
    rows = [(b"key%06d" % n, b"value %d" % n) for n in range(3000)]
    table = make_tables(kernels, [kernels.SortedRows(rows)], block_bytes=2000)[0].open(kernels, kernels.BlockCache(1 << 20), 9)
    levels = kernels.Levels([[], [table]])
    assert list(kernels.Scan([], levels, None, None, 9)) == rows
    assert all_rows(kernels.Scan([], levels, None, None, 8)) == []
    assert all_rows(kernels.Scan([], levels, b"key000100", b"key002900", 9)) == rows[100:2900]
    assert all_rows(kernels.Scan([], levels, b"key000100", b"key002900", 9, reverse=True)) == rows[100:2900][::-1]
    scan = kernels.Scan([], levels, b"key000100", b"key002900", 9, limit=1500)
    found: list[Any] = list(scan.fill(11))
    while (block := scan.next_block()) is not None:
        found += block.items()
        assert set(block.seqnos()) == {9} and set(block.kinds()) == {Kind.VALUE}
        found += scan.fill(3)
    assert found == rows[100:1600]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("reverse", [False, True])
def test_versions_of_one_key_over_many_blocks(kernels: ModuleType, reverse: bool) -> None:
    entries = [(key, seqno, int(Kind.VALUE), b"%d" % seqno) for key in (b"a", b"b", b"c") for seqno in range(1, 60)]
    memtable = make_memtable(kernels, entries)
    (made,) = make_tables(kernels, [memtable], block_bytes=50)
    table = made.open(kernels, kernels.BlockCache(0))
    assert made.summary.blocks > 20
    for seqno in (0, 1, 2, 5, 17, 30, 58, 59, 100):
        expected = [(key, b"%d" % min(seqno, 59)) for key in (b"a", b"b", b"c")] if seqno else []
        for sources in (([], [[], [table]]), ([memtable], [])):
            found = all_rows(kernels.Scan(sources[0], kernels.Levels(sources[1]), None, None, seqno, reverse=reverse))
            assert found == (expected[::-1] if reverse else expected)
        assert all_rows(kernels.Scan([memtable], kernels.Levels([[table]]), b"b", b"c", seqno, reverse=reverse)) == expected[1:2]


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_batch_is_read_as_of_its_mark(kernels: ModuleType) -> None:
    world = make_world(kernels, 3, 100, commits=10)
    rng = random.Random(3)
    batch = kernels.Batch()
    states = [dict(world.rows())]
    for _ in range(120):
        state = dict(states[-1])
        key = rng.choice((b"new%d" % rng.randrange(30), rng.choice(list(state))))
        if rng.random() < 0.4:
            batch.delete(TREE, key)
            state.pop(key, None)
        else:
            batch.put(TREE, key, b"batch%d" % rng.randrange(1000))
            state[key] = batch.get(TREE, key)[1]
        states.append(state)
    for mark in (*range(0, 121, 9), None):
        state = states[-1 if mark is None else mark]
        for reverse in (False, True):
            view = batch.memtable(TREE, mark)
            scan = kernels.Scan([view, *world.memtables], kernels.Levels(world.levels), None, None, world.last, reverse=reverse)
            assert all_rows(scan) == sorted(state.items(), reverse=reverse)
    scan = kernels.Scan([batch.memtable(TREE)], kernels.Levels([]), None, None, 0)
    assert (block := scan.next_block()) is not None
    assert all(seqno > BATCH_SEQNO for seqno in block.seqnos())


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_goes_on_while_its_batch_changes(kernels: ModuleType, reverse: bool) -> None:
    """What stood in the batch when the scan began and stays is found; nothing is found twice; later operations are not seen."""
    rng = random.Random(8)
    batch = kernels.Batch()
    for n in range(600):
        batch.put(TREE, b"%04d" % (n * 7 % 600), b"first%d" % n)
    mark = batch.mark()
    expected = {b"%04d" % (n * 7 % 600): b"first%d" % n for n in range(600)}
    scan = kernels.Scan([batch.memtable(TREE)], kernels.Levels([]), None, None, 0, reverse=reverse)
    found: list[tuple[bytes, bytes]] = []
    for _ in range(200):
        for _ in range(rng.randrange(20)):
            key = b"%04d" % rng.randrange(900)
            batch.put(TREE, key + rng.choice((b"", b"+")), rng.randbytes(200))
        found += scan.fill(5)
        if rng.random() < 0.5:
            batch.rollback(mark)
    assert found == sorted(expected.items(), reverse=reverse)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_goes_on_while_its_memtable_grows(kernels: ModuleType, reverse: bool) -> None:
    rng = random.Random(9)
    arena = make_arena(kernels, [(1, [(b"%04d" % n, int(Kind.VALUE), b"old%d" % n) for n in range(0, 3000, 3)])])
    scan = kernels.Scan([arena.memtable(TREE)], kernels.Levels([]), None, None, 1, reverse=reverse)
    found: list[tuple[bytes, bytes]] = []
    seqno = 1
    while rows := scan.fill(7):
        found += rows
        seqno += 1
        arena.begin()
        for _ in range(rng.randrange(40)):
            arena.put(TREE, b"%04d" % rng.randrange(4000), rng.randbytes(rng.randrange(3000)))
        arena.seal(2, 1, seqno, seqno, seqno - 1, 0)
        arena.index(seqno)
    assert found == sorted(((b"%04d" % n, b"old%d" % n) for n in range(0, 3000, 3)), reverse=reverse)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_cleared_or_rolled_back_batch_leaves_the_scan_sound(kernels: ModuleType, reverse: bool) -> None:
    """Its remaining rows are those still there, or none; what matters is that it ends, in order, with real rows."""
    for change in ("clear", "rollback", "drop"):
        batch = kernels.Batch()
        for n in range(500):
            batch.put(TREE, b"%04d" % n, b"value%d" % n)
        scan = kernels.Scan([batch.memtable(TREE)], kernels.Levels([]), None, None, 0, reverse=reverse)
        found = scan.fill(10)
        if change == "clear":
            batch.clear()
            batch.put(TREE, b"0000", b"again")
        elif change == "rollback":
            batch.rollback(20)
        else:
            del batch
        gc.collect()
        found += all_rows(scan)
        keys = [key for key, _ in found]
        assert keys == sorted(set(keys), reverse=reverse)
        for key, value in found:
            assert value == b"value%d" % int(key)


@pytest.mark.parametrize("kernels", KERNELS)
def test_on_close_is_called_once_whatever_ends_the_scan(kernels: ModuleType) -> None:
    world = make_world(kernels, 4, 100, commits=8)
    calls: list[int] = []
    scan = world.scan(on_close=lambda: calls.append(1))
    list(scan)
    assert calls == [1]
    scan.close()
    del scan
    assert calls == [1]

    scan = world.scan(on_close=lambda: calls.append(2))
    assert len(scan.fill(3)) == 3
    scan.close()
    assert calls == [1, 2]
    assert scan.fill(3) == [] and scan.next_block() is None and list(scan) == []
    assert calls == [1, 2]

    scan = world.scan(on_close=lambda: calls.append(3))
    del scan
    gc.collect()
    assert calls == [1, 2, 3]

    scan = world.scan(on_close=lambda: calls.append(4))
    while scan.next_block() is not None:
        pass
    assert calls == [1, 2, 3, 4]


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_scan_in_a_cycle_is_collected(kernels: ModuleType) -> None:
    class Owner:
        scan: Any = None

        def closed(self) -> None:
            self.scan = None

    world = make_world(kernels, 4, 100, commits=8)
    owner = Owner()
    owner.scan = world.scan(on_close=owner.closed)
    owner.scan.fill(2)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("kernels", KERNELS)
def test_since_skips_blocks_without_reading_them(kernels: ModuleType) -> None:
    old = [(b"%05d" % n, 1, int(Kind.VALUE), b"old") for n in range(4000)]
    new = [(b"%05d" % n, 5, int(Kind.VALUE), b"new") for n in range(2000, 2050)]
    (made,) = make_tables(kernels, [make_memtable(kernels, old), make_memtable(kernels, new)], block_bytes=500)
    for reverse in (False, True):
        table = made.open(kernels, kernels.BlockCache(0))
        found = all_rows(kernels.Scan([], kernels.Levels([[table]]), None, None, 9, since=1, reverse=reverse))
        assert found == sorted(((key, value) for key, _, _, value in new), reverse=reverse)
        assert table.source.reads < 20


@pytest.mark.parametrize("kernels", KERNELS)
def test_bounds_keep_a_scan_from_reading_other_blocks(kernels: ModuleType) -> None:
    rows = [(b"%05d" % n, b"x" * 50) for n in range(4000)]
    made = make_tables(kernels, [kernels.SortedRows(rows)], block_bytes=1000, table_bytes=20_000, compression_level=0)
    assert len(made) > 5
    for reverse in (False, True):
        cache = kernels.BlockCache(1 << 20)
        tables = [table.open(kernels, cache) for table in made]
        scan = kernels.Scan([], kernels.Levels([[], tables]), b"02000", b"02040", 1, reverse=reverse)
        assert all_rows(scan) == sorted(rows[2000:2040], reverse=reverse)
        assert 0 < sum(table.source.reads for table in tables) <= 8
        reads = sum(table.source.reads for table in tables)
        again = kernels.Scan([], kernels.Levels([[], tables]), b"02000", b"02040", 1, reverse=reverse)
        assert len(all_rows(again)) == 40
        assert sum(table.source.reads for table in tables) == reads, "the blocks were kept, so they are not read again"


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_a_source_that_fails_ends_the_scan_with_its_own_error(kernels: ModuleType, reverse: bool, keep: bool) -> None:
    rows = [(b"%05d" % n, b"x" * 50) for n in range(4000)]
    (made,) = make_tables(kernels, [kernels.SortedRows(rows)], block_bytes=1000)
    table = made.open(kernels, kernels.BlockCache(1 << 20))
    closed: list[int] = []

    def fail() -> None:
        if table.source.reads > 1:
            raise ConnectionError("the disk went away")

    table.source.on_read = fail
    scan = kernels.Scan([], kernels.Levels([[table]]), b"00100", None, 1, reverse=reverse, keep=keep, on_close=lambda: closed.append(1))
    with pytest.raises(ConnectionError, match="went away"):
        for _ in range(1000):
            assert scan.fill(5)
    table.source.on_read = None
    assert scan.fill(5) == []
    assert closed == [1]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("sealed", [False, True])
def test_damage_is_an_error_never_a_wrong_row(kernels: ModuleType, sealed: bool) -> None:
    rng = random.Random(11)
    rows = [(b"%05d" % n, rng.randbytes(20)) for n in range(300)]
    (made,) = make_tables(kernels, [kernels.SortedRows(rows)], block_bytes=1000, overhead=28 if sealed else 0)
    for _ in range(150):
        table = made.open(kernels, kernels.BlockCache(1 << 20))
        data = bytearray(made.frames)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        table.source.data = bytes(data)
        with pytest.raises(CorruptionError):
            all_rows(kernels.Scan([], kernels.Levels([[table]]), None, None, 1, reverse=rng.random() < 0.5))


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_scan_changed_from_inside_its_own_read_stays_sound(kernels: ModuleType) -> None:
    """A source may run any Python code: close the scan, use it again, write into its batch."""
    rows = [(b"%05d" % n, b"x" * 50) for n in range(2000)]
    (made,) = make_tables(kernels, [kernels.SortedRows(rows)], block_bytes=1000)
    for reverse in (False, True):
        table = made.open(kernels, kernels.BlockCache(0))
        batch = kernels.Batch()
        for n in range(0, 2000, 3):
            batch.put(TREE, b"%05d" % n, b"batch")
        mark = batch.mark()
        scan = kernels.Scan([batch.memtable(TREE)], kernels.Levels([[table]]), None, None, 1, reverse=reverse)

        def disturb(batch: Any = batch, mark: int = mark) -> None:
            batch.rollback(mark)
            for n in range(0, 3000, 7):
                batch.put(TREE, b"%05d" % n, b"later" * 100)

        table.source.on_read = disturb
        expected = {**dict(rows), **{b"%05d" % n: b"batch" for n in range(0, 2000, 3)}}
        assert all_rows(scan) == sorted(expected.items(), reverse=reverse)

        scan = kernels.Scan([], kernels.Levels([[table]]), None, None, 1, reverse=reverse)
        table.source.on_read = scan.close if kernels is not plain else None
        found = all_rows(scan)
        assert all(dict(rows)[key] == value for key, value in found)


@pytest.mark.parametrize("kernels", KERNELS)
def test_an_empty_world_has_no_rows(kernels: ModuleType) -> None:
    for reverse in (False, True):
        scan = kernels.Scan([], kernels.Levels([]), None, None, 5, reverse=reverse)
        assert scan.fill(5) == [] and scan.next_block() is None
        assert all_rows(kernels.Scan([], kernels.Levels([[], [], []]), b"a", b"b", 5, reverse=reverse)) == []


@pytest.mark.parametrize("kernels", KERNELS)
def test_large_keys_and_values(kernels: ModuleType) -> None:
    rng = random.Random(2)
    rows = sorted({rng.randbytes(rng.choice((0, 1, 300, 65_535))): rng.randbytes(rng.choice((0, 70_000, 300_000))) for _ in range(30)}.items())
    (made,) = make_tables(kernels, [kernels.SortedRows(rows)], block_bytes=8192)
    table = made.open(kernels, kernels.BlockCache(1 << 22))
    for reverse in (False, True):
        assert all_rows(kernels.Scan([], kernels.Levels([[table]]), None, None, 1, reverse=reverse)) == sorted(rows, reverse=reverse)


@needs_compiled
@pytest.mark.parametrize("seed", range(4))
def test_both_twins_read_each_others_tables(seed: int) -> None:
    kernels = compiled()
    worlds = make_world(plain, seed + 50, SPACE), make_world(kernels, seed + 50, SPACE)
    assert worlds[0].versions == worlds[1].versions
    for ours, theirs in zip(worlds[0].levels, worlds[1].levels, strict=True):
        assert [table.source.data for table in ours] == [table.source.data for table in theirs]
    rng = random.Random(seed)
    for _ in range(30):
        lower, upper = some_bounds(rng, SPACE)
        options: dict[str, Any] = {"reverse": rng.random() < 0.5, "since": rng.choice((0, 0, rng.randrange(worlds[0].last)))}
        found = [all_rows(world.scan(lower, upper, **options), rng) for world in worlds]
        assert found[0] == found[1]


def test_the_oracle_can_tell_a_missing_block() -> None:
    """A guard for the tests above: a source that loses a block is noticed by the kernel, not read over."""
    rows = [(b"%05d" % n, b"x" * 50) for n in range(400)]
    (made,) = make_tables(plain, [plain.SortedRows(rows)], block_bytes=1000)
    table = made.open(plain, plain.BlockCache(0))
    assert isinstance(table.source, MemorySource)
    table.source.data = table.source.data[: len(table.source.data) // 2]
    with pytest.raises(CorruptionError):
        all_rows(plain.Scan([], plain.Levels([[table]]), None, None, 1))
