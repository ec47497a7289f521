"""Rows and keys as the bridge reads them, beside APSW's classes on the same table: same values, same types, found by the same keys."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsmsql._compiled import bridge_module
from lsmsql.connection import Connection, connect

pytestmark = pytest.mark.skipif(bridge_module() is None, reason="the bridge was not built")

INTEGERS = [0, 1, -1, 127, 128, -129, 2**23, -(2**31), 2**47, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 10**18]
REALS = [0.0, -0.0, 1.0, -2.0, 0.5, 1e300, -1e-300, 2.0**53, 2.0**62, 9.3e18, float("inf"), float("-inf")]
TEXTS = ["", "a", "A ", "a\0b", "\0", "ß straße", "\U0001f600", "x" * 300, "Z\0z", "trail   ", "1", "05"]
BLOBS = [b"", b"\0", b"\0\xff\0", b"\xff" * 20, b"ab\0cd", bytes(range(256))]
VALUES = [*INTEGERS, *REALS, *TEXTS, *BLOBS]
KEYS = [
    "BLOB",
    "BLOB DESC",
    "TEXT",
    "TEXT COLLATE NOCASE",
    "TEXT COLLATE RTRIM DESC",
    "INTEGER DESC",
    "REAL",
    "REAL DESC",
    "NUMERIC",
    "COLLATE NOCASE",
]

TYPES = ["", "BLOB", "TEXT", "NUMERIC", "INT", "REAL"]


class Pair:
    """Two connections to one database, the second through APSW's classes."""

    def __init__(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LSMSQL_BRIDGE", "1")
        self.bridge: Connection = connect(path)
        monkeypatch.setenv("LSMSQL_BRIDGE", "0")
        self.apsw: Connection = connect(path)

    def check(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        found, expected = (_typed(each.execute(sql, bindings).fetchall()) for each in (self.bridge, self.apsw))
        assert found == expected, (sql, bindings)
        return found


def _typed(rows: list[Any]) -> list[Any]:
    return [[(type(value).__name__, repr(value)) for value in row] for row in rows]


@pytest.fixture
def pair(path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    pair = Pair(path, monkeypatch)
    yield pair
    pair.bridge.close()
    pair.apsw.close()


@pytest.mark.parametrize("flushed", [False, True], ids=["memtable", "table"])
@pytest.mark.parametrize("key", KEYS)
def test_every_value_is_read_back_as_a_key_and_as_a_column(pair: Pair, key: str, flushed: bool) -> None:
    declared, _, direction = key.partition(" DESC")
    direction = "DESC" if key.endswith(" DESC") else ""
    pair.apsw.execute(f"CREATE VIRTUAL TABLE t USING lsm(a, k {declared}, z, b TEXT, PRIMARY KEY (k {direction}, z DESC))")
    with pair.apsw:
        for number, value in enumerate(VALUES):
            pair.apsw.execute("INSERT OR REPLACE INTO t VALUES (?, ?, ?, ?)", (value, value, VALUES[number * 7 % len(VALUES)], value))
    if flushed:
        pair.apsw.engine.compact()
    assert pair.check("SELECT * FROM t")
    pair.check("SELECT b, z, k, a, b, _key, _seqno FROM t ORDER BY k DESC, z")
    pair.check("SELECT k, z FROM t ORDER BY k, z DESC LIMIT 7 OFFSET 3")
    for number, value in enumerate(VALUES):
        pair.check("SELECT * FROM t WHERE k = ? AND z = ?", (value, VALUES[number * 7 % len(VALUES)]))
        pair.check("SELECT z FROM t WHERE k IS ? AND z IS ?", (value, value))
        pair.check("SELECT z FROM t WHERE k >= ?", (value,))


DEFINITIONS = [
    *(f"a {declared}, b {declared}, PRIMARY KEY (a {direction})" for declared in TYPES for direction in ("", "DESC")),
    "a TEXT COLLATE NOCASE, b, PRIMARY KEY (a)",
    "a TEXT COLLATE RTRIM, b NOT NULL DEFAULT 'd', PRIMARY KEY (a, b)",
    "a INTEGER PRIMARY KEY, b REAL",
    "a, b TEXT DEFAULT 7",
    "a BLOB PRIMARY KEY, b INT, strict=on",
    "a REAL, b ANY NOT NULL, PRIMARY KEY (a), strict=on",
]


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_rows_are_written_as_apsws_classes_write_them_byte_for_byte(pair: Pair, definition: str) -> None:
    def attempt(db: Connection, table: str, row: tuple[Any, ...]) -> tuple[object, ...]:
        try:
            db.execute(f"INSERT INTO {table}(a, b) VALUES (?, ?)", row)
        except Exception as error:
            return type(error), str(error).replace(f"{table}.", "_."), getattr(error, "extendedresult", 0)
        return (db.changes(),)

    def written(table: str) -> list[tuple[bytes, bytes]]:
        engine = pair.bridge.engine
        name = next(name for name in engine.tree_names() if name.startswith(f"sql:{table}:"))
        return list(engine.sql_tree(name, create=False).scan())

    pair.apsw.execute(f"CREATE VIRTUAL TABLE t USING lsm({definition}); CREATE VIRTUAL TABLE u USING lsm({definition})")
    largest = 2**63 - 1 if "INTEGER PRIMARY KEY" in definition else None  # After it new rowids are random.
    values = [value for value in [*VALUES, None] if value is None or value != largest]
    for begin, number in enumerate((7, 11)):
        for each in (pair.apsw, pair.bridge):
            each.execute("BEGIN")
            table = "t" if each is pair.bridge else "u"
            outcomes = [attempt(each, table, (value, VALUES[place * number % len(VALUES)])) for place, value in enumerate(values)]
            each.execute("COMMIT")
            if each is pair.apsw:
                expected = outcomes
        assert outcomes == expected
        assert written("t") == written("u"), begin


def test_text_that_is_not_utf8_is_refused_by_both(pair: Pair) -> None:
    pair.apsw.execute("CREATE VIRTUAL TABLE t USING lsm(k PRIMARY KEY, v)")
    for db in (pair.bridge, pair.apsw):
        for raw in ("ff", "c0af", "eda080", "f4908080", "61e282", "f08080af", "6161616161616161c3"):
            with pytest.raises(UnicodeDecodeError):
                db.execute(f"INSERT INTO t VALUES (1, CAST(x'{raw}' AS TEXT))")
            with pytest.raises(UnicodeDecodeError):
                db.execute(f"INSERT INTO t VALUES (CAST(x'{raw}' AS TEXT), 1)")


def test_rowids_are_found_and_told(pair: Pair) -> None:
    pair.apsw.execute("CREATE VIRTUAL TABLE t USING lsm(v, id INTEGER PRIMARY KEY); CREATE VIRTUAL TABLE u USING lsm(v)")
    with pair.apsw:
        for number in INTEGERS:
            pair.apsw.execute("INSERT INTO t VALUES (?1, ?1)", (number,))
            pair.apsw.execute("INSERT INTO u(rowid, v) VALUES (?1, ?1)", (number,))
    for table in "tu":
        assert len(pair.check(f"SELECT rowid, *, _key FROM {table}")) == len(set(INTEGERS))
        for value in VALUES:
            pair.check(f"SELECT v, rowid FROM {table} WHERE rowid = ?", (value,))


@settings(max_examples=60)
@given(text=st.lists(st.text(), max_size=4), data=st.data())
def test_text_of_any_kind_is_found_by_its_key(text: list[str], data: st.DataObject) -> None:
    db = connect(":memory:")
    collation = data.draw(st.sampled_from(["BINARY", "NOCASE", "RTRIM"]))
    db.execute(
        f"CREATE VIRTUAL TABLE t USING lsm(k TEXT COLLATE {collation} PRIMARY KEY, v); CREATE TABLE o(k TEXT COLLATE {collation} PRIMARY KEY, v)"
    )
    for each in text:
        for table in "to":
            db.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (each, each))
    for each in [*text, data.draw(st.text())]:
        for probe in (each, each.upper(), each + " "):
            found, expected = (db.execute(f"SELECT * FROM {table} WHERE k = ?", (probe,)).fetchall() for table in "to")
            assert found == expected
    db.close()


def test_columns_outlive_the_blocks_they_came_from() -> None:
    """With freed memory overwritten: what min(), max() and sorting keep beyond a row has to be SQLite's own copy."""
    script = """
        import apsw, lsmsql
        db = lsmsql.connect(":memory:", options=lsmsql.Options(cache_bytes=1 << 20))
        ordinary = apsw.Connection(":memory:")
        db.execute("CREATE VIRTUAL TABLE t USING lsm(k BLOB PRIMARY KEY, n INTEGER, s TEXT)")
        ordinary.execute("CREATE TABLE t(k BLOB PRIMARY KEY, n INTEGER, s TEXT) WITHOUT ROWID")
        rows = [((number * 2654435761 % 2**32).to_bytes(8, "big") * 2, number % 17, str(number) * 9) for number in range(6000)]
        for each in (db, ordinary):
            with each:
                each.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        for state in ("memtable", "tables"):
            for sql in (
                "SELECT min(s), max(s), min(k), max(k) FROM t",
                "SELECT n, min(s), max(k) FROM t GROUP BY n",
                "SELECT s FROM t ORDER BY s DESC LIMIT 20",
                "SELECT DISTINCT substr(s, 1, 3) FROM t ORDER BY 1",
                "SELECT group_concat(s) FROM (SELECT s FROM t ORDER BY n, s)",
                "SELECT s, lag(s) OVER (ORDER BY k), k FROM t",
                "SELECT a.s, b.s FROM t a JOIN t b ON a.k = b.k WHERE a.n = 3 ORDER BY 1",
                "SELECT max(a.s || b.s) FROM t a, t b WHERE a.n = 1 AND b.k = a.k",
            ):
                assert db.execute(sql).fetchall() == ordinary.execute(sql).fetchall(), (state, sql)
            db.engine.compact()
        db.close()
    """
    poisoned = {**os.environ, "MALLOC_PERTURB_": "221", "PYTHONMALLOC": "malloc", "LSMSQL_BRIDGE": "1"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=poisoned, check=True, timeout=120)


def test_a_lookup_shows_when_its_row_changed(pair: Pair) -> None:
    pair.apsw.execute("CREATE VIRTUAL TABLE t USING lsm(k PRIMARY KEY, v); INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (2, 2)")
    for key in (1, 2, 3):
        looked_up = pair.check("SELECT v, _seqno, _key FROM t WHERE k = ?", (key,))
        assert looked_up == pair.check("SELECT v, _seqno, _key FROM t WHERE k >= ?1 AND k <= ?1", (key,))
    for db in (pair.bridge, pair.apsw):
        db.execute("BEGIN; UPDATE t SET v = 5 WHERE k = 1; DELETE FROM t WHERE k = 2")
        assert db.execute("SELECT v, _seqno FROM t WHERE k = 1").fetchall() == [(5, None)]
        assert db.execute("SELECT v, _seqno FROM t WHERE k = 2").fetchall() == []
        db.execute("ROLLBACK")
