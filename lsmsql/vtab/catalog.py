"""The catalog: the ordinary table `_lsmsql` of a schema, which says what lsm tables that database has and where their rows are.

    id    key                   value
    1     commit                blob: u64, little-endian: the number of the last transaction that changed lsm tables (an engine seqno)
          database_id           blob: the id of the engine directory
          table:<lower name>    text: `<tree name>` newline `<definition>`

It is written inside Create, Destroy, Rename and Sync, so SQLite commits it and rolls it back with everything else; that is how it decides
what became of a prepared commit. A dropped table's tree is left alone here; a tree that no committed entry names is dropped later.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from ..errors import CorruptionError, LockedError
from .tokenizer import always_quote

_BUSY_MS = 1000
_NUMBER_BYTES = 8
_ID_BYTES = 16


class Catalog:
    """The `_lsmsql` table of one schema, read and written on the connection itself.

    overtaken: what was read is newer than the schema that SQLite goes by at this moment.
    """

    def __init__(self, connection: apsw.Connection, schema_name: str) -> None:
        self._connection = connection
        self._name = schema_name
        self.overtaken = False
        self._schema = always_quote(schema_name)

    def encoding(self) -> str:
        """How the database keeps text: "UTF-8", "UTF-16le" or "UTF-16be"."""
        return str(self._run("PRAGMA encoding")[0][0])

    def setting(self, name: str) -> int:
        """What a pragma of the connection is set to."""
        return int(self._run(f"PRAGMA {name}")[0][0])

    def database_id(self) -> bytes | None:
        """The id of the engine directory, None when there has been no lsm table yet."""
        rows = self._run("SELECT value FROM {}._lsmsql WHERE key = 'database_id'") if self._exists() else []
        if not rows:
            return None
        found = rows[0][0]
        if type(found) is not bytes or len(found) != _ID_BYTES:
            raise self._damaged("the database's id")
        return found

    def start(self, database_id: bytes) -> None:
        """Make the table if need be, for the engine of this id."""
        self._run("CREATE TABLE IF NOT EXISTS {}._lsmsql(id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value)")
        self._change("INSERT OR IGNORE INTO {}._lsmsql VALUES (1, 'commit', zeroblob(8)), (2, 'database_id', ?)", (database_id,))

    def table(self, name: str) -> tuple[str, str] | None:
        """(tree name, definition) of a table."""
        rows = self._run("SELECT value FROM {}._lsmsql WHERE key = ?", (_key(name),)) if self._exists() else []
        return self._entry(rows[0][0]) if rows else None

    def add(self, name: str, tree: str, definition: str) -> None:
        self._change("INSERT OR REPLACE INTO {}._lsmsql(key, value) VALUES (?, ?)", (_key(name), f"{tree}\n{definition}"))

    def remove(self, name: str) -> None:
        self._change("DELETE FROM {}._lsmsql WHERE key = ?", (_key(name),))

    def rename(self, old: str, new: str) -> None:
        self._change("UPDATE {}._lsmsql SET key = ? WHERE key = ?", (_key(new), _key(old)))

    def trees(self) -> set[str]:
        """The trees of all tables."""
        rows = self._run("SELECT value FROM {}._lsmsql WHERE key >= 'table:' AND key < 'table;'") if self._exists() else []
        return {self._entry(value)[0] for (value,) in rows}

    def commit_number(self) -> int:
        """The number of the last transaction that changed lsm tables, as the connection's own transaction sees it; 0 for none."""
        rows = self._run("SELECT value FROM {}._lsmsql WHERE id = 1") if self._exists() else []
        if not rows:
            return 0
        if type(rows[0][0]) is not bytes or len(rows[0][0]) != _NUMBER_BYTES:
            raise self._damaged("the number of the last transaction")
        return int.from_bytes(rows[0][0], "little")

    def newest_commit_number(self) -> int:
        """As `commit_number`, but what is committed now, whatever the connection's transaction began with."""
        with self.newest() as newest:
            return newest.commit_number()

    @contextmanager
    def newest(self) -> Iterator[Catalog]:
        """The catalog as it is committed now, whatever moment the connection's transaction reads at."""
        filename = self._connection.db_filename(self._name)
        if not filename or self._connection.txn_state(self._name) != apsw.SQLITE_TXN_READ or self._keeps_writers_out():
            yield self
            return
        with _opened(filename) as newest:
            yield newest

    @contextmanager
    def committed(self) -> Iterator[Catalog]:
        """As `newest`, for the midst of the connection's own Commit or Rollback: there its statements leave a read transaction behind, which
        only does no harm where it keeps everybody out anyway."""
        filename = self._connection.db_filename(self._name)
        if not filename or self._keeps_everybody_out():
            yield self
            return
        with _opened(filename) as committed:
            yield committed

    def _keeps_writers_out(self) -> bool:
        """Whether nobody else commits while this connection reads; a second connection, which need not get in, would say the same."""
        return self._run("PRAGMA {}.journal_mode")[0][0] != "wal" or self._keeps_everybody_out()

    def _keeps_everybody_out(self) -> bool:
        return bool(self._run("PRAGMA {}.locking_mode")[0][0] == "exclusive")

    def accept(self, number: int) -> None:
        """Make `number` that of the last transaction, whatever is there now."""
        value = number.to_bytes(_NUMBER_BYTES, "little")
        self._change("INSERT OR REPLACE INTO {}._lsmsql(id, key, value) VALUES (1, 'commit', ?)", (value,))

    def _entry(self, value: object) -> tuple[str, str]:
        """(tree name, definition) of a table's entry."""
        tree, newline, definition = value.partition("\n") if isinstance(value, str) else ("", "", "")
        if not newline:
            raise self._damaged("the entry of a table")
        return tree, definition

    def _damaged(self, what: str) -> CorruptionError:
        return _damaged(self._connection, self._name, what)

    def _change(self, sql: str, bindings: Sequence[Any]) -> None:
        before = self._connection.last_insert_rowid()
        self._run(sql, bindings)
        self._connection.set_last_insert_rowid(before)

    def _exists(self) -> bool:
        return bool(self._run("SELECT 1 FROM {}.sqlite_schema WHERE type = 'table' AND name = '_lsmsql'"))

    def _run(self, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return _execute(self._connection, sql.replace("{}", self._schema), bindings)
        except apsw.SchemaChangeError:
            # Another connection has changed the schema, and SQLite, which is opening a table, cannot read it anew before it has: it
            # will find out when the statement runs, and open the table again. Only reading can come here.
            self.overtaken = True
            other = apsw.Connection(self._connection.db_filename(self._name), flags=apsw.SQLITE_OPEN_READONLY)
            try:
                return _execute(other, sql.replace("{}", "main"), bindings)
            finally:
                other.close()


@contextmanager
def _opened(filename: str) -> Iterator[Catalog]:
    connection = apsw.Connection(filename, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(_BUSY_MS)
        yield Catalog(connection, "main")
    finally:
        connection.close()


def committed_number(filename: str) -> int:
    """The number of the last transaction that changed lsm tables and that the database in this file has committed. LockedError when it cannot
    be read now."""
    try:
        with _opened(filename) as committed:
            return committed.commit_number()
    except apsw.Error as error:
        raise LockedError(f"{filename} does not say what became of its last transaction: {error}") from error


def read_commit_number(connection: apsw.Connection, schema_name: str) -> int:
    """As `Catalog.commit_number`, where there is a catalog. As a blob: no statement, so no hook of the host's sees it, and it is cheap."""
    blob = _open_number(connection, schema_name, writable=False)
    try:
        return int.from_bytes(blob.read(), "little")
    finally:
        blob.close()


def write_commit_number(connection: apsw.Connection, schema_name: str, number: int, expected: Container[int | None]) -> int:
    """Write it, as part of the connection's transaction. As a blob: it does not count in changes() and total_changes().

    Nothing is written if what is there is not `expected`. Returns what was there."""
    blob = _open_number(connection, schema_name, writable=True)
    try:
        before = int.from_bytes(blob.read(), "little")
        if before in expected:
            blob.seek(0)
            blob.write(number.to_bytes(_NUMBER_BYTES, "little"))
        return before
    finally:
        blob.close()


def _open_number(connection: apsw.Connection, schema_name: str, *, writable: bool) -> apsw.Blob:
    try:
        blob = connection.blob_open(schema_name, "_lsmsql", "value", 1, writable)
    except apsw.SQLError as error:
        raise _damaged(connection, schema_name, "the number of the last transaction") from error
    if blob.length() != _NUMBER_BYTES:
        blob.close()
        raise _damaged(connection, schema_name, "the number of the last transaction")
    return blob


def _damaged(connection: apsw.Connection, schema_name: str, what: str) -> CorruptionError:
    filename = connection.db_filename(schema_name) or "this database in memory"
    return CorruptionError(filename, None, f"{what} in the table _lsmsql is missing or damaged", "restore it, or try lsmsql repair --accept")


def _key(name: str) -> str:
    return "table:" + name.encode().lower().decode()


def _execute(connection: apsw.Connection, sql: str, bindings: Sequence[Any]) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.exec_trace = _go_on  # The connection's own tracers are not for our statements.
    cursor.row_trace = _as_it_is
    return cursor.execute(sql, bindings).fetchall()


def _go_on(*_statement: object) -> bool:
    return True


def _as_it_is(_cursor: apsw.Cursor, row: Any) -> Any:
    return row
