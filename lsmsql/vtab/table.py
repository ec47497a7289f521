"""Table: one lsm table of one connection, as SQLite's virtual table protocol sees it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import apsw

from ..errors import CorruptionError, UsageError
from .affinity import INT_MAX, Value
from .catalog import Catalog
from .cursor_cy import Cursor, PreparedPlan
from .key_codec_cy import decode_rowid, encode_rowid
from .plan import Plan, key_parts
from .planner import Constraint, choose, operator_name
from .row_codec_cy import RowDecoder
from .row_writer import RowWriter, SkipRow, as_rowid
from .schema import TableSchema
from .sqlite_errors import obeys_conflict_clause

if TYPE_CHECKING:
    from ..engine.tree import Tree
    from .session import Session
    from .transaction import Transaction

_NO_HIDDEN = (None, None, None)
_CACHED = 256  # plans kept for each table
_LIMITS = (apsw.SQLITE_INDEX_CONSTRAINT_LIMIT, apsw.SQLITE_INDEX_CONSTRAINT_OFFSET)


class Table:
    """reads_history: the last cursor that told SQLite which row it stands on reads the past (so the row may not be changed)."""

    def __init__(self, session: Session, schema_name: str, schema: TableSchema, tree: Tree, transaction: Transaction) -> None:
        self.session = session
        self.schema_name = schema_name
        self.tree = tree
        self.transaction = transaction
        self.engine = transaction.engine
        self.reads_history = False
        self._connection = transaction.connection
        self._joining = False
        self._last_rowid: int | None = None
        self._last_rowid_serial = -1
        self._set_schema(schema)

    def _set_schema(self, schema: TableSchema) -> None:
        self.schema = schema
        self.parts = key_parts(schema)
        self._writer = RowWriter(schema)
        self.keys = self._writer.keys
        self._prepared: dict[str, PreparedPlan] = {}
        self.all_columns = self._writer.decoder(range(len(schema.columns)))

    # Reading

    def BestIndexObject(self, info: apsw.IndexInfo) -> bool:
        constraints = [
            Constraint(
                info.get_aConstraint_iColumn(i),
                operator_name(op := info.get_aConstraint_op(i)),
                info.get_aConstraint_usable(i),
                "BINARY" if op in _LIMITS or info.get_aConstraint_iColumn(i) < 0 else info.get_aConstraint_collation(i).upper(),
                info.get_aConstraintUsage_in(i),
            )
            for i in range(info.nConstraint)
        ]
        orders = [(info.get_aOrderBy_iColumn(i), info.get_aOrderBy_desc(i)) for i in range(info.nOrderBy)]
        choice = choose(self.schema, constraints, orders, frozenset(info.colUsed), push_down=self.session.push_down)
        if choice is None:
            return False
        for position, number in enumerate(choice.arguments):
            info.set_aConstraintUsage_argvIndex(number, position + 1)
            info.set_aConstraintUsage_omit(number, number in choice.omit)
        info.idxStr = choice.plan.to_text(self.schema)
        info.orderByConsumed = bool(choice.plan.order)
        info.estimatedRows = choice.rows
        info.estimatedCost = choice.cost
        if choice.unique:
            info.idxFlags = apsw.SQLITE_INDEX_SCAN_UNIQUE
        return True

    def prepared(self, text: str) -> PreparedPlan:
        """The plan that a text stands for, ready to run."""
        prepared = self._prepared.get(text)
        if prepared is None:
            if len(self._prepared) >= _CACHED:
                self._prepared.clear()
            prepared = self._prepared[text] = PreparedPlan(Plan.from_text(self.schema, text), self)
        return prepared

    def decoder(self, columns: tuple[int, ...], snapshot: Value = None) -> RowDecoder:
        return self._writer.decoder(columns, snapshot)

    def Open(self) -> Cursor:
        return Cursor(self)

    # Writing. Every change checks all it can before it touches the batch; what fails after that is undone here (see transaction.py).

    def UpdateInsertRow(self, rowid: int | None, fields: Sequence[Any]) -> int:
        try:
            return self._insert(rowid, fields)
        except SkipRow:
            self.session.given_rowid = before = self._connection.last_insert_rowid()
            return before
        except BaseException as error:
            self._undo(error)
            raise

    def UpdateDeleteRow(self, row: Any) -> None:
        try:
            self._refuse_history()
            if self.keys is not None:
                self.transaction.delete(self.tree, row)
            else:
                self.transaction.delete(self.tree, encode_rowid(row))
                if row == self._last_rowid:
                    self._last_rowid = None
        except BaseException as error:
            self._undo(error)
            raise

    def UpdateChangeRow(self, row: Any, new_row: Any, fields: Sequence[Any]) -> None:
        try:
            self._change(row, new_row, fields)
        except SkipRow:
            pass
        except BaseException as error:
            self._undo(error)
            raise

    def _undo(self, error: BaseException) -> None:
        fails = self._connection.vtab_on_conflict() == apsw.SQLITE_FAIL
        self.transaction.undo(keep=fails and obeys_conflict_clause(error))

    def _insert(self, rowid: int | None, fields: Sequence[Any]) -> int:
        mode = self._connection.vtab_on_conflict()
        writer, transaction = self._writer, self.transaction
        if fields[writer.count :] != _NO_HIDDEN:
            raise UsageError(f"lsm: hidden columns cannot be written: {self.schema.name}")
        if self.keys is not None:
            values = writer.insert_values(fields, mode)
            key = writer.key_of(values)
            result = self._connection.last_insert_rowid()  # There is no rowid, and whatever is returned becomes the last one.
            if mode != apsw.SQLITE_REPLACE and transaction.get(self.tree, key) is not None:
                self._conflict(mode)
            transaction.put(self.tree, key, writer.codec.encode(values))
            return result
        alias = self.schema.rowid_column
        given = rowid if alias is None or fields[alias] is None else fields[alias]
        wanted = None if given is None else as_rowid(given)
        values = writer.insert_values(fields, mode)
        new = self._next_rowid() if wanted is None else wanted
        key = encode_rowid(new)
        if wanted is not None and mode != apsw.SQLITE_REPLACE and transaction.get(self.tree, key) is not None:
            self._conflict(mode)
        transaction.put(self.tree, key, writer.codec.encode(values))
        if self._last_rowid is not None and new > self._last_rowid:
            self._last_rowid = new
        if rowid is not None or not new:
            self.session.given_rowid = new
        return new

    def _conflict(self, mode: int) -> None:
        """The key of a row to be written is taken. With OR REPLACE nothing has to be done: the row is overwritten."""
        if mode == apsw.SQLITE_IGNORE:
            raise SkipRow
        if mode != apsw.SQLITE_REPLACE:
            raise self._writer.not_unique(mode)

    def _change(self, row: Any, new_row: Any, fields: Sequence[Any]) -> None:
        mode = self._connection.vtab_on_conflict()
        self._refuse_history()
        writer, transaction = self._writer, self.transaction
        old_key = encode_rowid(row) if self.keys is None else row
        hidden = fields[writer.count :]
        if (self.keys is not None and new_row is not None and new_row != row) or any(
            field is not apsw.no_change and field != (old_key if i == 2 else None) for i, field in enumerate(hidden)
        ):
            raise UsageError(f"lsm: hidden columns cannot be written: {self.schema.name}")
        value = transaction.get(self.tree, old_key)
        if value is None or (mode == apsw.SQLITE_REPLACE and transaction.changed_by_statement(self.tree, old_key, value)):
            return  # An OR REPLACE earlier in this statement has taken its place.
        values = writer.update_values(self._decoded(old_key, value), fields, mode)
        key = writer.key_of(values) if self.keys is not None else encode_rowid(self._changed_rowid(row, new_row, fields))
        if key != old_key:
            if mode != apsw.SQLITE_REPLACE and transaction.get(self.tree, key) is not None:
                self._conflict(mode)
            self._last_rowid = None
        transaction.put(self.tree, key, writer.codec.encode(values))
        if key != old_key:
            transaction.delete(self.tree, old_key)  # Last: the put may fail.

    def _changed_rowid(self, row: int, new_row: Any, fields: Sequence[Any]) -> int:
        alias = self.schema.rowid_column
        if alias is not None and fields[alias] is not apsw.no_change and fields[alias] != row:
            return as_rowid(fields[alias])
        return row if new_row is None else as_rowid(new_row)

    def _decoded(self, key: bytes, value: bytes) -> list[Value]:
        try:
            return self.all_columns.rows([key], [value])[0]  # type: ignore[no-any-return]
        except ValueError as error:
            raise CorruptionError(self.engine.path, None, f"a row of table {self.schema.name} cannot be read: {error}") from error

    def _refuse_history(self) -> None:
        if self.reads_history:
            raise UsageError(f"lsm: the past cannot be changed; UPDATE and DELETE without _snapshot: {self.schema.name}")

    def _next_rowid(self) -> int:
        """One more than the largest rowid; when that is the largest there is, a random free one, as SQLite does."""
        transaction = self.transaction
        if self._last_rowid is None or self._last_rowid_serial != transaction.serial:
            key = transaction.last_key(self.tree)
            self._last_rowid = 0 if key is None else decode_rowid(key)
            self._last_rowid_serial = transaction.serial
        if self._last_rowid < INT_MAX:
            return self._last_rowid + 1
        for _ in range(100):
            rowid = random.randint(1, INT_MAX)
            if transaction.get(self.tree, encode_rowid(rowid)) is None:
                return rowid
        raise apsw.FullError("database or disk is full")

    # Transactions

    def Begin(self) -> None:
        self.transaction.begin(self)
        self._joining = True  # A Savepoint right now tells of levels that other tables know already.

    def Savepoint(self, level: int) -> None:
        self.transaction.savepoint(level, joining=self._joining)
        self._joining = False

    def Release(self, level: int) -> None:
        self.transaction.release(level)

    def RollbackTo(self, level: int) -> None:
        self.transaction.rollback_to(level)

    def Sync(self) -> None:
        self.transaction.sync(self)

    def Commit(self) -> None:
        self.transaction.commit(self)

    def Rollback(self) -> None:
        self.transaction.rollback(self)

    # Life

    def Disconnect(self) -> None:
        """The connection lets go of the table; the engine stays open for the others until the connection closes."""

    def Destroy(self) -> None:
        self.transaction.drop(self)
        Catalog(self._connection, self.schema_name).remove(self.schema.name)

    def Rename(self, name: str) -> None:
        Catalog(self._connection, self.schema_name).rename(self.schema.name, name)
