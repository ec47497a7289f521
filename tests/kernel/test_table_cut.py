"""A table ends before its index grows too large to be sealed, whatever its keys; only between user keys, and both twins at the same place."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.kinds import INDEX_BYTES, KEY_BYTES_MAX, Kind
from lsmsql.engine.storage.block_frame import RAW_BYTES_MAX

from .stream_world import KERNELS, OVERHEAD, SETTINGS, Entry, FinishedTable, drain, make_memtable
from .test_table_stream import blocks_of, check_table, entries_of

BLOCK = 27  # bytes of the index for each block besides its last key


def index_bytes(made: FinishedTable) -> int:
    return len(made.summary.index) - 4


def long_keys(count: int) -> list[Entry]:
    return [(b"k" * 900 + b"%04d" % n, 1 + n, int(Kind.VALUE), b"v" * (n % 9)) for n in range(count)]


def tables_of(kernels: ModuleType, entries: Sequence[Entry], **settings: Any) -> list[FinishedTable]:
    """The tables of a memtable of these entries, the same as the other twin's."""
    settings = {**SETTINGS, **settings}
    made = drain(kernels.TableStream([make_memtable(kernels, entries)], **settings))
    if kernels is not plain:
        assert made == drain(plain.TableStream([make_memtable(plain, entries)], **settings))
    assert entries_of(made[1]) == sorted(entries, key=lambda entry: (entry[0], -entry[1]))
    return made[1]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("overhead", [0, OVERHEAD])
@pytest.mark.parametrize("block_bytes", [1, 2500])
def test_a_table_is_cut_when_its_index_is_large(kernels: ModuleType, overhead: int, block_bytes: int) -> None:
    limit = 20_000
    settings = {"block_bytes": block_bytes, "overhead": overhead, "chunk_bytes": 3000, "index_bytes": limit}
    tables = tables_of(kernels, long_keys(300), **settings)
    assert len(tables) > 3
    for made in tables:
        check_table(made, {**SETTINGS, **settings})
    for made in tables[:-1]:
        assert limit <= index_bytes(made) < limit + 2 * (BLOCK + 904)  # reached by one block; the one open then is closed too
    for a, b in pairwise(tables):
        assert a.summary.largest < b.summary.smallest


@pytest.mark.parametrize("kernels", KERNELS)
def test_an_index_that_stays_small_cuts_nothing(kernels: ModuleType) -> None:
    entries = long_keys(40)
    exact = 40 * (BLOCK + 904)
    assert len(tables_of(kernels, entries, block_bytes=1, index_bytes=exact)) == 1
    assert [made.summary.blocks for made in tables_of(kernels, entries, block_bytes=1, index_bytes=exact - BLOCK - 904)] == [39, 1]


@pytest.mark.parametrize("kernels", KERNELS)
def test_versions_of_one_key_stay_in_one_table_and_its_index_small(kernels: ModuleType) -> None:
    """No table can end between them, so that their blocks become larger instead."""
    limit = 20_000
    key = b"h" * 900
    versions = [(key, seqno, int(Kind.VALUE), b"v" * (seqno % 50)) for seqno in range(1, 401)]
    around = [(b"a", 500, int(Kind.VALUE), b""), (b"z", 501, int(Kind.VALUE), b"")]
    tables = tables_of(kernels, [*versions, *around], block_bytes=1, index_bytes=limit)
    assert [made.summary.keys for made in tables] == [2, 1]
    blocks = list(blocks_of(tables[0]))
    sizes = [sum(len(entry[0]) + len(entry[3]) + 8 for entry in block) for block in blocks]
    full = next(n for n in range(len(blocks)) if sum(BLOCK + len(block[-1][0]) for block in blocks[: n + 1]) >= limit)
    assert all(len(block) == 1 for block in blocks[: full + 1])
    assert all(limit // 4 <= size < limit // 4 + 1000 for size in sizes[full + 1 : -1])
    assert index_bytes(tables[0]) < 5 * limit
    assert all(tables[0].summary.index[4 + 24 * len(blocks) + n] & 0x80 for n in range(1, len(blocks)))


@pytest.mark.parametrize("kernels", KERNELS)
def test_the_limit_leaves_room_for_the_blocks_that_pass_it(kernels: ModuleType) -> None:
    assert inspect.signature(plain.TableStream).parameters["index_bytes"].default == INDEX_BYTES
    assert 3 * INDEX_BYTES + 2 * (BLOCK + KEY_BYTES_MAX) < RAW_BYTES_MAX
    key = bytes(KEY_BYTES_MAX - 2)
    rows = ((key + n.to_bytes(2, "big"), b"") for n in range(1100))
    stream = kernels.TableStream([kernels.SortedRows(rows)], **SETTINGS)
    tables = []
    while (chunk := stream.next_chunk()) is not None:
        tables += [chunk.table] if chunk.table else []
    assert [made.blocks for made in tables] == [1024, 76]
