"""TableStream: merged sources in, data block frames and table summaries out. Flush, compaction and ingest are this with other rules."""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter

import xxhash

from ....errors import UsageError
from ....prefix_extractor import PrefixExtractor
from ...storage.block_frame import HEADER_BYTES
from ...storage.compression import LEAD_BYTES_MAX, Codec
from ...storage.dictionary import Dictionary
from ..chunk import Chunk, RawChunk, SealedBlocks, TableSummary, changed_entry
from ..kinds import DUPLICATES, FILTER_BYTES, INDEX_BYTES, POINTER_BYTES, SEQNO_MAX, FilterKind, Kind
from ..partitions import PARTITION_ENTRIES, PARTITION_FILTER_BYTES, Partition
from .block import encode_block
from .block_rows import encode_rows
from .checksums import block_checks, entry_check, with_checks
from .decoded_block import Block
from .filters import build_filter
from .memtable import Memtable, Version
from .sealing import BlockSealer
from .sorted_rows import SortedRows
from .table import Entry, Table

_ENTRY_OVERHEAD = 8  # counted for each entry against block_bytes
_BLOCK_OVERHEAD = 27  # counted for each block against index_bytes


Source = Memtable | Table | Sequence[Table] | SortedRows
FilterChoice = Callable[[bytes, bytes], FilterKind]  # by a table's smallest and largest user key


@dataclass(frozen=True)
class _Shape:
    """What a TableStream's arguments say of filter and index."""

    filter_bits: int
    filter_kind: FilterKind | FilterChoice
    index_bytes: int
    filter_bytes: int
    partition_bytes: int
    spill_bytes: int
    full_filter: bool
    overhead: int
    block_bytes: int
    rows: bool
    prefix: PrefixExtractor
    block_parts: int


