"""A life of ordinary and lsm tables on a recorded disk, and the judge of what a power loss at any operation leaves of both."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, NamedTuple

import apsw

from lsmsql import HistoryError, Options, UsageError
from lsmsql.connection import Connection, connect
from tests.proof.fault_filesystem import Operation
from tests.proof.recorded_disk import VFS, Left, RecordedDisk, placed

OPTIONS = Options(
    background=False,
    memtable_bytes=600,
    block_bytes=128,
    table_bytes=800,
    cache_bytes=1 << 14,
    l0_tables=2,
    l0_slowdown=1000,
    l0_stop=1000,
    level_bytes=2000,
    level_ratio=2,
    manifest_bytes=900,
)

State = dict[str, tuple[tuple[Any, ...], ...]]  # Of each table the rows, sorted.


def tables_of(db: apsw.Connection) -> list[str]:
    return [
        name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_lsmsql' ESCAPE '\\' ORDER BY 1")
    ]


def ordinary(db: apsw.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%'")}


def visible(db: apsw.Connection, *names: str) -> State:
    return {name: tuple(sorted(db.execute(f"SELECT * FROM {name}"))) for name in names or tables_of(db)}


class Settings(NamedTuple):
    """strict: what is acknowledged must be there after a power loss, and HistoryError is never the answer."""

    journal: str = "wal"
    synchronous: str = "full"
    durability: str = "full"
    key: bytes | None = None

    @property
    def strict(self) -> bool:
        return self.durability == "full" and self.synchronous in ("full", "extra")

    @property
    def options(self) -> Options:
        return replace(OPTIONS, durability=self.durability)


class SqlLife:
    """One run of statements, on the disk and, with ordinary tables only, on a twin that tells what has to be there.

    states: what is visible after each transaction; acknowledged: index of the newest whose COMMIT has returned; durable: of the newest that
    no power loss may take.
    """

    def __init__(self, disk: RecordedDisk, settings: Settings) -> None:
        self.disk = disk
        self.settings = settings
        self.twin = apsw.Connection(":memory:")
        self.states: list[State] = [{}]
        self.acknowledged = self.durable = 0
        self.doing = "nothing"
        self._number: object = (bytes(8),)
        self.db: Connection = self._connect()

    def _connect(self) -> Connection:
        db = connect(self.disk.path(), key=self.settings.key, options=self.settings.options, vfs=VFS)
        db.pragma("journal_mode", self.settings.journal)
        db.pragma("synchronous", self.settings.synchronous)
        return db

    def run(self, script: str) -> None:
        """Statements, one after another, separated by semicolons."""
        for sql in script.split(";"):
            self.doing = sql.strip()
            self.twin.execute(_ordinary(self.doing))
            if not self.twin.in_transaction and (now := visible(self.twin)) != self.states[-1]:
                self.states.append(now)
            self.db.execute(self.doing).fetchall()
            assert self.db.in_transaction == self.twin.in_transaction
            if not self.db.in_transaction:
                self._acknowledge()
        self.doing = f"after {self.doing}"

    @property
    def committing(self) -> bool:
        """Whether this is a commit of lsm tables that is under way: from before Sync to behind Commit."""
        return "COMMIT" in self.doing

    def _acknowledge(self) -> None:
        self.acknowledged = len(self.states) - 1
        number = self.db.execute("SELECT value FROM _lsmsql WHERE id = 1").fetchone() if "t" in self.states[-1] else self._number
        # In DELETE mode, and below EXTRA, SQLite does not wait until the removal of its journal lasts; with rows in lsm tables we do.
        waited = self.settings.journal == "wal" or self.settings.synchronous == "extra" or number != self._number
        self._number = number
        if self.settings.strict and waited:
            self.durable = self.acknowledged

    def only(self, sql: str) -> None:
        """What the twin need not know of, as it changes nothing that is visible."""
        self.doing = sql
        self.db.execute(sql).fetchall()
        self.doing = f"after {sql}"

    def busy(self, sql: str) -> None:
        """A statement that meets BUSY, since somebody reads app.db; it must leave nothing."""
        self.doing = f"{sql}, which is refused"
        reader = apsw.Connection(self.disk.path(), vfs=VFS)
        cursor = reader.execute("SELECT 1 FROM o")
        next(cursor)
        with suppress(apsw.BusyError):
            self.db.execute(sql)
            raise AssertionError("not refused")
        cursor.close()
        reader.close()

    def reopen(self) -> None:
        self.doing = "reopen"
        self.db.close()
        self.db = self._connect()
        self.only("SELECT count(*) FROM t")

    def close(self) -> None:
        self.doing = "close"
        self.db.close()
        self.doing = "after close"


def _ordinary(sql: str) -> str:
    return sql.replace("CREATE VIRTUAL TABLE", "CREATE TABLE").replace(" USING lsm", " ")


class Judge:
    """An image must open and show one of the states from `life.durable` to the newest, in ordinary and lsm tables alike; unless the settings are
    strict it may be HistoryError. One distinct image in `further` takes another transaction that must last; one in `deep` is crashed
    again at every operation of its recovery. At one crash point in `kill` only the process dies first. Outside of commits only one
    crash point in `every` is looked at.

    points: operations; looked: those of them that were crash points; images: judged; opened: distinct ones; histories: that ended in HistoryError.
    """

    def __init__(
        self, life: SqlLife, room: str, *, limit: int, further: int = 4, deep: int = 0, deep_limit: int = 4, kill: int = 0, every: int = 1
    ) -> None:
        self.life = life
        self.limit = limit
        self.further = further
        self.deep = deep
        self.deep_limit = deep_limit
        self.killing = kill
        self.every = every
        self.points = self.looked = self.images = self.opened = self.histories = 0
        self.deep_recoveries = self.deep_points = self.deep_images = self.further_images = self.kills = 0
        self._room = room
        self._places = itertools.count()
        self._found: dict[bytes, int | None] = {}

    def __str__(self) -> str:
        return (
            f"{self.points} operations, {self.looked} crash points, {self.images} images ({self.opened} distinct, {self.histories} HistoryError), "
            f"{self.further_images} behind further transactions; {self.deep_recoveries} recoveries crashed ({self.kills} of killed processes) "
            f"at {self.deep_points} points, {self.deep_images} images; {len(self._found)} opened"
        )

    def _place(self) -> str:
        return os.path.join(self._room, str(next(self._places)))

    def crash(self, operation: Operation | str) -> None:
        self.points += 1
        life = self.life
        if self.points % self.every and not life.committing:
            return
        self.looked += 1
        where = f"{operation} ({life.doing})"
        if self.killing and self.looked % self.killing == 0:
            self.kills += 1
            self._recover(life.disk.killed(self._place()), f"{where}: killed", life.acknowledged)
        for left in life.disk.lefts(self.limit, self.points):
            self.images += 1
            said = f"{where}: power loss, {left.description}"
            new = left.digest not in self._found
            found = self._look(left, said)
            self._require(found, life.durable, said)
            if new:
                self.opened += 1
                self.histories += found is None
                if self.opened % self.further == 0 and found is not None:
                    self._go_on(left, said, found)
                if self.deep and self.opened % self.deep == 0:
                    self._recover(RecordedDisk(self._place(), left), said, life.durable)

    def _require(self, found: int | None, durable: int, said: str) -> None:
        if found is None:
            assert not self.life.settings.strict, f"{said}: HistoryError"
        else:
            assert durable <= found < len(self.life.states), (
                f"{said}: state {found}, but {durable} was durable and {len(self.life.states) - 1} the newest"
            )

    def _look(self, left: Left, said: str) -> int | None:
        """The number of the state found, None for a HistoryError."""
        if left.digest not in self._found:
            with placed(left, self._place()) as path, self._opened(path, said) as db:
                self._found[left.digest] = self._number(db, said)
        return self._found[left.digest]

    @contextmanager
    def _opened(self, path: str, said: str) -> Iterator[Connection]:
        settings = self.life.settings
        try:
            db = connect(path, key=settings.key, options=settings.options, vfs=VFS)
            db.pragma("synchronous", settings.synchronous)
        except Exception as error:
            raise AssertionError(f"{said}: app.db does not open: {error!r}") from error
        try:
            yield db
        finally:
            db.close()

    def _number(self, db: Connection, said: str) -> int | None:
        plain = ordinary(db)
        lsm = [name for name in tables_of(db) if name not in plain]
        try:
            now = visible(db, *tables_of(db)) if tables_of(db) else {}
        except HistoryError as error:
            assert all(word in str(error) for word in ("is behind", "number", "app.db")), f"{said}: {error}"
            now = visible(db, *(plain - {"_lsmsql"})) if plain - {"_lsmsql"} else {}
            states = [{name: rows for name, rows in state.items() if name not in lsm} for state in self.life.states]
            assert now in states, f"{said}: the ordinary tables hold what never was: {now}"
            return None
        except Exception as error:
            raise AssertionError(f"{said}: the tables cannot be read: {error!r}") from error
        for number in range(len(self.life.states) - 1, -1, -1):
            if self.life.states[number] == now:
                return number
        newest = self.life.states[-1]
        differ = {name: (now.get(name), newest.get(name)) for name in now.keys() | newest.keys() if now.get(name) != newest.get(name)}
        raise AssertionError(f"{said}: the tables hold what never was: (found, newest) {differ}")

    def _go_on(self, left: Left, said: str, found: int) -> None:
        """The image is good for more: a transaction over every table and a new one, closed, reopened and equal."""
        self.further_images += 1
        with placed(left, self._place()) as path:
            with self._opened(path, said) as db:
                if not self._write_more(db, said):
                    return
                after = visible(db)
            with self._opened(path, said) as db:
                assert visible(db) == after, f"{said}: the next transaction did not last"
                assert db.pragma("integrity_check") == "ok", said

    def _write_more(self, db: Connection, said: str) -> bool:
        """False where the catalog itself was lost: what the engine has committed is then not app.db's any more."""
        try:
            names = tables_of(db)
            db.execute("BEGIN")
            for name in names:
                db.execute(f"DELETE FROM {name} WHERE rowid = 1" if name in ordinary(db) else f"DELETE FROM {name} WHERE n % 2")
                db.execute(f"INSERT INTO {name} VALUES (1000, 'further')")
            db.execute("CREATE VIRTUAL TABLE further USING lsm(n INTEGER PRIMARY KEY); INSERT INTO further VALUES (1); COMMIT")
        except UsageError as error:
            lost = not (self.life.settings.strict or "_lsmsql" in ordinary(db)) and "holds rows of another database" in str(error)
            assert lost, f"{said}: it takes no further transaction: {error!r}"
            return False
        except Exception as error:
            raise AssertionError(f"{said}: it takes no further transaction: {error!r}") from error
        return True

    def _stands(self, answer: int | None) -> bool:
        """Whether what a recovery has answered may not be lost any more. Without lsm tables that is SQLite's own affair, and it does not sync
        what a killed process has left."""
        return self.life.settings.strict and answer is not None and "t" in self.life.states[answer]

    def _recover(self, disk: RecordedDisk, said: str, lowest: int) -> None:
        """Crash at every operation of the recovery, and behind it. Once it has answered, its answer stands."""
        self.deep_recoveries += 1
        durable = self.life.durable
        answer: list[int | None] = []

        def crash(operation: Operation | str) -> None:
            self.deep_points += 1
            for second in disk.lefts(self.deep_limit, self.deep_points):
                self.deep_images += 1
                again = f"{said}; then at {operation}: power loss, {second.description}"
                found = self._look(second, again)
                self._require(found, durable, again)
                if answer and self._stands(answer[0]):
                    assert found == answer[0], f"{again}: state {found} after {answer[0]} had been read"

        disk.watch = crash
        try:
            with self._opened(disk.path(), said) as db:
                answer.append(self._number(db, said))
                self._require(answer[0], lowest, said)
                crash("the end of the recovery")
            crash("the end")
        finally:
            disk.remove()


