"""Random statements for twin tests: the same text runs on an ordinary and an lsm table of one schema."""

from __future__ import annotations

import random
from dataclasses import dataclass

INTS = [0, 1, -1, 2, 3, 5, 10, 127, 128, 2**31, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**62 + 1, 2**63 - 1, -(2**63)]
REALS = [0.0, -0.0, 1.0, 1.5, -2.5, 5.0, 2.0**53, 2.0**53 + 2, 1e300, -1e300, 9.2e18, 9223372036854775808.0, -9223372036854775808.0, 1e-320, 0.1]
TEXTS = ["", "a", "A", "b", "B", "ab", "aB", "abc", "a ", "a  ", " a", "z", "é", "É", "a_b", "a%b", "-"]
NUMERIC_TEXTS = [
    "5",
    "5.0",
    " 5",
    "5 ",
    "05",
    "5e0",
    "1e1",
    "0x10",
    "-1",
    "9007199254740993",
    "9223372036854775808",
    "1.5",
    ".5",
    "5.",
    "+3",
    "1_000",
    "inf",
]
BLOBS = [b"", b"a", b"A", b"5", b"\x00", b"\xff", b"abc"]


@dataclass(frozen=True)
class Shape:
    """A schema. suffix: what an ordinary table needs to be alike; key: the columns ORDER BY needs to be total."""

    name: str
    columns: tuple[str, ...]
    definition: str
    key: tuple[str, ...]
    suffix: str = ""
    wholes: tuple[str, ...] = ()  # columns that hold integers

    @property
    def defaulted(self) -> set[str]:
        return {part.split()[0] for part in self.definition.split(", ") if "DEFAULT" in part}

    @property
    def rowid(self) -> bool:
        return not self.suffix


SHAPES = [
    Shape("rowid", ("a", "b", "c", "d"), "a TEXT, b INTEGER NOT NULL DEFAULT 7, c, d REAL", ("rowid",)),
    Shape("alias", ("id", "a", "b", "c"), "id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE, b NUMERIC, c DEFAULT 'x'", ("id",), wholes=("id",)),
    Shape("text", ("k", "a", "b"), "k TEXT PRIMARY KEY, a INTEGER, b", ("k",), " WITHOUT ROWID"),
    Shape("nocase", ("k", "a"), "k TEXT COLLATE NOCASE PRIMARY KEY, a REAL NOT NULL DEFAULT 1", ("k",), " WITHOUT ROWID"),
    Shape("rtrim", ("k", "a"), "k TEXT COLLATE RTRIM, a TEXT, PRIMARY KEY (k DESC)", ("k",), " WITHOUT ROWID"),
    Shape("untyped", ("k", "a"), "k PRIMARY KEY, a INTEGER", ("k",), " WITHOUT ROWID"),
    Shape("real", ("k", "a"), "k REAL, a NUMERIC, PRIMARY KEY (k)", ("k",), " WITHOUT ROWID"),
    Shape("numeric", ("k", "a"), "k NUMERIC, a BLOB, PRIMARY KEY (k DESC)", ("k",), " WITHOUT ROWID"),
    Shape("two", ("a", "b", "c"), "a TEXT, b INTEGER, c REAL, PRIMARY KEY (a, b DESC)", ("a", "b"), " WITHOUT ROWID"),
    Shape(
        "three", ("a", "b", "c", "d"), "a INTEGER, b TEXT COLLATE NOCASE, c, d TEXT, PRIMARY KEY (a, b, c DESC)", ("a", "b", "c"), " WITHOUT ROWID"
    ),
    Shape("other", ("a", "b", "c"), "a TEXT, b INT, c TEXT, PRIMARY KEY (c COLLATE NOCASE, b)", ("c", "b"), " WITHOUT ROWID"),
]


def literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return "x'" + value.hex() + "'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, float):
        return "9e999" if value == float("inf") else repr(value)
    return str(value) if value != -(2**63) else "(-9223372036854775807 - 1)"


@dataclass(frozen=True)
class Statement:
    """total: whether the order of its rows is determined; counts: whether changes() is compared."""

    sql: str
    bindings: tuple[object, ...] = ()
    total: bool = False
    counts: bool = True


