"""Writing rows: defaults, NOT NULL, strict tables, rowids, wide tables, limits. What has no ordinary twin, or needs exact words."""

from __future__ import annotations

import re

import apsw
import pytest

from lsmsql import UsageError
from lsmsql.connection import Connection


def test_defaults_fill_omitted_columns_and_nulls(db: Connection) -> None:
    db.execute(
        "CREATE VIRTUAL TABLE t USING lsm(a, b DEFAULT 5, c TEXT NOT NULL DEFAULT (1 + 1), d DEFAULT CURRENT_TIMESTAMP, e INTEGER DEFAULT '7')"
    )
    db.execute("INSERT INTO t(a) VALUES (1)")
    db.execute("INSERT INTO t VALUES (2, NULL, NULL, 'x', 'y')")
    rows = db.execute("SELECT * FROM t").fetchall()
    assert rows[0][:3] == (1, 5, "2") and rows[0][4] == 7 and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", rows[0][3])
    assert rows[1] == (2, 5, "2", "x", "y")
    db.execute("UPDATE t SET b = NULL")
    assert db.execute("SELECT DISTINCT b FROM t").get is None
    db.execute("UPDATE OR REPLACE t SET c = NULL")
    assert db.execute("SELECT DISTINCT c FROM t").get == "2"


@pytest.mark.parametrize(
    ("definition", "sql", "error", "message"),
    [
        ("a NOT NULL, b", "INSERT INTO t(b) VALUES (1)", apsw.ConstraintError, "NOT NULL constraint failed: t.a"),
        ("a PRIMARY KEY", "INSERT INTO t VALUES (NULL)", apsw.ConstraintError, "NOT NULL constraint failed: t.a"),
        ("a, b, PRIMARY KEY (b, a)", "INSERT INTO t VALUES (1, 2), (1, 2)", apsw.ConstraintError, "UNIQUE constraint failed: t.b, t.a"),
        ("a INTEGER PRIMARY KEY", "INSERT INTO t VALUES (1), (1)", apsw.ConstraintError, "UNIQUE constraint failed: t.a"),
        ("a", "INSERT INTO t(rowid) VALUES (1), (1)", apsw.ConstraintError, "UNIQUE constraint failed: t.rowid"),
        ("a INTEGER PRIMARY KEY", "INSERT INTO t VALUES ('x')", apsw.MismatchError, "datatype mismatch"),
        ("a INT, strict=on", "INSERT INTO t VALUES ('x')", apsw.ConstraintError, "cannot store TEXT value in INT column t.a"),
        ("a TEXT, strict=on", "INSERT INTO t VALUES (x'00')", apsw.ConstraintError, "cannot store BLOB value in TEXT column t.a"),
        ("a TEXT PRIMARY KEY", "INSERT INTO t VALUES (hex(zeroblob(40000)))", apsw.TooBigError, "a key has at most 65535 bytes"),
    ],
)
def test_errors_have_sqlites_classes_and_words(db: Connection, definition: str, sql: str, error: type[Exception], message: str) -> None:
    db.execute(f"CREATE VIRTUAL TABLE t USING lsm({definition})")
    with pytest.raises(error) as caught:
        db.execute(sql)
    assert message in str(caught.value)
    assert db.execute("SELECT count(*) FROM t").get == 0


def test_extended_result_codes_are_sqlites(db: Connection) -> None:
    db.execute("CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY, b NOT NULL); INSERT INTO t VALUES (1, 1)")
    for sql, code in (
        ("INSERT INTO t VALUES (1, 1)", apsw.SQLITE_CONSTRAINT_PRIMARYKEY),
        ("INSERT INTO t VALUES (2, NULL)", apsw.SQLITE_CONSTRAINT_NOTNULL),
    ):
        with pytest.raises(apsw.ConstraintError) as caught:
            db.execute(sql)
        assert caught.value.extendedresult == code  # type: ignore[attr-defined]


def test_strict_tables_convert_where_nothing_is_lost_and_any_keeps_everything(db: Connection) -> None:
    db.execute("CREATE VIRTUAL TABLE t USING lsm(i INTEGER, r REAL, s TEXT, b BLOB, x ANY, strict=true)")
    db.execute("INSERT INTO t VALUES ('5', 5, 5, x'05', '5')")
    assert [type(value) for value in db.execute("SELECT * FROM t").get] == [int, float, str, bytes, str]
    native = apsw.Connection(":memory:")
    native.execute("CREATE TABLE t(i INTEGER, r REAL, s TEXT, b BLOB, x ANY) STRICT; INSERT INTO t VALUES ('5', 5, 5, x'05', '5')")
    assert db.execute("SELECT * FROM t").get == native.execute("SELECT * FROM t").get


