"""Blocks stored in parts, in both twins: the same bytes; each part read alone but for the lead, whichever way leads there; damage told."""

from __future__ import annotations

import random
from types import ModuleType
from typing import Any

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.storage.block_frame import HEADER_BYTES
from lsmsql.engine.storage.compression import LEAD_BYTES_MAX, Codec
from lsmsql.errors import CorruptionError, UsageError

from ..storage.dictionary_world import json_dictionary, json_rows
from .stream_world import KERNELS, OVERHEAD, PARITIES, SETTINGS, FinishedTable, MemorySource, compiled, drain, make_tables, needs_compiled
from .test_dictionaries import renamed
from .test_sealing import drain_raw, frames_of

ROWS = json_rows(600)
LAST = 1 << 50
PARTS = 6


def made_of(kernels: ModuleType, rows: Any = ROWS, **settings: Any) -> FinishedTable:
    (made,) = make_tables(kernels, [kernels.SortedRows(rows)], **{"block_bytes": 1500, "block_parts": PARTS, **settings})
    return made


def frames(made: FinishedTable) -> list[bytes]:
    """Of each block, without parity."""
    found, at = [], 0
    while at < len(made.frames):
        size = HEADER_BYTES + int.from_bytes(made.frames[at + 12 : at + 16], "little")
        found.append(made.frames[at : at + size])
        at += size + made.parity.parity_length(size)
    return found


@needs_compiled
@pytest.mark.parametrize("overhead", [0, OVERHEAD])
@pytest.mark.parametrize("level", [1, 2, 3, 5, 9, 13, 16, 19])
@pytest.mark.parametrize("parts", [2, 5, 256])
def test_both_twins_make_the_same_bytes(overhead: int, level: int, parts: int) -> None:
    source = random.Random(level)
    rows = [*ROWS[:300], *((b"9%04d" % n, source.randbytes(300)) for n in range(30))]
    rows += [(b"a%07d" % size, (b"".join(value for _, value in ROWS) * 8)[:size]) for size in (9000, 40_000, 140_000, 600_000)]
    for block_bytes in (1, 700, 4096, 17_000):
        settings = {
            **SETTINGS,
            "block_bytes": block_bytes,
            "compression_level": level,
            "overhead": overhead,
            "block_parts": parts,
            "chunk_bytes": 9000,
        }
        ours, theirs = (drain(twin.TableStream([twin.SortedRows(rows)], **settings)) for twin in (plain, compiled()))
        assert ours == theirs
        if not overhead:
            deferred = drain_raw(compiled().TableStream([compiled().SortedRows(rows)], **settings, deferred=True), 2)
            assert frames_of(deferred) == [table.frames for table in ours[1]]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("parity", PARITIES)
@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("interval", [0, 4])
@pytest.mark.parametrize("cut", [{}, {"partition_bytes": 100}], ids=["full", "partitioned"])
def test_parts_are_read_in_every_way(kernels: ModuleType, parity: int, sealed: bool, interval: int, cut: dict[str, int]) -> None:
    made = made_of(kernels, overhead=OVERHEAD if sealed else 0, parity=parity, restart_interval=interval, **cut)
    alone = made_of(kernels, block_parts=1, overhead=OVERHEAD if sealed else 0, parity=parity, restart_interval=interval, **cut)
    assert len(made.frames) < 0.95 * len(alone.frames) and made.summary.blocks == alone.summary.blocks
    assert bool(made.summary.partitions) == bool(cut)
    codecs = [frame[4] for frame in frames(made)]
    assert codecs == [Codec.ZSTD_LEAD if number % PARTS else Codec.ZSTD for number in range(len(codecs))]
    for cache_bytes in (0, 1 << 20):
        table = made.open(kernels, kernels.BlockCache(cache_bytes))
        levels = kernels.Levels([[table]])
        assert [table.get(key, LAST)[2] for key, _ in ROWS[::37]] == [value for _, value in ROWS[::37]]
        assert kernels.get_many([], levels, [key for key, _ in ROWS], LAST) == [value for _, value in ROWS]
        for keep in (False, True):
            for reverse in (False, True):
                found = list(kernels.Scan([], levels, None, None, LAST, keep=keep, reverse=reverse))
                assert found == (ROWS[::-1] if reverse else ROWS)
                found = list(kernels.Scan([], levels, ROWS[200][0], ROWS[217][0], LAST, keep=keep, reverse=reverse))
                assert found == (ROWS[200:217][::-1] if reverse else ROWS[200:217])
        again = make_tables(kernels, [table], block_bytes=700, block_parts=3)[0]
        assert list(kernels.Scan([], kernels.Levels([[again.open(kernels, kernels.BlockCache(0))]]), None, None, LAST)) == ROWS
        raws = [table.raw_block(number) for number in range(table.blocks)[::-1]]
        assert [key for raw in raws[::-1] for key in list(kernels.decode_block(raw).keys())] == [key for key, _ in ROWS]


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_get_reads_its_part_and_the_lead_alone(kernels: ModuleType) -> None:
    made = made_of(kernels)
    for number in range(made.summary.blocks):
        table = made.open(kernels, kernels.BlockCache(0))
        key = kernels.decode_block(table.raw_block(number)).keys()[0]
        table = made.open(kernels, kernels.BlockCache(0))  # One that holds no lead.
        assert table.get(bytes(key), LAST) is not None
        assert table.source.reads == (2 if number % PARTS else 1)


