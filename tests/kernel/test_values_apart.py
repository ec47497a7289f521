"""Values that stand apart from their tables: what streams write in their place, and how reads fill them in; both kinds of kernels alike."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.kinds import POINTER_BYTES, Kind
from lsmsql.errors import CorruptionError
from tests.kernel.stream_world import KERNELS, World, compiled, make_memtable, make_tables, make_world, needs_compiled, random_entries

APART = 20


class Store:
    """Values in a dict. reads: how many were."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.reads = 0

    def put(self, value: bytes) -> bytes:
        assert type(value) is bytes and len(value) >= APART
        pointer = b"%012d" % len(self.values) + len(value).to_bytes(4, "little") + bytes(8)
        self.values[pointer] = value
        return pointer

    def read(self, key: bytes, pointer: bytes) -> bytes:
        self.reads += 1
        return self.values[pointer]

    def read_many(self, keys: Sequence[bytes], pointers: Sequence[bytes]) -> list[bytes]:
        return [self.read(key, pointer) for key, pointer in zip(keys, pointers, strict=True)]


class ApartWorld:
    def __init__(self, kernels: Any, seed: int, **settings: Any) -> None:
        self.store = Store()
        self.kernels = kernels
        self.world: World = make_world(kernels, seed, apart_bytes=APART, put_apart=self.store.put, **settings)
        self.levels = kernels.Levels(self.world.levels, self.store)

    def scan(self, *bounds: bytes | None, seqno: int | None = None, **options: Any) -> Any:
        lower, upper = bounds or (None, None)
        return self.kernels.Scan(self.world.memtables, self.levels, lower, upper, self.world.last if seqno is None else seqno, **options)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kernels", KERNELS)
