"""The limit on a memtable is one on the memory that it takes, however small its entries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lsmsql.engine.kernel import MemtableArena
from lsmsql.engine.kernel.plain import MemtableArena as PlainArena

from .database_world import INLINE, memory, open_database

RECORD_HEADER, NODE, SLOTS_A_KEY = 64, 32, 8 / 0.7


@pytest.mark.parametrize("arena_type", [MemtableArena, PlainArena])
@pytest.mark.parametrize("value", [b"", b"v" * 1000])
def test_an_arena_counts_records_nodes_and_slots(arena_type: type, value: bytes) -> None:
    arena = arena_type(1000)
    assert arena.size == 0
    records = 0
    for seqno in range(1, 501):
        arena.put(7, b"%05d" % seqno, value)
        records += len(arena.seal(2, 1, seqno, seqno, seqno - 1, 0))
        arena.index(seqno)
        assert records + seqno * (NODE + SLOTS_A_KEY) <= arena.size <= records + seqno * NODE + 8 * (4 * seqno / 0.7 + 64)
    assert records == 500 * (RECORD_HEADER + 8 + 8 + 5 + len(value))


def test_tiny_commits_do_not_fill_more_memory_than_the_limit() -> None:
    with open_database(memory(), replace(INLINE, memtable_bytes=100_000, l0_tables=100, l0_slowdown=100, l0_stop=100)) as engine:
        tree = engine.tree("kv")
        for number in range(2000):
            tree.put(b"%05d" % number, b"")
        assert engine.statistics()["flushes"] >= 2000 * (RECORD_HEADER + 21 + NODE + SLOTS_A_KEY) // 100_000


def test_an_empty_memtable_is_not_full_however_low_the_limit() -> None:
    assert not MemtableArena(1).full and not PlainArena(1).full
