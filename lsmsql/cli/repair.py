"""lsmsql repair: put right what stands between a database and its use."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import apsw

from ..connection import connect
from ..errors import CorruptionError, HistoryError


def add_to(commands: Any) -> None:
    """Add the command to the parser's commands."""
    command = commands.add_parser("repair", help="let a database and its lsm tables go on after they have come apart")
    command.add_argument("database", help="the SQLite database, app.db")
    command.add_argument("--key", help="passphrase of the lsm tables (default: the environment's LSMSQL_KEY)")
    command.add_argument(
        "--accept", action="store_true", help="go on with what app.db and app.db-lsm each have, although they have not committed the same"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when both fit together (now), 1 when they do not."""
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
