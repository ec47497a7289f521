"""One transaction over ordinary and lsm tables: both halves or neither, whatever becomes of app.db's own commit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from lsmsql import HistoryError, LockedError, Options, UsageError
from lsmsql.connection import Connection, connect
from lsmsql.engine.prepared import PreparedCommit
from lsmsql.vtab.transaction import Transaction

QUIET = Options(background=False)


@pytest.fixture(params=["wal", "delete"])
def pair(request: pytest.FixtureRequest, path: str) -> Iterator[Connection]:
    """A database with an ordinary table `o` and two lsm tables `t` and `u`, one row in each."""
    db = connect(path, options=QUIET)
    db.pragma("journal_mode", request.param)
    db.execute("CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY, b); CREATE VIRTUAL TABLE u USING lsm(k PRIMARY KEY)")
    insert(db, 1)
    yield db
    db.close()


def insert(db: Connection, number: int) -> None:
    db.execute(f"BEGIN; INSERT INTO o VALUES ({number}); INSERT INTO t VALUES ({number}, 'b'); INSERT INTO u VALUES ({number}); COMMIT")


def content(db: Any) -> list[list[int]]:
    return [[row[0] for row in db.execute(f"SELECT * FROM {table} ORDER BY 1")] for table in "otu"]


def copied(db: Connection, target: Path) -> str:
    """A copy of all files as they are now: what a killed process leaves."""
    source = Path(db.filename)
    target.mkdir()
    for suffix in ("", "-wal", "-journal"):
        if os.path.exists(f"{source}{suffix}"):
            shutil.copyfile(f"{source}{suffix}", target / f"app.db{suffix}")
    shutil.copytree(f"{source}-lsm", target / "app.db-lsm")
    return str(target / "app.db")


def after(owner: type, name: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch, *, before: bool = False) -> None:
    """Call `act` right behind (or before) every call of a method."""
    original = getattr(owner, name)

    def wrapped(*arguments: Any) -> Any:
        if before:
            act()
        result = original(*arguments)
        if not before:
            act()
        return result

    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize("moment", ["prepared", "committed in app.db", "committed"])
def test_a_process_killed_in_its_commit_leaves_both_halves_or_neither(
    pair: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    copies: list[str] = []

    def copy() -> None:
        copies.append(copied(pair, tmp_path / f"copy{len(copies)}"))

    owner, name, before = {
        "prepared": (Transaction, "sync", False),
        "committed in app.db": (PreparedCommit, "commit", True),
        "committed": (PreparedCommit, "commit", False),
    }[moment]
    after(owner, name, copy, monkeypatch, before=before)
    insert(pair, 2)
    monkeypatch.undo()
    expected = [1] if moment == "prepared" else [1, 2]
    assert copies
    for copy_path in copies:
        for _ in range(2):  # The second opening finds what the first has decided.
            db = connect(copy_path, options=QUIET)
            assert content(db) == [expected] * 3
            insert(db, 10 * len(expected))
            expected = [*expected, 10 * len(expected)]
            db.close()
        expected = expected[:-2]
    assert content(pair) == [[1, 2]] * 3


def test_a_commit_that_meets_busy_can_be_tried_again_given_up_or_gone_on_with(path: str) -> None:
    db = connect(path, options=QUIET)
    db.pragma("journal_mode", "delete")
    db.execute("CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY, b); CREATE VIRTUAL TABLE u USING lsm(k PRIMARY KEY)")
    insert(db, 1)
    reader = apsw.Connection(path)

    def refused(*statements: str) -> None:
        """Statements that end in BUSY, each, while somebody reads app.db."""
        cursor = reader.execute("SELECT * FROM o")
        next(cursor)
        for statement in statements:
            with pytest.raises(apsw.BusyError):
                db.execute(statement)
        cursor.close()

    begin = "BEGIN; INSERT INTO o VALUES ({0}); INSERT INTO t VALUES ({0}, 'b'); INSERT INTO u VALUES ({0})"
    db.execute(begin.format(2))
    refused("COMMIT", "COMMIT")
    assert db.in_transaction
    db.execute("COMMIT")
    assert content(db) == [[1, 2]] * 3
    db.execute(begin.format(3))
    refused("COMMIT")
    db.execute("ROLLBACK")
    assert content(db) == [[1, 2]] * 3
    more = "INSERT INTO o VALUES (5); INSERT INTO t VALUES (5, 'b'); INSERT INTO u VALUES (5); SAVEPOINT s; INSERT INTO t VALUES (6, 'b')"
    db.execute(begin.format(4))
    refused("COMMIT", f"{more}; COMMIT")
    db.execute("ROLLBACK TO s; COMMIT")
    assert content(db) == [[1, 2, 4, 5]] * 3
    db.execute(begin.format(7))
    refused("COMMIT")
    db.execute("DELETE FROM o WHERE x = 7; DELETE FROM t WHERE a = 7; DELETE FROM u WHERE k = 7; COMMIT")
    assert content(db) == [[1, 2, 4, 5]] * 3
    db.execute(begin.format(8))
    refused("COMMIT")
    with pytest.raises(UsageError, match="COMMIT was tried"):
        db.execute("DROP TABLE t")
    db.execute("COMMIT")
    refused("INSERT INTO t VALUES (9, 'b')")
    assert not db.in_transaction
    reader.close()
    db.close()
    db = connect(path, options=QUIET)
    assert content(db) == [[1, 2, 4, 5, 8]] * 3
    db.close()


def test_an_older_app_db_or_engine_is_a_history_error_until_it_is_accepted(path: str, tmp_path: Path) -> None:
    db = connect(path, options=QUIET)
    db.execute("CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY, b); CREATE VIRTUAL TABLE u USING lsm(k PRIMARY KEY)")
    insert(db, 1)
    db.close()
    old = {suffix: tmp_path / f"old{suffix}" for suffix in ("", "-lsm")}
    shutil.copyfile(path, old[""])
    shutil.copytree(path + "-lsm", old["-lsm"])
    db = connect(path, options=QUIET)
    insert(db, 2)
    db.close()
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for older, behind in (("", "app.db"), ("-lsm", "app.db-lsm")):
        for suffix in ("", "-lsm"):
            source, target = old[suffix] if suffix == older else path + suffix, mixed / f"{behind}.{suffix}"
            shutil.rmtree(target, ignore_errors=True)
            target = mixed / f"{older or 'host'}.db{suffix}"
            (shutil.copytree if suffix else shutil.copyfile)(source, target)
        db = connect(str(mixed / f"{older or 'host'}.db"), options=QUIET)
        with pytest.raises(HistoryError, match=r"is behind .*number \d.*\d.*lsmsql repair --accept"):
            db.execute("SELECT * FROM t")
        assert db.execute("SELECT count(*) FROM o").get == (1 if older == "" else 2)  # Ordinary tables go on working.
        db.close()


def test_changes_and_rowids_are_not_disturbed_by_what_a_commit_writes(pair: Connection) -> None:
    pair.execute("INSERT INTO t VALUES (10, 'x'), (11, 'y')")
    assert pair.changes() == 2 and pair.execute("SELECT changes()").get == 2
    total = pair.total_changes()
    pair.execute("BEGIN; INSERT INTO o VALUES (5), (6), (7); INSERT INTO t VALUES (12, 'z'); COMMIT")
    assert pair.changes() == 1 and pair.total_changes() == total + 4 and pair.last_insert_rowid() == 12
    pair.execute("INSERT INTO o VALUES (77)")
    rowid = pair.last_insert_rowid()
    pair.execute("CREATE VIRTUAL TABLE more USING lsm(a); DROP TABLE more; ALTER TABLE u RENAME TO v")
    assert pair.last_insert_rowid() == rowid


def test_a_transaction_reads_at_app_dbs_own_snapshot(path: str) -> None:
    db, other = connect(path, options=QUIET), connect(path, options=QUIET)
    db.execute("CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY, b); CREATE VIRTUAL TABLE u USING lsm(k PRIMARY KEY)")
    insert(db, 1)
    other.execute("BEGIN; SELECT * FROM o")  # The snapshot is SQLite's from here on; no lsm table was read.
    insert(db, 2)
    assert content(other) == [[1]] * 3
    with pytest.raises(apsw.BusyError):
        other.execute("INSERT INTO t VALUES (5, 'x')")
    with pytest.raises(apsw.BusyError):
        other.execute("INSERT INTO o VALUES (5)")
    assert content(other) == [[1]] * 3
    other.execute("COMMIT")
    assert content(other) == [[1, 2]] * 3
    # What is compacted away is BUSY, as a snapshot that SQLite's own WAL has lost.
    other.execute("BEGIN; SELECT * FROM o")
    db.execute("UPDATE t SET b = 'changed'; SELECT lsm_compact()")
    with pytest.raises(apsw.BusyError):
        other.execute("SELECT * FROM t")
    other.execute("ROLLBACK")
    # Commits to other trees of the engine make nothing stale.
    other.execute("BEGIN; SELECT * FROM o")
    db.engine.tree("kv").put(b"k", b"v")
    db.execute("SELECT lsm_compact()")
    assert content(other) == [[1, 2]] * 3
    other.execute("INSERT INTO t VALUES (3, 'x'); COMMIT")
    other.close()
    db.close()


def test_attached_databases_commit_with_the_file_they_belong_to(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = connect(path, options=QUIET)
    db.execute("ATTACH ? AS aux", (str(tmp_path / "aux.db"),))
    for schema in ("main", "aux"):
        db.execute(f"CREATE TABLE {schema}.o(x); CREATE VIRTUAL TABLE {schema}.t USING lsm(a INTEGER PRIMARY KEY)")
    insert_both = "BEGIN; " + "".join(f"INSERT INTO {schema}.{table} VALUES ({{0}});" for schema in ("main", "aux") for table in "ot") + "COMMIT"
    db.execute(insert_both.format(1))
    copies: list[str] = []

    def copy() -> None:
        target = tmp_path / f"copy{len(copies)}"
        copies.append(copied(db, target))
        for suffix in ("", "-wal"):
            if (tmp_path / f"aux.db{suffix}").exists():
                shutil.copyfile(tmp_path / f"aux.db{suffix}", target / f"aux.db{suffix}")
        shutil.copytree(tmp_path / "aux.db-lsm", target / "aux.db-lsm")

    after(Transaction, "sync", copy, monkeypatch)
    after(PreparedCommit, "commit", copy, monkeypatch, before=True)
    db.execute(insert_both.format(2))
    monkeypatch.undo()
    assert len(copies) == 4
    for number, copy_path in enumerate(copies):
        for name in ("app.db", "aux.db"):
            one = connect(os.path.join(os.path.dirname(copy_path), name), options=QUIET)
            expected = [(1,)] if number < 2 else [(1,), (2,)]
            assert one.execute("SELECT x FROM o").fetchall() == expected == one.execute("SELECT a FROM t").fetchall()
            one.close()
    db.close()


def test_who_writes_while_the_engine_is_held_by_a_prepared_commit_is_told_busy(pair: Connection) -> None:
    batch = pair.engine.batch()
    batch.put(pair.engine.tree("mine"), b"k", b"v")
    prepared = pair.engine.prepare(batch)
    with pytest.raises(apsw.BusyError, match="prepared"):
        insert(pair, 2)
    pair.execute("ROLLBACK")
    prepared.abort()
    insert(pair, 2)
    assert content(pair) == [[1, 2]] * 3


def test_a_rollback_behind_app_dbs_own_commit_keeps_both_halves(pair: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """In WAL mode SQLite rolls back when a commit over several files fails in the second, although the first has it for good."""
    monkeypatch.setattr(Transaction, "commit", Transaction.rollback)
    insert(pair, 2)
    monkeypatch.undo()
    assert content(pair) == [[1, 2]] * 3
    insert(pair, 3)
    assert content(pair) == [[1, 2, 3]] * 3


def test_a_refused_commit_of_a_connection_that_keeps_others_out_is_undone(pair: Connection) -> None:
    pair.pragma("locking_mode", "exclusive")
    insert(pair, 2)
    pair.set_commit_hook(lambda: True)
    with pytest.raises(apsw.ConstraintError):
        insert(pair, 3)
    pair.set_commit_hook(None)
    assert content(pair) == [[1, 2]] * 3
    insert(pair, 4)
    assert content(pair) == [[1, 2, 4]] * 3
    pair.execute("DROP TABLE u; INSERT INTO t VALUES (5, 'b')")
    assert sum(name.startswith("sql:") for name in pair.engine.tree_names()) == 1


@pytest.mark.parametrize("pair", ["delete"], indirect=True)
def test_a_refused_commit_is_undone_later_when_another_connection_writes_at_that_moment(pair: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite has let go of app.db by the time it tells of the rollback: somebody else may have it, for longer than anybody can wait."""
    other = apsw.Connection(pair.filename)

    def overtake() -> None:
        if not other.in_transaction:
            other.execute("BEGIN EXCLUSIVE; INSERT INTO o VALUES (9)")

    after(Transaction, "rollback", overtake, monkeypatch, before=True)
    pair.set_commit_hook(lambda: True)
    with pytest.raises(apsw.ConstraintError):
        insert(pair, 3)
    pair.set_commit_hook(None)
    assert other.in_transaction
    with pytest.raises(LockedError, match="does not say"):
        pair.engine.tree("own").put(b"k", b"v")
    other.execute("COMMIT")
    pair.engine.tree("own").put(b"k", b"v")
    assert content(pair) == [[1, 9], [1], [1]]
    other.close()