@dataclass
class _OpenTable:
    """The blocks of the table being written."""

    shape: _Shape
    sizes: list[int] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    minima: list[int] = field(default_factory=list)
    maxima: list[int] = field(default_factory=list)
    masks: list[int] = field(default_factory=list)
    last_keys: list[bytes] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    smallest: bytes = b""
    pointers: list[bytes] = field(default_factory=list)
    tombstones: int = 0
    raw_bytes: int = 0
    data_bytes: int = 0
    index_bytes: int = 0  # of the blocks and their last keys
    raw_lengths: list[int] = field(default_factory=list)
    settled: int = 0  # blocks whose frames are known
    settled_raw: int = 0  # bytes of those, raw
    unsettled_raw: int = 0  # and of the others
    learned: bool = False  # Some block is compressed with the dictionary.
    ends: list[tuple[int, int]] = field(default_factory=list)  # blocks and hashes before the end of each partition
    top_bytes: int = 0  # of the partitions and their last keys
    open_bytes: int = 0  # of the open partition, as index_bytes
    open_entries: int = 0
    keys: int = 0
    prefix: bytes | None = None  # of the last key that had one, in the open partition

    @property
    def frame_bytes(self) -> int:
        """Of all blocks; those that are being sealed are taken to shrink as the others did, or not at all."""
        if not self.unsettled_raw:
            return self.data_bytes
        if not self.settled_raw:
            return self.unsettled_raw + (len(self.sizes) - self.settled) * (HEADER_BYTES + self.shape.overhead)
        return self.data_bytes + int(self.unsettled_raw * (self.data_bytes / self.settled_raw))

    @property
    def filter_bytes(self) -> int:
        """Of a Bloom filter over the whole table."""
        return len(self.hashes) * self.shape.filter_bits // 8

    @property
    def index_ends(self) -> bool:
        """Whether the index is as long as it may be."""
        limit = self.shape.index_bytes
        if not self.shape.partition_bytes:
            return self.index_bytes >= limit
        return self.top_bytes >= limit or self.index_bytes >= 16 * limit

    @property
    def full(self) -> bool:
        one = not self.shape.partition_bytes or self.shape.full_filter
        return self.index_ends or (one and self.filter_bytes >= self.shape.filter_bytes)

    def settle(self, size: int, codec: int) -> None:
        """The next block's frame is known."""
        self.sizes[self.settled] = size
        self.settled_raw += self.raw_lengths[self.settled]
        self.unsettled_raw -= self.raw_lengths[self.settled]
        self.settled += 1
        self.data_bytes += size
        self.learned = self.learned or codec == Codec.ZSTD_DICTIONARY

    def add_key(self, key: bytes) -> None:
        """A user key, which the filter is to have, and its prefix if that is not the one of the key before."""
        if not self.keys:
            self.smallest = key
        self.keys += 1
        self.hashes.append(xxhash.xxh3_64_intdigest(key))
        prefix = self.shape.prefix.prefix_of(key)
        if prefix is not None and prefix != self.prefix:
            self.prefix = prefix
            if prefix != key:
                self.hashes.append(xxhash.xxh3_64_intdigest(prefix))

    def end_block(self) -> None:
        """Close the open partition if it is long enough."""
        shape = self.shape
        if not shape.partition_bytes:
            return
        self.open_bytes += _BLOCK_OVERHEAD + len(self.last_keys[-1])
        self.open_entries += self.entries[-1]
        if len(self.last_keys) % shape.block_parts:
            return  # A block's parts lie in one partition.
        keys = len(self.hashes) - (self.ends[-1][1] if self.ends else 0)
        long = self.open_bytes >= shape.partition_bytes or self.open_entries >= PARTITION_ENTRIES
        if long or keys * shape.filter_bits // 8 >= PARTITION_FILTER_BYTES:
            self.end_partition()

    def end_partition(self) -> None:
        self.ends.append((len(self.sizes), len(self.hashes)))
        self.top_bytes += _BLOCK_OVERHEAD + len(self.last_keys[-1])
        self.open_bytes = self.open_entries = 0
        self.prefix = None  # A partition's filter has the prefixes of all keys that begin in it.

    def _index(self, first: int, last: int) -> bytes:
        """The raw index of some of the blocks."""
        count, some = last - first, slice(first, last)
        columns = struct.Struct(f"<I{count}I{count}I{count}Q{count}Q{count}B{count}H")
        fields = self.sizes[some], self.entries[some], self.minima[some], self.maxima[some], self.masks[some], map(len, self.last_keys[some])
        return columns.pack(count, *(number for column in fields for number in column)) + b"".join(self.last_keys[some])

    def _spills(self) -> bool:
        shape = self.shape
        if not shape.partition_bytes:
            return False
        return self.index_bytes > shape.spill_bytes or (not shape.full_filter and self.filter_bytes >= shape.filter_bytes)

    def _partitions(self, kind: FilterKind) -> tuple[Partition, ...]:
        if self.open_bytes:
            self.end_partition()
        bits = 0 if self.shape.full_filter else self.shape.filter_bits
        edges = pairwise([(0, 0), *self.ends])
        return tuple(Partition(self._index(a, b), build_filter(self.hashes[c:d], bits, kind)) for (a, c), (b, d) in edges)

    def summary(self, level: int, dictionary: Dictionary | None) -> TableSummary:
        choice = self.shape.filter_kind
        kind = FilterKind(choice(self.smallest, self.last_keys[-1]) if callable(choice) else choice)
        count = len(self.sizes)
        partitions = self._partitions(kind) if self._spills() else ()
        mask = 0
        for block_mask in self.masks:
            mask |= block_mask & ~DUPLICATES
        whole = self.shape.full_filter or not partitions
        made = build_filter(self.hashes, self.shape.filter_bits, kind) if whole else b""
        filtered = made or any(partition.filter for partition in partitions)
        return TableSummary(
            index=b"" if partitions else self._index(0, count),
            filter=made,
            filter_kind=kind if filtered else FilterKind.NONE,
            partitions=partitions,
            smallest=self.smallest,
            largest=self.last_keys[-1],
            blocks=count,
            entries=sum(self.entries),
            keys=self.keys,
            tombstones=self.tombstones,
            min_seqno=min(self.minima),
            max_seqno=max(self.maxima),
            kind_mask=mask,
            data_bytes=self.data_bytes,
            raw_bytes=self.raw_bytes,
            block_bytes=self.shape.block_bytes,
            rows=self.shape.rows,
            compression_level=level,
            dictionary=dictionary if self.learned else None,
            block_parts=self.shape.block_parts,
            pointers=b"".join(self.pointers),
        )


