"""Point reads: open SSTables as the kernels see them, the cache of their decoded blocks, and the lookup over all sources of one tree."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any, NoReturn, Protocol, TypeVar

import xxhash

from ....prefix_extractor import PrefixExtractor
from ...storage.compression import LEAD_BYTES_MAX, Codec, Lead, decompress
from ...storage.dictionary import Dictionary
from ...storage.encryption import FileCipher
from ..entry_error import EntryTypeError
from ..kinds import Kind
from ..partitions import Partitions
from ..values_apart import NoValues, ValueSource, fill_values
from .block import decode_block, verify_block
from .cache import BlockCache
from .decoded_block import Block
from .filters import Filter, open_filter
from .index import Index
from .memtable import Group, Memtable, Version

Entry = tuple[bytes, int, int, bytes]  # user key, seqno, kind, value
_READ_AT_ONCE = 1 << 20
_PARTITIONS_ASKED = 2  # a range with a prefix that touches more has keys in between
_SHORT = 16  # blocks of a scan that are cached as those of gets are
T = TypeVar("T")


class BlockSource(Protocol):
    """What a kernel asks of the file behind a table (sstable/reader.py)."""

    cipher: FileCipher | None  # of the epoch that the data frames were sealed under; None: they are not encrypted
    parity: int  # ParityScheme.code of the data frames, 0: none
    dictionary: Dictionary | None  # that the data frames may have been compressed with
    block_parts: int  # data blocks from one lead to the next, 1: none is compressed against another
    paranoid: bool  # whether entries are held to their checksums, where blocks have them

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes at `offset`; CorruptionError when the file ends before."""

    def open(self, ordinal: int, offset: int, frame: bytes) -> tuple[int, int, bytes]:
        """A data block frame verified, repaired if it can be, and decrypted: codec, raw length, payload still compressed; else CorruptionError."""

    def index_partition(self, number: int, parse: Callable[[bytes], T]) -> T:
        """What `parse` makes of a raw partition of the index; CorruptionError when no copy is whole, or `parse` raises ValueError for all."""

    def filter_partition(self, number: int, parse: Callable[[bytes], T]) -> T:
        """Likewise of the filter; b"" is parsed, which answers "maybe", when it is damaged."""

    def damaged(self, offset: int, message: str) -> NoReturn:
        """Raise CorruptionError for a block that passes its checksum and yet makes no sense."""


