"""repair: a manifest made anew from KEYS, tables and WALs says what the lost one said; nothing that was deleted comes back."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lsmsql
from lsmsql.connection import connect
from lsmsql.engine.manifest.table_record import TableRecord
from lsmsql.engine.rebuild import FoundWal, Trees, live_wals, placed, superseded
from lsmsql.engine.sstable.properties import Properties
from lsmsql.engine.sstable.reader import read_properties
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.wal import Catalog, Predecessor, Wal
from lsmsql.errors import CorruptionError, HistoryError, KeyUnavailableError, LockedError, UsageError
from lsmsql.options import Options
from tests.proof.workload import contents

from .sstable_world import DIRECTORY as WORLD
from .sstable_world import memory, write

DIRECTORY = "/db"
KEY = bytes(range(32))
SMALL = Options(
    background=False, block_bytes=300, memtable_bytes=1 << 14, table_bytes=6000, level_bytes=1 << 14, l0_tables=3, l0_slowdown=9, l0_stop=9
)
OF_THE_MANIFEST = ("CURRENT", "manifest-", "events-")

both = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])


def without_manifest(fs: MemoryFileSystem) -> MemoryFileSystem:
    files = {path: data for path, data in fs.files().items() if not path.rpartition("/")[2].startswith(OF_THE_MANIFEST)}
    return MemoryFileSystem(files, fs.directories())


def state(engine: lsmsql.Database) -> dict[str, dict[bytes, bytes]]:
    return {name: contents(engine, name) for name in engine.tree_names()}


def lived(key: bytes | None = None, seed: int = 1, rounds: int = 12) -> tuple[MemoryFileSystem, dict[str, dict[bytes, bytes]], list[str]]:
    """A database with tables in several levels, deleted rows, dropped and empty trees, and a WAL. Its obsolete files are kept, as by readers."""
    generator = random.Random(seed)
    fs = MemoryFileSystem(directories=[DIRECTORY])
    with lsmsql.open(DIRECTORY, SMALL, key=key, filesystem=fs) as engine:
        views = []
        for name in ("a", "b", "gone"):
            engine.tree(name)
        for number in range(rounds):
            for name in ("a", "b") if number > 3 else ("a", "b", "gone"):
                tree = engine.tree(name)
                for _ in range(60):
                    row = b"%03d" % generator.randrange(150)
                    if generator.random() < 0.4:
                        tree.delete(row)
                    else:
                        tree.put(row, generator.randbytes(30) * 2)
            engine.flush()
            if number in (1, 1 + seed % 3 * 2):
                views.append(engine.current_view())  # It keeps the tables of now, while those with newer tombstones come and go.
            if number == 3:
                engine.drop_tree("gone")
            if number == 6:
                engine.tree("b").ingest([(b"i%02d" % n, b"in") for n in range(20)])
            if number % 4 == 3:
                engine.compact()
        engine.tree("empty")
        engine.tree("a").put(b"in the WAL", b"alone")
        engine.tree("late")
        engine.drop_tree("late")
        expected = state(engine)
        files = fs.files()
        tables = [table.file_id for table in engine._line.version.tables()]
        for view in views:
            view.close()
    left = [path for path in files if path.endswith(".sst") and int(path[-10:-4]) not in tables]
    return MemoryFileSystem({path: data for path, data in files.items() if not path.endswith("LOCK")}, [DIRECTORY]), expected, left


@both
@pytest.mark.parametrize("seed", range(3))
def test_every_row_and_tree_is_there_again_and_nothing_that_was_deleted(key: bytes | None, seed: int) -> None:
    files, expected, left = lived(key, seed)
    assert left, "obsolete files beside those that count"
    fs = without_manifest(files)
    with pytest.raises(CorruptionError, match=r"CURRENT is missing.*repair --rebuild"):
        lsmsql.open(DIRECTORY, key=key, filesystem=fs)
    report = lsmsql.repair(DIRECTORY, key=key, filesystem=fs)
    assert set(expected) == {"a", "b", "empty"} == set(report.trees)
    assert {f"{DIRECTORY}/{report.aside}/{name}" for name in report.moved} == {path for path in fs.files() if "/aside-" in path}
    assert any("snapshots" in what for what in report.unknown)
    for _ in range(2):
        with lsmsql.open(DIRECTORY, key=key, filesystem=fs) as engine:
            assert state(engine) == expected
            assert engine.options == SMALL
            engine.compact()
            assert state(engine) == expected
            engine.tree("a").put(b"new", b"row")
            expected["a"][b"new"] = b"row"
    assert not [path for path in fs.files() if path.endswith(".tmp")]


def test_any_moment_of_a_life_can_be_repaired() -> None:
    """After every operation on files, with everything that is on the disk then: rows as the manifest would have shown them."""
    from tests.proof.fault_filesystem import FaultFileSystem

    fs = FaultFileSystem(directories=[DIRECTORY])
    moments: list[dict[str, bytes]] = []
    fs.watch = lambda operation: moments.append(fs.files()) if operation.kind in ("sync", "rename", "remove") else None
    generator = random.Random(5)
    with lsmsql.open(DIRECTORY, replace(SMALL, memtable_bytes=1 << 11), filesystem=fs) as engine:
        tree = engine.tree("a")
        views = []
        for number in range(100):
            if number in (20, 45):
                views.append(engine.current_view())
            tree.put(b"%02d" % generator.randrange(40), b"%d" % number * 20)
            tree.delete(b"%02d" % generator.randrange(40))
        for view in views:
            view.close()
    tried = 0
    for files in moments[10 :: max(1, len(moments) // 120)]:
        now = {path: data for path, data in files.items() if not path.endswith("LOCK")}
        intact = MemoryFileSystem(now, [DIRECTORY])
        with lsmsql.open(DIRECTORY, filesystem=intact) as engine:
            expected = state(engine)
        broken = without_manifest(MemoryFileSystem(now, [DIRECTORY]))
        lsmsql.repair(DIRECTORY, filesystem=broken)
        with lsmsql.open(DIRECTORY, filesystem=broken) as engine:
            assert state(engine) == expected, sorted(now)
            engine.compact()
            assert state(engine) == expected
        tried += 1
    assert tried > 50


def test_a_repair_of_a_whole_database_changes_nothing_to_see() -> None:
    files, expected, _ = lived()
    report = lsmsql.repair(DIRECTORY, filesystem=files)
    assert {"CURRENT"} < set(report.moved)
    with lsmsql.open(DIRECTORY, filesystem=files) as engine:
        assert state(engine) == expected
    assert str(report).startswith("/db: a new manifest names") and "not known: the names of snapshots" in str(report)


@both
def test_a_damaged_table_is_kept_aside_and_told(key: bytes | None) -> None:
    files, _, _ = lived(key)
    with lsmsql.open(DIRECTORY, key=key, filesystem=files) as engine:
        victim = min(table.file_id for table in engine._line.version.tables())
    path = f"{DIRECTORY}/{victim:06d}.sst"
    changed = files.files()
    changed[path] = changed[path][:-8192] + bytes(8192)
    fs = without_manifest(MemoryFileSystem(changed, [DIRECTORY]))
    report = lsmsql.repair(DIRECTORY, key=key, filesystem=fs)
    assert "damaged" in report.moved[f"{victim:06d}.sst"]
    assert any(f"{victim:06d}.sst" in what for what in report.unknown)
    assert fs.read(f"{DIRECTORY}/{report.aside}/{victim:06d}.sst") == changed[path]
    lsmsql.open(DIRECTORY, key=key, filesystem=fs).close()
    assert fs.exists(f"{DIRECTORY}/{report.aside}/{victim:06d}.sst")


def test_what_cannot_be_repaired_is_refused() -> None:
    with pytest.raises(UsageError, match="no table and no WAL"):
        lsmsql.repair(DIRECTORY, filesystem=MemoryFileSystem())
    files, _, _ = lived(KEY, rounds=3)
    for key, error in ((None, KeyUnavailableError), (bytes(32), KeyUnavailableError)):
        with pytest.raises(error):
            lsmsql.repair(DIRECTORY, key=key, filesystem=files)
    no_keys = MemoryFileSystem({path: data for path, data in files.files().items() if not path.endswith(("KEYS", "LOCK"))}, [DIRECTORY])
    before = no_keys.files()
    with pytest.raises(KeyUnavailableError, match="KEYS is missing"):
        lsmsql.repair(DIRECTORY, key=KEY, filesystem=no_keys)
    assert {path: data for path, data in no_keys.files().items() if not path.endswith("LOCK")} == before
    with pytest.raises(UsageError, match="can be read"):
        lsmsql.repair(DIRECTORY, filesystem=without_manifest(no_keys))
    with lsmsql.open(DIRECTORY, key=KEY, filesystem=files), pytest.raises((LockedError, UsageError)):
        lsmsql.repair(DIRECTORY, key=KEY, filesystem=files)


def test_tables_of_sql_come_back_with_their_schemas(tmp_path: Path) -> None:
    path = str(tmp_path / "app.db")
    db = connect(path)
    db.execute("CREATE VIRTUAL TABLE t USING lsm(a TEXT PRIMARY KEY, b); CREATE VIRTUAL TABLE empty USING lsm(id INTEGER PRIMARY KEY)")
    db.executemany("INSERT INTO t VALUES (?, ?)", [(f"k{n}", n) for n in range(500)])
    db.engine.flush()
    db.execute("DELETE FROM t WHERE b < 100; INSERT INTO t VALUES ('in the WAL', -1)")
    schemas = dict(db.engine._line.version.schemas)
    rows = db.execute("SELECT a, b FROM t").fetchall()
    db.close()
    for file in (tmp_path / "app.db-lsm").iterdir():
        if file.name.startswith(OF_THE_MANIFEST):
            file.unlink()
    assert len(schemas) == 2
    report = lsmsql.repair(tmp_path / "app.db-lsm")
    assert len(report.trees) == 2
    db = connect(path)
    assert db.execute("SELECT a, b FROM t").fetchall() == rows
    assert db.execute("SELECT count(*) FROM empty").get == 0
    assert dict(db.engine._line.version.schemas) == schemas
    db.execute("INSERT INTO empty VALUES (7)")
    db.close()


# The parts


def record(file_id: int, smallest: bytes, largest: bytes, low: int, high: int) -> TableRecord:
    return TableRecord(file_id, 1, 0, 1, 1, 0, smallest, largest, low, high)


def test_tables_lie_as_deep_as_their_seqnos_allow() -> None:
    levels = {each.file_id: each.level for each in placed([record(1, b"a", b"m", 0, 9), record(2, b"n", b"z", 0, 30), record(3, b"a", b"c", 10, 20)])}
    assert levels == {1: 6, 2: 6, 3: 5}
    mixed = placed([record(1, b"a", b"m", 0, 9), record(2, b"k", b"z", 5, 30), record(3, b"y", b"zz", 31, 40)])
    assert {each.file_id: each.level for each in mixed} == {1: 0, 2: 0, 3: 0}, "3 lies above 2, which cannot be told from 1"


def wal(wal_id: int, *predecessors: int) -> FoundWal:
    return FoundWal(wal_id, Catalog(bytes(16), 1, tuple(Predecessor(each, 100, 100) for each in predecessors)), 0, 0)


def test_the_newest_wal_says_which_others_were_live() -> None:
    wals = {each.wal_id: each for each in (wal(3), wal(4, 3), wal(7, 4), wal(9, 4, 7))}
    assert live_wals(wals, ()) == [4, 7, 9]
    assert live_wals(wals, (9,)) == [4, 7]
    assert live_wals({9: wals[9], 4: wals[4]}, ()) == [9], "7 was flushed, and 4 before it"
    assert live_wals({}, ()) == []


def test_trees_are_those_of_the_newest_wal() -> None:
    from lsmsql.engine.manifest.version_edit import VersionEdit

    made = VersionEdit(trees_created=((5, "new"),), schemas_set=((5, "CREATE"),))
    catalog = Catalog(bytes(16), 1, (), {1: "a", 2: "b"}, {2: "text"}, 5)
    found = Trees.told_by(replace(wal(3), catalog=catalog, trees=(made, VersionEdit(trees_dropped=(2,)))))
    assert (found.names, found.schemas, found.next_id) == ({1: "a", 5: "new"}, {5: "CREATE"}, 6)


def told(file_id: int, run: tuple[int, ...] = (), replaced: tuple[int, ...] = (), obsolete: tuple[int, ...] = ()) -> Properties:
    fs = memory()
    (written,) = write(fs, [(5, [(b"k", b"v")])])
    properties = read_properties(fs, WORLD, written.file_id, None)
    return replace(properties, file_id=file_id, run=run or (file_id,), replaced=replaced, obsolete=obsolete)


LEFT_OVER = {
    "a compaction that was installed": ([told(1), told(2), told(3, replaced=(1, 2))], {1, 2}),
    "one whose inputs are partly removed": ([told(2), told(3, (3, 4), (1, 2)), told(4, (3, 4), (1, 2))], {2}),
    "one that was not finished": ([told(1), told(2), told(3, (3, 4), (1, 2))], {3}),
    "one that lost an output after it was installed": ([told(2), told(3, (3, 4), (1, 2))], {2}),
    "one of whose outputs another was made": ([told(1), told(2), told(3, (3, 4), (1, 2)), told(5, replaced=(4,))], {1, 2}),
    "one of whose outputs another was begun": (
        [told(1), told(2), told(3, (3, 4), (1, 2)), told(4, (3, 4), (1, 2)), told(5, (5, 6), (4,))],
        {1, 2, 5},
    ),
    "an input that outlived two compactions": ([told(1), told(9, replaced=(7,), obsolete=(1,))], {1}),
    "an output that was given up and came back": ([told(1), told(2, replaced=(1,)), told(5, obsolete=(2,))], {2}),
    "flushes": ([told(1), told(2), told(3)], set()),
}


@pytest.mark.parametrize("name", LEFT_OVER)
def test_what_counts_of_what_a_compaction_leaves(name: str) -> None:
    tables, gone = LEFT_OVER[name]
    assert superseded({properties.file_id: properties for properties in tables}).keys() == gone


def test_a_repair_that_is_cut_short_is_made_again_and_finds_the_same() -> None:
    from tests.proof.fault_filesystem import FaultFileSystem, crash_points

    files, expected, _ = lived(rounds=6)
    start = without_manifest(files)
    start.create(f"{DIRECTORY}/CURRENT").append(b"damaged")
    opened = 0
    for fs in crash_points(lambda: FaultFileSystem(start.files(), [DIRECTORY]), lambda fs: lsmsql.repair(DIRECTORY, filesystem=fs) and None):
        for image in fs.images(limit=3):
            try:
                engine = lsmsql.open(DIRECTORY, filesystem=MemoryFileSystem(image.files(), image.directories()))
            except CorruptionError:
                lsmsql.repair(DIRECTORY, filesystem=image)
                engine = lsmsql.open(DIRECTORY, filesystem=image)
            with engine:
                assert state(engine) == expected, image.description
                opened += 1
    assert opened > 20


# History, ids, and other databases


def test_history_that_compactions_have_dropped_is_not_readable_after_a_repair() -> None:
    """The tables of a bottom level have no seqnos left to tell it."""
    fs = MemoryFileSystem(directories=[DIRECTORY])
    with lsmsql.open(DIRECTORY, SMALL, filesystem=fs) as engine:
        tree = engine.tree("t")
        for number in range(5):
            tree.put(b"k", b"%d" % number)
        engine.compact()
        last = engine.seqno
        with pytest.raises(HistoryError):
            engine.read_view(2)
    fs = without_manifest(fs)
    report = lsmsql.repair(DIRECTORY, filesystem=fs)
    assert any(f"nothing before seqno {last}" in what for what in report.unknown)
    assert not any("commits up to" in what for what in report.unknown), "none is missing"
    with lsmsql.open(DIRECTORY, filesystem=fs) as engine:
        assert engine.seqno == last and engine.tree("t").get(b"k") == b"4"
        with pytest.raises(HistoryError):
            engine.read_view(2)


def test_commits_behind_an_ingest_of_which_nothing_is_left_are_read_after_a_repair() -> None:
    """Its seqno is in no WAL, and with the tree its table has gone."""
    fs = MemoryFileSystem(directories=[DIRECTORY])
    with lsmsql.open(DIRECTORY, SMALL, filesystem=fs) as engine:
        engine.tree("kept").put(b"before", b"1")
        engine.tree("gone").ingest([(b"k", b"v")])
        engine.tree("kept").put(b"behind", b"2")
        engine.drop_tree("gone")
    fs = without_manifest(fs)
    lsmsql.repair(DIRECTORY, filesystem=fs)
    with lsmsql.open(DIRECTORY, filesystem=fs) as engine:
        assert state(engine) == {"kept": {b"before": b"1", b"behind": b"2"}}


@pytest.mark.parametrize("number", [1 << 62, (1 << 63) - 1, (1 << 64) - 1])
@pytest.mark.parametrize("pattern", ["{}.sst", "{}.wal", "manifest-{}", "events-{}"])
def test_files_with_numbers_that_no_file_can_have_do_not_stop_a_repair(pattern: str, number: int) -> None:
    files, expected, _ = lived(rounds=3)
    fs = without_manifest(files)
    fs.create(f"{DIRECTORY}/{pattern.format(number)}").append(b"junk")
    report = lsmsql.repair(DIRECTORY, filesystem=fs)
    assert pattern.format(number) in report.moved
    for _ in range(2):
        with lsmsql.open(DIRECTORY, filesystem=fs) as engine:
            assert state(engine) == expected


HOSTILE: dict[str, dict[str, Any]] = {
    "tree 0": {"tree_id": 0},
    "the last tree id": {"tree_id": (1 << 32) - 1},
    "a tree without a name": {"tree_name": ""},
    "a tree with a long name": {"tree_name": "x" * 2000},
    "a long schema": {"schema": "x" * ((1 << 20) + 1)},
    "an impossible id that was obsolete": {"obsolete": lambda: ((1 << 64) - 1,)},
    "an impossible id that was replaced": {"replaced": ((1 << 63) + 1,)},
    "an impossible edit": {"edit_number": (1 << 64) - 1},
    "an impossible prepared commit": {"host_seqno": (1 << 64) - 1},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_tables_that_say_what_cannot_be_are_put_aside(what: str) -> None:
    """Every checksum of them is as it should be."""
    fs = memory()
    write(fs, [(5, [(b"k", b"v")])], tree_id=3, tree_name="good")
    (bad,) = write(fs, [(6, [(b"k", b"bad")])], new_file_id=lambda: 9, **{"tree_id": 4, "tree_name": "bad", **HOSTILE[what]})
    report = lsmsql.repair(WORLD, filesystem=fs)
    assert list(report.moved) == [f"{bad.file_id:06d}.sst"] and report.tables == [1]
    with lsmsql.open(WORLD, filesystem=fs) as engine:
        assert state(engine) == {"good": {b"k": b"v"}}


def test_a_wal_that_says_what_cannot_be_is_put_aside() -> None:
    fs = memory()
    write(fs, [(5, [(b"k", b"v")])], tree_id=3, tree_name="good")
    database_id = read_properties(fs, WORLD, 1, None).database_id
    good = Catalog(database_id, 1, (), {3: "good"}, {}, 4)
    for number, (catalog, seqno) in enumerate(
        (
            (replace(good, trees={0: "a"}), 5),
            (replace(good, trees={3: "a", 4: "a"}), 5),
            (replace(good, trees={3: ""}), 5),
            (replace(good, next_tree_id=(1 << 32) - 1), 5),
            (replace(good, host_seqno=(1 << 64) - 1), 5),
            (replace(good, predecessors=(Predecessor((1 << 64) - 1, 0, 0),)), 5),
            (replace(good, edit=(1 << 64) - 1), 5),
            (good, (1 << 64) - 1),
        ),
        7,
    ):
        Wal.create(fs, WORLD, number, None, catalog, seqno, 5, 0).close()
    report = lsmsql.repair(WORLD, filesystem=fs)
    assert len(report.moved) == 8 and not report.wals
    with lsmsql.open(WORLD, filesystem=fs) as engine:
        assert state(engine) == {"good": {b"k": b"v"}}


def test_a_readable_current_says_which_database_is_repaired() -> None:
    """Not the majority: many tables of another one that lie there must not push this one's aside."""
    files = MemoryFileSystem(directories=[DIRECTORY])
    with lsmsql.open(DIRECTORY, SMALL, filesystem=files) as engine:
        engine.tree("t").put(b"k", b"mine")
    other, _, _ = lived(rounds=3)
    strangers = {path: data for path, data in other.files().items() if path.endswith(".sst")}
    assert len(strangers) > 3 and not strangers.keys() & files.files().keys()
    fs = MemoryFileSystem({**files.files(), **strangers, f"{DIRECTORY}/events-000001": b""}, [DIRECTORY])
    report = lsmsql.repair(DIRECTORY, filesystem=fs)
    assert {path.rpartition("/")[2] for path in strangers} == {name for name, why in report.moved.items() if why == "of another database"}
    with lsmsql.open(DIRECTORY, filesystem=fs) as engine:
        assert state(engine) == {"t": {b"k": b"mine"}}
