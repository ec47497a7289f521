"""Measure single inserts through SQL: python -m benchmarks.autocommit -n 1000000

Each INSERT is a transaction of its own, into an lsm table and into an ordinary one (WAL, synchronous=NORMAL), by turns, so that whoever else is on
the machine is there for both. What counts is the ratio of a round's two times, by the wall's clock and by the thread's own, and of that the median.
Exit code 1 when an insert takes over 1.3 times an ordinary one's by both clocks.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from .adapters.lsmsql_sql import LsmsqlSQL
from .adapters.sqlite import SQLite
from .data import Dataset, Row, batches, random_keys, random_values
from .run import at_least
from .session import WrongResult

ALLOWED = 1.3
INSERT = "INSERT INTO kv(key, value) VALUES (?, ?)"
MICRO = 1e6

Times = tuple[float, float]
"""Seconds of the wall and of the thread."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    given = parser().parse_args(arguments)
    source = random.Random(given.seed)
    with tempfile.TemporaryDirectory(dir=given.directory, prefix="lsmsql-autocommit-") as directory:
        path = Path(directory)
        systems: list[SQLite] = [LsmsqlSQL(path), SQLite(path)]
        try:
            if given.rows:
                load(systems, batches(Dataset(given.rows, given.seed).rows()))
            rounds = [measure(systems, given.inserts, source) for _ in range(given.rounds)]
            check(systems, given.rows + given.inserts * given.rounds)
        finally:
            for system in systems:
                system.close()
    return report(rounds, given.rows, given.inserts)


def load(systems: list[SQLite], rows: list[list[Row]]) -> None:
    """Both hold the same rows, and are done with what that leaves behind."""
    for system in systems:
        for batch in rows:
            system.put_many(batch)
        system.flush()
        system.compact()


def measure(systems: list[SQLite], count: int, source: random.Random) -> list[Times]:
    """One round: the same new rows into each system."""
    rows = list(zip(random_keys(count, source), random_values(count, source), strict=True))
    return [insert(system, rows) for system in systems]


def insert(system: SQLite, rows: list[Row]) -> Times:
    execute = system.connection.execute
    wall, thread = time.perf_counter(), time.thread_time()
    for row in rows:
        execute(INSERT, row)
    return time.perf_counter() - wall, time.thread_time() - thread


def check(systems: list[SQLite], rows: int) -> None:
    for system in systems:
        found = system.connection.execute("SELECT count(*) FROM kv").get
        if found != rows:
            raise WrongResult(f"{type(system).__name__} has {found} rows instead of {rows}")


def report(rounds: list[list[Times]], rows: int, inserts: int) -> int:
    exceeded = True
    print(f"single inserts into a table of {rows:,} rows, {len(rounds)} rounds of {inserts:,}, median (least) in us:")
    for clock, name in enumerate(("wall", "thread")):
        lsm, ordinary = ([each[system][clock] / inserts * MICRO for each in rounds] for system in (0, 1))
        ratio = statistics.median(ours / theirs for ours, theirs in zip(lsm, ordinary, strict=True))
        exceeded = exceeded and ratio > ALLOWED
        of_lsm, of_ordinary = (f"{statistics.median(each):.1f} ({min(each):.1f})" for each in (lsm, ordinary))
        print(f"  {name}: lsm {of_lsm}, ordinary {of_ordinary}, ratio {ratio:.2f} (of the least {min(lsm) / min(ordinary):.2f})")
    print(f"allowed {ALLOWED}: {'EXCEEDED' if exceeded else 'kept'}")
    return 1 if exceeded else 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.autocommit", description=(__doc__ or "").partition("\n")[0])
    result.add_argument("-n", "--rows", type=at_least(0), default=1_000_000, help="rows that are there before (default 1000000)")
    result.add_argument("--inserts", type=at_least(1), default=2000, help="of a round (default 2000)")
    result.add_argument("--rounds", type=at_least(1), default=16, help="(default 16)")
    result.add_argument("--seed", type=int, default=1, help="of the random rows (default 1)")
    result.add_argument("--directory", help="where the databases are made (default: the system's temporary directory)")
    return result


if __name__ == "__main__":
    sys.exit(main())
