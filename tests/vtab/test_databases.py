"""Where engines are: beside files, attached, in memory, shared by connections, and not where they should be."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

import lsmsql
from lsmsql import KeyUnavailableError, Options, UsageError
from lsmsql.connection import connect
from lsmsql.engine import open_directories
from lsmsql.engine.storage.filesystem import OsFileSystem
from lsmsql.vtab import engines

SCHEMA = "CREATE VIRTUAL TABLE t USING lsm(a TEXT COLLATE NOCASE DEFAULT (1 + 1), b INTEGER, PRIMARY KEY (a, b DESC))"


def test_rows_are_there_after_reopening(path: str) -> None:
    db = connect(path)
    assert db.pragma("journal_mode") == "wal"
    assert not os.path.exists(path + "-lsm")  # only CREATE makes a directory
    db.execute(SCHEMA)
    db.executemany("INSERT INTO t VALUES (?, ?)", [("x", n) for n in range(100)])
    db.close()
    db = connect(path)
    assert db.execute("SELECT count(*), min(b), max(b), lsm_seqno() FROM t").get == (100, 0, 99, 100)
    db.execute("INSERT INTO t(b) VALUES (5)")
    assert db.execute("SELECT * FROM t WHERE b = 5 ORDER BY a").fetchall() == [("2", 5), ("x", 5)]
    db.close()
    db.close()


def test_an_old_database_keeps_its_journal_mode(path: str) -> None:
    plain = apsw.Connection(path)
    plain.execute("CREATE TABLE o(x)")
    plain.close()
    db = connect(path)
    assert db.pragma("journal_mode") == "delete"
    db.execute(SCHEMA)
    db.close()


def test_attached_databases_have_their_own_engines(path: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other.db")
    db = connect(path)
    db.execute("ATTACH ? AS aux", (other,))
    db.execute("CREATE VIRTUAL TABLE aux.t USING lsm(id INTEGER PRIMARY KEY); INSERT INTO aux.t VALUES (1), (2)")
    with pytest.raises(UsageError, match="no lsm tables"):
        _ = db.engine
    db.execute("CREATE VIRTUAL TABLE main.t USING lsm(id INTEGER PRIMARY KEY); INSERT INTO main.t SELECT id + 10 FROM aux.t")
    db.execute("BEGIN; INSERT INTO main.t VALUES (1); INSERT INTO aux.t VALUES (3); ROLLBACK")
    db.execute("BEGIN; INSERT INTO main.t VALUES (13); INSERT INTO aux.t VALUES (3); COMMIT")
    assert db.execute("SELECT group_concat(id) FROM aux.t UNION ALL SELECT group_concat(id) FROM main.t").fetchall() == [("1,2,3",), ("11,12,13",)]
    assert db.execute("SELECT lsm_seqno('main'), lsm_seqno('aux')").get == (2, 2)
    assert db.execute("SELECT value FROM lsm_stats('aux') WHERE name = 'seqno'").get == 2
    db.close()
    db = connect(other)
    assert db.execute("SELECT group_concat(id) FROM t").get == "1,2,3"
    db.close()


def test_memory_and_temporary_tables_are_private_to_connection_and_schema(path: str) -> None:
    one, two = connect(":memory:"), connect(":memory:")
    for db in (one, two):
        db.execute("CREATE VIRTUAL TABLE t USING lsm(a); ATTACH ':memory:' AS aux; CREATE VIRTUAL TABLE aux.t USING lsm(a)")
        db.execute("CREATE VIRTUAL TABLE temp.s USING lsm(a); INSERT INTO temp.s VALUES ('temp')")
    one.execute("INSERT INTO main.t VALUES ('one'); INSERT INTO aux.t VALUES ('aux')")
    assert one.execute("SELECT (SELECT a FROM main.t), (SELECT a FROM aux.t), (SELECT a FROM s)").get == ("one", "aux", "temp")
    assert two.execute("SELECT count(*) FROM main.t").get == 0
    one.close()
    two.close()
    db = connect(path)
    db.execute("CREATE VIRTUAL TABLE temp.s USING lsm(a); INSERT INTO s VALUES (1)")
    assert db.execute("SELECT a FROM s").get == 1 and not os.path.exists(path + "-lsm")
    db.close()


def test_shared_memory_and_foreign_file_systems_are_refused() -> None:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
    db = connect("file:/shared?vfs=memdb", flags=flags)
    with pytest.raises(UsageError, match="shared database in memory"):
        db.execute("CREATE VIRTUAL TABLE t USING lsm(a)")
    db.close()


def test_a_missing_or_foreign_directory_is_an_error_naming_both_paths(path: str, tmp_path: Path) -> None:
    db = connect(path)
    db.execute(SCHEMA)
    db.close()
    moved = str(tmp_path / "moved")
    shutil.move(path + "-lsm", moved)
    db = connect(path)
    with pytest.raises(UsageError) as caught:
        db.execute("SELECT * FROM t")
    assert path in str(caught.value) and path + "-lsm" in str(caught.value)
    assert not os.path.exists(path + "-lsm")
    db.close()
    other = connect(str(tmp_path / "other.db"))
    other.execute(SCHEMA)
    other.execute("INSERT INTO t VALUES ('x', 1)")
    other.close()
    shutil.move(str(tmp_path / "other.db-lsm"), path + "-lsm")
    db = connect(path)
    with pytest.raises(UsageError, match="another database"):
        db.execute("SELECT * FROM t")
    db.close()
    os.remove(path)
    db = connect(path)
    with pytest.raises(UsageError, match="holds rows of another database"):
        db.execute(SCHEMA)
    db.close()


def test_a_missing_tree_is_an_error(path: str) -> None:
    db = connect(path)
    db.execute(SCHEMA)
    db.engine.drop_tree(next(name for name in db.engine.tree_names() if name.startswith("sql:t:")))
    db.close()
    db = connect(path)
    with pytest.raises(UsageError, match="rows of table t are missing"):
        db.execute("SELECT * FROM t")
    db.close()


def test_trees_of_dropped_tables_go_at_the_next_open(path: str) -> None:
    db = connect(path)
    db.execute(SCHEMA)
    db.execute(
        "BEGIN; CREATE VIRTUAL TABLE never USING lsm(a); ROLLBACK; CREATE VIRTUAL TABLE s USING lsm(a); INSERT INTO s VALUES (1); DROP TABLE t"
    )
    db.engine.tree("mine").put(b"k", b"v")
    assert len(db.engine.tree_names()) == 4
    db.close()
    db = connect(path)
    assert db.execute("SELECT * FROM s").get == 1
    assert [name.split(":")[:2] for name in db.engine.tree_names()] == [["mine"], ["sql", "s"]]
    db.close()


def test_a_name_used_again_starts_empty(path: str) -> None:
    db = connect(path)
    for _ in range(2):
        db.execute(SCHEMA)
        assert db.execute("SELECT count(*) FROM t").get == 0
        db.execute("INSERT INTO t VALUES ('x', 1); DROP TABLE t")
    db.close()


def test_a_key_is_needed_again_and_the_same(path: str) -> None:
    db = connect(path, key="secret")
    db.execute(SCHEMA)
    db.execute("INSERT INTO t VALUES ('hidden text', 1)")
    with pytest.raises(UsageError, match="open in this process with another key"):
        connect(path, key="other").execute("SELECT * FROM t").fetchall()
    db.close()
    assert not any(b"hidden text" in file.read_bytes() for file in Path(path + "-lsm").iterdir() if file.is_file())
    for key in (None, "other"):
        wrong = connect(path, key=key)
        with pytest.raises(KeyUnavailableError):
            wrong.execute("SELECT * FROM t").fetchall()
        wrong.close()
    db = connect(path, key="secret")
    assert db.execute("SELECT a FROM t").get == "hidden text"
    db.close()


def test_options_go_to_the_engine(path: str) -> None:
    db = connect(path, options=Options(durability="off"))
    db.execute(SCHEMA)
    assert db.engine.options.durability == "off"
    second = connect(path, options=Options(durability="full"))
    with pytest.raises(UsageError, match="other options"):
        second.execute("SELECT * FROM t")
    second.close()
    db.close()


def test_closing_is_not_needed_for_the_next_connection(path: str) -> None:
    db = connect(path)
    db.execute(SCHEMA)
    db.execute("INSERT INTO t VALUES ('x', 1)")
    engine = db.engine
    del db
    second = connect(path)
    assert second.execute("SELECT a FROM t").get == "x"
    assert second.engine is not engine, "a dropped connection lets its engine go"
    second.close()


def test_names_are_found_in_any_case_and_may_be_odd(path: str) -> None:
    db = connect(path)
    db.execute('CREATE VIRTUAL TABLE "Odd name; ""x""" USING lsm("a b", [c,d] TEXT)')
    db.execute('INSERT INTO "odd NAME; ""X""" VALUES (1, 2)')
    db.close()
    db = connect(path)
    assert db.execute('SELECT "a b", "c,d" FROM "ODD name; ""x"""').get == (1, "2")
    db.close()


