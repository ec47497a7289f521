"""Blocks: the rows that a plan and its argument values ask for, a block at a time (what `open_blocks` and `next_block` give).

A row that is not in memory yet is never touched: a block is what the engine's scan gives, or what lookups by key have found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..engine.kernel import Scan
from ..errors import HistoryError, UsageError
from .affinity import Affinity, Value, compared
from .plan import Plan
from .ranges import key_ranges, rowid_ranges

if TYPE_CHECKING:
    from ..engine.read_view import ReadView, View
    from .engines import Engine
    from .table import Table

_FIRST_ROWS = 32  # fetched first, so that a short range does not pay for a whole block
_LOOKUPS = 128


class Rows(Protocol):
    """A block: parallel lists of rows in scan order."""

    def keys(self) -> list[bytes]: ...
    def values(self) -> list[bytes]: ...
    def seqnos(self) -> list[int]: ...


class _Found:
    """A block made of separate lookups."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs

    def keys(self) -> list[bytes]:
        return [key for key, _ in self._pairs]

    def values(self) -> list[bytes]:
        return [value for _, value in self._pairs]

    def seqnos(self) -> list[int]:
        return []


class _Sorted:
    """A block made of rows that had to be sorted."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Sequence[tuple[bytes, bytes, int]]) -> None:
        self._rows = rows

    def keys(self) -> list[bytes]:
        return [row[0] for row in self._rows]

    def values(self) -> list[bytes]:
        return [row[1] for row in self._rows]

    def seqnos(self) -> list[int]:
        return [row[2] for row in self._rows]


class Blocks:
    """The blocks of one scan, in the plan's order. It reads in `view`, and through the first `mark` operations of `batch` if there is one.

    skip, limit: rows to leave out first, and how many to show then (None: all); snapshot: the value of `_snapshot`; since: only rows changed
    after this seqno.
    """

    __slots__ = ("_batch", "_bounded", "_mark", "_plan", "_table", "_timed", "_view", "limit", "ranges", "since", "skip", "snapshot")

    def __init__(self, table: Table, plan: Plan, bound: int, args: Sequence[Any]) -> None:
        """bound: how many of the arguments are for key ranges."""
        self._table = table
        self._plan = plan
        self.snapshot: Value = None
        self.since = self.skip = 0
        self.limit: int | None = None
        if len(args) > bound:
            others = iter(args[bound:])
            self.snapshot = next(others) if plan.snapshot else None
            self.since = _since(plan.since, next(others)) if plan.since else 0
            limit = next(others) if plan.limit else -1
            self.limit = limit if limit >= 0 else None
            self.skip = max(0, next(others)) if plan.offset else 0
        self.ranges = rowid_ranges(plan, args[:bound]) if table.keys is None else key_ranges(table.parts, plan, args[:bound])

    def read(self, view: View, batch: Any = None, mark: int = 0, *, timed: bool) -> Iterator[Rows]:
        """timed: whether the blocks have to know when rows changed."""
        for source in self.sources(view, batch, mark, timed=timed):
            if isinstance(source, Scan):
                yield from self._blocks_of(source)
            else:
                yield source

    def sources(self, view: View, batch: Any = None, mark: int = 0, *, timed: bool) -> Iterator[Rows | Scan]:
        """What the blocks come from: the engine's scans, each closed when the next one is asked for, or blocks that were made otherwise."""
        self._view, self._batch, self._mark = view, batch, mark
        self._timed = timed = timed or self.since > 0
        ranges = self.ranges
        reverse = self._plan.order == "reverse"
        if ranges.keys is not None and not timed:
            return self._look_up(ranges.keys[::-1] if reverse else ranges.keys)
        intervals: Sequence[tuple[bytes | None, bytes | None]] = ranges.intervals
        if ranges.keys is not None:
            intervals = [(key, key + b"\0") for key in ranges.keys]
        scans = self._scans(intervals[::-1] if reverse else intervals, reverse)
        return scans if ranges.precise or not self._plan.skip else self._sorted(scans)

    def _look_up(self, keys: Sequence[bytes]) -> Iterator[Rows]:
        view, tree, batch = self._view, self._table.tree, self._batch
        for start in range(0, len(keys), _LOOKUPS):
            some = keys[start : start + _LOOKUPS]
            values = view.get_many(tree, some) if batch is None else [view.get(tree, key, batch, self._mark) for key in some]
            found = [(key, value) for key, value in zip(some, values, strict=True) if value is not None]
            if found:
                yield _Found(found)

    def _scans(self, intervals: Sequence[tuple[bytes | None, bytes | None]], reverse: bool) -> Iterator[Scan]:
        tree, batch = self._table.tree, self._batch
        mark = self._mark if batch is not None else None
        for lower, upper in intervals:
            self._bounded = lower is not None or upper is not None
            scan = self._view.scan(tree, lower, upper, reverse=reverse, since=self.since, batch=batch, mark=mark)
            try:
                yield scan
            finally:
                scan.close()

    def _blocks_of(self, scan: Scan) -> Iterator[Rows]:
        if not self._timed and self._bounded:
            pairs = scan.fill(_FIRST_ROWS)
            if pairs:
                yield _Found(pairs)
            if len(pairs) < _FIRST_ROWS:
                return
        while (block := scan.next_block()) is not None:
            yield block

    def _sorted(self, scans: Iterator[Scan]) -> Iterator[Rows]:
        """All rows at once, ordered by the key behind the parts that turned out not to be fixed."""
        codec = self._table.keys
        assert codec is not None  # a rowid is exact
        rows: list[tuple[bytes, bytes, int]] = []
        for block in (block for scan in scans for block in self._blocks_of(scan)):
            keys = block.keys()
            rows += list(zip(keys, block.values(), block.seqnos() if self._timed else [0] * len(keys), strict=True))
        rows.sort(key=lambda row: row[0][codec.split(row[0], self._plan.skip) :], reverse=self._plan.order == "reverse")
        if rows:
            yield _Sorted(rows)


def open_history(engine: Engine, moment: Value) -> ReadView:
    """The view that a value of `_snapshot` names: a seqno, or a named snapshot."""
    engine.refresh()
    if isinstance(moment, int):
        return engine.read_view(moment)
    if isinstance(moment, str):
        seqno = engine.snapshots().get(moment)
        if seqno is None:
            raise HistoryError(f"lsm: there is no snapshot named {moment!r}")
        return engine.read_view(seqno)
    raise UsageError(f"lsm: _snapshot is a seqno or the name of a snapshot, not {moment!r}")


def _since(operator: str, value: Value) -> int:
    """The seqno after which all rows lie that `_seqno <operator> value` lets through; SQLite checks them again."""
    number = compared(Affinity.INTEGER, value)
    if isinstance(number, int | float) and math.isfinite(number):
        after = math.floor(number) if operator == ">" else math.ceil(number) - 1
        return min(max(0, after), (1 << 63) - 1)
    return 0
