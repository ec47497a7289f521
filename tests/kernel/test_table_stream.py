"""Table streams keep exactly what some reader may still need, cut blocks and tables where the format says, and describe them truly."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from types import ModuleType
from typing import Any

import pytest
import xxhash

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.kinds import FilterKind, Kind
from lsmsql.engine.storage.compression import decompress
from lsmsql.errors import CorruptionError, UsageError

from .stream_world import (
    KERNELS,
    OVERHEAD,
    PARITIES,
    SETTINGS,
    Entry,
    FinishedTable,
    MemorySource,
    compiled,
    drain,
    make_memtable,
    make_tables,
    needs_compiled,
    random_entries,
)

SPACE = 250


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry[0], -entry[1]))


def expected_entries(entries: Sequence[Entry], floor: int, snapshots: Sequence[int] = (), bottom: bool = False) -> list[Entry]:
    """The retention rules, said as plainly as they can be (engine rules 3 and 4)."""
    readers = {floor, *(seqno for seqno in snapshots if seqno < floor)}
    kept: list[Entry] = []
    for _, group in groupby(in_order(entries), key=itemgetter(0)):
        versions = list(group)
        needed = {id(version) for version in versions if version[1] > floor}
        for reader in readers:
            needed |= {id(version) for version in versions if version[1] == max((v[1] for v in versions if v[1] <= reader), default=-1)}
        left = [version for version in versions if id(version) in needed]
        while bottom and left and left[-1][2] == Kind.TOMBSTONE and left[-1][1] <= floor:
            left.pop()
        if bottom and left and left[-1][2] == Kind.VALUE and left[-1][1] <= min(readers):
            left[-1] = (left[-1][0], 0, left[-1][2], left[-1][3])
        kept += left
    return kept


def blocks_of(made: FinishedTable) -> Iterator[list[Entry]]:
    """The decoded blocks of a finished table, in order."""
    source, position, ordinal = MemorySource(made.frames, made.sealed, made.parity), 0, 0
    while position < len(made.frames):
        size = 40 + int.from_bytes(made.frames[position + 12 : position + 16], "little")
        size += made.parity.parity_length(size)
        codec, raw_length, payload = source.open(ordinal, position, made.frames[position : position + size])
        block = plain.decode_block(decompress(payload, codec, raw_length))
        yield list(zip(block.keys(), block.seqnos(), block.kinds(), block.values(), strict=True))
        position, ordinal = position + size, ordinal + 1


def entries_of(tables: Sequence[FinishedTable]) -> list[Entry]:
    return [entry for table in tables for block in blocks_of(table) for entry in block]


def check_table(made: FinishedTable, settings: dict[str, Any]) -> None:
    """The summary, index and filter say of the blocks what the blocks say of themselves."""
    blocks = list(blocks_of(made))
    entries = [entry for block in blocks for entry in block]
    keys = [entry[0] for entry in entries]
    summary = made.summary
    assert in_order(entries) == entries
    assert (summary.smallest, summary.largest) == (keys[0], keys[-1])
    assert (summary.blocks, summary.entries, summary.keys) == (len(blocks), len(entries), len(set(keys)))
    assert summary.tombstones == sum(entry[2] == Kind.TOMBSTONE for entry in entries)
    assert (summary.min_seqno, summary.max_seqno) == (min(entry[1] for entry in entries), max(entry[1] for entry in entries))
    assert summary.raw_bytes == sum(len(entry[0]) + len(entry[3]) for entry in entries)
    mask = 0
    for entry in entries:
        mask |= 1 << entry[2]
    assert summary.kind_mask == mask
    check_index(made, blocks)
    kind = settings.get("filter_kind", FilterKind.BLOOM)
    kind = kind(summary.smallest, summary.largest) if callable(kind) else kind
    assert all(plain.may_contain(summary.filter, key) for key in keys)
    assert summary.filter == plain.build_filter([xxhash.xxh3_64_intdigest(key) for key in dict.fromkeys(keys)], settings["filter_bits"], kind)
    assert summary.filter_kind == (kind if settings["filter_bits"] else FilterKind.NONE)
    assert bool(summary.filter) == (summary.filter_kind != FilterKind.NONE)
    for number, block in enumerate(blocks):
        sizes = [len(entry[0]) + len(entry[3]) + 8 for entry in block]
        assert sum(sizes[:-1]) < settings["block_bytes"]
        if number < len(blocks) - 1 and made.summary.data_bytes < settings["table_bytes"]:
            assert sum(sizes) >= settings["block_bytes"]


def check_index(made: FinishedTable, blocks: list[list[Entry]]) -> None:
    index = made.summary.index
    (count,) = struct.unpack_from("<I", index)
    numbers = struct.unpack_from(f"<{count}I{count}I{count}Q{count}Q{count}B{count}H", index, 4)
    sizes, counts, minima, maxima, masks, lengths = (numbers[n * count : (n + 1) * count] for n in range(6))
    assert count == len(blocks)
    assert sum(sizes) == made.summary.data_bytes == len(made.frames)
    last_keys = [block[-1][0] for block in blocks]
    assert lengths == tuple(map(len, last_keys))
    assert index[4 + 27 * count :] == b"".join(last_keys)
    for n, block in enumerate(blocks):
        assert counts[n] == len(block)
        assert minima[n] == min(entry[1] for entry in block)
        assert maxima[n] == max(entry[1] for entry in block)
        keys = [entry[0] for entry in block]
        mask = 0
        if len(set(keys)) < len(keys) or (n and last_keys[n - 1] == keys[0]) or (n + 1 < count and blocks[n + 1][0][0] == keys[-1]):
            mask = 0x80
        for entry in block:
            mask |= 1 << entry[2]
        assert masks[n] == mask


def some_settings(rng: random.Random, last: int) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "floor": rng.choice((0, last, rng.randrange(last))),
        "snapshots": sorted(rng.sample(range(last + 10), rng.randrange(4))),
        "bottom": rng.random() < 0.5,
        "block_bytes": rng.choice((1, 60, 500, 5000)),
        "table_bytes": rng.choice((1, 900, 4000, 1 << 40)),
        "filter_bits": rng.choice((0, 7, 10, 64)),
        "filter_kind": rng.choice((*FilterKind, lambda smallest, largest: FilterKind(len(smallest + largest) % 3))),
        "compression_level": rng.choice((0, 1, 3)),
        "overhead": rng.choice((0, 0, OVERHEAD)),
        "parity": rng.choice(PARITIES),
        "chunk_bytes": rng.choice((1, 700, 1 << 20)),
        "restart_interval": rng.choice((0, 0, 1, 3, 16, 255)),
        "hash_ratio": rng.choice((0.0, 0.75, 1.33)),
    }
    if rng.random() < 0.3:
        rng.shuffle(settings["snapshots"])
    return settings


@pytest.mark.parametrize("kernels", KERNELS)
def test_layouts_out_of_range_are_refused(kernels: ModuleType) -> None:
    for layout in ({"restart_interval": 256}, {"restart_interval": -1}, {"restart_interval": 16, "hash_ratio": 8.5}):
        with pytest.raises(UsageError, match="restart interval and hash ratio"):
            kernels.TableStream([], **{**SETTINGS, **layout})


def split_sources(kernels: ModuleType, rng: random.Random, entries: Sequence[Entry]) -> list[Any]:
    """The same entries as memtables, single tables and runs, some sealed, some ending in the middle of a key's versions."""
    cache = kernels.BlockCache(1 << 20)
    by_age: list[list[Entry]] = [[] for _ in range(rng.randrange(1, 7))]
    last = max(entry[1] for entry in entries)
    for entry in entries:
        by_age[entry[1] * len(by_age) // (last + 1)].append(entry)
    sources: list[Any] = []
    for part in filter(None, by_age):
        memtable = make_memtable(kernels, part)
        style = rng.randrange(3)
        if style == 0:
            sources.append(memtable)
            continue
        run = style == 1
        made = make_tables(
            kernels,
            [memtable],
            overhead=rng.choice((0, OVERHEAD)),
            parity=rng.choice(PARITIES),
            block_bytes=rng.choice((1, 300, 2000)),
            table_bytes=1500 if run else 1 << 40,
        )
        tables = [table.open(kernels, cache) for table in made]
        sources.append(tables if run else tables[0])
    rng.shuffle(sources)
    return sources


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("seed", range(40))
def test_a_stream_keeps_what_readers_need_and_describes_it(kernels: ModuleType, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    entries = random_entries(rng, SPACE if seed % 3 else 9, commits=rng.choice((3, 60, 150)))
    last = max(entry[1] for entry in entries)
    settings = some_settings(rng, last)
    chunks, tables = drain(kernels.TableStream(split_sources(kernels, rng, entries), **settings), settings["parity"])
    rules = {name: settings[name] for name in ("floor", "snapshots", "bottom")}
    assert entries_of(tables) == expected_entries(entries, **rules)
    for table in tables:
        check_table(table, settings)
    for a, b in pairwise(tables):
        assert a.summary.largest < b.summary.smallest
    for chunk in chunks:
        assert bool(chunk.payloads) <= bool(settings["overhead"])
        assert not (chunk.frames and settings["overhead"])


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("seed", range(10))
def test_no_reader_can_tell_that_a_compaction_happened(kernels: ModuleType, seed: int) -> None:
    rng = random.Random(1000 + seed)
    entries = random_entries(rng, 40, commits=60, tombstones=0.5)
    last = max(entry[1] for entry in entries)
    floor = rng.randrange(last)
    snapshots = rng.sample(range(last), 3)
    tables = make_tables(kernels, split_sources(kernels, rng, entries), floor=floor, snapshots=snapshots, bottom=True)
    after = entries_of(tables)

    def state(of: Sequence[Entry], seqno: int) -> dict[bytes, bytes]:
        newest: dict[bytes, Entry] = {}
        for entry in of:
            if entry[1] <= seqno and (entry[0] not in newest or newest[entry[0]][1] < entry[1]):
                newest[entry[0]] = entry
        return {key: entry[3] for key, entry in newest.items() if entry[2] == Kind.VALUE}

    for seqno in {*range(floor, last + 1), *(s for s in snapshots if s < floor)}:
        assert state(after, seqno) == state(entries, seqno), (seqno, floor, snapshots)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("floor", "snapshots"), [(0, ()), (9, (1, 2, 3)), (30, (4, 20)), (30, ())])
def test_one_key_with_more_versions_than_should_wait_in_memory(kernels: ModuleType, floor: int, snapshots: tuple[int, ...]) -> None:
    """Tens of megabytes of versions, with tombstones among them, before a table's end and behind it."""
    entries = [(b"a", 1, int(Kind.VALUE), b"f" * 3_000_000), (b"c", 2, int(Kind.VALUE), b"last")]
    for seqno in range(1, 30):
        kind = Kind.TOMBSTONE if seqno in (1, 3, 4, 9, 28) else Kind.VALUE
        entries.append((b"b", seqno, int(kind), b"%02d" % seqno * 600_000 if kind == Kind.VALUE else b""))
    settings: dict[str, Any] = {**SETTINGS, "floor": floor, "snapshots": snapshots, "bottom": True, "block_bytes": 1_000_000, "table_bytes": 1}
    chunks, tables = drain(kernels.TableStream([make_memtable(kernels, entries)], **settings))
    assert entries_of(tables) == expected_entries(entries, floor, snapshots, True)
    assert len(tables) == 3
    for table in tables:
        check_table(table, settings)
    if kernels is not plain:
        assert (chunks, tables) == drain(plain.TableStream([make_memtable(plain, entries)], **settings))


@pytest.mark.parametrize("kernels", KERNELS)
def test_ingested_tables_are_merged_at_their_global_seqno(kernels: ModuleType) -> None:
    cache = kernels.BlockCache(1 << 20)
    ingested = make_tables(kernels, [kernels.SortedRows([(b"%03d" % n, b"in") for n in range(0, 100, 2)])])[0].open(kernels, cache, 40)
    old = [(b"%03d" % n, 1 + n, int(Kind.VALUE), b"old") for n in range(100)]
    tables = make_tables(kernels, [make_memtable(kernels, old), ingested], block_bytes=100)
    expected = in_order([*old, *((b"%03d" % n, 40, int(Kind.VALUE), b"in") for n in range(0, 100, 2))])
    assert entries_of(tables) == expected
    assert tables[0].summary.max_seqno == 100 and tables[0].summary.min_seqno == 1


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("count", [0, 1, 2, 5000])
@pytest.mark.parametrize("overhead", [0, OVERHEAD])
def test_sorted_rows_become_tables(kernels: ModuleType, count: int, overhead: int) -> None:
    rng = random.Random(count)
    rows = sorted({rng.randbytes(rng.randrange(12)): rng.randbytes(rng.randrange(60)) for _ in range(count)}.items())
    settings = {**SETTINGS, "block_bytes": 1000, "table_bytes": 30_000, "overhead": overhead, "chunk_bytes": 5000}
    chunks, tables = drain(kernels.TableStream([kernels.SortedRows(iter(rows))], **settings))
    assert entries_of(tables) == [(key, 0, Kind.VALUE, value) for key, value in rows]
    for table in tables:
        check_table(table, settings)
    if count == 5000:
        assert len(tables) > 3 and len(chunks) > 2 * len(tables)


@pytest.mark.parametrize("kernels", KERNELS)
def test_sorted_rows_refuse_what_does_not_ascend(kernels: ModuleType) -> None:
    good = [(b"%05d" % n, b"v") for n in range(3000)]
    for at, key in ((1, b"00000"), (1, b""), (2999, b"02998"), (1500, b"00001"), (2000, b"019999")[:2], (700, b"00699")):
        rows = list(good)
        rows[at] = (key, b"v")
        if all(a[0] < b[0] for a, b in pairwise(rows)):
            continue
        with pytest.raises(UsageError, match=f"row {at} |row {at + 1} "):
            drain(kernels.TableStream([kernels.SortedRows(rows)], **SETTINGS))


@pytest.mark.parametrize("kernels", KERNELS)
def test_sorted_rows_refuse_what_is_too_large_or_no_row(kernels: ModuleType) -> None:
    with pytest.raises(UsageError, match="row 1 to ingest"):
        drain(kernels.TableStream([kernels.SortedRows([(b"a", b""), (b"b" * 65_536, b"")])], **SETTINGS))
    rows: list[Any]
    for rows in ([("text", b"")], [(b"a", "text")], [(b"a", 5)], [(b"a",)], [(b"a", b"b", b"c")], [5], [None]):
        with pytest.raises((TypeError, ValueError)):
            drain(kernels.TableStream([kernels.SortedRows([(b"", b""), *rows])], **SETTINGS))


@pytest.mark.parametrize("kernels", KERNELS)
def test_an_iterable_that_raises_is_the_callers_error(kernels: ModuleType) -> None:
    def rows() -> Iterator[tuple[bytes, bytes]]:
        for n in range(1000):
            yield b"%05d" % n, b"v"
        raise ConnectionError("no more rows")

    with pytest.raises(ConnectionError, match="no more rows"):
        drain(kernels.TableStream([kernels.SortedRows(rows())], **SETTINGS))


@pytest.mark.parametrize("kernels", KERNELS)
def test_an_empty_stream_has_no_chunks(kernels: ModuleType) -> None:
    for sources in ([], [[]], [kernels.SortedRows([])]):
        assert kernels.TableStream(sources, **SETTINGS).next_chunk() is None
    gone = make_memtable(kernels, [(b"a", 1, int(Kind.TOMBSTONE), b""), (b"b", 2, int(Kind.TOMBSTONE), b"")])
    assert kernels.TableStream([gone], **{**SETTINGS, "floor": 5, "bottom": True}).next_chunk() is None


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_closed_stream_has_no_more_chunks(kernels: ModuleType) -> None:
    rows = [(b"%05d" % n, b"v" * 50) for n in range(3000)]
    stream = kernels.TableStream([kernels.SortedRows(rows)], **{**SETTINGS, "chunk_bytes": 1000})
    assert stream.next_chunk() is not None
    stream.close()
    assert stream.next_chunk() is None
    stream.close()


def damaged_sources(kernels: ModuleType) -> Iterator[tuple[str, Callable[[MemorySource], None]]]:
    def flip(position: int) -> Callable[[MemorySource], None]:
        def change(source: MemorySource) -> None:
            data = bytearray(source.data)
            data[position] ^= 4
            source.data = bytes(data)

        return change

    def cut(source: MemorySource) -> None:
        source.data = source.data[:-1]

    def swap(source: MemorySource) -> None:
        source.data = source.data[::-1]

    rng = random.Random(5)
    yield from ((f"flip {position}", flip(position)) for position in (*range(44), *(rng.randrange(44, 4000) for _ in range(60))))
    yield "cut", cut
    yield "swap", swap


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("sealed", [False, True])
def test_damage_stops_the_stream(kernels: ModuleType, sealed: bool) -> None:
    rng = random.Random(4)
    rows = sorted({rng.randbytes(8): rng.randbytes(20) for _ in range(400)}.items())
    (made,) = make_tables(kernels, [kernels.SortedRows(rows)], overhead=OVERHEAD if sealed else 0)
    assert len(made.frames) > 4000
    for name, change in damaged_sources(kernels):
        table = made.open(kernels, kernels.BlockCache(0))
        change(table.source)
        with pytest.raises(CorruptionError):
            print(name, len(drain(kernels.TableStream([table], **SETTINGS))[1]))


@pytest.mark.parametrize("kernels", KERNELS)
def test_blocks_in_the_wrong_place_stop_the_stream(kernels: ModuleType) -> None:
    rows = [(b"%05d" % n, b"v") for n in range(1000)]
    (made,) = make_tables(kernels, [kernels.SortedRows(rows)], compression_level=0, block_bytes=280)
    size = int.from_bytes(made.summary.index[4:8], "little")
    assert made.frames[12:16] == made.frames[size + 12 : size + 16]
    swapped = made.frames[size : 2 * size] + made.frames[:size] + made.frames[2 * size :]
    table = FinishedTable(swapped, made.summary).open(kernels, kernels.BlockCache(0))
    with pytest.raises(CorruptionError):
        drain(kernels.TableStream([table], **SETTINGS))


@pytest.mark.parametrize("kernels", KERNELS)
def test_streams_leave_the_cache_alone_and_read_in_large_steps(kernels: ModuleType) -> None:
    rows = [(b"%06d" % n, b"x" * 90) for n in range(20_000)]
    (made,) = make_tables(kernels, [kernels.SortedRows(rows)], block_bytes=4096, compression_level=0)
    cache = kernels.BlockCache(1 << 26)
    table = made.open(kernels, cache)
    again = make_tables(kernels, [table], block_bytes=4096, compression_level=0)
    assert again[0].frames == made.frames
    assert cache.used == 0
    assert table.source.reads <= 4


@needs_compiled
@pytest.mark.parametrize("seed", range(60))
def test_both_twins_make_the_same_bytes(seed: int) -> None:
    """Chunk by chunk: frames, payloads, indexes, filters and every number."""
    print(f"seed {seed}")
    kernels = compiled()
    rng = random.Random(5000 + seed)
    entries = random_entries(rng, SPACE if seed % 3 else 9, commits=rng.choice((3, 60, 150, 400)))
    settings = some_settings(rng, max(entry[1] for entry in entries))
    state = rng.getstate()
    results = []
    for twin in (plain, kernels):
        rng.setstate(state)
        results.append(drain(twin.TableStream(split_sources(twin, rng, entries), **settings), settings["parity"]))
    assert results[0] == results[1]


@needs_compiled
@pytest.mark.parametrize("overhead", [0, OVERHEAD])
@pytest.mark.parametrize("level", [0, 1, 3, 19])
def test_both_twins_make_the_same_bytes_of_rows(overhead: int, level: int) -> None:
    rng = random.Random(level)
    rows = sorted(
        {rng.randbytes(rng.choice((3, 8, 20))) + b"tail" * rng.randrange(80): rng.randbytes(20) * rng.randrange(8) for _ in range(3000)}.items()
    )
    rows += [(b"\xff" * 9, rng.randbytes(70_000)), (b"\xff" * 65_535, bytes(300_000))]
    settings = {**SETTINGS, "block_bytes": 4096, "table_bytes": 60_000, "compression_level": level, "overhead": overhead, "chunk_bytes": 20_000}
    kernels = compiled()
    ours, theirs = (drain(twin.TableStream([twin.SortedRows(rows)], **settings)) for twin in (plain, kernels))
    assert ours == theirs
