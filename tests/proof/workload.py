"""A scripted life of a small database, and every whole state it goes through: what campaigns hold against what is left of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import lsmsql
from lsmsql import Options
from lsmsql.engine.storage.filesystem import FileSystem

DIRECTORY = "db"
KEY = bytes(range(7, 39))
MARK = b"\xffmark"  # The number of the last commit, in every tree it wrote to: tells states apart.

TINY = Options(
    background=False,
    memtable_bytes=500,
    block_bytes=64,
    table_bytes=600,
    cache_bytes=1 << 14,
    l0_tables=2,
    l0_slowdown=1000,
    l0_stop=1000,
    level_bytes=1500,
    level_ratio=2,
    manifest_bytes=700,
)

Change = Callable[["State"], "State"]
Contents = Mapping[bytes, bytes]


@dataclass(frozen=True)
class Tree:
    """life: a number of its own for every tree made, so that one dropped and made again is another."""

    life: int
    contents: Contents = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """All that a reader can see: trees by name, and by name of snapshot the trees as they were then."""

    trees: Mapping[str, Tree] = field(default_factory=dict)
    snapshots: Mapping[str, Mapping[str, Tree]] = field(default_factory=dict)

    def visible(self) -> dict[str, Any]:
        """As `seen` reads it from a database: old states of the trees that there still are."""
        return {
            "trees": {name: dict(tree.contents) for name, tree in self.trees.items()},
            "snapshots": {
                label: {name: dict(old[name].contents) if name in old and old[name].life == tree.life else {} for name, tree in self.trees.items()}
                for label, old in self.snapshots.items()
            },
        }


def seen(engine: Any) -> dict[str, Any]:
    """Everything that a reader can see of an open database; get, forward and backward scans must agree."""
    trees = {name: contents(engine, name) for name in engine.tree_names()}
    snapshots = {}
    for label, seqno in engine.snapshots().items():
        with engine.read_view(seqno) as view:
            snapshots[label] = {name: dict(view.scan(engine.tree(name))) for name in trees}
    return {"trees": trees, "snapshots": snapshots}


def contents(engine: Any, name: str) -> dict[bytes, bytes]:
    tree = engine.tree(name)
    forward = list(tree.scan())
    assert list(tree.scan(reverse=True)) == forward[::-1]
    keys = [key for key, _ in forward]
    assert keys == sorted(set(keys))
    assert tree.get_many(keys) == [value for _, value in forward]
    return dict(forward)


def open_database(fs: FileSystem, options: Options | None = None, key: str | bytes | None = None) -> Any:
    return lsmsql.open(DIRECTORY, options, key=key, filesystem=fs)


def let_go(engine: Any) -> None:
    """Close a database whose file system may be gone."""
    if engine is not None:
        with suppress(Exception):
            engine.close()


class Life:
    """One run of steps on a file system.

    states: what is visible after each step that changes something, the first being nothing at all; acknowledged: the index of the newest
    one whose step has returned; durable: of the newest that no power loss may take ("full": the acknowledged one).
    """

    def __init__(self, fs: FileSystem, options: Options, key: bytes | None = None) -> None:
        self.fs = fs
        self.options = options
        self.key = key
        self.engine: Any = None
        self.states = [State()]
        self.acknowledged = 0
        self.durable = 0
        self.lives = self.commits = 0
        self.doing = "nothing"

    def _step(self, doing: str, act: Callable[[], Any], change: Change | None = None, sealing: bool = False) -> None:
        """sealing: makes everything before it durable too, whatever the durability."""
        self.doing = doing
        if change is not None:
            self.states.append(change(self.state))
        act()
        self.acknowledged = len(self.states) - 1
        if sealing or self.options.durability == "full":
            self.durable = self.acknowledged
        self.doing = f"after {doing}"

    @property
    def state(self) -> State:
        return self.states[-1]

    def open(self) -> None:
        def act() -> None:
            self.engine = open_database(self.fs, self.options, self.key)

        self._step("open", act)

    def close(self) -> None:
        self._step("close", lambda: self.engine.close(), sealing=True)

    def reopen(self, **options: Any) -> None:
        """options: those that change."""
        self.close()
        self.options = replace(self.options, **options)
        self.open()

    def create(self, name: str) -> None:
        self.lives += 1
        tree = Tree(self.lives)
        self._step(f"create {name}", lambda: self.engine.tree(name), lambda state: replace(state, trees={**state.trees, name: tree}))

    def drop(self, name: str) -> None:
        def change(state: State) -> State:
            return replace(state, trees={other: tree for other, tree in state.trees.items() if other != name})

        self._step(f"drop {name}", lambda: self.engine.drop_tree(name), change, sealing=True)

    def commit(self, *operations: tuple[str, bytes, bytes | None], durability: str | None = None) -> None:
        """One batch of (tree, key, value; None deletes); its number is put into each of its trees beside them. durability: of this one."""
        self.commits += 1
        mark = b"%d" % self.commits
        every = [*operations, *((name, MARK, mark) for name in sorted({name for name, _, _ in operations}))]

        def change(state: State) -> State:
            trees = dict(state.trees)
            for name, key, value in every:
                after = {other: old for other, old in trees[name].contents.items() if other != key}
                trees[name] = replace(trees[name], contents=after if value is None else {**after, key: value})
            return replace(state, trees=trees)

        def act() -> None:
            batch = self.engine.batch()
            for name, key, value in every:
                if value is None:
                    batch.delete(self.engine.tree(name), key)
                else:
                    batch.put(self.engine.tree(name), key, value)
            self.engine.commit(batch, durability)

        self._step(f"commit {self.commits}", act, change, sealing=durability == "full")

    def put(self, name: str, key: bytes, value: bytes) -> None:
        self._step(f"put {key!r}", lambda: self.engine.tree(name).put(key, value), adding(name, {key: value}))

    def ingest(self, name: str, rows: list[tuple[bytes, bytes]]) -> None:
        self._step(f"ingest {rows[0][0]!r}", lambda: self.engine.tree(name).ingest(rows), adding(name, dict(rows)), sealing=True)

    def snapshot(self, label: str) -> None:
        def change(state: State) -> State:
            return replace(state, snapshots={**state.snapshots, label: state.trees})

        self._step(f"snapshot {label}", lambda: self.engine.snapshot(label), change, sealing=True)

    def release(self, label: str) -> None:
        def change(state: State) -> State:
            return replace(state, snapshots={other: old for other, old in state.snapshots.items() if other != label})

        self._step(f"release {label}", lambda: self.engine.release(label), change)

    def flush(self) -> None:
        self._step("flush", lambda: self.engine.flush(), sealing=True)

    def compact(self) -> None:
        self._step("compact", lambda: self.engine.compact())


def adding(name: str, rows: Contents) -> Change:
    def change(state: State) -> State:
        tree = state.trees[name]
        return replace(state, trees={**state.trees, name: replace(tree, contents={**tree.contents, **rows})})

    return change


def full_life(life: Life) -> None:
    """Everything that writes files, in a few hundred operations; with TINY options the memtables rotate by themselves as well."""
    life.open()
    life.create("a")
    life.create("b")
    life.commit(("a", b"", b"empty"), ("b", b"k1", b"one"))
    life.commit(("a", b"k1", b"1" * 40), ("b", b"k1", None), ("b", b"k2", b"2" * 40))
    life.snapshot("early")
    life.commit(("a", b"k1", b"newer"), ("b", b"k1", b"again"))
    life.flush()
    life.commit(("b", b"k3", b"3" * 90))
    life.commit(("a", b"", None), ("b", b"k2", b"two"))
    for number in range(5):
        life.commit(("a", b"x%d" % number, b"%d" % number * 60), ("b", b"y%d" % (number % 3), b"%d" % number * 70))
    life.ingest("a", [(b"i%d" % number, b"in" * 10) for number in range(8)])
    life.put("a", b"i3", b"after the ingest")
    life.create("c")
    life.commit(("c", b"k", b"v"), ("a", b"i4", None))
    life.snapshot("late")
    life.reopen()
    life.commit(("c", b"k", b"w"), ("b", b"k1", b"after reopening"))
    life.drop("c")
    life.commit(("a", b"x1", None), ("b", b"y1", None))
    life.compact()
    life.create("c")
    life.commit(("c", b"k", b"another tree of that name"), ("a", b"x2", b"after compaction"))
    life.release("early")
    life.ingest("b", [(b"k0", b"ingested"), (b"k1", b"over a memtable" * 3), (b"z", b"")])
    life.flush()
    life.commit(("a", b"big", b"B" * 700), ("b", b"big", b"B" * 300))
    life.compact()
    life.commit(("b", b"k1", None))
    life.reopen(memtable_bytes=1 << 14, compression="none")
    for number in range(10):  # Many in one WAL.
        life.commit(("a", b"w%d" % (number % 4), b"%d" % number), ("b", b"w", None if number % 3 else b"w"))
    life.reopen(memtable_bytes=300)
    life.commit(("a", b"last", b"1"), ("b", b"last", b"1"))
    life.close()
