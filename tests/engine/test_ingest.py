"""Ingest: sorted rows straight into SSTables, as one commit in its place in history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lsmsql import UsageError
from lsmsql.engine.kernel import FilterKind
from lsmsql.engine.sstable.reader import read_properties
from tests.proof.fault_filesystem import FaultFileSystem

from .database_world import DIRECTORY, INLINE, KEY, held_elsewhere, memory, open_database, rows, table_paths


@pytest.mark.parametrize("key", [None, KEY])
def test_ingested_rows_are_one_commit(key: bytes | None) -> None:
    fs = memory()
    with open_database(fs, key=key) as engine:
        tree = engine.tree("kv")
        tree.put(b"a", b"1")
        before = engine.snapshot()
        items = {b"k%04d" % i: b"value %d" % i for i in range(300)}
        assert tree.ingest(sorted(items.items())) == 2 == engine.seqno
        assert rows(tree) == {b"a": b"1", **items}
        assert rows(tree, snapshot=before) == {b"a": b"1"}
        tree.put(b"k0000", b"newer")
        tree.delete(b"k0001")
        items[b"k0000"] = b"newer"
        del items[b"k0001"]
        assert rows(tree) == {b"a": b"1", **items}
        assert engine.statistics()["table_entries"] == 300
        assert rows(tree, snapshot=before) == {b"a": b"1"}
    with open_database(fs, key=key) as engine:
        tree = engine.tree("kv")
        assert rows(tree) == {b"a": b"1", **items} and engine.seqno == 4
        engine.compact()
        assert rows(tree) == {b"a": b"1", **items}


def test_it_hides_what_the_memtables_and_tables_held_before() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        tree.put_many((b"%02d" % i, b"flushed") for i in range(20))
        engine.flush()
        tree.put_many((b"%02d" % i, b"memtable") for i in range(10))
        tree.delete(b"15")
        tree.ingest((b"%02d" % i, b"ingested") for i in range(5, 20))
        expected = {b"%02d" % i: b"memtable" if i < 5 else b"ingested" for i in range(20)}
        assert rows(tree) == expected
        engine.flush()
        assert rows(tree) == expected
        tree.ingest([(b"05", b"again")])
        tree.put(b"06", b"last")
        engine.compact()
        assert rows(tree) == {**expected, b"05": b"again", b"06": b"last"}


@pytest.mark.parametrize("key", [None, KEY])
def test_only_rows_that_meet_a_memtable_flush_it(key: bytes | None) -> None:
    fs = memory()
    with open_database(fs, replace(INLINE, memtable_bytes=1 << 20), key=key) as engine:
        tree = engine.tree("kv")
        tree.put(b"b", b"1")
        tree.delete(b"m")
        tree.put(b"x", b"1")
        before = engine.snapshot("before")
        for items in ([(b"c", b"2"), (b"l", b"2")], [(b"a", b"2")], [(b"y", b"2"), (b"z", b"2")]):
            tree.ingest(items)
            assert engine.statistics()["flushes"] == 0
        expected = {b"b": b"1", b"x": b"1", b"c": b"2", b"l": b"2", b"a": b"2", b"y": b"2", b"z": b"2"}
        assert rows(tree) == expected and rows(tree, snapshot=before) == {b"b": b"1", b"x": b"1"}
        assert tree.ingest([(b"m", b"3")]) == 7  # A tombstone is an older version, too.
        assert engine.statistics()["flushes"] == 1
        tree.put(b"n", b"4")
    with open_database(fs, INLINE, key=key) as engine:
        tree = engine.tree("kv")
        assert rows(tree) == expected | {b"m": b"3", b"n": b"4"}
        engine.compact()
        assert rows(tree) == expected | {b"m": b"3", b"n": b"4"} and rows(tree, snapshot="before") == {b"b": b"1", b"x": b"1"}


def test_rows_that_fit_go_deep_and_others_stay_in_level_0() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        tree.ingest([(b"a", b"1"), (b"c", b"1")])
        assert engine.statistics()["level_6_tables"] == 1
        tree.ingest([(b"d", b"2")])
        assert engine.statistics()["level_6_tables"] == 2
        tree.ingest([(b"b", b"3")])
        assert engine.statistics()["level_5_tables"] == 1
        with held_elsewhere(engine._upkeep.compacting):
            tree.ingest([(b"x", b"4")])
        assert engine.statistics()["level_0_tables"] == 1
        assert rows(tree) == {b"a": b"1", b"b": b"3", b"c": b"1", b"d": b"2", b"x": b"4"}


def test_tables_have_the_filter_of_the_level_they_were_written_for() -> None:
    fs = memory()

    def kinds() -> list[FilterKind]:
        ids = sorted(int(path.removesuffix(".sst")[-6:]) for path in table_paths(fs))
        return [FilterKind(read_properties(fs, DIRECTORY, file_id, None).filter_kind) for file_id in ids]

    with open_database(fs) as engine:
        tree = engine.tree("kv")
        tree.ingest([(b"b", b"1"), (b"d", b"1")])
        assert kinds() == [FilterKind.BURR]
        tree.put(b"a", b"2")
        tree.put(b"z", b"2")
        engine.flush()
        assert kinds() == [FilterKind.BURR, FilterKind.BLOOM]
        tree.ingest([(b"c", b"3")])
        assert kinds() == [FilterKind.BURR, FilterKind.BLOOM, FilterKind.BLOOM], "level 0 is in the way"
        engine.compact()
        assert kinds()[-1] == FilterKind.BURR
        assert rows(tree) == {b"a": b"2", b"b": b"1", b"c": b"3", b"d": b"1", b"z": b"2"}


def test_nothing_is_written_when_rows_do_not_ascend_or_there_are_none() -> None:
    fs = memory()
    with open_database(fs) as engine:
        tree = engine.tree("kv")
        for wrong in ([(b"b", b""), (b"a", b"")], [(b"a", b""), (b"a", b"")], [(b"%05d" % i, b"x") for i in range(3000)] + [(b"0", b"")]):
            with pytest.raises(UsageError, match="row"):
                tree.ingest(wrong)
        assert tree.ingest([]) == engine.seqno == 0
        assert rows(tree) == {} and table_paths(fs) == []


def test_the_rows_may_come_from_a_scan_of_the_same_tree() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        tree.put_many((b"%03d" % i, b"old") for i in range(100))
        tree.ingest((key, value + b"!") for key, value in tree.scan())
        assert set(rows(tree).values()) == {b"old!"} and len(rows(tree)) == 100


@pytest.mark.parametrize("kind", ["create", "append", "sync", "sync_directory"])
def test_a_failing_ingest_shows_nothing_and_leaves_no_file(kind: str) -> None:
    nth = 0
    while True:
        nth += 1
        fs = FaultFileSystem(directories=[DIRECTORY])
        with open_database(fs) as engine:
            tree = engine.tree("kv")
            tree.put(b"k", b"old")
            fault = fs.fail(kind, nth, match=lambda path: path.endswith((".sst", "/db")))
            try:
                tree.ingest([(b"%03d" % i, b"x" * 100) for i in range(100)] + [(b"k", b"new")])
            except OSError:
                assert rows(tree) == {b"k": b"old"}
            else:
                assert len(rows(tree)) == 101 and tree[b"k"] == b"new"
            fs.heal()
        assert not fs.open_files
        with open_database(fs.restart()) as engine:
            assert rows(engine.tree("kv"))[b"k"] in ((b"old",) if fault.hits else (b"new",))
            assert len(table_paths(engine._line.fs)) == engine.statistics()["tables"]  # type: ignore[arg-type]
        if not fault.hits:
            break
    assert nth > 1


def test_an_ingest_makes_the_commits_before_it_durable() -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    options = INLINE.from_text(INLINE.to_text().replace("durability = full", "durability = normal"))
    engine = open_database(fs, options)
    one, two = engine.tree("one"), engine.tree("two")
    one.put(b"k", b"v")
    two.ingest([(b"k", b"v")])
    for image in fs.images():
        with open_database(image) as other:
            assert rows(other.tree("one")) == {b"k": b"v"} == rows(other.tree("two")), image.description
