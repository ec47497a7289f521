"""SQLite's tokens, as far as the arguments of CREATE VIRTUAL TABLE and plan texts need them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import UsageError

WORD, QUOTED, STRING, NUMBER, BLOB, PUNCTUATION = "word", "quoted", "string", "number", "blob", "punctuation"

# The order matters: a blob literal begins like a word, a comment like an operator.
_PATTERN = re.compile(
    r"""
      (?P<space>   [ \t\n\f\r]+ | --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<blob>    [xX]'(?:[0-9a-fA-F]{2})*' )
    | (?P<number>  0[xX][0-9a-fA-F]+(?![\w$]) | (?:[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9]+)?(?![\w$]) )
    | (?P<string>  '(?:[^']|'')*' )
    | (?P<quoted>  "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] )
    | (?P<word>    [A-Za-z_\u0080-\U0010ffff][\w$\u0080-\U0010ffff]* )
    | (?P<punctuation> \|\||<<|>>|<=|>=|<>|!=|==|->>?|[-+*/%&|~<>=(),.;?:@\#!] )
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*\Z")


@dataclass(frozen=True, slots=True)
class Token:
    """kind: one of the constants above; text: as written; start, end: where it stands in the source."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def keyword(self) -> str:
        """The word in capitals, "" for anything quoted: quoting takes a keyword's meaning away."""
        return self.text.upper() if self.kind == WORD else ""

    @property
    def name(self) -> str:
        """What an identifier or a string literal denotes, its quotes removed."""
        if self.kind not in (QUOTED, STRING):
            return self.text
        close = "]" if self.text[0] == "[" else self.text[0]
        body = self.text[1:-1]
        return body if close == "]" else body.replace(close * 2, close)


def tokenize(source: str) -> list[Token]:
    """The tokens of `source` without spaces and comments; UsageError at the first character that begins none."""
    return list(_tokens(source))


def _tokens(source: str) -> Iterator[Token]:
    position = 0
    while position < len(source):
        match = _PATTERN.match(source, position)
        if match is None:
            raise UsageError(f"lsm: unrecognized token {source[position : position + 12]!r}: {source}")
        position = match.end()
        if match.lastgroup and match.lastgroup != "space":
            yield Token(match.lastgroup, match.group(), match.start(), position)


def quote_name(name: str) -> str:
    """`name` as an identifier: bare where that is harmless, else in double quotes."""
    if _PLAIN.match(name) and name.upper() not in _RESERVED:
        return name
    return always_quote(name)


def always_quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quote_string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def split_arguments(source: str) -> list[str]:
    """Split at the commas outside of parentheses, as SQLite splits the arguments of CREATE VIRTUAL TABLE."""
    parts, depth, start = [], 0, 0
    for token in _tokens(source):
        if token.text == "(":
            depth += 1
        elif token.text == ")":
            depth -= 1
        elif token.text == "," and depth == 0:
            parts.append(source[start : token.start].strip())
            start = token.end
    parts.append(source[start:].strip())
    return parts


_RESERVED = frozenset(
    """ADD ALL ALTER AND AS ASC AUTOINCREMENT BETWEEN CASE CHECK COLLATE COMMIT CONSTRAINT CREATE CROSS DEFAULT DEFERRABLE DELETE DESC
    DISTINCT DROP ELSE ESCAPE EXCEPT EXISTS FOREIGN FROM FULL GENERATED GROUP HAVING IN INDEX INNER INSERT INTERSECT INTO IS ISNULL JOIN
    LEFT LIMIT NATURAL NOT NOTHING NOTNULL NULL OFFSET ON OR ORDER OUTER PRIMARY REFERENCES RETURNING RIGHT SELECT SET TABLE THEN TO
    TRANSACTION UNION UNIQUE UPDATE USING VALUES WHEN WHERE WITH""".split()  # noqa: SIM905
)
