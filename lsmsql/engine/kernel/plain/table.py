"""Point reads: open SSTables as the kernels see them, the cache of their decoded blocks, and the lookup over all sources of one tree."""

from __future__ import annotations

import struct
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby, pairwise
from operator import itemgetter
from typing import NoReturn, Protocol

import xxhash

from ...storage.compression import decompress
from ...storage.dictionary import Dictionary
from ..entry_error import EntryTypeError
from ..kinds import DUPLICATES, KIND_READABLE_MAX, Kind
from .block import decode_block
from .decoded_block import Block
from .filters import open_filter
from .memtable import Group, Memtable, Version

Entry = tuple[bytes, int, int, bytes]  # user key, seqno, kind, value
_READ_AT_ONCE = 1 << 20


class BlockSource(Protocol):
    """What a kernel asks of the file behind a table (sstable/reader.py)."""

    encrypted: bool
    parity: int  # ParityScheme.code of the data frames, 0: none
    dictionary: Dictionary | None  # that the data frames may have been compressed with

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes at `offset`; CorruptionError when the file ends before."""

    def open(self, ordinal: int, offset: int, frame: bytes) -> tuple[int, int, bytes]:
        """A data block frame verified, repaired if it can be, and decrypted: codec, raw length, payload still compressed; else CorruptionError."""

    def damaged(self, offset: int, message: str) -> NoReturn:
        """Raise CorruptionError for a block that passes its checksum and yet makes no sense."""


class BlockCache:
    """Decoded blocks up to `capacity` bytes, least recently used out first. One cache serves all tables of a database."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self._blocks: OrderedDict[tuple[int, int], tuple[Block, int]] = OrderedDict()
        self._lock = threading.Lock()  # Of readers on several threads, each of which moves blocks about.

    def get(self, table: int, ordinal: int) -> Block | None:
        with self._lock:
            found = self._blocks.get((table, ordinal))
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._blocks.move_to_end((table, ordinal))
            return found[0]

    def add(self, table: int, ordinal: int, block: Block, size: int) -> None:
        with self._lock:
            if size > self.capacity or (table, ordinal) in self._blocks:
                return
            self._blocks[table, ordinal] = block, size
            self.used += size
            while self.used > self.capacity:
                self.used -= self._blocks.popitem(last=False)[1][1]
                self.evictions += 1

    def drop(self, table: int) -> None:
        with self._lock:
            for key in [key for key in self._blocks if key[0] == table]:
                self.used -= self._blocks.pop(key)[1]


class Table:
    """One open SSTable: its index and filter in memory, its blocks through the cache.

    index, filter_bytes: raw section contents (docs/formats.md); ValueError, naming the check, when they are malformed.
    smallest: the first user key (from the properties). global_seqno is added to the seqnos in the file (ingested tables hold zeros).
    """

    def __init__(self, source: BlockSource, index: bytes, filter_bytes: bytes, smallest: bytes, cache: BlockCache, global_seqno: int = 0) -> None:
        self.source = source
        self.cache = cache
        self.global_seqno = global_seqno
        self.smallest = smallest
        self._filter = open_filter(filter_bytes)
        self.sizes, self.block_entries, minima, maxima, self.masks, self.last_keys = parse_index(index)
        self.max_seqnos = [seqno + global_seqno for seqno in maxima]
        self.offsets = list(accumulate(self.sizes, initial=0))
        self.blocks = len(self.sizes)
        self.entries = sum(self.block_entries)
        self.min_seqno = min(minima) + global_seqno
        self.max_seqno = max(self.max_seqnos)
        self.largest = self.last_keys[-1]
        if self.smallest > self.last_keys[0]:
            raise ValueError("smallest key lies after the first block")

    def may_contain(self, key: bytes) -> bool:
        if not self.smallest <= key <= self.largest:
            return False
        return self._filter is None or self._filter.may_contain(xxhash.xxh3_64_intdigest(key))

    def get(self, key: bytes, seqno: int) -> Version | None:
        """The newest version of a key at a seqno, tombstones included."""
        if not self.may_contain(key):
            return None
        for ordinal in range(bisect_left(self.last_keys, key), self.blocks):
            block = self.block(ordinal)
            keys = block.keys()
            for position in range(bisect_left(keys, key), len(keys)):
                if keys[position] != key:
                    return None
                if block.seqnos()[position] <= seqno:
                    return block.seqnos()[position], block.kinds()[position], block.values()[position]
        return None

    def block(self, ordinal: int, keep: bool = True) -> Block:
        """A decoded block through the cache; with keep=False a missed one is not added to it."""
        found = self.cache.get(id(self), ordinal)
        if found is None:
            offset = self.offsets[ordinal]
            found, size = self._decode(ordinal, self.source.read(offset, self.sizes[ordinal]))
            if keep:
                self.cache.add(id(self), ordinal, found, size)
        return found

    def blocks_from(self, first: int = 0) -> Iterator[Block]:
        """Every block from `first` on, read about a MiB at a time and not kept."""
        while first < self.blocks:
            start = self.offsets[first]
            last = max(first + 1, bisect_right(self.offsets, start + _READ_AT_ONCE) - 1)
            chunk = self.source.read(start, self.offsets[last] - start)
            for ordinal in range(first, last):
                begin = self.offsets[ordinal] - start
                yield self._decode(ordinal, chunk[begin : begin + self.sizes[ordinal]])[0]
            first = last

    def raw_block(self, ordinal: int) -> bytes:
        """What a data block's frame holds, decompressed and not decoded, past the cache."""
        if not 0 <= ordinal < self.blocks:
            raise IndexError(f"block {ordinal} of a table that has {self.blocks}")
        offset = self.offsets[ordinal]
        codec, raw_length, payload = self.source.open(ordinal, offset, self.source.read(offset, self.sizes[ordinal]))
        try:
            return decompress(payload, codec, raw_length, self.source.dictionary)
        except ValueError as error:
            self.source.damaged(offset, str(error))

    def _decode(self, ordinal: int, frame: bytes) -> tuple[Block, int]:
        codec, raw_length, payload = self.source.open(ordinal, self.offsets[ordinal], frame)
        try:
            block = decode_block(decompress(payload, codec, raw_length, self.source.dictionary))
        except ValueError as error:
            self.source.damaged(self.offsets[ordinal], str(error))
        if len(block) != self.block_entries[ordinal] or block.keys()[-1] != self.last_keys[ordinal]:
            self.source.damaged(self.offsets[ordinal], "data block is not the one the index describes")
        if self.global_seqno:
            block = Block(block.keys(), [seqno + self.global_seqno for seqno in block.seqnos()], block.kinds(), block.values())
        return block, raw_length

    def groups(self, lower: bytes | None, upper: bytes | None, seqno: int, reverse: bool, since: int, keep: bool) -> Iterator[Group]:
        """The keys in [lower, upper) with their versions visible at a seqno, newest first; blocks with nothing above `since` are skipped."""
        first = bisect_left(self.last_keys, lower) if lower is not None else 0
        last = bisect_left(self.last_keys, upper) if upper is not None else self.blocks - 1
        ordinals = [n for n in range(first, min(last + 1, self.blocks)) if self.max_seqnos[n] > since or not since]
        entries = self._entries(reversed(ordinals) if reverse else ordinals, reverse, keep)
        for key, group in groupby(entries, key=itemgetter(0)):
            if (lower is not None and key < lower) or (upper is not None and key >= upper):
                continue
            visible = [entry[1:] for entry in group if entry[1] <= seqno]
            if visible:
                yield key, visible[::-1] if reverse else visible

    def _entries(self, ordinals: Iterator[int] | list[int], reverse: bool, keep: bool) -> Iterator[Entry]:
        for ordinal in ordinals:
            block = self.block(ordinal, keep)
            entries = list(zip(block.keys(), block.seqnos(), block.kinds(), block.values(), strict=True))
            yield from reversed(entries) if reverse else entries

    def release(self) -> None:
        """Forget the cached blocks (the table is no longer in any version)."""
        self.cache.drop(id(self))


