"""Measure parity: python -m benchmarks.parity -n 1000000

What the code does in MB/s of frames, compiled and plain, encoding and reconstructing p lost shards; then the load of the same rows with parity
rs(4,2) behind the data blocks and without, by turns, until everything is in SSTables. Exit code 1 when the load takes over 25 % longer.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from lsmsql import Options
from lsmsql import open as open_engine
from lsmsql._compiled import compiled_module
from lsmsql.engine.storage import parity_plain

from .adapters.lsmsql_engine import options as engine_options
from .data import Dataset, Row, batches
from .run import at_least
from .session import check

SHAPES = ((4, 1), (4, 2), (10, 4))
FRAME_BYTES = 4000
ALLOWED = 0.25
SCHEMES = ("none", "rs(4,2)")


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    given = parser().parse_args(arguments)
    compiled = compiled_module("lsmsql.engine.storage.parity_cy")
    for name, code in (("compiled", compiled), ("plain", parity_plain)):
        for d, p in SHAPES if code else ():
            encode, decode = speeds(code, d, p, given.seconds)
            print(f"{name} rs({d},{p}), frames of {FRAME_BYTES} bytes: encode {encode:,.0f} MB/s, reconstruct {p} lost {decode:,.0f} MB/s")
    rows = batches(Dataset(given.rows, given.seed).rows())
    took: dict[str, list[float]] = {scheme: [] for scheme in SCHEMES}
    busy: dict[str, list[float]] = {scheme: [] for scheme in SCHEMES}
    sizes: dict[str, int] = {}
    for _ in range(given.repeat):
        for scheme in SCHEMES:
            with tempfile.TemporaryDirectory(dir=given.directory, prefix="lsmsql-parity-") as directory:
                seconds, of_processor, sizes[scheme] = load(Path(directory), replace(engine_options, parity=scheme), rows)
                took[scheme].append(seconds)
                busy[scheme].append(of_processor)
    for scheme in SCHEMES:
        each = ", ".join(f"{seconds:.2f}" for seconds in took[scheme])
        median, of_processor = statistics.median(took[scheme]), statistics.median(busy[scheme])
        size = f"{sizes[scheme] / 1e6:,.1f} MB of SSTables"
        print(f"load of {given.rows:,} rows with parity {scheme}: {median:.2f} s ({each}), processor {of_processor:.2f} s, {size}")
    more = statistics.median(took[SCHEMES[1]]) / statistics.median(took[SCHEMES[0]]) - 1
    print(f"parity rs(4,2) takes {more:+.1%} time to load; allowed {ALLOWED:+.0%}: {'kept' if more <= ALLOWED else 'EXCEEDED'}")
    return 0 if more <= ALLOWED else 1


def speeds(code: ModuleType, d: int, p: int, seconds: float) -> tuple[float, float]:
    """Encoding and reconstructing, MB/s of frames."""
    frames = [random.Random(n).randbytes(FRAME_BYTES) for n in range(64)]
    stored = code.encode_many(frames, d, p)
    lost = tuple(range(p))
    check(code.reconstruct(stored[0], FRAME_BYTES, d, p, lost) == frames[0], "a frame was not reconstructed")
    found = []
    for work in (lambda: code.encode_many(frames, d, p), lambda: [code.reconstruct(each, FRAME_BYTES, d, p, lost) for each in stored]):
        started, rounds = time.perf_counter(), 0
        while time.perf_counter() < started + seconds:
            work()
            rounds += 1
        found.append(rounds * len(frames) * FRAME_BYTES / (time.perf_counter() - started) / 1e6)
    return found[0], found[1]


def load(directory: Path, options: Options, rows: list[list[Row]]) -> tuple[float, float, int]:
    """Seconds to write the rows and to have them all in SSTables, those of the processor, and the bytes of the tables."""
    started, idle = time.perf_counter(), time.process_time()
    with open_engine(str(directory / "kv-lsm"), options) as engine:
        tree = engine.tree("kv")
        for batch in rows:
            tree.put_many(batch)
        engine.compact()
        seconds, of_processor = time.perf_counter() - started, time.process_time() - idle
        size = int(engine.statistics()["table_bytes"])
        check(tree.get(rows[-1][-1][0]) == rows[-1][-1][1], "a row has a wrong value")
    return seconds, of_processor, size


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=(__doc__ or "").partition("\n")[0])
    result.add_argument("-n", "--rows", type=at_least(1), default=1_000_000, help="rows (default 1000000)")
    result.add_argument("--repeat", type=at_least(1), default=3, help="loads of each kind (default 3)")
    result.add_argument("--seconds", type=float, default=0.5, help="for each figure of the code (default 0.5)")
    result.add_argument("--seed", type=int, default=1, help="of the random rows (default 1)")
    result.add_argument("--directory", help="where the databases are made (default: the system's temporary directory)")
    return result


if __name__ == "__main__":
    sys.exit(main())
