"""Whatever the writer does, and wherever it comes between the reader's operations, a reader finds one of the writer's moments."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from lsmsql import ReadOnlyDatabase
from tests.engine.database_world import DIRECTORY, KEY, memory
from tests.engine.read_only_world import Interrupting, World, content_of, fits, open_reader
from tests.proof.fault_filesystem import FaultFileSystem, fault_points

LONG = os.environ.get("LSMSQL_LONG") == "1"


@pytest.mark.parametrize("seed", range(200 if LONG else 24))
def test_every_refresh_finds_what_the_writer_has_committed(seed: int) -> None:
    world = World(memory(), seed, KEY if seed % 4 == 3 else None)
    chance = random.Random(-seed)
    reader = open_reader(world.fs, key=world.key)
    kept: list[tuple[Any, Any, Any]] = []
    for _ in range(150):
        world.step()
        if chance.random() < 0.5:
            reader.refresh()
            assert fits(content_of(reader), (world.content(), world.snapshots))
            assert reader.host_seqno == world.writer.host_seqno
        if chance.random() < 0.1:
            view = reader.read_view()
            trees = {name: reader.tree(name) for name in reader.tree_names()}
            kept.append((view, trees, {name: dict(view.scan(tree)) for name, tree in trees.items()}))
        if chance.random() < 0.1:
            with open_reader(world.fs, key=world.key) as fresh:
                assert fits(content_of(fresh), (world.content(), world.snapshots))
        if chance.random() < 0.02:
            reader.close()
            reader, kept = open_reader(world.fs, key=world.key), []
        for view, trees, expected in kept[-3:]:
            assert {name: dict(view.scan(tree)) for name, tree in trees.items()} == expected
    reader.close()
    world.close()


@pytest.mark.parametrize("seed", range(150 if LONG else 20))
@pytest.mark.parametrize("often", [0.02, 0.3])
def test_the_writer_may_act_between_any_two_operations_of_the_reader(seed: int, often: float) -> None:
    world = World(memory(), seed)
    for _ in range(20):
        world.step()
    chance = random.Random(-seed)
    acting = 0

    def act() -> None:
        nonlocal acting
        if acting and chance.random() < often:
            acting -= 1
            world.step()

    fs = Interrupting(world.fs, act)
    reader: ReadOnlyDatabase | None = None
    for _ in range(30):
        start = len(world.moments) - 1
        acting = chance.randrange(1, 30)  # So that it comes to an end.
        if reader is None:
            reader = open_reader(fs)  # type: ignore[arg-type]
        else:
            reader.refresh()
        acting = 0
        found = content_of(reader)
        assert any(fits(found, moment) for moment in world.moments[start:])
        assert content_of(reader) == found
        if chance.random() < 0.2:
            reader.close()
            reader = None
        for _ in range(chance.randrange(4)):
            world.step()
    if reader is not None:
        reader.close()
    world.close()


@pytest.mark.parametrize("action", ["put", "batch", "flush", "compact", "ingest", "create", "drop", "snapshot", "release", "reopen"])
@pytest.mark.parametrize("opening", [True, False], ids=["opening", "refreshing"])
def test_an_action_at_each_single_operation_of_the_reader(action: str, opening: bool) -> None:
    at = 0
    while True:
        if not acts_at(at, action, opening):
            assert at > 5
            return
        at += 1


def acts_at(at: int, action: str, opening: bool) -> bool:
    """Act before the operation of this number; False if the reader has not so many."""
    world = World(memory(), 5)
    for _ in range(12):
        world.step()
    if world.prepared is not None:
        world.settle()
    calls = -1  # Nothing yet.

    def act() -> None:
        nonlocal calls
        if calls >= 0:
            calls += 1
            if calls == at + 1:
                getattr(world, action)()
                world.note()

    fs = Interrupting(world.fs, act)
    reader = None if opening else open_reader(fs)  # type: ignore[arg-type]
    if reader is not None:
        for step in ("batch", "flush", "batch", "compact", "put"):
            getattr(world, step)()
    world.note()
    start = len(world.moments) - 1
    calls = 0
    if reader is None:
        reader = open_reader(fs)  # type: ignore[arg-type]
    else:
        reader.refresh()
    acted, calls = calls > at, -1
    found = content_of(reader)
    assert any(fits(found, moment) for moment in world.moments[start:]), at
    reader.refresh()
    assert fits(content_of(reader), (world.content(), world.snapshots)), at
    reader.close()
    world.close()
    return acted


@pytest.mark.parametrize("kind", ["open", "read", "size", "list", "lock"])
def test_a_failing_call_leaves_nothing_open_and_the_moment_as_it_was(kind: str) -> None:
    def start() -> FaultFileSystem:
        fs = FaultFileSystem(directories=[DIRECTORY])
        world = World(fs, 5)
        for _ in range(15):
            world.step()
        world.close()
        return fs

    def opened(fs: FaultFileSystem) -> None:
        open_reader(fs).close()

    for fs, raised in fault_points(start, opened, kind):
        assert not fs.open_files and not fs.held_locks
        assert raised is None or isinstance(raised, OSError)

    nth = 1
    while True:
        fs = FaultFileSystem(directories=[DIRECTORY])
        world = World(fs, 5)
        reader = open_reader(fs)
        before = content_of(reader)
        for _ in range(15):
            world.step()
        if world.prepared is not None:
            world.settle()
        fault = fs.fail(kind, nth)
        try:
            reader.refresh()
        except OSError:
            assert content_of(reader) == before
        fs.heal()
        reader.refresh()
        assert fits(content_of(reader), (world.content(), world.snapshots))
        world.close()
        reader.close()
        assert not fs.open_files and not fs.held_locks
        if not fault.hits:
            return
        nth += 1
