"""Our errors as SQLite's: which class and code a host sees, with our message."""

from __future__ import annotations

import apsw

from ..errors import LockedError

UNIQUE = apsw.SQLITE_CONSTRAINT_UNIQUE
PRIMARY_KEY = apsw.SQLITE_CONSTRAINT_PRIMARYKEY
NOT_NULL = apsw.SQLITE_CONSTRAINT_NOTNULL
DATATYPE = apsw.SQLITE_CONSTRAINT_DATATYPE


def constraint_failed(message: str, extended: int, mode: int) -> apsw.ConstraintError:
    """A violated constraint in SQLite's wording. mode: `vtab_on_conflict()` of the statement.

    SQLite carries out OR FAIL and OR ROLLBACK only for the plain result code, so the extended one is set where it changes nothing.
    """
    error = apsw.ConstraintError(message)
    if mode in (apsw.SQLITE_ABORT, apsw.SQLITE_REPLACE):
        error.extendedresult = extended  # type: ignore[attr-defined]
    return error


def obeys_conflict_clause(error: BaseException) -> bool:
    """Whether SQLite lets OR FAIL and OR ROLLBACK decide what this error undoes: only for a constraint with the plain result code."""
    return isinstance(error, apsw.ConstraintError) and not hasattr(error, "extendedresult")


def busy(error: LockedError) -> apsw.BusyError:
    """LockedError as SQLite's BUSY."""
    return apsw.BusyError(str(error))


def read_only_error(what: str) -> apsw.ReadOnlyError:
    return apsw.ReadOnlyError(f"attempt to write a readonly database: {what}")


def stale_snapshot() -> apsw.BusyError:
    """The transaction read before another connection's commit and now wants to write."""
    error = apsw.BusyError("database is locked: another connection has committed since this transaction first read")
    error.extendedresult = apsw.SQLITE_BUSY_SNAPSHOT  # type: ignore[attr-defined]
    return error
