"""Savepoints around tables that are made, or first written to, inside of them: what SQLite tells such a table of older savepoints is little."""

from __future__ import annotations

import itertools

import apsw
import pytest

from lsmsql import UsageError
from lsmsql.connection import Connection, connect


@pytest.mark.parametrize(
    "script",
    [
        "SAVEPOINT a; CREATE VIRTUAL TABLE y USING lsm(n); UPDATE t SET v = 2",
        "SAVEPOINT a; CREATE VIRTUAL TABLE y USING lsm(n); INSERT INTO y VALUES (1); UPDATE t SET v = 2; INSERT INTO y VALUES (2), (3)",
        "SAVEPOINT a; CREATE VIRTUAL TABLE y USING lsm(n); SAVEPOINT b; INSERT INTO t VALUES (9, 9); RELEASE b",
        "SAVEPOINT a; CREATE VIRTUAL TABLE y USING lsm(n); SAVEPOINT b; INSERT INTO y VALUES (1), (2); INSERT INTO t VALUES (9, 9); RELEASE b",
        "SAVEPOINT a; SAVEPOINT b; CREATE VIRTUAL TABLE y USING lsm(n); RELEASE b; SAVEPOINT c;DELETE FROM t; RELEASE c; INSERT INTO t VALUES (9, 9)",
    ],
)
@pytest.mark.parametrize("begin", ["BEGIN", ""])
def test_rolling_back_to_a_savepoint_older_than_a_created_table_undoes_every_table(db: Connection, begin: str, script: str) -> None:
    db.execute("CREATE VIRTUAL TABLE t USING lsm(k INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 1), (2, 1)")
    db.execute(f"{begin}; {script}; ROLLBACK TO a")
    assert db.execute("SELECT * FROM t").fetchall() == [(1, 1), (2, 1)]
    db.execute("INSERT INTO t VALUES (3, 3); SAVEPOINT d; DELETE FROM t; ROLLBACK TO d; COMMIT")
    assert db.execute("SELECT * FROM t").fetchall() == [(1, 1), (2, 1), (3, 3)]


def test_a_function_whose_second_statement_fails_never_loses_its_first_one_unsaid(db: Connection) -> None:
    def attempt(sql: str) -> str:
        try:
            db.execute(sql)
        except apsw.ConstraintError:
            return "failed"
        return "done"

    db.create_scalar_function("attempt", attempt, 1)
    db.execute("CREATE TABLE o(x); INSERT INTO o VALUES (1), (2); CREATE VIRTUAL TABLE t USING lsm(k INTEGER PRIMARY KEY)")
    db.execute("BEGIN; INSERT INTO o VALUES (3); SAVEPOINT s")
    assert db.execute("SELECT attempt('INSERT INTO t VALUES (1)') FROM o LIMIT 2").fetchall() == [("done",), ("failed",)]
    if db.execute("SELECT k FROM t").fetchall() != [(1,)]:
        with pytest.raises(UsageError, match="nothing of this transaction is kept"):
            db.execute("COMMIT")
        assert db.execute("SELECT count(*) FROM o").get == 2


def boom(value: object) -> int:
    if value == 3:
        raise ValueError("boom")
    return 0


def outcome(script: str, using: str) -> list[object]:
    """What the statements of a script answer, and what is in the tables then."""
    db = connect(":memory:")
    db.create_scalar_function("boom", boom, 1)
    db.execute(f"CREATE {using.format('t', 'a INTEGER PRIMARY KEY, b')}; CREATE TABLE o(x INTEGER PRIMARY KEY, y); CREATE TABLE log(z)")
    db.execute("CREATE TRIGGER after_o AFTER INSERT ON o BEGIN INSERT INTO t VALUES (new.x, 1); INSERT INTO log SELECT boom(new.y);"
               " INSERT INTO t VALUES (new.x + 100, 2); END")  # fmt: skip
    said: list[object] = []
    for statement in script.split("; "):
        try:
            db.execute(statement)
            said.append("done")
        except (ValueError, apsw.Error) as error:
            said.append(type(error).__name__)
    said += [db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in ("t", "o", "log")]
    db.close()
    return said


BEFORE = ["SAVEPOINT s", "BEGIN", "BEGIN; SAVEPOINT s", "BEGIN; INSERT INTO t VALUES (77, 1); SAVEPOINT s", "BEGIN; INSERT INTO o VALUES (70, 0)"]
FAILING = [
    "INSERT INTO o VALUES (5, 3)",
    "INSERT INTO o VALUES (1, 0), (2, 0), (5, 3)",
    "INSERT INTO t VALUES (1, boom(1)), (2, boom(2)), (3, boom(3))",
]
AFTER = [
    "COMMIT",
    "INSERT INTO t VALUES (50, 1); COMMIT",
    "RELEASE s; COMMIT",
    "ROLLBACK TO s; RELEASE s; COMMIT",
    "SAVEPOINT q; INSERT INTO t VALUES (50, 1); ROLLBACK TO q; COMMIT",
]


@pytest.mark.parametrize("foreign_keys", ["PRAGMA foreign_keys = 0", "PRAGMA foreign_keys = 1; INSERT INTO log VALUES (0)"])
def test_a_statement_that_a_function_fails_leaves_no_rows_and_spoils_no_commit(foreign_keys: str) -> None:
    for before, failing, after in itertools.product(BEFORE, FAILING, AFTER):
        script = f"{foreign_keys}; {before}; {failing}; {after}"
        assert outcome(script, "VIRTUAL TABLE {} USING lsm({})") == outcome(script, "TABLE {}({})"), script
