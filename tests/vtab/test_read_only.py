"""SQL beside another process that writes: read-only connections go on with each transaction, and never see half of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from lsmsql import HistoryError, Options, UsageError
from lsmsql.connection import Connection, connect
from tests.vtab.other_process import Other, OtherError

SCHEMA = "CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY, b); CREATE VIRTUAL TABLE u USING lsm(k PRIMARY KEY)"


@pytest.fixture
def writer(path: str) -> Iterator[Other]:
    other = Other(path)
    other(SCHEMA)
    insert(other, 1)
    yield other
    other.close()


def insert(writer: Callable[[str], Any], number: int) -> None:
    writer(f"BEGIN; INSERT INTO o VALUES ({number}); INSERT INTO t VALUES ({number}, 'b'); INSERT INTO u VALUES ({number}); COMMIT")


def by_flags(path: str) -> Connection:
    return connect(path, flags=apsw.SQLITE_OPEN_READONLY)


def by_uri(path: str) -> Connection:
    return connect(f"file:{path}?mode=ro", flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI)


def by_pragma(path: str) -> Connection:
    db = connect(path)
    db.pragma("query_only", 1)
    return db


@pytest.fixture(params=["flags", "uri", "pragma", "environment"])
def reader(request: pytest.FixtureRequest, writer: Other, path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    if request.param == "environment":
        monkeypatch.setenv("LSMSQL_READ_ONLY", "1")
        db = connect(path)
    else:
        db = {"flags": by_flags, "uri": by_uri, "pragma": by_pragma}[request.param](path)
    yield db
    db.close()


def content(db: Connection) -> list[list[int]]:
    return [[row[0] for row in db.execute(f"SELECT * FROM {table} ORDER BY 1")] for table in "otu"]


def test_each_transaction_sees_what_is_committed_when_it_begins(writer: Other, reader: Connection) -> None:
    assert content(reader) == [[1]] * 3
    insert(writer, 2)
    assert content(reader) == [[1, 2]] * 3
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM t").get == 2
    for act in ("SELECT lsm_flush()", "SELECT lsm_compact()", "DELETE FROM t WHERE a = 1", "SELECT lsm_compact()"):
        insert(writer, 10 + writer("SELECT count(*) FROM o")[0][0])
        writer(act)
        assert content(reader) == [[1, 2]] * 3
    reader.execute("COMMIT")
    assert content(reader)[1] == [2, 12, 13, 14, 15] and content(reader)[0] == [1, 2, 12, 13, 14, 15]
    before = reader.execute("SELECT lsm_seqno()").get
    insert(writer, 99)
    assert reader.execute("SELECT lsm_seqno()").get == before + 1
    assert reader.execute("SELECT value FROM lsm_stats WHERE name = 'seqno'").get == before + 1


def test_an_ordinary_table_alone_fixes_the_moment(writer: Other, reader: Connection) -> None:
    assert content(reader) == [[1]] * 3
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM o").get == 1
    for number in range(2, 6):
        insert(writer, number)
        writer("SELECT lsm_flush()")
    insert(writer, 6)
    assert content(reader) == [[1]] * 3
    reader.execute("COMMIT")
    assert content(reader) == [[1, 2, 3, 4, 5, 6]] * 3


def test_a_moment_that_is_gone_when_the_engine_is_opened_is_busy(writer: Other, reader: Connection) -> None:
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM o").get == 1
    insert(writer, 2)
    writer("SELECT lsm_flush()")
    insert(writer, 3)
    with pytest.raises(apsw.BusyError) as caught:
        reader.execute("SELECT * FROM t")
    assert caught.value.extendedresult == apsw.SQLITE_BUSY_SNAPSHOT
    reader.execute("ROLLBACK")
    assert content(reader) == [[1, 2, 3]] * 3


def test_writes_are_refused(writer: Other, reader: Connection) -> None:
    assert content(reader) == [[1]] * 3
    for sql in (
        "INSERT INTO t VALUES (5, 'x')",
        "UPDATE t SET b = 'y'",
        "DELETE FROM t",
        "DROP TABLE t",
        "ALTER TABLE t RENAME TO v",
        "CREATE VIRTUAL TABLE v USING lsm(a)",
        "SELECT lsm_flush()",
        "SELECT lsm_compact()",
        "SELECT lsm_snapshot('now')",
        "SELECT lsm_release('now')",
    ):
        with pytest.raises(apsw.ReadOnlyError):
            reader.execute(sql)
    assert content(reader) == [[1]] * 3
    insert(writer, 2)
    assert content(reader) == [[1, 2]] * 3


def test_writes_are_refused_in_the_process_that_writes_too(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    db = connect(path)
    db.execute(SCHEMA)
    for other in (by_flags(path), by_uri(path), by_pragma(path)):
        insert(db.execute, 1)
        assert content(other) == content(db) and other.engine.instance is db.engine.instance
        for sql in ("INSERT INTO u VALUES (7)", "SELECT lsm_flush()", "SELECT lsm_snapshot('now')"):
            with pytest.raises(apsw.ReadOnlyError):
                other.execute(sql)
        db.execute("DELETE FROM o; DELETE FROM t; DELETE FROM u")
        assert content(other) == content(db) == [[], [], []]
        other.close()
    db.close()


def test_the_past_can_be_read(writer: Other, reader: Connection) -> None:
    assert content(reader) == [[1]] * 3
    seqno = writer("SELECT lsm_snapshot('before')")[0][0]
    writer("UPDATE t SET b = 'new'; SELECT lsm_compact()")
    assert reader.execute("SELECT b FROM t('before') UNION ALL SELECT b FROM t").fetchall() == [("b",), ("new",)]
    assert reader.execute("SELECT b FROM t WHERE _snapshot = ?", (seqno,)).get == "b"
    with pytest.raises(HistoryError):
        reader.execute("SELECT b FROM t WHERE _snapshot = 1000").fetchall()


def test_tables_that_are_made_and_dropped_meanwhile(writer: Other, reader: Connection) -> None:
    assert content(reader) == [[1]] * 3
    writer("CREATE VIRTUAL TABLE v USING lsm(a INTEGER PRIMARY KEY); INSERT INTO v VALUES (7)")
    assert reader.execute("SELECT a FROM v").get == 7
    writer("DROP TABLE v; CREATE VIRTUAL TABLE v USING lsm(a INTEGER PRIMARY KEY); INSERT INTO v VALUES (8)")
    assert reader.execute("SELECT a FROM v").get == 8
    writer("DROP TABLE v; INSERT INTO t VALUES (2, 'c')")
    with pytest.raises(apsw.SQLError, match="no such table"):
        reader.execute("SELECT a FROM v")


def test_the_writer_may_come_and_go(writer: Other, reader: Connection, path: str) -> None:
    assert content(reader) == [[1]] * 3
    writer.close()
    assert content(reader) == [[1]] * 3
    again = Other(path)
    insert(again, 2)
    assert content(reader) == [[1, 2]] * 3
    again.kill()
    assert content(reader) == [[1, 2]] * 3
    writer.__init__(path)  # type: ignore[misc]
    insert(writer, 3)
    assert content(reader) == [[1, 2, 3]] * 3


def test_without_a_writer_nothing_is_written(path: str) -> None:
    db = connect(path)
    db.execute(SCHEMA)
    insert(db.execute, 1)
    db.close()
    directory = path + "-lsm"
    db = by_uri(path)
    assert content(db) == [[1]] * 3
    assert type(db.engine).__name__ == "ReadOnlyDatabase"
    writing = connect(path)  # The reader keeps nobody out, in this process neither.
    insert(writing.execute, 2)
    assert content(db) == [[1, 2]] * 3
    writing.close()
    db.close()
    db = by_flags(path)
    before = {name: Path(directory, name).read_bytes() for name in os.listdir(directory)}
    assert content(db) == [[1, 2]] * 3
    assert {name: Path(directory, name).read_bytes() for name in os.listdir(directory)} == before
    db.close()


def test_a_file_that_cannot_change_is_read(path: str) -> None:
    db = connect(path)
    db.execute(SCHEMA)
    insert(db.execute, 1)
    db.close()
    db = connect(f"file:{path}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    db.execute("BEGIN; SELECT * FROM o")
    assert content(db) == [[1]] * 3 and not os.path.exists(path + "-shm")
    db.close()


def test_a_read_only_connection_needs_the_tables_and_their_directory(path: str, writer: Other, tmp_path: Path) -> None:
    apsw.Connection(str(tmp_path / "plain.db")).execute("CREATE TABLE o(x)")
    db = by_flags(str(tmp_path / "plain.db"))
    with pytest.raises(UsageError, match="no lsm tables"):
        _ = db.engine
    db.close()
    writer.close()
    shutil.move(path + "-lsm", tmp_path / "elsewhere")
    db = by_flags(path)
    with pytest.raises(UsageError, match="cannot be read"):
        db.execute("SELECT * FROM t")
    db.close()
    assert not os.path.exists(path + "-lsm")
    shutil.move(tmp_path / "elsewhere", path + "-lsm")


def test_copies_that_do_not_fit_are_told(path: str, writer: Other, tmp_path: Path) -> None:
    writer.close()
    for suffix in ("", "-lsm"):
        (shutil.copytree if suffix else shutil.copyfile)(path + suffix, f"{tmp_path}/copy{suffix}")
    db = connect(path)
    insert(db.execute, 2)
    db.close()
    for suffix in ("", "-lsm"):
        mixed = tmp_path / f"mixed{suffix}"
        mixed.mkdir()
        shutil.copyfile(f"{tmp_path}/copy" if suffix else path, mixed / "app.db")
        shutil.copytree(path + "-lsm" if suffix else f"{tmp_path}/copy-lsm", mixed / "app.db-lsm")
        db = by_flags(str(mixed / "app.db"))
        with pytest.raises(HistoryError, match="is behind"):
            db.execute("SELECT * FROM t")
        assert db.execute("SELECT count(*) FROM o").get == (1 if suffix else 2)
        db.close()


@pytest.mark.parametrize("moment", ["before", "behind"])
def test_a_reader_comes_between_the_commit_of_app_db_and_that_of_the_engine(path: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction is prepared, app.db has committed or not, and the engine's outcome is not written."""
    from lsmsql.engine.prepared import PreparedCommit
    from lsmsql.vtab.transaction import Transaction

    db = connect(path, options=Options(background=False))
    db.execute(SCHEMA)
    insert(db.execute, 1)
    reader = Other(path, flags=apsw.SQLITE_OPEN_READONLY)
    seen: list[Any] = []
    owner, name = (Transaction, "sync") if moment == "before" else (PreparedCommit, "commit")
    original = getattr(owner, name)

    def wrapped(*arguments: Any) -> Any:
        if moment == "behind":
            seen.append([reader(f"SELECT * FROM {table}") for table in "oau".replace("a", "t")])
        result = original(*arguments)
        if moment == "before":
            seen.append([reader(f"SELECT * FROM {table}") for table in "otu"])
        return result

    monkeypatch.setattr(owner, name, wrapped)
    insert(db.execute, 2)
    rows = [1, 2] if moment == "behind" else [1]
    for found in seen:
        assert [[row[0] for row in table] for table in found] == [rows] * 3
    assert seen
    monkeypatch.undo()
    insert(db.execute, 3)
    assert [row[0] for row in reader("SELECT * FROM t")] == [1, 2, 3]
    reader.close()
    db.close()


def test_a_second_writer_is_busy_as_long_as_its_busy_timeout(writer: Other, path: str) -> None:
    import time

    for options, timeout, expected in ((None, 300, 0.3), (Options(lock_timeout=0.2), None, 0.2), (Options(lock_timeout=60), 100, 0.1)):
        db = connect(path, options=options)
        if timeout:
            db.set_busy_timeout(timeout)
        began = time.monotonic()
        with pytest.raises(apsw.BusyError, match=rf"process {writer.process.pid}; waited {expected:g} s; .*mode=ro"):
            db.execute("INSERT INTO t VALUES (9, 'x')")
        assert time.monotonic() - began >= expected
        db.close()
    with pytest.raises(OtherError, match="no such table"):
        writer("SELECT * FROM missing")
