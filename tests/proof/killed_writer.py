"""A process that forks writers on command, so that a round of the kill test costs no interpreter start.

Commands on stdin: "KIND DIRECTORY FIRST" (see KINDS). For each a child is forked, which opens the database and commits the transactions FIRST,
FIRST + 1 ... until it is killed. On stdout: "pid N", then from the child "open" and the number of each transaction whose commit has returned,
then "dead N" with what it died of.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lsmsql

# Trees of an engine; lsm tables; lsm tables beside an ordinary one, with DDL in between, in WAL mode and with a rollback journal.
KINDS = ("engine", "sql", "both", "both-delete")
KEPT = 40  # Transaction n deletes the rows of transaction n - KEPT.
OPTIONS = lsmsql.Options(
    memtable_bytes=12_000, block_bytes=512, table_bytes=8_000, l0_tables=2, level_bytes=30_000, level_ratio=3, manifest_bytes=2_000
)
LATEST = -1


def payload(number: int) -> bytes:
    return random.Random(number).randbytes(number * 37 % 300)


def key_of(number: int) -> bytes:
    return b"%+09d" % (number * 7919 % 1_000_003) if number >= 0 else b"latest"


def set_up(kind: str, directory: str) -> None:
    if kind != "engine":
        connection = lsmsql.connect(os.path.join(directory, "app.db"), options=OPTIONS)
        if kind == "both-delete":
            connection.pragma("journal_mode", "delete")
        for table in "ab":
            connection.execute(f"CREATE VIRTUAL TABLE {table} USING lsm(k BLOB PRIMARY KEY, v BLOB)")
        if kind.startswith("both"):
            connection.execute("CREATE TABLE o(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")
        connection.close()
    else:
        with lsmsql.open(os.path.join(directory, "engine"), OPTIONS) as engine:
            for table in "ab":
                engine.tree(table)


def read(kind: str, directory: str) -> dict[str, dict[bytes, bytes]]:
    """All tables, as they are found by opening the database."""
    if kind != "engine":
        connection = lsmsql.connect(os.path.join(directory, "app.db"), options=OPTIONS)
        try:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> '_lsmsql'")]
            return {table: dict(connection.execute(f"SELECT k, v FROM {table}")) for table in names}
        finally:
            connection.close()
    with lsmsql.open(os.path.join(directory, "engine"), OPTIONS) as engine:
        return {table: dict(engine.tree(table).scan()) for table in "ab"}


def ddl(number: int) -> list[str]:
    """What transaction `number` does to a table beside the others: one is made, renamed three transactions later, dropped after three more."""
    match number % 10:
        case 3:
            return [f"CREATE VIRTUAL TABLE x{number} USING lsm(k BLOB PRIMARY KEY, v BLOB)", f"INSERT INTO x{number} VALUES (x'01', x'02')"]
        case 6:
            old = number - 3
            return [f"ALTER TABLE x{old} RENAME TO y{old}", f"INSERT INTO y{old} VALUES (x'03', x'04')"] if old > 0 else []
        case 9:
            return [f"DROP TABLE y{number - 6}"]
    return []


def expected(kind: str, number: int) -> dict[str, dict[bytes, bytes]]:
    """Every table after transaction `number`."""
    tables = dict.fromkeys("oab" if kind.startswith("both") else "ab", contents(number))
    if kind.startswith("both") and number >= 0 and (made := number - number % 10 + 3) <= number < made + 6:
        renamed = number >= made + 3
        tables[f"{'y' if renamed else 'x'}{made}"] = {b"\1": b"\2", **({b"\3": b"\4"} if renamed else {})}
    return tables


def contents(number: int) -> dict[bytes, bytes]:
    """What stands in each of the tables that stay after transaction `number`."""
    rows = {key_of(earlier): payload(earlier) for earlier in range(max(0, number - KEPT + 1), number + 1)}
    return {**rows, key_of(LATEST): b"%d" % number} if number >= 0 else {}


def committer(kind: str, directory: str) -> Callable[[int], None]:
    if kind != "engine":
        connection = lsmsql.connect(os.path.join(directory, "app.db"), options=OPTIONS if kind != "both" else replace(OPTIONS, durability="normal"))
        if kind == "both":  # A dead process takes nothing that was written, so that more transactions fit a life.
            connection.pragma("synchronous", "normal")
        connection.execute("SELECT 1 FROM a LIMIT 1").fetchall()  # That opens the engine.
        connection.set_busy_timeout(1000)

        def commit(number: int) -> None:
            with connection:
                for statement in ddl(number) if kind.startswith("both") else ():
                    connection.execute(statement)
                for table in expected(kind, -1):
                    connection.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key_of(number), payload(number)))
                    connection.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key_of(LATEST), b"%d" % number))
                    if number >= KEPT:
                        connection.execute(f"DELETE FROM {table} WHERE k = ?", (key_of(number - KEPT),))

        return commit
    engine = lsmsql.open(os.path.join(directory, "engine"), OPTIONS)
    trees = [engine.tree(name) for name in "ab"]

    def commit_batch(number: int) -> None:
        with engine.batch() as batch:
            for tree in trees:
                batch.put(tree, key_of(number), payload(number))
                batch.put(tree, key_of(LATEST), b"%d" % number)
                if number >= KEPT:
                    batch.delete(tree, key_of(number - KEPT))

    return commit_batch


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def write(kind: str, directory: str, first: int) -> Any:
    commit = committer(kind, directory)
    say("open")
    number = first
    while True:
        commit(number)
        say(str(number))
        number += 1


def main() -> None:
    for line in sys.stdin:
        kind, directory, first = line.split()
        pid = os.fork()
        if not pid:
            try:
                write(kind, directory, int(first))
            except BaseException as error:
                say(f"failed {error!r}".replace("\n", " "))
            finally:
                os._exit(1)
        say(f"pid {pid}")
        _, status = os.waitpid(pid, 0)
        say(f"dead {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
