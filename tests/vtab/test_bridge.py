"""The bridge as a guest of APSW: whose errors a caller sees, what a connection is left with, what is left in memory."""

from __future__ import annotations

import _thread
import functools
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from lsmsql._compiled import bridge_module
from lsmsql.connection import Connection, connect
from lsmsql.errors import CorruptionError
from lsmsql.vtab.cursor_cy import Cursor
from lsmsql.vtab.module import Module
from lsmsql.vtab.table import Table

pytestmark = pytest.mark.skipif(bridge_module() is None, reason="the bridge was not built")


@pytest.fixture
def db() -> Iterator[Connection]:
    connection = connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING lsm(k INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    yield connection
    connection.close()


class OwnError(Exception):
    """What nobody else raises."""


@pytest.fixture
def in_file(tmp_path: Path) -> Iterator[Connection]:
    connection = connect(str(tmp_path / "app.db"))
    connection.execute("CREATE VIRTUAL TABLE t USING lsm(k INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)")
    yield connection
    connection.close()


def number_of(connection: Connection) -> int:
    return int.from_bytes(connection.execute("SELECT value FROM _lsmsql WHERE id = 1").get, "little")


def writer_of(connection: Connection) -> Any:
    """How the bridge writes the number of a transaction."""
    return connection.session.transaction(connection.engine, "main")._number_writer


def test_the_number_is_written_where_an_expected_one_is_found(in_file: Connection) -> None:
    before, writer = number_of(in_file), writer_of(in_file)
    with in_file:
        assert writer.write(1 << 40, before, None) and number_of(in_file) == 1 << 40
        assert writer.write(7, before, 1 << 40) and number_of(in_file) == 7
        assert writer.write(before, 7, None) and number_of(in_file) == before
    in_file.execute("INSERT INTO t VALUES (2)")
    assert number_of(in_file) == in_file.engine.host_seqno > before


def test_another_number_stays(in_file: Connection) -> None:
    before, writer = number_of(in_file), writer_of(in_file)
    with in_file:
        assert not writer.write(7, before + 1, None) and not writer.write(7, before + 1, before + 2)
        assert number_of(in_file) == before


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE _lsmsql SET value = zeroblob(9) WHERE id = 1",
        "UPDATE _lsmsql SET value = 12345678 WHERE id = 1",
        "DELETE FROM _lsmsql WHERE id = 1",
        "DROP TABLE _lsmsql",
    ],
)
def test_a_number_that_cannot_be_written_is_left_to_who_says_why(in_file: Connection, damage: str) -> None:
    writer = writer_of(in_file)
    in_file.execute(damage)
    with in_file:
        assert not writer.write(7, 0, None)
    with pytest.raises(CorruptionError, match="number of the last transaction"):
        in_file.execute("INSERT INTO t VALUES (2)")


def test_a_number_is_not_written_outside_of_what_may_be_written(in_file: Connection) -> None:
    before, writer = number_of(in_file), writer_of(in_file)
    in_file.pragma("query_only", True)
    assert not writer.write(before, before, None)
    in_file.pragma("query_only", False)
    assert number_of(in_file) == before


def failing(*_: object, **__: object) -> Any:
    raise OwnError("on purpose")


@pytest.mark.parametrize(
    ("owner", "method", "sql"),
    [
        (Module, "create", "CREATE VIRTUAL TABLE u USING lsm(x)"),
        (Table, "BestIndexObject", "SELECT * FROM t"),
        (Table, "Begin", "INSERT INTO t VALUES (4, 'd')"),
        (Table, "Sync", "INSERT INTO t VALUES (4, 'd')"),
        (Table, "Savepoint", "BEGIN; INSERT INTO t VALUES (4, 'd'), (5, 'e')"),
        (Table, "Rename", "ALTER TABLE t RENAME TO u"),
        (Table, "Destroy", "DROP TABLE t"),
    ],
)
def test_an_exception_reaches_the_caller_as_it_is(db: Connection, monkeypatch: pytest.MonkeyPatch, owner: type, method: str, sql: str) -> None:
    monkeypatch.setattr(owner, method, failing)
    with pytest.raises(OwnError, match="on purpose"):
        db.execute(sql).fetchall()
    monkeypatch.undo()
    if db.in_transaction:
        db.execute("ROLLBACK")
    assert db.execute("SELECT count(*) FROM t").get == 3
    db.execute("INSERT INTO t VALUES (4, 'd'); DROP TABLE t")


