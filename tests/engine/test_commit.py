"""Commits: atomic over trees, grouped among threads, and refused for good once the end of the WAL is unknown."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lsmsql import Error, UsageError
from lsmsql.engine.tree import Tree
from tests.proof.fault_filesystem import FaultFileSystem

from .database_world import DIRECTORY, INLINE, KEY, memory, open_database, rows, wal_paths

DURABILITIES = ["full", "normal", "off"]


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("durability", DURABILITIES)
def test_each_write_is_one_commit(durability: str, key: bytes | None) -> None:
    fs = memory()
    with open_database(fs, replace(INLINE, durability=durability), key=key) as engine:
        tree = engine.tree("kv")
        tree.put(b"a", b"1")
        tree.delete(b"b")
        assert tree.put_many([(b"c", b"3"), (b"d", b"4"), (b"c", b"5")]) == 3
        assert tree.put_many([]) == 0
        assert engine.seqno == 3
        batch = engine.batch()
        assert engine.commit(batch) == 3
        batch.put(tree, b"e", b"6")
        batch.put(tree, b"a", b"7")
        assert engine.commit(batch) == 4 and engine.commit(batch, durability="full") == 5
        with pytest.raises(UsageError):
            engine.commit(batch, durability="certainly")
        expected = {b"a": b"7", b"c": b"5", b"d": b"4", b"e": b"6"}
        assert rows(tree) == expected
    with open_database(fs, key=key) as engine:
        assert rows(engine.tree("kv")) == expected and engine.seqno == 5


def test_a_batch_commits_at_a_clean_end_only() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        with pytest.raises(RuntimeError), engine.batch() as batch:
            batch.put(tree, b"a", b"1")
            raise RuntimeError
        assert engine.seqno == 0
        with engine.batch() as batch:
            batch.put(tree, b"a", b"1")
            batch.delete(tree, b"a")
            assert batch.put_many(tree, [(b"b", b"2"), (b"c", b"3")]) == 2
            assert len(batch) == 4 and batch.size > 0
        assert rows(tree) == {b"b": b"2", b"c": b"3"}
        batch.clear()
        assert len(batch) == 0


def test_an_iterable_that_fails_leaves_nothing() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")

        def items() -> Iterator[tuple[bytes, bytes]]:
            yield b"a", b"1"
            raise LookupError("of the caller")

        with pytest.raises(LookupError):
            tree.put_many(items())
        with pytest.raises(UsageError):
            tree.put_many([(b"a", b"1"), (b"b", "no bytes")])  # type: ignore[list-item]
        assert engine.seqno == 0 and rows(tree) == {}
        tree.put(b"b", b"2")
        assert rows(tree) == {b"b": b"2"}


def test_the_items_of_put_many_may_read_but_not_write() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        tree.put_many((b"%d" % i, b"%d" % i) for i in range(10))
        tree.put_many((key, tree[key] + b"!") for key in tree)
        assert tree[b"7"] == b"7!"
        for write in (lambda: tree.put(b"x", b"y"), lambda: tree.put_many([(b"x", b"y")]), engine.flush, lambda: engine.snapshot("name")):
            with pytest.raises(UsageError, match="put_many"):
                tree.put_many((key, bytes(write() or b"")) for key in [b"a"])
        assert engine.seqno == 2


def test_a_batch_larger_than_a_memtable_gets_a_generation_of_its_own() -> None:
    fs = memory()
    with open_database(fs) as engine:
        tree = engine.tree("kv")
        tree.put(b"before", b"1")
        expected = {b"%05d" % i: b"x" * 100 for i in range(200)}
        tree.put(b"before2", b"1")
        with engine.batch() as batch:
            batch.put_many(tree, expected.items())
        assert engine.statistics()["flushes"] == 1 and engine.statistics()["memtable_entries"] == 200
        tree.put(b"after", b"1")
        assert engine.statistics()["memtable_entries"] == 1
        assert rows(tree) == {**expected, b"before": b"1", b"before2": b"1", b"after": b"1"}


def test_off_is_written_when_enough_has_gathered_and_at_the_next_stronger_commit() -> None:
    fs = memory()
    with open_database(fs, replace(INLINE, durability="off", memtable_bytes=1 << 20)) as engine:
        tree = engine.tree("kv")
        size = fs.size(wal_paths(fs)[-1])
        tree.put(b"a", b"1" * 1000)
        assert tree[b"a"] == b"1" * 1000 and fs.size(wal_paths(fs)[-1]) == size
        with engine.batch() as batch:
            batch.put(tree, b"b", b"2")
        engine.commit(batch, durability="normal")
        assert fs.size(wal_paths(fs)[-1]) > size + 1000
        size = fs.size(wal_paths(fs)[-1])
        for i in range(70):
            tree.put(b"%d" % i, b"x" * 1000)
        assert fs.size(wal_paths(fs)[-1]) >= size + 65536


@pytest.mark.parametrize(("durability", "syncs"), [("full", 3), ("normal", 0), ("off", 0)])
def test_a_commit_syncs_what_its_durability_says(durability: str, syncs: int) -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    engine = open_database(fs, replace(INLINE, durability=durability))
    tree = engine.tree("kv")
    before = len([operation for operation in fs.operations if operation.kind == "sync"])
    tree.put(b"a", b"1")
    tree.put_many([(b"b", b"2")])
    engine.commit(_batch(tree, engine.batch()))
    assert len([operation for operation in fs.operations if operation.kind == "sync"]) - before == syncs
    engine.close()


def _batch(tree: Tree, batch):  # type: ignore[no-untyped-def]
    batch.put(tree, b"k", b"v")
    return batch


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize(("kind", "durability"), [("append", "full"), ("append", "normal"), ("sync", "full")])
def test_a_failed_write_or_sync_shows_nothing_and_refuses_every_later_write(kind: str, durability: str, key: bytes | None) -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    engine = open_database(fs, replace(INLINE, durability=durability), key=key)
    tree = engine.tree("kv")
    tree.put(b"a", b"1")
    fs.fail(kind, match=lambda path: path.endswith(".wal"))
    with pytest.raises(OSError):
        tree.put(b"a", b"2")
    fs.heal()
    writes = (
        lambda: tree.put(b"b", b"3"),
        lambda: tree.put_many([(b"b", b"3")]),
        lambda: tree.delete(b"b"),
        lambda: tree.ingest([(b"b", b"3")]),
        lambda: engine.commit(_batch(tree, engine.batch())),
        lambda: engine.snapshot("name"),
        lambda: engine.tree("other"),
        lambda: engine.drop_tree("kv"),
        lambda: engine.flush(),
    )
    for write in writes:
        with pytest.raises(Error, match="no more writes"):
            write()
    assert rows(tree) == {b"a": b"1"} and engine.seqno == 1
    engine.close()
    assert not fs.open_files
    with open_database(fs.restart(), key=key) as engine:
        assert rows(engine.tree("kv"))[b"a"] in (b"1", b"2")


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("durability", DURABILITIES)
def test_threads_commit_in_groups_and_lose_nothing(durability: str, key: bytes | None) -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    engine = open_database(fs, replace(INLINE, durability=durability, background=True, memtable_bytes=8000), key=key)
    tree, other = engine.tree("kv"), engine.tree("other")
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for i in range(40):
                name = b"%d-%02d" % (number, i)
                if i % 4:
                    tree.put(name, b"x")
                    with engine.batch() as batch:
                        batch.put(other, name, b"1")
                        batch.put(tree, name, name)
                else:
                    tree.put_many([(name, name)])
                    other.put(name, b"1")
                assert tree[name] == name
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    expected = {b"%d-%02d" % (number, i): b"%d-%02d" % (number, i) for number in range(6) for i in range(40)}
    assert rows(tree) == expected and set(rows(other)) == set(expected)
    assert engine.seqno == 6 * 40 * 2
    engine.close()
    assert not fs.open_files and not fs.held_locks
    with open_database(fs.restart(), key=key) as engine:
        assert rows(engine.tree("kv")) == expected and engine.seqno == 6 * 40 * 2


def test_waiting_batches_share_one_write_and_one_sync() -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    engine = open_database(fs, replace(INLINE, memtable_bytes=1 << 20))
    tree = engine.tree("kv")
    tree.put(b"first", b"1")
    started = threading.Semaphore(0)

    def write(number: int) -> None:
        batch = engine.batch()
        batch.put(tree, b"%d" % number, b"%d" % number)
        started.release()
        engine.commit(batch)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    with engine._commits.held():
        for thread in threads:
            thread.start()
        for _ in threads:
            started.acquire()
        while len(engine._commits._waiting) < 8:
            pass
        before = len(fs.operations)
    for thread in threads:
        thread.join()
    assert [operation.kind for operation in fs.operations[before:]] == ["append", "sync"]
    assert engine.seqno == 9 and engine.statistics()["commit_groups"] == 1
    expected = {b"first": b"1", **{b"%d" % n: b"%d" % n for n in range(8)}}
    assert rows(tree) == expected
    engine.close()
    with open_database(fs.restart()) as engine:
        assert rows(engine.tree("kv")) == expected


def test_a_group_that_fails_fails_for_all_and_shows_nothing() -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    engine = open_database(fs, replace(INLINE, memtable_bytes=1 << 20))
    tree = engine.tree("kv")
    gone = engine.tree("gone")
    errors: dict[int, BaseException] = {}

    def write(number: int) -> None:
        batch = engine.batch()
        batch.put(gone if number == 0 else tree, b"%d" % number, b"x")
        try:
            engine.commit(batch)
        except BaseException as error:
            errors[number] = error

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    with engine._commits.held():
        for thread in threads:
            thread.start()
        while len(engine._commits._waiting) < 4:
            pass
        engine._line.install(_drop(gone.id))
        fs.fail("sync", match=lambda path: path.endswith(".wal"))
    for thread in threads:
        thread.join()
    assert isinstance(errors[0], UsageError) and all(isinstance(errors[n], OSError) for n in (1, 2, 3))
    assert rows(tree) == {} and engine.seqno == 0
    engine.close()


def _drop(tree_id: int):  # type: ignore[no-untyped-def]
    from lsmsql.engine.manifest.version_edit import VersionEdit

    return VersionEdit(trees_dropped=(tree_id,))
