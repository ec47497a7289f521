"""A writer that does anything in any order, what it holds after each step, and a file system on which it comes between the reader's operations."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from lsmsql import Options, ReadOnlyDatabase
from lsmsql.engine.storage.filesystem import FileSystem
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from tests.engine.database_world import DIRECTORY, INLINE, open_database, rows

TINY = Options(
    background=False,
    durability="normal",
    memtable_bytes=1500,
    block_bytes=128,
    table_bytes=1000,
    l0_tables=2,
    l0_slowdown=4,
    l0_stop=6,
    level_bytes=2000,
    level_ratio=2,
    manifest_bytes=600,
    cache_bytes=1 << 20,
)


def open_reader(fs: FileSystem, options: Options | None = None, **more: Any) -> ReadOnlyDatabase:
    return ReadOnlyDatabase.open(DIRECTORY, options, filesystem=fs, **more)


class World:
    """A writer that does one random thing after another, and what it holds after each: moment -> (trees, rows, named snapshots)."""

    def __init__(self, fs: MemoryFileSystem, seed: int, key: bytes | None = None) -> None:
        self.random = random.Random(seed)
        self.fs = fs
        self.key = key
        self.options = random.Random(seed).choice([TINY, INLINE])
        self.writer = open_database(fs, self.options, key=key)
        self.prepared: Any = None
        self.names = 0
        self.state: dict[str, dict[bytes, bytes]] = {}
        self.snapshots: dict[str, dict[str, dict[bytes, bytes]]] = {}
        self.moments: list[Any] = []
        self.note()

    def content(self) -> dict[str, dict[bytes, bytes]]:
        return {name: dict(tree) for name, tree in self.state.items()}

    def note(self) -> None:
        self.moments.append((self.content(), dict(self.snapshots)))

    def step(self) -> None:
        action = self.random.choice(
            ["put"] * 6 + ["batch"] * 4 + ["flush", "compact", "ingest", "create", "drop", "snapshot", "release", "reopen"] + ["prepare"] * 3
        )
        if self.prepared is not None:
            self.settle()
        getattr(self, action)()
        self.note()

    def settle(self) -> None:
        """In two steps: the reader may come between the preparation and its outcome."""
        prepared, changed = self.prepared
        self.prepared = None
        if self.random.random() < 0.7:
            self.state = changed
            self.note()  # Before: a reader may see it as soon as it is written, and before the call returns.
            prepared.commit()
        else:
            prepared.abort()

    def tree_name(self) -> str:
        if not self.state:
            self.create()
        return self.random.choice(sorted(self.state))

    def some_key(self) -> bytes:
        return b"%02d" % self.random.randrange(40)

    def some_value(self) -> bytes:
        return bytes([65 + self.random.randrange(26)]) * self.random.choice([1, 20, 60])

    def put(self) -> None:
        name = self.tree_name()
        key, value = self.some_key(), self.some_value()
        changed = self.content()
        changed[name][key] = value
        self.change(changed, lambda: self.writer.tree(name).put(key, value))

    def change(self, changed: dict[str, dict[bytes, bytes]], act: Callable[[], object]) -> None:
        self.moments.append((changed, dict(self.snapshots)))
        act()
        self.state = changed

    def fill(self) -> tuple[Any, dict[str, dict[bytes, bytes]]]:
        changed = self.content()
        batch = self.writer.batch()
        self.tree_name()
        for name in sorted(self.state):
            tree = self.writer.tree(name)
            for _ in range(self.random.randrange(1, 6)):
                key, value = self.some_key(), self.some_value()
                if self.random.random() < 0.3:
                    batch.delete(tree, key)
                    changed.setdefault(name, {}).pop(key, None)
                else:
                    batch.put(tree, key, value)
                    changed.setdefault(name, {})[key] = value
        return batch, changed

    def batch(self) -> None:
        batch, changed = self.fill()
        self.change(changed, lambda: self.writer.commit(batch))

    def prepare(self) -> None:
        batch, changed = self.fill()
        self.prepared = self.writer.prepare(batch), changed
        if self.random.random() < 0.3:
            batch, changed = self.fill()
            self.prepared[0].replace(batch.operations.payload(), tuple(batch.operations.trees()))
            self.prepared = self.prepared[0], changed

    def flush(self) -> None:
        self.writer.flush()

    def compact(self) -> None:
        self.writer.compact()

    def ingest(self) -> None:
        name = self.tree_name()
        loaded = {self.some_key(): self.some_value() for _ in range(self.random.randrange(1, 12))}
        changed = self.content()
        changed[name] |= loaded
        self.change(changed, lambda: self.writer.tree(name).ingest(sorted(loaded.items())))

    def create(self) -> None:
        self.names += 1
        name = f"t{self.names}"
        changed = self.content() | {name: {}}
        self.change(changed, lambda: self.writer.tree(name))

    def drop(self) -> None:
        if len(self.state) > 1:
            name = self.tree_name()
            changed = self.content()
            del changed[name]
            self.change(changed, lambda: self.writer.drop_tree(name))

    def snapshot(self) -> None:
        self.names += 1
        name = f"s{self.names}"
        self.snapshots[name] = self.content()
        self.note()
        self.writer.snapshot(name).close()

    def release(self) -> None:
        if self.snapshots:
            name = self.random.choice(sorted(self.snapshots))
            del self.snapshots[name]
            self.note()
            self.writer.release(name)

    def reopen(self) -> None:
        self.writer.close()
        self.writer = open_database(self.fs, self.options, key=self.key)

    def close(self) -> None:
        if self.prepared is not None:
            self.settle()
        self.writer.close()


def content_of(reader: ReadOnlyDatabase) -> tuple[dict[str, dict[bytes, bytes]], dict[str, dict[str, dict[bytes, bytes]]]]:
    content = {name: rows(reader.tree(name)) for name in reader.tree_names()}
    named: dict[str, dict[str, dict[bytes, bytes]]] = {}
    for snapshot in reader.snapshots():
        named[snapshot] = {name: rows(reader.tree(name), snapshot=snapshot) for name in reader.tree_names()}
    return content, named


def fits(found: Any, moment: Any) -> bool:
    """Whether what a reader found is a moment; in a snapshot only trees that still are can be read, and later ones are empty."""
    content, named = found
    expected, snapshots = moment
    return (
        content == expected
        and named.keys() == snapshots.keys()
        and all({name: snapshots[snapshot].get(name, {}) for name in expected} == trees for snapshot, trees in named.items())
    )


class Interrupting:
    """The reader's file system: before each of its operations the writer may act."""

    def __init__(self, fs: MemoryFileSystem, act: Callable[[], None]) -> None:
        self._fs = fs
        self._act = act

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fs, name)
        if name in ("join", "absolute", "identity") or not callable(found):
            return found

        def call(*arguments: Any, **more: Any) -> Any:
            self._act()
            result = found(*arguments, **more)
            return InterruptingFile(result, self._act) if name == "open" else result

        return call


class InterruptingFile:
    def __init__(self, file: Any, act: Callable[[], None]) -> None:
        self._file = file
        self._act = act
        self.path = file.path
        self.close = file.close

    def read_at(self, offset: int, size: int) -> bytes:
        self._act()
        return self._file.read_at(offset, size)  # type: ignore[no-any-return]

    def size(self) -> int:
        self._act()
        return self._file.size()  # type: ignore[no-any-return]
