"""Measure encryption: python -m benchmarks.encryption -n 1000000

The same work on a database with and without a key, by turns: loads, single puts, reads of blocks that are not cached, a scan of everything. The
least time of each kind counts, the wall's and the processor's, as whoever else is on the machine only adds to them. Exit code 1 when a load or the
scan takes over 10 % more of the processor's time, or a put over 1 us.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lsmsql import Database
from lsmsql import open as open_engine

from .adapters.lsmsql_engine import PASSPHRASE
from .adapters.lsmsql_engine import options as engine_options
from .data import Dataset, Row, batches
from .run import at_least
from .session import MICRO, OPERATIONS, check

ALLOWED = 0.10
ALLOWED_PUT = 1.0
WAYS = {"plain": None, "encrypted": PASSPHRASE}
CACHE_BYTES = 4 << 20  # of the database that is read: most blocks are missed

Figure = tuple[float, float]
"""Microseconds of the wall and of the processor, for each operation."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    given = parser().parse_args(arguments)
    data = Dataset(given.rows, given.seed)
    least: dict[str, dict[str, Figure]] = {}
    for _ in range(given.repeat):
        for way, key in WAYS.items():
            for name, figure in measure(data, key, given.directory).items():
                before = least.setdefault(name, {}).get(way, figure)
                least[name][way] = min(before[0], figure[0]), min(before[1], figure[1])
    kept = True
    for name, found in least.items():
        (wall, busy), (wall_encrypted, busy_encrypted) = found["plain"], found["encrypted"]
        ratio = f"{wall_encrypted / wall - 1:+.0%} wall, {busy_encrypted / busy - 1:+.0%} processor"
        print(f"{name}: plain {wall:.3f} us, processor {busy:.3f}; encrypted {wall_encrypted:.3f} us, processor {busy_encrypted:.3f}: {ratio}")
        if name == "put":
            kept = kept and busy_encrypted - busy <= ALLOWED_PUT
        elif name != "get":
            kept = kept and busy_encrypted / busy - 1 <= ALLOWED
    print(f"allowed {ALLOWED:+.0%} for loads and scans, {ALLOWED_PUT:.0f} us for a put: {'kept' if kept else 'EXCEEDED'}")
    return 0 if kept else 1


def measure(data: Dataset, key: str | None, directory: str | None) -> dict[str, Figure]:
    """Every figure, once."""
    rows, laid_out = data.rows(), data.laid_out()
    few, portions, in_order = rows[:OPERATIONS], batches(rows), batches(laid_out)
    found: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(dir=directory, prefix="lsmsql-encryption-") as path:
        for name, count, work in (
            ("bulk load, random keys", len(rows), lambda engine: _load(engine, portions)),
            ("bulk load, sorted, batches", len(rows), lambda engine: _load(engine, in_order)),
            ("bulk load, sorted, ingest", len(rows), lambda engine: engine.tree("kv").ingest(laid_out)),
            ("put", len(few), lambda engine: _put(engine, few)),
        ):
            found[name] = _timed(str(Path(path, name.replace(" ", "-"))), engine_options, key, work, count)
        read = str(Path(path, "bulk-load,-sorted,-ingest"))
        keys = [data.keys[index] for index in data.indexes(min(OPERATIONS, len(rows)), "encryption")]
        options = replace(engine_options, cache_bytes=CACHE_BYTES)
        found["get"] = _timed(read, options, key, lambda engine: _get(engine, keys), len(keys))
        found["full scan"] = _timed(read, options, key, lambda engine: _scan(engine, laid_out[-1]), len(rows))
    return found


def _timed(path: str, options: object, key: str | None, work: Callable[[Database], object], count: int) -> Figure:
    with open_engine(path, options, key=key) as engine:
        gc.collect()
        gc.disable()
        wall, busy = time.perf_counter(), time.process_time()
        work(engine)
        figure = (time.perf_counter() - wall) / count * MICRO, (time.process_time() - busy) / count * MICRO
        gc.enable()
    return figure


def _load(engine: Database, portions: list[list[Row]]) -> None:
    put_many = engine.tree("kv").put_many
    for portion in portions:
        put_many(portion)
    engine.flush()


def _put(engine: Database, rows: list[Row]) -> None:
    put = engine.tree("kv").put
    for key, value in rows:
        put(key, value)


def _get(engine: Database, keys: list[bytes]) -> None:
    check(None not in map(engine.tree("kv").get, keys), "a key is missing")


def _scan(engine: Database, last: Row) -> None:
    check(deque(engine.tree("kv").scan(), maxlen=1).pop() == last, "the last row is wrong")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.encryption", description=(__doc__ or "").partition("\n")[0])
    result.add_argument("-n", "--rows", type=at_least(1), default=1_000_000, help="rows (default 1000000)")
    result.add_argument("--repeat", type=at_least(1), default=3, help="times that everything is done (default 3)")
    result.add_argument("--seed", type=int, default=1, help="of the random rows (default 1)")
    result.add_argument("--directory", help="where the databases are made (default: the system's temporary directory)")
    return result


if __name__ == "__main__":
    sys.exit(main())
