"""What lsmsql has to reach at 1,000,000 rows with a 128 MiB cache: `first` the foundation, `goal` the product."""

from __future__ import annotations

from typing import NamedTuple

ROWS = 1_000_000


class Target(NamedTuple):
    """One row of the report. Smaller is better in every row; None where nothing is promised."""

    title: str
    unit: str
    first: float | None
    goal: float | None


TARGETS: dict[str, Target] = {
    "load_random": Target("bulk load, random keys", "µs/row", 2.0, 1.2),
    "load_ingest": Target("bulk load, sorted, ingest", "µs/row", 0.40, 0.22),
    "load_sorted": Target("bulk load, sorted, batches", "µs/row", 1.2, 0.7),
    "put": Target("put one by one, random", "µs", 1.5, 0.8),
    "get_present": Target("get, present", "µs", 2.5, 1.3),
    "get_many": Target("get_many(100)", "µs/key", 1.6, 0.6),
    "get_absent": Target("get, absent", "µs", 0.4, 0.2),
    "scan_100": Target("scan of 100 rows", "µs", 25, 13),
    "scan_all": Target("full scan", "µs/row", 0.20, 0.13),
    "overwrite": Target("overwrite half, random", "µs/row", None, None),
    "scan_overwritten": Target("full scan after overwriting half", "µs/row", 0.30, 0.17),
    "mixed": Target("mixed 50/50, zipf", "µs", 3.0, 1.8),
    "sql_insert": Target("SQL insert, executemany, random keys", "µs/row", 3.0, 1.5),
    "sql_by_key": Target("SQL select by key", "µs", 5.0, 3.2),
    "sql_count_sum": Target("SQL count and sum over all rows", "µs/row", 0.6, 0.06),
    "sql_all": Target("SQL select all rows into Python", "µs/row", 1.2, 0.40),
    "space": Target("bytes on disk / logical bytes, compacted", "ratio", 0.65, 0.60),
    "get_pause": Target("get pause p99.99, compaction running", "ms", 2, 0.5),
    "get_pause_longest": Target("get pause, longest, compaction running", "ms", None, 5),
    "put_pause_longest": Target("put pause, longest, compaction running", "ms", None, 50),
}
"""By workload, in the order of the report."""
