"""Point reads over memtables and tables, the block cache, and damage: both twins give the same answers and the same errors."""

from __future__ import annotations

import gc
import random
import struct
from typing import Any

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.kinds import FilterKind, Kind
from lsmsql.errors import CorruptionError

from .stream_world import (
    KERNELS,
    FinishedTable,
    MemorySource,
    World,
    compiled,
    make_memtable,
    make_tables,
    make_world,
    needs_compiled,
    random_entries,
    random_key,
)


def expected(world: World, key: bytes, seqno: int) -> tuple[int, int, bytes] | None:
    visible = [version for version in world.versions.get(key, ()) if version[0] <= seqno]
    return visible[-1] if visible else None


def some_keys(world: World, rng: random.Random, count: int) -> list[bytes]:
    known = sorted(world.versions)
    return [rng.choice(known) if rng.random() < 0.7 else random_key(rng, 600) + rng.choice((b"", b"\0", b"zz")) for _ in range(count)]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("cache_bytes", [0, 3000, 1 << 22])
@pytest.mark.parametrize("seed", range(3))
def test_gets_find_the_newest_visible_version(kernels: Any, cache_bytes: int, seed: int) -> None:
    world = make_world(kernels, seed, cache_bytes=cache_bytes, commits=40)
    rng = random.Random(seed)
    levels = kernels.Levels(world.levels)
    for seqno in (*range(0, world.last, max(1, world.last // 6)), world.last, (1 << 56) - 1):
        keys = some_keys(world, rng, 150)
        answers = [expected(world, key, seqno) for key in keys]
        assert [kernels.get_entry(world.memtables, levels, key, seqno) for key in keys] == answers
        values = [answer[2] if answer and answer[1] == Kind.VALUE else None for answer in answers]
        assert [kernels.get(world.memtables, levels, key, seqno) for key in keys] == values
        assert kernels.get_many(world.memtables, levels, keys, seqno) == values
        assert kernels.get_many(tuple(world.memtables), levels, tuple(keys[:33]), seqno) == values[:33]
    assert world.cache.used <= cache_bytes
    assert (world.cache.hits > 0) == (cache_bytes > 0)
    assert world.cache.misses > 0


@pytest.mark.parametrize("kernels", KERNELS)
def test_reads_without_levels_or_memtables(kernels: Any) -> None:
    memtable = make_memtable(kernels, [(b"k", 3, 1, b"v"), (b"gone", 4, 0, b"")])
    for levels in ([], [[]], [[], [], []]):
        empty = kernels.Levels(levels)
        assert kernels.get([], empty, b"k", 9) is None
        assert kernels.get_many([], empty, [], 9) == []
        assert kernels.get([memtable], empty, b"k", 9) == b"v"
        assert kernels.get([memtable], empty, b"k", 2) is None
        assert kernels.get_entry([memtable], empty, b"gone", 9) == (4, 0, b"")
        assert kernels.get_many([memtable], empty, [b"gone", b"k"], 9) == [None, b"v"]


@pytest.mark.parametrize("kernels", KERNELS)
def test_an_ingested_table_newer_than_the_memtable_wins(kernels: Any) -> None:
    cache = kernels.BlockCache(1 << 20)
    memtable = make_memtable(kernels, [(b"k", 5, 1, b"memtable"), (b"m", 5, 1, b"only")])
    made = make_tables(kernels, [kernels.SortedRows([(b"k", b"ingested")])])
    levels = kernels.Levels([[made[0].open(kernels, cache, 9)]])
    assert kernels.get([memtable], levels, b"k", 9) == b"ingested"
    assert kernels.get([memtable], levels, b"k", 8) == b"memtable"
    assert kernels.get_many([memtable], levels, [b"k", b"m"], 9) == [b"ingested", b"only"]
    assert kernels.get_entry([memtable], levels, b"k", 9) == (9, 1, b"ingested")


@pytest.mark.parametrize("kernels", KERNELS)
def test_versions_of_one_key_across_blocks(kernels: Any) -> None:
    entries = [(b"k", seqno, 1, b"%d" % seqno) for seqno in range(1, 40)] + [(b"a", 1, 1, b"a"), (b"z", 1, 0, b"")]
    made = make_tables(kernels, [make_memtable(kernels, entries)], block_bytes=30, floor=0)
    table = made[0].open(kernels, kernels.BlockCache(1 << 20))
    assert table.blocks > 10
    for seqno in range(41):
        assert table.get(b"k", seqno) == ((min(seqno, 39), 1, b"%d" % min(seqno, 39)) if seqno else None)
    assert table.get(b"z", 1) == (1, 0, b"")
    assert table.get(b"zz", 9) is table.get(b"", 9) is None


def one_table(seed: int, sealed: bool = False, **settings: Any) -> FinishedTable:
    entries = random_entries(random.Random(seed), 120, 60)
    made = make_tables(plain, [make_memtable(plain, entries)], overhead=28 if sealed else 0, **settings)
    return made[0]


@needs_compiled
@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("level", [0, 1, 3])
@pytest.mark.parametrize("interval", [0, 4])
def test_both_twins_read_the_same_table(sealed: bool, level: int, interval: int) -> None:
    made = one_table(1, sealed, compression_level=level, restart_interval=interval, hash_ratio=1.0)
    one, other = (made.open(kernels, kernels.BlockCache(2000)) for kernels in (plain, compiled()))
    for name in ("blocks", "entries", "smallest", "largest", "min_seqno", "max_seqno", "global_seqno"):
        assert getattr(one, name) == getattr(other, name), name
    rng = random.Random(2)
    for key in [random_key(rng, 200) for _ in range(400)]:
        assert one.get(key, 30) == other.get(key, 30)
        assert one.may_contain(key) == other.may_contain(key)
    for ordinal in range(one.blocks):
        mine, its = one.block(ordinal, keep=False), other.block(ordinal, keep=False)
        assert (mine.keys(), mine.seqnos(), mine.kinds(), mine.values()) == (its.keys(), its.seqnos(), its.kinds(), its.values())
    with pytest.raises(IndexError):
        other.block(other.blocks)


# --- damage


def outcome(kernels: Any, made: FinishedTable, frames: bytes, keys: list[bytes], cache_bytes: int = 1 << 20) -> list[Any]:
    table = FinishedTable(frames, made.summary, made.sealed).open(kernels, kernels.BlockCache(cache_bytes))
    found: list[Any] = []
    for key in keys:
        try:
            found.append(table.get(key, 1 << 50))
        except CorruptionError as error:
            found.append((error.offset, error.message))
    return found


@needs_compiled
@pytest.mark.parametrize(("sealed", "level", "interval"), [(False, 0, 0), (False, 1, 0), (True, 1, 0), (False, 0, 4), (True, 0, 4)])
def test_every_changed_byte_of_a_frame_is_the_same_error_to_both_twins(sealed: bool, level: int, interval: int) -> None:
    entries = [(b"key%02d" % n, n + 1, 1, b"value" * (n % 5)) for n in range(20)]
    settings = {"overhead": 28 if sealed else 0, "compression_level": level, "filter_bits": 0, "restart_interval": interval, "hash_ratio": 0.75}
    made = make_tables(plain, [make_memtable(plain, entries)], **settings)[0]
    keys = [b"key00", b"key19"]
    for position in range(len(made.frames)):
        frames = made.frames[:position] + bytes([made.frames[position] ^ 0x41]) + made.frames[position + 1 :]
        found = outcome(compiled(), made, frames, keys)
        assert found == outcome(plain, made, frames, keys), position
        assert found == outcome(compiled(), made, frames, keys, cache_bytes=0), position
        assert any(isinstance(answer[1], str) for answer in found), position
    for size in range(0, len(made.frames), 7):
        assert outcome(compiled(), made, made.frames[:size], keys) == outcome(plain, made, made.frames[:size], keys)


class Lying(MemorySource):
    """A source whose frames pass every check, but hold what `lie` says: (codec, raw length, payload)."""

    def __init__(self, size: int, lie: tuple[int, int, bytes]) -> None:
        super().__init__(bytes(size), sealed=True)
        self.lie = lie

    def open(self, ordinal: int, offset: int, frame: bytes) -> tuple[int, int, bytes]:
        return self.lie


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("global_seqno", [0, 40])
@pytest.mark.parametrize("cache_bytes", [0, 700, 1 << 20])
def test_rows_are_looked_up_alike_whether_the_cache_can_keep_them_or_not(kernels: Any, global_seqno: int, cache_bytes: int) -> None:
    """Versions across restarts and blocks, tombstones, a block larger than the cache."""
    entries = [(b"k", seqno, seqno % 5 != 0, b"%d" % seqno if seqno % 5 else b"") for seqno in range(1, 30)]
    entries += [(b"a", 1, 1, b"a"), (b"big", 7, 1, b"x" * 100_000), (b"z", 3, 0, b"")]
    made = make_tables(plain, [make_memtable(plain, entries)], block_bytes=60, restart_interval=2, hash_ratio=0.75)
    cache = kernels.BlockCache(cache_bytes)
    table = made[0].open(kernels, cache, global_seqno)
    assert table.blocks > 4
    for seqno in (0, 1, 39, *range(global_seqno, global_seqno + 31)):
        for key in (b"a", b"big", b"k", b"z", b"", b"b", b"kk", b"zz"):
            visible = [entry for entry in entries if entry[0] == key and entry[1] + global_seqno <= seqno]
            newest = max(visible, key=lambda entry: entry[1], default=None)
            expected = newest and (newest[1] + global_seqno, newest[2], newest[3])
            assert table.get(key, seqno) == expected, (key, seqno)
            levels = kernels.Levels([[table]])
            assert kernels.get_many([], levels, [key], seqno) == [expected[2] if expected and expected[1] else None]
    assert cache.used <= cache_bytes


@needs_compiled
def test_a_block_of_rows_that_is_not_the_one_described_is_refused_uncached() -> None:
    made = make_tables(plain, [make_memtable(plain, [(b"a", 1, 1, b"x"), (b"b", 2, 1, b"y")])], restart_interval=2, compression_level=0)[0]
    others = [([b"a", b"c"], [1, 2]), ([b"a", b"b", b"b"], [1, 3, 2]), ([b"b"], [2])]
    for keys, seqnos in others:
        raw = plain.encode_rows(plain.Block(keys, seqnos, [1] * len(keys), [b""] * len(keys)))
        for kernels in (plain, compiled()):
            table = kernels.Table(Lying(len(made.frames), (0, len(raw), raw)), made.summary.index, b"", b"a", kernels.BlockCache(0))
            with pytest.raises(CorruptionError, match="not the one the index describes"):
                table.get(b"a", 9)


@needs_compiled
def test_payloads_that_pass_their_checksum_and_make_no_sense() -> None:
    made = one_table(3, block_bytes=1 << 20)
    block = plain.Block([b"a", b"b"], [1, 2], [1, 1], [b"x" * 50, b"x" * 50])
    raw = plain.encode_block(block)
    import zstandard

    packed = zstandard.ZstdCompressor(level=1).compress(raw)
    lies = [
        (0, len(raw), raw),  # A good block, but not this one.
        (0, len(raw) + 1, raw),
        (0, 0, b""),
        (1, len(raw), packed),
        (1, len(raw) + 1, packed),
        (1, 0, packed),
        (1, 1_000_000_000, packed),
        (1, len(raw), packed[:-1]),
        (1, len(raw), packed + b"\0"),
        (1, len(raw), packed + zstandard.ZstdCompressor().compress(b"")),
        (1, len(raw), raw),
        (1, len(raw), zstandard.ZstdCompressor(write_content_size=False).compress(raw)),
        (2, len(raw), raw),
        *((0, len(bad), bad) for bad in (raw[:20], raw[:-1], b"\xff" * 60, raw[:4] + b"\2" + raw[5:])),
    ]
    for lie in lies:
        answers = []
        for kernels in (plain, compiled()):
            source = Lying(len(made.frames), lie)
            table = kernels.Table(source, made.summary.index, b"", made.summary.smallest, kernels.BlockCache(1 << 20))
            with pytest.raises(CorruptionError) as caught:
                table.get(made.summary.largest, 1 << 50)
            answers.append((caught.value.offset, caught.value.message))
        assert answers[0] == answers[1], lie


def index_outcome(kernels: Any, index: bytes, filter_bytes: bytes, smallest: bytes) -> Any:
    try:
        table = kernels.Table(MemorySource(b""), index, filter_bytes, smallest, kernels.BlockCache(1 << 20))
    except ValueError as error:
        return str(error)
    return table.blocks, table.entries, table.min_seqno, table.max_seqno, table.largest


@needs_compiled
@pytest.mark.parametrize("kind", [FilterKind.BLOOM, FilterKind.BURR])
def test_both_twins_judge_damaged_indexes_and_filters_alike(kind: FilterKind) -> None:
    made = one_table(4, block_bytes=400, filter_kind=kind).summary
    refused = 0
    variants = [(made.index[:n], made.filter) for n in range(0, len(made.index), 5)]
    for position in range(len(made.index)):
        for change in (1, 0x80, 0xFF):
            variants.append((made.index[:position] + bytes([made.index[position] ^ change]) + made.index[position + 1 :], made.filter))
    for position in range(8):
        for change in range(1, 256):
            variants.append((made.index, made.filter[:position] + bytes([made.filter[position] ^ change]) + made.filter[position + 1 :]))
    variants += [(made.index, made.filter[:n]) for n in range(0, len(made.filter), 3)] + [(made.index, made.filter + b"\0")]
    for index, filter_bytes in variants:
        found = index_outcome(compiled(), index, filter_bytes, made.smallest)
        assert found == index_outcome(plain, index, filter_bytes, made.smallest)
        refused += isinstance(found, str)
    assert 100 < refused < len(variants)
    assert index_outcome(compiled(), made.index, b"", made.largest + b"x") == index_outcome(plain, made.index, b"", made.largest + b"x")


@needs_compiled
def test_indexes_whose_keys_share_a_long_prefix() -> None:
    for prefix in (b"", b"p", b"prefix-of-20-bytes-/", b"q" * 300):
        keys = [prefix + bytes([n]) * (n % 11) for n in range(1, 120)]
        entries = [(key, n + 1, 1, b"v%d" % n) for n, key in enumerate(sorted(keys))]
        made = make_tables(plain, [make_memtable(plain, entries)], block_bytes=1)[0]
        one, other = (made.open(kernels, kernels.BlockCache(1 << 20)) for kernels in (plain, compiled()))
        assert one.blocks == len(keys)
        probes = [*keys, *(key + b"\0" for key in keys), *(key[:-1] for key in keys), b"", prefix, prefix[:-1], b"\xff", prefix + b"\xff" * 30]
        for key in probes:
            assert one.get(key, 1 << 50) == other.get(key, 1 << 50)


# --- the cache


@needs_compiled
def test_a_release_forgets_blocks_but_not_those_in_hand() -> None:
    made = one_table(5, block_bytes=300)
    cache = compiled().BlockCache(1 << 20)
    table = made.open(compiled(), cache)
    blocks = [table.block(n) for n in range(table.blocks)]
    contents = [block.items() for block in blocks]
    assert cache.used > 0
    table.release()
    assert cache.used == 0
    assert [block.items() for block in blocks] == contents
    again = [table.block(n).items() for n in range(table.blocks)]
    assert again == contents
    del table
    gc.collect()
    assert cache.used == 0
    assert [block.items() for block in blocks] == contents


@needs_compiled
def test_pinned_blocks_are_not_evicted_and_the_capacity_holds() -> None:
    made = one_table(6, block_bytes=300)
    cache = compiled().BlockCache(3000)
    table = made.open(compiled(), cache)
    blocks = [table.block(n) for n in range(table.blocks)]
    assert table.blocks > 12
    assert cache.used <= 3000
    contents = [block.items() for block in blocks]
    blocks = blocks[:2]
    for _ in range(3):
        assert [table.block(n).items() for n in range(table.blocks)] == contents
        assert [block.items() for block in blocks] == contents[:2]
    assert cache.evictions > 0
    assert cache.used <= 3000


@needs_compiled
def test_a_cache_keeps_what_is_used() -> None:
    made = one_table(7, block_bytes=300)
    cache = compiled().BlockCache(4000)
    table = made.open(compiled(), cache)
    for n in range(table.blocks):
        table.block(0)
        table.block(n)
    before = cache.misses
    table.block(0)
    assert cache.misses == before


@needs_compiled
def test_a_block_that_arrives_while_its_own_read_waits_is_used() -> None:
    made = one_table(8, block_bytes=300)
    source = MemorySource(made.frames)
    cache = compiled().BlockCache(1 << 20)
    table = compiled().Table(source, made.summary.index, b"", made.summary.smallest, cache)
    depth = 0

    def read_again() -> None:
        nonlocal depth
        if depth < 3:
            depth += 1
            table.block(0)

    source.on_read = read_again
    first = table.block(0)
    assert source.reads == 4
    used = cache.used
    source.on_read = None
    assert table.block(0).items() == first.items()
    assert cache.used == used
    assert source.reads == 4


@needs_compiled
def test_a_table_released_while_a_read_of_it_waits() -> None:
    made = one_table(9, block_bytes=300)
    source = MemorySource(made.frames)
    table = compiled().Table(source, made.summary.index, b"", made.summary.smallest, compiled().BlockCache(2000))
    source.on_read = table.release
    for key in [random_key(random.Random(n), 120) for n in range(200)]:
        table.get(key, 1 << 50)


@needs_compiled
def test_big_values_and_many_keys_at_once() -> None:
    rng = random.Random(10)
    rows = [(b"%06d" % n, rng.randbytes(3_000_000) if n == 70 else b"v%d" % n) for n in range(200)]
    made = make_tables(plain, [plain.SortedRows(rows)], block_bytes=4096)
    for cache_bytes in (0, 1 << 16, 1 << 24):
        levels = compiled().Levels([[], [made[0].open(compiled(), compiled().BlockCache(cache_bytes), 5)]])
        keys = [key for key, _ in rows] + [b"missing%d" % n for n in range(50)]
        rng.shuffle(keys)
        assert compiled().get_many([], levels, keys, 9) == [dict(rows).get(key) for key in keys]


@needs_compiled
def test_wrong_arguments_are_type_errors() -> None:
    kernels = compiled()
    levels = kernels.Levels([])
    for call in (kernels.get, kernels.get_entry, lambda memtables, levels, key, seqno: kernels.get_many(memtables, levels, [key], seqno)):
        for key in ("k", None, 3, bytearray(b"k"), memoryview(b"k")):
            with pytest.raises(TypeError):
                call([], levels, key, 1)
        for memtables in ([None], [3], None):
            with pytest.raises(TypeError):
                call(memtables, levels, b"k", 1)
        with pytest.raises(TypeError):
            call([], None, b"k", 1)
        with pytest.raises(OverflowError):
            call([], levels, b"k", -1)
    for bad in ([[3]], [[None]], 3):
        with pytest.raises(TypeError):
            kernels.Levels(bad)


@needs_compiled
def test_filters_are_the_same_bytes() -> None:
    rng = random.Random(11)
    for count in (0, 1, 2, 51, 52, 1000):
        hashes = [rng.getrandbits(64) for _ in range(count)]
        for bits in (0, 1, 7, 10, 14, 40):
            assert compiled().build_filter(hashes, bits) == plain.build_filter(hashes, bits)
    keys = [rng.randbytes(8) for _ in range(500)]
    import xxhash

    made = plain.build_filter([xxhash.xxh3_64_intdigest(key) for key in keys], 10)
    for key in [*keys, *(rng.randbytes(8) for _ in range(2000))]:
        assert compiled().may_contain(made, key) == plain.may_contain(made, key)
    assert struct.unpack_from("<I", made)[0] > 1
