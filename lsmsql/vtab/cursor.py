"""Cursor: one scan of a table, a block at a time.

`open_blocks` and `next_block` give the blocks of rows; Filter, Eof, Column, Next and Rowid walk them row by row as APSW asks.
A row that is not in memory yet is never touched: each call below is one comparison, one index or one step of an iterator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import apsw

from ..engine.kernel import BATCH_SEQNO
from ..errors import CorruptionError, HistoryError, UsageError
from .affinity import Affinity, Value, compared
from .key_codec_cy import encode_rowid
from .plan import Plan
from .planner import WIDE, snapshot_misused
from .ranges import Ranges, key_ranges, rowid_ranges
from .transaction import SharedView

if TYPE_CHECKING:
    from ..engine.database import Database
    from ..engine.read_view import ReadView
    from .table import Table

_FIRST_ROWS = 32  # fetched first, so that a short range does not pay for a whole block
_LOOKUPS = 128
_NONE: Iterator[Any] = iter(())  # exhausted for good


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


class PreparedPlan:
    """A plan and what every scan by it needs. bound: arguments of key ranges; point: whether it asks for one key and nothing else;
    timed: whether it shows when rows changed."""

    __slots__ = ("bound", "decoder", "plan", "point", "timed")

    def __init__(self, plan: Plan, table: Table) -> None:
        self.plan = plan
        self.decoder = table.decoder(plan.columns)
        self.bound = len(plan.equal) + bool(plan.lower) + bool(plan.upper)
        self.timed = len(table.schema.columns) + 1 in plan.columns
        whole = len(plan.equal) == len(table.parts) and "IS" not in plan.equal
        plain = not (plan.snapshot or plan.since or plan.limit or plan.offset or self.timed)
        self.point = whole and plain and len(table.schema.columns) < WIDE


def point_key(table: Table, args: Sequence[Any]) -> bytes | None:
    """The only key that a whole key's values ask for; None when it takes `ranges.py` to say."""
    keys = table.keys
    if keys is None:
        return encode_rowid(args[0]) if type(args[0]) is int else None  # type: ignore[no-any-return]
    if len(args) == 1:
        kind = type(args[0])
        if kind is bytes or (kind is int if table.parts[0].exact else kind is str):
            return keys.encode(args)  # type: ignore[no-any-return]
        return None
    for part, value in zip(table.parts, args, strict=True):
        kind = type(value)
        if value is None or (kind is str if part.exact else kind is int or kind is float):
            return None
    return keys.encode(args)  # type: ignore[no-any-return]


