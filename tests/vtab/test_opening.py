"""What opening an engine may rely on, and what it must not touch: other connections' tables, a first transaction that was cut short."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import apsw
import pytest

from lsmsql import Options, UsageError
from lsmsql.connection import connect
from lsmsql.engine.database import Database
from tests.vtab.test_atomic import after, copied

QUIET = Options(background=False)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_opening_inside_an_old_snapshot_keeps_tables_made_since(path: str, mode: str) -> None:
    db = connect(path, options=QUIET)
    db.pragma("journal_mode", mode)
    db.execute("CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a)")
    db.close()
    old = connect(path, options=QUIET)
    old.execute("BEGIN; SELECT * FROM o" if mode == "wal" else "SELECT * FROM o")
    db = connect(path, options=QUIET)
    db.execute("CREATE VIRTUAL TABLE n USING lsm(a); INSERT INTO n VALUES (1)")
    db.close()
    try:
        old.execute("SELECT * FROM t").fetchall()
    except apsw.BusyError:
        pass  # The moment is not retained any more.
    old.close()
    db = connect(path, options=QUIET)
    assert db.execute("SELECT a FROM n").get == 1
    db.close()


@pytest.mark.parametrize("reclaimed", [False, True])
def test_a_table_dropped_since_an_old_snapshot_is_read_there_until_its_rows_are_gone(path: str, reclaimed: bool) -> None:
    db = connect(path, options=QUIET)
    db.execute("CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a); CREATE VIRTUAL TABLE u USING lsm(a); INSERT INTO t VALUES (1)")
    db.close()
    old = connect(path, options=QUIET)
    old.execute("BEGIN; SELECT * FROM o")
    db = connect(path, options=QUIET)
    db.execute("DROP TABLE t")
    if reclaimed:
        db.execute("INSERT INTO u VALUES (1)")
    db.close()
    if reclaimed:
        with pytest.raises(apsw.BusyError):
            old.execute("SELECT * FROM t").fetchall()
    else:
        assert old.execute("SELECT a FROM t").get == 1
    old.execute("COMMIT")
    with pytest.raises(apsw.SQLError, match="no such table"):
        old.execute("SELECT * FROM t").fetchall()
    old.close()


def test_a_table_made_by_another_thread_while_the_engine_is_being_opened_stays(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    db = connect(path, options=QUIET)
    db.execute("CREATE VIRTUAL TABLE t USING lsm(a)")
    db.close()
    looking, made = threading.Event(), threading.Event()
    original = Database.tree_names

    def slow(self: Database) -> list[str]:
        if threading.current_thread() is not thread and not looking.is_set():
            looking.set()
            made.wait(0.5)  # As far as the other thread may get.
        return original(self)

    def make() -> None:
        looking.wait(10)
        other = connect(path, options=QUIET)
        other.execute("CREATE VIRTUAL TABLE n USING lsm(a); INSERT INTO n VALUES (1)")
        made.set()
        other.close()

    thread = threading.Thread(target=make)
    monkeypatch.setattr(Database, "tree_names", slow)
    thread.start()
    db = connect(path, options=QUIET)
    db.set_busy_timeout(5000)
    db.execute("SELECT * FROM t").fetchall()
    thread.join()
    monkeypatch.undo()
    assert db.execute("SELECT a FROM n").get == 1
    db.close()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_first_transaction_that_was_cut_short_can_be_tried_again(path: str, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CREATE and the first rows in one transaction, prepared in the engine, not committed in app.db: which then knows of no lsm table."""
    db = connect(path, options=QUIET)
    db.pragma("journal_mode", mode)
    db.execute("CREATE TABLE o(x)")
    copies: list[str] = []
    after(Database, "prepare", lambda: copies.append(copied(db, tmp_path / "copy")), monkeypatch)
    first = "BEGIN; CREATE VIRTUAL TABLE t USING lsm(a); INSERT INTO t VALUES (1); COMMIT"
    db.execute(first)
    monkeypatch.undo()
    db.close()
    for _ in range(2):
        db = connect(copies[0], options=QUIET)
        if not db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 't'").get:
            db.execute(first)
        assert db.execute("SELECT a FROM t").get == 1
        db.close()


