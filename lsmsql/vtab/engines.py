"""Engines: where the engine of a schema is, and how opening it looks from SQL. What this process has open is shared (engine/instance.py)."""

from __future__ import annotations

from collections.abc import Callable

from ..engine import open_directories
from ..engine.database import Database
from ..engine.prepared import Host
from ..engine.reader import ReadOnlyDatabase
from ..errors import LockedError
from ..options import Options
from .sqlite_errors import busy

SUFFIX = "-lsm"

Engine = Database | ReadOnlyDatabase
"""What SQL works on: in a connection that only reads, and where nobody in this process writes, the latter."""


def open_engine(
    path: str,
    options: Options | None,
    key: str | bytes | None,
    host: Callable[[], Host],
    *,
    create: bool,
    lock_timeout: float | None,
    tidy: Callable[[Database], None],
) -> Database:
    """The engine directory at `path`. create: it may be made; lock_timeout: instead of the option; tidy: called when SQL opens it first, before
    anybody else may use it.

    BusyError when another process has it, UsageError when it is not there and may not be made or is open here with another key or other
    options, HistoryError when host and engine have not committed the same."""
    try:
        with open_directories.changing:
            engine = Database.open(path, options, key=key, create=create, host=host, lock_timeout=lock_timeout)
            if engine.first("tidy up for SQL"):
                try:
                    tidy(engine)
                except BaseException:
                    engine.close()
                    raise
            return engine
    except LockedError as error:
        raise busy(error) from error


def open_reading(path: str, options: Options | None, key: str | bytes | None, host: Host) -> Engine:
    """The engine directory at `path` for a connection that only reads, whoever writes to it. Errors as `open_engine`, but not that it is busy."""
    return Database.join(path, options, key=key, host=host) or ReadOnlyDatabase.open(path, options, key=key, host=host)


def in_memory(options: Options | None) -> Database:
    """An engine in memory, private to whoever asked."""
    return Database.open(":memory:", options)