def test_rowids_go_on_from_the_largest_and_then_at_random(db: Connection) -> None:
    db.execute("CREATE VIRTUAL TABLE t USING lsm(id INTEGER PRIMARY KEY, v)")
    db.execute("INSERT INTO t(v) VALUES (1); INSERT INTO t VALUES (-5, 2), (10, 3); INSERT INTO t(v) VALUES (4)")
    assert db.last_insert_rowid() == 11
    db.execute("DELETE FROM t WHERE id = 11; INSERT INTO t(v) VALUES (5)")
    assert db.last_insert_rowid() == 11
    db.execute("BEGIN; INSERT INTO t(v) VALUES (6); ROLLBACK; INSERT INTO t(v) VALUES (7)")
    assert db.last_insert_rowid() == 12
    db.execute("INSERT INTO t VALUES (9223372036854775807, 8); INSERT INTO t(v) VALUES (9)")
    assert 0 < db.last_insert_rowid() < 2**63 - 1
    assert db.execute("SELECT count(*), count(DISTINCT id) FROM t").get == (7, 7)


def test_last_insert_rowid_is_left_alone_by_keyed_and_ignored_rows(db: Connection) -> None:
    db.execute(
        "CREATE VIRTUAL TABLE t USING lsm(id INTEGER PRIMARY KEY); CREATE VIRTUAL TABLE k USING lsm(a PRIMARY KEY); INSERT INTO t VALUES (77), (5)"
    )
    db.execute("INSERT INTO k VALUES (1); INSERT OR IGNORE INTO t VALUES (77)")
    assert db.last_insert_rowid() == 5


def test_update_or_replace_leaves_alone_what_it_has_replaced(db: Connection) -> None:
    db.execute("CREATE VIRTUAL TABLE t USING lsm(k PRIMARY KEY, a); INSERT INTO t VALUES (1, 2), (2, 5), (3, 9)")
    db.execute("UPDATE OR REPLACE t SET k = a WHERE k < 3")
    assert db.execute("SELECT * FROM t").fetchall() == [(2, 2), (3, 9)]


def test_tables_wider_than_sqlites_column_mask(db: Connection) -> None:
    columns = [f"c{n}" for n in range(200)]
    db.execute(f"CREATE VIRTUAL TABLE t USING lsm({', '.join(columns)}, PRIMARY KEY (c150, c3))")
    db.execute(f"INSERT INTO t VALUES ({', '.join(map(str, range(200)))})")
    assert db.execute("SELECT * FROM t").get == tuple(range(200))
    assert db.execute("SELECT c0, c62, c63, c64, c199, _seqno FROM t WHERE c150 = 150").get == (0, 62, 63, 64, 199, 1)
    db.execute("UPDATE t SET c199 = 'x', c150 = 1 WHERE c64 = 64")
    assert db.execute("SELECT c199, c150, c198 FROM t").get == ("x", 1, 198)
    assert db.execute("SELECT c1 FROM t WHERE _snapshot = 1").get == 1
    with pytest.raises(UsageError, match="_snapshot can only"):
        db.execute("SELECT c1 FROM t WHERE _snapshot = 1 OR c1 = 1").fetchall()


def test_upsert_and_indexes_are_refused_by_sqlite(db: Connection) -> None:
    db.execute("CREATE VIRTUAL TABLE t USING lsm(a PRIMARY KEY)")
    for sql in ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", "CREATE INDEX i ON t(a)", "ALTER TABLE t ADD COLUMN b"):
        with pytest.raises(apsw.SQLError):
            db.execute(sql)


def test_a_damaged_row_is_a_corruption_error(db: Connection) -> None:
    from lsmsql import CorruptionError

    db.execute("CREATE VIRTUAL TABLE t USING lsm(id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'x')")
    name = next(name for name in db.engine.tree_names() if name.startswith("sql:t:"))
    tree = db.engine.sql_tree(name, create=False)
    for value in (b"", b"\x03\x0a\xff", b"\x7f", b"\x03\x0a\x0fx\xff", b"\x03\x0a\x0f\xff"):
        tree.put(b"\x80" + b"\x00" * 6 + b"\x01", value)
        with pytest.raises(CorruptionError, match="a row of table t cannot be read"):
            db.execute("SELECT v FROM t").fetchall()


@pytest.mark.parametrize("key", [b"", b"abc", b"\xff" * 9])
def test_a_key_that_is_no_rowid_is_a_corruption_error(db: Connection, key: bytes) -> None:
    from lsmsql import CorruptionError

    db.execute("CREATE VIRTUAL TABLE t USING lsm(v)")
    name = next(name for name in db.engine.tree_names() if name.startswith("sql:t:"))
    db.engine.sql_tree(name, create=False).put(key, b"\x02\x08")
    for sql in ("SELECT rowid FROM t", "SELECT v FROM t WHERE rowid <> 3", "DELETE FROM t", "UPDATE t SET v = 2", "INSERT INTO t VALUES (1)"):
        if sql.startswith("INSERT") and key < b"\x80":
            db.engine.sql_tree(name, create=False).put(b"\xff" * 9, b"\x02\x08")
        with pytest.raises(CorruptionError, match="a row of table t cannot be read: the key is not one of this table"):
            db.execute(sql).fetchall()


