# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""TableStream, compiled: merged sources in, data block frames and table summaries out, without the GIL; plain/table_stream.py defines it.

The versions of one user key are a group. Its kept versions are appended to the open block as they come, but only committed, which is where blocks
and tables are cut, when the rules for the oldest of them can be applied: at the end of the group, or when they take too much memory.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.libc.stdlib import calloc, free, malloc, realloc
from cython.cimports.libc.string import memcpy

from ...errors import UsageError
from ...prefix_extractor import PrefixExtractor
from .chunk import Chunk, RawChunk, changed_entry
from .kinds import FILTER_BYTES, INDEX_BYTES, FilterKind
from .native_dictionary import native_dictionary

_ENTRY_OVERHEAD = cython.declare(u64, 8)  # counted for each entry against block_bytes
_PENDING_MAX = cython.declare(u64, 16 << 20)  # bytes of keys and values that may wait for the end of their group


@cython.cclass
class SortedRows:
    """Rows to ingest: (key, value) in strictly ascending order of keys; UsageError, with the row's number, where they are not."""

    def __init__(self, rows) -> None:
        self.rows = rows


@cython.cclass
class TableStream:
    """Merges sources, keeps what the retention rules keep, and encodes it; arguments as plain.table_stream.TableStream's."""

    def __init__(
        self,
        sources,
        *,
        floor: u64,
        snapshots=(),
        bottom=False,
        block_bytes: u64,
        table_bytes: u64,
        filter_bits: u32,
        filter_kind=FilterKind.BLOOM,
        compression_level: cython.int = 0,
        dictionary=None,
        overhead: cython.size_t = 0,
        parity: u32 = 0,
        chunk_bytes: u64 = 1 << 20,
        index_bytes: u64 = INDEX_BYTES,
        filter_bytes: u64 = FILTER_BYTES,
        partition_bytes: u64 = 0,
        spill_bytes: u64 = 0,
        full_filter=False,
        prefix: u32 = 0,
        restart_interval: cython.int = 0,
        hash_ratio: cython.double = 0,
        checked=False,
        deferred=False,
        block_parts=1,
        apart_bytes: u64 = 0,
        put_apart=None,
    ) -> None:
        if self.sources is not None:
            raise ValueError("the stream has begun")
        if not 0 <= restart_interval <= 255 or not 0 <= hash_ratio <= 8:
            raise UsageError(f"restart interval and hash ratio out of range: {restart_interval}, {hash_ratio}")
        self.table.block_bytes = block_bytes
        self.table.table_bytes = table_bytes
        self.table.index_limit = index_bytes
        self.table.filter_limit = filter_bytes
        self.table.partition_bytes = partition_bytes
        self.table.spill_bytes = spill_bytes
        self.table.full_filter = full_filter
        self.table.prefix_code = PrefixExtractor.of_code(prefix).code
        self.table.filter_bits = filter_bits
        self.filter_kind = filter_kind if callable(filter_kind) else FilterKind(filter_kind)
        self.table.restart_interval = restart_interval
        self.table.hash_ratio = hash_ratio
        self.table.deferred = deferred
        sealing_set(cython.address(self.table.sealing), compression_level, overhead, parity, block_parts)
        self.lead = b""
        self._open_dictionary(dictionary, compression_level)
        self.chunk_bytes = chunk_bytes
        self.apart_bytes, self.put_apart = apart_bytes if put_apart is not None else 0, put_apart
        self.stale = True
        self.rules.bottom = bottom
        self._begin(list(sources), [floor, *sorted((seqno for seqno in snapshots if seqno < floor), reverse=True)])
        self.checked = checked
        self.table.checked = checked() if callable(checked) else checked
        self.table.carrying = self.table.checked and not callable(checked) and not bottom and self._carries()

    def _begin(self, sources, boundaries):
        """Make feeds of the sources. boundaries: the floor, then the snapshots below it."""
        self.rules.floor = boundaries[0]
        self.rules.boundaries = cython.cast(U64s, malloc(len(boundaries) * 8))
        self.sources = sources
        self.runs = []
        self.owners = [None] * len(self.sources)
        self.pullers = [None] * len(self.sources)
        self.feeds = cython.cast(FeedP, calloc(len(self.sources) + 1, cython.sizeof(Feed)))
        self.heads = cython.cast(Heads, calloc(len(self.sources) + 1, cython.sizeof(HeadP)))
        if self.rules.boundaries == cython.NULL or self.feeds == cython.NULL or self.heads == cython.NULL:
            raise MemoryError
        for seqno in boundaries:
            self.rules.boundaries[self.rules.count] = seqno
            self.rules.count += 1
        for source in self.sources:
            self._add(source)
        return 0

    def _open_dictionary(self, dictionary, level):
        if dictionary is not None:
            if not level:
                raise UsageError("a dictionary is of use only to what compresses")
            if self.table.sealing.span > 1:
                raise UsageError("blocks in parts are compressed without a dictionary")
            self.dictionary, self.native = dictionary, native_dictionary(dictionary)
            sealing_learn(cython.address(self.table.sealing), self.native, dictionary.id)
        return 0

    def _add(self, source):
        """Make a feed of a source."""
        feed: FeedP = self.feeds + self.count
        table: Table
        tables: Tabs
        size: cython.size_t = 0
        if isinstance(source, Memtable):
            feed_memtable(feed, source)
        elif isinstance(source, SortedRows):
            self.pullers[self.count] = RowPuller(cython.cast(SortedRows, source).rows)
            feed_rows(feed)
        else:
            run: list = [source] if isinstance(source, Table) else list(source)
            if not run:
                return 0
            memory: bytes = PyBytes_FromStringAndSize(cython.NULL, len(run) * cython.sizeof(TabP))
            tables = cython.cast(Tabs, PyBytes_AS_STRING(memory))
            for item in run:
                if not isinstance(item, Table):
                    raise TypeError(f"not a source of table streams: {item!r}")
                table = item
                tables[size] = cython.address(table.tab)
                size += 1
            self.runs.append((memory, run))
            feed_run(feed, tables, size)
        self.count += 1
        return 0

    def _carries(self):
        """Whether every source is a memtable with checksums."""
        n: u32
        for n in range(self.count):
            if not self.feeds[n].memory or self.feeds[n].ops.checks == cython.NULL:
                return False
        return self.count > 0

    # -- what the caller sees

    def next_chunk(self):
        """The next blocks, or None when everything is out. A table's last chunk carries its summary; the next chunk starts another table."""
        if self.table.deferred:
            raise ValueError("this stream hands out raw chunks")
        return self._next()

    @property
    def deferred(self):
        return self.table.deferred

    def next_raw(self):
        """The next blocks, raw, or None when everything is out. Behind a table's last ones, which say so, its summary has to be taken first."""
        if not self.table.deferred or self.waiting:
            raise ValueError("this stream hands out no raw chunk now")
        return self._next()

    def settle(self, sealed) -> None:
        """What has become of the blocks of the oldest raw chunk that nothing was said of yet."""
        table_settle(cython.address(self.table), sealed.sizes, sealed.codecs)

    def summary(self):
        """The summary of the table whose last raw chunk was handed out, all of them being settled."""
        if not self.waiting or self.table.settled != self.table.blocks:
            raise ValueError("the table has not ended, or has blocks that are not settled")
        summary = table_summary(cython.address(self.table), self.filter_kind, self.dictionary)
        table_start(cython.address(self.table))
        self.waiting = False
        return summary

    def sealer(self):
        """A BlockSealer that makes of raw blocks what this stream would have made of them."""
        return BlockSealer(
            compression_level=self.table.sealing.level,
            dictionary=self.dictionary,
            overhead=self.table.sealing.overhead,
            parity=self.table.sealing.parity_code,
            block_parts=self.table.sealing.span,
        )

    def _next(self):
        if self.busy:
            raise ValueError("the stream is already executing")
        if self.closed:
            return None
        code: cython.int = RUN_WANT
        self.busy = True
        try:
            self._check_memtables()
            while code == RUN_WANT or code == RUN_FAILED or code == RUN_APART:
                with cython.nogil:
                    code = self._run()
                if code == RUN_WANT:
                    self._fetch()
                elif code == RUN_APART:
                    self._put_apart()
                elif code == RUN_FAILED:
                    feed_mend(self.feeds + self.stopped, cython.address(self.table.sealing.scratch))
                    self._check_memtables()
            if code == RUN_ERROR:
                raise table_changed(cython.address(self.table)) or MemoryError("no memory for a table stream")
            chunk = None
            if code == RUN_CHUNK or code == RUN_TABLE or self.table.blocks:
                chunk = self._chunk(code != RUN_CHUNK)
            if code == RUN_TABLE and callable(self.checked):
                self.table.checked = self.checked()
            ended = code == RUN_END and not self.waiting
        except BaseException:
            ended = True
            raise
        finally:
            self.busy = False
            if ended or self.closing:
                self.close()
        return chunk

    def close(self) -> None:
        """Stop early; the tables begun are the caller's to throw away."""
        if self.busy:
            self.closing = True
            return
        self.closed = True
        self._free()
        self.sources = []
        self.runs = self.owners = self.pullers = None

    def __dealloc__(self):
        self._free()

    # -- under the GIL

    def _check_memtables(self):
        n: u32
        for n in range(self.count):
            if self.feeds[n].memory and self.feeds[n].ops.rollbacks != self.feeds[n].rollbacks:
                raise UsageError("a memtable was changed while a table stream read it")
        return 0

    def _fetch(self):
        """Give the stopped feed what it wants."""
        feed: FeedP = self.feeds + self.stopped
        puller = self.pullers[self.stopped]
        if puller is not None:
            self.owners[self.stopped] = cython.cast(RowPuller, puller).pull(feed)
        else:
            self.owners[self.stopped] = feed_read(feed)
        self._check_memtables()
        return 0

    def _put_apart(self):
        """Have the value of a head put where it can be read by a pointer."""
        head: HeadP = self.apart
        key: bytes = PyBytes_FromStringAndSize(cython.cast(cython.p_char, head.key), head.key_size)
        value: bytes = PyBytes_FromStringAndSize(cython.cast(cython.p_char, head.value), head.value_size)
        key_hash: u64 = hash64(head.key, head.key_size)
        if self.table.carrying:
            if entry_check(key_hash, head.value, head.value_size, head.seqno, VALUE) != feed_check(cython.cast(FeedP, head)):
                raise changed_entry(key)
        pointer = self.put_apart(value)
        if type(pointer) is not bytes or len(pointer) != POINTER_BYTES:
            raise ValueError(f"no pointer: {pointer!r}")
        self._check_memtables()
        memcpy(self.pointer, PyBytes_AS_STRING(pointer), POINTER_BYTES)
        self.pointer_check = entry_check(key_hash, self.pointer, POINTER_BYTES, head.seqno, BLOB_POINTER)
        self.is_apart = True
        return 0

    def _chunk(self, ends):
        """The finished blocks. ends: they end their table."""
        table: cython.pointer[OpenTable] = cython.address(self.table)
        summary = None
        if table.deferred:
            chunk = RawChunk(table.first_block, table_out(table), table_raw_lengths(table), ends, table.sealing.scratch.dictionary, self.lead)
            self.lead = b"" if ends else table_lead(table, self.lead)
            self.waiting = ends
            table_next_chunk(table)
            return chunk
        frames: bytes = b"" if table.sealing.overhead else table_out(table)
        payloads: list = table_payloads(table) if table.sealing.overhead else []
        first: u32 = table.first_block
        if ends:
            summary = table_summary(table, self.filter_kind, self.dictionary)
            table_start(table)
        else:
            table_next_chunk(table)
        return Chunk(first, frames, payloads, summary, table.sealing.scratch.dictionary)

    def _free(self):
        n: u32
        for n in range(self.count):
            feed_free(self.feeds + n)
        self.count = self.live = 0
        free(self.feeds)
        free(self.heads)
        free(self.rules.boundaries)
        free(self.key)
        self.feeds = cython.NULL
        self.heads = cython.NULL
        self.rules.boundaries = cython.NULL
        self.key = cython.NULL
        table_free(cython.address(self.table))

    # -- without the GIL

    def _run(self):
        """Merge until something stops it (RUN_...). Every stop leaves a state from which the next call goes on."""
        least: Least
        head: HeadP
        code: cython.int
        while True:
            if self.stale:
                code = self._gather()
                if code:
                    return code
            if self.live == 0:
                return self._finish()
            merge_least(self.heads, self.live, False, cython.address(least))
            head = least.head
            while True:
                if not self.grouped or not same_key(head.key, head.key_size, self.key, self.key_size):
                    code = self._end_group()
                    if code == 0:
                        code = self._begin_group(head)
                elif self.table.builder.key_bytes + self.table.builder.value_bytes > _PENDING_MAX:
                    code = self._commit(self._final())
                else:
                    code = 0
                if code:
                    return code
                if retained(cython.address(self.rules), head.seqno, self.newer):
                    if self.apart_bytes and not self.is_apart and head.kind == VALUE and head.value_size >= self.apart_bytes:
                        self.apart = head
                        return RUN_APART
                    if self._append(head):
                        return RUN_ERROR
                self.newer = head.seqno
                feed_next(cython.cast(FeedP, head))
                if head.state != LIVE:
                    self.stale = True
                    break
                if not least.alone and head.prefix >= least.bound:
                    break

    def _append(self, head):
        """Append the head's entry, or the pointer to its value, to the open block -> code."""
        code: cython.int
        if self.is_apart:
            self.is_apart = False
            code = builder_append(cython.address(self.table.builder), head.key, head.key_size, head.seqno, BLOB_POINTER, self.pointer, POINTER_BYTES)
            return table_carry(cython.address(self.table), self.pointer_check) if code == 0 and self.table.carrying else code
        code = builder_append(cython.address(self.table.builder), head.key, head.key_size, head.seqno, head.kind, head.value, head.value_size)
        return table_carry(cython.address(self.table), feed_check(cython.cast(FeedP, head))) if code == 0 and self.table.carrying else code

    def _gather(self):
        """Refill the feeds and list the live ones -> RUN_..., 0 when all are live or done."""
        n: u32
        feed: FeedP
        self.live = 0
        for n in range(self.count):
            feed = self.feeds + n
            if feed.head.state != LIVE:
                feed_refill(feed, cython.address(self.table.sealing.scratch))
            if feed.head.state == LIVE:
                self.heads[self.live] = cython.address(feed.head)
                self.live += 1
            elif feed.head.state != DONE:
                self.stopped = n
                return RUN_FAILED if feed.head.state == FAILED else RUN_WANT
        self.stale = False
        return 0

    def _begin_group(self, head):
        room: cython.size_t = 2 * cython.cast(cython.size_t, head.key_size) + 64
        if head.key_size > self.key_room or self.key == cython.NULL:
            memory: cython.p_void = realloc(self.key, room + SLACK)
            if memory == cython.NULL:
                return RUN_ERROR
            self.key = cython.cast(Room, memory)
            self.key_room = room
        memcpy(self.key, head.key, head.key_size)
        self.key_size = head.key_size
        self.newer = ~cython.cast(u64, 0)
        self.grouped = True
        self.begun = False
        self.in_block = 0
        return 0

    def _end_group(self):
        """Apply the bottom's rules to the oldest versions kept, and commit all -> RUN_..., 0 when done."""
        view: cython.pointer[Blk] = cython.address(self.table.builder.view)
        seqnos: U64s = cython.cast(U64s, view.seqnos)
        code: cython.int
        if not self.grouped:
            return 0
        if self.rules.bottom:
            while view.count > self.table.committed and view.kinds[view.count - 1] == TOMBSTONE and seqnos[view.count - 1] <= self.rules.floor:
                view.count -= 1
                self.table.builder.key_bytes = cython.cast(U32s, view.key_offsets)[view.count]
                self.table.builder.value_bytes = cython.cast(U32s, view.value_offsets)[view.count]
            if view.count > self.table.committed and (view.kinds[view.count - 1] == VALUE or view.kinds[view.count - 1] == BLOB_POINTER):
                if seqnos[view.count - 1] <= self.rules.boundaries[self.rules.count - 1]:
                    seqnos[view.count - 1] = 0
        code = self._commit(view.count)
        if code:
            return code
        self.grouped = False
        return RUN_CHUNK if self.begun and self.table.payload_bytes >= self.chunk_bytes else 0

    def _final(self):
        """How many entries of the builder no rule can change any more, whatever older versions follow."""
        view: cython.pointer[Blk] = cython.address(self.table.builder.view)
        seqnos: U64s = cython.cast(U64s, view.seqnos)
        count: u32 = view.count
        if self.rules.bottom:
            while count > self.table.committed and view.kinds[count - 1] == TOMBSTONE and seqnos[count - 1] <= self.rules.floor:
                count -= 1
            if count > self.table.committed and seqnos[count - 1] <= self.rules.floor:
                count -= 1
        return count

    def _commit(self, count):
        """Put the group's entries before `count` into blocks, cutting where the format says -> RUN_..., 0 when done."""
        table: cython.pointer[OpenTable] = cython.address(self.table)
        view: cython.pointer[Blk] = cython.address(self.table.builder.view)
        i: u32 = table.committed
        if i >= count:
            return 0
        if not self.begun:
            if table_full(table):  # A table ends between different user keys only.
                return RUN_ERROR if i and table_close_block(table, i) else RUN_TABLE
            if table_add_key(table, self.key, self.key_size):
                return RUN_ERROR
            self.begun = True
        while i < count:
            table.size += block_key_size(view, i) + cython.cast(u64, block_value_size(view, i)) + _ENTRY_OVERHEAD
            table.duplicates = table.duplicates or self.in_block > 0
            self.in_block += 1
            i += 1
            table.committed = i
            if table.size >= table.block_bytes and (not table_index_ends(table) or table.size >= table.index_limit // 4):
                if table_close_block(table, i):
                    return RUN_ERROR
                count -= i
                i = 0
                self.in_block = 0
        return 0

    def _finish(self):
        code: cython.int = self._end_group()
        if code:
            return code
        if self.table.committed and table_close_block(cython.address(self.table), self.table.committed):
            return RUN_ERROR
        return RUN_END