class Generator:
    """Statements on table t (of a Shape), u (another) and the ordinary table p(x INTEGER, y TEXT, z)."""

    def __init__(self, seed: int, t: Shape, u: Shape) -> None:
        self.random = random.Random(seed)
        self.t = t
        self.u = u
        self.savepoints: list[str] = []

    def value(self) -> object:
        r = self.random.random()
        if r < 0.08:
            return None
        if r < 0.42:
            return self.random.choice(INTS) if self.random.random() < 0.4 else self.random.randrange(-3, 12)
        return self.random.choice(REALS if r < 0.55 else TEXTS if r < 0.8 else NUMERIC_TEXTS if r < 0.92 else BLOBS)

    def expression(self, shape: Shape, alias: str = "") -> str:
        column = alias + self.random.choice(shape.columns)
        return self.random.choice([column, f"hex({column}) || 'x'", f"{column} + 1", f"-{column}", f"typeof({column})", f"coalesce({column}, 0)"])

    def comparison(self, shape: Shape, alias: str, bound: list[object]) -> str:
        pick = self.random.choice
        columns = [*shape.columns, *shape.key, *shape.key, *shape.key] if self.random.random() < 0.9 or not shape.rowid else ["rowid"]
        column = alias + pick(columns)

        def operand() -> str:
            value = self.value()
            if self.random.random() < 0.5:
                bound.append(value)
                return "?"
            return literal(value)

        kind = self.random.random()
        if kind < 0.5:
            left, right = column, operand()
            if self.random.random() < 0.1:
                left, right = right, left
            collate = pick(["", "", "", "", " COLLATE NOCASE", " COLLATE BINARY", " COLLATE RTRIM"])
            return f"{left} {pick(['=', '=', '=', '<', '<=', '>', '>=', 'IS', '<>', 'IS NOT'])} {right}{collate}"
        if kind < 0.65:
            return f"{column} BETWEEN {operand()} AND {operand()}"
        if kind < 0.8:
            count = self.random.randrange(0, 5)
            return f"{column} {pick(['IN', 'IN', 'IN', 'NOT IN'])} ({', '.join(operand() for _ in range(count))})"
        if kind < 0.87:
            return f"{column} LIKE {literal(pick(['a%', 'A%', 'ab%', '%b', 'a_', '5%', 'a%b', '', '%']))}"
        if kind < 0.92:
            return f"{column} GLOB {literal(pick(['a*', 'A*', '*', 'a?', '[a-b]*', '5*']))}"
        if kind < 0.96:
            return f"{column} IS {pick(['', 'NOT '])}NULL"
        if self.random.random() < 0.3:
            # Exception: IN makes no numbers of a text key for the sake of a numeric column, so no column of p stands here by itself.
            return f"{column} IN (SELECT {pick(['+x', 'y', '+z', 'hex(z)'])} FROM p ORDER BY 1 LIMIT {pick([0, 1, 1, 3])})"
        source = pick(["x", "y", "z", "CAST(z AS INTEGER)", "CAST(x AS TEXT)"])
        return f"{column} {pick(['=', '<', '>='])} (SELECT {source} FROM p ORDER BY 1 LIMIT 1)"

    def condition(self, shape: Shape, bound: list[object], alias: str = "") -> str:
        parts = [self.comparison(shape, alias, bound) for _ in range(self.random.choice([1, 1, 1, 2, 2, 3]))]
        text = parts[0]
        for part in parts[1:]:
            text += f" {self.random.choice(['AND', 'AND', 'AND', 'OR'])} {part}"
        if self.random.random() < 0.05:
            text = f"NOT ({text})"
        return text

    def where(self, shape: Shape, bound: list[object], chance: float = 0.85) -> str:
        return f" WHERE {self.condition(shape, bound)}" if self.random.random() < chance else ""

    def statement(self, in_transaction: bool) -> Statement:
        if not in_transaction:
            self.savepoints.clear()
        r = self.random.random()
        if r < 0.42:
            return self.select()
        if r < 0.66:
            return self.insert()
        if r < 0.80:
            return self.update()
        if r < 0.87:
            return self.delete()
        return self.transaction(in_transaction)

    def select(self) -> Statement:
        bound: list[object] = []
        pick, t = self.random.choice, self.t
        r = self.random.random()
        if r < 0.15:
            return self.join()
        if r < 0.30:
            column = pick(t.columns)
            what = pick(
                [
                    f"count(*), min({column}), max({column})",
                    f"count({column})",
                    f"max({pick(t.key)})",
                    f"min({pick(t.key)})",
                    f"sum(typeof({column}) = 'text')",
                ]
            )
            return Statement(f"SELECT {what} FROM t{self.where(t, bound)}", tuple(bound))
        if r < 0.36:
            column = pick(t.columns)
            return Statement(f"SELECT typeof({column}), count(*) FROM t{self.where(t, bound)} GROUP BY 1", tuple(bound))
        if r < 0.40:
            return Statement(f"SELECT DISTINCT {pick(t.columns)} IS NULL FROM t{self.where(t, bound)}", tuple(bound))
        columns = pick(["*", "*", ", ".join(t.columns[::-1]), ", ".join({pick(t.columns), pick(t.columns)}), self.expression(t)])
        if t.rowid and self.random.random() < 0.3:
            columns += ", rowid"
        sql = f"SELECT {columns} FROM t{self.where(t, bound)}"
        if self.random.random() < 0.35:
            return Statement(sql, tuple(bound))
        orders = [f"{column}{pick(['', ' DESC'])}" for column in t.key]
        if self.random.random() < 0.4:
            orders = [f"{column}{pick(['', ' DESC'])}" for column in self.random.sample(t.columns, self.random.choice([1, 2]))] + orders
        elif self.random.random() < 0.5:
            direction = pick(["", " DESC"])
            orders = [column + direction for column in t.key]
        sql += " ORDER BY " + ", ".join(orders)
        if self.random.random() < 0.5:
            limit: object = pick([0, 1, 2, 3, 5, -1])
            sql += f" LIMIT {limit}"
            if self.random.random() < 0.5:
                bound.append(pick([0, 1, 2, 10, -1]))
                sql += " OFFSET ?"
        return Statement(sql, tuple(bound), total=True)

    def join(self) -> Statement:
        bound: list[object] = []
        pick = self.random.choice
        other, columns = pick([("u", self.u.columns), ("p", ("x", "y", "z")), ("t", self.t.columns)])
        kind = pick(["JOIN", "JOIN", "LEFT JOIN", "CROSS JOIN"])
        left, right = pick(self.t.columns + self.t.key * 2), pick(columns)
        first, second = ("t AS s", f"{other} AS o") if self.random.random() < 0.5 else (f"{other} AS o", "t AS s")
        sql = f"SELECT s.*, o.{right} FROM {first} {kind} {second} ON s.{left} {pick(['=', '=', '=', '<', 'IS'])} o.{right}"
        if self.random.random() < 0.4:
            sql += f" WHERE {self.condition(self.t, bound, 's.')}"
        return Statement(sql, tuple(bound))

    def row(self, shape: Shape, columns: list[str]) -> list[object]:
        row = []
        for column in columns:
            value = self.value()
            if value is None and column in shape.defaulted:
                value = 3  # Exception: on INSERT an explicit NULL for a column with a default becomes the default.
            # After the largest rowid both pick rowids at random, which no comparison survives (test_writes.py has that case).
            if column in shape.wholes and (self.random.random() < 0.8 or str(value).startswith("92233720368547758")):
                value = self.random.randrange(-3, 12)
            row.append(value)
        return row

    def insert(self) -> Statement:
        pick = self.random.choice
        name, shape = ("t", self.t) if self.random.random() < 0.8 else ("u", self.u)
        if self.random.random() < 0.06:
            values = [self.value() for _ in range(3)]
            return Statement("INSERT INTO p VALUES (?, ?, ?)", tuple(values))
        mode = pick(["", "", "", "", "OR REPLACE ", "OR REPLACE ", "OR IGNORE ", "OR FAIL ", "OR ABORT ", "OR ROLLBACK "])
        # Exception: through APSW changes() counts rows that OR IGNORE left out.
        counts = "IGNORE" not in mode
        columns = list(shape.columns)
        if self.random.random() < 0.25:
            columns = [column for column in columns if column in shape.key or self.random.random() < 0.6] or columns
        if shape.rowid and not shape.wholes and self.random.random() < 0.3:
            columns = ["rowid", *columns]
        if self.random.random() < 0.15:
            bound: list[object] = []
            source = [column if self.random.random() < 0.8 else self.expression(shape) for column in columns]
            source = [f"coalesce({text}, 3)" if column in shape.defaulted else text for column, text in zip(columns, source, strict=True)]
            # A key of several rows at once meets rows in an order that only an order by makes the same.
            order = " ORDER BY " + ", ".join(shape.key)
            return Statement(
                f"INSERT {mode}INTO {name}({', '.join(columns)}) SELECT {', '.join(source)} FROM {name}{self.where(shape, bound)}{order} LIMIT 4",
                tuple(bound),
                counts=counts,
            )
        rows = []
        for _ in range(pick([1, 1, 1, 2, 3, 5])):
            row = self.row(shape, columns)
            if columns[0] == "rowid":
                row[0] = pick([None, self.random.randrange(-5, 20), self.random.randrange(-5, 20), "6", 7.0, "x", 3])
            rows.append(row)
        holders = ", ".join("(" + ", ".join("?" for _ in columns) + ")" for _ in rows)
        return Statement(
            f"INSERT {mode}INTO {name}({', '.join(columns)}) VALUES {holders}", tuple(value for row in rows for value in row), counts=counts
        )

    def update(self) -> Statement:
        bound: list[object] = []
        pick, t = self.random.choice, self.t
        mode = pick(["", "", "", "OR REPLACE ", "OR IGNORE ", "OR FAIL ", "OR ROLLBACK "])
        sets = []
        for column in self.random.sample(t.columns, pick([1, 1, 2])):
            value = self.value()
            expression = pick(["?", "?", self.expression(t)])
            if column in t.wholes:
                expression, value = pick(["?", f"{column} + 100", f"-{column}"]), self.random.randrange(-3, 12)
            if expression == "?":
                bound.append(value)
            sets.append(f"{column} = {expression}")
        if any(text.split(" ")[0] in t.key for text in sets):
            # New keys may collide with each other, so which rows win depends on the order: one row, or all in key order.
            # Exception: UPDATE OR REPLACE that gives a row the key of one it has yet to change. So there: one row.
            where = " WHERE " + " AND ".join(f"{column} = {literal(self.value())}" for column in t.key)
            if mode != "OR REPLACE ":
                where = pick([where, "", f" WHERE {t.key[0]} >= {literal(self.value())}"])
            bound = bound[: sum("?" in text for text in sets)]
            return Statement(f"UPDATE {mode}t SET {', '.join(sets)}{where}", tuple(bound), counts=mode not in ("OR IGNORE ", "OR REPLACE "))
        # Exception: changes() counts rows that OR IGNORE left as they were (through APSW), or that OR REPLACE had removed before their turn came.
        return Statement(
            f"UPDATE {mode}t SET {', '.join(sets)}{self.where(t, bound, 0.95)}", tuple(bound), counts=mode not in ("OR IGNORE ", "OR REPLACE ")
        )

    def delete(self) -> Statement:
        bound: list[object] = []
        name, shape = ("t", self.t) if self.random.random() < 0.8 else ("u", self.u)
        return Statement(f"DELETE FROM {name}{self.where(shape, bound, 0.97)}", tuple(bound))

    def transaction(self, in_transaction: bool) -> Statement:
        pick = self.random.choice
        if not in_transaction:
            if self.random.random() < 0.2:
                self.savepoints.append("s0")
                return Statement("SAVEPOINT s0", counts=False)
            return Statement(pick(["BEGIN", "BEGIN IMMEDIATE"]), counts=False)
        r = self.random.random()
        if r < 0.25:
            return Statement("COMMIT", counts=False)
        if r < 0.40:
            return Statement("ROLLBACK", counts=False)
        if r < 0.65 or not self.savepoints:
            self.savepoints.append(f"s{len(self.savepoints)}")
            return Statement(f"SAVEPOINT {self.savepoints[-1]}", counts=False)
        place = self.random.randrange(len(self.savepoints))
        name = self.savepoints[place]
        if r < 0.85:
            del self.savepoints[place + 1 :]
            return Statement(f"ROLLBACK TO {name}", counts=False)
        del self.savepoints[place:]
        return Statement(f"RELEASE {name}", counts=False)
