"""Measure zstd dictionaries: python -m benchmarks.dictionaries -n 1000000

Rows like JSON, of about 165 bytes with keys like rowids, in random order, and rows of random text, each with dictionaries and without, by turns:
what the loaded and compacted tree takes on disk, and what loading, compacting, a scan of all rows and gets of rows that are not in the cache take.
Exit code 1 when a dictionary saves less than 15 % of the JSON's, or is used where it does not pay.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from base64 import b64encode
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from lsmsql import Options
from lsmsql import open as open_engine

from .adapters.lsmsql_engine import options as engine_options
from .data import Row, batches, json_values
from .run import at_least
from .session import check

WANTED = 0.15
GETS = 20_000
TEXT_BYTES = 157

Figures = dict[str, float]


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    given = parser().parse_args(arguments)
    source = random.Random(given.seed)
    keys = [number.to_bytes(8, "big") for number in range(given.rows)]
    source.shuffle(keys)
    kept = True
    for kind in ("JSON", "random text"):
        values = json_values(given.rows, source) if kind == "JSON" else [b64encode(source.randbytes(TEXT_BYTES * 3 // 4)) for _ in keys]
        rows = list(zip(keys, values, strict=True))
        logical = sum(len(key) + len(value) for key, value in rows)
        print(f"{given.rows:,} rows of {kind}, {logical / len(rows):.0f} bytes each, blocks of {given.block_bytes} bytes, zstd level {given.level}")
        found = {size: Measured() for size in (0, given.dictionary_bytes)}
        for _ in range(given.repeat):
            for size, measured in found.items():
                options = replace(engine_options, block_bytes=given.block_bytes, compression_level=given.level, dictionary_bytes=size)
                with tempfile.TemporaryDirectory(dir=given.directory, prefix="lsmsql-dictionaries-") as directory:
                    measured.add(measure(Path(directory), options, rows))
        for size, measured in found.items():
            print(f"  {f'dictionary of {size} bytes' if size else 'without'}: {measured.line(logical, len(rows))}")
        plain, learned = (measured.median("bytes") for measured in found.values())
        used = found[given.dictionary_bytes].median("dictionaries")
        saved = 1 - learned / plain
        kept &= saved >= WANTED if kind == "JSON" else not used
        print(f"  saves {saved:.1%} of the bytes on disk; dictionaries used: {used:.0f}")
    print(f"wanted: {WANTED:.0%} of JSON, none for random text: {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


class Measured:
    """The figures of one way, run by run."""

    def __init__(self) -> None:
        self._runs: dict[str, list[float]] = defaultdict(list)

    def add(self, figures: Figures) -> None:
        for name, figure in figures.items():
            self._runs[name].append(figure)

    def median(self, name: str) -> float:
        return statistics.median(self._runs[name])

    def line(self, logical: int, rows: int) -> str:
        return (
            f"{self.median('bytes'):,.0f} bytes ({self.median('bytes') / logical:.3f} of the logical ones), load {self.median('load'):.2f} s, "
            f"compact {self.median('compact'):.2f} s, scan {self.median('scan') / rows * 1e6:.3f} us/row, get {self.median('get') * 1e6:.1f} us"
        )


def measure(directory: Path, options: Options, rows: list[Row]) -> Figures:
    """bytes: of SSTables; dictionaries: in use; the others: seconds, `get` for each key."""
    with open_engine(str(directory / "kv-lsm"), replace(options, cache_bytes=0)) as engine:
        tree = engine.tree("kv")
        times = [time.perf_counter()]
        for batch in batches(rows):
            tree.put_many(batch)
        engine.flush()
        times.append(time.perf_counter())
        engine.compact()
        times.append(time.perf_counter())
        count = sum(1 for _ in tree.scan())
        times.append(time.perf_counter())
        for key, value in rows[:GETS]:
            check(tree.get(key) == value, "a row has a wrong value")
        times.append(time.perf_counter())
        check(count == len(rows), "the scan did not find every row")
        found = engine.statistics()
    load, compact, scan, get = (after - before for before, after in pairwise(times))
    gets = min(GETS, len(rows))
    figures = {"load": load, "compact": compact, "scan": scan, "get": get / gets}
    return {**figures, "bytes": float(found["table_bytes"]), "dictionaries": float(found["dictionaries"])}


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.dictionaries", description=(__doc__ or "").partition("\n")[0])
    result.add_argument("-n", "--rows", type=at_least(1), default=1_000_000, help="rows (default 1000000)")
    result.add_argument("--block-bytes", type=at_least(1), default=4096, help="of data blocks (default 4096)")
    result.add_argument("--dictionary-bytes", type=at_least(256), default=Options().dictionary_bytes, help="at most (default: the options')")
    result.add_argument("--level", type=at_least(1), default=1, help="of zstd (default 1)")
    result.add_argument("--repeat", type=at_least(1), default=3, help="loads of each kind (default 3)")
    result.add_argument("--seed", type=int, default=1, help="of the random rows (default 1)")
    result.add_argument("--directory", help="where the databases are made (default: the system's temporary directory)")
    return result


if __name__ == "__main__":
    sys.exit(main())
