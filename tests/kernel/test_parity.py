"""Data blocks with parity in the kernels: what is damaged is repaired on every way of reading, in both twins; what cannot be is the same error."""

from __future__ import annotations

import random
from itertools import accumulate, pairwise
from typing import Any

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.storage.parity import ParityScheme
from lsmsql.errors import CorruptionError

from .stream_world import KERNELS, OVERHEAD, SETTINGS, FinishedTable, compiled, drain, make_memtable, make_tables, needs_compiled
from .test_table_stream import entries_of

SCHEMES = [ParityScheme.parse(text) for text in ("xor(3)", "rs(4,2)", "rs(2,3)")]
ENTRIES = [(b"key%03d" % n, n + 1, 1, random.Random(n).randbytes(30)) for n in range(100)]
ROWS = [(entry[0], entry[3]) for entry in ENTRIES]
CASES = pytest.mark.parametrize(
    ("scheme", "sealed", "level"),
    [(scheme, sealed, level) for scheme in SCHEMES for sealed, level in ((False, 0), (False, 1), (True, 1))],
    ids=str,
)


def made(scheme: ParityScheme, sealed: bool, level: int) -> FinishedTable:
    (table,) = make_tables(
        plain, [make_memtable(plain, ENTRIES)], overhead=OVERHEAD if sealed else 0, parity=scheme.code, compression_level=level, block_bytes=700
    )
    return table


def sizes(table: FinishedTable) -> list[int]:
    return [int.from_bytes(table.summary.index[4 + 4 * n : 8 + 4 * n], "little") for n in range(table.summary.blocks)]


def ruin(table: FinishedTable, count: int, rng: random.Random, only: int | None = None) -> FinishedTable:
    """With `count` shards of each block, or of one, changed throughout; the first of them always of the data."""
    frames = bytearray(table.frames)
    scheme = table.parity
    for ordinal, (start, end) in enumerate(pairwise(accumulate(sizes(table), initial=0))):
        if only not in (None, ordinal):
            continue
        length = scheme.frame_length(end - start)
        shard = scheme.shard_length(length)
        first = rng.randrange(scheme.d)
        for number in [first, *rng.sample([n for n in range(scheme.d + scheme.p) if n != first], count - 1)]:
            begin = start + (number * shard if number < scheme.d else length + (number - scheme.d) * shard)
            for at in range(begin, min(begin + shard, start + length if number < scheme.d else end)):
                frames[at] ^= rng.randrange(1, 256)
    return FinishedTable(bytes(frames), table.summary, table.sealed, scheme)


def opened(kernels: Any, table: FinishedTable, cache_bytes: int) -> Any:
    return table.open(kernels, kernels.BlockCache(cache_bytes))


@pytest.mark.parametrize("kernels", KERNELS)
@CASES
def test_damage_to_p_shards_of_every_block_is_read_through(kernels: Any, scheme: ParityScheme, sealed: bool, level: int) -> None:
    rng = random.Random(5)
    whole = made(scheme, sealed, level)
    for cache_bytes in (0, 1 << 20):
        table = opened(kernels, ruin(whole, scheme.p, rng), cache_bytes)
        repairs = table.source.repairs
        assert [table.get(key, 1 << 50) for key, *_ in ENTRIES[::9]] == [entry[1:] for entry in ENTRIES[::9]]
        assert repairs.count > 0
        for reverse in (False, True):
            table = opened(kernels, ruin(whole, scheme.p, rng), cache_bytes)
            scan = kernels.Scan([], kernels.Levels([[table]]), None, None, 1 << 50, reverse=reverse)
            assert list(scan) == (ROWS[::-1] if reverse else ROWS)
            assert table.source.repairs.count == whole.summary.blocks
            assert set(table.source.repairs.places) == {("memory", offset) for offset in accumulate(sizes(whole)[:-1], initial=0)}
        table = opened(kernels, ruin(whole, scheme.p, rng), cache_bytes)
        assert entries_of(drain(kernels.TableStream([table], **SETTINGS))[1]) == ENTRIES
        assert table.source.repairs.count == whole.summary.blocks


