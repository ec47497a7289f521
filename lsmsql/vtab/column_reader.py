"""Reads one column definition, or the column list of a PRIMARY KEY, from its tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import UsageError
from .affinity import Affinity, affinity_of
from .defaults import Default, read_default
from .tokenizer import BLOB, NUMBER, QUOTED, STRING, WORD, Token, quote_name, quote_string

COLLATIONS = ("BINARY", "NOCASE", "RTRIM")
_CONSTRAINT_WORDS = frozenset(
    "CONSTRAINT PRIMARY NOT NULL UNIQUE CHECK DEFAULT COLLATE REFERENCES GENERATED AS ON DEFERRABLE AUTOINCREMENT".split()  # noqa: SIM905
)
_REFUSED = {
    "UNIQUE": "UNIQUE constraints are not available; only the PRIMARY KEY is unique",
    "CHECK": "CHECK constraints are not available; a trigger INSTEAD OF on a view can check",
    "REFERENCES": "foreign keys are not available on virtual tables",
    "DEFERRABLE": "foreign keys are not available on virtual tables",
    "GENERATED": "generated columns are not available; make a view",
    "AS": "generated columns are not available; make a view",
    "ON": "ON CONFLICT belongs into the statement here (INSERT OR REPLACE)",
    "AUTOINCREMENT": "AUTOINCREMENT is not available; INTEGER PRIMARY KEY numbers rows from the largest rowid on",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A declared column. collation: BINARY, NOCASE or RTRIM; default: None when there is no DEFAULT clause."""

    name: str
    declared_type: str
    affinity: Affinity
    collation: str = "BINARY"
    not_null: bool = False
    default: Default | None = None

    def to_text(self) -> str:
        parts = [quote_name(self.name), self.declared_type]
        parts.append("NOT NULL" if self.not_null else "")
        parts.append(f"DEFAULT {self.default.text}" if self.default else "")
        parts.append(f"COLLATE {self.collation}" if self.collation != "BINARY" else "")
        return " ".join(part for part in parts if part)

    def with_affinity(self, affinity: Affinity) -> Column:
        return replace(self, affinity=affinity)


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A part of the primary key. index: the column's place in the table."""

    index: int
    collation: str
    descending: bool

    def to_text(self, column: Column) -> str:
        parts = [quote_name(column.name)]
        parts += [f"COLLATE {self.collation}"] if self.collation != column.collation else []
        parts += ["DESC"] if self.descending else []
        return " ".join(parts)


class _Tokens:
    """Tokens taken from the front. Every failure names the whole argument."""

    def __init__(self, tokens: list[Token], argument: str) -> None:
        self.tokens = tokens
        self.argument = argument
        self.position = 0

    @property
    def next(self) -> Token | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def keyword(self) -> str:
        return self.next.keyword if self.next else ""

    def take(self, what: str = "more") -> Token:
        token = self.next
        if token is None:
            raise self.error(f"{what} expected at the end")
        self.position += 1
        return token

    def take_word(self, *words: str) -> str:
        """The next keyword if it is one of `words`, else ""; it is consumed."""
        word = self.keyword()
        if word and word in words:
            self.position += 1
            return word
        return ""

    def expect(self, text: str) -> None:
        token = self.take(text)
        if token.text.upper() != text:
            raise self.error(f"{text} expected before {token.text}")

    def name(self, what: str) -> str:
        token = self.take(what)
        if token.kind not in (WORD, QUOTED, STRING):
            raise self.error(f"{what} expected instead of {token.text}")
        return token.name

    def parenthesised(self) -> str:
        """The source from the next "(" to its partner, both included."""
        start, depth = self.take("(").start, 1
        while depth:
            text = self.take(")").text
            depth += {"(": 1, ")": -1}.get(text, 0)
        return self.argument[start : self.tokens[self.position - 1].end]

    def error(self, message: str) -> UsageError:
        return UsageError(f"lsm: {message}: {self.argument}")


