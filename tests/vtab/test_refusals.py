"""What may not be: a child of fork, another key, a copy, a directory that was moved or deleted, a file system that takes no writes. Each is
told by an error, and leaves every file as it was."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

import lsmsql
from lsmsql import Options
from lsmsql.connection import Connection, connect

QUIET = Options(background=False)
KEY = "the right key"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    """An encrypted database with a row in an ordinary and in an lsm table, at rest."""
    (tmp_path / "home").mkdir()
    path = str(tmp_path / "home" / "app.db")
    db = opened(path)
    db.execute("CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a); BEGIN; INSERT INTO o VALUES (1); INSERT INTO t VALUES (1); COMMIT")
    db.close()
    yield path


def opened(path: str, key: str | None = KEY) -> Connection:
    return connect(path, key=key, options=QUIET)


def disk(path: str) -> dict[str, bytes]:
    """Every file beside app.db, and in the directories beside it. The index of SQLite's WAL is left out: it is memory."""
    room = Path(path).parent
    return {str(file.relative_to(room)): file.read_bytes() for file in sorted(room.rglob("*")) if file.is_file() and file.suffix != ".db-shm"}


def engine_files(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if "-lsm/" in name and not name.endswith("LOCK")}


def refused(db: Connection, error: type[BaseException], message: str) -> None:
    """Neither reading nor writing lsm tables works, ordinary ones go on."""
    for sql in ("SELECT * FROM t", "INSERT INTO t VALUES (2)", "BEGIN; SELECT * FROM o; INSERT INTO t VALUES (2); COMMIT"):
        with pytest.raises(error, match=message):
            db.execute(sql).fetchall()
        if db.in_transaction:
            db.execute("ROLLBACK")
    assert db.execute("SELECT x FROM o").fetchall() == [(1,)]


@pytest.mark.parametrize("key", [None, "another key", "x" * 64])
def test_another_key(path: str, key: str | None) -> None:
    before = disk(path)
    db = opened(path, key)
    refused(db, lsmsql.KeyUnavailableError, "key")
    db.close()
    assert disk(path) == before


def test_another_key_while_the_engine_is_open(path: str) -> None:
    db = opened(path)
    assert db.execute("SELECT a FROM t").get == 1
    before = disk(path)
    other = opened(path, "another key")
    refused(other, lsmsql.UsageError, "another key")
    other.close()
    assert disk(path) == before
    db.execute("INSERT INTO t VALUES (2)")
    db.close()