def test_the_first_exception_counts_when_closing_and_rolling_back_fail_as_well(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*_: object) -> None:
        raise ValueError("later")

    monkeypatch.setattr(Table, "Sync", failing)
    monkeypatch.setattr(Table, "Rollback", other)
    with pytest.raises(OwnError, match="on purpose"):
        db.execute("INSERT INTO t VALUES (4, 'd')")


@pytest.mark.parametrize("sql", ["SELECT boom(k) FROM t", "UPDATE t SET v = boom(k)", "INSERT INTO t SELECT k + 10, boom(k) FROM t"])
def test_an_exception_of_a_function_passes_through_a_scan(db: Connection, sql: str) -> None:
    def boom(number: int) -> int:
        return 1 // (2 - number)

    db.create_scalar_function("boom", boom, 1)
    db.execute("BEGIN; INSERT INTO t VALUES (7, 'x')")
    with pytest.raises(ZeroDivisionError):
        db.execute(sql).fetchall()
    db.execute("COMMIT")
    assert db.execute("SELECT group_concat(k || v) FROM t").get == "1a,2b,3c,7x"


def test_rows_that_are_ignored_are_not_counted(db: Connection) -> None:
    db.execute("INSERT OR IGNORE INTO t VALUES (1, 'x'), (4, 'd'), (2, 'x'), (5, 'e')")
    assert db.changes() == 2 and db.last_insert_rowid() == 5
    db.execute("UPDATE OR IGNORE t SET k = k + 1")
    assert db.changes() == 1


def test_the_rowid_of_an_insert_that_names_it_is_known_to_sqlite(db: Connection) -> None:
    db.execute("INSERT INTO t(rowid, v) VALUES (77, 'x')")
    assert db.execute("SELECT last_insert_rowid()").get == 77 == db.last_insert_rowid()
    db.execute("CREATE TABLE plain(x); INSERT INTO t VALUES (0, 'zero')")
    assert db.last_insert_rowid() == 0


def test_loading_extensions_stays_forbidden(db: Connection) -> None:
    with pytest.raises(apsw.ExtensionLoadingError, match="not authorized"):
        db.load_extension(bridge_module().__file__, bridge_module().ENTRY)


def test_a_connection_that_is_not_ours_is_told_how_to_get_tables() -> None:
    other = apsw.Connection(":memory:")
    other.enable_load_extension(True)
    with pytest.raises(RuntimeError, match=r"lsmsql\.connect"):
        other.load_extension(bridge_module().__file__, bridge_module().ENTRY)
    other.close()


def test_many_connections_are_open_at_once() -> None:
    connections = [connect(":memory:") for _ in range(50)]
    for number, connection in enumerate(connections):
        connection.execute("CREATE VIRTUAL TABLE t USING lsm(k); INSERT INTO t VALUES (?)", (number,))
    assert [connection.execute("SELECT k FROM t").get for connection in connections] == list(range(50))
    for connection in connections:
        connection.close()


def test_a_table_dropped_while_it_is_read_stays_until_it_is_not(db: Connection) -> None:
    rows = db.execute("SELECT * FROM t")
    next(rows)
    with pytest.raises(apsw.LockedError):
        db.execute("DROP TABLE t")
    rows.close()
    db.execute("DROP TABLE t")


def _whole(db: Connection) -> None:
    db.execute("SELECT * FROM t").fetchall()


def _abandoned(db: Connection) -> None:
    next(db.execute("SELECT * FROM t WHERE k > 1"))


def _failing(db: Connection) -> None:
    db.create_scalar_function("fail", failing, 1)
    with pytest.raises(OwnError):
        db.execute("SELECT fail(v) FROM t").fetchall()


