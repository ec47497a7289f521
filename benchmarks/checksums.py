"""Measure checksums of entries: python -m benchmarks.checksums -n 1000000

The load of the same rows without them, with them, and with them made as entries enter memory, by turns, until everything is in SSTables. What counts
is the processor's time, as the wall's is that of whoever else is on the machine. Exit code 1 when they take over 10 % more.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from .adapters.lsmsql_engine import options as engine_options
from .data import Dataset, batches
from .parity import load
from .run import at_least

ALLOWED = 0.10
WAYS = {
    "off": engine_options,
    "all": replace(engine_options, kv_checksums="all"),
    "all, from memory on": replace(engine_options, kv_checksums="all", kv_check_at="insert"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    given = parser().parse_args(arguments)
    rows = batches(Dataset(given.rows, given.seed).rows())
    took: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    sizes: dict[str, int] = {}
    for _ in range(given.repeat):
        for way, options in WAYS.items():
            with tempfile.TemporaryDirectory(dir=given.directory, prefix="lsmsql-checksums-") as directory:
                seconds, of_processor, sizes[way] = load(Path(directory), options, rows)
                took[way].append((seconds, of_processor))
    exceeded = False
    base = statistics.median(busy for _, busy in took["off"])
    for way, times in took.items():
        busy = statistics.median(busy for _, busy in times)
        each = ", ".join(f"{busy:.2f}" for _, busy in times)
        wall = statistics.median(seconds for seconds, _ in times)
        exceeded = exceeded or busy / base - 1 > ALLOWED
        size = f"{sizes[way] / 1e6:,.1f} MB of SSTables"
        print(f"load of {given.rows:,} rows, kv_checksums {way}: processor {busy:.2f} s ({each}; {busy / base - 1:+.1%}), wall {wall:.2f} s, {size}")
    print(f"allowed {ALLOWED:+.0%}: {'EXCEEDED' if exceeded else 'kept'}")
    return 1 if exceeded else 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.checksums", description=(__doc__ or "").partition("\n")[0])
    result.add_argument("-n", "--rows", type=at_least(1), default=1_000_000, help="rows (default 1000000)")
    result.add_argument("--repeat", type=at_least(1), default=3, help="loads of each kind (default 3)")
    result.add_argument("--seed", type=int, default=1, help="of the random rows (default 1)")
    result.add_argument("--directory", help="where the databases are made (default: the system's temporary directory)")
    return result


if __name__ == "__main__":
    sys.exit(main())
