"""lsmsql gives SQLite an LSM-tree storage engine: tables declared `USING lsm(...)`, stored beside the ordinary database file.

A map of the package:

    connect(path)       an apsw.Connection with lsm tables                      connection.py
    open(path)          the engine alone: named trees of bytes                  engine/database.py, engine/reader.py
    repair(path)        a manifest made anew from tables and WALs               engine/repair.py
    Options             how an engine behaves, saved with the data              options.py
    Error and below     every error raised on purpose                           errors.py

    vtab/               SQL tables: schema, codecs, planner, cursor, transaction
    engine/             commit, recovery, read views, flush
        kernel/         where entries are touched one by one, compiled and plain
        sstable/ manifest/ compaction/ storage/
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal, overload

from .connection import Connection, connect
from .engine.database import Database, FileSystem
from .engine.reader import ReadOnlyDatabase
from .engine.repair import RepairReport, repair
from .errors import ClosedError, ConflictError, CorruptionError, Error, HistoryError, KeyUnavailableError, LockedError, UsageError
from .options import Options

__all__ = [
    "ClosedError",
    "ConflictError",
    "Connection",
    "CorruptionError",
    "Database",
    "Error",
    "HistoryError",
    "KeyUnavailableError",
    "LockedError",
    "Options",
    "ReadOnlyDatabase",
    "RepairReport",
    "UsageError",
    "connect",
    "open",
    "repair",
]


@overload
def open(
    path: str | PurePath,
    options: Options | None = None,
    *,
    key: str | bytes | None = None,
    create: bool = True,
    read_only: Literal[False] = False,
    filesystem: FileSystem | None = None,
) -> Database: ...
@overload
def open(
    path: str | PurePath,
    options: Options | None = None,
    *,
    key: str | bytes | None = None,
    create: bool = True,
    read_only: Literal[True],
    filesystem: FileSystem | None = None,
) -> ReadOnlyDatabase: ...
def open(
    path: str | PurePath,
    options: Options | None = None,
    *,
    key: str | bytes | None = None,
    create: bool = True,
    read_only: bool = False,
    filesystem: FileSystem | None = None,
) -> Database | ReadOnlyDatabase:
    """Open the engine directory `path`, and make it if there is none and `create` is True. "" or ":memory:" is one in memory.

    options: None for those saved with the data (defaults for a new database); others are saved. key: a passphrase or 32 bytes, which encrypts
    a new database and opens an encrypted one. read_only: for reading only, one moment until `refresh()`, beside the process that writes
    to it or without one; nothing is made or saved. filesystem: instead of the operating system's.

    LockedError if another process has it open, UsageError if this one has, KeyUnavailableError if the key does not open it,
    CorruptionError, with file and offset, if it is damaged.
    """
    if read_only:
        return ReadOnlyDatabase.open(path, options, key=key, filesystem=filesystem)
    return Database.open(path, options, key=key, create=create, filesystem=filesystem)
