# cython: language_level=3
"""RowChanges: INSERT, UPDATE and DELETE of one table's rows, into what its transaction has pending.

Every change checks all it can before it touches the batch; what fails after that is undone here (see transaction.py).
"""

from __future__ import annotations

import random

try:
    import cython
except ModuleNotFoundError:
    from lsmsql import _cython as cython

import apsw

from lsmsql.errors import UsageError
from lsmsql.vtab.affinity import INT_MAX
from lsmsql.vtab.key_codec_cy import decode_rowid, encode_rowid
from lsmsql.vtab.row_writer_cy import SkipRow, as_rowid
from lsmsql.vtab.sqlite_errors import obeys_conflict_clause

_NO_HIDDEN = (None, None, None)
_REPLACE: cython.int = apsw.SQLITE_REPLACE


@cython.cclass
class RowChanges:
    """The changes of one lsm table through one connection; `writer` is the table's RowWriter."""

    _table: object
    _tree: object
    _transaction: object
    _pending: object
    _connection: object
    _session: object
    _writer: object
    _codec: object
    _keys: object  # None for a rowid table
    _count: cython.Py_ssize_t
    _all_columns: object
    _last_rowid: object  # the largest there is, None when it has to be looked up
    _last_rowid_serial: object

    def __init__(self, table, writer):
        self._table = table
        self._tree = table.tree
        self._transaction = table.transaction
        self._pending = table.transaction.pending
        self._connection = table.transaction.connection
        self._session = table.session
        self._writer = writer
        self._codec = writer.codec
        self._keys = writer.keys
        self._count = writer.count
        self._all_columns = writer.decoder(range(writer.count))
        self._last_rowid = None
        self._last_rowid_serial = -1

    # mode: what `vtab_on_conflict()` says in the statement. SkipRow: OR IGNORE leaves this row out.

    def insert(self, rowid, fields, mode: cython.int):
        """What UpdateInsertRow does: the rowid of the new row, or what last_insert_rowid() is to stay. SkipRow."""
        try:
            if self._keys is None:
                return self._insert_by_rowid(rowid, fields, mode)
            return self._insert_by_key(fields, mode)
        except SkipRow:
            raise
        except BaseException as error:
            self._undo(error, mode)
            raise

    def put_new(self, key, value, mode: cython.int):
        """What `insert` does with the row of a keyed table that was converted, checked and encoded elsewhere. SkipRow."""
        try:
            if mode != _REPLACE and self._pending.get(self._tree, key) is not None:
                self._conflict(mode)
            self._pending.put(self._tree, key, value)
        except SkipRow:
            raise
        except BaseException as error:
            self._undo(error, mode)
            raise

    def put_numbered(self, rowid, value, mode: cython.int):
        """The same for a rowid table: the rowid of the new row. rowid: None for a new one. SkipRow."""
        try:
            return self._put_numbered(rowid, value, mode)
        except SkipRow:
            raise
        except BaseException as error:
            self._undo(error, mode)
            raise

    def delete(self, row, mode: cython.int):
        """What UpdateDeleteRow does."""
        try:
            self._refuse_history()
            if self._keys is not None:
                self._pending.delete(self._tree, row)
            else:
                self._pending.delete(self._tree, encode_rowid(row))
                if row == self._last_rowid:
                    self._last_rowid = None
        except BaseException as error:
            self._undo(error, mode)
            raise

    def change(self, row, new_row, fields, mode: cython.int):
        """What UpdateChangeRow does. SkipRow."""
        try:
            self._change(row, new_row, fields, mode)
        except SkipRow:
            raise
        except BaseException as error:
            self._undo(error, mode)
            raise

    def _undo(self, error, mode):
        fails = mode == apsw.SQLITE_FAIL
        self._transaction.undo(keep=fails and obeys_conflict_clause(error))

    @cython.cfunc
    def _insert_by_key(self, fields, mode: cython.int):
        self._refuse_hidden(fields)
        values = self._writer.insert_values(fields, mode)
        key = self._writer.key_of(values)
        result = self._connection.last_insert_rowid()  # There is no rowid, and whatever is returned becomes the last one.
        if mode != _REPLACE and self._pending.get(self._tree, key) is not None:
            self._conflict(mode)
        self._pending.put(self._tree, key, self._codec.encode(values))
        return result

    @cython.cfunc
    def _insert_by_rowid(self, rowid, fields, mode: cython.int):
        self._refuse_hidden(fields)
        alias = self._table.schema.rowid_column
        given = rowid if alias is None or fields[alias] is None else fields[alias]
        wanted = None if given is None else as_rowid(given)
        values = self._writer.insert_values(fields, mode)
        new = self._put_numbered(wanted, self._codec.encode(values), mode)
        if rowid is not None or not new:
            self._session.given_rowid = new
        return new

    @cython.cfunc
    def _put_numbered(self, rowid, value, mode: cython.int):
        new = self._next_rowid() if rowid is None else rowid
        key = encode_rowid(new)
        if rowid is not None and mode != _REPLACE and self._pending.get(self._tree, key) is not None:
            self._conflict(mode)
        self._pending.put(self._tree, key, value)
        if self._last_rowid is not None and new > self._last_rowid:
            self._last_rowid = new
        return new

    @cython.cfunc
    def _refuse_hidden(self, fields):
        if fields[self._count :] != _NO_HIDDEN:
            raise UsageError(f"lsm: hidden columns cannot be written: {self._table.schema.name}")

    def _conflict(self, mode):
        """The key of a row to be written is taken. With OR REPLACE nothing has to be done: the row is overwritten."""
        if mode == apsw.SQLITE_IGNORE:
            raise SkipRow
        if mode != apsw.SQLITE_REPLACE:
            raise self._writer.not_unique(mode)

    def _change(self, row, new_row, fields, mode):
        self._refuse_history()
        pending, tree, writer = self._pending, self._tree, self._writer
        old_key = encode_rowid(row) if self._keys is None else row
        hidden = fields[self._count :]
        if (self._keys is not None and new_row is not None and new_row != row) or any(
            [field is not apsw.no_change and field != (old_key if i == 2 else None) for i, field in enumerate(hidden)]
        ):
            raise UsageError(f"lsm: hidden columns cannot be written: {self._table.schema.name}")
        value = pending.get(tree, old_key)
        if value is None or (mode == apsw.SQLITE_REPLACE and self._transaction.changed_by_statement(tree, old_key, value)):
            return  # An OR REPLACE earlier in this statement has taken its place.
        values = writer.update_values(self._decoded(old_key, value), fields, mode)
        key = writer.key_of(values) if self._keys is not None else encode_rowid(self._changed_rowid(row, new_row, fields))
        if key != old_key:
            if mode != apsw.SQLITE_REPLACE and pending.get(tree, key) is not None:
                self._conflict(mode)
            self._last_rowid = None
        pending.put(tree, key, self._codec.encode(values))
        if key != old_key:
            pending.delete(tree, old_key)  # Last: the put may fail.

    def _changed_rowid(self, row, new_row, fields):
        alias = self._table.schema.rowid_column
        if alias is not None and fields[alias] is not apsw.no_change and fields[alias] != row:
            return as_rowid(fields[alias])
        return row if new_row is None else as_rowid(new_row)

    def _decoded(self, key, value):
        try:
            return self._all_columns.row(key, value)
        except ValueError as error:
            raise self._table.damaged(error) from error

    def _rowid_of(self, key):
        try:
            return decode_rowid(key)
        except ValueError as error:
            raise self._table.damaged(error) from error

    def _refuse_history(self):
        if self._table.reads_history:
            raise UsageError(f"lsm: the past cannot be changed; UPDATE and DELETE without _snapshot: {self._table.schema.name}")

    def _next_rowid(self):
        """One more than the largest rowid; when that is the largest there is, a random free one, as SQLite does."""
        serial = self._pending.serial
        if self._last_rowid is None or self._last_rowid_serial != serial:
            key = self._transaction.last_key(self._tree)
            self._last_rowid = 0 if key is None else self._rowid_of(key)
            self._last_rowid_serial = serial
        if self._last_rowid < INT_MAX:
            return self._last_rowid + 1
        for _ in range(100):
            rowid = random.randint(1, INT_MAX)
            if self._pending.get(self._tree, encode_rowid(rowid)) is None:
                return rowid
        raise apsw.FullError("database or disk is full")
