"""lsmsql gives SQLite an LSM-tree storage engine."""

from __future__ import annotations

from .engine.database import Database, FileSystem
from .errors import ClosedError, ConflictError, CorruptionError, Error, HistoryError, KeyUnavailableError, LockedError, UsageError
from .options import Options

__all__ = [
    "ClosedError",
    "ConflictError",
    "CorruptionError",
    "Database",
    "Error",
    "HistoryError",
    "KeyUnavailableError",
    "LockedError",
    "Options",
    "UsageError",
    "open",
]


def open(
    path: str,
    options: Options | None = None,
    *,
    key: str | bytes | None = None,
    create: bool = True,
    filesystem: FileSystem | None = None,
) -> Database:
    """Open the engine directory `path`, and make it if there is none and `create` is True. "" or ":memory:" is one in memory.

    options: None for those saved with the data (defaults for a new database); others are saved. key: a passphrase or 32 bytes, which encrypts
    a new database and opens an encrypted one. filesystem: instead of the operating system's.

    LockedError if another process has it open, UsageError if this one has, KeyUnavailableError if the key does not open it,
    CorruptionError, with file and offset, if it is damaged.
    """
    return Database.open(path, options, key=key, create=create, filesystem=filesystem)
