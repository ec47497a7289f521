"""A power loss before every file operation of a database's life: acknowledged <= recovered <= acknowledged + the one in flight, always whole.

Each crash point gives many images (each unsynced tail and each unsynced name lost or kept on its own); some of their recoveries are cut
short as well. LSMSQL_LONG=1 tries every image of every crash point, and a second power loss at every operation of the recovery (nothing,
everything, or any one thing lost): of every image of a short life, and of at least one image of every crash point of a long one.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.proof.fault_filesystem import Crash, FaultFileSystem, crash_points
from tests.proof.images import Image
from tests.proof.judge import EVERY, LONG, Judge, watched
from tests.proof.workload import KEY, TINY, Life, full_life, let_go, open_database


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_a_power_loss_at_every_operation_loses_nothing_acknowledged(key: bytes | None) -> None:
    judge, fs = watched(TINY, full_life, key, limit=EVERY if LONG else 3, deep=100 if LONG else 400, deep_everywhere=LONG)
    print(judge)
    assert judge.points > 300 and judge.opened > 500
    assert judge.deep_images > 200
    assert not fs.open_files and not fs.held_locks


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_two_power_losses_anywhere_lose_nothing_acknowledged(key: bytes | None) -> None:
    deep = (1 if key is None else 4) if LONG else 200
    judge, _ = watched(TINY, short_life, key, limit=EVERY if LONG else 4, deep=deep, further=4 if LONG else 24)
    print(judge)
    assert judge.deep_recoveries == judge.opened // deep > 2


def test_a_power_loss_may_leave_zeros_where_bytes_were_to_come() -> None:
    judge, _ = watched(TINY, short_life, None, limit=EVERY if LONG else 16, zeros=True)
    print(judge)
    assert judge.opened > 100


def short_life(life: Life) -> None:
    life.open()
    life.create("a")
    life.create("b")
    life.commit(("a", b"k", b"v" * 30), ("b", b"k", b"v"))
    life.commit(("a", b"k", b"w" * 30), ("b", b"l", b"w" * 200))
    life.commit(("a", b"l", b"x" * 300), ("b", b"l", None))
    life.snapshot("name")
    life.flush()
    life.commit(("a", b"k", None))
    life.reopen()
    life.ingest("a", [(b"i", b"1"), (b"k", b"2")])
    life.compact()
    life.close()


def lazy_life(life: Life) -> None:
    """Trees first, so that nothing but commits is unsynced."""
    life.open()
    life.create("a")
    life.create("b")
    life.create("c")
    life.durable = life.acknowledged
    for number in range(6):
        life.commit(("a", b"x%d" % number, b"%d" % number * 60), ("b", b"y%d" % (number % 3), b"%d" % number * 70))
    life.snapshot("one")
    life.commit(("a", b"x1", None), ("b", b"y1", b"after the snapshot"))
    life.commit(("a", b"x2", b"before the ingest"))
    life.commit(("a", b"x3", b"waited for"), ("b", b"y2", b"waited for"), durability="full")
    life.commit(("a", b"x3", b"not waited for"), ("b", b"y2", None))
    life.ingest("b", [(b"i%d" % number, b"in") for number in range(4)])
    for number in range(6):
        life.commit(("a", b"x%d" % number, b"%d" % number * 61), ("c", b"y%d" % (number % 3), b"%d" % number * 71))
    life.commit(("a", b"moved", b"from c"), ("c", b"y1", None))
    life.drop("c")
    life.commit(("b", b"y1", None))
    life.reopen()
    life.durable = life.acknowledged
    life.commit(("a", b"x1", b"1"), ("b", b"y1", b"1"))
    life.flush()
    life.commit(("a", b"x1", None), ("b", b"y1", None))
    life.compact()
    life.commit(("a", b"x2", b"2"), ("b", b"y2", b"2"))
    life.close()


@pytest.mark.parametrize("durability", ["normal", "off"])
def test_without_syncs_a_power_loss_leaves_a_whole_earlier_state(durability: str) -> None:
    options = replace(TINY, durability=durability)
    judge, _ = watched(options, lazy_life, None, limit=EVERY if LONG else 2, deep=100 if LONG else 400, deep_everywhere=LONG)
    print(judge)
    assert judge.opened > 200


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_killed_process_loses_nothing_that_was_written(durability: str) -> None:
    """The machine goes on, so the page cache is the disk; then a power loss behind the recovery, which had shown what it found."""
    judge, _ = watched(replace(TINY, durability=durability), short_life, None, limit=1, kill=1 if LONG else 40)
    print(judge)
    assert judge.killed_images > 100


def test_stopping_the_engine_itself_leaves_what_watching_it_shows() -> None:
    """The engine's own handlers run when a call raises, and may do nothing to the disk any more, nor keep the machine alive."""
    lives: list[Life] = []

    def run(fs: FaultFileSystem) -> None:
        life = Life(fs, TINY)
        lives.append(life)
        try:
            short_life(life)
        except Crash:
            let_go(life.engine)
            raise

    count = 0
    for fs in crash_points(FaultFileSystem, run):
        count += 1
        if fs.crashed:
            assert fs.operations[-1].index == fs.crash_at
        judge = Judge(lives[-1], limit=3)
        judge.crash(fs, str(fs.operations[-1]))
    assert count > 50


def test_the_judge_sees_a_lost_commit_and_a_half_one() -> None:
    """The campaign itself: a state that is short of a commit, or holds a part of one, does not pass."""
    fs = FaultFileSystem()
    life = Life(fs, TINY)
    short_life(life)
    judge = Judge(life)
    judge.judge(Image(fs.files(), frozenset(fs.directories())), "whole")
    engine = open_database(fs, TINY)
    engine.tree("a").put(b"k", b"never written by the life")
    engine.close()
    with pytest.raises(AssertionError, match="what never was"):
        judge.judge(Image(fs.files(), frozenset(fs.directories())), "half")
    life.states.append(life.states[-1])
    life.durable = len(life.states)
    with pytest.raises(AssertionError, match="was durable"):
        judge.judge(Image({}), "lost")


def test_an_image_met_again_is_held_against_the_bounds_of_now() -> None:
    """Also what a second power loss had left of it."""
    fs = FaultFileSystem()
    life = Life(fs, TINY)
    short_life(life)
    judge = Judge(life, deep=1)
    image = Image(fs.files(), frozenset(fs.directories()))
    assert judge.judge(image, "first") and not judge.judge(image, "again")
    assert judge.opened == judge.deep_recoveries == 1 and judge.deep_images > 5
    judge._lowest[image.digest] -= 1
    with pytest.raises(AssertionError, match="another in the recovery leaves state"):
        judge.judge(image, "after a recovery that lost something")
