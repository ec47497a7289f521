"""Transactions of lsm tables: atomic statements, savepoints, several tables, views, and what happens without a hook."""

from __future__ import annotations

import gc
import sys

import apsw
import pytest

from lsmsql import UsageError
from lsmsql.connection import Connection, connect
from lsmsql.engine.read_view import ReadView, View


def rows(db: apsw.Connection, sql: str = "SELECT id FROM t") -> list[object]:
    return [row[0] for row in db.execute(sql)]


@pytest.fixture
def t(db: Connection) -> Connection:
    db.execute("CREATE VIRTUAL TABLE t USING lsm(id INTEGER PRIMARY KEY, v); CREATE VIRTUAL TABLE u USING lsm(k TEXT PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    return db


FAILING = [
    "INSERT INTO t VALUES (10, 0), (11, 0), (1, 0)",
    "INSERT INTO t SELECT id + 1, v FROM t ORDER BY id DESC",
    "UPDATE t SET id = 7",
    "INSERT INTO t VALUES (12, 0), ('x', 0)",
    "INSERT INTO t(id, _seqno) VALUES (13, NULL), (14, 5)",
    "INSERT INTO t SELECT id + 100, fails(id) FROM t",
    "INSERT INTO t SELECT id + 100, json('[') FROM t WHERE id > 1 UNION ALL SELECT 200, 1",
]


@pytest.mark.parametrize("sql", FAILING)
@pytest.mark.parametrize("before", [[], ["INSERT INTO t VALUES (3, 0)"], ["SAVEPOINT s"], ["SAVEPOINT s", "INSERT INTO t VALUES (3, 0)"]], ids=str)
def test_a_failing_statement_inside_begin_leaves_no_partial_rows(t: Connection, sql: str, before: list[str]) -> None:
    def fails(value: object) -> object:
        if value == 2:
            raise ZeroDivisionError
        return value

    t.create_scalar_function("fails", fails)
    t.execute("BEGIN")
    for statement in before:
        t.execute(statement)
    expected = rows(t)
    with pytest.raises((apsw.Error, UsageError, ZeroDivisionError)):
        t.execute(sql)
    assert t.in_transaction
    assert rows(t) == expected
    t.execute("INSERT INTO t VALUES (50, 0)")
    expected.append(50)
    assert rows(t) == expected
    if "SAVEPOINT s" in before:
        t.execute("ROLLBACK TO s")
        assert rows(t) == [1, 2]
        t.execute("INSERT INTO t VALUES (60, 0)")
        expected = [1, 2, 60]
    t.execute("COMMIT")
    assert rows(t) == expected


def test_a_failing_statement_does_not_undo_a_users_savepoint(t: Connection) -> None:
    t.execute("BEGIN; INSERT INTO t VALUES (3, 0); SAVEPOINT s; INSERT INTO t VALUES (4, 0)")
    with pytest.raises(apsw.ConstraintError):
        t.execute("INSERT INTO t VALUES (4, 0)")  # one row: the statement has no mark of its own
    assert rows(t) == [1, 2, 3, 4]
    t.execute("COMMIT")
    assert rows(t) == [1, 2, 3, 4]


def test_or_fail_keeps_the_rows_before_the_failing_one_in_and_outside_of_begin(t: Connection) -> None:
    for begin, end in (("", ""), ("BEGIN", "COMMIT")):
        t.execute("DELETE FROM t WHERE id > 2")
        t.execute(begin)
        with pytest.raises(apsw.ConstraintError):
            t.execute("INSERT OR FAIL INTO t VALUES (10, 0), (1, 0), (11, 0)")
        assert rows(t) == [1, 2, 10]
        t.execute(end)
        assert rows(t) == [1, 2, 10]


def test_nested_statements_of_a_trigger_are_part_of_the_statement(t: Connection) -> None:
    t.execute("CREATE TABLE o(x); CREATE TRIGGER copy AFTER INSERT ON o BEGIN INSERT INTO t VALUES (NEW.x, 't'); INSERT INTO u VALUES (NEW.x); END")
    t.execute("BEGIN; INSERT INTO o VALUES (3), (4)")
    with pytest.raises(apsw.ConstraintError):
        t.execute("INSERT INTO o VALUES (5), (6), (3)")
    assert rows(t) == [1, 2, 3, 4] and rows(t, "SELECT k FROM u") == ["3", "4"] and rows(t, "SELECT x FROM o") == [3, 4]
    t.execute("COMMIT")
    assert rows(t) == [1, 2, 3, 4] and rows(t, "SELECT k FROM u") == ["3", "4"]


def test_savepoints_before_the_first_write_and_over_two_tables(t: Connection) -> None:
    t.execute("BEGIN; SAVEPOINT a; SAVEPOINT b; INSERT INTO t VALUES (3, 0); SAVEPOINT c; INSERT INTO u VALUES ('x'); INSERT INTO t VALUES (4, 0)")
    t.execute("ROLLBACK TO c")
    assert rows(t) == [1, 2, 3] and rows(t, "SELECT k FROM u") == []
    t.execute("INSERT INTO u VALUES ('y'); RELEASE c; ROLLBACK TO a")
    assert rows(t) == [1, 2] and rows(t, "SELECT k FROM u") == []
    t.execute("INSERT INTO u VALUES ('z'); COMMIT")
    assert rows(t, "SELECT k FROM u") == ["z"]


def test_an_outermost_savepoint_is_a_transaction(t: Connection) -> None:
    t.execute("SAVEPOINT a; INSERT INTO t VALUES (3, 0); ROLLBACK TO a; INSERT INTO t VALUES (4, 0); RELEASE a")
    assert rows(t) == [1, 2, 4]


def test_several_tables_commit_at_one_seqno(t: Connection) -> None:
    before = t.engine.seqno
    t.execute("BEGIN; INSERT INTO t VALUES (3, 0); INSERT INTO u VALUES ('a'); INSERT INTO t VALUES (4, 0); COMMIT")
    assert t.engine.seqno == before + 1
    assert set(rows(t, "SELECT _seqno FROM u UNION SELECT _seqno FROM t WHERE id > 2")) == {before + 1}


def test_a_transaction_reads_its_own_writes_and_insert_select_does_not(t: Connection) -> None:
    t.execute("BEGIN; INSERT INTO t VALUES (3, 0); DELETE FROM t WHERE id = 1; UPDATE t SET v = 'z' WHERE id = 2")
    assert list(t.execute("SELECT id, v FROM t ORDER BY id DESC")) == [(3, 0), (2, "z")]
    t.execute("INSERT INTO t(v) SELECT v FROM t")
    assert rows(t) == [2, 3, 4, 5]
    t.execute("ROLLBACK")
    assert list(t.execute("SELECT * FROM t")) == [(1, "a"), (2, "b")]


def test_dropping_a_table_in_a_transaction_and_rolling_back_keeps_it(t: Connection) -> None:
    t.execute("BEGIN; INSERT INTO t VALUES (3, 0); DROP TABLE t; ROLLBACK")
    assert rows(t) == [1, 2]
    t.execute("BEGIN; DROP TABLE t; CREATE VIRTUAL TABLE t USING lsm(id); INSERT INTO t VALUES ('new'); ROLLBACK")
    assert rows(t) == [1, 2]
    t.execute("BEGIN; INSERT INTO u VALUES ('x'); INSERT INTO t VALUES (3, 0); DROP TABLE t; COMMIT")
    assert rows(t, "SELECT k FROM u") == ["x"]
    with pytest.raises(apsw.SQLError, match="no such table"):
        rows(t)


def test_a_table_made_in_a_transaction_is_written_in_it(t: Connection) -> None:
    t.execute("BEGIN; CREATE VIRTUAL TABLE n USING lsm(a); INSERT INTO n VALUES (1); INSERT INTO t VALUES (3, 0); COMMIT")
    assert rows(t, "SELECT a FROM n") == [1] and rows(t) == [1, 2, 3]
    t.execute("BEGIN; SAVEPOINT s; CREATE VIRTUAL TABLE m USING lsm(a); INSERT INTO m VALUES (1); INSERT INTO t VALUES (4, 0); ROLLBACK TO s")
    t.execute("INSERT INTO t VALUES (5, 0); COMMIT")
    assert rows(t) == [1, 2, 3, 5]
    with pytest.raises(apsw.SQLError, match="no such table"):
        rows(t, "SELECT a FROM m")
    with pytest.raises(apsw.SQLError, match="too many columns"):
        t.execute(f"CREATE VIRTUAL TABLE wide USING lsm({', '.join(f'c{n}' for n in range(1998))})")
    t.execute("INSERT INTO t VALUES (6, 0)")
    assert rows(t) == [1, 2, 3, 5, 6]


def test_dropping_a_table_with_changes_behind_a_savepoint_is_refused(t: Connection) -> None:
    t.execute("BEGIN; INSERT INTO t VALUES (3, 0); SAVEPOINT s")
    with pytest.raises(UsageError, match="inside a savepoint"):
        t.execute("DROP TABLE t")
    t.execute("COMMIT")
    assert rows(t) == [1, 2, 3]


def test_renaming_rolls_back_with_the_schema(t: Connection) -> None:
    t.execute("BEGIN; ALTER TABLE t RENAME TO s; INSERT INTO s VALUES (3, 0)")
    assert rows(t, "SELECT id FROM s") == [1, 2, 3]
    t.execute("ROLLBACK")
    assert rows(t) == [1, 2]
    t.execute("ALTER TABLE t RENAME TO s")
    assert rows(t, "SELECT id FROM s") == [1, 2]
    with pytest.raises(apsw.ConstraintError, match=r"UNIQUE constraint failed: s\.id"):
        t.execute("INSERT INTO s VALUES (1, 0)")


def test_too_large_a_transaction_says_so_and_keeps_what_it_has(t: Connection) -> None:
    t.session.batch_bytes_max = 100_000
    t.execute("CREATE VIRTUAL TABLE aux1 USING lsm(a)")
    transaction = t.session.transaction(t.engine, "main")
    transaction.pending.bytes_max = 100_000
    t.execute("BEGIN; INSERT INTO t VALUES (3, zeroblob(60000))")
    with pytest.raises(UsageError, match="transaction too large"):
        t.execute("INSERT INTO t VALUES (4, zeroblob(60000))")
    t.execute("INSERT INTO t VALUES (5, 0); COMMIT")
    assert rows(t) == [1, 2, 3, 5]


def test_a_failing_sync_rolls_everything_back(t: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> int:
        raise OSError("no space")

    t.execute("CREATE TABLE o(x)")
    t.execute("BEGIN; INSERT INTO o VALUES (1); INSERT INTO t VALUES (3, 0); INSERT INTO u VALUES ('x')")
    monkeypatch.setattr(t.engine, "prepare", fails)
    with pytest.raises(OSError, match="no space"):
        t.execute("COMMIT")
    monkeypatch.undo()
    assert not t.in_transaction
    assert rows(t) == [1, 2] and rows(t, "SELECT k FROM u") == [] and rows(t, "SELECT x FROM o") == []
    t.execute("INSERT INTO t VALUES (3, 0)")
    assert rows(t) == [1, 2, 3]


def test_reads_inside_begin_are_repeatable_and_a_stale_writer_is_busy(path: str) -> None:
    one, two = connect(path), connect(path)
    one.execute("CREATE VIRTUAL TABLE t USING lsm(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'a')")
    assert one.engine.instance is two.engine.instance
    one.execute("BEGIN")
    assert rows(one) == [1]
    two.execute("INSERT INTO t VALUES (2, 'b')")
    assert rows(one) == [1] and rows(two) == [1, 2]
    with pytest.raises(apsw.BusyError):
        one.execute("INSERT INTO t VALUES (3, 'c')")
    assert rows(one) == [1]
    one.execute("COMMIT; BEGIN")
    assert rows(one) == [1, 2]
    one.execute("INSERT INTO t VALUES (3, 'c'); COMMIT")
    assert rows(two) == [1, 2, 3]
    one.close()
    assert rows(two) == [1, 2, 3]
    two.close()


def test_an_open_cursor_keeps_its_moment_over_a_commit(t: Connection) -> None:
    t.executemany("INSERT INTO t VALUES (?, 0)", [(n,) for n in range(3, 1000)])
    cursor = t.execute("SELECT id FROM t ORDER BY id")
    assert next(cursor) == (1,)
    t.execute("DELETE FROM t WHERE id > 500")
    assert rows(t)[-1] == 500
    assert [row[0] for row in cursor][-1] == 999


def test_a_cursor_over_rolled_back_changes_stops(t: Connection) -> None:
    t.execute("BEGIN; SAVEPOINT s")
    t.executemany("INSERT INTO t VALUES (?, 0)", [(n,) for n in range(3, 2000)])
    cursor = t.execute("SELECT id FROM t")
    next(cursor)
    t.execute("ROLLBACK TO s; INSERT INTO t VALUES (5000, 0)")
    with pytest.raises(apsw.AbortError):
        list(cursor)
    cursor.close()
    t.execute("COMMIT")
    assert rows(t) == [1, 2, 5000]


def test_views_are_let_go_when_nothing_needs_them(t: Connection) -> None:
    def views() -> int:
        return sum(type(thing) in (View, ReadView) and thing.state is not None for thing in gc.get_objects())

    before = views()
    rows(t)
    assert views() == before
    t.execute("INSERT INTO t VALUES (3, 0)")
    assert views() == before
    cursor = t.execute("SELECT id FROM t")
    next(cursor)
    assert views() == before + 1
    cursor.close()
    assert views() == before
    t.execute("BEGIN")
    rows(t)
    assert views() == before + 1
    t.execute("COMMIT")
    rows(t)
    assert views() == before
    t.execute("BEGIN; INSERT INTO t VALUES (4, 0)")
    t.execute("ROLLBACK")
    assert views() == before


def test_a_function_that_changes_tables_inside_a_changing_statement_is_caught(t: Connection) -> None:
    def meddles(value: object) -> object:
        t.execute("INSERT INTO u VALUES (?)", (str(value),))
        return value

    t.create_scalar_function("meddles", meddles)
    t.execute("BEGIN; INSERT INTO u VALUES ('first'); INSERT INTO t SELECT id + 10, meddles(id) FROM t; COMMIT")
    assert rows(t) == [1, 2, 11, 12] and rows(t, "SELECT k FROM u") == ["1", "2", "first"]


@pytest.mark.parametrize("closed", [True, False])
def test_a_connection_closed_or_dropped_in_a_transaction_rolls_back_silently(path: str, monkeypatch: pytest.MonkeyPatch, closed: bool) -> None:
    noise: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", noise.append)
    db = connect(path)
    db.execute("CREATE VIRTUAL TABLE t USING lsm(a)")
    db.execute("BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s; INSERT INTO t VALUES (2), (3)")
    if closed:
        db.close()
    del db
    gc.collect()
    assert not noise
    db = connect(path)
    assert db.execute("SELECT count(*) FROM t").get == 0
    db.close()