class TableStream:
    """Merges sources, keeps what the retention rules keep, and encodes it, a chunk of about chunk_bytes at a time.

    sources: memtables (of sealed generations or of none), tables, runs of disjoint ascending tables, or one SortedRows; newest first or not.
    Retention (engine rules 3 and 4): every version above `floor` stays, and the newest at or below `floor` and at or below each of `snapshots`.
    bottom: nothing older lies below the outputs, so a tombstone that hides nothing goes, and seqnos that no reader can tell apart become 0.
    compression_level: of zstd, 0 for none; dictionary: to compress every block with. block_parts: so many data blocks are the parts of one, in which
    all but the first are compressed against that; 1: each is compressed alone. Then there is no dictionary.
    filter_bits, filter_kind: see filters.py; the kind may be asked for at the end of each table, by its smallest and its largest user key.
    table_bytes, index_bytes, filter_bytes: a table ends, between two user keys, once its frames, its index, or a filter in one block reach them.
    While one user key goes on behind index_bytes, blocks close at index_bytes // 4, where block_bytes is less.
    partition_bytes: raw index at which a partition is closed; 0, no index is partitioned. Else one of more than spill_bytes is, and then index_bytes
    is about the top-level index, and 16 times that about the partitions together. full_filter: there is one filter all the same; else each
    partition has its own, and a table whose filter would reach filter_bytes is partitioned too.
    prefix: PrefixExtractor.code of the prefixes that filters hold beside the keys.
    restart_interval: 1 to 255, blocks are rows; 0, blocks are columns. hash_ratio: of rows, buckets for each entry.
    overhead: bytes that sealing adds to each frame's payload; 0 means no encryption, and chunks carry finished frames.
    checked: whether blocks carry checksums of their entries (checksums.py); may be asked for before each table. Where all sources are memtables
    that have had them since the commit, they are held to those, unless it is asked for or `bottom`; CorruptionError for one that has changed.
    parity: ParityScheme.code of the parity behind each frame, 0 for none; a block with it has to stay below 4 GiB.
    put_apart: what takes each value of at least apart_bytes that is kept, and gives the pointer that is written instead; None: all values stay.
    deferred: blocks are handed out raw (`next_raw`), to be sealed on other threads by what `sealer` gives, and settled in their order, while
    the stream goes on; chunk_bytes counts raw bytes then. Where tables end depends on what was settled when, so that has to be the same each time.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        floor: int,
        snapshots: Sequence[int] = (),
        bottom: bool = False,
        block_bytes: int,
        table_bytes: int,
        filter_bits: int,
        filter_kind: FilterKind | FilterChoice = FilterKind.BLOOM,
        compression_level: int = 0,
        dictionary: Dictionary | None = None,
        overhead: int = 0,
        parity: int = 0,
        chunk_bytes: int = 1 << 20,
        index_bytes: int = INDEX_BYTES,
        filter_bytes: int = FILTER_BYTES,
        partition_bytes: int = 0,
        spill_bytes: int = 0,
        full_filter: bool = False,
        prefix: int = 0,
        restart_interval: int = 0,
        hash_ratio: float = 0.0,
        checked: bool | Callable[[], bool] = False,
        deferred: bool = False,
        block_parts: int = 1,
        apart_bytes: int = 0,
        put_apart: Callable[[bytes], bytes] | None = None,
    ) -> None:
        if not 0 <= restart_interval <= 255 or not 0 <= hash_ratio <= 8:
            raise UsageError(f"restart interval and hash ratio out of range: {restart_interval}, {hash_ratio}")
        if dictionary is not None and block_parts > 1:
            raise UsageError("blocks in parts are compressed without a dictionary")
        self._boundaries = [floor, *sorted((seqno for seqno in snapshots if seqno < floor), reverse=True)]
        self._bottom = bottom
        self._apart_bytes, self._put_apart = apart_bytes, put_apart if apart_bytes else None
        self._block_bytes, self._table_bytes = block_bytes, table_bytes
        kind = filter_kind if callable(filter_kind) else FilterKind(filter_kind)
        prefixes = PrefixExtractor.of_code(prefix)
        rows = restart_interval > 0
        limits = index_bytes, filter_bytes, partition_bytes, spill_bytes
        self._shape = _Shape(filter_bits, kind, *limits, full_filter, overhead, block_bytes, rows, prefixes, block_parts)
        self._sealing = partial(
            BlockSealer, compression_level=compression_level, dictionary=dictionary, overhead=overhead, parity=parity, block_parts=block_parts
        )
        self._sealer = self.sealer()
        self._level = compression_level
        self._dictionary = dictionary
        self._restart_interval, self._hash_ratio = restart_interval, hash_ratio
        self.deferred = deferred
        self._lead = b""  # raw, of the block that goes on in the next raw chunk
        self._table = _OpenTable(self._shape)
        self._waiting = False  # for the summary of the table that has ended to be taken
        self._chunk_bytes = chunk_bytes
        self._ask_checked = checked if callable(checked) else None
        self._checked = checked() if callable(checked) else bool(checked)
        self._carried = None if callable(checked) or bottom else _carried(sources)
        merged = heapq.merge(*map(_entries, sources), key=lambda entry: (entry[0], -entry[1]))
        self._chunks = self._run(merged)

    def next_chunk(self) -> Chunk | None:
        """The next blocks, or None when everything is out. A table's last chunk carries its summary; the next chunk starts another table."""
        if self.deferred:
            raise ValueError("this stream hands out raw chunks")
        chunk = next(self._chunks, None)
        assert not isinstance(chunk, RawChunk)
        return chunk

    def next_raw(self) -> RawChunk | None:
        """The next blocks, raw, or None when everything is out. Behind a table's last ones, which say so, its summary has to be taken first."""
        if not self.deferred or self._waiting:
            raise ValueError("this stream hands out no raw chunk now")
        chunk = next(self._chunks, None)
        assert not isinstance(chunk, Chunk)
        return chunk

    def settle(self, sealed: SealedBlocks) -> None:
        """What has become of the blocks of the oldest raw chunk that nothing was said of yet."""
        table, count = self._table, len(sealed.codecs)
        if len(sealed.sizes) != 4 * count or count > len(table.sizes) - table.settled:
            raise ValueError("there are no such blocks to settle")
        for size, codec in zip(struct.unpack(f"<{count}I", sealed.sizes), sealed.codecs, strict=True):
            table.settle(size, codec)

    def summary(self) -> TableSummary:
        """The summary of the table whose last raw chunk was handed out, all of them being settled."""
        if not self._waiting or self._table.unsettled_raw:
            raise ValueError("the table has not ended, or has blocks that are not settled")
        self._waiting = False
        return self._table.summary(self._level, self._dictionary)

    def sealer(self) -> BlockSealer:
        """A BlockSealer that makes of raw blocks what this stream would have made of them."""
        return self._sealing()

    def close(self) -> None:
        """Stop early; the tables begun are the caller's to throw away."""
        self._chunks = iter(())

    def _run(self, merged: Iterator[Entry]) -> Iterator[Chunk | RawChunk]:
        table, rows, size = self._table, list[Entry](), 0
        blocks: list[tuple[int, int, bytes]] = []
        first_block = 0
        for key, versions in groupby(merged, key=itemgetter(0)):
            kept = self._retained([entry[1:] for entry in versions])
            if not kept:
                continue
            if table.frame_bytes >= self._table_bytes or table.full:
                if rows:
                    blocks.append(self._close_block(table, rows))
                    rows, size = [], 0
                yield self._chunk(first_block, blocks, True)
                table = self._table = _OpenTable(self._shape)
                blocks, first_block = [], 0
                if self._ask_checked is not None:
                    self._checked = self._ask_checked()
            table.add_key(key)
            if self._put_apart is not None:
                kept = [self._apart(key, version) for version in kept]
            for seqno, kind, value in kept:
                rows.append((key, seqno, kind, value))
                size += len(key) + len(value) + _ENTRY_OVERHEAD
                if size >= self._block_bytes and (not table.index_ends or size >= self._shape.index_bytes // 4):
                    blocks.append(self._close_block(table, rows))
                    rows, size = [], 0
            if sum(len(block) for _, _, block in blocks) >= self._chunk_bytes:
                yield self._chunk(first_block, blocks, False)
                first_block, blocks = len(table.sizes), []
        if rows:
            blocks.append(self._close_block(table, rows))
        if table.sizes:
            yield self._chunk(first_block, blocks, True)

    def _retained(self, versions: list[Version]) -> list[Version]:
        """The versions of one key that some reader may still need, newest first."""
        floor = self._boundaries[0]
        kept = [version for version in versions if version[0] > floor]
        for boundary in self._boundaries:
            newest = next((version for version in versions if version[0] <= boundary), None)
            if newest is not None and (not kept or kept[-1] is not newest):
                kept.append(newest)
        if self._bottom:
            while kept and kept[-1][1] == Kind.TOMBSTONE and kept[-1][0] <= floor:
                kept.pop()
            if kept and kept[-1][1] in (Kind.VALUE, Kind.BLOB_POINTER) and kept[-1][0] <= self._boundaries[-1]:
                kept[-1] = (0, *kept[-1][1:])
        return kept

    def _apart(self, key: bytes, version: Version) -> Version:
        """The version with a pointer in place of its value, if that is to be put apart."""
        seqno, kind, value = version
        if kind != Kind.VALUE or len(value) < self._apart_bytes or self._put_apart is None:
            return version
        carried = self._carried if self._checked else None
        if carried is not None and carried[key, seqno] != entry_check(key, seqno, kind, value):
            raise changed_entry(key)
        pointer = self._put_apart(value)
        if type(pointer) is not bytes or len(pointer) != POINTER_BYTES:
            raise ValueError(f"no pointer: {pointer!r}")
        if carried is not None:
            carried[key, seqno] = entry_check(key, seqno, Kind.BLOB_POINTER, pointer)
        return seqno, int(Kind.BLOB_POINTER), pointer

    def _close_block(self, table: _OpenTable, rows: list[Entry]) -> tuple[int, int, bytes]:
        keys, seqnos, kinds, values = (list(column) for column in zip(*rows, strict=True))
        block = Block(keys, seqnos, kinds, values)
        raw = encode_rows(block, self._restart_interval, self._hash_ratio) if self._restart_interval else encode_block(block)
        if self._checked:
            raw = with_checks(raw, self._checks(block))
        duplicates = DUPLICATES if any(a == b for a, b in pairwise(keys)) else 0
        if table.last_keys and table.last_keys[-1] == keys[0]:
            duplicates = DUPLICATES
            table.masks[-1] |= DUPLICATES
        mask = duplicates
        for kind in set(kinds):
            mask |= 1 << kind
        table.sizes.append(0)
        table.raw_lengths.append(len(raw))
        table.unsettled_raw += len(raw)
        table.entries.append(len(rows))
        table.minima.append(min(seqnos))
        table.maxima.append(max(seqnos))
        table.masks.append(mask)
        table.last_keys.append(keys[-1])
        table.tombstones += sum(kind == Kind.TOMBSTONE for kind in kinds)
        table.raw_bytes += sum(map(len, keys)) + sum(map(len, values))
        table.pointers += [value for kind, value in zip(kinds, values, strict=True) if kind == Kind.BLOB_POINTER and len(value) == POINTER_BYTES]
        table.index_bytes += _BLOCK_OVERHEAD + len(keys[-1])
        if self.deferred:
            table.end_block()
            return 0, len(raw), raw
        found = self._sealer.payload(len(table.raw_lengths) - 1, raw)
        table.settle(self._sealer.frame_bytes(found[2]), found[0])
        table.end_block()
        return found

    def _checks(self, block: Block) -> list[int]:
        checks = block_checks(block)
        if self._carried is not None:
            for key, seqno, check in zip(block.keys(), block.seqnos(), checks, strict=True):
                if self._carried[key, seqno] != check:
                    raise changed_entry(key)
        return checks

    def _chunk(self, first_block: int, blocks: list[tuple[int, int, bytes]], ends: bool) -> Chunk | RawChunk:
        dictionary = self._dictionary.id if self._dictionary else 0
        if self.deferred:
            self._waiting = ends
            lengths = struct.pack(f"<{len(blocks)}I", *(length for _, length, _ in blocks))
            lead, self._lead = self._lead, b"" if ends else self._lead_behind(first_block, blocks)
            return RawChunk(first_block, b"".join(raw for _, _, raw in blocks), lengths, ends, dictionary, lead)
        frames = b"" if self._sealer.overhead else self._sealer.frames(first_block, blocks)
        table = self._table.summary(self._level, self._dictionary) if ends else None
        return Chunk(first_block, frames, blocks if self._sealer.overhead else [], table, dictionary)

    def _lead_behind(self, first_block: int, blocks: list[tuple[int, int, bytes]]) -> bytes:
        """Raw, the lead of the block that goes on behind some blocks."""
        end = first_block + len(blocks)
        lead = end - end % self._shape.block_parts
        if lead == end:
            return b""
        found = blocks[lead - first_block][2] if lead >= first_block else self._lead
        return found if len(found) <= LEAD_BYTES_MAX else b""


def _carried(sources: Sequence[Source]) -> dict[tuple[bytes, int], int] | None:
    """The checksums of entries by key and seqno, where every source is a memtable that has them."""
    carried: dict[tuple[bytes, int], int] = {}
    for source in sources:
        if not isinstance(source, Memtable) or source.checks is None:
            return None
        carried |= source.checks
    return carried if sources else None


def _entries(source: Source) -> Iterator[Entry]:
    if isinstance(source, SortedRows):
        return source.entries()
    if isinstance(source, Memtable):
        groups = source.groups(None, None, SEQNO_MAX, False)
        return ((key, *version) for key, versions in groups for version in versions)
    return _run_entries([source] if isinstance(source, Table) else source)


def _run_entries(run: Sequence[Table]) -> Iterator[Entry]:
    for table in run:
        for block in table.blocks_from():
            yield from zip(block.keys(), block.seqnos(), block.kinds(), block.values(), strict=True)