class Levels:
    """The SSTables of one tree in one version. levels[0] may overlap, in any order; every further level is ascending and disjoint."""

    def __init__(self, levels: Sequence[Sequence[Table]]) -> None:
        self.levels = [list(level) for level in levels]
        self._largest = [[table.largest for table in level] for level in self.levels]

    def get(self, key: bytes, seqno: int, best: Version | None) -> Version | None:
        """The newest version at a seqno, given the best found in newer sources."""
        for table in self.levels[0] if self.levels else ():
            # Ingested tables may be newer than what the memtables hold, so L0 is asked wherever it could win.
            if best is None or table.max_seqno > best[0]:
                found = table.get(key, seqno)
                if found and (best is None or found[0] > best[0]):
                    best = found
        for level, largest in zip(self.levels[1:], self._largest[1:], strict=True):
            if best is not None:
                return best
            position = bisect_left(largest, key)
            if position < len(level):
                best = level[position].get(key, seqno)
        return best


def get_entry(memtables: Sequence[Memtable], levels: Levels, key: bytes, seqno: int) -> Version | None:
    """The newest version of a key at a seqno over all sources, tombstones included. memtables: newest first, a batch's before all."""
    if not isinstance(key, bytes):
        raise EntryTypeError(f"key must be bytes, not {type(key).__name__}")
    for memtable in memtables:
        found = memtable.get(key, seqno)
        if found is not None:
            return levels.get(key, seqno, found)
    return levels.get(key, seqno, None)


def get(memtables: Sequence[Memtable], levels: Levels, key: bytes, seqno: int) -> bytes | None:
    """The value of a key at a seqno, or None."""
    found = get_entry(memtables, levels, key, seqno)
    return found[2] if found is not None and found[1] == Kind.VALUE else None


def get_many(memtables: Sequence[Memtable], levels: Levels, keys: Sequence[bytes], seqno: int) -> list[bytes | None]:
    """The values of keys at one seqno, in the order of the keys; None where there is none."""
    return [get(memtables, levels, key, seqno) for key in keys]


def parse_index(index: bytes) -> tuple[list[int], list[int], list[int], list[int], list[int], list[bytes]]:
    """Frame sizes, entries, min and max seqnos, kind masks and last keys of the blocks; ValueError, naming the check, for bytes that are no index."""
    count = int.from_bytes(index[:4], "little")
    fixed = 4 + count * 27
    if len(index) < fixed or not count:
        raise ValueError("index shorter than its columns")
    numbers = struct.Struct(f"<{count}I{count}I{count}Q{count}Q{count}B{count}H").unpack_from(index, 4)
    sizes, entries, minima, maxima, masks, lengths = (list(numbers[n * count : (n + 1) * count]) for n in range(6))
    if fixed + sum(lengths) != len(index):
        raise ValueError("index keys do not fill it")
    ends = list(accumulate(lengths, initial=fixed))
    keys = [index[a:b] for a, b in pairwise(ends)]
    if any(a > b for a, b in pairwise(keys)):
        raise ValueError("index keys out of order")
    if not all(sizes) or not all(entries) or any(mask & ~DUPLICATES >= 2 << KIND_READABLE_MAX for mask in masks):
        raise ValueError("impossible index entry")
    return sizes, entries, minima, maxima, masks, keys