def test_row_and_exec_tracers_of_the_user_do_not_disturb_the_catalog(path: str) -> None:
    db = connect(path)
    db.row_trace = lambda _cursor, row: {"row": row}
    seen: list[str] = []
    db.exec_trace = lambda _cursor, sql, _bindings: seen.append(sql) or True
    db.execute(SCHEMA)
    db.execute("INSERT INTO t VALUES ('x', 1)")
    assert db.execute("SELECT b FROM t").fetchall() == [{"row": (1,)}]
    assert len(seen) == 3
    db.close()


def test_another_process_is_told_busy(path: str) -> None:
    db = connect(path)
    db.execute(SCHEMA)
    code = (
        "import sys, apsw, lsmsql\n"
        "db = lsmsql.connect(sys.argv[1], options=lsmsql.Options(lock_timeout=0.05))\n"
        "try:\n    db.execute('SELECT * FROM t').fetchall()\n"
        "except apsw.BusyError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60)
    assert path + "-lsm" in result.stdout
    db.close()


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_database_that_orders_text_otherwise_is_refused(path: str, encoding: str) -> None:
    db = connect(path)
    db.execute(f"PRAGMA encoding = '{encoding}'")
    with pytest.raises(UsageError, match=f"keeps text as {encoding}"):
        db.execute("CREATE VIRTUAL TABLE t USING lsm(k TEXT PRIMARY KEY)")
    assert not os.path.exists(path + "-lsm")
    db.close()


def test_an_unknown_schema_is_named() -> None:
    db = connect(":memory:")
    for sql in ("SELECT lsm_seqno('nope')", "SELECT * FROM lsm_stats('nope')", "SELECT lsm_snapshot('a', 'nope')"):
        with pytest.raises(UsageError, match="no schema named nope"):
            db.execute(sql).fetchall()
    db.close()


def test_a_like_function_of_the_users_own_does_not_lose_tables(path: str) -> None:
    db = connect(path)
    db.execute(SCHEMA)
    db.execute("INSERT INTO t VALUES ('x', 1)")
    db.close()
    db = connect(path)
    db.create_scalar_function("like", lambda *_arguments: 0, 2)
    assert db.execute("SELECT b FROM t").get == 1
    db.close()


def test_keys_and_options_of_a_wrong_kind_are_refused_at_once() -> None:
    for key in (5, "", b"short"):
        with pytest.raises(UsageError, match="a key is"):
            connect(":memory:", key=key)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="options"):
        connect(":memory:", options="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("sql", ["SELECT * FROM t", "INSERT INTO t VALUES ('z', 1)", "DROP TABLE t", "ALTER TABLE t RENAME TO s"])
def test_a_table_first_used_after_another_connection_changed_the_schema(path: str, sql: str) -> None:
    db = connect(path)
    db.execute(SCHEMA)
    db.execute("INSERT INTO t VALUES ('x', 1); CREATE TABLE ordinary(x)")
    other = connect(path)
    other.execute("SELECT * FROM ordinary").fetchall()  # It knows the schema, and has not opened t.
    db.execute("DROP TABLE t")
    db.execute(SCHEMA)
    db.execute("INSERT INTO t VALUES ('y', 2)")
    found = other.execute(sql).fetchall()
    assert found == ([("y", 2)] if sql.startswith("SELECT") else [])
    other.execute("CREATE TABLE another(x)")
    db.execute("SELECT * FROM another").fetchall()
    third = connect(path)
    third.execute("SELECT * FROM ordinary").fetchall()
    db.execute("DROP TABLE IF EXISTS t; DROP TABLE IF EXISTS s")
    for table in ("t", "s"):
        with pytest.raises(apsw.SQLError, match="no such table"):
            third.execute(f"SELECT * FROM {table}").fetchall()
    for connection in (third, other, db):
        connection.close()


def test_keys_come_by_schema_by_function_and_from_the_environment(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = str(tmp_path / "other.db")
    for file, key in ((path, "one"), (other, "two")):
        db = connect(file, key=key)
        db.execute(SCHEMA)
        db.execute("INSERT INTO t VALUES (?, 1)", (key,))
        db.close()
    both = "SELECT (SELECT a FROM main.t), (SELECT a FROM aux.t)"
    for how in ("keys", "unlock", "environment"):
        if how == "keys":
            db = connect(path, key="one", keys={"AUX": "two"})
        elif how == "unlock":
            db = connect(path)
            assert db.execute("SELECT lsm_unlock('one')").get is None
        else:
            monkeypatch.setenv("LSMSQL_KEY", "two")
            db = connect(path, keys={"main": "one"})
        db.execute("ATTACH ? AS aux", (other,))
        if how == "unlock":
            with pytest.raises(KeyUnavailableError):
                db.execute("SELECT a FROM aux.t")
            db.execute("SELECT lsm_unlock('two', 'aux')")
        assert db.execute(both).get == ("one", "two")
        if how == "unlock":
            with pytest.raises(UsageError, match="open already"):
                db.execute("SELECT lsm_unlock('two', 'aux')")
            for wrong in ("lsm_unlock('')", "lsm_unlock(5)", "lsm_unlock('x', 'nowhere')"):
                with pytest.raises(UsageError):
                    db.execute(f"SELECT {wrong}")
        db.close()
    with pytest.raises(UsageError, match="32 bytes"):
        connect(path, keys={"aux": b"short"})


def test_the_engine_alone_and_sql_share_a_directory(path: str) -> None:
    db = connect(path)
    db.execute(SCHEMA)
    db.execute("INSERT INTO t VALUES ('x', 1)")
    with lsmsql.open(path + "-lsm") as engine:
        engine.tree("mine").put(b"k", b"v")
        assert db.execute("SELECT lsm_seqno()").get == engine.seqno == 2
        db.close()
        assert engine.tree("mine").get(b"k") == b"v"
        db = connect(path)
        assert db.execute("SELECT a FROM t").get == "x"
    assert db.engine.tree("mine").get(b"k") == b"v"
    db.execute("INSERT INTO t VALUES ('y', 1)")
    db.close()


def test_a_dropped_tables_rows_leave_with_the_next_commit(path: str) -> None:
    db = connect(path)
    db.execute(SCHEMA)
    db.execute("INSERT INTO t VALUES ('x', 1); CREATE VIRTUAL TABLE u USING lsm(a); BEGIN; DROP TABLE t; ROLLBACK; INSERT INTO u VALUES (1)")
    assert len(db.engine.tree_names()) == 2 and db.execute("SELECT a FROM t").get == "x"
    db.execute("BEGIN; DROP TABLE t; INSERT INTO u VALUES (2); ROLLBACK; INSERT INTO u VALUES (2)")
    assert len(db.engine.tree_names()) == 2 and db.execute("SELECT a FROM t").get == "x"
    db.execute("BEGIN; DROP TABLE t; INSERT INTO u VALUES (3); COMMIT")
    assert len(db.engine.tree_names()) == 1
    db.execute("CREATE VIRTUAL TABLE t USING lsm(a); DROP TABLE t")
    db.execute("INSERT INTO u VALUES (4)")
    assert len(db.engine.tree_names()) == 1
    db.close()


def test_a_connection_that_is_collected_while_another_opens_its_engine_lets_go_of_its_own(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring: list[object] = [connect(str(tmp_path / "other.db"))]
    ring[0].execute(SCHEMA)  # type: ignore[attr-defined]
    ring.append(ring)
    original = engines.Database.open

    def collecting(*arguments: Any, **keywords: Any) -> Any:
        gc.collect()
        return original(*arguments, **keywords)

    monkeypatch.setattr(engines.Database, "open", collecting)
    del ring

    def use() -> None:
        db = connect(path)
        db.execute(SCHEMA)
        db.close()

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert open_directories.find(OsFileSystem().identity(path + "-lsm")) is None


def test_connections_that_are_dropped_are_freed_once(tmp_path: Path) -> None:
    script = """
import gc, sys, lsmsql
gc.set_threshold(1)
for number in range(6):
    db = lsmsql.connect(sys.argv[1] if number % 2 else ":memory:", options=lsmsql.Options(background=False))
    db.execute("CREATE VIRTUAL TABLE IF NOT EXISTS t USING lsm(a INTEGER PRIMARY KEY); INSERT INTO t VALUES (NULL)")
    rows = db.execute("SELECT * FROM t").fetchall()
    del db
print(len(rows))
"""
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "app.db")], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "3\n"), run.stderr
