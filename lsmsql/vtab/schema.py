"""A table's definition: the arguments of CREATE VIRTUAL TABLE as a value, and the declaration that SQLite is given."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from ..errors import UsageError
from .affinity import Affinity
from .column_reader import Column, KeyColumn, read_column, read_key
from .tokenizer import WORD, Token, always_quote, quote_name, split_arguments, tokenize

HIDDEN = ("_snapshot", "_seqno", "_key")
OPTIONS = ("strict",)
_STRICT_TYPES = {"INT", "INTEGER", "REAL", "TEXT", "BLOB", "ANY"}
_REFUSED = {
    "UNIQUE": "UNIQUE constraints are not available; only the PRIMARY KEY is unique",
    "CHECK": "CHECK constraints are not available; a trigger INSTEAD OF on a view can check",
    "FOREIGN": "foreign keys are not available on virtual tables",
    "INDEX": "secondary indexes are not available; keep a second lsm table in the other order",
}


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One table: its columns, its key columns in key order (none for a rowid table), the column that is the rowid, its options."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[KeyColumn, ...] = ()
    rowid_column: int | None = None
    strict: bool = False

    @classmethod
    def from_arguments(cls, name: str, arguments: list[str] | tuple[str, ...]) -> TableSchema:
        """Read the arguments as SQLite hands them over. UsageError `lsm: <message>: <the argument>` on anything not understood."""
        reader = _Reader(name)
        for argument in arguments:
            reader.read(argument)
        return reader.schema()

    @classmethod
    def from_text(cls, name: str, text: str) -> TableSchema:
        """Read back what `to_text` wrote."""
        return cls.from_arguments(name, split_arguments(text))

    def to_text(self) -> str:
        """The arguments in one canonical spelling."""
        parts = [column.to_text() for column in self.columns]
        if self.rowid_column is not None:
            parts.append(f"PRIMARY KEY ({quote_name(self.columns[self.rowid_column].name)})")
        elif len(self.key) == 1 and self.columns[self.key[0].index].declared_type.upper() == "INTEGER":
            parts[self.key[0].index] += " PRIMARY KEY DESC"  # as a table constraint it would mean the rowid
        elif self.key:
            parts.append("PRIMARY KEY (" + ", ".join(column.to_text(self.columns[column.index]) for column in self.key) + ")")
        if self.strict:
            parts.append("strict=on")
        return ", ".join(parts)

    def statement(self) -> str:
        """The CREATE VIRTUAL TABLE that makes the table anew."""
        return f"CREATE VIRTUAL TABLE {always_quote(self.name)} USING lsm({self.to_text()})"

    @property
    def has_rowid(self) -> bool:
        return not self.key

    def declaration(self) -> str:
        """The CREATE TABLE that SQLite reads column names, types, collations and the kind of key from; it ignores or refuses the rest."""
        parts = []
        for index, column in enumerate(self.columns):
            collation = f" COLLATE {column.collation}" if column.collation != "BINARY" else ""
            key = " PRIMARY KEY" if index == self.rowid_column else ""
            # Known as NOT NULL, min(key) is the first row: SQLite takes the key's order for an order that has NULLs last.
            never_null = " NOT NULL" if any(part.index == index for part in self.key) else ""
            parts.append(f"{always_quote(column.name)} {column.declared_type}{key}{collation}{never_null}")
        parts += ["_snapshot HIDDEN", "_seqno INTEGER HIDDEN"]
        parts.append("_key BLOB HIDDEN" if self.has_rowid else "_key BLOB HIDDEN NOT NULL PRIMARY KEY")
        return f"CREATE TABLE x({', '.join(parts)})" + ("" if self.has_rowid else " WITHOUT ROWID")


class _Reader:
    """Collects the arguments of one CREATE VIRTUAL TABLE."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.columns: list[Column] = []
        self.key: tuple[list[KeyColumn], str] | None = None  # with the argument it came from
        self.table_key: tuple[list[Token], str] | None = None
        self.strict: tuple[bool, str] | None = None

    def read(self, argument: str) -> None:
        tokens = tokenize(argument)
        if not tokens:
            raise UsageError(f"lsm: empty argument: {argument}")
        word = tokens[0].keyword
        if tokens[0].kind == WORD and len(tokens) > 1 and tokens[1].text == "=":
            self._option(tokens, argument)
        elif self.strict is not None:
            raise UsageError(f"lsm: options come after the columns: {argument}")
        elif word in ("PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "INDEX", "CONSTRAINT"):
            self._constraint(tokens, argument)
        else:
            self._column(tokens, argument)

    def _option(self, tokens: list[Token], argument: str) -> None:
        name = tokens[0].text.lower()
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, 1, 0.5) or OPTIONS
            raise UsageError(f"lsm: unknown option {name}, there is {', '.join(near)}: {argument}")
        value = argument[tokens[1].end :].strip().lower()
        if value not in ("1", "on", "true", "yes", "0", "off", "false", "no"):
            raise UsageError(f"lsm: option {name} is on or off: {argument}")
        if self.strict is not None:
            raise UsageError(f"lsm: option {name} given twice: {argument}")
        self.strict = value in ("1", "on", "true", "yes"), argument

    def _constraint(self, tokens: list[Token], argument: str) -> None:
        if tokens[0].keyword == "CONSTRAINT":
            tokens = tokens[2:]  # CONSTRAINT name
        word = tokens[0].keyword if tokens else ""
        if word in _REFUSED:
            raise UsageError(f"lsm: {_REFUSED[word]}: {argument}")
        if word != "PRIMARY" or len(tokens) < 3 or tokens[1].keyword != "KEY" or tokens[2].text != "(":
            raise UsageError(f"lsm: not a table constraint: {argument}")
        if self.table_key is not None:
            raise UsageError(f'lsm: table "{self.name}" has more than one primary key: {argument}')
        self.table_key = tokens[2:], argument

    def _column(self, tokens: list[Token], argument: str) -> None:
        if self.table_key is not None:
            raise UsageError(f"lsm: columns come before table constraints: {argument}")
        column, descending = read_column(tokens, argument)
        folded = column.name.lower()
        if any(folded == other.name.lower() for other in self.columns):
            raise UsageError(f"lsm: duplicate column name {column.name}: {argument}")
        if folded in HIDDEN:
            raise UsageError(f"lsm: the name {column.name} belongs to a hidden column: {argument}")
        if descending is not None:
            if self.key is not None:
                raise UsageError(f'lsm: table "{self.name}" has more than one primary key: {argument}')
            self.key = [KeyColumn(len(self.columns), column.collation, descending)], argument
        self.columns.append(column)

    def schema(self) -> TableSchema:
        inline = self.key is not None
        if self.table_key is not None:
            tokens, argument = self.table_key
            if inline:
                raise UsageError(f'lsm: table "{self.name}" has more than one primary key: {argument}')
            self.key = read_key(tokens, self.columns, argument), argument
        if not self.columns:
            raise UsageError(f"lsm: a table needs at least one column: {self.name}")
        strict = self.strict is not None and self.strict[0]
        columns = [self._strict_column(column) for column in self.columns] if strict else self.columns
        key = self.key[0] if self.key else []
        alias = None
        if len(key) == 1 and columns[key[0].index].declared_type.upper() == "INTEGER" and not (inline and key[0].descending):
            alias, key = key[0].index, []  # SQLite's rule, down to its oddity: an inline DESC makes an ordinary key.
        return TableSchema(self.name, tuple(columns), tuple(key), alias, strict)

    def _strict_column(self, column: Column) -> Column:
        name = column.declared_type.upper()
        if name not in _STRICT_TYPES:
            problem = f'unknown datatype for {self.name}.{column.name}: "{column.declared_type}"' if name else "missing datatype"
            raise UsageError(f"lsm: {problem}: {column.to_text()}")
        return column.with_affinity(Affinity.BLOB) if name == "ANY" else column
