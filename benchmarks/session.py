"""One system under measurement: its databases, the data they hold, the stopwatch and the checks."""

from __future__ import annotations

import gc
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .adapters.base import Adapter
from .data import Dataset, Row, batches, random_values

MICRO = 1e6
OPERATIONS = 200_000
"""At most so many single operations in a workload."""
SAMPLE = 1000
"""So many of them are checked value by value, outside the measured time."""


class WrongResult(Exception):
    """The system did not answer what it was given."""


def check(condition: bool, what: str) -> None:
    if not condition:
        raise WrongResult(what)


class Stopwatch:
    """`with Stopwatch() as watch: ...` then `watch.seconds`. The garbage collector rests meanwhile, as in timeit."""

    seconds = 0.0

    def __enter__(self) -> Stopwatch:
        gc.collect()
        gc.disable()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.perf_counter() - self._start
        gc.enable()


class Session:
    """The workloads' view of one system.

    `fresh()` gives an empty database for one workload. `loaded()` and `overwritten()` give the shared one, which is
    loaded with `data` in random order, closed, opened again and left idle before the first read after a write.
    """

    def __init__(self, adapter: type[Adapter], directory: Path, data: Dataset, idle: float) -> None:
        self.adapter = adapter
        self.directory = directory
        self.data = data
        self.idle = idle
        self.path = directory / "shared"
        self._shared: Adapter | None = None
        self._settled = False
        self._load_seconds: float | None = None
        self._overwrite_seconds: float | None = None
        self.pauses: tuple[list[float], list[float]] | None = None
        self.reads = min(OPERATIONS, 10 * len(data.keys))  # keyed reads in a workload

    @contextmanager
    def fresh(self) -> Iterator[Adapter]:
        """An empty database, removed afterwards."""
        path = Path(tempfile.mkdtemp(dir=self.directory))
        database = self.adapter(path)
        try:
            yield database
        finally:
            database.close()
            shutil.rmtree(path)

    def load(self) -> float:
        """Load the shared database in batches, flush included, on the first call. The seconds it took."""
        if self._load_seconds is None:
            self.path.mkdir()
            self._shared = self.adapter(self.path)
            self._load_seconds = write(self._shared, self.data.rows())
            self.check_content(self._shared)
        return self._load_seconds

    def overwrite(self) -> float:
        """Overwrite half of the shared database's rows, flush included, on the first call. The seconds it took."""
        if self._overwrite_seconds is None:
            database = self.loaded()
            source = self.data.source("overwrite")
            chosen = source.sample(range(len(self.data.keys)), len(self.data.keys) // 2)
            rows = self.change(chosen, source)
            self._overwrite_seconds = write(database, rows)
            self.unsettle()
        return self._overwrite_seconds

    def change(self, indexes: list[int], source: random.Random) -> list[Row]:
        """New values for these rows, in this order, as rows to write; the data changes at once."""
        rows = []
        for index, value in zip(indexes, random_values(len(indexes), source), strict=True):
            rows.append((self.data.keys[index], value))
            self.data.values[index] = value
        return rows

    def loaded(self) -> Adapter:
        """The shared database, reopened and idle for a while if it was written since."""
        self.load()
        if not self._settled:
            self.close()
            self._shared = self.adapter(self.path)
            time.sleep(self.idle)
            self._settled = True
        assert self._shared is not None
        return self._shared

    def overwritten(self) -> Adapter:
        """As `loaded`, after `overwrite`."""
        self.overwrite()
        return self.loaded()

    def unsettle(self) -> None:
        """Say that the shared database was written: the next reader gets it reopened."""
        self._settled = False

    def close(self) -> None:
        """Close the shared database."""
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    def check_content(self, database: Adapter) -> None:
        """Every row, in order."""
        check(list(database.scan_all()) == self.data.content(), "a full scan differs from what was written")

    def check_sample(self, database: Adapter, purpose: str) -> None:
        """Some rows by key, and as many keys that are not there."""
        for index in self.data.indexes(SAMPLE, f"sample {purpose}"):
            check(database.get(self.data.keys[index]) == self.data.values[index], f"{purpose}: a wrong value for row {index}")
            check(database.get(self.data.keys[index] + b"\0") is None, f"{purpose}: an absent key has a value")


def write(database: Adapter, rows: list[Row]) -> float:
    """Put the rows in batches and flush; the seconds."""
    portions = batches(rows)
    with Stopwatch() as watch:
        for portion in portions:
            database.put_many(portion)
        database.flush()
    return watch.seconds
