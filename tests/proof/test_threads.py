"""Several threads write and read while flushes and compactions run: no commit is seen by halves, none is lost, whenever the power fails."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

import lsmsql
from tests.proof.fault_filesystem import FaultFileSystem, Operation
from tests.proof.images import Image
from tests.proof.judge import LONG
from tests.proof.workload import KEY, TINY, open_database

BUSY = replace(TINY, background=True, memtable_bytes=3000, table_bytes=2000, level_bytes=6000, sealed_max=2, l0_slowdown=8, l0_stop=16)
STEADY = replace(BUSY, background=False)  # For looking: nothing is due that has not been due before.
WRITERS = 4
COMMITS = 400 if LONG else 60


@contextmanager
def restless() -> Iterator[None]:
    """Threads take turns as often as the interpreter allows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def together(*works: Callable[[], None]) -> None:
    """Run all in threads of their own; the first error is raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


class Crashes:
    """Copies of the disk taken now and then, each with what was acknowledged just before: what the power loss may not take."""

    def __init__(self, fs: FaultFileSystem, acknowledged: list[int], every: int) -> None:
        self.fs = fs
        self.acknowledged = acknowledged
        self.every = every
        self.taken: list[tuple[list[int], Image]] = []
        fs.watch = self.watch

    def watch(self, operation: Operation) -> None:
        if operation.index % self.every == 0:
            before = list(self.acknowledged)  # Before the images: what is acknowledged behind it may be in them or not.
            self.taken += [(before, image) for image in self.fs.states(limit=2, seed=operation.index)]


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_what_any_thread_was_told_is_committed_survives_a_power_loss(key: bytes | None) -> None:
    fs = FaultFileSystem()
    engine = open_database(fs, BUSY, key)
    trees = [engine.tree(name) for name in "ab"]
    acknowledged = [-1] * WRITERS
    crashes = Crashes(fs, acknowledged, 23 if LONG else 97)

    def writer(me: int) -> Callable[[], None]:
        def write() -> None:
            dice = random.Random(me)
            for number in range(COMMITS):
                with engine.batch() as batch:
                    for tree in trees:
                        batch.put(tree, b"writer %d" % me, b"%d" % number)
                        batch.put(tree, b"%d/%05d" % (me, number), dice.randbytes(dice.randrange(80)))
                        if number >= 10:
                            batch.delete(tree, b"%d/%05d" % (me, number - 10))
                acknowledged[me] = number

        return write

    with restless():
        together(*(writer(me) for me in range(WRITERS)))
    fs.watch = None
    final = next(fs.states())
    engine.close()
    assert not fs.open_files
    crashes.taken.append(([COMMITS - 1] * WRITERS, final))
    for before, image in crashes.taken:
        with open_database(image.in_memory(), STEADY, key) as left:
            check_writers(left, before, image.description)
    print(len(crashes.taken), "images")
    assert len(crashes.taken) > 50


def check_writers(engine: Any, before: list[int], said: str) -> None:
    """Each writer's rows are those of one of its commits, in both trees the same one, and not an earlier one than it was told."""
    names = engine.tree_names()
    rows = [dict(engine.tree(name).scan()) for name in ("a", "b") if name in names]
    if max(before) < 0 and len(rows) < 2:
        return
    for me in range(WRITERS):
        found = {int(tree.get(b"writer %d" % me, b"-1")) for tree in rows}
        assert len(found) == 1, f"{said}: writer {me} stands at {found}"
        number = found.pop()
        assert before[me] <= number <= before[me] + 2, f"{said}: writer {me} was told {before[me]}, found {number}"
        expected = {b"%d/%05d" % (me, earlier) for earlier in range(max(0, number - 9), number + 1)}
        for tree in rows:
            assert {key for key in tree if key.startswith(b"%d/" % me)} == expected, f"{said}: writer {me} at {number}"


def assert_whole(view: Any, trees: list[Any], rows: int, dice: random.Random, reverse: bool) -> None:
    """Both trees together have every row once, in order, however the scans are cut."""
    scans = [view.scan(tree, reverse=reverse) for tree in trees]
    first = [scan.fill(dice.randrange(1, 8)) for scan in scans]
    found = [some + list(scan) for some, scan in zip(first, scans, strict=True)]
    assert sorted(key for tree in found for key, _ in tree) == [b"%03d" % number for number in range(rows)]
    assert all(key == b"%03d" % int(value) for tree in found for key, value in tree)
    assert all([key for key, _ in tree] == sorted((key for key, _ in tree), reverse=reverse) for tree in found)


