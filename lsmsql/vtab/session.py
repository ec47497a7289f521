"""Session: what one connection has to do with lsm tables: its engines by schema, its pending changes in each."""

from __future__ import annotations

import weakref
from contextlib import suppress

import apsw

from ..engine.database import Database
from ..engine.prepared import Host
from ..errors import ClosedError, UsageError
from ..options import Options
from .catalog import Catalog
from .engines import SUFFIX, SharedEngine, acquire, in_memory, release
from .transaction import BATCH_BYTES_MAX, Transaction

_FILE_SYSTEMS = ("unix", "win32")  # and their variants: the VFSs whose file names are names of the operating system


class Session:
    """push_down: whether scans use what the planner finds (switched off by tests). batch_bytes_max: pending bytes of one transaction.
    given_rowid: what last_insert_rowid() is when SQLite says 0.

    Engines stay open until `close`, also when their tables go or their schema is detached.
    """

    def __init__(self, connection: apsw.Connection, key: str | bytes | None = None, options: Options | None = None) -> None:
        # Weakly: SQLite holds our tables, and nothing sees through SQLite to collect a ring.
        self._connection: apsw.Connection = weakref.proxy(connection)
        weakref.finalize(connection, self.forget)
        self._key = key
        self._options = options
        self._engines: dict[str, SharedEngine] = {}
        self._transactions: dict[int, Transaction] = {}
        self._closed = False
        self.given_rowid = 0
        self.push_down = True
        self.batch_bytes_max = BATCH_BYTES_MAX

    def engine(self, schema_name: str, *, create: bool = False) -> Database:
        """The engine of a schema's lsm tables, opened at the first use.

        create: make it, and the catalog that names it, when the schema has had no lsm table yet; otherwise that is a UsageError.
        """
        if self._closed:
            raise ClosedError("the connection is closed")
        filename = self._filename(schema_name)
        place = filename or f":memory: {schema_name.lower()}"
        shared = self._engines.get(place)
        catalog = Catalog(self._connection, schema_name)
        if shared is not None and not create:
            return shared.database
        expected = catalog.database_id()
        if expected is None and not create:
            raise UsageError(f"lsm: schema {schema_name} has no lsm tables")
        if shared is None:
            shared = self._open(filename, expected, catalog)
            try:
                if expected is None:
                    _require_unused(shared, filename)
                elif expected != shared.database.database_id:
                    raise UsageError(f"lsm: the engine directory {shared.path} belongs to another database than {filename}")
                if shared.fresh:
                    shared.fresh = False
                    _drop_unnamed_trees(shared.database, catalog)
            except BaseException:
                release(shared)
                raise
            self._engines[place] = shared
        if expected is None:
            catalog.start(shared.database.database_id)
        return shared.database

    def _filename(self, schema_name: str) -> str:
        """The schema's file, "" for one in memory. UsageError where an engine could not stand beside it."""
        connection = self._connection
        if schema_name.lower() not in map(str.lower, connection.db_names()):
            raise UsageError(f"lsm: there is no schema named {schema_name}")
        file_system = connection.vfsname(schema_name) or ""
        filename = connection.db_filename(schema_name) or ""
        if file_system.startswith("memdb"):
            raise UsageError(f"lsm: schema {schema_name} is a shared database in memory; use a file, or a private :memory: database")
        if filename and not file_system.startswith(_FILE_SYSTEMS):
            raise UsageError(f"lsm: schema {schema_name} is kept by the VFS {file_system}, not in a file of the operating system")
        return filename

    def _open(self, filename: str, expected: bytes | None, catalog: Catalog) -> SharedEngine:
        if not filename:
            if expected is not None:
                raise UsageError("lsm: this database in memory was copied from another one, whose rows are not here")
            return in_memory(self._options)
        path = filename + SUFFIX
        try:
            # Without a catalog this database has nothing to say about what is in the directory.
            host = None if expected is None else lambda: Host(filename, catalog.newest_commit_number(), expected)
            return acquire(path, self._options, self._key, create=expected is None, host=host)
        except UsageError as error:
            if expected is None:
                raise
            raise UsageError(f"lsm: the rows of the lsm tables in {filename} cannot be read from {path}: {error}") from error

    def last_insert_rowid(self) -> int:
        return self._connection.last_insert_rowid()

    def transaction(self, engine: Database) -> Transaction:
        """The pending changes in an engine."""
        transaction = self._transactions.get(id(engine))
        if transaction is None:
            transaction = self._transactions[id(engine)] = Transaction(self._connection, engine, self.batch_bytes_max)
        return transaction

    def close(self) -> None:
        """Let the engines go. Called after the connection has closed, or when it was forgotten."""
        self._closed = True
        engines, self._engines = self._engines, {}
        self._transactions.clear()
        errors = []
        for shared in engines.values():
            try:
                release(shared)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def forget(self) -> None:
        """Close without a word, for a connection that was dropped instead of closed."""
        with suppress(Exception):
            self.close()


def _require_unused(shared: SharedEngine, filename: str) -> None:
    """A database without lsm tables may take over a directory only if no rows of another one are in it."""
    engine = shared.database
    with engine.read_view() as view:
        for name in engine.tree_names():
            if name.startswith("sql:") and view.scan(engine.tree(name, create=False), limit=1).fill(1):
                raise UsageError(f"lsm: the engine directory {shared.path} holds rows of another database than {filename}; move it away")


def _drop_unnamed_trees(engine: Database, catalog: Catalog) -> None:
    """Remove the trees of tables whose DROP, or whose rolled back CREATE, has been committed since they were last in use."""
    named = catalog.trees()
    for name in engine.tree_names():
        if name.startswith("sql:") and name not in named:
            engine.drop_tree(name)