def test_a_copy_of_app_db_without_its_directory(path: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    copy = str(tmp_path / "elsewhere" / "app.db")
    shutil.copyfile(path, copy)
    before = disk(copy)
    db = opened(copy)
    refused(db, lsmsql.UsageError, r"app\.db-lsm")
    db.close()
    assert disk(copy) == before


def test_an_older_copy_of_app_db(path: str, tmp_path: Path) -> None:
    shutil.copyfile(path, tmp_path / "older")
    db = opened(path)
    db.execute("INSERT INTO t VALUES (2)")
    db.close()
    shutil.copyfile(tmp_path / "older", path)
    before = disk(path)
    db = opened(path)
    refused(db, lsmsql.HistoryError, "is behind")
    db.close()
    assert disk(path) == before


def moved(path: str) -> None:
    os.rename(path + "-lsm", path + "-moved")


def deleted(path: str) -> None:
    shutil.rmtree(path + "-lsm")


def emptied(path: str) -> None:
    deleted(path)
    os.mkdir(path + "-lsm")


def a_file_instead(path: str) -> None:
    deleted(path)
    Path(path + "-lsm").write_bytes(b"not a directory")


@pytest.mark.parametrize("change", [moved, deleted, emptied, a_file_instead])
def test_a_directory_that_is_not_there(path: str, change: Callable[[str], None]) -> None:
    change(path)
    before = disk(path)
    db = opened(path)
    refused(db, lsmsql.Error, r"app\.db-lsm")
    db.close()
    assert disk(path) == before and os.path.isdir(path + "-lsm") == (change is emptied)


def test_a_directory_that_is_deleted_while_in_use_takes_no_more_commits_once_that_shows(path: str) -> None:
    db = opened(path)
    db.execute("INSERT INTO t VALUES (2)")
    deleted(path)
    with pytest.raises((OSError, lsmsql.Error)):
        db.engine.flush()
    with pytest.raises(lsmsql.Error):
        db.execute("BEGIN; INSERT INTO o VALUES (3); INSERT INTO t VALUES (3); COMMIT")
    if db.in_transaction:
        db.execute("ROLLBACK")
    assert db.execute("SELECT count(*) FROM o").get == 1
    db.close()
    assert not os.path.exists(path + "-lsm")


def in_child(act: Callable[[], Any]) -> Any:
    """What it returns, or the name and text of what it raises, in a child of fork."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = act()
        except BaseException as error:
            said = [type(error).__name__, str(error)]
        os.write(send, json.dumps(said).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(send)
    with open(receive, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork in a process with threads
@pytest.mark.parametrize("options", [QUIET, Options()])
def test_the_child_of_a_fork_cannot_use_what_was_opened_before(path: str, options: Options) -> None:
    db = connect(path, key=KEY, options=options)
    db.execute("INSERT INTO t VALUES (2)")
    engine = db.engine
    engine.flush()  # No work is left for a thread.
    before = disk(path)
    for sql in ("SELECT * FROM t", "INSERT INTO t VALUES (3)"):
        assert in_child(lambda sql=sql: db.execute(sql).fetchall()) == ["ClosedError", "opened before fork"]  # type: ignore[misc]
    assert in_child(lambda: engine.tree("own").put(b"k", b"v"))[0] == "ClosedError"
    kind, message = in_child(
        lambda: connect(path, key=KEY, options=replace(options, lock_timeout=0.1)).execute("INSERT INTO t VALUES (3)").fetchall()
    )
    assert kind == "BusyError" and str(os.getpid()) in message
    assert disk(path) == before
    db.execute("INSERT INTO t VALUES (4)")
    assert db.execute("SELECT a FROM t").fetchall() == [(1,), (2,), (4,)]
    db.close()


def _exit_in_order(db: Connection) -> None:
    del db


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_of_multiprocessing_that_ends_in_order_changes_nothing(path: str) -> None:
    db = opened(path)
    db.execute("INSERT INTO t VALUES (2)")
    before = disk(path)
    process = multiprocessing.get_context("fork").Process(target=_exit_in_order, args=(db,))
    process.start()
    process.join()
    assert process.exitcode == 0 and disk(path) == before
    db.execute("INSERT INTO t VALUES (3)")
    db.close()
    db = opened(path)
    assert db.execute("SELECT a FROM t").fetchall() == [(1,), (2,), (3,)]
    db.close()


@pytest.fixture
def locked_room(path: str) -> Iterator[str]:
    """The database in a directory that takes no writes, of a user who must obey."""
    room = Path(tempfile.mkdtemp())  # pytest's own directories let nobody else in.
    home = room / "home"
    shutil.copytree(Path(path).parent, home)
    apsw.Connection(str(home / "app.db")).pragma("journal_mode", "delete")
    for file in (room, *room.rglob("*")):
        file.chmod(0o555 if file.is_dir() else 0o444)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield str(home / "app.db")
    finally:
        if was_root:
            os.seteuid(0)
        for directory in (room, *room.rglob("*")):
            directory.chmod(0o755)
        shutil.rmtree(room)


@pytest.mark.parametrize("flags", [apsw.SQLITE_OPEN_READONLY, apsw.SQLITE_OPEN_READWRITE])
def test_a_file_system_that_takes_no_writes_can_be_read(locked_room: str, flags: int) -> None:
    before = disk(locked_room)
    db = connect(locked_room, key=KEY, options=QUIET, flags=flags)
    assert db.execute("SELECT a FROM t").get == 1
    with pytest.raises(apsw.ReadOnlyError):
        db.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(apsw.ReadOnlyError):
        db.execute("BEGIN; INSERT INTO o VALUES (2)")
    db.close()
    with pytest.raises(OSError, match=r"app\.db-lsm"):
        lsmsql.open(locked_room + "-lsm", key=KEY)
    with lsmsql.open(locked_room + "-lsm", key=KEY, read_only=True) as engine:
        assert len(engine.tree_names()) == 1
    assert disk(locked_room) == before


def test_a_file_system_that_becomes_read_only_while_in_use_keeps_what_was_committed(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    db = opened(path)
    db.execute("INSERT INTO t VALUES (2)")
    before = disk(path)

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("write", "writev", "pwrite"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(OSError, match="Read-only file system"):
        db.execute("BEGIN; INSERT INTO o VALUES (3); INSERT INTO t VALUES (3); COMMIT")
    if db.in_transaction:
        db.execute("ROLLBACK")
    assert db.execute("SELECT (SELECT count(*) FROM o), (SELECT count(*) FROM t)").get == (1, 2)
    with pytest.raises(lsmsql.Error, match="no more writes"):
        db.execute("INSERT INTO t VALUES (3)")
    monkeypatch.undo()
    db.close()
    assert engine_files(disk(path)) == engine_files(before)
    db = opened(path)
    assert db.execute("SELECT a FROM t").fetchall() == [(1,), (2,)]
    db.close()