def test_a_directory_that_another_database_has_committed_to_is_not_taken_over(path: str, tmp_path: Path) -> None:
    """Not even when all its rows are gone: its numbers would not fit."""
    db = connect(path, options=QUIET)
    db.execute("CREATE VIRTUAL TABLE t USING lsm(a); INSERT INTO t VALUES (1); DELETE FROM t")
    db.close()
    Path(path).unlink()
    db = connect(path, options=QUIET)
    with pytest.raises(UsageError, match="holds rows of another database than"):
        db.execute("CREATE VIRTUAL TABLE t USING lsm(a)")
    db.close()


def test_opening_inside_a_transaction_needs_no_second_connection_where_a_reader_keeps_writers_out(path: str) -> None:
    db = connect(path, options=QUIET)
    db.pragma("journal_mode", "delete")
    db.execute("CREATE TABLE o(x); INSERT INTO o VALUES (0); CREATE VIRTUAL TABLE t USING lsm(a); INSERT INTO t VALUES (1)")
    db.close()
    reader, writer = connect(path, options=QUIET), apsw.Connection(path)
    reader.execute("BEGIN; SELECT * FROM o")
    writer.execute("BEGIN; INSERT INTO o VALUES (1)")
    with pytest.raises(apsw.BusyError):
        writer.execute("COMMIT")  # From now on nobody else can begin to read.
    assert reader.execute("SELECT a FROM t").get == 1
    reader.execute("COMMIT")
    writer.execute("COMMIT")
    assert reader.execute("SELECT count(*) FROM o").get == 2
    reader.close()
    writer.close()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_connection_that_keeps_others_out_can_open_its_engine_in_a_transaction(path: str, mode: str) -> None:
    db = connect(path, options=QUIET)
    db.pragma("journal_mode", mode)
    db.execute("CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a); INSERT INTO t VALUES (1)")
    db.close()
    db = connect(path, options=QUIET)
    db.pragma("locking_mode", "exclusive")
    db.execute("BEGIN; SELECT * FROM o").fetchall()
    assert db.execute("SELECT a FROM t").get == 1
    db.execute("COMMIT")
    db.close()


def test_connecting_does_not_need_a_database_that_another_connection_keeps(path: str) -> None:
    keeper = apsw.Connection(path)
    keeper.execute("BEGIN EXCLUSIVE")
    db = connect(path)  # It may be new: whoever keeps it is just making it.
    with pytest.raises(apsw.BusyError):
        db.execute("SELECT * FROM sqlite_schema").fetchall()
    keeper.execute("CREATE TABLE o(x); COMMIT")
    assert db.execute("SELECT count(*) FROM o").get == 0
    db.close()
    keeper.close()


def test_a_directory_that_is_a_link_to_nowhere_is_an_error_of_ours(path: str) -> None:
    os.symlink("nowhere", path + "-lsm")
    db = connect(path)
    with pytest.raises(UsageError, match=r"app\.db-lsm leads nowhere"):
        db.execute("CREATE VIRTUAL TABLE t USING lsm(a)")
    db.close()


def test_a_file_whose_name_is_no_text_is_an_error_of_ours(tmp_path: Path) -> None:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
    with pytest.raises(UsageError, match="not UTF-8"):
        connect(f"file:{tmp_path}/%ff.db", flags=flags)
    db = connect(f"file:{tmp_path}/app.db", flags=flags)
    db.execute("ATTACH ? AS a", (f"file:{tmp_path}/%ff.db",))
    with pytest.raises(UsageError, match="not UTF-8"):
        db.execute("CREATE VIRTUAL TABLE a.t USING lsm(a)")
    db.close()
