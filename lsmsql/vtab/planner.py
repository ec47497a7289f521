"""The planner: which constraints and orders of a query the key serves. Pure: descriptions in, a Choice out.

What SQLite does that a reader would not guess, each held by a test:
- constraint values come without affinity, so a TEXT column may be compared as numbers with another column: such scans are widened when
  they run (`ranges.py`) and SQLite checks every row again (omit is set only on numeric columns);
- collation belongs to the constraint: LIKE on a BINARY column arrives as a NOCASE range;
- LIKE also matches blobs, which its range leaves out;
- LIMIT may be taken only when nothing is left for SQLite to check or to sort; (a, b) > (1, 2) arrives as a >= 1 and looks like any other, and
  SQLite checks it again whatever it is told, so beside >= and <= there is always something left;
- a constraint that is not usable now makes another plan, but `_snapshot` cannot be left out of any;
- IN is scanned value by value, for APSW fails on the set of all values when a subquery finds none. SQLite then
  sorts for ORDER BY itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import apsw

from ..errors import UsageError
from .plan import KeyPart, Plan, key_parts
from .schema import TableSchema

_OPERATORS = {
    apsw.SQLITE_INDEX_CONSTRAINT_EQ: "=",
    apsw.SQLITE_INDEX_CONSTRAINT_IS: "IS",
    apsw.SQLITE_INDEX_CONSTRAINT_GT: ">",
    apsw.SQLITE_INDEX_CONSTRAINT_GE: ">=",
    apsw.SQLITE_INDEX_CONSTRAINT_LT: "<",
    apsw.SQLITE_INDEX_CONSTRAINT_LE: "<=",
    apsw.SQLITE_INDEX_CONSTRAINT_LIKE: "LIKE",
    apsw.SQLITE_INDEX_CONSTRAINT_GLOB: "LIKE",
    apsw.SQLITE_INDEX_CONSTRAINT_LIMIT: "LIMIT",
    apsw.SQLITE_INDEX_CONSTRAINT_OFFSET: "OFFSET",
}
WIDE = 61  # columns from which on, with the hidden ones, the mask of used columns cannot tell an UPDATE from a SELECT of everything
_ROWS = 1_000_000  # assumed for every table
_ROW_COST = 1.0
_SEEK_COST = 10.0


@dataclass(frozen=True, slots=True)
class Constraint:
    """column op value. op: a name of `_OPERATORS` or "" for one nothing here can use; listed: it comes from an IN."""

    column: int
    op: str
    usable: bool = True
    collation: str = "BINARY"
    listed: bool = False


def operator_name(code: int) -> str:
    return _OPERATORS.get(code, "")


@dataclass(slots=True)
class Choice:
    """A plan and what SQLite is to be told. arguments: constraint numbers in the order of the plan's arguments; omit: those not to be
    checked again."""

    plan: Plan
    arguments: list[int] = field(default_factory=list)
    omit: set[int] = field(default_factory=set)
    unique: bool = False
    rows: int = _ROWS
    cost: float = _ROWS * _ROW_COST


def choose(
    schema: TableSchema, constraints: list[Constraint], orders: list[tuple[int, bool]], used: frozenset[int], *, push_down: bool = True
) -> Choice | None:
    """The best plan; None when a needed `_snapshot` value is not available in this join order. orders: (column, descending).

    used: column numbers; the number 63 stands for itself and all above it. UsageError for a use of `_snapshot` other than = and IN.
    """
    columns = _used_columns(schema, used)
    snapshot = _snapshot_constraint(schema, constraints, columns, updating=len(used) == 64 and len(schema.columns) < WIDE)
    if snapshot is not None and not constraints[snapshot].usable:
        return None
    search = _Search(key_parts(schema), constraints)
    if push_down:
        search.run()
    order, skip = _order(search, orders) if push_down else ("", 0)
    choice = Choice(Plan(), list(search.taken), set(search.omit))
    if snapshot is not None:
        choice.arguments.append(snapshot)
        choice.omit.add(snapshot)
    since = _since(schema, constraints) if push_down else None
    if since is not None:
        choice.arguments.append(since)
    limits = _limits(constraints, choice.omit) if push_down and (order or not orders) else []
    choice.arguments += limits
    choice.omit.update(limits)
    choice.plan = Plan(
        tuple(search.equal),
        search.lower,
        search.upper,
        search.blobs,
        order,
        skip,
        snapshot is not None,
        constraints[since].op if since is not None else "",
        any(constraints[i].op == "LIMIT" for i in limits),
        any(constraints[i].op == "OFFSET" for i in limits),
        tuple(sorted(columns)),
    )
    _estimate(choice, search, since is not None)
    return choice


class _Search:
    """Matches constraints with the leading parts of the key."""

    def __init__(self, parts: tuple[KeyPart, ...], constraints: list[Constraint]) -> None:
        self.parts = parts
        self.constraints = constraints
        self.equal: list[str] = []
        self.lower = self.upper = ""
        self.blobs = False
        self.taken: list[int] = []
        self.omit: set[int] = set()

    def run(self) -> None:
        exact = True  # so far: a scan that is widened at one part applies nothing behind it
        for part in self.parts:
            exact = exact and part.exact
            found = self._find(part, ("=", "IS"))
            if found is None:
                self._range(part, exact)
                return
            constraint = self.constraints[found]
            self.taken.append(found)
            self.equal.append("IN" if constraint.listed else constraint.op)
            exact = exact and not constraint.listed
            if exact:
                self.omit.add(found)

    def _range(self, part: KeyPart, exact: bool) -> None:
        for side, operators in (("lower", (">", ">=")), ("upper", ("<", "<="))):
            found = self._find(part, operators)
            if found is not None:
                setattr(self, side, self.constraints[found].op)
                self.taken.append(found)
                if exact:
                    self.omit.add(found)
        if self.lower or self.upper:
            self.blobs = any(constraint.op == "LIKE" and constraint.column in part.columns for constraint in self.constraints)

    def _find(self, part: KeyPart, operators: tuple[str, ...]) -> int | None:
        for number, constraint in enumerate(self.constraints):
            if (
                constraint.usable
                and constraint.op in operators
                and constraint.column in part.columns
                and (constraint.collation == part.collation or constraint.column < 0)
            ):
                return number
        return None

    @property
    def fixed(self) -> list[bool]:
        """For each key part whether all rows of the scan share its value."""
        return [position < len(self.equal) for position in range(len(self.parts))]


def _order(search: _Search, orders: list[tuple[int, bool]]) -> tuple[str, int]:
    """(order, skip) of the plan if the key's order serves ORDER BY, else ("", 0)."""
    if not orders or "IN" in search.equal:
        return "", 0
    parts, fixed = search.parts, search.fixed
    directions: set[bool] = set()
    position = skip = 0
    for column, descending in orders:
        while position < len(parts) and column not in parts[position].columns and fixed[position]:
            # A fixed part that is not exact may hold several values after all: then the rows are sorted behind it, so it has to lead.
            if not parts[position].exact and directions:
                return "", 0
            position += 1
            skip = position if not directions else skip
        if position == len(parts):
            break  # A whole key has been ordered by; it is unique.
        if column not in parts[position].columns:
            if any(column in part.columns and part.exact and fixed[i] for i, part in enumerate(parts)):
                continue
            return "", 0
        if not parts[position].ordered:
            return "", 0
        directions.add(descending != parts[position].descending)
        position += 1
    if len(directions) > 1:
        return "", 0
    return "reverse" if directions == {True} else "key", skip


