"""Plan: what one scan of a table does, as a value that prints as the text EXPLAIN QUERY PLAN shows and is read back from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import UsageError
from .affinity import Affinity
from .schema import HIDDEN, TableSchema
from .tokenizer import quote_name, tokenize


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One part of a table's key as the planner sees it.

    columns: the column numbers that mean it (a rowid table's alias and -1 both mean the rowid); collation: the key's; ordered: whether
    ORDER BY, which goes by the column's collation, means the key's order; exact: whether the column's affinity is numeric, so that a
    comparison always converts the other side and a key range finds exactly the rows that SQLite would.
    """

    name: str
    columns: tuple[int, ...]
    collation: str
    ordered: bool
    descending: bool
    exact: bool


def key_parts(schema: TableSchema) -> tuple[KeyPart, ...]:
    if schema.has_rowid:
        alias = schema.rowid_column
        name = "rowid" if alias is None else schema.columns[alias].name
        return (KeyPart(name, (-1,) if alias is None else (-1, alias), "BINARY", True, False, True),)
    parts = []
    for part in schema.key:
        column = schema.columns[part.index]
        exact = column.affinity >= Affinity.NUMERIC
        parts.append(KeyPart(column.name, (part.index,), part.collation, part.collation == column.collation, part.descending, exact))
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class Plan:
    """One scan. Its arguments arrive in this order: equal, lower, upper, snapshot, since, limit, offset.

    equal: "=", "IS" or "IN" for the leading key parts; lower: "", ">" or ">="; upper: "", "<" or "<=" on the part after them;
    blobs: blobs of that part are rows too, as LIKE may match them; order: "", "key" or "reverse"; skip: the leading parts that the
    order takes as fixed; since: "" or the operator that
    `_seqno` is compared by; columns: those to decode, hidden ones included.
    """

    equal: tuple[str, ...] = ()
    lower: str = ""
    upper: str = ""
    blobs: bool = False
    order: str = ""
    skip: int = 0
    snapshot: bool = False
    since: str = ""
    limit: bool = False
    offset: bool = False
    columns: tuple[int, ...] = ()

    def to_text(self, schema: TableSchema) -> str:
        """In words: `key a = ? and b >= ?; in reverse key order; columns a, c`."""
        names = [quote_name(part.name) for part in key_parts(schema)]
        terms = [f"{name} {'IN (?)' if op == 'IN' else op + ' ?'}" for name, op in zip(names, self.equal, strict=False)]
        for op in (self.lower, self.upper):
            terms += [f"{names[len(self.equal)]} {op} ?"] if op else []
        clauses = ["key " + " and ".join(terms) if terms else "all rows"]
        clauses += ["or blobs"] if self.blobs else []
        if self.order:
            after = f" after {self.skip}" if self.skip else ""
            clauses.append(("in key order" if self.order == "key" else "in reverse key order") + after)
        for wanted, text in (
            (self.snapshot, "as of _snapshot = ?"),
            (self.since, f"since _seqno {self.since} ?"),
            (self.limit, "limit ?"),
            (self.offset, "offset ?"),
        ):
            clauses += [text] if wanted else []
        columns = [*(column.name for column in schema.columns), *HIDDEN]
        clauses.append("columns " + ", ".join(quote_name(columns[i]) for i in self.columns) if self.columns else "no columns")
        return "; ".join(clauses)

    @classmethod
    def from_text(cls, schema: TableSchema, text: str) -> Plan:
        """Read back what `to_text` wrote."""
        names = [column.name for column in schema.columns]
        plan = cls()
        for clause in _clauses(text):
            match clause:
                case ["all", "rows"] | ["no", "columns"]:
                    pass
                case ["key", *terms]:
                    plan = _with_terms(plan, terms)
                case ["or", "blobs"]:
                    plan = replace(plan, blobs=True)
                case ["in", "key" | "reverse" as order, *_]:
                    plan = replace(plan, order=order, skip=int(clause[-1]) if "after" in clause else 0)
                case ["as", "of", *_]:
                    plan = replace(plan, snapshot=True)
                case ["since", _, op, *_]:
                    plan = replace(plan, since=op)
                case ["limit", *_]:
                    plan = replace(plan, limit=True)
                case ["offset", *_]:
                    plan = replace(plan, offset=True)
                case ["columns", *columns]:
                    places = {name: i for i, name in enumerate([*names, *HIDDEN])}
                    plan = replace(plan, columns=tuple(places[name] for name in columns if name != ","))
                case _:
                    raise UsageError(f"lsm: not a plan: {text}")
        return plan


def _clauses(text: str) -> list[list[str]]:
    clauses: list[list[str]] = [[]]
    for token in tokenize(text):
        if token.text == ";":
            clauses.append([])
        else:
            clauses[-1].append(token.name)
    return clauses


def _with_terms(plan: Plan, terms: list[str]) -> Plan:
    equal: list[str] = []
    lower = upper = ""
    operators = terms[1::1]
    position = 0
    while position < len(terms):
        operator = operators[position]
        if operator in (">", ">="):
            lower = operator
        elif operator in ("<", "<="):
            upper = operator
        else:
            equal.append(operator)
        position += (5 if operator == "IN" else 3) + 1  # name, operator, ? or ( ? ), and
    return replace(plan, equal=tuple(equal), lower=lower, upper=upper)
