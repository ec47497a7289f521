"""The database as a user meets it: open, trees, dict-like access, options, closing, other processes."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

import lsmsql
from lsmsql import ClosedError, KeyUnavailableError, LockedError, Options, UsageError
from lsmsql.engine import open_directories

from .database_world import INLINE, KEY, memory, open_database, rows, table_paths, wal_paths


@pytest.mark.parametrize("key", [None, KEY, "a passphrase"])
@pytest.mark.parametrize("background", [False, True])
def test_what_was_put_is_there_after_reopening_real_files(tmp_path: Path, key: str | bytes | None, background: bool) -> None:
    options = replace(INLINE, background=background, durability="normal")
    expected = {b"%05d" % (i * 7 % 1000): b"value %d" % i for i in range(1000)}
    with lsmsql.open(str(tmp_path / "db"), options, key=key) as engine:
        tree = engine.tree("kv")
        for i in range(1000):
            tree.put(b"%05d" % (i * 7 % 1000), b"value %d" % i)
        tree.delete(b"00500")
        del expected[b"00500"]
        assert rows(tree) == expected
    with lsmsql.open(str(tmp_path / "db"), key=key, create=False) as engine:
        assert engine.options == options
        assert engine.tree_names() == ["kv"]
        assert rows(engine.tree("kv", create=False)) == expected
        engine.flush()
        engine.compact()
        engine.wait_idle()
        assert rows(engine.tree("kv")) == expected
        assert engine.statistics()["memtable_entries"] == 0


def test_a_tree_is_like_a_dict() -> None:
    with lsmsql.open(":memory:") as engine:
        tree = engine.tree("kv")
        tree[b"b"] = b"2"
        tree[b"a"] = b"1"
        tree[b""] = b"empty key"
        tree[b"c"] = b""
        assert tree[b"b"] == b"2" and tree[b""] == b"empty key" and tree[b"c"] == b""
        assert b"a" in tree and b"z" not in tree and tree.contains(b"c")
        with pytest.raises(KeyError):
            tree[b"z"]
        assert tree.get(b"z") is None and tree.get(b"z", b"default") == b"default"
        assert list(tree[b"a":b"c"]) == [(b"a", b"1"), (b"b", b"2")]
        assert list(tree) == [b"", b"a", b"b", b"c"]
        del tree[b"a"]
        del tree[b"not there"]
        assert tree.get_many([b"a", b"b", b"c"]) == [None, b"2", b""]
        del tree[b"b":]
        assert list(tree.scan()) == [(b"", b"empty key")]


def test_scans_take_bounds_prefix_limit_and_direction() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        keys = [b"a", b"a\xff", b"a\xff\xff", b"ab", b"b", b"\xff", b"\xff\xff", b"\xff\xffz"]
        tree.put_many((key, key) for key in keys)
        assert [key for key, _ in tree.scan(prefix=b"a")] == [b"a", b"ab", b"a\xff", b"a\xff\xff"]
        assert [key for key, _ in tree.scan(prefix=b"a\xff")] == [b"a\xff", b"a\xff\xff"]
        assert [key for key, _ in tree.scan(prefix=b"\xff\xff", reverse=True)] == [b"\xff\xffz", b"\xff\xff"]
        assert [key for key, _ in tree.scan(prefix=b"")] == sorted(keys)
        assert [key for key, _ in tree.scan(b"ab", b"b")] == [b"ab", b"a\xff", b"a\xff\xff"]
        assert [key for key, _ in tree.scan(limit=2, reverse=True)] == [b"\xff\xffz", b"\xff\xff"]
        assert list(tree.scan(limit=0)) == [] and list(tree.scan(b"b", b"a")) == []
        with pytest.raises(UsageError):
            tree.scan(b"a", prefix=b"a")
        with pytest.raises(UsageError):
            tree.scan(limit=-1)


def test_a_running_scan_does_not_see_later_writes_nor_lose_its_files() -> None:
    fs = memory()
    with open_database(fs) as engine:
        tree = engine.tree("kv")
        expected = {b"%04d" % i: b"x" * 50 for i in range(300)}
        tree.put_many(expected.items())
        engine.flush()
        scan = tree.scan()
        first = scan.fill(10)
        tree.put_many((key, b"new") for key in expected)
        engine.compact()
        assert dict(first + list(scan)) == expected
        assert set(rows(tree).values()) == {b"new"}
        del scan
        engine.wait_idle()
        tree.put(b"0000", b"x")
        engine.flush()
        assert engine.statistics()["obsolete_files"] == 0
        assert len(table_paths(fs)) == engine.statistics()["tables"]


def test_options_given_are_saved_and_options_saved_are_used() -> None:
    fs = memory()
    open_database(fs, replace(INLINE, filter_bits=3)).close()
    with open_database(fs, None) as engine:
        assert engine.options.filter_bits == 3
    open_database(fs, replace(INLINE, filter_bits=4)).close()
    with open_database(fs, None) as engine:
        assert engine.options.filter_bits == 4


def test_options_saved_before_an_option_was_there_take_its_default() -> None:
    text = replace(INLINE, filter="burr").to_text()
    assert Options.from_text(text).filter == "burr"
    assert Options.from_text(text.replace("filter = burr\n", "")) == INLINE
    assert INLINE.filter == "auto"
    with pytest.raises(UsageError, match="filter must be one of auto, bloom, burr, none"):
        Options.from_text(text.replace("filter = burr", "filter = ribbon"))


def test_opening_what_is_not_there_without_create_is_refused_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        lsmsql.open(str(tmp_path / "no"), create=False)
    assert not (tmp_path / "no").exists()
    with pytest.raises(UsageError):
        lsmsql.open(str(tmp_path), create=False)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_checked_before_anything_else() -> None:
    fs = memory()
    with open_database(fs, key="right") as engine:
        engine.tree("kv").put(b"secret key", b"secret value")
        engine.flush()
        engine.tree("kv").put(b"secret key 2", b"secret value")
    before = fs.files()
    assert not any(b"secret" in data for data in before.values())
    for key in (None, "wrong", KEY):
        with pytest.raises(KeyUnavailableError):
            open_database(fs, key=key)
    assert {path: data for path, data in fs.files().items() if "LOCK" not in path} == {p: d for p, d in before.items() if "LOCK" not in p}
    with open_database(fs, key="right") as engine:
        assert rows(engine.tree("kv")) == {b"secret key": b"secret value", b"secret key 2": b"secret value"}
    plain = memory()
    open_database(plain).close()
    with pytest.raises(UsageError):
        open_database(plain, key="key")


def test_a_directory_opened_again_in_this_process_is_shared_until_the_last_one_closes() -> None:
    fs = memory()
    first, second = open_database(fs, key="secret"), open_database(fs, None, key="secret")
    tree, same = first.tree("kv"), second.tree("kv")
    tree.put(b"a", b"1")
    assert same.get(b"a") == b"1" and second.seqno == 1
    with second.batch() as batch:
        batch.put(tree, b"b", b"2")
    view = second.read_view()
    first.close()
    first.close()
    for use in (lambda: tree.get(b"a"), lambda: tree.put(b"c", b"3"), lambda: first.tree("kv"), lambda: list(tree.scan()), first.batch):
        with pytest.raises(ClosedError):
            use()
    same.put(b"c", b"3")
    assert view.get(same, b"b") == b"2" and view.get(same, b"c") is None
    with pytest.raises(UsageError, match="another key"):
        open_database(fs, key="other")
    with pytest.raises(UsageError, match="another key"):
        open_database(fs)
    with pytest.raises(UsageError, match="other options"):
        open_database(fs, replace(INLINE, block_bytes=512), key="secret")
    second.close()
    with open_database(fs, key="secret") as engine:
        assert rows(engine.tree("kv")) == {b"a": b"1", b"b": b"2", b"c": b"3"}


def test_a_dropped_database_leaves_the_directory_to_the_others() -> None:
    fs = memory()
    first, second = open_database(fs), open_database(fs)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del first
    second.tree("kv").put(b"a", b"1")
    second.close()
    assert open_directories.find(fs.identity("/db")) is None


def test_another_process_is_told_who_holds_the_database(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    program = "import lsmsql, sys\ntry: lsmsql.open(sys.argv[1], lsmsql.Options(lock_timeout=0.05))\nexcept lsmsql.LockedError as error: print(error)"
    with lsmsql.open(path) as engine:
        engine.tree("kv").put(b"k", b"v")
        found = subprocess.run(
            [sys.executable, "-c", program, path], capture_output=True, text=True, check=True, cwd=Path(lsmsql.__file__).parent.parent
        )
    assert f"process {os.getpid()}" in found.stdout
    assert issubclass(LockedError, lsmsql.Error)


def test_everything_after_close_is_a_closed_error() -> None:
    fs = memory()
    engine = open_database(fs)
    tree = engine.tree("kv")
    tree.put_many((b"%d" % i, b"v") for i in range(100))
    view, snapshot, batch, scan = engine.read_view(), engine.snapshot(), engine.batch(), tree.scan()
    batch.put(tree, b"k", b"v")
    engine.flush()
    engine.close()
    engine.close()
    for call in (
        lambda: tree.get(b"1"),
        lambda: tree.get(b"1", snapshot=snapshot),
        lambda: tree.get_many([b"1"]),
        lambda: tree.put(b"1", b"v"),
        lambda: tree.put_many([(b"1", b"v")]),
        lambda: tree.delete(b"1"),
        lambda: tree.scan(),
        lambda: tree.ingest([(b"1", b"v")]),
        lambda: view.get(tree, b"1"),
        lambda: view.scan(tree),
        lambda: engine.commit(batch),
        lambda: engine.tree("kv"),
        lambda: engine.read_view(),
        lambda: engine.flush(),
        lambda: engine.compact(),
        lambda: engine.snapshot("name"),
        lambda: engine.statistics(),
        lambda: engine.drop_tree("kv"),
    ):
        with pytest.raises(ClosedError):
            call()
    view.close()
    snapshot.close()
    scan.close()


@pytest.mark.parametrize("background", [False, True])
def test_what_a_closed_database_has_in_memory_goes_without_the_garbage_collector(background: bool) -> None:
    """Memtables are large and few objects: thousands could be closed before the collector finds it worth its while."""
    gc.collect()
    gc.disable()
    try:
        with open_database(memory(), replace(INLINE, background=background)) as engine:
            engine.tree("kv").put(b"k", b"v" * 5000)
            engine.snapshot("name")
            engine.compact()
            parts = [weakref.ref(part) for part in (engine._upkeep, engine._commits, engine._worker, engine._line.published.state)]
        del engine
        assert [part() for part in parts if part() is not None] == []
    finally:
        gc.enable()


def test_closing_syncs_and_leaves_the_commits_in_the_wal() -> None:
    fs = memory()
    engine = open_database(fs, replace(INLINE, durability="off"))
    engine.tree("kv").put(b"k", b"v")
    engine.close()
    assert len(wal_paths(fs)) == 1 and not table_paths(fs)
    with open_database(fs) as engine:
        assert rows(engine.tree("kv")) == {b"k": b"v"}


def test_the_child_of_a_fork_is_shut_out(tmp_path: Path) -> None:
    engine = lsmsql.open(str(tmp_path / "db"), Options(durability="normal"))
    tree = engine.tree("kv")
    tree.put(b"k", b"v")
    view = engine.read_view()
    pid = os.fork()
    if pid == 0:
        failures = 0
        for call in (lambda: tree.get(b"k"), lambda: tree.put(b"k", b"w"), lambda: view.get(tree, b"k"), engine.flush, engine.read_view):
            try:
                call()
                failures += 1
            except ClosedError as error:
                failures += "opened before fork" not in str(error)
            except BaseException:
                failures += 1
        engine.close()
        os._exit(failures)
    assert os.waitpid(pid, 0)[1] == 0
    view.close()
    tree.put(b"k2", b"v2")
    engine.close()
    with lsmsql.open(str(tmp_path / "db")) as engine:
        assert rows(engine.tree("kv")) == {b"k": b"v", b"k2": b"v2"}


def test_limits_are_usage_errors_with_number_and_limit() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        for write in (
            lambda: tree.put(b"k" * 65_536, b"v"),
            lambda: tree.put_many([(b"k" * 65_536, b"v")]),
            lambda: tree.delete(b"k" * 65_536),
            lambda: engine.batch().put(tree, b"k" * 65_536, b"v"),
        ):
            with pytest.raises(UsageError, match=r"65536.*65535"):
                write()
        for key, value in ((1, b"v"), ("k", b"v"), (b"k", None), (bytearray(b"k"), b"v"), (b"k", bytearray(b"v"))):
            with pytest.raises(UsageError):
                tree.put(key, value)  # type: ignore[arg-type]
            with pytest.raises(UsageError):
                tree.put_many([(key, value)])  # type: ignore[list-item]
            with pytest.raises(UsageError):
                engine.batch().put(tree, key, value)  # type: ignore[arg-type]
        tree.put(b"k" * 65_535, b"v" * 100_000)
        assert engine.seqno == 1 and len(rows(tree)) == 1
        for name in ("", "n" * 2000):
            with pytest.raises(UsageError):
                engine.tree(name)
            with pytest.raises(UsageError):
                engine.snapshot(name)


def test_trees_share_the_line_of_commits_but_not_their_keys() -> None:
    fs = memory()
    with open_database(fs) as engine:
        one, two = engine.tree("one"), engine.tree("two")
        assert engine.tree("one") is one
        with engine.batch() as batch:
            batch.put(one, b"k", b"1")
            batch.put(two, b"k", b"2")
        assert engine.seqno == 1 and one[b"k"] == b"1" and two[b"k"] == b"2"
        with pytest.raises(UsageError):
            engine.tree("three", create=False)
        assert engine.tree_names() == ["one", "two"]
    with open_database(fs) as engine:
        assert engine.tree("one")[b"k"] == b"1" and engine.tree("two")[b"k"] == b"2"


@pytest.mark.parametrize("flushed", [False, True])
def test_a_dropped_tree_is_gone_and_its_name_free(flushed: bool) -> None:
    fs = memory()
    with open_database(fs) as engine:
        tree = engine.tree("kv")
        tree.put_many((b"%03d" % i, b"old") for i in range(200))
        if flushed:
            engine.flush()
        view = engine.read_view()
        batch = engine.batch()
        batch.put(tree, b"k", b"v")
        engine.drop_tree("kv")
        assert len(list(view.scan(tree))) == 200
        view.close()
        for call in (lambda: tree.put(b"k", b"v"), lambda: tree.get(b"k"), lambda: engine.commit(batch), lambda: tree.ingest([(b"k", b"v")])):
            with pytest.raises(UsageError):
                call()
        with pytest.raises(UsageError):
            engine.drop_tree("kv")
        new = engine.tree("kv")
        assert rows(new) == {}
        new.put(b"k", b"new")
        engine.flush()
        assert len(table_paths(fs)) == 1
    with open_database(fs) as engine:
        assert rows(engine.tree("kv")) == {b"k": b"new"}


def test_trees_of_sql_are_readable_only() -> None:
    with open_database(memory()) as engine:
        with pytest.raises(UsageError):
            engine.tree("sql:1")
        inner = engine.sql_tree("sql:1", create=True)
        inner.put(b"k", b"v")
        outer = engine.tree("sql:1")
        assert outer[b"k"] == b"v"
        for call in (
            lambda: outer.put(b"k", b"w"),
            lambda: outer.put_many([]),
            lambda: outer.delete(b"k"),
            lambda: outer.ingest([]),
            lambda: engine.batch().put(outer, b"k", b"w"),
            lambda: outer.__delitem__(slice(None, None)),
        ):
            with pytest.raises(UsageError, match="SQL"):
                call()
        assert inner[b"k"] == b"v"


def test_trees_and_batches_of_another_database_are_refused() -> None:
    with open_database(memory()) as one, open_database(memory()) as two:
        with pytest.raises(UsageError):
            one.batch().put(two.tree("kv"), b"k", b"v")
        batch = two.batch()
        batch.put(two.tree("kv"), b"k", b"v")
        with pytest.raises(UsageError):
            one.commit(batch)


def test_statistics_count_what_happened() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        for i in range(200):
            tree.put(b"%03d" % (i * 7 % 200), b"x" * 40)
        engine.flush()
        found = engine.statistics()
        assert found["commits"] == 200 and found["flushes"] > 1 and found["compactions"] >= 1
        assert found["tables"] == sum(found[f"level_{n}_tables"] for n in range(7)) and found["wal_bytes_written"] > 200 * 104  # type: ignore[misc, operator]
        assert set(found) == set(engine.statistics())


def test_the_directory_moves_as_a_whole(tmp_path: Path) -> None:
    with lsmsql.open(str(tmp_path / "a")) as engine:
        engine.tree("kv").put(b"k", b"v")
    (tmp_path / "a").rename(tmp_path / "b")
    with lsmsql.open(str(tmp_path / "b")) as engine:
        assert engine.tree("kv")[b"k"] == b"v"