@pytest.mark.parametrize("use", [_whole, _abandoned, _failing])
def test_connections_leave_nothing_behind(use: Callable[[Connection], None]) -> None:
    def round_trip() -> None:
        db = connect(":memory:")
        db.execute("CREATE VIRTUAL TABLE t USING lsm(k INTEGER PRIMARY KEY, v); BEGIN")
        db.executemany("INSERT INTO t VALUES (?, ?)", [(number, "x" * 100) for number in range(40)])
        db.execute("COMMIT")
        use(db)
        db.close()

    sizes, objects = [], []
    for _ in range(3):
        for _ in range(40):
            round_trip()
        gc.collect()
        sizes.append(_resident())
        objects.append(sum(isinstance(one, (Table, Cursor, Connection)) for one in gc.get_objects()))
    assert objects[0] == objects[2]
    assert sizes[2] - sizes[1] < 400, "KiB in 40 connections"


def _resident() -> int:
    """Resident memory of this process in KiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4


@pytest.mark.parametrize(
    "sql", ["INSERT INTO t VALUES (4, 'd')", "INSERT INTO t VALUES (4, 'd'), (5, 'e')", "BEGIN; INSERT INTO t VALUES (4, 'd'); COMMIT"]
)
def test_a_signal_while_sqlite_commits_comes_after_the_commit(db: Connection, sql: str) -> None:
    before = signal.signal(signal.SIGALRM, failing)
    db.set_commit_hook(functools.partial(any, map(_thread.interrupt_main, [signal.SIGALRM])))
    try:
        with pytest.raises(OwnError):
            db.execute(sql)
    finally:
        db.set_commit_hook(None)
        signal.signal(signal.SIGALRM, before)
    assert not db.in_transaction
    assert not db.session.transaction(db.engine, "main").begun
    assert db.execute("SELECT count(*) FROM t WHERE k < 5").get == 4


ENDLESS = [
    "SELECT count(*) FROM t a, t b, t c, t d WHERE a.v < b.v AND c.v > d.v",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n WHERE (SELECT v FROM t WHERE k = n.i % 90) = 'none'",
    "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n) SELECT i, 'x' FROM n",
]


@pytest.mark.parametrize("sql", ENDLESS)
@pytest.mark.parametrize("by", ["signal", "interrupt"])
def test_a_long_statement_can_be_interrupted(db: Connection, sql: str, by: str) -> None:
    db.executemany("INSERT OR REPLACE INTO t VALUES (?, ?)", [(number, str(number)) for number in range(300)])
    db.execute("BEGIN; INSERT INTO t VALUES (500, 'kept')")
    if by == "signal":
        before = signal.signal(signal.SIGALRM, failing)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
    else:
        timer = threading.Timer(0.1, db.interrupt)
        timer.start()
    try:
        with pytest.raises(OwnError if by == "signal" else apsw.InterruptError):
            db.execute(sql).fetchall()
    finally:
        if by == "signal":
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        else:
            timer.join()
    if db.in_transaction:  # An interrupt of SQLite's own rolls all of it back if the statement was writing.
        assert db.execute("SELECT count(*) FROM t").get == 301
        db.execute("COMMIT")
    assert db.execute("SELECT count(*) FROM t WHERE k < 1000").get in (300, 301)
    assert db.execute("SELECT count(*) FROM t WHERE k >= 1000").get == 0


def test_values_for_which_sqlite_has_no_memory_left_are_out_of_memory(db: Connection) -> None:
    db.execute("CREATE VIRTUAL TABLE u USING lsm(k PRIMARY KEY, v)")
    db.execute("INSERT INTO u VALUES ('a', 1)")
    before = apsw.hard_heap_limit(apsw.memory_used() + 3_000_000)  # Of the process; the pragma of this name could only lower it.
    try:
        for sql in (
            "INSERT INTO t VALUES (4, zeroblob(5000000))",
            "INSERT INTO u VALUES (zeroblob(5000000), 2)",
            "UPDATE t SET v = zeroblob(5000000)",
            "SELECT * FROM u WHERE k = zeroblob(5000000)",
            "SELECT * FROM u WHERE k > zeroblob(5000000)",
        ):
            with pytest.raises(apsw.NoMemError):
                db.execute(sql).fetchall()
    finally:
        apsw.hard_heap_limit(before)
    assert db.execute("SELECT * FROM t UNION ALL SELECT * FROM u").fetchall() == [(1, "a"), (2, "b"), (3, "c"), ("a", 1)]
    assert apsw.hard_heap_limit(-1) == 0
