"""Partitions: a long index, and the filter with it, cut into pieces that are read when they are needed (docs/formats.md, "Partitioned index")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PARTITION_FILTER_BYTES = 1 << 20  # at which a partition is closed, however short its index: a filter is built and read as a whole
PARTITION_ENTRIES = 1 << 31


@dataclass(frozen=True, slots=True)
class Partition:
    """What a table stream makes of consecutive blocks: a raw index of them alone, and the raw filter of the keys that begin in them (or b"")."""

    index: bytes
    filter: bytes


@dataclass(frozen=True, slots=True)
class Partitions:
    """What a kernel has to know of a table's partitions besides their index: of each, how many data blocks it has, and how many bytes these take.

    filtered: each has its filter. ValueError where a partition is empty."""

    blocks: Sequence[int]
    data_bytes: Sequence[int]
    filtered: bool

    def __post_init__(self) -> None:
        if len(self.blocks) != len(self.data_bytes) or not all(self.blocks) or sum(self.blocks) >= 1 << 32:
            raise ValueError("impossible partitions")
