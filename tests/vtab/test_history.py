"""_snapshot, _seqno, the functions and lsm_stats."""

from __future__ import annotations

import apsw
import pytest

from lsmsql import ConflictError, HistoryError, UsageError
from lsmsql.connection import Connection


@pytest.fixture
def t(db: Connection) -> Connection:
    db.execute("CREATE VIRTUAL TABLE t USING lsm(k TEXT PRIMARY KEY, v); CREATE VIRTUAL TABLE r USING lsm(id INTEGER PRIMARY KEY, v)")
    db.execute("INSERT INTO t VALUES ('a', 1), ('b', 2)")
    db.execute("INSERT INTO r VALUES (1, 'x')")
    db.execute("SELECT lsm_snapshot('before')")
    db.execute("UPDATE t SET v = v * 10 WHERE k = 'a'")
    db.execute("INSERT INTO t VALUES ('c', 3); DELETE FROM t WHERE k = 'b'")
    return db


NOW, BEFORE = [("a", 10), ("c", 3)], [("a", 1), ("b", 2)]


def test_a_named_snapshot_and_its_seqno_read_the_past(t: Connection) -> None:
    for push_down in (True, False):
        t.session.push_down = push_down
        assert t.execute("SELECT * FROM t").fetchall() == NOW
        assert t.execute("SELECT * FROM t('before') ").fetchall() == BEFORE
        assert t.execute("SELECT * FROM t WHERE _snapshot = 'before' ORDER BY k DESC").fetchall() == BEFORE[::-1]
        assert t.execute("SELECT k, _snapshot FROM t WHERE _snapshot = ? AND k >= 'b'", (2,)).fetchall() == [("b", 2)]
        assert t.execute("SELECT v FROM t WHERE _snapshot IN ('before', 4) AND k = 'a' ORDER BY v").fetchall() == [(1,), (10,)]
        assert t.execute("SELECT count(*) FROM t WHERE _snapshot = NULL").get == 0


def test_past_and_present_join(t: Connection) -> None:
    sql = "SELECT now.k, old.v, now.v FROM t AS now JOIN t AS old ON old.k = now.k AND old._snapshot = 'before'"
    assert t.execute(sql).fetchall() == [("a", 1, 10)]
    assert t.execute("SELECT k FROM t('before') EXCEPT SELECT k FROM t").fetchall() == [("b",)]
    t.execute("INSERT OR REPLACE INTO t SELECT k, v FROM t('before')")
    assert t.execute("SELECT * FROM t").fetchall() == [("a", 1), ("b", 2), ("c", 3)]


def test_a_transactions_own_rows_are_not_in_the_past(t: Connection) -> None:
    t.execute("BEGIN; INSERT INTO t VALUES ('z', 0)")
    assert t.execute("SELECT * FROM t('before')").fetchall() == BEFORE
    assert t.execute("SELECT k, _seqno FROM t WHERE k = 'z'").get == ("z", None)
    t.execute("ROLLBACK")


@pytest.mark.parametrize(
    "where", ["_snapshot > 1", "_snapshot IS 1", "_snapshot = 1 OR k = 'a'", "NOT _snapshot = 1", "_snapshot + 0 = 1", "coalesce(_snapshot, 1) = 1"]
)
def test_other_uses_of_snapshot_raise_instead_of_answering(t: Connection, where: str) -> None:
    with pytest.raises(UsageError, match="_snapshot"):
        t.execute(f"SELECT * FROM t WHERE {where}").fetchall()


