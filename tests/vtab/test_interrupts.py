"""What SQLite's calls find when one of them was cut short: by Ctrl-C, which comes as the call begins, or by a callback that raises."""

from __future__ import annotations

import _thread
import functools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import apsw
import pytest

from lsmsql import Options
from lsmsql.connection import Connection, connect
from lsmsql.engine.database import Database
from lsmsql.vtab.table import Table

IMPATIENT = Options(background=False, lock_timeout=0.05)


@pytest.fixture(autouse=True)
def _listening() -> Iterator[None]:
    """A shell that runs the tests in the background has them ignore Ctrl-C; here it interrupts as it does in front."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["wal", "delete"])
def pair(path: str, request: pytest.FixtureRequest, host: str) -> Iterator[Connection]:
    """Tables o (ordinary), t and u (lsm). Through APSW the signal takes a call away; the bridge carries it out."""
    db = connect(path, options=IMPATIENT)
    db.pragma("journal_mode", request.param)
    db.execute("CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY); CREATE VIRTUAL TABLE u USING lsm(a)")
    yield db
    db.close()


def both(db: Connection) -> tuple[list[int], list[int]]:
    ordinary, lsm = db.execute("SELECT x FROM o ORDER BY x").fetchall(), db.execute("SELECT a FROM t ORDER BY a").fetchall()
    return [row[0] for row in ordinary], [row[0] for row in lsm]


def interrupted(db: Connection, sql: str) -> None:
    """Run SQL, with Ctrl-C while it is committed. Nothing in the hook is Python code, so it is Commit that finds the signal."""
    db.set_commit_hook(functools.partial(any, map(_thread.interrupt_main, [signal.SIGINT])))
    try:
        with pytest.raises(KeyboardInterrupt):
            db.execute(sql)
    finally:
        db.set_commit_hook(None)


def test_a_commit_whose_end_was_not_seen_holds_up_nobody(pair: Connection, path: str) -> None:
    interrupted(pair, "WITH v(x) AS (VALUES (1)) INSERT INTO t SELECT x FROM v")
    other = connect(path, options=IMPATIENT)
    other.execute("UPDATE t SET a = 2; INSERT INTO o VALUES (2)")
    assert both(other) == both(pair) == ([2], [2])
    pair.execute("INSERT INTO u VALUES (1)")
    assert both(other) == both(pair) == ([2], [2])
    other.close()


@pytest.mark.parametrize("table", ["t", "u"])
def test_what_comes_after_a_commit_whose_end_was_not_seen_is_a_transaction_of_its_own(pair: Connection, path: str, table: str) -> None:
    interrupted(pair, "INSERT INTO t VALUES (1)")
    pair.execute(f"BEGIN; INSERT INTO o VALUES (2); INSERT INTO {table} VALUES (2); ROLLBACK")
    assert both(pair) == ([], [1])
    pair.execute(f"INSERT INTO {table} VALUES (3); DELETE FROM t WHERE a = 3")
    other = connect(path, options=IMPATIENT)
    assert both(other) == ([], [1])
    other.close()


def test_a_commit_whose_end_was_not_seen_in_memory(db: Connection) -> None:
    db.execute("CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY)")
    interrupted(db, "INSERT INTO t VALUES (1)")
    assert both(db) == ([], [1])
    db.execute("INSERT INTO t VALUES (2)")
    assert both(db) == ([], [1, 2])


def test_a_commit_whose_end_was_not_seen_by_a_connection_that_is_closed(path: str, host: str) -> None:
    other = connect(path, options=IMPATIENT)
    other.execute("CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY)")
    db = connect(path)
    interrupted(db, "INSERT INTO t VALUES (1)")
    db.close()
    other.execute("INSERT INTO t VALUES (2)")
    assert both(other) == ([], [1, 2])
    other.close()


def test_a_commit_that_was_interrupted_just_after_it_was_prepared_holds_up_nobody(
    pair: Connection, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = Database.prepare

    def interrupted_at_its_end(*arguments: Any) -> None:
        prepare(*arguments)
        raise KeyboardInterrupt

    other = connect(path, options=IMPATIENT)
    for sql in ("INSERT INTO t VALUES (1)", "BEGIN; INSERT INTO t VALUES (1); INSERT INTO o VALUES (1); COMMIT"):
        with monkeypatch.context() as patch:
            patch.setattr(Database, "prepare", interrupted_at_its_end)
            with pytest.raises(KeyboardInterrupt):
                pair.execute(sql)
        assert not pair.in_transaction
        other.execute("INSERT INTO t VALUES (2)")
        pair.execute("INSERT INTO t VALUES (3)")
        assert both(pair) == both(other) == ([], [2, 3])
        pair.execute("DELETE FROM t")
    other.close()


def test_a_rollback_that_ctrl_c_is_held_down_at_does_not_bring_rows_into_the_next_transaction(
    pair: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.execute("BEGIN; INSERT INTO t VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr("lsmsql.vtab.table.Table.Rollback", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            pair.execute("ROLLBACK")
    pair.execute("INSERT INTO t VALUES (2)")
    assert both(pair) == ([], [2])


def _interrupt(_self: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "next_sql", ["INSERT INTO t VALUES (2)", "INSERT INTO u VALUES (2)", "BEGIN; INSERT INTO u VALUES (2); COMMIT", "SELECT * FROM t"]
)
def test_a_rollback_that_was_not_seen_does_not_bring_rows_into_what_comes_next(
    pair: Connection, path: str, monkeypatch: pytest.MonkeyPatch, next_sql: str
) -> None:
    pair.execute("BEGIN; INSERT INTO t VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr(Table, "Rollback", once_interrupted(Table.Rollback))
        with pytest.raises(KeyboardInterrupt):
            pair.execute("ROLLBACK")
    assert pair.execute(next_sql).fetchall() == []
    other = connect(path, options=IMPATIENT)
    assert both(pair) == both(other) == ([], [2] if "INTO t" in next_sql else [])
    other.close()


def once_interrupted(method: Callable[[Table], None]) -> Callable[[Table], None]:
    """A method at whose first call Ctrl-C comes, before anything is done."""
    interrupts = iter([KeyboardInterrupt])

    def called(table: Table) -> None:
        for interrupt in interrupts:
            raise interrupt
        method(table)

    return called


def test_ctrl_c_at_the_beginning_of_a_commit_leaves_nobody_behind(pair: Connection, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Table, "Commit", once_interrupted(Table.Commit))
        with pytest.raises(KeyboardInterrupt):
            pair.execute("BEGIN; INSERT INTO o VALUES (1); INSERT INTO t VALUES (1); INSERT INTO u VALUES (1); COMMIT")
    other = connect(path, options=IMPATIENT)
    assert both(other) == both(pair) == ([1], [1])
    pair.execute("INSERT INTO u VALUES (2); INSERT INTO t VALUES (2)")
    assert both(other) == both(pair) == ([1], [1, 2])
    other.close()


@pytest.mark.parametrize("answer", [apsw.SQLITE_DENY, ValueError])
def test_an_authorizer_that_refuses_everything_does_not_keep_a_rollback_from_its_end(pair: Connection, path: str, answer: object) -> None:
    def refuse(*_what: object) -> int:
        if isinstance(answer, int):
            return answer
        raise ValueError("refused")

    def arm() -> bool:
        pair.authorizer = refuse
        return True  # Roll back.

    pair.execute("INSERT INTO t VALUES (1)")
    pair.set_commit_hook(arm)
    with pytest.raises((apsw.ConstraintError, ValueError)):
        pair.execute("INSERT INTO t VALUES (2)")
    pair.set_commit_hook(None)
    pair.authorizer = None
    other = connect(path, options=IMPATIENT)
    other.execute("INSERT INTO t VALUES (3)")
    assert both(other) == both(pair) == ([], [1, 3])
    other.close()


class OwnError(Exception):
    """What nobody else raises."""


def commit_stopped_at(db: Connection, step: int, *, raising: bool) -> bool:
    """COMMIT, with a progress handler that stops SQLite once, at this step of its own, or has an error. Whether it came to that."""
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        if steps == step and raising:
            raise OwnError("on purpose")
        return steps == step

    db.set_progress_handler(stop, 1)
    try:
        db.execute("COMMIT")
    except (OwnError, apsw.InterruptError) as error:
        assert isinstance(error, OwnError) is raising
    finally:
        db.set_progress_handler(None)
    return steps >= step


@pytest.mark.parametrize("raising", [False, True], ids=["asks", "raises"])
def test_a_commit_that_a_progress_handler_stops_anywhere_keeps_all_or_nothing(pair: Connection, raising: bool) -> None:
    step, kept = 1, []
    while True:
        pair.execute("BEGIN; INSERT INTO o VALUES (?); INSERT INTO t VALUES (?)", (step, step))
        stopped = commit_stopped_at(pair, step, raising=raising)
        if pair.in_transaction:
            pair.execute("ROLLBACK")
        ordinary, lsm = both(pair)
        assert ordinary == lsm, f"stopped at step {step}"
        if not stopped:
            break
        kept.append(ordinary[-1:] == [step])
        step += 1
    assert False in kept, "no step was before the commit"