@pytest.mark.parametrize("kernels", KERNELS)
def test_several_tables_are_merged_each_by_its_own_leads(kernels: ModuleType) -> None:
    runs = [made_of(kernels, ROWS[n::3]).open(kernels, kernels.BlockCache(0)) for n in range(3)]
    merged = made_of_tables(kernels, runs)
    assert [run.source.reads for run in runs] == [1, 1, 1], "a lead that was decoded on the way is not read again"
    assert list(kernels.Scan([], kernels.Levels([[merged]]), None, None, LAST)) == ROWS
    assert list(kernels.Scan([], kernels.Levels([runs]), None, None, LAST)) == ROWS


def made_of_tables(kernels: ModuleType, tables: list[Any]) -> Any:
    (made,) = make_tables(kernels, tables, block_bytes=1500, block_parts=2)
    return made.open(kernels, kernels.BlockCache(0))


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_lead_that_is_too_long_leads_nothing(kernels: ModuleType) -> None:
    rows = [(b"%06d" % n, b"some text " * (LEAD_BYTES_MAX // 10 + 1 if n % 4 == 0 else 30)) for n in range(16)]
    made = made_of(kernels, rows, block_bytes=1, block_parts=4)
    assert {frame[4] for frame in frames(made)} == {Codec.ZSTD}
    assert list(kernels.Scan([], kernels.Levels([[made.open(kernels, kernels.BlockCache(0))]]), None, None, LAST)) == rows


@pytest.mark.parametrize("kernels", KERNELS)
def test_parts_without_compression_or_with_a_dictionary_are_refused(kernels: ModuleType) -> None:
    for settings in ({"compression_level": 0}, {"dictionary": json_dictionary()}, {"block_parts": 0}, {"block_parts": -3}):
        with pytest.raises(UsageError, match="parts"):
            made_of(kernels, **settings)


def ways(kernels: ModuleType, made: FinishedTable, source: MemorySource, number: int) -> list[Any]:
    """Every way to read the block of that number."""
    summary = made.summary
    key = bytes(kernels.decode_block(made.open(kernels, kernels.BlockCache(0)).raw_block(number)).keys()[0])
    found = []
    for cache_bytes in (0, 1 << 20):
        table = kernels.Table(source, summary.index, summary.filter, summary.smallest, kernels.BlockCache(cache_bytes), 0)
        levels = kernels.Levels([[table]])
        found += [
            lambda table=table: table.get(key, LAST),
            lambda levels=levels: kernels.get_many([], levels, [key], LAST),
            lambda levels=levels: list(kernels.Scan([], levels, key, key + b"\0", LAST)),
            lambda levels=levels: list(kernels.Scan([], levels, None, None, LAST, keep=False)),
            lambda levels=levels: list(kernels.Scan([], levels, None, None, LAST, reverse=True, keep=False)),
            lambda table=table: drain(kernels.TableStream([table], **SETTINGS)),
            lambda table=table: table.raw_block(number),
        ]
    return found


def refused(kernels: ModuleType, made: FinishedTable, damaged: list[bytes], number: int, block_parts: int = PARTS) -> None:
    sizes = [len(frame) for frame in damaged]
    index = made.summary.index
    made.summary.index = index[:4] + b"".join(size.to_bytes(4, "little") for size in sizes) + index[4 + 4 * len(sizes) :]
    try:
        for way in ways(kernels, made, MemorySource(b"".join(damaged), block_parts=block_parts), number):
            with pytest.raises(CorruptionError):
                way()
    finally:
        made.summary.index = index


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("interval", [0, 4])
def test_what_makes_no_sense_is_damage(kernels: ModuleType, interval: int) -> None:
    made = made_of(kernels, restart_interval=interval)
    whole = frames(made)
    lead, part = PARTS, PARTS + 2
    damaged = whole.copy()
    damaged[lead] = damaged[lead][:-1] + bytes((damaged[lead][-1] ^ 1,))
    refused(kernels, made, damaged, part)  # the lead damaged
    refused(kernels, made, whole, part, block_parts=1)  # there are no leads
    refused(kernels, made, whole, part, block_parts=PARTS - 1)  # others
    damaged = whole.copy()
    damaged[part] = renamed(whole[part], Codec.ZSTD, 0)
    refused(kernels, made, damaged, part)  # alone, it is not whole
    damaged = whole.copy()
    damaged[lead] = renamed(whole[lead], Codec.ZSTD_LEAD, 0)
    refused(kernels, made, damaged, part)  # a lead that would have one itself
    refused(kernels, made, damaged, lead)


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_lead_beyond_the_limit_is_damage(kernels: ModuleType) -> None:
    rows = [(b"%06d" % n, b"some text " * (LEAD_BYTES_MAX // 10 + 1 if n == 0 else 30)) for n in range(4)]
    made = made_of(kernels, rows, block_bytes=1, block_parts=4)
    damaged = frames(made)
    damaged[2] = renamed(damaged[2], Codec.ZSTD_LEAD, 0)
    refused(kernels, made, damaged, 2, block_parts=4)


@needs_compiled
def test_leads_of_tables_that_are_gone_are_not_taken_for_others() -> None:
    kernels = compiled()
    for seed in range(30):
        rows = json_rows(60, seed)
        table = made_of(kernels, rows, block_bytes=700).open(kernels, kernels.BlockCache(0))
        assert [table.get(key, LAST)[2] for key, _ in rows] == [value for _, value in rows]
        del table
