"""A payload may name as many trees as it has operations, by any numbers: finding one of them costs the same as finding one of two."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.kinds import SELECT_TREE, Kind

from .twins import KERNELS, compiled, needs_compiled

STEP_INVERSE = pow(0x9E3779B1, -1, 1 << 32)  # of the constant that spreads trees over a memtable's hash
IDS = {
    "dense": lambda count: range(count),
    "high bits only": lambda count: [n << 16 for n in range(count)],
    "alike after multiplication": lambda count: [n * STEP_INVERSE & 0xFFFFFFFF for n in range(count)],
    "the largest": lambda count: [0xFFFFFFFF - n for n in range(count)],
}


def payload_of(ids: Sequence[int]) -> bytes:
    return b"".join(struct.pack("<IHBBIHBB", id, 0, SELECT_TREE, 0, 1, 1, Kind.VALUE, 0) + b"kv" for id in ids)


@needs_compiled
@pytest.mark.parametrize("ids", IDS)
def test_sixty_thousand_trees_in_one_payload_cost_no_seconds(ids: str) -> None:
    numbers = IDS[ids](60_000)
    payload = payload_of(numbers)
    arena = compiled().MemtableArena(1 << 20)
    arena.begin()
    start = time.process_time()
    assert arena.append(payload) == 60_000
    arena.index(1)
    assert all(arena.memtable(id).get(b"k", 1) == (1, Kind.VALUE, b"v") for id in numbers[::50])
    assert time.process_time() - start < 1.5  # seconds of this process; a search through all trees took many times as long
    assert arena.trees() == sorted(numbers)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("ids", IDS)
def test_every_tree_of_a_payload_keeps_its_own_entries(kernels: object, ids: str) -> None:
    numbers = [*IDS[ids](1000), *IDS[ids](10)]
    arenas = [twin.MemtableArena(1 << 20) for twin in (plain, kernels)]  # type: ignore[attr-defined]
    batches = [twin.Batch() for twin in (plain, kernels)]  # type: ignore[attr-defined]
    for ordinal, id in enumerate(numbers):
        for batch in batches:
            batch.put(id, b"%d" % (ordinal % 7), b"%d" % ordinal)
    assert batches[0].payload() == batches[1].payload()
    assert batches[0].trees() == batches[1].trees() == sorted(set(numbers))
    for arena, batch in zip(arenas, batches, strict=True):
        arena.begin()
        assert arena.append(batch.payload()) == len(numbers)
        arena.index(5)
    for id in (*numbers, 123_456_789):
        found = [arena.memtable(id) for arena in arenas]
        assert (found[0] is None) == (found[1] is None) == (id == 123_456_789)
        for key in (b"%d" % n for n in range(7)):
            assert batches[0].get(id, key) == batches[1].get(id, key)
            if found[0] is not None:
                assert found[0].get(key, 9) == found[1].get(key, 9)
