"""The `lsm` module: CREATE VIRTUAL TABLE and what follows when SQLite opens a table that exists."""

from __future__ import annotations

import uuid
from typing import Any, cast

import apsw

from ..errors import UsageError
from .catalog import Catalog
from .schema import TableSchema
from .session import Session
from .sqlite_errors import stale_snapshot
from .table import Table


class Module:
    """Registered once for each connection."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def Create(self, connection: apsw.Connection, _module: str, schema_name: str, table_name: str, *arguments: str) -> tuple[str, Table]:
        connection.vtab_config(apsw.SQLITE_VTAB_CONSTRAINT_SUPPORT, 1)
        return self.create(connection, schema_name, table_name, arguments)

    def Connect(self, connection: apsw.Connection, _module: str, schema_name: str, table_name: str, *_arguments: str) -> tuple[str, Table]:
        connection.vtab_config(apsw.SQLITE_VTAB_CONSTRAINT_SUPPORT, 1)
        return self.connect(connection, schema_name, table_name)

    def create(self, connection: apsw.Connection, schema_name: str, table_name: str, arguments: tuple[str, ...]) -> tuple[str, Table]:
        """What CREATE VIRTUAL TABLE does: the declaration for SQLite, and the table."""
        schema = TableSchema.from_arguments(table_name, arguments)
        _try_declaration(schema)
        catalog = Catalog(connection, schema_name)
        if (encoding := catalog.encoding()) != "UTF-8":
            raise UsageError(f"lsm: schema {schema_name} keeps text as {encoding}, which SQLite orders otherwise; lsm tables need UTF-8")
        self._session.recognize(schema_name)
        engine = self._session.engine(schema_name, create=True)
        self._session.require_writable(engine)
        # A new tree each time, never one of an earlier table of this name: a DROP may yet be rolled back.
        tree = engine.sql_tree(f"sql:{table_name}:{uuid.uuid4().hex}", schema=schema.statement())
        catalog.add(table_name, tree.name, schema.to_text())
        declaration, table = self._table(schema_name, schema, tree.name)
        table.transaction.begin(table)  # SQLite takes it as begun: it will call Sync and Commit, and no Begin.
        return declaration, table

    def connect(self, connection: apsw.Connection, schema_name: str, table_name: str) -> tuple[str, Table]:
        """What SQLite's first use of a table that exists does: the declaration for SQLite, and the table."""
        self._session.recognize(schema_name)
        engine = self._session.engine(schema_name)
        catalog = Catalog(connection, schema_name)
        entry = catalog.table(table_name)
        where = f"{connection.db_filename(schema_name) or 'this database in memory'} and {engine.path}"
        if entry is None and catalog.overtaken:
            raise apsw.SQLError(f"no such table: {table_name}")
        if entry is None:
            raise UsageError(f"lsm: the catalog of {schema_name} does not know the table {table_name}: {where} do not fit together")
        tree_name, definition = entry
        if tree_name not in engine.tree_names():
            engine.refresh()
        if tree_name not in engine.tree_names():
            with catalog.newest() as newest:
                if tree_name not in newest.trees():
                    raise stale_snapshot()  # Dropped since the moment that this transaction reads at.
            raise UsageError(f"lsm: the rows of table {table_name} are missing: {where} do not fit together")
        return self._table(schema_name, TableSchema.from_text(table_name, definition), tree_name)

    def _table(self, schema_name: str, schema: TableSchema, tree_name: str) -> tuple[str, Table]:
        engine = self._session.engine(schema_name)
        tree = engine.sql_tree(tree_name, create=False)
        return schema.declaration(), Table(self._session, schema_name, schema, tree, self._session.transaction(engine, schema_name))


def _try_declaration(schema: TableSchema) -> None:
    """Fail on what SQLite would refuse after Create has returned, when it could no longer be undone here."""
    judge = apsw.Connection(":memory:")
    try:
        judge.execute(schema.declaration())
    except apsw.SQLError as error:
        raise UsageError(f"lsm: {error}: {schema.name}") from None
    finally:
        judge.close()


def register(connection: apsw.Connection, session: Session) -> None:
    """Give a connection the module `lsm`. iVersion 2 has savepoints; from 3 on each module takes one of 33 places in the process."""
    connection.create_module("lsm", cast(Any, Module(session)), use_bestindex_object=True, use_no_change=True, iVersion=2)
