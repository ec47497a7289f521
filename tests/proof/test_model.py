"""The engine against a dict: hypothesis drives both through everything a caller can do, and after every step every way of reading agrees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule, run_state_machine_as_test

import lsmsql
from lsmsql import Options
from tests.proof.fault_filesystem import FaultFileSystem
from tests.proof.judge import LONG
from tests.proof.workload import KEY, TINY, open_database

TREES = ("a", "b")
LETTERS = (b"\x00", b"a", b"b", b"\xff")
keys = st.lists(st.sampled_from(LETTERS), max_size=3).map(b"".join)
values = st.one_of(st.just(b""), st.binary(max_size=6), st.integers(0, 400).map(lambda size: b"v" * size))
bounds = st.one_of(st.none(), keys)
names = st.sampled_from(TREES)
ALL_KEYS = [b"", *LETTERS, *(x + y for x in LETTERS for y in LETTERS)]

Contents = dict[bytes, bytes]
World = dict[str, Contents]


def in_range(contents: Contents, lower: bytes | None, upper: bytes | None, reverse: bool, limit: int | None) -> list[tuple[bytes, bytes]]:
    rows = [(key, contents[key]) for key in sorted(contents) if (lower is None or key >= lower) and (upper is None or key < upper)]
    return (rows[::-1] if reverse else rows)[:limit]


class Machine(RuleBasedStateMachine):
    """world: what is now; lives: which incarnation of each tree that is; frozen snapshots keep copies of both."""

    options = TINY
    key: bytes | None = None
    full_check_every = 1

    opened = Bundle("opened")
    views = Bundle("views")

    def __init__(self) -> None:
        super().__init__()
        self.fs = FaultFileSystem()
        self.engine: Any = None
        self.world: World = {name: {} for name in TREES}
        self.lives = dict.fromkeys(TREES, 0)
        self.named: dict[str, tuple[int, World, dict[str, int]]] = {}
        self.pinned: list[Any] = []
        self.crashes = 0
        self.seqno = 0
        self.history: dict[int, tuple[World, dict[str, int]]] = {}
        self.changed: dict[str, dict[bytes, int]] = {name: {} for name in TREES}
        self._remember()
        self._open()
        for name in TREES:
            self.engine.tree(name)

    def _open(self) -> None:
        self.engine = open_database(self.fs, self.options, self.key)

    def _tree(self, name: str) -> Any:
        return self.engine.tree(name)

    def _committed(self, operations: int, changed: set[tuple[str, bytes]] = frozenset()) -> None:  # type: ignore[assignment]
        """A commit takes exactly one seqno, nothing takes none. changed: the (tree, key) it wrote."""
        self.seqno += bool(operations)
        assert self.engine.seqno == self.seqno
        for name, key in changed:
            self.changed[name][key] = self.seqno
        self._remember()

    def _remember(self) -> None:
        self.history[self.seqno] = {name: dict(rows) for name, rows in self.world.items()}, dict(self.lives)

    def teardown(self) -> None:
        for thing in self.pinned:
            thing.close()
        if self.engine is not None:
            self.engine.close()
        assert not self.fs.open_files, self.fs.open_files
        assert not self.fs.held_locks

    # Writing

    @rule(name=names, key=keys, value=values)
    def put(self, name: str, key: bytes, value: bytes) -> None:
        self._tree(name).put(key, value)
        self.world[name][key] = value
        self._committed(1, {(name, key)})

    @rule(rows=st.lists(st.tuples(names, keys, st.one_of(st.none(), values)), min_size=4, max_size=14))
    def write_much(self, rows: list[tuple[str, bytes, bytes | None]]) -> None:
        """Each a commit of its own."""
        for name, key, value in rows:
            if value is None:
                self.delete(name, key)
            else:
                self.put(name, key, value)

    @rule(name=names, key=keys)
    def delete(self, name: str, key: bytes) -> None:
        self._tree(name).delete(key)
        self.world[name].pop(key, None)
        self._committed(1, {(name, key)})

    @rule(name=names, items=st.lists(st.tuples(keys, values), max_size=6))
    def put_many(self, name: str, items: list[tuple[bytes, bytes]]) -> None:
        self._tree(name).put_many(iter(items))
        self.world[name].update(items)
        self._committed(len(items), {(name, key) for key, _ in items})

    @rule(name=names, lower=bounds, upper=bounds)
    def delete_slice(self, name: str, lower: bytes | None, upper: bytes | None) -> None:
        gone = in_range(self.world[name], lower, upper, False, None)
        del self._tree(name)[lower:upper]
        for key, _ in gone:
            del self.world[name][key]
        self._committed(len(gone), {(name, key) for key, _ in gone})

    @rule(operations=st.lists(st.tuples(names, keys, st.one_of(st.none(), values)), max_size=8), keep=st.integers(0, 8), abandon=st.booleans())
    def batch(self, operations: list[tuple[str, bytes, bytes | None]], keep: int, abandon: bool) -> None:
        """Over both trees; rolled back to the first `keep` operations; read through before it is committed or abandoned."""
        batch = self.engine.batch()
        before = {name: dict(contents) for name, contents in self.world.items()}
        after = {name: dict(contents) for name, contents in self.world.items()}
        for number, (name, key, value) in enumerate(operations):
            if number == keep:
                mark = batch.mark()
            if value is None:
                batch.delete(self._tree(name), key)
            else:
                batch.put(self._tree(name), key, value)
            if number < keep:
                after[name].pop(key, None)
                if value is not None:
                    after[name][key] = value
        if len(operations) > keep:
            with self.engine.read_view() as view:
                for name in TREES:
                    assert list(view.scan(self._tree(name), batch=batch, mark=keep)) == sorted(after[name].items())
            batch.rollback(mark)
        assert len(batch) == min(keep, len(operations))
        touched = {(name, key): value for name, key, value in operations[:keep]}
        with self.engine.read_view() as view:
            for name in TREES:
                tree = self._tree(name)
                assert list(view.scan(tree, batch=batch)) == sorted(after[name].items())
                assert list(view.scan(tree, batch=batch, reverse=True)) == sorted(after[name].items(), reverse=True)
                assert list(view.scan(tree)) == sorted(before[name].items())
                for key in {key for _, key, _ in operations}:
                    assert view.get(tree, key, batch=batch) == after[name].get(key)
                    expected = touched.get((name, key), "missing")
                    found = batch.get(tree, key)
                    assert (found == expected) if expected != "missing" else (found is not None and not isinstance(found, bytes))
        if abandon:
            self._committed(0)
            return
        self.engine.commit(batch)
        self.world = after
        self._committed(len(batch), set(touched))

    @rule(name=names, rows=st.dictionaries(keys, values, max_size=8))
    def ingest(self, name: str, rows: Contents) -> None:
        self._tree(name).ingest(sorted(rows.items()))
        self.world[name].update(rows)
        self._committed(len(rows), {(name, key) for key in rows})

    @rule(name=names, row=st.tuples(keys, values))
    def ingest_in_disorder(self, name: str, row: tuple[bytes, bytes]) -> None:
        with pytest.raises(lsmsql.UsageError):
            self._tree(name).ingest([row, row])
        self._committed(0)

    # Reading

    @rule(name=names, lower=bounds, upper=bounds, reverse=st.booleans(), limit=st.one_of(st.none(), st.integers(0, 5)))
    def scan(self, name: str, lower: bytes | None, upper: bytes | None, reverse: bool, limit: int | None) -> None:
        expected = in_range(self.world[name], lower, upper, reverse, limit)
        assert list(self._tree(name).scan(lower, upper, reverse=reverse, limit=limit)) == expected

    @rule(name=names, prefix=keys, reverse=st.booleans())
    def scan_prefix(self, name: str, prefix: bytes, reverse: bool) -> None:
        expected = [row for row in in_range(self.world[name], None, None, reverse, None) if row[0].startswith(prefix)]
        assert list(self._tree(name).scan(prefix=prefix, reverse=reverse)) == expected

    @rule(name=names, wanted=st.lists(keys, max_size=8))
    def get_many(self, name: str, wanted: list[bytes]) -> None:
        tree = self._tree(name)
        assert tree.get_many(wanted) == [self.world[name].get(key) for key in wanted]
        assert [tree.contains(key) for key in wanted] == [key in self.world[name] for key in wanted]
        assert [tree.get(key, b"default") for key in wanted] == [self.world[name].get(key, b"default") for key in wanted]

    @rule(target=opened, name=names, reverse=st.booleans(), first=st.integers(0, 3))
    def begin_scan(self, name: str, reverse: bool, first: int) -> Any:
        """A scan that is left open while the world goes on: it shows the moment of its beginning."""
        scan = self._tree(name).scan(reverse=reverse)
        expected = in_range(self.world[name], None, None, reverse, None)
        assert scan.fill(first) == expected[:first]
        self.pinned.append(scan)
        return scan, expected[first:], self.crashes

    @rule(found=consumes(opened))
    def end_scan(self, found: Any) -> None:
        scan, expected, crashes = found
        if crashes == self.crashes:
            assert list(scan) == expected
        scan.close()

    @rule(target=views, snapshot=st.booleans())
    def open_view(self, snapshot: bool) -> Any:
        view = self.engine.snapshot() if snapshot else self.engine.read_view()
        assert view.seqno == self.seqno
        self.pinned.append(view)
        trees = {name: self._tree(name) for name in TREES}
        return view, {name: dict(rows) for name, rows in self.world.items()}, dict(self.lives), self.crashes, trees

    @rule(found=views, name=names, lower=bounds, upper=bounds, reverse=st.booleans())
    def read_view(self, found: Any, name: str, lower: bytes | None, upper: bytes | None, reverse: bool) -> None:
        view, world, lives, crashes, trees = found
        if crashes != self.crashes:
            return
        expected = in_range(world[name], lower, upper, reverse, None)
        if lives[name] != self.lives[name]:
            if hasattr(view, "scan"):  # It holds the files, so it outlives the tree.
                assert list(view.scan(trees[name], lower, upper, reverse=reverse)) == expected
                assert view.get_many(trees[name], ALL_KEYS) == [world[name].get(key) for key in ALL_KEYS]
            return
        assert list(self._tree(name).scan(lower, upper, reverse=reverse, snapshot=view)) == expected
        assert [self._tree(name).get(key, snapshot=view) for key in ALL_KEYS] == [world[name].get(key) for key in ALL_KEYS]
        assert self._tree(name).get_many(ALL_KEYS, snapshot=view.seqno) == [world[name].get(key) for key in ALL_KEYS]

    @rule(found=consumes(views))
    def close_view(self, found: Any) -> None:
        found[0].close()

    @rule(back=st.integers(-2, 8), name=names, reverse=st.booleans())
    def read_the_past(self, back: int, name: str, reverse: bool) -> None:
        """Any seqno: the true answer or HistoryError, which a named one and the present never give."""
        seqno = self.seqno - back
        try:
            view = self.engine.read_view(seqno)
        except lsmsql.HistoryError:
            assert seqno != self.seqno and seqno not in self.engine.snapshots().values()
            return
        with view:
            assert 0 <= seqno <= self.seqno
            world, lives = self.history[seqno]
            expected = in_range(world[name], None, None, reverse, None) if lives[name] == self.lives[name] else []
            assert list(view.scan(self._tree(name), reverse=reverse)) == expected
            assert view.get_many(self._tree(name), ALL_KEYS) == [dict(expected).get(key) for key in ALL_KEYS]

    @rule(back=st.integers(0, 8), name=names, reverse=st.booleans())
    def scan_changes(self, back: int, name: str, reverse: bool) -> None:
        """Only what changed since a seqno, or HistoryError."""
        since = max(self.seqno - back, 0)
        with self.engine.read_view() as view:
            try:
                rows = list(view.scan(self._tree(name), since=since, reverse=reverse))
            except lsmsql.HistoryError:
                assert 0 < since < self.seqno
                return
        expected = in_range(self.world[name], None, None, reverse, None)
        assert rows == [(key, value) for key, value in expected if self.changed[name][key] > since]

    # Snapshots with names

    @rule(label=st.sampled_from(("one", "two")))
    def name_snapshot(self, label: str) -> None:
        if label in self.named:
            with pytest.raises(lsmsql.ConflictError):
                self.engine.snapshot(label)
            return
        self.engine.snapshot(label).close()
        self.named[label] = self.seqno, {name: dict(rows) for name, rows in self.world.items()}, dict(self.lives)

    @rule(label=st.sampled_from(("one", "two")))
    def release(self, label: str) -> None:
        if label not in self.named:
            with pytest.raises(lsmsql.UsageError):
                self.engine.release(label)
            return
        self.engine.release(label)
        del self.named[label]

    # Upkeep

    @rule()
    def flush(self) -> None:
        self.engine.flush()

    @rule(name=st.one_of(st.none(), names))
    def compact(self, name: str | None) -> None:
        self.engine.compact(None if name is None else self._tree(name))

    @rule(name=names)
    def drop_and_make_again(self, name: str) -> None:
        old = self._tree(name)
        self.engine.drop_tree(name)
        assert self.engine.tree_names() == [other for other in TREES if other != name]
        with pytest.raises(lsmsql.UsageError):
            old.put(b"k", b"v")
        with pytest.raises(lsmsql.UsageError):
            self.engine.tree(name, create=False)
        self._tree(name)
        self.world[name] = {}
        self.lives[name] += 1
        self._remember()

    # The end of the process, or of the machine

    def _gone(self) -> None:
        self.crashes += 1
        self.pinned.clear()

    @rule()
    def reopen(self) -> None:
        engine = self.engine
        engine.close()
        with pytest.raises(lsmsql.ClosedError):
            engine.tree("a")
        assert not self.fs.open_files and not self.fs.held_locks
        self._gone()
        self._open()

    @precondition(lambda self: self.options.durability == "full")
    @rule(seed=st.integers(0, 20))
    def crash(self, seed: int) -> None:
        """Power loss without closing: everything was acknowledged, so everything is there."""
        images = list(self.fs.images(limit=6, seed=seed))
        self.engine.close()
        self._gone()
        self.fs = images[seed % len(images)]
        self._open()

    # Always

    @invariant()
    def everything_agrees(self) -> None:
        engine = self.engine
        assert engine.seqno == self.seqno
        assert engine.tree_names() == list(TREES)
        assert engine.snapshots() == {label: seqno for label, (seqno, _, _) in self.named.items()}
        for name in TREES:
            self._agrees(name, self.world[name], None)
        for label, (seqno, world, lives) in self.named.items():
            for name in TREES:
                self._agrees(name, world[name] if lives[name] == self.lives[name] else {}, label)
                assert self._tree(name).get_many(ALL_KEYS[:3], snapshot=seqno) == self._tree(name).get_many(ALL_KEYS[:3], snapshot=label)

    def _agrees(self, name: str, contents: Contents, moment: str | None) -> None:
        tree = self._tree(name)
        rows = sorted(contents.items())
        assert list(tree.scan(snapshot=moment)) == rows
        assert list(tree.scan(reverse=True, snapshot=moment)) == rows[::-1]
        assert [tree.get(key, snapshot=moment) for key in ALL_KEYS] == [contents.get(key) for key in ALL_KEYS]
        assert tree.get_many(ALL_KEYS, snapshot=moment) == [contents.get(key) for key in ALL_KEYS]


SMALLEST = replace(TINY, memtable_bytes=1, block_bytes=1, table_bytes=1, l0_tables=1, level_bytes=1, manifest_bytes=0, cache_bytes=0, filter_bits=0)
VARIANTS: dict[str, tuple[Options, bytes | None, int]] = {
    "tiny": (TINY, None, 80),
    "smallest": (SMALLEST, None, 25),
    "encrypted": (replace(TINY, memtable_bytes=200, compression="none"), KEY, 40),
    "lazy": (replace(TINY, durability="normal", memtable_bytes=2000, block_bytes=1, l0_tables=4, l0_slowdown=1000), None, 60),
    "large": (replace(Options(), background=False, durability="off"), None, 40),
    "threads": (replace(TINY, background=True, memtable_bytes=300), None, 30),
    "values apart": (replace(TINY, blob_threshold=1), None, 20),
    "some values apart": (replace(TINY, memtable_bytes=200, blob_threshold=64, blob_live_share=1.0), KEY, 15),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_engine_is_a_dict_with_a_past(variant: str) -> None:
    options, key, examples = VARIANTS[variant]
    machine: Callable[[], RuleBasedStateMachine] = type("Machine", (Machine,), {"options": options, "key": key})
    examples *= 20 if LONG else 1
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40, deadline=None, derandomize=not LONG))
