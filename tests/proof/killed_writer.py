"""A process that forks writers on command, so that a round of the kill test costs no interpreter start.

Commands on stdin: "engine|sql DIRECTORY FIRST". For each a child is forked, which opens the database and commits the transactions FIRST,
FIRST + 1 ... until it is killed. On stdout: "pid N", then from the child "open" and the number of each transaction whose commit has returned,
then "dead N" with what it died of.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from typing import Any

import lsmsql

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
    if kind == "sql":
        connection = lsmsql.connect(os.path.join(directory, "app.db"), options=OPTIONS)
        for table in "ab":
            connection.execute(f"CREATE VIRTUAL TABLE {table} USING lsm(k BLOB PRIMARY KEY, v BLOB)")
        connection.close()
    else:
        with lsmsql.open(os.path.join(directory, "engine"), OPTIONS) as engine:
            for table in "ab":
                engine.tree(table)


def read(kind: str, directory: str) -> dict[str, dict[bytes, bytes]]:
    """Both tables, as they are found by opening the database."""
    if kind == "sql":
        connection = lsmsql.connect(os.path.join(directory, "app.db"), options=OPTIONS)
        try:
            return {table: dict(connection.execute(f"SELECT k, v FROM {table}")) for table in "ab"}
        finally:
            connection.close()
    with lsmsql.open(os.path.join(directory, "engine"), OPTIONS) as engine:
        return {table: dict(engine.tree(table).scan()) for table in "ab"}


def contents(number: int) -> dict[bytes, bytes]:
    """What stands in each table after transaction `number`."""
    rows = {key_of(earlier): payload(earlier) for earlier in range(max(0, number - KEPT + 1), number + 1)}
    return {**rows, key_of(LATEST): b"%d" % number} if number >= 0 else {}


def committer(kind: str, directory: str) -> Callable[[int], None]:
    if kind == "sql":
        connection = lsmsql.connect(os.path.join(directory, "app.db"), options=OPTIONS)
        connection.execute("SELECT 1 FROM a LIMIT 1").fetchall()  # That opens the engine.

        def commit(number: int) -> None:
            with connection:
                for table in "ab":
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
