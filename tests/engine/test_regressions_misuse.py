"""What callers get wrong is told as such: in our own errors, before anything is harmed, and without hiding theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lsmsql
from lsmsql import ClosedError, Database, Options, UsageError
from lsmsql.engine.kernel.plain import Block
from lsmsql.engine.kernel.plain import BlockCache as PlainBlockCache
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.tree import Tree

from .database_world import memory, open_database, rows


class TheirError(ValueError):
    """An error of a caller's own iterable."""


def failing() -> Iterator[tuple[bytes, bytes]]:
    yield b"a", b"1"
    raise TheirError("mine")


def test_an_error_of_the_callers_iterable_comes_out_as_it_is() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        batch = engine.batch()
        takers: list[Callable[[Any], Any]] = [tree.put_many, tree.ingest, lambda items: batch.put_many(tree, items)]
        for take in takers:
            with pytest.raises(TheirError, match="mine"):
                take(failing())
        assert rows(tree) == {}


def test_items_that_are_no_pairs_of_bytes_are_misuse() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        batch = engine.batch()
        takers: list[Callable[[Any], Any]] = [tree.put_many, tree.ingest, lambda items: batch.put_many(tree, items)]
        for take in takers:
            for item in [(b"a", b"b", b"c"), 1, None, ("a", b"b"), (b"a", "b"), (b"a", None), (b"k" * 65_536, b"")]:
                with pytest.raises(UsageError):
                    take([item])
        assert rows(tree) == {}


@pytest.mark.parametrize("bound", [5, "a", bytearray(b"a")])
def test_bounds_of_ranges_that_are_not_bytes_are_misuse(bound: Any) -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        tree.put(b"\0\0\0\0\0\0", b"1")
        for read in (lambda: tree.scan(bound), lambda: tree.scan(None, bound), lambda: tree.scan(prefix=bound), lambda: tree[bound:]):
            with pytest.raises(UsageError):
                read()


def test_keys_names_and_moments_of_other_types_are_misuse() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        wrong: list[Callable[[], Any]] = [
            lambda: tree.get("a"),  # type: ignore[arg-type]
            lambda: tree.get_many([1]),  # type: ignore[list-item]
            lambda: "a" in tree,  # type: ignore[operator]
            lambda: engine.tree(b"kv"),  # type: ignore[arg-type]
            lambda: engine.snapshot(5),  # type: ignore[arg-type]
            lambda: tree.get(b"a", snapshot=1.0),  # type: ignore[arg-type]
            lambda: lsmsql.open(b"/db"),  # type: ignore[arg-type]
            lambda: lsmsql.open(":memory:", {"durability": "off"}),  # type: ignore[arg-type]
        ]
        for call in wrong:
            with pytest.raises(UsageError):
                call()


WRONG = [None, 5, -1, 1.5, float("nan"), "x", b"x", [], {}, object(), (1, 2), [None], [5], 1 << 70]


def takers(engine: Database) -> dict[str, Callable[[Any], Any]]:
    """Every argument of the engine, by a call that passes it."""
    tree = engine.tree("kv")
    tree.put(b"a", b"1")
    view, batch = engine.read_view(), engine.batch()
    batch.put(tree, b"a", b"2")
    return {
        "put": lambda x: tree.put(x, b"v"),
        "put value": lambda x: tree.put(b"k", x),
        "delete": tree.delete,
        "put_many": tree.put_many,
        "ingest": tree.ingest,
        "get": tree.get,
        "get_many": tree.get_many,
        "moment": lambda x: tree.get(b"a", snapshot=x),
        "scan": tree.scan,
        "scan upper": lambda x: tree.scan(None, x),
        "scan limit": lambda x: tree.scan(limit=x),
        "scan prefix": lambda x: tree.scan(prefix=x),
        "slice": lambda x: tree[x:],
        "slice step": lambda x: tree[::x],
        "delete slice": lambda x: tree.__delitem__(slice(x, x)),
        "tree": engine.tree,
        "sql_tree": engine.sql_tree,
        "drop_tree": engine.drop_tree,
        "commit": engine.commit,
        "durability": lambda x: engine.commit(engine.batch(), x),
        "read_view": engine.read_view,
        "snapshot": engine.snapshot,
        "release": engine.release,
        "compact": engine.compact,
        "view get": lambda x: view.get(x, b"a"),
        "view get key": lambda x: view.get(tree, x),
        "view get batch": lambda x: view.get(tree, b"a", x),
        "view get key of batch": lambda x: view.get(tree, x, batch),
        "view get mark": lambda x: view.get(tree, b"a", batch, x),
        "view get_many": lambda x: view.get_many(tree, x),
        "view scan": view.scan,
        "view scan limit": lambda x: view.scan(tree, limit=x),
        "view scan since": lambda x: view.scan(tree, since=x),
        "view scan mark": lambda x: view.scan(tree, batch=batch, mark=x),
        "batch put": lambda x: batch.put(x, b"a", b"b"),
        "batch put key": lambda x: batch.put(tree, x, b"b"),
        "batch delete": lambda x: batch.delete(x, b"a"),
        "batch put_many": lambda x: batch.put_many(tree, x),
        "batch get": lambda x: batch.get(x, b"a"),
        "batch get key": lambda x: batch.get(tree, x),
        "batch rollback": batch.rollback,
        "open": lambda x: lsmsql.open(x, create=False),
        "open options": lambda x: lsmsql.open(":memory:", x).close(),
        "open key": lambda x: lsmsql.open(":memory:", key=x).close(),
        "open filesystem": lambda x: lsmsql.open("/nothing", filesystem=x, create=False),
        "options text": Options.from_text,
    }


