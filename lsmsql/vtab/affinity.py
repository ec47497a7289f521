"""What SQLite stores in a column of a declared type, and the numbers it sees in text.

SQLite hands values over as the statement gave them; a virtual table has to convert them itself (https://sqlite.org/datatype3.html).
Values are None, int, float, str or bytes. Where SQLite's own digits matter (text to a real of many digits, a real to text) it is asked.
"""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache

import apsw

Value = None | int | float | str | bytes

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
_INTEGER_TEXT = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*\Z", re.ASCII)
_REAL_TEXT = re.compile(r"[ \t\n\v\f\r]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t\n\v\f\r]*\Z", re.ASCII)
_SHORT_REAL = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]{0,7}\.?[0-9]{0,7}[ \t\n\v\f\r]*\Z", re.ASCII)  # 14 digits: exact in any algorithm


class Affinity(IntEnum):
    """A column's preferred storage class. NUMERIC and above convert text to numbers."""

    BLOB = 0
    TEXT = 1
    NUMERIC = 2
    INTEGER = 3
    REAL = 4


def affinity_of(declared_type: str) -> Affinity:
    """The affinity of a declared type, by SQLite's substring rules in SQLite's order."""
    name = declared_type.upper()
    if "INT" in name:
        return Affinity.INTEGER
    if any(part in name for part in ("CHAR", "CLOB", "TEXT")):
        return Affinity.TEXT
    if not name or "BLOB" in name:
        return Affinity.BLOB
    if any(part in name for part in ("REAL", "FLOA", "DOUB")):
        return Affinity.REAL
    return Affinity.NUMERIC


def number_in(text: str) -> int | float | None:
    """The number that numeric affinity makes of `text`, or None when the text does not wholly read as one."""
    if "\0" in text:  # SQLite reads a real up to the NUL.
        text = text[: text.index("\0")]
        return _sqlite_real(text) if _REAL_TEXT.match(text) else None
    if match := _INTEGER_TEXT.match(text):
        number = int(match.group(1)) if len(match.group(1)) < 24 else None
        return number if number is not None and INT_MIN <= number <= INT_MAX else _sqlite_real(text)
    if not _REAL_TEXT.match(text):
        return None
    return float(text) if _SHORT_REAL.match(text) else _sqlite_real(text)


def stored(affinity: Affinity, value: Value) -> Value:
    """What a column of this affinity stores when `value` is inserted."""
    if isinstance(value, str):
        if affinity >= Affinity.NUMERIC and (number := number_in(value)) is not None:
            return stored(affinity, number)
        return value
    if isinstance(value, int):
        if affinity == Affinity.REAL:
            return float(value)
        return str(value) if affinity == Affinity.TEXT else value
    if isinstance(value, float):
        if affinity == Affinity.TEXT:
            return _sqlite_text(value)
        if affinity == Affinity.REAL:
            return value + 0.0  # -0.0 is stored as 0, since whole reals are kept as integers.
        # SQLite leaves both ends of the integer range as reals.
        if affinity in (Affinity.NUMERIC, Affinity.INTEGER) and INT_MIN < value < INT_MAX and value.is_integer():
            return int(value)
    return value


def compared(affinity: Affinity, value: Value) -> Value:
    """What `value` is when compared with a column of this numeric affinity (by value: integers and reals compare alike)."""
    if isinstance(value, str) and affinity >= Affinity.NUMERIC and (number := number_in(value)) is not None:
        return number
    return value


@lru_cache(maxsize=1)
def _judge() -> apsw.Connection:
    return apsw.Connection(":memory:")


@lru_cache(maxsize=4096)
def _sqlite_real(text: str) -> float:
    return _judge().execute("SELECT CAST(? AS REAL)", (text,)).get


@lru_cache(maxsize=4096)
def _sqlite_text(value: float) -> str:
    return _judge().execute("SELECT CAST(? AS TEXT)", (value,)).get