class Table:
    """One open SSTable: its index and filter in memory, or the top-level index alone; its blocks, and partitions, through the cache.

    index, filter_bytes: raw section contents (docs/formats.md); ValueError, naming the check, when they are malformed.
    smallest: the first user key (from the properties). global_seqno is added to the seqnos in the file (ingested tables hold zeros).
    partitions: of a table whose index is partitioned; `index` is then that of the partitions. pin_index, pin_filter: partitions, once read, stay in
    memory, outside the cache. prefix: PrefixExtractor.code of what the filter holds beside the keys.
    """

    def __init__(
        self,
        source: BlockSource,
        index: bytes,
        filter_bytes: bytes,
        smallest: bytes,
        cache: BlockCache,
        global_seqno: int = 0,
        partitions: Partitions | None = None,
        pin_index: bool = False,
        pin_filter: bool = False,
        prefix: int = 0,
    ) -> None:
        self.source = source
        self.cache = cache
        self.global_seqno = global_seqno
        self.smallest = smallest
        self._filter = open_filter(filter_bytes)
        self._top = top = Index(index, global_seqno)
        self._partitions = partitions
        if partitions is not None and len(partitions.blocks) != top.blocks:
            raise ValueError("index of another number of partitions")
        self.partitions = top.blocks if partitions is not None else 0
        self._firsts = list(accumulate(partitions.blocks, initial=0)) if partitions is not None else [0, top.blocks]
        self._starts = list(accumulate(partitions.data_bytes, initial=0)) if partitions is not None else [0, top.offsets[-1]]
        self._pinned: dict[int, tuple[Any, int]] = {}  # with its size
        self._prefix = PrefixExtractor.of_code(prefix)
        self._pins = pin_index, pin_filter
        self._lead: tuple[int, Lead] | None = None  # the last one that was read
        self.blocks = self._firsts[-1]
        self.entries = sum(top.entries)
        self.min_seqno = min(top.min_seqnos)
        self.max_seqno = max(top.max_seqnos)
        self.largest = top.last_keys[-1]
        if self.smallest > top.last_keys[0]:
            raise ValueError("smallest key lies after the first block")

    def may_contain(self, key: bytes) -> bool:
        if not self.smallest <= key <= self.largest:
            return False
        return self._may_contain(self._piece_of(key), xxhash.xxh3_64_intdigest(key))

    def get(self, key: bytes, seqno: int) -> Version | None:
        """The newest version of a key at a seqno, tombstones included."""
        if not self.may_contain(key):
            return None
        for number in range(self._piece_of(key), len(self._firsts) - 1):
            index = self._piece(number)
            for ordinal in range(bisect_left(index.last_keys, key), index.blocks):
                block = self._block(index, ordinal)
                keys = block.keys()
                for position in range(bisect_left(keys, key), len(keys)):
                    if keys[position] != key:
                        return None
                    if block.seqnos()[position] <= seqno:
                        return block.seqnos()[position], block.kinds()[position], block.values()[position]
        return None

    def block(self, ordinal: int, keep: bool = True) -> Block:
        """A decoded block through the cache; with keep=False a missed one is not added to it."""
        index = self._piece(bisect_right(self._firsts, ordinal) - 1)
        return self._block(index, ordinal - index.first, keep)

    def _block(self, index: Index, ordinal: int, keep: bool = True, passing: bool = False) -> Block:
        found = self.cache.get(id(self), index.first + ordinal)
        if found is None:
            found, size = self._decode(index, ordinal, self.source.read(index.offsets[ordinal], index.sizes[ordinal]))
            if keep:
                self.cache.add(id(self), index.first + ordinal, found, size, passing)
        return found

    # -- pieces: the partitions of the index, or the whole index as the only one

    def _piece_of(self, key: bytes) -> int:
        """The first piece whose last key is not below the key."""
        return bisect_left(self._top.last_keys, key) if self.partitions else 0

    def _piece(self, number: int, keep: bool = True, passing: bool = False) -> Index:
        if not self.partitions:
            return self._top
        index: Index = self._part(-1 - 2 * number, number, keep, self.source.index_partition, self._parse_partition, passing)
        return index

    def _may_contain(self, number: int, key_hash: int) -> bool:
        found = self._filter
        if self._partitions is not None and self._partitions.filtered:
            found = self._part(-2 - 2 * number, number, True, self.source.filter_partition, _parse_filter)[0]
        return found is None or found.may_contain(key_hash)

    def _part(
        self,
        slot: int,
        number: int,
        keep: bool,
        read: Callable[..., tuple[Any, int]],
        parse: Callable[[int, bytes], tuple[Any, int]],
        passing: bool = False,
    ) -> Any:
        """A parsed partition, from where it is kept under `slot`, or read."""
        found = self._pinned[slot][0] if slot in self._pinned else self.cache.part(id(self), slot)
        if found is None:
            found, size = read(number, partial(parse, number))
            self.cache.count_part(slot)
            if self._pins[slot % 2 == 0]:
                self._pinned[slot] = found, size
            elif keep:
                self.cache.add(id(self), slot, found, size, passing)
        return found

    def _parse_partition(self, number: int, raw: bytes) -> tuple[Index, int]:
        index = Index(raw, self.global_seqno, self._firsts[number], self._starts[number])
        index.require_summary(self._top, number, self._firsts[number + 1] - self._firsts[number], self._starts[number + 1])
        return index, len(raw)

    def blocks_from(self) -> Iterator[Block]:
        """Every block, read about a MiB at a time and not kept."""
        for number in range(len(self._firsts) - 1):
            index = self._piece(number, keep=False)
            first = 0
            while first < index.blocks:
                start = index.offsets[first]
                last = max(first + 1, bisect_right(index.offsets, start + _READ_AT_ONCE) - 1)
                chunk = self.source.read(start, index.offsets[last] - start)
                for ordinal in range(first, last):
                    begin = index.offsets[ordinal] - start
                    yield self._decode(index, ordinal, chunk[begin : begin + index.sizes[ordinal]])[0]
                first = last

    def raw_block(self, ordinal: int) -> bytes:
        """What a data block's frame holds, decompressed and not decoded, past the cache."""
        if not 0 <= ordinal < self.blocks:
            raise IndexError(f"block {ordinal} of a table that has {self.blocks}")
        index = self._piece(bisect_right(self._firsts, ordinal) - 1)
        offset, size = index.offsets[ordinal - index.first], index.sizes[ordinal - index.first]
        return self._raw(index, ordinal - index.first, self.source.read(offset, size))

    def _raw(self, index: Index, ordinal: int, frame: bytes) -> bytes:
        """What a frame holds, decompressed."""
        offset = index.offsets[ordinal]
        codec, raw_length, payload = self.source.open(index.first + ordinal, offset, frame)
        learned = self._lead_of(index, ordinal) if codec == Codec.ZSTD_LEAD else self.source.dictionary
        try:
            raw = decompress(payload, codec, raw_length, learned)
        except ValueError as error:
            self.source.damaged(offset, str(error))
        if self.source.block_parts > 1 and (index.first + ordinal) % self.source.block_parts == 0 and 0 < len(raw) <= LEAD_BYTES_MAX:
            self._lead = index.first + ordinal, Lead(raw)
        return raw

    def _lead_of(self, index: Index, ordinal: int) -> Lead | None:
        """What a block may have been compressed against; None for one that leads."""
        lead = ordinal - (index.first + ordinal) % self.source.block_parts
        if lead == ordinal:
            return None
        if lead < 0:
            self.source.damaged(index.offsets[ordinal], "a block's parts lie in several partitions of the index")
        held = self._lead
        if held is None or held[0] != index.first + lead:
            offset, size = index.offsets[lead], index.sizes[lead]
            raw = self._raw(index, lead, self.source.read(offset, size))
            if not 0 < len(raw) <= LEAD_BYTES_MAX:
                self.source.damaged(offset, f"the first part of a block has {len(raw)} bytes, and is no lead")
            held = self._lead = index.first + lead, Lead(raw)
        return held[1]

    def _decode(self, index: Index, ordinal: int, frame: bytes) -> tuple[Block, int]:
        offset = index.offsets[ordinal]
        raw = self._raw(index, ordinal, frame)
        try:
            block = decode_block(raw)
            if self.source.paranoid:
                verify_block(raw, block)
        except ValueError as error:
            self.source.damaged(offset, str(error))
        if len(block) != index.entries[ordinal] or block.keys()[-1] != index.last_keys[ordinal]:
            self.source.damaged(offset, "data block is not the one the index describes")
        if self.global_seqno:
            block = Block(block.keys(), [seqno + self.global_seqno for seqno in block.seqnos()], block.kinds(), block.values())
        return block, len(raw)

    def groups(self, lower: bytes | None, upper: bytes | None, seqno: int, reverse: bool, since: int, keep: bool) -> Iterator[Group]:
        """The keys in [lower, upper) with their versions visible at a seqno, newest first; blocks with nothing above `since` are skipped."""
        entries = self._entries(lower, upper, since, reverse, keep)
        for key, group in groupby(entries, key=itemgetter(0)):
            if (lower is not None and key < lower) or (upper is not None and key >= upper):
                continue
            visible = [entry[1:] for entry in group if entry[1] <= seqno]
            if visible:
                yield key, visible[::-1] if reverse else visible

    def _entries(self, lower: bytes | None, upper: bytes | None, since: int, reverse: bool, keep: bool) -> Iterator[Entry]:
        step, loads = -1 if reverse else 1, 0
        first = self._piece_of(lower) if lower is not None else 0
        last = min(self._piece_of(upper) if upper is not None else len(self._firsts), len(self._firsts) - 2)
        prefix = self._prefix.prefix_of_range(lower, upper) if last - first < _PARTITIONS_ASKED else None
        for number in range(first, last + 1)[::step]:
            if prefix is not None and not self._may_have_prefix(number, prefix):
                self.cache.count_skip()
                continue
            if since and self.partitions and self._top.max_seqnos[number] <= since:
                continue
            index = self._piece(number, keep, loads > _SHORT)
            low = bisect_left(index.last_keys, lower) if lower is not None else 0
            high = bisect_left(index.last_keys, upper) if upper is not None else index.blocks - 1
            for ordinal in range(low, min(high + 1, index.blocks))[::step]:
                if not since or index.max_seqnos[ordinal] > since:
                    loads += 1
                    block = self._block(index, ordinal, keep, loads > _SHORT)
                    yield from list(zip(block.keys(), block.seqnos(), block.kinds(), block.values(), strict=True))[::step]

    def _may_have_prefix(self, number: int, prefix: bytes) -> bool:
        """Whether a piece may hold a key with that prefix: one that begins in it, or goes on from the piece before."""
        if number and self._top.last_keys[number - 1].startswith(prefix):
            return True
        return self._may_contain(number, xxhash.xxh3_64_intdigest(prefix))

    def pin(self, index: bool, filter: bool) -> None:
        """Keep partitions that are read from now on; those that were kept go over to the cache where they are not to be any more."""
        self._pins = index, filter
        for slot, (found, size) in list(self._pinned.items()):
            if not self._pins[slot % 2 == 0]:
                self.cache.add(id(self), slot, found, size)
                del self._pinned[slot]

    def release(self) -> None:
        """Forget the cached blocks (the table is no longer in any version)."""
        self.cache.drop(id(self))
        self._pinned = {}