@pytest.mark.parametrize("durability", ["full", "off"])
def test_readers_never_see_a_commit_by_halves(durability: str) -> None:
    """Rows move between two trees, so their number and their sum stay the same in every view, and in every scan that goes on meanwhile."""
    fs = FaultFileSystem()
    engine = open_database(fs, replace(BUSY, durability=durability))
    trees = [engine.tree(name) for name in "ab"]
    rows = 60
    trees[0].put_many((b"%03d" % number, b"%d" % number) for number in range(rows))
    done = threading.Event()
    reads = [0]

    def mover(me: int) -> Callable[[], None]:
        def move() -> None:
            dice = random.Random(me)
            try:
                for _ in range(COMMITS * 3):
                    number = dice.randrange(me, rows, 2)  # Each mover has rows of its own.
                    key, value = b"%03d" % number, b"%d" % number
                    source, target = trees if trees[0].contains(key) else trees[::-1]
                    with engine.batch() as batch:
                        batch.delete(source, key)
                        batch.put(target, key, value)
            finally:
                done.set()

        return move

    def read(me: int) -> Callable[[], None]:
        def look() -> None:
            dice = random.Random(me)
            while not done.is_set():
                reads[0] += 1
                reverse = dice.random() < 0.5
                keys = [b"%03d" % dice.randrange(rows) for _ in range(10)]
                with engine.read_view() as view:
                    assert_whole(view, trees, rows, dice, reverse)
                    both = [view.get_many(tree, keys) for tree in trees]
                    assert all((one is None) != (other is None) for one, other in zip(*both, strict=True))
                values = zip(keys, map(trees[0].get, keys), strict=True)  # Without a view each is of its own moment, but never of a torn one.
                assert all(value is None or key == b"%03d" % int(value) for key, value in values)
                try:
                    with engine.read_view(max(0, engine.seqno - dice.randrange(5))) as view:
                        count = sum(len(list(view.scan(tree))) for tree in trees)
                        assert count in (rows, 0)
                except lsmsql.HistoryError:
                    pass

        return look

    def upkeep() -> None:
        while not done.is_set():
            engine.compact()
            done.wait(0.02)

    with restless():
        together(mover(0), mover(1), read(2), read(3), upkeep)
    assert sum(len(list(tree.scan())) for tree in trees) == rows
    engine.close()
    print(reads[0], "reads")
    assert reads[0] > 20
    assert not fs.open_files


def test_trees_and_snapshots_come_and_go_beside_writers() -> None:
    fs = FaultFileSystem()
    engine = open_database(fs, BUSY)
    steady = engine.tree("steady")
    done = threading.Event()

    def write() -> None:
        try:
            for number in range(COMMITS * 4):
                steady.put(b"%03d" % (number % 50), b"%d" % number)
        finally:
            done.set()

    def come_and_go() -> None:
        dice = random.Random(1)
        count = 0
        while not done.is_set():
            count += 1
            tree = engine.tree(f"brief {count % 3}")
            tree.put(b"k", b"v" * dice.randrange(300))
            tree.ingest([(b"a%d" % number, b"in") for number in range(dice.randrange(1, 5))])
            scan = tree.scan()
            label = f"name {count}"
            engine.snapshot(label).close()
            expected = dict(steady.scan(snapshot=label))
            assert len(list(scan)) >= 2
            engine.drop_tree(f"brief {count % 3}")
            with pytest.raises(lsmsql.UsageError):
                tree.put(b"k", b"v")
            assert dict(steady.scan(snapshot=label)) == expected
            engine.release(label)

    with restless():
        together(write, come_and_go)
    assert dict(steady.scan()) == {b"%03d" % (number % 50): b"%d" % number for number in range(COMMITS * 4)}
    assert engine.tree_names() == ["steady"]
    engine.close()
    assert not fs.open_files
    with open_database(fs, TINY) as engine:
        assert len(list(engine.tree("steady").scan())) == 50