@pytest.mark.parametrize("count", [59, 60, 61, 62, 63, 64])
def test_tables_about_as_wide_as_the_column_mask_can_be_changed(db: Connection, count: int) -> None:
    db.execute(f"CREATE VIRTUAL TABLE t USING lsm({', '.join(f'c{n}' for n in range(count))}, PRIMARY KEY (c0))")
    db.execute(f"INSERT INTO t VALUES ({', '.join(str(n) for n in range(count))})")
    db.execute("UPDATE t SET c1 = 'new' WHERE c0 = 0")
    db.execute(f"UPDATE t SET c2 = o.c{count - 1} FROM t AS o WHERE o.c3 = t.c3")
    assert db.execute("SELECT c0, c1, c2, c3 FROM t").fetchall() == [(0, "new", count - 1, 3)]
    for sql in ("SELECT _snapshot FROM t", "SELECT *, _snapshot, _seqno, _key FROM t", "SELECT c0 FROM t WHERE _snapshot = 1 OR c0 = 0"):
        with pytest.raises(UsageError, match="_snapshot can only be used"):
            db.execute(sql).fetchall()


def test_last_insert_rowid_is_that_of_an_ordinary_table(db: Connection) -> None:
    ordinary = apsw.Connection(":memory:")
    for table in ("h(x)", "r(id INTEGER PRIMARY KEY, x)"):
        ordinary.execute(f"CREATE TABLE {table}")
        db.execute(f"CREATE VIRTUAL TABLE {table.replace('(', ' USING lsm(', 1)}")
    db.execute("CREATE VIRTUAL TABLE k USING lsm(k PRIMARY KEY)")
    ordinary.execute("CREATE TABLE k(k PRIMARY KEY) WITHOUT ROWID")
    for connection in (ordinary, db):
        connection.execute("CREATE VIEW v AS SELECT x FROM h; CREATE TRIGGER i INSTEAD OF INSERT ON v BEGIN INSERT INTO h VALUES (new.x); END")
    for sql in (
        "INSERT INTO h(rowid, x) VALUES (7, 1)",
        "INSERT INTO k VALUES (1)",
        "INSERT OR IGNORE INTO h(rowid, x) VALUES (7, 1)",
        "REPLACE INTO h(rowid, x) VALUES (5, 1), (6, 1)",
        "INSERT INTO v VALUES (2)",
        "INSERT INTO h VALUES (1)",
        "INSERT INTO r(rowid, x) VALUES (40, 1)",
        "INSERT OR IGNORE INTO r VALUES (40, 1)",
        "INSERT INTO r VALUES (41, 1)",
        "INSERT INTO h(rowid, x) VALUES (70, 1)",
        "INSERT INTO r VALUES (0, 1)",
        "UPDATE h SET x = 2",
        "INSERT INTO h(rowid, x) VALUES (71, last_insert_rowid())",
        "INSERT INTO h(rowid, x) VALUES (72, last_insert_rowid()), (71, 5)",
        "DELETE FROM h",
    ):
        for connection in (ordinary, db):
            try:
                connection.execute(sql)
            except apsw.ConstraintError:
                pass
        assert db.last_insert_rowid() == ordinary.last_insert_rowid(), sql
        assert db.execute("SELECT last_insert_rowid()").get == ordinary.last_insert_rowid(), sql
        assert db.execute("SELECT * FROM h").fetchall() == ordinary.execute("SELECT * FROM h").fetchall(), sql
    db.set_last_insert_rowid(0)
    assert db.last_insert_rowid() == 0
    ordinary.close()


@pytest.mark.parametrize("value", ["-9223372036854775809", -(2.0**63), 2.0**63, -(2.0**63) + 1024, "-9223372036854775808", "1e18", "9.2e18"])
@pytest.mark.parametrize("sql", ["INSERT INTO {} VALUES (?)", "UPDATE {} SET id = ?", "INSERT INTO {}(rowid) VALUES (?)"])
def test_numbers_become_rowids_as_far_as_sqlite_takes_them(db: Connection, value: object, sql: str) -> None:
    db.execute("CREATE VIRTUAL TABLE t USING lsm(id INTEGER PRIMARY KEY); CREATE TABLE twin(id INTEGER PRIMARY KEY)")
    outcomes = []
    for table in ("t", "twin"):
        db.execute(f"INSERT INTO {table} VALUES (7)")
        try:
            db.execute(sql.format(table), (value,))
        except apsw.MismatchError:
            pass
        outcomes.append(db.execute(f"SELECT * FROM {table}").fetchall())
    assert outcomes[0] == outcomes[1]