@pytest.mark.parametrize("kernels", KERNELS)
@CASES
def test_streams_repair_one_source_among_others(kernels: Any, scheme: ParityScheme, sealed: bool, level: int) -> None:
    rng = random.Random(6)
    table = opened(kernels, ruin(made(scheme, sealed, level), scheme.p, rng, only=3), 0)
    other = [(b"key%03d+" % n, 900 + n, 1, b"other") for n in range(0, 100, 3)]
    sources = [make_memtable(kernels, other), table]
    assert entries_of(drain(kernels.TableStream(sources, **SETTINGS))[1]) == sorted([*ENTRIES, *other])
    assert table.source.repairs.count == 1


@pytest.mark.parametrize("kernels", KERNELS)
@CASES
def test_parity_alone_is_not_looked_at(kernels: Any, scheme: ParityScheme, sealed: bool, level: int) -> None:
    whole = made(scheme, sealed, level)
    frames = bytearray(whole.frames)
    for start, end in pairwise(accumulate(sizes(whole), initial=0)):
        length = scheme.frame_length(end - start)
        frames[start + length : end] = bytes(end - start - length)
    table = opened(kernels, FinishedTable(bytes(frames), whole.summary, sealed, scheme), 0)
    assert list(kernels.Scan([], kernels.Levels([[table]]), None, None, 1 << 50)) == ROWS
    assert table.source.repairs.count == 0


def says(kernels: Any, table: FinishedTable) -> list[Any]:
    """What a lookup, a scan and a stream have to say: the error's place and message, or the answer."""
    found: list[Any] = []
    for read in (
        lambda table: table.get(b"key099", 1 << 50),
        lambda table: list(kernels.Scan([], kernels.Levels([[table]]), None, None, 1 << 50)),
        lambda table: entries_of(drain(kernels.TableStream([table], **SETTINGS))[1]),
    ):
        try:
            found.append(read(opened(kernels, table, 0)))
        except CorruptionError as error:
            found.append((error.path, error.offset, error.message, error.advice))
    return found


@pytest.mark.parametrize("kernels", KERNELS)
@CASES
def test_damage_beyond_p_shards_is_corruption_with_its_place(kernels: Any, scheme: ParityScheme, sealed: bool, level: int) -> None:
    whole = made(scheme, sealed, level)
    last = whole.summary.blocks - 1
    offset = sum(sizes(whole)[:-1])
    for seed in range(5):
        found = says(kernels, ruin(whole, scheme.p + 1, random.Random(seed), only=last))
        assert all(answer[:2] == ("memory", offset) and str(scheme) in answer[3] for answer in found), found


@needs_compiled
@CASES
def test_every_changed_byte_is_the_same_to_both_twins(scheme: ParityScheme, sealed: bool, level: int) -> None:
    whole = made(scheme, sealed, level)
    right = says(plain, whole)
    for position in range(0, len(whole.frames), 17):
        frames = whole.frames[:position] + bytes([whole.frames[position] ^ 0x41]) + whole.frames[position + 1 :]
        assert says(compiled(), FinishedTable(frames, whole.summary, sealed, scheme)) == right, position
    for size in range(0, len(whole.frames), 97):
        cut = FinishedTable(whole.frames[:size], whole.summary, sealed, scheme)
        assert says(compiled(), cut) == says(plain, cut)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("code", [1, 0xFF, 0x120, 0x300])
def test_a_stream_refuses_a_code_that_is_none(kernels: Any, code: int) -> None:
    with pytest.raises(ValueError, match="no parity scheme"):
        kernels.TableStream([], **SETTINGS, parity=code)


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_table_read_with_another_scheme_is_damaged(kernels: Any) -> None:
    """Neither the header nor the sizes decide: the properties do."""
    whole = made(SCHEMES[1], False, 1)
    for scheme in (ParityScheme(), SCHEMES[0], ParityScheme("rs", 8, 4)):
        assert all(isinstance(answer[1], int) for answer in says(kernels, FinishedTable(whole.frames, whole.summary, False, scheme)))
