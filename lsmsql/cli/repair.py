"""lsmsql repair: put right what stands between a database and its use.

Two things can: app.db and app.db-lsm have not committed the same (--accept), or the manifest of app.db-lsm is lost or damaged (--rebuild)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import apsw

from ..connection import connect
from ..engine.repair import repair
from ..errors import CorruptionError, HistoryError
from .manifest import directory_of
from .sstable import key_given


def add_to(commands: Any) -> None:
    """Add the command to the parser's commands."""
    command = commands.add_parser("repair", help="let a database and its lsm tables go on after they have come apart")
    command.add_argument("database", help="the SQLite database, app.db, or to rebuild only the directory beside it, app.db-lsm")
    command.add_argument("--key", help="passphrase of the lsm tables (default: the environment's LSMSQL_KEY)")
    command.add_argument(
        "--accept", action="store_true", help="go on with what app.db and app.db-lsm each have, although they have not committed the same"
    )
    command.add_argument(
        "--rebuild", action="store_true", help="make the manifest of app.db-lsm anew from its SSTables and WALs, and keep the old one aside"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when both fit together (now), 1 when they do not. An engine directory without an app.db can be rebuilt."""
    if options.rebuild:
        print(repair(directory_of(options.database), key=key_given(options)))
        if Path(options.database).is_dir():
            return 0
    connection = connect(options.database, key=options.key, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        try:
            number = connection.session.agree(accept=False)
        except (HistoryError, CorruptionError) as error:
            if not options.accept:
                print(f"lsmsql repair: {error}", file=sys.stderr)
                return 1
            number = connection.session.agree(accept=True)
            print(f"{options.database}: accepted; the lsm tables are at transaction {number}")
            return 0
        print(f"{options.database}: nothing to repair; the lsm tables are at transaction {number}")
        return 0
    finally:
        connection.close()