def read_column(tokens: list[Token], argument: str) -> tuple[Column, bool | None]:
    """The column, and for PRIMARY KEY whether it is descending (None: not the key)."""
    source = _Tokens(tokens, argument)
    name = source.name("a column name")
    declared_type = _read_type(source)
    column = Column(name, declared_type, affinity_of(declared_type))
    descending: bool | None = None
    while source.next is not None:
        word = source.keyword()
        if word == "CONSTRAINT":
            source.take()
            source.name("a constraint name")
        elif word == "PRIMARY":
            source.take()
            source.expect("KEY")
            if descending is not None:
                raise source.error("more than one primary key")
            descending = source.take_word("ASC", "DESC") == "DESC"
        elif word in ("NOT", "NULL"):
            source.take()
            if word == "NOT":
                source.expect("NULL")
                column = replace(column, not_null=True)
        elif word == "DEFAULT":
            source.take()
            column = replace(column, default=read_default(_read_default_text(source), argument))
        elif word == "COLLATE":
            source.take()
            column = replace(column, collation=_read_collation(source))
        elif word in _REFUSED:
            raise source.error(_REFUSED[word])
        else:
            raise source.error(f"not understood from {source.take().text} on")
    return column, descending


def read_key(tokens: list[Token], columns: list[Column], argument: str) -> list[KeyColumn]:
    """The parenthesised list of PRIMARY KEY ( ... )."""
    source = _Tokens(tokens, argument)
    source.expect("(")
    key: list[KeyColumn] = []
    while True:
        name = source.name("a column name")
        index = next((i for i, column in enumerate(columns) if column.name.lower() == name.lower()), None)
        if index is None:
            raise source.error(f"unknown column {name} in the primary key")
        if any(index == other.index for other in key):
            raise source.error(f"column {name} stands twice in the primary key")
        collation = _read_collation(source) if source.take_word("COLLATE") else columns[index].collation
        key.append(KeyColumn(index, collation, source.take_word("ASC", "DESC") == "DESC"))
        if source.take(")").text == ")":
            break
        if source.tokens[source.position - 1].text != ",":
            raise source.error(f", or ) expected before {source.tokens[source.position - 1].text}")
    if source.next is not None:
        raise source.error(_REFUSED.get(source.keyword(), f"not understood from {source.next.text} on"))
    return key


def _read_type(source: _Tokens) -> str:
    words = []
    while (token := source.next) and token.kind in (WORD, QUOTED, STRING) and token.keyword not in _CONSTRAINT_WORDS:
        words.append(source.take().text)
    if any(word.strip("\"'`[]").upper() == "HIDDEN" for word in words):
        raise source.error("HIDDEN is no type; columns cannot be hidden")  # SQLite would hide it, between our own hidden ones
    if words and source.next and source.next.text == "(":
        words[-1] += source.parenthesised()
    return " ".join(words)


def _read_collation(source: _Tokens) -> str:
    name = source.name("a collation").upper()
    if name not in COLLATIONS:
        raise source.error(f"no collation {name}, there are {', '.join(COLLATIONS)}")
    return name


def _read_default_text(source: _Tokens) -> str:
    """The text of a default in a form that is an SQL expression."""
    token = source.next
    if token is not None and token.text == "(":
        return source.parenthesised()
    token = source.take("a default")
    if token.text in ("+", "-"):
        number = source.take("a number")
        if number.kind != NUMBER:
            raise source.error(f"a number expected instead of {number.text}")
        return token.text.strip("+") + number.text
    if token.kind in (NUMBER, STRING, BLOB):
        return token.text
    if token.keyword in ("NULL", "TRUE", "FALSE", "CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP"):
        return token.keyword
    if token.kind in (WORD, QUOTED):  # SQLite reads a lone name as text.
        return quote_string(token.name)
    raise source.error(f"a default expected instead of {token.text}")
