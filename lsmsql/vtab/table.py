"""Table: one lsm table of one connection, as SQLite's virtual table protocol sees it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import apsw

from ..errors import CorruptionError
from .affinity import Value
from .catalog import Catalog
from .cursor_cy import Cursor, PreparedPlan
from .plan import Plan, key_parts
from .planner import Choice, Constraint, choose, operator_name
from .row_changes_cy import RowChanges
from .row_codec_cy import RowDecoder
from .row_writer_cy import RowWriter, SkipRow
from .schema import TableSchema

if TYPE_CHECKING:
    from ..engine.tree import Tree
    from .session import Session
    from .transaction import Transaction

_CACHED = 256  # plans kept for each table
_LIMITS = (apsw.SQLITE_INDEX_CONSTRAINT_LIMIT, apsw.SQLITE_INDEX_CONSTRAINT_OFFSET)


class Table:
    """writer: converts, checks and encodes rows; changes: carries out INSERT, UPDATE and DELETE.
    reads_history: the last cursor that told SQLite which row it stands on reads the past (so the row may not be changed)."""

    def __init__(self, session: Session, schema_name: str, schema: TableSchema, tree: Tree, transaction: Transaction) -> None:
        self.session = session
        self.schema_name = schema_name
        self.tree = tree
        self.transaction = transaction
        self.engine = transaction.engine
        self.reads_history = False
        self._connection = transaction.connection
        self._joining = False
        self.schema = schema
        self.parts = key_parts(schema)
        self.writer = RowWriter(schema)
        self.keys = self.writer.keys
        self._choices: dict[object, tuple[Choice, str] | None] = {}
        self._prepared: dict[str, PreparedPlan] = {}
        self.changes = RowChanges(self, self.writer)

    # Reading

    def BestIndexObject(self, info: apsw.IndexInfo) -> bool:
        constraints = tuple(
            (
                column := info.get_aConstraint_iColumn(i),
                op := info.get_aConstraint_op(i),
                info.get_aConstraint_usable(i),
                "BINARY" if op in _LIMITS or column < 0 else info.get_aConstraint_collation(i).upper(),
                info.get_aConstraintUsage_in(i),
            )
            for i in range(info.nConstraint)
        )
        orders = tuple((info.get_aOrderBy_iColumn(i), info.get_aOrderBy_desc(i)) for i in range(info.nOrderBy))
        chosen = self._chosen(constraints, orders, frozenset(info.colUsed))
        if chosen is None:
            return False
        choice, text = chosen
        for position, number in enumerate(choice.arguments):
            info.set_aConstraintUsage_argvIndex(number, position + 1)
            info.set_aConstraintUsage_omit(number, number in choice.omit)
        info.idxStr = text
        info.orderByConsumed = bool(choice.plan.order)
        info.estimatedRows = choice.rows
        info.estimatedCost = choice.cost
        if choice.unique:
            info.idxFlags = apsw.SQLITE_INDEX_SCAN_UNIQUE
        return True

    def _chosen(
        self, constraints: tuple[tuple[int, int, bool, str, bool], ...], orders: tuple[tuple[int, bool], ...], used: frozenset[int]
    ) -> tuple[Choice, str] | None:
        """`choose`, and the plan's text, remembered: SQLite prepares a statement anew at each execution when a value is bound to its LIMIT."""
        question = constraints, orders, used, self.session.push_down
        if question in self._choices:
            return self._choices[question]
        if len(self._choices) >= _CACHED:
            self._choices.clear()
        described = [Constraint(column, operator_name(op), usable, collation, listed) for column, op, usable, collation, listed in constraints]
        choice = choose(self.schema, described, list(orders), used, push_down=self.session.push_down)
        chosen = self._choices[question] = None if choice is None else (choice, choice.plan.to_text(self.schema))
        return chosen

    def prepared(self, text: str) -> PreparedPlan:
        """The plan that a text stands for, ready to run."""
        prepared = self._prepared.get(text)
        if prepared is None:
            if len(self._prepared) >= _CACHED:
                self._prepared.clear()
            prepared = self._prepared[text] = PreparedPlan(Plan.from_text(self.schema, text), self)
        return prepared

    def decoder(self, columns: tuple[int, ...], snapshot: Value = None) -> RowDecoder:
        return self.writer.decoder(columns, snapshot)

    def damaged(self, error: ValueError) -> CorruptionError:
        """What a row whose bytes are not a row's is to the caller."""
        return CorruptionError(self.engine.path, None, f"a row of table {self.schema.name} cannot be read: {error}")

    def Open(self) -> Cursor:
        return Cursor(self)

    # Writing

    def UpdateInsertRow(self, rowid: int | None, fields: Sequence[Any]) -> int:
        mode = self._connection.vtab_on_conflict()
        try:
            return self.changes.insert(rowid, fields, mode)  # type: ignore[no-any-return]
        except SkipRow:
            self.session.given_rowid = before = self._connection.last_insert_rowid()
            return before

    def UpdateDeleteRow(self, row: Any) -> None:
        self.changes.delete(row, self._connection.vtab_on_conflict())

    def UpdateChangeRow(self, row: Any, new_row: Any, fields: Sequence[Any]) -> None:
        with suppress(SkipRow):
            self.changes.change(row, new_row, fields, self._connection.vtab_on_conflict())

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
        self.session.require_writable(self.engine)
        self.transaction.drop(self)
        self.transaction.dropped_trees.add(self.tree.name)
        Catalog(self._connection, self.schema_name).remove(self.schema.name)

    def Rename(self, name: str) -> None:
        self.session.require_writable(self.engine)
        Catalog(self._connection, self.schema_name).rename(self.schema.name, name)
