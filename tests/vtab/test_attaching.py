"""Databases that come, go and come back under one connection: which engine is whose, and which moment is read."""

from __future__ import annotations

import os
import shutil

import apsw
import pytest

from lsmsql import Options, UsageError
from lsmsql.connection import Connection, connect

QUIET = Options(background=False)
TABLES = "CREATE TABLE {0}o(x); CREATE VIRTUAL TABLE {0}t USING lsm(id INTEGER PRIMARY KEY)"


def ids(db: Connection, schema: str) -> tuple[list[int], list[int]]:
    """What the lsm and the ordinary table of a schema hold."""
    lsm, ordinary = (db.execute(f"SELECT {column} FROM {schema}.{table} ORDER BY 1") for column, table in (("id", "t"), ("x", "o")))
    return [row[0] for row in lsm], [row[0] for row in ordinary]


def test_a_database_attached_again_is_read_as_it_is_now(path: str) -> None:
    writer = connect(path, options=QUIET)
    writer.execute(TABLES.format(""))
    db = connect(":memory:", options=QUIET)
    for number in range(4):
        writer.execute(f"INSERT INTO t VALUES ({number}); INSERT INTO o VALUES ({number})")
        db.execute("ATTACH ? AS a", (path,))
        assert ids(db, "a") == (list(range(number + 1)), list(range(number + 1)))
        db.execute("DETACH a")
    db.close()
    writer.close()


def test_a_database_attached_twice_is_two_connections_to_it(path: str) -> None:
    db = connect(path, options=QUIET)
    db.execute(TABLES.format(""))
    db.execute("ATTACH ? AS a; ATTACH ? AS b", (path, path))
    db.execute("BEGIN; INSERT INTO a.t VALUES (1); INSERT INTO a.o VALUES (1)")
    assert ids(db, "a") == ([1], [1]) and ids(db, "b") == ids(db, "main") == ([], [])
    with pytest.raises(apsw.BusyError):
        db.execute("INSERT INTO b.t VALUES (2)")
    db.execute("COMMIT")
    assert ids(db, "a") == ids(db, "b") == ids(db, "main") == ([1], [1])
    db.close()


@pytest.mark.parametrize("away, again", [("DETACH a", "ATTACH ':memory:' AS a"), ("PRAGMA temp_store = memory", "PRAGMA temp_store = file")])
def test_a_database_in_memory_has_nothing_of_the_one_before(db: Connection, away: str, again: str) -> None:
    schema = "a" if away.startswith("DETACH") else "temp"
    db.execute("ATTACH ':memory:' AS a")
    for number in range(3):
        db.execute(TABLES.format(schema + "."))
        assert ids(db, schema) == ([], [])
        db.execute(f"INSERT INTO {schema}.t VALUES ({number})")
        db.execute("SELECT lsm_compact(?)", (schema,))
        assert ids(db, schema) == ([number], [])
        db.execute(away)
        db.execute(again)
        if schema == "temp":
            away, again = again, away
    assert db.execute("SELECT count(*) FROM pragma_table_list WHERE name = 't'").get == 0


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_file_made_anew_has_an_engine_of_its_own(path: str, mode: str) -> None:
    db = connect(":memory:", options=QUIET)
    for number in range(2):
        db.execute("ATTACH ? AS a", (path,))
        db.pragma("journal_mode", mode, schema="a")
        db.execute(TABLES.format("a."))
        db.execute(f"INSERT INTO a.t VALUES ({number}); INSERT INTO a.o VALUES ({number}); DETACH a")
        if number == 0:
            os.remove(path)
            shutil.rmtree(path + "-lsm")
    alone = connect(path, options=QUIET)
    assert ids(alone, "main") == ([1], [1])
    alone.close()
    db.close()


def test_a_file_made_anew_does_not_take_over_the_rows_of_the_one_before(path: str) -> None:
    db = connect(":memory:", options=QUIET)
    db.execute("ATTACH ? AS a", (path,))
    db.execute(TABLES.format("a."))
    db.execute("INSERT INTO a.t VALUES (1); DETACH a")
    os.remove(path)
    db.execute("ATTACH ? AS a", (path,))
    with pytest.raises(UsageError, match="holds rows of another database"):
        db.execute(TABLES.format("a."))
    db.close()
