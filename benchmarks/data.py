"""The data of every workload: 16-byte random keys, 100-byte values that compress by about 40 %, fixed seeds."""

from __future__ import annotations

import bisect
import itertools
import json
import random

KEY_BYTES = 16
VALUE_BYTES = 100
BATCH = 1000
"""Rows of one put_many, which every system commits as one transaction."""

Row = tuple[bytes, bytes]


def random_keys(count: int, source: random.Random) -> list[bytes]:
    """`count` keys of 16 random bytes, in no order."""
    return [source.randbytes(KEY_BYTES) for _ in range(count)]


def random_values(count: int, source: random.Random) -> list[bytes]:
    """`count` values of 100 bytes: 50 random bytes, twice."""
    return [source.randbytes(VALUE_BYTES // 2) * 2 for _ in range(count)]


def json_values(count: int, source: random.Random) -> list[bytes]:
    """`count` rows like {"id": 17, "user": "user4711", ...} as JSON, of about 150 bytes."""
    return [_json_value(source) for _ in range(count)]


def _json_value(source: random.Random) -> bytes:
    user = source.randrange(10**5)
    row = {
        "id": source.randrange(10**6),
        "user": f"user{user}",
        "email": f"user{user}@mail.example.com",
        "city": source.choice(("Berlin", "Paris", "Rome", "Madrid", "Vienna", "Oslo")),
        "status": source.choice(("active", "pending", "closed")),
        "score": round(source.random() * 100, 3),
        "tags": source.sample(("new", "old", "vip", "trial", "blocked"), 2),
    }
    return json.dumps(row).encode()


def batches(rows: list[Row]) -> list[list[Row]]:
    """The rows in consecutive lists of BATCH."""
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


class Dataset:
    """`rows` keys and what a database that was loaded with them holds now.

    keys: in load order.  values: `values[i]` belongs to `keys[i]`; workloads that write keep it up to date, so that
    later reads can be checked.  inserted: rows that were added later.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self.seed = seed
        source = random.Random(f"{seed} load")
        self.keys = random_keys(rows, source)
        self.values = random_values(rows, source)
        self.inserted: list[Row] = []

    def source(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose, so that leaving a workload out changes no other."""
        return random.Random(f"{self.seed} {purpose}")

    def rows(self) -> list[Row]:
        """The first load, in load order."""
        return list(zip(self.keys, self.values, strict=True))

    def laid_out(self) -> list[Row]:
        """`content()` as a source of sorted rows makes them: one after another, so that they lie in memory in their order."""
        return [(bytes(bytearray(key)), bytes(bytearray(value))) for key, value in self.content()]

    def content(self) -> list[Row]:
        """Everything the database has to hold now, in key order."""
        return sorted(itertools.chain(zip(self.keys, self.values, strict=True), self.inserted))

    def indexes(self, count: int, purpose: str) -> list[int]:
        """`count` uniformly chosen row numbers."""
        source = self.source(purpose)
        return [int(source.random() * len(self.keys)) for _ in range(count)]

    def zipf_indexes(self, count: int, purpose: str) -> list[int]:
        """`count` row numbers by Zipf's law with exponent 0.99 (YCSB's): row 0 is the most frequent."""
        source = self.source(purpose)
        weights = list(itertools.accumulate(1 / rank**0.99 for rank in range(1, len(self.keys) + 1)))
        return [bisect.bisect_left(weights, source.random() * weights[-1], hi=len(weights) - 1) for _ in range(count)]
