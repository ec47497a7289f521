"""The same statements on an ordinary and on an lsm table of the same schema: rows with types, error class, changes().

Exceptions, all of them named in docs/sql.md and marked in generator.py: an explicit NULL for a column with a default; changes() after
OR IGNORE where APSW is the host, and after UPDATE OR REPLACE that removed rows before their turn. Ordinary twins of keyed tables are WITHOUT ROWID.
"""

from __future__ import annotations

from typing import Any

import apsw
import pytest

from lsmsql.connection import Connection, connect

from .generator import SHAPES, Generator, Shape, Statement

SEEDS = range(3)
STATEMENTS = 250


def typed(rows: list[Any]) -> list[Any]:
    return [tuple((type(value).__name__, repr(value)) for value in row) for row in rows]


class Twins:
    """Two connections that must answer alike."""

    def __init__(self, t: Shape, u: Shape, push_down: bool, host: str) -> None:
        self.host = host
        self.ordinary = apsw.Connection(":memory:")
        self.lsm: Connection = connect(":memory:")
        self.lsm.session.push_down = push_down
        for name, shape in (("t", t), ("u", u)):
            self.ordinary.execute(f"CREATE TABLE {name}({shape.definition}){shape.suffix}")
            self.lsm.execute(f"CREATE VIRTUAL TABLE {name} USING lsm({shape.definition})")
        for connection in (self.ordinary, self.lsm):
            connection.execute("CREATE TABLE p(x INTEGER, y TEXT, z); INSERT INTO p VALUES (5, '5', '5.0'), (1, 'a', 'A'), (NULL, '05', 2.5)")
        self.history: list[str] = []

    def run(self, connection: apsw.Connection, statement: Statement) -> tuple[str, list[Any], int]:
        counts = statement.counts or (self.host == "bridge" and "OR IGNORE" in statement.sql)
        try:
            rows = typed(connection.execute(statement.sql, statement.bindings).fetchall())
        except apsw.Error as error:
            return type(error).__name__, [], -1
        return "", rows if statement.total else sorted(rows), connection.changes() if counts else -1

    def check(self, statement: Statement) -> None:
        self.history.append(f"{statement.sql}   {statement.bindings}")
        expected, found = self.run(self.ordinary, statement), self.run(self.lsm, statement)
        if not statement.sql.startswith(("INSERT", "UPDATE", "DELETE")):
            expected, found = (*expected[:2], -1), (*found[:2], -1)
        assert found == expected, self.report()
        assert self.lsm.in_transaction == self.ordinary.in_transaction, self.report()

    def check_tables(self, t: Shape, u: Shape) -> None:
        for name, shape in (("t", t), ("u", u)):
            rowid = ", rowid" if shape.rowid else ""
            self.check(Statement(f"SELECT *{rowid} FROM {name}"))

    def report(self) -> str:
        return "after\n" + ";\n".join(self.history[-12:])

    def close(self) -> None:
        self.ordinary.close()
        self.lsm.close()


@pytest.mark.parametrize("push_down", [True, False], ids=["push-down", "scan"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_generated_statements_agree(shape: Shape, seed: int, push_down: bool, host: str) -> None:
    number = (seed * 2 + (host == "bridge")) * 1000 + SHAPES.index(shape)
    print("seed", number)
    other = SHAPES[(number * 7 + 3) % len(SHAPES)]
    generator = Generator(number, shape, other)
    twins = Twins(shape, other, push_down, host)
    for _ in range(8):
        twins.check(generator.insert())
    for n in range(STATEMENTS):
        statement = generator.statement(twins.ordinary.in_transaction)
        twins.check(statement)
        if n % 5 == 0 or not statement.sql.startswith("SELECT"):
            twins.check_tables(shape, other)
    twins.close()
