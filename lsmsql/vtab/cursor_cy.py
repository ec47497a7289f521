# cython: language_level=3
"""Cursor: one scan of a table, walked row by row as SQLite asks.

`open_blocks` and `next_block` give the blocks of rows (blocks.py); Filter, Eof, Column, Next and Rowid walk them. Each of those is one
comparison, one index or one step of an iterator, and a lookup of one key makes no block at all.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from lsmsql import _cython as cython

import apsw

from lsmsql.engine.kernel import BATCH_SEQNO, Kind
from lsmsql.vtab.blocks import Blocks, open_history
from lsmsql.vtab.key_codec_cy import encode_rowid
from lsmsql.vtab.planner import WIDE, snapshot_misused

_NOTHING = iter(())
_VALUE = int(Kind.VALUE)


@cython.cclass
class PreparedPlan:
    """A plan and what every scan by it needs. bound: arguments of key ranges; point: whether it asks for one key and nothing else;
    timed: whether it shows when rows changed (as any UPDATE's seems to)."""

    plan = cython.declare(object, visibility="readonly")
    decoder = cython.declare(object, visibility="readonly")
    bound = cython.declare(cython.Py_ssize_t, visibility="readonly")
    point = cython.declare(cython.bint, visibility="readonly")
    timed = cython.declare(cython.bint, visibility="readonly")
    _keys: object
    _exact: tuple
    _parts: cython.Py_ssize_t

    def __init__(self, plan, table):
        self.plan = plan
        self.decoder = table.decoder(plan.columns)
        self.bound = len(plan.equal) + bool(plan.lower) + bool(plan.upper)
        self.timed = len(table.schema.columns) + 1 in plan.columns
        whole = len(plan.equal) == len(table.parts) and "IS" not in plan.equal
        plain = not (plan.snapshot or plan.since or plan.limit or plan.offset)
        self.point = whole and plain and len(table.schema.columns) < WIDE
        self._keys = table.keys
        self._exact = tuple(part.exact for part in table.parts)
        self._parts = len(self._exact)

    def point_key(self, args):
        """The only key that a whole key's values ask for; None when it takes `ranges.py` to say."""
        if self._keys is None:
            return encode_rowid(args[0]) if type(args[0]) is int else None
        for place in range(self._parts):
            value = args[place]
            kind = type(value)
            if kind is not bytes and (value is None or (kind is str if self._exact[place] else kind is int or kind is float)):
                return None
        return self._keys.encode(args)


def look_up(transaction, shared, tree, key, timed: cython.bint):
    """(value, seqno) that a cursor opened now finds for a key in a view. value: None for no row; seqno: None for a pending row, or if not timed."""
    if transaction.pending.batch is not None:
        batch, mark = transaction.pending_now()
        if batch is not None:
            found = batch.operations.get(tree.id, key, mark)
            if found is not None:
                return (found[1] if found[0] == _VALUE else None), None
    if not timed:
        return shared.get(tree, key), None
    return shared.get_timed(tree, key) or (None, None)


@cython.cclass
class Cursor:
    """What SQLite walks. Between Filter and Close it holds a read view. `mark`: where its view of the pending batch ends, 0 for none.

    For whom walks the scans of `open_sources` himself: skip and left, the rows to leave out first and how many to show then (None: all);
    snapshot, the value of `_snapshot`; timed, whether rows show when they changed; watched, whether `watch` has to be told of what is
    read; aborted, whether `next_block` will raise.
    """

    mark = cython.declare(cython.Py_ssize_t, visibility="readonly")
    skip = cython.declare(object, visibility="readonly")
    left = cython.declare(object, visibility="readonly")
    snapshot = cython.declare(object, visibility="readonly")
    timed = cython.declare(cython.bint, visibility="readonly")
    aborted = cython.declare(cython.bint, visibility="readonly")
    watched = cython.declare(cython.bint, visibility="readonly")  # columns that tell of the past, or may not be read, are looked at one by one
    _table: object
    _transaction: object
    _prepared: PreparedPlan
    _decoder: object
    _shared: object  # the SharedView it reads at
    _past: object  # or the view of an earlier moment
    _blocks: object
    _rows: object
    _row: object

    def __init__(self, table):
        self._table = table
        self._transaction = table.transaction
        self._prepared = self._decoder = self._shared = self._past = self._rows = self._row = self.skip = self.left = self.snapshot = None
        self._blocks = _NOTHING
        self.mark = 0
        self.aborted = self.watched = self.timed = False

    # Blocks

    def open_blocks(self, _idx_num, idx_str, args):
        """Start the scan that a plan's text and argument values describe."""
        self._open(idx_str, args, False)

    def open_sources(self, idx_str, args):
        """As `open_blocks`, but `next_block` gives what the blocks come from (blocks.py)."""
        self._open(idx_str, args, True)

    def _open(self, idx_str, args, whole):
        self.Close()
        table = self._table
        prepared: PreparedPlan = table.prepared(idx_str)
        self._prepared = prepared
        blocks = Blocks(table, prepared.plan, prepared.bound, args)
        self.skip, self.left, self.snapshot, self.timed = blocks.skip, blocks.limit, blocks.snapshot, prepared.timed
        read = blocks.sources if whole else blocks.read
        self._decoder = prepared.decoder if blocks.snapshot is None else table.decoder(prepared.plan.columns, blocks.snapshot)
        table.reads_history = False
        if not prepared.plan.snapshot:
            self._shared = self._transaction.acquire_view(table.schema_name)
            batch, self.mark = self._transaction.pending_now()
            if batch is not None:
                self._transaction.pending.add_reader(self)
            self._blocks = read(self._shared.view, batch, self.mark, timed=prepared.timed)
            self.watched = len(table.schema.columns) >= WIDE
        elif blocks.snapshot is not None:
            self._past = open_history(table.engine, blocks.snapshot)
            self._blocks = read(self._past, timed=prepared.timed)
            self.watched = True

    def next_block(self):
        """The next block, None at the end."""
        if self.aborted:
            raise apsw.AbortError("abort due to ROLLBACK")
        return next(self._blocks, None)

    def _decode(self, block):
        try:
            if self._prepared.timed:
                seqnos = [seqno if seqno < BATCH_SEQNO else None for seqno in block.seqnos()]  # pending rows have none yet
                return self._decoder.rows(block.keys(), block.values(), seqnos)
            return self._decoder.rows(block.keys(), block.values())
        except ValueError as error:
            raise self._table.damaged(error) from error

    # What APSW calls

    def Filter(self, idx_num, idx_str, args):
        prepared: PreparedPlan = self._table.prepared(idx_str)
        if prepared.point:
            key = prepared.point_key(args)
            if key is not None:
                self._look_up(prepared, key)
                return
        self.open_blocks(idx_num, idx_str, args)
        self._next_rows()

    @cython.cfunc
    def _look_up(self, prepared: PreparedPlan, key):
        """What `open_blocks` and the first `next_block` come to for one key."""
        if self._shared is not None or self._past is not None:
            self.Close()
        table, transaction = self._table, self._transaction
        table.reads_history = False
        self._prepared = prepared
        self._shared = shared = transaction.acquire_view(table.schema_name)
        self.left = 0  # nothing after it
        value, seqno = look_up(transaction, shared, table.tree, key, prepared.timed)
        try:
            self._row = None if value is None else prepared.decoder.row(key, value, seqno)
        except ValueError as error:
            raise self._table.damaged(error) from error

    def Eof(self):
        return self._row is None

    def Next(self):
        self._row = None if self._rows is None else next(self._rows, None)
        if self._row is None:
            self._next_rows()

    def _next_rows(self):
        """Step to the first row of the next block that has one to show."""
        self._row = None
        while self.left != 0 and (block := self.next_block()) is not None:
            rows = self._decode(block)
            if self.skip:
                skipped = min(self.skip, len(rows))
                self.skip -= skipped
                rows = rows[skipped:]
            if self.left is not None:
                rows = rows[: self.left]
                self.left -= len(rows)
            if rows:
                self._rows = iter(rows)
                self._row = next(self._rows)
                return

    def Column(self, number):
        if self.watched:
            self.watch(number)
        return self._row[number]

    def watch(self, number):
        """A column is read. UsageError for one that may not be."""
        hidden = number - len(self._table.schema.columns)
        if self._past is not None:
            if hidden == 2:
                self._table.reads_history = True
        elif hidden == 0:  # The planner cannot see whether a wide table's `_snapshot` is read, so it is seen here.
            raise snapshot_misused(self._table.schema)

    def ColumnNoChange(self, _number):
        return apsw.no_change  # UPDATE reads the old row itself.

    def watch_rowid(self):
        """The row's rowid is read."""
        if self._past is not None:
            self._table.reads_history = True

    def Rowid(self):
        self.watch_rowid()
        return self._row[-1]

    def Close(self):
        shared = self._shared
        if shared is not None:
            self._shared = None
            if self.mark:
                self._transaction.pending.remove_reader(self)
                self.mark = 0
            self._transaction.views.release(shared)
        self._row = self._rows = None
        if self._blocks is not _NOTHING:
            self._blocks = _NOTHING
            past, self._past = self._past, None
            if past is not None:
                past.close()
            self.aborted = self.watched = False

    def abort(self):
        """The changes this cursor reads through are rolled back."""
        self.aborted = True
        self._blocks = iter(())