def _used_columns(schema: TableSchema, used: frozenset[int]) -> frozenset[int]:
    count = len(schema.columns) + 3
    if 63 in used:
        return frozenset([column for column in used if column < 63] + list(range(63, count))) & frozenset(range(count))
    return frozenset(column for column in used if column < count)


def _snapshot_constraint(schema: TableSchema, constraints: list[Constraint], columns: frozenset[int], *, updating: bool) -> int | None:
    hidden = len(schema.columns)
    found = None
    for number, constraint in enumerate(constraints):
        if constraint.column != hidden:
            continue
        if constraint.op != "=":
            raise UsageError(f"lsm: _snapshot can only be compared with = or IN: {schema.name}")
        if found is None or (constraint.usable and not constraints[found].usable):
            found = number
    if updating and found is not None:
        raise UsageError(f"lsm: the past cannot be changed; UPDATE without _snapshot: {schema.name}")
    if found is None and not updating and hidden in columns and hidden < WIDE:
        raise snapshot_misused(schema)
    return found


def snapshot_misused(schema: TableSchema) -> UsageError:
    return UsageError(f"lsm: _snapshot can only be used as _snapshot = ... or IN (...) beside AND: {schema.name}")


def _since(schema: TableSchema, constraints: list[Constraint]) -> int | None:
    for number, constraint in enumerate(constraints):
        if constraint.column == len(schema.columns) + 1 and constraint.usable and constraint.op in (">", ">=", "=") and not constraint.listed:
            return number
    return None


def _limits(constraints: list[Constraint], omit: set[int]) -> list[int]:
    """LIMIT and OFFSET, if every other constraint is met by the plan alone, and is not one of those that may stand for a row value."""
    limits = [i for i, constraint in enumerate(constraints) if constraint.op in ("LIMIT", "OFFSET")]
    if any(i not in limits and (i not in omit or constraint.op in (">=", "<=")) for i, constraint in enumerate(constraints)):
        return []
    if any(not constraints[i].usable for i in limits):
        return []
    return sorted(limits, key=lambda i: constraints[i].op != "LIMIT")


def _estimate(choice: Choice, search: _Search, since: bool) -> None:
    rows = float(_ROWS)
    seeks = 1.0
    count = len(search.parts)
    for op in search.equal:
        rows = max(1.0, rows / (_ROWS ** (1 / count)))
        if op == "IN":
            seeks *= 10
    if len(search.equal) == count:
        rows = 1.0
        choice.unique = all(part.exact for part in search.parts) and "IN" not in search.equal
    elif search.lower or search.upper:
        rows = max(1.0, rows / (16 if search.lower and search.upper else 4))
    rows *= seeks
    if since:
        rows = max(1.0, rows / 4)
    choice.rows = int(rows)
    choice.cost = rows * _ROW_COST + seeks * _SEEK_COST
