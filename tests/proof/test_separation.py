"""Values in the blob store, through power losses: the tables that point to them, the slot map and the manifest always fit together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.proof.judge import EVERY, LONG, watched
from tests.proof.workload import KEY, TINY, Life, full_life

APART = replace(TINY, blob_threshold=20, blob_live_share=1.0)


@pytest.mark.parametrize("key", [None, KEY] if LONG else [KEY])
def test_a_power_loss_between_value_map_table_and_edit_loses_nothing_acknowledged(key: bytes | None) -> None:
    judge, fs = watched(APART, life_of_large_values, key, limit=EVERY if LONG else 1, deep=100 if LONG else 2000)
    print(judge)
    assert judge.points > 150 and judge.opened > 150
    assert not fs.open_files and not fs.held_locks


@pytest.mark.skipif(not LONG, reason="LSMSQL_LONG=1 takes half a minute more")
def test_a_power_loss_anywhere_in_a_full_life_with_values_apart_loses_nothing_acknowledged() -> None:
    judge, _ = watched(APART, full_life, None, limit=EVERY, deep=100)
    print(judge)
    assert judge.opened > 100


def life_of_large_values(life: Life) -> None:
    """Flush, overwriting, garbage collection, ingest, a tree that is dropped, reopening."""
    life.open()
    life.create("a")
    life.create("b")
    life.snapshot("old")
    for number in range(4):
        life.commit(("a", b"k%d" % (number % 3), b"%d" % number * 100), ("b", b"k", b"%d" % number * 30), ("a", b"small", b"%d" % number))
        life.flush()
    life.release("old")
    life.compact()
    life.ingest("a", [(b"i%d" % number, b"ingested" * 20) for number in range(3)])
    life.commit(("a", b"k1", None), ("a", b"i1", b"over" * 30))
    life.drop("b")
    life.compact()
    life.reopen()
    life.commit(("a", b"k2", b"again" * 50))
    life.flush()
    life.compact()
    life.close()