def test_reads_fill_values_in(kernels: Any, seed: int) -> None:
    apart = ApartWorld(kernels, seed)
    world, rng = apart.world, random.Random(seed)
    assert len(apart.store.values) > 10
    keys = [*world.versions, b"absent"]
    for seqno in (world.last, world.last // 2, world.last // 4):
        rows = dict(world.rows(seqno=seqno))
        assert kernels.get_many(world.memtables, apart.levels, keys, seqno) == [rows.get(key) for key in keys]
        for key in rng.sample(keys, 40):
            assert kernels.get(world.memtables, apart.levels, key, seqno) == rows.get(key)
            entry = kernels.get_entry(world.memtables, apart.levels, key, seqno)
            assert (entry[2] if entry is not None and entry[1] == Kind.VALUE else None) == rows.get(key)
        for reverse in (False, True):
            assert list(apart.scan(seqno=seqno, reverse=reverse)) == world.rows(seqno=seqno, reverse=reverse)
            assert list(apart.scan(seqno=seqno, reverse=reverse, limit=7)) == world.rows(seqno=seqno, reverse=reverse, limit=7)
            assert list(apart.scan(seqno=seqno, reverse=reverse, since=seqno // 2)) == world.rows(seqno=seqno, reverse=reverse, since=seqno // 2)
            scan, found = apart.scan(seqno=seqno, reverse=reverse), []
            while (block := scan.next_block()) is not None:
                assert set(block.kinds()) == {Kind.VALUE}
                found += zip(block.keys(), block.seqnos(), block.kinds(), block.values(), strict=True)
            assert found == world.entries(seqno=seqno, reverse=reverse)


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_scan_that_does_not_ask_for_values_reads_none(kernels: Any) -> None:
    apart = ApartWorld(kernels, 3)
    keys = [key for key, _ in apart.world.rows()]
    for reverse in (False, True):
        assert [key for key, _ in apart.scan(reverse=reverse, valued=False)] == (keys[::-1] if reverse else keys)
        scan, found = apart.scan(reverse=reverse, valued=False), []
        while (block := scan.next_block()) is not None:
            assert set(block.kinds()) == {Kind.VALUE}
            found += block.keys()
        assert found == (keys[::-1] if reverse else keys)
    assert not apart.store.reads


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_scan_reads_some_mib_of_values_at_a_time(kernels: Any) -> None:
    store = Store()
    rows = [(b"%03d" % number, b"v" * APART) for number in range(60)]
    made = make_tables(
        kernels, [kernels.SortedRows(rows)], apart_bytes=APART, put_apart=lambda value: store.put(value)[:12] + b"\x00\x00\x10\x00" + bytes(8)
    )
    store.values = {pointer[:12] + b"\x00\x00\x10\x00" + bytes(8): value for pointer, value in store.values.items()}
    levels = kernels.Levels([[made[0].open(kernels, kernels.BlockCache(0))]], store)
    scan = kernels.Scan([], levels, None, None, 1)
    assert scan.fill(60) == rows[:4] and store.reads == 4  # A MiB each.
    block = scan.next_block()
    assert list(block.items()) == rows[4:8] and store.reads == 8
    assert list(scan) == rows[8:]


@pytest.mark.parametrize("kernels", KERNELS)
def test_merging_moves_pointers_and_lists_those_of_each_table(kernels: Any) -> None:
    store = Store()
    entries = random_entries(random.Random(5), 60, 60)
    first = make_tables(kernels, [make_memtable(kernels, entries)], apart_bytes=APART, put_apart=store.put)
    kept = len(store.values)
    assert kept and first[0].summary.pointers == b"".join(store.values)
    opened = [table.open(kernels, kernels.BlockCache(0)) for table in first]
    merged = make_tables(kernels, opened, floor=60, bottom=True, table_bytes=500, apart_bytes=APART, put_apart=store.put)
    assert len(store.values) == kept and not store.reads and len(merged) > 1
    for table in merged:
        found = table.open(kernels, kernels.BlockCache(0))
        blocks = [found.block(number) for number in range(found.blocks)]
        pointers = [value for block in blocks for kind, value in zip(block.kinds(), block.values(), strict=True) if kind == Kind.BLOB_POINTER]
        assert table.summary.pointers == b"".join(pointers)
        assert all(seqno == 0 for block in blocks for seqno in block.seqnos())


@pytest.mark.parametrize("kernels", KERNELS)
def test_without_a_store_a_pointer_is_damage_and_no_value(kernels: Any) -> None:
    store = Store()
    made = make_tables(kernels, [kernels.SortedRows([(b"k", b"v" * APART)])], apart_bytes=APART, put_apart=store.put)
    levels = kernels.Levels([[made[0].open(kernels, kernels.BlockCache(0))]])
    for read in (kernels.get, kernels.get_entry, lambda *place: kernels.get_many(place[0], place[1], [place[2]], place[3])):
        with pytest.raises(CorruptionError, match="key b'k'"):
            read([], levels, b"k", 9)
    with pytest.raises(CorruptionError, match="key b'k'"):
        list(kernels.Scan([], levels, None, None, 9))


@pytest.mark.parametrize("kernels", KERNELS)
def test_what_puts_a_value_apart_may_fail_or_give_nonsense(kernels: Any) -> None:
    def failing(value: bytes) -> bytes:
        raise OSError("no room")

    for put, error in ((failing, OSError), (lambda value: value, ValueError), (lambda value: None, ValueError)):
        with pytest.raises(error):
            make_tables(kernels, [kernels.SortedRows([(b"k", b"v" * (POINTER_BYTES + 1))])], apart_bytes=APART, put_apart=put)


@needs_compiled
@pytest.mark.parametrize("seed", range(6))
def test_both_kernels_write_the_same_tables(seed: int) -> None:
    rng = random.Random(seed)
    entries = random_entries(rng, 300, 80)
    settings: dict[str, Any] = {
        "block_bytes": rng.choice((1, 200, 600)),
        "table_bytes": rng.choice((700, 1 << 30)),
        "checked": rng.random() < 0.5,
        "restart_interval": rng.choice((0, 3)),
        "floor": rng.choice((0, 40)),
        "snapshots": (7, 20),
        "bottom": rng.random() < 0.5,
    }
    made = []
    for kernels in (plain, compiled()):
        store = Store()
        tables = make_tables(kernels, [make_memtable(kernels, entries)], apart_bytes=APART, put_apart=store.put, **settings)
        made.append(([(table.frames, table.summary) for table in tables], store.values))
    assert made[0] == made[1]
