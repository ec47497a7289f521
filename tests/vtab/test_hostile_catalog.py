"""An app.db whose table _lsmsql says what we never wrote, or what another copy of the database would say."""

from __future__ import annotations

import apsw
import pytest

import lsmsql
from lsmsql import CorruptionError, HistoryError, Options
from lsmsql.cli.main import main
from lsmsql.connection import Connection, connect

QUIET = Options(background=False)
TABLES = "CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY); INSERT INTO t VALUES (1); INSERT INTO o VALUES (1)"
VALUES = ["NULL", "5", "2.5", "'text'", "'8 bytes.'", "x''", "x'01'", "zeroblob(7)", "zeroblob(9)", "zeroblob(100000)", "x'ffffffffffffffff'"]
USES = ["SELECT * FROM t", "INSERT INTO t VALUES (NULL)", "CREATE VIRTUAL TABLE n USING lsm(a)", "ALTER TABLE t RENAME TO s", "DROP TABLE t"]


def both(db: Connection) -> list[list[int]]:
    return [[row[0] for row in db.execute(f"SELECT * FROM {table} ORDER BY 1")] for table in ("o", "t")]


@pytest.mark.parametrize("flags", [apsw.SQLITE_OPEN_READWRITE, apsw.SQLITE_OPEN_READONLY])
@pytest.mark.parametrize("row", ["id = 1", "key = 'database_id'", "key = 'table:t'"])
@pytest.mark.parametrize("value", VALUES)
def test_a_value_of_another_kind_is_an_error_of_ours(path: str, row: str, value: str, flags: int) -> None:
    db = connect(path, options=QUIET)
    db.execute(TABLES)
    db.close()
    plain = apsw.Connection(path)
    plain.execute(f"UPDATE _lsmsql SET value = {value} WHERE {row}")
    plain.close()
    for use in USES:
        db = connect(path, flags=flags)
        with pytest.raises((lsmsql.Error, apsw.ReadOnlyError)):
            db.execute(use).fetchall()
        assert db.execute("SELECT x FROM o").get == 1
        db.close()


@pytest.mark.parametrize(
    "change", [*(f"UPDATE _lsmsql SET value = {value} WHERE id = 1" for value in VALUES), "DELETE FROM _lsmsql", "DROP TABLE _lsmsql"]
)
def test_a_number_that_is_changed_while_in_use_stops_what_would_commit(path: str, change: str) -> None:
    db = connect(path, options=QUIET)
    db.execute(TABLES)
    db.execute(change)
    for _ in range(2):
        with pytest.raises((CorruptionError, HistoryError)):
            db.execute("INSERT INTO t VALUES (2)")
        db.engine.flush()  # Nothing is held up.
    db.close()


@pytest.mark.parametrize(
    "change", ["UPDATE _lsmsql SET value = NULL WHERE id = 1", "UPDATE _lsmsql SET value = x'01' WHERE id = 1", "DELETE FROM _lsmsql WHERE id = 1"]
)
def test_a_damaged_number_can_be_repaired(path: str, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    db = connect(path, options=QUIET)
    db.execute(TABLES)
    db.execute("INSERT INTO t VALUES (2)")
    db.close()
    plain = apsw.Connection(path)
    plain.execute(change)
    plain.close()
    assert main(["repair", path]) == 1
    assert main(["repair", path, "--accept"]) == 0
    assert "transaction 2" in capsys.readouterr().out
    db = connect(path)
    db.execute("INSERT INTO t VALUES (3)")
    assert both(db) == [[1], [1, 2, 3]]
    db.close()


def test_an_app_db_restored_in_use_takes_no_changes_of_lsm_tables(path: str) -> None:
    db = connect(path, options=QUIET)
    db.execute(TABLES)
    copy = apsw.Connection(":memory:")
    with copy.backup("main", db, "main") as backup:
        backup.step()
    db.execute("INSERT INTO t VALUES (2); INSERT INTO o VALUES (2)")
    with db.backup("main", copy, "main") as backup:
        backup.step()
    copy.close()
    assert both(db) == [[1], [1]]  # That moment is still retained.
    with pytest.raises(HistoryError, match=r"app\.db is behind .* is number 1, in .*-lsm 2"):
        db.execute("BEGIN; INSERT INTO o VALUES (9); INSERT INTO t VALUES (9); COMMIT")
    assert both(db) == [[1], [1]] and not db.in_transaction
    db.close()
    db = connect(path, options=QUIET)
    with pytest.raises(HistoryError):
        both(db)
    db.close()


def test_an_app_db_that_is_ahead_is_not_called_busy(path: str) -> None:
    db = connect(path, options=QUIET)
    db.execute(TABLES)
    db.execute("UPDATE _lsmsql SET value = x'ff00000000000000' WHERE id = 1")
    with pytest.raises(HistoryError, match=r"app\.db-lsm is behind"):
        db.execute("SELECT * FROM t")
    db.close()