def test_whatever_is_passed_comes_back_as_an_error_of_ours() -> None:
    with open_database(memory()) as engine:
        for name, take in takers(engine).items():
            taken = []
            for value in WRONG:
                try:
                    take(value)
                    taken.append(value)
                except lsmsql.Error as error:
                    assert str(error), name
            assert len(taken) < len(WRONG), name


def test_a_path_that_is_a_file_or_has_no_parent_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    fs = MemoryFileSystem(files={"/dir/file": b""})
    for path, filesystem, parent in ((str(file), None, tmp_path), ("/dir/file", fs, "/dir")):
        with pytest.raises(UsageError, match=f"{path} is a file"):
            lsmsql.open(path, filesystem=filesystem)
        with pytest.raises(UsageError, match=f"there is no directory {path}: make that first"):
            lsmsql.open(f"{path}/below", filesystem=filesystem)
        with pytest.raises(UsageError, match=f"there is no directory {parent}/a/b: make that first"):
            lsmsql.open(f"{parent}/a/b/c", filesystem=filesystem)
    for path in ("a\0b", f"{tmp_path}/\ud800"):
        with pytest.raises(UsageError, match="path"):
            lsmsql.open(path)


def test_a_path_may_be_a_pathlib_path(tmp_path: Path) -> None:
    with lsmsql.open(tmp_path / "db") as engine:
        engine.tree("kv").put(b"a", b"1")
    assert (tmp_path / "db" / "CURRENT").exists()


def test_views_and_snapshots_of_another_database_are_refused() -> None:
    with open_database(memory()) as ours, open_database(memory()) as theirs:
        tree = ours.tree("kv")
        tree.put(b"a", b"ours")
        theirs.tree("kv").put(b"a", b"theirs")
        with theirs.read_view() as view, theirs.snapshot() as snapshot:
            for moment in (view, snapshot):
                for read in (lambda at: tree.get(b"a", snapshot=at), lambda at: tree.get_many([b"a"], at), lambda at: tree.scan(snapshot=at)):
                    with pytest.raises(UsageError, match="another database"):
                        read(moment)


def test_trees_and_batches_of_another_database_are_refused() -> None:
    with open_database(memory()) as ours, open_database(memory()) as theirs:
        ours.tree("kv").put(b"a", b"ours")
        foreign = theirs.tree("kv")
        batch = theirs.batch()
        batch.put(foreign, b"a", b"theirs")
        for view in (ours.read_view(), ours.current_view(), ours.snapshot().read_view()):
            wrong: list[Callable[[], Any]] = [
                lambda: view.get(foreign, b"a"),  # noqa: B023
                lambda: view.get_many(foreign, [b"a"]),  # noqa: B023
                lambda: view.scan(foreign),  # noqa: B023
                lambda: view.get(ours.tree("kv"), b"a", batch),  # noqa: B023
                lambda: view.scan(ours.tree("kv"), batch=batch),  # noqa: B023
                lambda: ours.compact(foreign),
                lambda: ours.commit(batch),
                lambda: ours.batch().put(foreign, b"a", b"b"),
            ]
            for call in wrong:
                with pytest.raises(UsageError, match="another database"):
                    call()
            assert view.get(ours.tree("kv"), b"a") == b"ours"


@pytest.mark.parametrize("take", [Tree.put_many, Tree.ingest])
def test_closing_inside_the_items_of_a_write_does_not_half_close(take: Callable[[Tree, Any], Any]) -> None:
    fs = memory()
    engine = open_database(fs, Options())
    tree = engine.tree("kv")

    def closing() -> Iterator[tuple[bytes, bytes]]:
        yield b"a", b"1"
        engine.close()
        yield b"b", b"2"

    with pytest.raises(UsageError if take is Tree.put_many else ClosedError):
        take(tree, closing())
    engine.close()
    with open_database(fs) as again:
        assert rows(again.tree("kv")) == {}


def test_a_writer_that_waits_when_the_database_closes_is_told_that(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_database(memory(), Options(sealed_max=1))
    tree = engine.tree("kv")
    errors: list[BaseException] = []
    monkeypatch.setattr(Database, "flush", lambda self: None)
    engine._commits.pressure._has_room = lambda: False  # type: ignore[method-assign]
    tree.put(b"a", b"1")

    def rotate() -> None:
        try:
            with engine._commits.held():
                engine._commits.rotate()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=rotate, daemon=True)
    thread.start()
    while not engine._commits.pressure.stops:
        pass
    engine.close()
    thread.join(10)
    assert [type(error) for error in errors] == [ClosedError]


def test_readers_on_several_threads_share_the_plain_cache() -> None:
    cache = PlainBlockCache(10)
    block = Block([b"a"], [1], [1], [b""])
    errors: list[BaseException] = []

    def read(seed: int) -> None:
        try:
            for number in range(20_000):
                key = (seed * 7 + number) % 13
                if cache.get(1, key) is None:
                    cache.add(1, key, block, 3)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and cache.used == 3 * len(cache) <= cache.capacity


def test_who_waits_for_idle_learns_of_a_flush_by_another_thread() -> None:
    """Upkeep done on a caller's thread (compact, ingest) must wake those who wait for it."""
    with open_database(memory(), Options()) as engine:
        notified = threading.Event()
        engine._worker.notify = notified.set  # type: ignore[method-assign]
        engine.tree("kv").put(b"a", b"1")
        with engine._commits.held():
            engine._commits.rotate()
        engine._upkeep.flush_next()
        engine._upkeep.compact_all(engine.tree("kv").id)
        assert notified.wait(10)
