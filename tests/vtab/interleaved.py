"""Two connections to one file, their statements interleaved: the same script on ordinary and on lsm tables must go the same way."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import apsw

from lsmsql import Options
from lsmsql.connection import connect
from tests.vtab.generator import Generator, Shape, Statement

OPTIONS = Options(background=False, durability="normal", memtable_bytes=1 << 16)
SCRATCH = "n INTEGER PRIMARY KEY, v"


class World:
    """One database file with two connections. t, u: of a new one. lsm: whether tables t, u and the scratch ones are lsm tables."""

    def __init__(self, path: str, mode: str, t: Shape | None, u: Shape | None, lsm: bool) -> None:
        self.lsm = lsm
        self.connections: list[apsw.Connection] = []
        for number in range(2):
            # Without a cache: a statement prepared long ago takes its lock before it finds that the schema has changed.
            opened = connect(path, options=OPTIONS, statementcachesize=0) if lsm else apsw.Connection(path, statementcachesize=0)
            connection: apsw.Connection = opened
            connection.pragma("journal_mode", mode)
            connection.pragma("synchronous", "off")
            connection.set_busy_timeout(0)
            self.connections.append(connection)
            if not number and t and u:
                for name, shape in (("t", t), ("u", u)):
                    connection.execute(self.create(name, shape.definition, shape.suffix))
                connection.execute("CREATE TABLE q(n)")
                connection.execute("CREATE TABLE p(x INTEGER, y TEXT, z); INSERT INTO p VALUES (5, '5', '5.0'), (1, 'a', 'A'), (NULL, '05', 2.5)")
        self.cursors: list[dict[str, apsw.Cursor]] = [{}, {}]

    def create(self, name: str, definition: str, suffix: str = "") -> str:
        return f"CREATE VIRTUAL TABLE {name} USING lsm({definition})" if self.lsm else f"CREATE TABLE {name}({definition}){suffix}"

    def close(self) -> None:
        for connection in self.connections:
            connection.close(True)


class Step:
    """number: of the connection; kind: "run", or "open", "next" and "shut" for a SELECT that is read bit by bit; table: of that, or "scratch" for
    a statement on tables that come and go."""

    def __init__(self, number: int, kind: str, statement: Statement, table: str = "") -> None:
        self.number, self.kind, self.statement, self.table = number, kind, statement, table

    def __str__(self) -> str:
        said = self.table if self.kind in ("next", "shut") else self.statement.sql
        return f"{'AB'[self.number]}: {self.kind} {said} {self.statement.bindings or ''}"


def outcome(world: World, step: Step) -> dict[str, Any]:
    """What a step leads to, as far as the two worlds must agree."""
    connection, cursors = world.connections[step.number], world.cursors[step.number]
    sql = step.statement.sql
    if sql.startswith("CREATE "):
        sql = world.create(sql.split()[1], SCRATCH)
    total = connection.total_changes()
    found: dict[str, Any] = {"error": ""}
    try:
        if step.kind == "run":
            if step.table:
                # So that it knows the schema in both worlds: else it may take a lock, or begin to read, before it finds that a name is wrong.
                connection.execute("SELECT 1 FROM sqlite_schema").fetchall()
            rows = [tuple((type(value).__name__, repr(value)) for value in row) for row in connection.execute(sql, step.statement.bindings)]
            found["rows"] = rows if step.statement.total else sorted(rows)
        elif step.kind == "open":
            cursors[step.table] = connection.execute(sql)
            found["rows"] = next(cursors[step.table], None)
        elif step.kind == "next":
            found["rows"] = next(cursors[step.table], None)
        else:
            cursors.pop(step.table).close()
    except Exception as error:
        found["error"] = type(error).__name__
        found["message"] = str(error)
        if step.kind != "run":
            cursors.pop(step.table, None)
    if step.statement.counts and step.kind == "run":
        found["total"] = connection.total_changes() - total
        if not found["error"] and sql.startswith(("INSERT", "UPDATE", "DELETE")):
            found["changes"] = connection.changes()
    found["in_transaction"] = connection.in_transaction
    return found


class Script:
    """Random steps. The state of the ordinary world says what makes sense next."""

    def __init__(self, seed: int, t: Shape, u: Shape) -> None:
        self.random = random.Random(seed)
        self.generators = [Generator(seed * 2 + number, t, u) for number in range(2)]
        self.t = t
        self._next: list[Step] = []

    def step(self, world: World) -> Step:
        dice = self.random
        if self._next:
            return self._next.pop()
        number = dice.randrange(2)
        connection, cursors = world.connections[number], world.cursors[number]
        r = dice.random()
        if cursors and r < 0.25:
            return Step(number, dice.choice(["next", "shut"]), Statement(""), dice.choice(sorted(cursors)))
        if r < 0.30 and "p" not in cursors:
            return Step(number, "open", Statement("SELECT * FROM p ORDER BY rowid"), "p")
        if r < 0.35 and "t" not in cursors:
            return Step(number, "open", Statement(f"SELECT {', '.join(self.t.columns)} FROM t ORDER BY {', '.join(self.t.key)}"), "t")
        table = "scratch" if r < 0.50 else ""
        if table:
            statement = self.ddl()
        else:
            statement = self.generators[number].statement(connection.in_transaction)
            if statement.sql.startswith("BEGIN"):
                statement = replace(statement, sql=dice.choice(["BEGIN", "BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"]))
        if cursors and not statement.sql.startswith(("SELECT", "BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")):
            # What a SELECT sees of its own connection's later writes is not defined, and open ones forbid DDL, differently.
            harmless = statement.sql.startswith(("INSERT", "UPDATE", "DELETE")) and set(cursors) == {"p"} and " p" not in statement.sql
            if not harmless:
                return Step(number, "shut", Statement(""), sorted(cursors)[0])
        if statement.sql in ("DELETE FROM t", "DELETE FROM u"):
            statement = replace(statement, sql=statement.sql + " WHERE 1")  # Else SQLite empties a table that is empty, and writes.
        ends = statement.sql == "COMMIT" or (statement.sql.startswith("RELEASE") and not self.generators[number].savepoints)
        if ends and connection.txn_state("main") == apsw.SQLITE_TXN_WRITE:
            # Exception: a transaction whose changes to lsm tables were all taken back commits nothing, and so makes nobody's snapshot stale and
            # needs no lock; SQLite writes its pages all the same. So here each one leaves something.
            self._next.append(Step(number, "run", statement))
            statement = Statement("INSERT INTO q VALUES (1)")
        elif statement.sql.startswith(("INSERT", "UPDATE")) and not connection.in_transaction:
            # And the other way round: SQLite does not write a row that an UPDATE leaves as it was.
            self._next.append(Step(number, "run", Statement("INSERT INTO q VALUES (1)")))
        return Step(number, "run", statement, table)

    def ddl(self) -> Statement:
        dice = self.random
        name = dice.choice("xy")
        kind = dice.random()
        if kind < 0.25:
            return Statement(f"CREATE {name}", counts=False)
        if kind < 0.40:
            return Statement(f"DROP TABLE {name}", counts=False)
        if kind < 0.55:
            return Statement(f"ALTER TABLE {name} RENAME TO {'y' if name == 'x' else 'x'}", counts=False)
        if kind < 0.75:
            value = dice.randrange(6)
            return Statement(f"INSERT INTO {name} VALUES ({value}, {dice.randrange(100)})")
        if kind < 0.82:
            return Statement(f"DELETE FROM {name} WHERE n = {dice.randrange(6)}")
        if kind < 0.88:
            return Statement(f"UPDATE {name} SET v = v + 1 WHERE n > {dice.randrange(6)}")
        if kind < 0.96:
            return Statement(f"SELECT * FROM {name} ORDER BY n", total=True)
        return Statement("SELECT type, name FROM sqlite_schema WHERE type = 'table' AND name <> '_lsmsql' ORDER BY name", total=True)
