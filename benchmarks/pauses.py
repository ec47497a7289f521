"""How long a single get or put takes at worst while files are flushed and merged behind it."""

from __future__ import annotations

import time

from .adapters.base import Adapter
from .data import Row
from .session import OPERATIONS, Session, Stopwatch

FLUSHES = 8
"""Flushes during the measurement: each gives compaction another table. The flush itself is nobody's pause."""


def get_pause(session: Session) -> float:
    return percentile(_pauses(session)[0], 0.9999)


def get_pause_longest(session: Session) -> float:
    return max(_pauses(session)[0])


def put_pause_longest(session: Session) -> float:
    return max(_pauses(session)[1])


def _pauses(session: Session) -> tuple[list[float], list[float]]:
    """Milliseconds of each get and of each put while one random put follows one random get without rest."""
    if session.pauses is None:
        database = session.loaded()
        count = min(OPERATIONS, len(session.data.keys))
        reads = session.data.indexes(count, "pause reads")
        source = session.data.source("pause writes")
        changed = [int(source.random() * len(session.data.keys)) for _ in range(count)]
        keys = [session.data.keys[index] for index in reads]
        rows = session.change(changed, source)
        session.pauses = _read_and_write(database, keys, rows)
        session.unsettle()
        session.check_content(database)
    return session.pauses


def _read_and_write(database: Adapter, keys: list[bytes], rows: list[Row]) -> tuple[list[float], list[float]]:
    get, put, clock = database.get, database.put, time.perf_counter_ns
    gets, puts = [], []
    every = max(1, len(rows) // FLUSHES)
    with Stopwatch():
        for number, (key, (changed, value)) in enumerate(zip(keys, rows, strict=True), 1):
            before = clock()
            get(key)
            between = clock()
            put(changed, value)
            after = clock()
            gets.append((between - before) / 1e6)
            puts.append((after - between) / 1e6)
            if number % every == 0:
                database.flush()
    return gets, puts


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