class Cursor:
    """What SQLite walks. Between Filter and Close it holds a read view. `mark`: where its view of the pending batch ends."""

    _shared: SharedView | None = None
    _past: ReadView | None = None
    _blocks: Iterator[Rows] = _NONE
    _rows: Iterator[list[Any]] = _NONE
    _row: list[Any] | None = None
    _skip = 0
    _left: int | None = None
    _aborted = False
    mark = 0

    def __init__(self, table: Table) -> None:
        self._table = table

    # Blocks

    def open_blocks(self, _idx_num: int, idx_str: str, args: Sequence[Any]) -> None:
        """Start the scan that a plan's text and argument values describe."""
        if self._shared is not None or self._past is not None:
            self.Close()
        table = self._table
        prepared = self._prepared = table.prepared(idx_str)
        plan, bound = prepared.plan, prepared.bound
        snapshot, since = None, 0
        self._skip, self._left = 0, None
        if len(args) > bound:
            others = iter(args[bound:])
            snapshot = next(others) if plan.snapshot else None
            since = _since(plan.since, next(others)) if plan.since else 0
            limit = next(others) if plan.limit else -1
            self._left = limit if limit >= 0 else None
            self._skip = max(0, next(others)) if plan.offset else 0
        self._decoder = prepared.decoder if snapshot is None else table.decoder(plan.columns, snapshot)
        ranges = rowid_ranges(plan, args[:bound]) if table.keys is None else key_ranges(table.parts, plan, args[:bound])
        table.reads_history = False
        if not plan.snapshot:
            self._shared = table.transaction.acquire_view()
            self._blocks = self._fetch(self._shared.view, prepared, ranges, since)
            if len(table.schema.columns) >= WIDE:
                self.Column = self._wide_column  # type: ignore[method-assign]
        elif snapshot is None:
            self._blocks = iter(())
        else:
            self._past = open_history(table.engine, snapshot)
            self._blocks = self._fetch(self._past, prepared, ranges, since)
            self.Column = self._past_column  # type: ignore[method-assign]
            self.Rowid = self._past_rowid  # type: ignore[method-assign]

    def next_block(self) -> Rows | None:
        """The next block, None at the end."""
        if self._aborted:
            raise apsw.AbortError("abort due to ROLLBACK")
        return next(self._blocks, None)

    def _fetch(self, view: ReadView, prepared: PreparedPlan, ranges: Ranges, since: int) -> Iterator[Rows]:
        """The blocks of all ranges, in the plan's order."""
        transaction = self._table.transaction
        batch = None
        if self._past is None:
            batch, self.mark = transaction.pending()
            if batch is not None:
                transaction.add_reader(self)
        plan = prepared.plan
        reverse = plan.order == "reverse"
        timed = since > 0 or prepared.timed
        if ranges.keys is not None and not timed:
            return self._look_up(view, ranges.keys[::-1] if reverse else ranges.keys, batch)
        intervals: Sequence[tuple[bytes | None, bytes | None]] = ranges.intervals
        if ranges.keys is not None:
            intervals = [(key, key + b"\0") for key in ranges.keys]
        blocks = self._scan(view, intervals[::-1] if reverse else intervals, batch, reverse, since, timed)
        return blocks if ranges.precise or not plan.skip else self._sorted(blocks, plan, timed)

    def _look_up(self, view: ReadView, keys: Sequence[bytes], batch: Any) -> Iterator[Rows]:
        tree = self._table.tree
        if len(keys) == 1:
            value = view.get(tree, keys[0], batch, self.mark) if batch is not None else view.get(tree, keys[0])
            if value is not None:
                yield _Found([(keys[0], value)])
            return
        for start in range(0, len(keys), _LOOKUPS):
            some = keys[start : start + _LOOKUPS]
            values = view.get_many(tree, some) if batch is None else [view.get(tree, key, batch, self.mark) for key in some]
            found = [(key, value) for key, value in zip(some, values, strict=True) if value is not None]
            if found:
                yield _Found(found)

    def _scan(
        self, view: ReadView, intervals: Sequence[tuple[bytes | None, bytes | None]], batch: Any, reverse: bool, since: int, timed: bool
    ) -> Iterator[Rows]:
        tree = self._table.tree
        mark = self.mark if batch is not None else None
        for lower, upper in intervals:
            scan = view.scan(tree, lower, upper, reverse=reverse, since=since, batch=batch, mark=mark)
            try:
                if not timed and (lower is not None or upper is not None):
                    pairs = scan.fill(_FIRST_ROWS)
                    if pairs:
                        yield _Found(pairs)
                    if len(pairs) < _FIRST_ROWS:
                        continue
                while (block := scan.next_block()) is not None:
                    yield block
            finally:
                scan.close()

    def _sorted(self, blocks: Iterator[Rows], plan: Plan, timed: bool) -> Iterator[Rows]:
        """All rows at once, ordered by the key behind the parts that turned out not to be fixed."""
        codec = self._table.keys
        assert codec is not None  # a rowid is exact
        rows: list[tuple[bytes, bytes, int]] = []
        for block in blocks:
            keys = block.keys()
            rows += list(zip(keys, block.values(), block.seqnos() if timed else [0] * len(keys), strict=True))
        rows.sort(key=lambda row: row[0][codec.split(row[0], plan.skip) :], reverse=plan.order == "reverse")
        if rows:
            yield _Sorted(rows)

    def _decode(self, block: Rows) -> list[list[Any]]:
        try:
            if self._prepared.timed:
                seqnos = [seqno if seqno < BATCH_SEQNO else None for seqno in block.seqnos()]  # pending rows have none yet
                return self._decoder.rows(block.keys(), block.values(), seqnos)  # type: ignore[no-any-return]
            return self._decoder.rows(block.keys(), block.values())  # type: ignore[no-any-return]
        except ValueError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: ValueError) -> CorruptionError:
        table = self._table
        return CorruptionError(table.engine.path, None, f"a row of table {table.schema.name} cannot be read: {error}")

    # What APSW calls

    def Filter(self, idx_num: int, idx_str: str, args: Sequence[Any]) -> None:
        prepared = self._prepared = self._table.prepared(idx_str)
        if prepared.point:
            key = point_key(self._table, args)
            if key is not None:
                self._look_up_one(prepared, key)
                return
        self.open_blocks(idx_num, idx_str, args)
        self._next_rows()

    def _look_up_one(self, prepared: PreparedPlan, key: bytes) -> None:
        """What `open_blocks` and the first `next_block` come to for one key."""
        if self._shared is not None or self._past is not None:
            self.Close()
        table = self._table
        transaction, tree = table.transaction, table.tree
        table.reads_history = False
        shared = self._shared = transaction.acquire_view()
        batch, mark = transaction.pending()
        value = shared.view.get(tree, key) if batch is None else shared.view.get(tree, key, batch, mark)
        self._left = 0  # nothing after it
        try:
            self._row = None if value is None else prepared.decoder.row(key, value)
        except ValueError as error:
            raise self._damaged(error) from error

    def Eof(self) -> bool:
        return self._row is None

    def Next(self) -> None:
        self._row = next(self._rows, None)
        if self._row is None:
            self._next_rows()

    def _next_rows(self) -> None:
        """Step to the first row of the next block that has one to show."""
        self._row = None
        while self._left != 0 and (block := self.next_block()) is not None:
            rows = self._decode(block)
            if self._skip:
                skipped = min(self._skip, len(rows))
                self._skip -= skipped
                rows = rows[skipped:]
            if self._left is not None:
                rows = rows[: self._left]
                self._left -= len(rows)
            if rows:
                self._rows = iter(rows)
                self._row = next(self._rows)
                return

    def Column(self, number: int) -> Any:
        return self._row[number]  # type: ignore[index]

    def ColumnNoChange(self, _number: int) -> Any:
        return apsw.no_change  # UPDATE reads the old row itself.

    def Rowid(self) -> int:
        return self._row[-1]  # type: ignore[index]

    def _wide_column(self, number: int) -> Any:
        """The planner cannot see whether a wide table's `_snapshot` is read, so it is seen here."""
        if number == len(self._table.schema.columns):
            raise snapshot_misused(self._table.schema)
        return self._row[number]  # type: ignore[index]

    def _past_column(self, number: int) -> Any:
        if number == len(self._table.schema.columns) + 2:
            self._table.reads_history = True
        return self._row[number]  # type: ignore[index]

    def _past_rowid(self) -> int:
        self._table.reads_history = True
        return self._row[-1]  # type: ignore[index]

    def Close(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            if self.mark:
                self._table.transaction.remove_reader(self)
                self.mark = 0
            self._table.transaction.release_view(shared)
        if self._blocks is not _NONE:
            self._blocks = self._rows = _NONE
            self._row = None
            self._aborted = False
            past, self._past = self._past, None
            if past is not None:
                past.close()
            self.__dict__.pop("Column", None)
            self.__dict__.pop("Rowid", None)

    def abort(self) -> None:
        """The changes this cursor reads through are rolled back."""
        self._aborted = True
        self._blocks = iter(())


def open_history(engine: Database, moment: Value) -> ReadView:
    """The view that a value of `_snapshot` names: a seqno, or a named snapshot."""
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