def _parse_filter(_number: int, raw: bytes) -> tuple[tuple[Filter | None], int]:
    return (open_filter(raw),), len(raw)


class Levels:
    """The SSTables of one tree in one version. levels[0] may overlap, in any order; every further level is ascending and disjoint.

    apart: reads the values that stand apart (values_apart.py)."""

    def __init__(self, levels: Sequence[Sequence[Table]], apart: ValueSource | None = None) -> None:
        self.apart: ValueSource = apart if apart is not None else NoValues()
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
    found = _newest(memtables, levels, key, seqno)
    if found is not None and found[1] == Kind.BLOB_POINTER:
        return found[0], int(Kind.VALUE), levels.apart.read(key, found[2])
    return found


def _newest(memtables: Sequence[Memtable], levels: Levels, key: bytes, seqno: int) -> Version | None:
    """get_entry, but for values that stand apart."""
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
    wanted = list(keys)
    versions = [_newest(memtables, levels, key, seqno) for key in wanted]
    found = [None if version is None else _unread(version[1], version[2]) for version in versions]
    fill_values(levels.apart, wanted, found)
    return found


def _unread(kind: int, value: bytes) -> Any:
    """What values_apart.py fills in."""
    return value if kind == Kind.VALUE else (value,) if kind == Kind.BLOB_POINTER else None
