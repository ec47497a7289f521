"""Databases for tests: small sizes, so that a few commits reach every path, and what can be read from them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lsmsql import Database, Options
from lsmsql.engine.storage.filesystem import FileSystem
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.tree import Tree

DIRECTORY = "/db"
KEY = bytes(range(32))
INLINE = Options(
    background=False,
    durability="full",
    memtable_bytes=4000,
    block_bytes=256,
    table_bytes=4000,
    l0_tables=3,
    l0_slowdown=6,
    l0_stop=9,
    level_bytes=10_000,
    level_ratio=3,
    manifest_bytes=4000,
    cache_bytes=1 << 20,
)


def memory() -> MemoryFileSystem:
    return MemoryFileSystem(directories=[DIRECTORY])


def open_database(fs: FileSystem, options: Options | None = INLINE, **more: Any) -> Database:
    return Database.open(DIRECTORY, options, filesystem=fs, **more)


def rows(tree: Tree, **more: Any) -> dict[bytes, bytes]:
    """All rows of a tree, the same by a scan either way and by get."""
    found = dict(tree.scan(**more))
    assert list(found) == sorted(found)
    assert list(tree.scan(reverse=True, **more)) == list(reversed(found.items()))
    for key, value in found.items():
        assert tree.get(key, snapshot=more.get("snapshot")) == value
    return found


def wal_paths(fs: MemoryFileSystem) -> list[str]:
    return sorted(path for path in fs.files() if path.endswith(".wal"))


def table_paths(fs: MemoryFileSystem) -> list[str]:
    return sorted(path for path in fs.files() if path.endswith(".sst"))


@contextmanager
def held_elsewhere(lock: Any) -> Iterator[None]:
    """Another thread holds a lock meanwhile."""
    held, end = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            end.wait()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        end.set()
        thread.join()


def is_held(lock: Any) -> bool:
    """Whether a lock is held by any thread, this one included."""
    taken: list[bool] = []

    def take() -> None:
        taken.append(lock.acquire(blocking=False))
        if taken[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return not taken[0]