def lived(settings: Settings, live: Callable[[SqlLife], None], **arguments: Any) -> Judge:
    """Live a life and judge every crash point of it. Inside `recording()`."""
    room = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        disk = RecordedDisk(os.path.join(room, "life"))
        disk.ordered = settings.journal != "wal" and settings.synchronous == "normal"
        life = SqlLife.__new__(SqlLife)
        judge = Judge(life, room, **arguments)
        disk.watch = None
        life.__init__(disk, settings)  # type: ignore[misc]
        disk.watch = judge.crash
        live(life)
        judge.crash("the end")
        disk.remove()
        return judge
    finally:
        shutil.rmtree(room, ignore_errors=True)


def first_life(life: SqlLife, close: bool = True) -> None:
    """The first lsm table and its first rows in one transaction."""
    life.run("CREATE TABLE o(n, v)")
    life.run(
        "BEGIN; INSERT INTO o VALUES (1, 'one'); CREATE VIRTUAL TABLE t USING lsm(n INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'one'); COMMIT"
    )
    life.run("BEGIN; INSERT INTO o VALUES (2, 'two'); INSERT INTO t VALUES (2, 'two'); COMMIT")
    if close:
        life.close()


def full_life(life: SqlLife) -> None:
    """Everything that a transaction over both kinds of tables can go through."""

    def both(number: int, *tables: str) -> str:
        return "; ".join(f"INSERT INTO {table} VALUES ({number}, '{'x' * (number * 7 % 40)}')" for table in tables)

    life.run("CREATE TABLE o(n, v)")
    life.run("CREATE VIRTUAL TABLE t USING lsm(n INTEGER PRIMARY KEY, v)")
    life.run("CREATE VIRTUAL TABLE u USING lsm(n, v)")
    for number in (1, 2, 3):
        life.run(f"BEGIN; {both(number, 'o', 't', 'u')}; COMMIT")
    life.run(both(4, "t"))
    life.run(f"BEGIN; {both(5, 'o', 't')}; SAVEPOINT s; {both(6, 'o', 't', 'u')}; ROLLBACK TO s; {both(7, 'u')}; COMMIT")
    life.run(f"BEGIN; {both(8, 'o', 't', 'u')}; ROLLBACK")
    life.only("SELECT lsm_flush()")
    life.run(f"BEGIN; CREATE VIRTUAL TABLE v USING lsm(n, v); {both(9, 'v', 'o', 't')}; COMMIT")
    life.run("BEGIN; UPDATE o SET v = 'changed' WHERE n < 3; UPDATE t SET v = 'changed' WHERE n < 3; DELETE FROM u; COMMIT")
    life.run(f"BEGIN; DROP TABLE u; {both(10, 'o', 't')}; COMMIT")
    if life.settings.journal == "delete":
        life.run(f"BEGIN; {both(11, 'o', 't')}")
        life.busy("COMMIT")
        life.run(f"{both(12, 'o', 'v')}; COMMIT")
        life.run(f"BEGIN; {both(13, 'o', 't')}")
        life.busy("COMMIT")
        life.run("ROLLBACK")
    else:
        life.only("PRAGMA wal_checkpoint(TRUNCATE)")
    life.run(f"BEGIN; ALTER TABLE v RENAME TO w; {both(14, 'o', 't', 'w')}; COMMIT")
    life.run("BEGIN; DROP TABLE w; DELETE FROM o WHERE n = 1; ROLLBACK")
    life.reopen()
    life.only("SELECT lsm_compact()")
    life.run(f"BEGIN; {both(15, 'o', 't', 'w')}; COMMIT")
    life.run("BEGIN; DELETE FROM o; DELETE FROM t WHERE n > 3; INSERT INTO w SELECT n + 100, v || v || v FROM w; COMMIT")
    life.run("DROP TABLE w")
    life.reopen()
    life.run(f"BEGIN; {both(16, 'o', 't')}; COMMIT")
    life.close()
