"""Measure the peak memory of a bulk load: python -m benchmarks.memory -n 5000000 --system lsmsql

Rows of 16 + 100 bytes in transactions of 100,000, random keys. The peak has to stay under memtables + block cache + 300 MB; the
interpreter and the rows of one transaction, which the caller holds, are part of the 300 MB. Exit code 1 when it does not.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from .adapters import OURS, SYSTEMS, load
from .adapters.base import Adapter
from .data import Row, random_keys, random_values
from .run import at_least
from .session import check
from .worker import peak_rss
from .workloads import disk_bytes

TRANSACTION = 100_000
ALLOWANCE = 300_000_000


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    try:
        adapter = load(options.system)
    except ImportError as error:
        print(f"{options.system} cannot run: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="lsmsql-memory-") as directory:
        before = peak_rss()
        database = adapter(Path(directory))
        started = time.perf_counter()
        kept = fill(database, options.rows, options.seed)
        database.flush()
        seconds = time.perf_counter() - started
        loaded = peak_rss()
        verify(database, kept, options.rows)
        peak = peak_rss()
        database.close()
        size = disk_bytes(Path(directory))
    speed = f"{seconds:.1f} s ({seconds / options.rows * 1e6:.2f} µs/row with flush)"
    print(f"{options.system}: {options.rows:,} rows in {speed}, {megabytes(size)} on disk")
    print(f"peak memory: {megabytes(before)} before opening, {megabytes(loaded)} after the load, {megabytes(peak)} after a full scan")
    if not options.system.startswith(OURS):
        return 0
    limit, terms = allowed()
    print(f"limit: {megabytes(limit)} = {terms}: {'kept' if peak <= limit else 'EXCEEDED'}")
    return 0 if peak <= limit else 1


def allowed() -> tuple[int, str]:
    """The limit in bytes for the options of lsmsql's adapters, and what it consists of."""
    from .adapters.lsmsql_engine import options

    memtables = options.memtable_bytes * (1 + options.sealed_max)
    parts = f"memtables {megabytes(memtables)} (1 open + {options.sealed_max} sealed) + block cache {megabytes(options.cache_bytes)}"
    return memtables + options.cache_bytes + ALLOWANCE, f"{parts} + {megabytes(ALLOWANCE)}"


def fill(database: Adapter, rows: int, seed: int) -> list[Row]:
    """Write the rows; the last row of each transaction."""
    source = random.Random(seed)
    kept = []
    for start in range(0, rows, TRANSACTION):
        count = min(TRANSACTION, rows - start)
        portion = list(zip(random_keys(count, source), random_values(count, source), strict=True))
        database.put_many(portion)
        kept.append(portion[-1])
        if sys.stderr.isatty():
            print(f"\r{start + count:,} of {rows:,} rows", end="" if start + count < rows else "\n", file=sys.stderr, flush=True)
    return kept


def verify(database: Adapter, kept: list[Row], rows: int) -> None:
    """Every row is there, and those that were kept have their values."""
    check(sum(1 for _ in database.scan_all()) == rows, "rows are missing")
    for key, value in kept:
        check(database.get(key) == value, "a row has a wrong value")


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=(__doc__ or "").partition("\n")[0])
    result.add_argument("-n", "--rows", type=at_least(1), default=5_000_000, help="rows (default 5000000)")
    result.add_argument("--system", choices=SYSTEMS, default=OURS, help="which system, e.g. lsmsql-sql; the limit is for lsmsql (default lsmsql)")
    result.add_argument("--seed", type=int, default=1, help="of the random rows (default 1)")
    result.add_argument("--directory", help="where the database is made (default: the system's temporary directory)")
    return result


if __name__ == "__main__":
    sys.exit(main())
