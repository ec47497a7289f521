"""From a plan and its argument values to key ranges: which bytes to scan.

Values arrive as the statement has them, without affinity. A numeric column's comparison converts them, so its ranges are exact. A TEXT or
untyped column compared with a number may be the column's affinity applied to a literal or SQLite turning the *column's* text into
numbers (when the other side is a numeric column); nothing tells which. So a number selects itself and every text, and SQLite, which
checks again, drops what does not belong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .affinity import INT_MAX, INT_MIN, Affinity, Value, compared, stored
from .key_codec_cy import COLLATION_CODES, encode_rowid, encode_value
from .plan import KeyPart, Plan

_INVERT = bytes(range(255, -1, -1))
_NUMBER, _TEXT, _BLOB, _END = 2, 3, 4, 5
_NUMERIC_TEXT_END = ":"  # text that reads as a number begins below this character

Interval = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Ranges:
    """keys: whole keys to look up, or None; intervals: half-open key ranges, ascending and disjoint; precise: False when parts that the
    plan takes as fixed are not."""

    keys: list[bytes] | None = None
    intervals: Sequence[tuple[bytes | None, bytes | None]] = ()
    precise: bool = True


EVERYTHING = Ranges(None, ((None, None),))
NOTHING = Ranges([])


@dataclass(frozen=True, slots=True)
class _Bound:
    """A place between key parts, in ascending terms: before or after the part `encoded`, or (encoded empty) before all of type `tag`."""

    encoded: bytes
    after: bool = False
    tag: int = 0

    def ascending(self) -> bytes:
        if self.tag:
            return bytes((self.tag,))
        return self.encoded + b"\xff" if self.after else self.encoded

    def descending(self) -> bytes:
        if self.tag:
            return bytes((256 - self.tag,))
        inverted = self.encoded.translate(_INVERT)
        return inverted if self.after else inverted + b"\xff"


def rowid_ranges(plan: Plan, args: Sequence[Value]) -> Ranges:
    """The keys of a rowid table that a plan asks for."""
    if plan.equal:
        rowid = _as_rowid(args[0])
        return NOTHING if rowid is None else Ranges([encode_rowid(rowid)])
    if not plan.lower and not plan.upper:
        return EVERYTHING
    low, high = INT_MIN, INT_MAX
    arguments = iter(args)
    if plan.lower:
        value = compared(Affinity.INTEGER, next(arguments))
        if not isinstance(value, int | float):
            return NOTHING  # NULL compares with nothing, and no number is above a text.
        low = max(low, _floor(value) + 1 if plan.lower == ">" else _ceiling(value))
    if plan.upper:
        value = compared(Affinity.INTEGER, next(arguments))
        if value is None:
            return NOTHING
        if isinstance(value, int | float):
            high = min(high, _ceiling(value) - 1 if plan.upper == "<" else _floor(value))
    if low > high:
        return NOTHING
    return Ranges(None, ((encode_rowid(low) if low > INT_MIN else None, encode_rowid(high) + b"\0" if high < INT_MAX else None),))


def key_ranges(parts: Sequence[KeyPart], plan: Plan, args: Sequence[Value]) -> Ranges:
    """The keys of a table with declared key parts that a plan asks for."""
    prefixes = [b""]
    for part, op, argument in zip(parts, plan.equal, args, strict=False):
        points, widened = _candidates(part, argument, op)
        if widened:
            intervals = _merged([*((point, point + b"\xff") for point in points), _directed(part, _Bound(b"", tag=_TEXT), _Bound(b"", tag=_BLOB))])
            return Ranges(None, [(prefix + low, prefix + high) for prefix in prefixes for low, high in intervals], False)
        prefixes = [prefix + point for prefix in prefixes for point in points]
    if len(plan.equal) == len(parts):
        return Ranges(prefixes)
    if plan.lower or plan.upper:
        part = parts[len(plan.equal)]
        bounds = _range(part, plan, args[len(plan.equal) :])
        return Ranges(None, [(prefix + low, prefix + high) for prefix in prefixes for low, high in bounds])
    if not plan.equal:
        return EVERYTHING
    return Ranges(None, [(prefix, prefix + b"\xff") for prefix in prefixes])


def _candidates(part: KeyPart, given: Value, op: str) -> tuple[list[bytes], bool]:
    """(sorted encodings of the values equal to `given`, whether every text has to be looked at too)."""
    if given is None and op != "IS":
        return [], False
    value = compared(Affinity.NUMERIC, given) if part.exact else given
    values = [value]
    widened = not part.exact and isinstance(value, int | float)
    if widened and op == "IN":  # SQLite checks each value of an IN by itself, and with the column's affinity only.
        values.append(stored(Affinity.TEXT, value))
        widened = False
    return sorted(encode_value(value, COLLATION_CODES[part.collation], part.descending) for value in values), widened


def _range(part: KeyPart, plan: Plan, args: Sequence[Value]) -> list[Interval]:
    low, high = _Bound(b"", tag=_NUMBER), _Bound(b"", tag=_END)
    intervals = []
    arguments = iter(args)
    collation = COLLATION_CODES[part.collation]
    if plan.lower:
        value = compared(Affinity.NUMERIC, next(arguments)) if part.exact else next(arguments)
        if value is None:
            return []
        low = _Bound(encode_value(value, collation), plan.lower == ">")
    if plan.upper:
        value = compared(Affinity.NUMERIC, next(arguments)) if part.exact else next(arguments)
        if value is None:
            return []
        high = _Bound(encode_value(value, collation), plan.upper == "<=")
        if not part.exact:
            # SQLite may be comparing this column's numeric-looking text as numbers, which are below any text.
            if isinstance(value, int | float):
                intervals.append(_directed(part, _Bound(b"", tag=_TEXT), _Bound(b"", tag=_BLOB)))
            elif isinstance(value, str):
                high = max(high, _Bound(encode_value(_NUMERIC_TEXT_END, collation)), key=_Bound.ascending)
    if plan.blobs:
        intervals.append(_directed(part, _Bound(b"", tag=_BLOB), _Bound(b"", tag=_END)))
    return _merged([*intervals, _directed(part, low, high)])


def _directed(part: KeyPart, low: _Bound, high: _Bound) -> Interval:
    """An interval of values as an interval of key bytes."""
    if part.descending:
        return high.descending(), low.descending()
    return low.ascending(), high.ascending()


def _merged(intervals: list[Interval]) -> list[Interval]:
    """Ascending, disjoint and not empty."""
    merged: list[Interval] = []
    for low, high in sorted(intervals):
        if low >= high:
            continue
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return merged


def _as_rowid(given: Value) -> int | None:
    """The rowid equal to a value, if any."""
    value = compared(Affinity.INTEGER, given)
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return value if isinstance(value, int) and INT_MIN <= value <= INT_MAX else None


def _floor(value: float) -> int:
    return math.floor(value) if math.isfinite(value) else (INT_MAX if value > 0 else INT_MIN - 1)


def _ceiling(value: float) -> int:
    return math.ceil(value) if math.isfinite(value) else (INT_MAX + 1 if value > 0 else INT_MIN)