@pytest.mark.parametrize(
    ("moment", "error"), [("'never'", HistoryError), ("1000", HistoryError), ("-1", HistoryError), ("1.5", UsageError), ("x'00'", UsageError)]
)
def test_moments_that_are_none_raise(t: Connection, moment: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        t.execute(f"SELECT * FROM t({moment})").fetchall()


def test_history_that_was_not_kept_is_an_error(t: Connection) -> None:
    t.execute("SELECT lsm_compact()")
    with pytest.raises(HistoryError):
        t.execute("SELECT * FROM t WHERE _snapshot = 1").fetchall()
    assert t.execute("SELECT * FROM t('before')").fetchall() == BEFORE
    t.execute("SELECT lsm_release('before')")
    with pytest.raises(HistoryError, match="no snapshot named"):
        t.execute("SELECT * FROM t('before')").fetchall()


@pytest.mark.parametrize("table", ["t", "r"])
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM {} WHERE _snapshot = 'before'",
        "UPDATE {} SET v = 0 WHERE _snapshot = 'before'",
        "UPDATE {} SET _seqno = 1",
        "INSERT INTO {}(v, _snapshot) VALUES (5, 1)",
        "INSERT INTO {}(v, _key) VALUES (5, x'00')",
        "UPDATE {} SET _key = x'00'",
    ],
)
def test_the_past_and_hidden_columns_cannot_be_written(t: Connection, table: str, change: str) -> None:
    before = t.execute(f"SELECT * FROM {table}").fetchall()
    with pytest.raises((UsageError, apsw.ConstraintError)) as caught:
        t.execute(change.format(table))
    assert isinstance(caught.value, UsageError) or "NOT NULL" in str(caught.value)
    assert t.execute(f"SELECT * FROM {table}").fetchall() == before
    t.execute(f"DELETE FROM {table}")
    assert t.execute(f"SELECT count(*) FROM {table}").get == 0


def test_rows_can_be_deleted_by_what_the_past_knew(t: Connection) -> None:
    t.execute("DELETE FROM t WHERE k IN (SELECT k FROM t('before'))")
    assert t.execute("SELECT * FROM t").fetchall() == [("c", 3)]


def test_seqno_tells_when_a_row_last_changed(t: Connection) -> None:
    assert t.execute("SELECT k, _seqno FROM t").fetchall() == [("a", 3), ("c", 4)]
    for push_down in (True, False):
        t.session.push_down = push_down
        assert t.execute("SELECT k FROM t WHERE _seqno > 3").fetchall() == [("c",)]
        assert t.execute("SELECT k FROM t WHERE _seqno >= 3").fetchall() == [("a",), ("c",)]
        assert t.execute("SELECT k FROM t WHERE _seqno = 3 AND k > ''").fetchall() == [("a",)]
        assert t.execute("SELECT k, _seqno FROM t WHERE k = 'a'").fetchall() == [("a", 3)]
        assert t.execute("SELECT k FROM t WHERE _seqno > 100 OR _seqno IS NULL").fetchall() == []
        assert t.execute("SELECT k FROM t WHERE _seqno > ?", ("x",)).fetchall() == []


def test_key_shows_the_bytes_that_order_rows(t: Connection) -> None:
    assert t.execute("SELECT _key FROM t").fetchall() == [(b"\x03a\x00\x00",), (b"\x03c\x00\x00",)]
    assert t.execute("SELECT _key FROM r").get == b"\x80" + b"\x00" * 6 + b"\x01"


def test_functions_check_their_arguments_and_the_transaction(t: Connection) -> None:
    assert t.execute("SELECT lsm_seqno()").get == t.engine.seqno
    with pytest.raises(ConflictError):
        t.execute("SELECT lsm_snapshot('before')")
    for sql in (
        "SELECT lsm_snapshot('')",
        "SELECT lsm_snapshot(5)",
        "SELECT lsm_release('never')",
        "SELECT lsm_flush(7)",
        "SELECT lsm_seqno('temp')",
    ):
        with pytest.raises(UsageError):
            t.execute(sql)
    t.execute("BEGIN")
    t.execute("SELECT lsm_flush()")
    t.execute("INSERT INTO t VALUES ('z', 0)")
    for sql in ("SELECT lsm_flush()", "SELECT lsm_compact()", "SELECT lsm_snapshot('s')", "SELECT lsm_release('before')"):
        with pytest.raises(UsageError, match="commit first"):
            t.execute(sql)
    t.execute("COMMIT; SELECT lsm_flush()")


def test_changing_functions_cannot_hide_in_views(t: Connection) -> None:
    t.execute("CREATE VIEW trap AS SELECT lsm_compact() AS x")
    with pytest.raises(apsw.SQLError, match="unsafe use of lsm_compact"):
        t.execute("SELECT * FROM trap").fetchall()


def test_stats_are_rows(t: Connection) -> None:
    figures = dict(t.execute("SELECT name, value FROM lsm_stats").fetchall())
    assert figures["seqno"] == t.engine.seqno and set(figures) == set(t.engine.statistics())
    assert t.execute("SELECT DISTINCT schema FROM lsm_stats").get == "main"
