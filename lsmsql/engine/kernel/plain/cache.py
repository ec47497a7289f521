"""The cache of decoded blocks, and of the partitions of indexes and filters. One serves all tables of a database."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

_FRESH_SHARE = 10  # of the capacity, one part in so many is for blocks that were read once
Place = tuple[int, int]  # table, and number of the block; of a partition a negative one: odd of the index, even of the filter


@dataclass(slots=True)
class _Entry:
    block: Any
    size: int
    referenced: bool


class BlockCache:
    """Blocks up to `capacity` bytes, by S3-FIFO (Yang et al., SOSP 2023), so that what a scan reads once does not put out what is read often.

    Fresh blocks wait in a short queue. At its end those that were read again meanwhile go over to the main queue, the others are put out, and
    remembered: coming back before as much as the cache holds was put out, they go to the main queue at once. There those that were read since they
    were last met go round again. Partitions go to the main queue, as if they had been read already. What a long scan
    reads is always fresh.

    used: bytes. hits, misses: of data blocks; index_reads, filter_reads: of partitions. prefix_skips: tables, or partitions, that a scan did
    not look at since their filter excludes its prefix.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self.index_reads = 0
        self.filter_reads = 0
        self.prefix_skips = 0
        self._fresh: OrderedDict[Place, _Entry] = OrderedDict()
        self._main: OrderedDict[Place, _Entry] = OrderedDict()
        self._fresh_bytes = 0
        self._put_out = 0  # bytes, so far
        self._ghosts: OrderedDict[Place, int] = OrderedDict()  # blocks put out, and what _put_out was then
        self._lock = threading.Lock()  # Of readers on several threads, each of which moves blocks about.

    def __len__(self) -> int:
        return len(self._fresh) + len(self._main)

    def get(self, table: int, ordinal: int) -> Any:
        with self._lock:
            found = self._find((table, ordinal))
            self.hits += found is not None
            self.misses += found is None
            return found

    def part(self, table: int, slot: int) -> Any:
        """A partition. They are counted as they are read (`count_part`): hits and misses are of data blocks."""
        with self._lock:
            return self._find((table, slot))

    def count_part(self, slot: int) -> None:
        with self._lock:
            if slot % 2:
                self.index_reads += 1
            else:
                self.filter_reads += 1

    def count_skip(self) -> None:
        with self._lock:
            self.prefix_skips += 1

    def add(self, table: int, ordinal: int, block: Any, size: int, passing: bool = False) -> None:
        """passing: for a long scan."""
        place = table, ordinal
        with self._lock:
            if size > self.capacity or place in self._fresh or place in self._main:
                return
            self._shrink(self.capacity - size)
            entry = _Entry(block, size, referenced=ordinal < 0 and not passing)
            stamp = self._ghosts.pop(place, None)
            if not passing and (ordinal < 0 or (stamp is not None and self._put_out - stamp <= self.capacity)):
                self._main[place] = entry
            else:
                self._fresh[place] = entry
                self._fresh_bytes += size
            self.used += size

    def drop(self, table: int) -> None:
        with self._lock:
            for queue in (self._fresh, self._main):
                for place in [place for place in queue if place[0] == table]:
                    entry = queue.pop(place)
                    self.used -= entry.size
                    self._fresh_bytes -= entry.size if queue is self._fresh else 0
            self._ghosts = OrderedDict(item for item in self._ghosts.items() if item[0][0] != table)

    def _find(self, place: Place) -> Any:
        entry = self._main.get(place) or self._fresh.get(place)
        if entry is None:
            return None
        entry.referenced = True
        return entry.block

    def _shrink(self, limit: int) -> None:
        while self.used > limit:
            if self._fresh and (self._fresh_bytes > self.capacity // _FRESH_SHARE or not self._main):
                place, entry = self._fresh.popitem(last=False)
                self._fresh_bytes -= entry.size
                if not entry.referenced:
                    self._remember(place, entry.size)
            else:
                place, entry = self._main.popitem(last=False)
            if entry.referenced:
                entry.referenced = False
                self._main[place] = entry
            else:
                self.used -= entry.size
                self.evictions += 1

    def _remember(self, place: Place, size: int) -> None:
        self._put_out += size
        self._ghosts[place] = self._put_out
        while self._put_out - next(iter(self._ghosts.values())) > self.capacity:
            self._ghosts.popitem(last=False)
