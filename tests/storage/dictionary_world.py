"""Dictionaries for tests, trained from what is at hand."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, cast

import zstandard

from lsmsql.engine.storage.dictionary import Dictionary


def trained(samples: Sequence[bytes], size: int = 1024) -> Dictionary:
    return Dictionary(zstandard.train_dictionary(size, cast(Any, list(samples)), k=64, d=8, level=1).as_bytes())


def json_row(source: random.Random) -> bytes:
    """Such as {"id": 1, "user": ..., ...}, about 165 bytes."""
    row = {
        "id": source.randrange(10**6),
        "user": f"user{source.randrange(10**5)}",
        "email": f"user{source.randrange(10**5)}@example.com",
        "city": source.choice(["Berlin", "Paris", "Rome", "Madrid", "Vienna", "Oslo"]),
        "status": source.choice(["active", "pending", "closed"]),
        "score": round(source.random() * 100, 3),
        "tags": source.sample(["new", "old", "vip", "trial", "blocked"], 2),
    }
    return json.dumps(row).encode()


def json_rows(count: int, seed: int = 1) -> list[tuple[bytes, bytes]]:
    source = random.Random(seed)
    return [(b"%08d" % number, json_row(source)) for number in range(count)]


def json_dictionary(seed: int = 1, size: int = 1024) -> Dictionary:
    source = random.Random(seed)
    return trained([json_row(source) for _ in range(400)], size)
