"""Session: what one connection has to do with lsm tables: its engines by schema, its pending changes in each."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import suppress
from os import environ

import apsw

from ..engine.database import Database
from ..engine.prepared import Host
from ..engine.reader import ReadOnlyDatabase
from ..errors import ClosedError, CorruptionError, HistoryError, UsageError
from ..options import Options
from .catalog import Catalog
from .engines import SUFFIX, Engine, in_memory, open_engine, open_reading
from .sqlite_errors import read_only_error
from .transaction import BATCH_BYTES_MAX, Transaction

KEY_VARIABLE = "LSMSQL_KEY"
READ_ONLY_VARIABLE = "LSMSQL_READ_ONLY"
_FILE_SYSTEMS = ("unix", "win32")  # and their variants: the VFSs whose file names are names of the operating system


def file_of(connection: apsw.Connection, schema_name: str) -> str:
    """The file that a schema is kept in, "" for one in memory. UsageError for a name that is no text."""
    try:
        return connection.db_filename(schema_name) or ""
    except UnicodeDecodeError as error:
        raise UsageError(f"lsm: the name of the file of schema {schema_name} is not UTF-8: {error.object!r}") from None


class Session:
    """push_down: whether scans use what the planner finds (switched off by tests). batch_bytes_max: pending bytes of one transaction.
    given_rowid: what last_insert_rowid() is when SQLite says 0. accept: open engines that have not committed the same as their app.db.

    Engines stay open until `close`, also when their tables go or their schema is detached, unless another database has taken their place.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        key: str | bytes | None = None,
        options: Options | None = None,
        keys: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """key: of every schema that `keys` (by schema name) says nothing of; without either, the environment's LSMSQL_KEY."""
        # Weakly: SQLite holds our tables, and nothing sees through SQLite to collect a ring.
        self._connection: apsw.Connection = weakref.proxy(connection)
        self._key = key
        self._keys = {name.lower(): each for name, each in (keys or {}).items()}
        self.accept = False
        self._options = options
        self._engines: dict[str, Engine] = {}
        self._read_only: set[int] = set()  # ids of the engines that were opened, or are shared, for reading only
        self._transactions: dict[tuple[int, str], Transaction] = {}  # by id of the engine and schema: a file may be attached twice
        self._closed = False
        self.given_rowid = 0
        self.push_down = True
        self.batch_bytes_max = BATCH_BYTES_MAX

    def engine(self, schema_name: str, *, create: bool = False) -> Engine:
        """The engine of a schema's lsm tables, opened at the first use.

        create: make it, and the catalog that names it, when the schema has had no lsm table yet; otherwise that is a UsageError.
        """
        if self._closed:
            raise ClosedError("the connection is closed")
        filename = self._filename(schema_name)
        place = self._place(schema_name, filename)
        engine = self._engines.get(place)
        catalog = Catalog(self._connection, schema_name)
        if engine is not None and not create:
            return engine
        expected = catalog.database_id()
        if expected is None and not create:
            raise UsageError(f"lsm: schema {schema_name} has no lsm tables")
        if engine is None:
            read_only = bool(filename) and self._reads_only(schema_name, catalog)
            engine = self._open(schema_name, filename, expected, catalog, read_only)
            try:
                if read_only or isinstance(engine, ReadOnlyDatabase):
                    self._read_only.add(id(engine))
                elif expected is None:
                    _require_unused(engine, filename)
            except BaseException:
                engine.close()
                raise
            self._engines[place] = engine
        if expected is None:
            catalog.start(engine.database_id)
        return engine

    @staticmethod
    def _place(schema_name: str, filename: str) -> str:
        return filename or f":memory: {schema_name.lower()}"

    def _filename(self, schema_name: str) -> str:
        """The schema's file, "" for one in memory. UsageError where an engine could not stand beside it."""
        connection = self._connection
        if schema_name.lower() not in map(str.lower, connection.db_names()):
            raise UsageError(f"lsm: there is no schema named {schema_name}")
        file_system = connection.vfsname(schema_name) or ""
        filename = file_of(connection, schema_name)
        if file_system.startswith("memdb"):
            raise UsageError(f"lsm: schema {schema_name} is a shared database in memory; use a file, or a private :memory: database")
        if filename and not file_system.startswith(_FILE_SYSTEMS):
            raise UsageError(f"lsm: schema {schema_name} is kept by the VFS {file_system}, not in a file of the operating system")
        return filename

    def _open(self, schema_name: str, filename: str, expected: bytes | None, catalog: Catalog, read_only: bool) -> Engine:
        if not filename:
            if expected is not None:
                raise UsageError("lsm: this database in memory was copied from another one, whose rows are not here")
            return in_memory(self._options)
        path = filename + SUFFIX
        key = self._key_of(schema_name)
        if read_only and expected is None:
            raise read_only_error(f"schema {schema_name} has no lsm tables yet")

        def host() -> Host:
            if expected is None:
                return Host(filename, 0)  # It has committed nothing here, so what is only prepared is of a first transaction that was cut short.
            # Not app.db itself: closing it would take away SQLite's locks on it. What it holds was synced before a journal went.
            files = (filename + "-wal", filename + "-journal")
            return Host(filename, self._newest_number(catalog), expected, self.accept, files)

        def tidy(engine: Database) -> None:
            if expected == engine.database_id:
                _drop_unnamed_trees(engine, catalog)

        try:
            if read_only:
                return self._open_reading(path, key, Host(filename, catalog.commit_number(), expected, self.accept), catalog)
            # SQLite's own limit counts where one is set.
            timeout = catalog.setting("busy_timeout") / 1000 or None
            return open_engine(path, self._options, key, host, create=expected is None, lock_timeout=timeout, tidy=tidy)
        except HistoryError as error:
            if expected is None:
                raise _belongs_to_another(path, filename) from error
            raise
        except UsageError as error:
            if expected is None:
                raise
            raise UsageError(f"lsm: the rows of the lsm tables in {filename} cannot be read from {path}: {error}") from error

    def _newest_number(self, catalog: Catalog) -> int:
        try:
            return catalog.newest_commit_number()
        except CorruptionError:
            if not self.accept:
                raise
            return 0  # It is about to be written anew.

    def _open_reading(self, path: str, key: str | bytes | None, host: Host, catalog: Catalog) -> Engine:
        try:
            return open_reading(path, self._options, key, host)
        except HistoryError:  # Another process may have committed, and gone, since app.db was read.
            return open_reading(path, self._options, key, host._replace(committed=catalog.newest_commit_number()))

    def _reads_only(self, schema_name: str, catalog: Catalog) -> bool:
        """Whether the connection can, or means to, only read a schema: at this moment."""
        return environ.get(READ_ONLY_VARIABLE) == "1" or self._connection.readonly(schema_name) or bool(catalog.setting("query_only"))

    def _key_of(self, schema_name: str) -> str | bytes | None:
        given = self._keys.get(schema_name.lower(), self._key)
        return environ.get(KEY_VARIABLE) or None if given is None else given

    def agree(self, *, accept: bool) -> int:
        """Open main's engine and return the number of the last transaction. accept: make app.db say what the engine has, whatever it said.

        HistoryError when the two have not committed the same and that is not accepted."""
        self.accept = accept
        engine = self.engine("main")
        number = engine.host_seqno
        if accept:
            self.require_writable(engine)
            Catalog(self._connection, "main").accept(number)
        return number

    def unlock(self, schema_name: str, key: str) -> None:
        """Give the key of a schema's lsm tables, before one of them is first used."""
        if not key:
            raise UsageError("lsm: a passphrase is not empty")
        if self._place(schema_name, self._filename(schema_name)) in self._engines:
            raise UsageError(f"lsm: the lsm tables of schema {schema_name} are open already")
        self._keys[schema_name.lower()] = key

    def read_only(self, engine: Engine) -> bool:
        """Whether this connection opened an engine for reading only."""
        return id(engine) in self._read_only

    def require_writable(self, engine: Engine) -> None:
        """ReadOnlyError if this connection opened an engine for reading only."""
        if self.read_only(engine):
            raise read_only_error("the lsm tables were opened for reading only")

    def last_insert_rowid(self) -> int:
        return self._connection.last_insert_rowid()

    def transaction(self, engine: Engine, schema_name: str) -> Transaction:
        """The pending changes in an engine, of one schema."""
        place = id(engine), schema_name.lower()
        transaction = self._transactions.get(place)
        if transaction is None:
            transaction = self._transactions[place] = Transaction(self._connection, schema_name, engine, self.batch_bytes_max, self.read_only(engine))
        return transaction

    def recognize(self, schema_name: str) -> None:
        """SQLite opens a table: let go of an engine that was another database's, which was in this place before this one was attached."""
        place = self._place(schema_name, self._filename(schema_name))
        engine = self._engines.get(place)
        if engine is None:
            return
        expected = Catalog(self._connection, schema_name).database_id()
        # Without a catalog yet it may be the engine of a CREATE that was rolled back.
        same = engine.host_seqno == 0 if expected is None else expected == engine.database_id
        transactions = {each: transaction for each, transaction in self._transactions.items() if each[0] == id(engine)}
        if (same and engine.in_place()) or any(transaction.begun for transaction in transactions.values()):
            for transaction in transactions.values():
                transaction.reconnected()
            return
        for each, transaction in transactions.items():
            transaction.end()
            del self._transactions[each]
        del self._engines[place]
        self._read_only.discard(id(engine))
        engine.close()

    def close(self) -> None:
        """Let the engines go. Called after the connection has closed, or when it was forgotten."""
        self._closed = True
        engines, self._engines = self._engines, {}
        self._transactions.clear()
        errors = []
        for engine in engines.values():
            try:
                engine.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def forget(self) -> None:
        """Close without a word, for a connection that was dropped instead of closed."""
        with suppress(Exception):
            self.close()


def _require_unused(engine: Engine, filename: str) -> None:
    """A database without lsm tables may take over a directory only if no rows of another one are in it."""
    with engine.read_view() as view:
        for name in engine.tree_names():
            if name.startswith("sql:") and view.scan(engine.tree(name, create=False), limit=1).fill(1):
                raise _belongs_to_another(engine.path, filename)


def _belongs_to_another(path: str, filename: str) -> UsageError:
    return UsageError(f"lsm: the engine directory {path} holds rows of another database than {filename}; move it away")


def _drop_unnamed_trees(engine: Engine, catalog: Catalog) -> None:
    """Remove the trees of tables whose DROP, or whose rolled back CREATE, has been committed since they were last in use. Nobody else uses the
    engine yet, so no tree can be one whose table is just being made."""
    named = catalog.trees()
    with catalog.newest() as newest:
        named |= newest.trees()
    for name in engine.tree_names():
        if name.startswith("sql:") and name not in named:
            engine.drop_tree(name)
