"""connect(): an apsw.Connection on which `CREATE VIRTUAL TABLE ... USING lsm(...)` works."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import apsw

from . import bridge
from .errors import UsageError
from .options import Options
from .vtab import functions, introspection, module
from .vtab.engines import Engine
from .vtab.session import Session, file_of

_OPEN_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE


class _Life:
    """What ends with a connection that is dropped instead of closed."""


class Connection(apsw.Connection):
    """An apsw.Connection with lsm tables. Closing it closes the engines that no other connection of this process uses.

    session: what it has to do with lsm tables (for tests and tools).
    """

    def __init__(
        self,
        path: str,
        *,
        key: str | bytes | None = None,
        keys: Mapping[str, str | bytes] | None = None,
        options: Options | None = None,
        **apsw_flags: Any,
    ) -> None:
        for each in (key, *(keys or {}).values()):
            _check_key(each)
        if not (options is None or isinstance(options, Options)):
            raise UsageError(f"options are an lsmsql.Options, not {options!r}")
        super().__init__(path, **{"flags": _OPEN_FLAGS, **apsw_flags})
        try:
            self.session = Session(self, key, options, keys)
            # Not of the connection itself: APSW 3.54.1 calls what waits for its end while the garbage collector still tracks it, and a
            # collection at that moment frees it twice.
            self._life = _Life()
            weakref.finalize(self._life, self.session.forget)
            self._prepare()
        except BaseException:
            super().close()
            raise

    def _prepare(self) -> None:
        if not bridge.load(self, module.Module(self.session)):
            module.register(self, self.session)
        for part in (functions, introspection):
            part.register(self, self.session)
        with suppress(apsw.BusyError):  # Whoever keeps it is using it, or is making it as well.
            if file_of(self, "main") and not self.readonly("main") and not self.pragma("page_count"):
                self.pragma("journal_mode", "wal")  # a new database; what an old one is set to stays

    @property
    def engine(self) -> Engine:
        """The engine of main's lsm tables, opened now if it was not yet. UsageError as long as main has no lsm tables."""
        return self.session.engine("main")

    def last_insert_rowid(self) -> int:
        """As SQLite's, and right also for lsm tables whose INSERT named the rowid: APSW tells SQLite 0 then."""
        return super().last_insert_rowid() or self.session.given_rowid

    def set_last_insert_rowid(self, rowid: int) -> None:
        """As SQLite's."""
        self.session.given_rowid = 0
        super().set_last_insert_rowid(rowid)

    def close(self, force: bool = False) -> None:
        """Close the connection and then the engines it was the last to use. Closing twice is allowed."""
        try:
            super().close(force)
        finally:
            self.session.close()


def _check_key(key: object) -> None:
    """Refuse now what the engine would refuse only when it is opened: at the first use of an lsm table."""
    if not (key is None or (isinstance(key, str) and key) or (isinstance(key, bytes) and len(key) == 32)):
        raise UsageError("a key is a passphrase that is not empty, or exactly 32 bytes")


def connect(
    path: str,
    *,
    key: str | bytes | None = None,
    keys: Mapping[str, str | bytes] | None = None,
    options: Options | None = None,
    **apsw_flags: Any,
) -> Connection:
    """Open the SQLite database `path` (":memory:" for one in memory) with lsm tables in it.

    key: a passphrase or 32 bytes; encrypts the rows of lsm tables in new databases and opens those encrypted with it (ordinary tables
    are SQLite's and stay as they are); without it the environment's LSMSQL_KEY. keys: the keys of schemas by name, where ATTACHed
    databases have keys of their own. options: the engine's, for all schemas of this connection. The rest goes to apsw.Connection.
    """
    return Connection(path, key=key, keys=keys, options=options, **apsw_flags)
