"""Every fallible file operation fails at its n-th call, once and for good: a documented error, nothing acknowledged lost, nothing left open."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

import lsmsql
from lsmsql import Options
from tests.proof.fault_filesystem import FaultFileSystem
from tests.proof.judge import LONG
from tests.proof.workload import KEY, TINY, Change, Life, State, let_go, open_database, seen

CODES = {"append": errno.ENOSPC, "create": errno.ENOSPC, "rename": errno.ENOSPC}
KINDS = ("append", "sync", "create", "rename", "remove", "sync_directory", "make_directory", "open", "read", "list", "size", "lock")
STRIDES = {"read": 5, "open": 2, "size": 3}  # Which calls are tried: every one with LSMSQL_LONG=1.


class HurtLife(Life):
    """A life that goes on after errors. done: the changes so far, in order, and whether each is certain; errors: what was raised, and where."""

    def __init__(self, fs: FaultFileSystem, options: Options, key: bytes | None = None) -> None:
        super().__init__(fs, options, key)
        self.done: list[tuple[Change, bool]] = []
        self.errors: list[tuple[str, Exception]] = []
        self.stopped = False

    def _step(self, doing: str, act: Callable[[], Any], change: Change | None = None, sealing: bool = False) -> None:
        if self.stopped:
            return
        before = len(self.states)
        if change is not None:
            try:
                change(self.state)
            except KeyError:  # The tree could not be made.
                return
        try:
            super()._step(doing, act, change, sealing)
        except (lsmsql.Error, OSError) as error:
            del self.states[before:]
            self.errors.append((doing, error))
            # What is refused because of an earlier failure has not begun; of what failed itself nobody knows.
            if change is not None and not refused(error):
                self.done.append((change, False))
            if doing == "open":
                self.stopped = True
            elif doing != "close":
                self.look(doing)
        else:
            if change is not None:
                self.done.append((change, True))

    def look(self, doing: str) -> None:
        """What failed is not visible, and what was there still is; or it cannot be read."""
        try:
            now = seen(self.engine)
        except (lsmsql.Error, OSError):
            return
        assert now == self.states[-1].visible(), f"after {doing} failed: {now}"

    def open(self) -> None:
        """Twice if need be: the error may be over, and then opening again does all that the first attempt did not."""
        super().open()
        if self.stopped:
            self.stopped = False
            super().open()
        if not self.stopped and not all(certain for _, certain in self.done):
            self.find_out()

    def find_out(self) -> None:
        """After opening again it is certain what became of what had failed, and stays so."""
        try:
            now = seen(self.engine)
        except (lsmsql.Error, OSError):  # Nothing more can be said of this run than at its end.
            self.stopped = True
            return
        found = [(changes, state) for changes, state in self.outcomes() if state.visible() == now]
        assert found, f"after reopening: {now}; {self.errors}"
        self.done = [(change, True) for change in found[0][0]]
        self.states.append(found[0][1])

    def outcomes(self) -> list[tuple[list[Change], State]]:
        """What was acknowledged, with any of what failed: the changes, and the state after them."""
        uncertain = [number for number, (_, certain) in enumerate(self.done) if not certain]
        assert len(uncertain) <= 8, self.errors
        found = []
        for picks in product((False, True), repeat=len(uncertain)):
            left_out = {number for number, pick in zip(uncertain, picks, strict=True) if not pick}
            changes = [change for number, (change, _) in enumerate(self.done) if number not in left_out]
            state = State()
            try:
                for change in changes:
                    state = change(state)
            except KeyError:  # A change to a tree whose making is left out.
                continue
            found.append((changes, state))
        return found

    def possible(self) -> list[Any]:
        """Everything that may be found afterwards."""
        return [state.visible() for _, state in self.outcomes()]


def refused(error: Exception) -> bool:
    return isinstance(error, lsmsql.Error) and not isinstance(error, lsmsql.CorruptionError)


def hurt_life(life: Life) -> None:
    life.open()
    life.create("a")
    life.create("b")
    life.commit(("a", b"k", b"v" * 30), ("b", b"k", b"v"))
    life.snapshot("name")
    life.commit(("a", b"k", b"w" * 30), ("b", b"l", b"w" * 200))
    life.commit(("a", b"l", b"x" * 300), ("b", b"l", None))
    life.flush()
    life.commit(("a", b"k", None))
    life.put("b", b"m", b"y" * 400)
    life.ingest("a", [(b"i", b"1"), (b"k", b"2")])
    life.compact()
    life.reopen(table_bytes=500)
    life.create("c")
    life.commit(("c", b"k", b"1"), ("a", b"k", b"3"))
    life.release("name")
    life.drop("c")
    life.commit(("a", b"k", b"4"), ("b", b"k", b"5" * 300))
    life.commit(("a", b"k", b"6"), ("b", b"k", b"7" * 300))
    life.close()


def outlived(kind: str, nth: int, persistent: bool, options: Options, key: bytes | None) -> bool:
    """One run; False if the fault never struck."""
    fs = FaultFileSystem()
    fault = fs.fail(kind, nth, CODES.get(kind, errno.EIO), persistent=persistent)
    life = HurtLife(fs, options, key)
    said = f"{kind} number {nth} fails {'for good' if persistent else 'once'}"
    hurt_life(life)
    life.stopped = False
    if life.engine is not None:
        try:
            life.engine.close()
        except (lsmsql.Error, OSError) as error:
            life.errors.append(("close", error))
    assert not fs.open_files, f"{said}: left open: {fs.open_files}; {life.errors}"
    assert not fs.held_locks, f"{said}: left locked; {life.errors}"
    fs.heal()
    possible = life.possible()
    for image in [fs.copy(), *fs.images(limit=3)]:
        where = f"{said}; {life.errors}; afterwards {image.description or 'the page cache'}"
        try:
            engine = open_database(image, life.options, key)
        except Exception as error:
            raise AssertionError(f"{where}: {error!r}") from error
        now = seen(engine)
        assert now in possible, f"{where}: {now}\nexpected one of {possible}"
        engine.tree("further").put(b"k", b"v")
        engine.close()
        assert not image.open_files and not image.held_locks
    return bool(fault.hits)


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_call_loses_nothing(kind: str, persistent: bool) -> None:
    stride = 1 if LONG else STRIDES.get(kind, 1)
    key = KEY if LONG else None
    nth = 1
    while outlived(kind, nth, persistent, TINY, key):
        nth += stride
    print(f"{kind}: {nth - 1} calls")
    assert nth > 1


def test_after_a_failed_write_to_the_wal_every_commit_is_refused_until_reopening() -> None:
    for kind in ("append", "sync"):
        fs = FaultFileSystem()
        engine = open_database(fs, replace(TINY, memtable_bytes=1 << 16))
        tree = engine.tree("a")
        tree.put(b"before", b"1")
        fs.fail(kind, match=lambda path: path.endswith(".wal"))
        with pytest.raises(OSError, match="injected"):
            tree.put(b"failed", b"2")
        for _ in range(3):
            with pytest.raises(lsmsql.Error):
                tree.put(b"refused", b"3")
            with pytest.raises(lsmsql.Error):
                tree.ingest([(b"refused", b"3")])
            with pytest.raises(lsmsql.Error):
                engine.flush()
        assert list(tree.scan()) == [(b"before", b"1")]
        assert tree.get(b"failed") is None
        let_go(engine)
        with open_database(fs, TINY) as engine:
            assert engine.tree("a").get(b"before") == b"1"
            assert engine.tree("a").get(b"refused") is None
            engine.tree("a").put(b"after", b"4")


@pytest.mark.parametrize("kind", ["append", "sync", "create", "sync_directory"])
def test_a_failing_flush_in_the_background_stops_the_writers_with_its_error_and_nobody_waits_forever(kind: str) -> None:
    fs = FaultFileSystem()
    engine = open_database(fs, replace(TINY, background=True, sealed_max=2))
    tree = engine.tree("a")
    matching = (lambda path: path.endswith("db")) if kind == "sync_directory" else (lambda path: path.endswith(".sst"))
    fs.fail(kind, 3 if kind == "sync_directory" else 1, errno.ENOSPC, persistent=True, match=matching)
    acknowledged = 0
    with pytest.raises((lsmsql.Error, OSError)):
        for number in range(1000):
            tree.put(b"%04d" % number, b"x" * 100)
            acknowledged = number + 1
    assert acknowledged < 1000
    for action in (engine.flush, engine.wait_idle, engine.compact, lambda: tree.put(b"more", b"1"), lambda: tree.ingest([(b"more", b"1")])):
        with pytest.raises((lsmsql.Error, OSError)):
            action()
    assert len(list(tree.scan())) >= acknowledged
    let_go(engine)
    assert not fs.open_files and not fs.held_locks
    fs.heal()
    with open_database(fs, TINY) as engine:
        rows = list(engine.tree("a").scan())
        assert rows[:acknowledged] == [(b"%04d" % number, b"x" * 100) for number in range(acknowledged)]
        assert len(rows) <= acknowledged + 1


def test_a_failing_compaction_in_the_background_leaves_everything_readable() -> None:
    fs = FaultFileSystem()
    with open_database(fs, replace(TINY, l0_tables=100)) as engine:
        for number in range(30):
            engine.tree("a").put(b"%04d" % number, b"x" * 100)
        engine.flush()
    with open_database(fs, replace(TINY, background=True, l0_tables=100)) as engine:
        expected = list(engine.tree("a").scan())
        assert len(expected) == 30
        fs.fail("append", 2, errno.EIO, match=lambda path: path.endswith(".sst"))
        with pytest.raises((lsmsql.Error, OSError)):
            engine.compact()
        assert list(engine.tree("a").scan()) == expected
        with pytest.raises(lsmsql.Error):
            engine.tree("a").put(b"k", b"v")
    assert not fs.open_files
    with open_database(fs, TINY) as engine:
        assert list(engine.tree("a").scan()) == expected
        engine.compact()
        assert list(engine.tree("a").scan()) == expected
