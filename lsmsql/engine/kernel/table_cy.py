# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Open tables and levels, compiled: plain/table.py defines what they do, table_cy.pxd gives the C types."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.libc.stdlib import calloc, free, malloc
from cython.cimports.libc.string import memcmp, memcpy, memset
from cython.cimports.lsmsql.engine.kernel.block_cy import block_adopt
from cython.cimports.lsmsql.engine.kernel.block_decode_cy import (
    BLOCK_NO_MEMORY,
    BLOCK_OK,
    BLOCK_OTHER,
    FRAME_BAD,
    Layout,
    blk_allocate,
    blk_free,
    blk_reserve,
    blk_single,
    blk_unpin,
    block_fill,
)
from cython.cimports.lsmsql.engine.kernel.block_rows_cy import ROW_ABSENT, ROW_FOUND, Row, rows_last, rows_search
from cython.cimports.lsmsql.engine.kernel.cache_cy import BlockCache
from cython.cimports.lsmsql.engine.kernel.filter_cy import filter_open, filter_probe
from cython.cimports.lsmsql.engine.kernel.frame_cy import Framed, Scratch, frame_check, payload_decode, scratch_free
from cython.cimports.lsmsql.engine.kernel.libraries_cy import hash64
from cython.cimports.lsmsql.engine.kernel.native import (
    DUPLICATES,
    FRAME_HEADER,
    KIND_READABLE_MAX,
    SLACK,
    U32_MAX,
    BlkP,
    Data,
    Room,
    TabP,
    U32s,
    U64s,
    block_key,
    block_key_size,
    block_kind,
    block_lower,
    block_seqno,
    block_value,
    block_value_size,
    compare_keys,
    last_key,
    last_key_size,
    prefix_of,
    same_key,
    u8,
    u16,
    u32,
    u64,
)

from ..storage.compression import decompress
from .block_cy import decode_block
from .libraries_cy import native_dictionary

_BLOCK_COLUMNS = cython.declare(cython.size_t, 27)  # bytes of an index entry besides its key
_ROWS = cython.declare(u8, 2)
_BIG = cython.declare(u32, 1 << 20)  # raw bytes from which a block is decoded without the GIL, in memory of its own
_READ_AT_ONCE = cython.declare(u64, 1 << 20)
_OTHER_BLOCK = "data block is not the one the index describes"

# Memory for decompressing small blocks. A thread that finds it taken (the libraries' stand-ins may let go of the GIL) uses its own.
_scratch = cython.declare(Scratch)
_scratch_taken = cython.declare(cython.bint, False)
memset(cython.address(_scratch), 0, cython.sizeof(Scratch))


# --- blocks, without the GIL


def table_lower(tab, key, size):
    """The first block whose last key is not below the key."""
    common: cython.size_t = tab.common
    low: u32 = 0
    high: u32 = tab.blocks
    middle: u32
    prefix: u64
    order: cython.int = memcmp(key, tab.keys, size if size < common else common)
    if order:
        return 0 if order < 0 else tab.blocks
    if size < common:
        return 0
    prefix = prefix_of(key + common, size - common)
    while low < high:
        middle = (low + high) >> 1
        if tab.prefixes[middle] < prefix or (
            tab.prefixes[middle] == prefix and compare_keys(last_key(tab, middle), last_key_size(tab, middle), key, size) < 0
        ):
            low = middle + 1
        else:
            high = middle
    return low


def _check_block(tab, ordinal, blk):
    last: u32 = blk.count - 1
    if blk.count != tab.entries[ordinal]:
        return BLOCK_OTHER
    if not same_key(block_key(blk, last), block_key_size(blk, last), last_key(tab, ordinal), last_key_size(tab, ordinal)):
        return BLOCK_OTHER
    return BLOCK_OK


def table_decode_payload(tab, ordinal, codec, raw_length, payload, size, scratch, blk):
    layout: Layout
    code: cython.int = payload_decode(scratch, tab.learned, codec, raw_length, payload, size, cython.address(layout))
    if code == BLOCK_OK:
        code = blk_reserve(blk, layout.need)
    if code == BLOCK_OK:
        block_fill(cython.address(layout), tab.global_seqno, blk[0])
        code = _check_block(tab, ordinal, blk[0])
    return code


def table_decode_frame(tab, ordinal, frame, scratch, blk):
    found: Framed
    code: cython.int = frame_check(frame, tab.sizes[ordinal], tab.parity, tab.dictionary, cython.address(found))
    if code:
        return code
    return table_decode_payload(tab, ordinal, found.codec, found.raw_length, frame + FRAME_HEADER, found.stored, scratch, blk)


# --- blocks, through the cache


def table_block(table, ordinal, keep):
    blk: BlkP = table.tab.cached[ordinal]
    if blk == cython.NULL:
        return table.load(ordinal, keep, cython.NULL)
    table.cache.hits += 1
    blk.referenced = True
    blk.pins += 1
    return blk


def table_find(table, key, size, hash, seqno, blk, position):
    tab: TabP = cython.address(table.tab)
    ordinal: u32
    at: u32
    found: BlkP
    wanted: Wanted
    if compare_keys(key, size, tab.smallest, tab.smallest_size) < 0:
        return 0
    if not filter_probe(cython.address(tab.filter), hash):
        return 0
    wanted.key, wanted.size, wanted.hash, wanted.seqno = key, size, hash, seqno
    ordinal = table_lower(tab, key, size)
    while ordinal < tab.blocks:
        if tab.cached[ordinal] != cython.NULL:
            found = table_block(table, ordinal, True)
        else:
            found = table.load(ordinal, True, cython.address(wanted))
            if found == cython.NULL:
                if wanted.outcome == ROW_ABSENT:
                    return 0
                ordinal += 1
                continue
        at = block_lower(found, key, size)
        while at < found.count:
            if not same_key(block_key(found, at), block_key_size(found, at), key, size):
                blk_unpin(found)
                return 0
            if block_seqno(found, at) <= seqno:
                blk[0] = found
                position[0] = at
                return 1
            at += 1
        blk_unpin(found)
        ordinal += 1
    return 0


@cython.no_gc_clear  # The cache and the blocks in it have to be there when a table goes.
@cython.cclass
class Table:
    """One open SSTable: its index and filter in memory, its blocks through the cache."""

    def __init__(self, source, index, filter_bytes, smallest, cache: BlockCache, global_seqno: u64 = 0) -> None:
        tab: TabP = cython.address(self.tab)
        first: bytes = bytes(smallest)
        if self._memory != cython.NULL:
            raise TypeError("a Table is made once")
        self.source = source
        self.cache = cache
        self.encrypted = source.encrypted
        tab.parity = source.parity
        self._open_dictionary(source.dictionary)
        self._filter = bytes(filter_bytes)
        filter_open(self._filter, cython.address(tab.filter))
        self._parse_index(bytes(index), global_seqno)
        tab.owner = cython.cast(cython.p_void, self)
        tab.smallest = cython.cast(Room, malloc(PyBytes_GET_SIZE(first) + SLACK))
        if tab.smallest == cython.NULL:
            raise MemoryError("no memory for a table")
        tab.smallest_size = PyBytes_GET_SIZE(first)
        memcpy(tab.smallest, PyBytes_AS_STRING(first), tab.smallest_size)
        if compare_keys(tab.smallest, tab.smallest_size, last_key(tab, 0), last_key_size(tab, 0)) > 0:
            raise ValueError("smallest key lies after the first block")

    def __dealloc__(self):
        if self._memory != cython.NULL:
            self.cache.drop(cython.address(self.tab))
            free(self._memory)
        free(self.tab.smallest)

    def _open_dictionary(self, dictionary):
        if dictionary is not None:
            self._dictionary = native_dictionary(dictionary)
            address: cython.size_t = self._dictionary.decompressing
            self.tab.learned = cython.cast(cython.p_void, address)
            self.tab.dictionary = dictionary.id
        return 0

    def _parse_index(self, index, global_seqno):
        """Take the columns of a raw index apart; ValueError, naming the check, when they are malformed."""
        size: cython.size_t = PyBytes_GET_SIZE(index)
        data: Data = cython.cast(Data, PyBytes_AS_STRING(index))
        count: u32 = 0
        fixed: cython.size_t
        length: u16
        keys: u64 = 0
        i: cython.size_t
        memcpy(cython.address(count), data, size if size < 4 else 4)
        fixed = 4 + cython.cast(cython.size_t, count) * _BLOCK_COLUMNS
        if size < fixed or count == 0:
            raise ValueError("index shorter than its columns")
        for i in range(count):
            memcpy(cython.address(length), data + fixed - 2 * (count - i), 2)
            keys += length
        if fixed + keys != size or keys > U32_MAX:
            raise ValueError("index keys do not fill it")
        at: cython.size_t = 0
        need: cython.size_t = cython.cast(cython.size_t, count) * (5 * 8 + 3 * 4 + 1) + 128 + keys + SLACK
        self._memory = calloc(need, 1)
        if self._memory == cython.NULL:
            raise MemoryError("no memory for a table")
        tab: TabP = cython.address(self.tab)
        n: cython.size_t = count
        tab.blocks = count
        tab.prefixes = cython.cast(U64s, _column(self, cython.address(at), 8 * n))
        tab.offsets = cython.cast(U64s, _column(self, cython.address(at), 8 * (n + 1)))
        tab.min_seqnos = cython.cast(U64s, _column(self, cython.address(at), 8 * n))
        tab.max_seqnos = cython.cast(U64s, _column(self, cython.address(at), 8 * n))
        tab.cached = cython.cast(cython.pointer[BlkP], _column(self, cython.address(at), 8 * n))
        tab.sizes = cython.cast(U32s, _column(self, cython.address(at), 4 * n))
        tab.entries = cython.cast(U32s, _column(self, cython.address(at), 4 * n))
        tab.key_offsets = cython.cast(U32s, _column(self, cython.address(at), 4 * (n + 1)))
        tab.masks = _column(self, cython.address(at), n)
        tab.keys = cython.cast(Room, self._memory) + at
        memcpy(tab.keys, data + fixed, keys)
        return self._fill_index(data + 4, global_seqno)

    def _fill_index(self, data, global_seqno):
        tab: TabP = cython.address(self.tab)
        count: cython.size_t = tab.blocks
        lengths: Data = data + count * 25
        length: u16
        i: cython.size_t
        possible: cython.bint = True
        memcpy(tab.sizes, data, 4 * count)
        memcpy(tab.entries, data + 4 * count, 4 * count)
        memcpy(tab.min_seqnos, data + 8 * count, 8 * count)
        memcpy(tab.max_seqnos, data + 16 * count, 8 * count)
        memcpy(tab.masks, data + 24 * count, count)
        tab.global_seqno = global_seqno
        tab.min_seqno = tab.min_seqnos[0] + global_seqno
        for i in range(count):
            tab.offsets[i + 1] = tab.offsets[i] + tab.sizes[i]
            tab.total += tab.entries[i]
            tab.min_seqnos[i] += global_seqno
            tab.max_seqnos[i] += global_seqno
            tab.min_seqno = min(tab.min_seqno, tab.min_seqnos[i])
            tab.max_seqno = max(tab.max_seqno, tab.max_seqnos[i])
            memcpy(cython.address(length), lengths + 2 * i, 2)
            tab.key_offsets[i + 1] = tab.key_offsets[i] + length
            if tab.sizes[i] == 0 or tab.entries[i] == 0 or tab.masks[i] & ~DUPLICATES >= 2 << KIND_READABLE_MAX:
                possible = False
        for i in range(1, count):
            if compare_keys(last_key(tab, i - 1), last_key_size(tab, i - 1), last_key(tab, i), last_key_size(tab, i)) > 0:
                raise ValueError("index keys out of order")
        if not possible:
            raise ValueError("impossible index entry")
        # The keys ascend, so what the first and the last share they all share.
        i = 0
        while i < last_key_size(tab, 0) and i < last_key_size(tab, count - 1) and last_key(tab, 0)[i] == last_key(tab, count - 1)[i]:
            i += 1
        tab.common = i
        for i in range(count):
            tab.prefixes[i] = prefix_of(last_key(tab, i) + tab.common, last_key_size(tab, i) - tab.common)
        return 0

    def load(self, ordinal, keep, wanted):
        """A block that is not cached, read and decoded."""
        global _scratch_taken
        tab: TabP = cython.address(self.tab)
        blk: BlkP
        own: Scratch
        self.cache.misses += 1
        frame = self.source.read(tab.offsets[ordinal], tab.sizes[ordinal])
        blk = tab.cached[ordinal]
        if blk != cython.NULL:  # Another thread was faster while the GIL was free.
            blk.referenced = True
            blk.pins += 1
            return blk
        if not _scratch_taken and tab.sizes[ordinal] < _BIG:
            _scratch_taken = True
            try:
                return self._decode(ordinal, frame, cython.address(_scratch), keep, wanted)
            finally:
                if _scratch.room > 4 * cython.cast(cython.size_t, _BIG):
                    scratch_free(cython.address(_scratch))
                _scratch_taken = False
        memset(cython.address(own), 0, cython.sizeof(Scratch))
        try:
            return self._decode(ordinal, frame, cython.address(own), keep, wanted)
        finally:
            scratch_free(cython.address(own))

    def _pick(self, ordinal, frame, layout, size, wanted):
        """Look up what is wanted in a measured block of rows, undecoded."""
        tab: TabP = cython.address(self.tab)
        row: Row
        if layout.count != tab.entries[ordinal] or not rows_last(layout.raw, size, last_key(tab, ordinal), last_key_size(tab, ordinal)):
            self.damage(ordinal, frame, BLOCK_OTHER)
        wanted.outcome = ROW_ABSENT
        if wanted.seqno < tab.global_seqno:
            return cython.NULL
        seqno: u64 = wanted.seqno - tab.global_seqno
        rows_search(
            layout.raw, size, wanted.key, wanted.size, wanted.hash, seqno, cython.address(row), cython.address(wanted.outcome)
        )  # Nothing in a measured block is an error.
        if wanted.outcome != ROW_FOUND:
            return cython.NULL
        blk: BlkP = blk_single(wanted.key, wanted.size, row.seqno + tab.global_seqno, row.kind, row.value, row.value_size)
        if blk == cython.NULL:
            raise MemoryError("no memory for a data block")
        return blk

    def _decode(self, ordinal, frame, scratch, keep, wanted):
        """Verify, decompress and decode a frame; the block joins the cache if `keep`."""
        tab: TabP = cython.address(self.tab)
        layout: Layout
        found: Framed
        codec: cython.int = 0
        raw_length: u32 = 0
        size: u32 = 0
        code: cython.int = FRAME_BAD
        blk: BlkP = cython.NULL
        held: bytes = frame if type(frame) is bytes else bytes(frame)
        payload: Data = cython.cast(Data, PyBytes_AS_STRING(held))
        opened: bytes
        if not self.encrypted and PyBytes_GET_SIZE(held) == tab.sizes[ordinal]:
            code = frame_check(payload, tab.sizes[ordinal], tab.parity, tab.dictionary, cython.address(found))
        if code == BLOCK_OK:
            codec, raw_length, size = found.codec, found.raw_length, found.stored
            payload += FRAME_HEADER
        else:
            codec, raw_length, content = self.source.open(ordinal, tab.offsets[ordinal], held)
            opened = content if type(content) is bytes else bytes(content)
            payload = cython.cast(Data, PyBytes_AS_STRING(opened))
            size = PyBytes_GET_SIZE(opened)
        if raw_length >= _BIG and scratch != cython.address(_scratch):
            with cython.nogil:
                code = payload_decode(scratch, tab.learned, codec, raw_length, payload, size, cython.address(layout))
        else:
            code = payload_decode(scratch, tab.learned, codec, raw_length, payload, size, cython.address(layout))
        if code:
            self.damage(ordinal, held, code)
        if wanted != cython.NULL and layout.raw[4] == _ROWS and layout.need > self.cache.capacity:
            return self._pick(ordinal, held, cython.address(layout), raw_length, wanted)
        blk = self.cache.take(layout.need) if keep else blk_allocate(layout.need)
        if blk == cython.NULL:
            raise MemoryError("no memory for a data block")
        block_fill(cython.address(layout), tab.global_seqno, blk)
        code = _check_block(tab, ordinal, blk)
        if code:
            blk_free(blk)
            self.damage(ordinal, held, code)
        if keep:
            self.cache.add(blk, tab, ordinal)
        return blk

    def damage(self, ordinal, frame, code):
        """Raise what is wrong with a frame that did not decode: the reason comes from the Python functions that define it."""
        offset: u64 = self.tab.offsets[ordinal]
        if code == BLOCK_NO_MEMORY:
            raise MemoryError("no memory for a data block")
        if code == BLOCK_OTHER:
            self.source.damaged(offset, _OTHER_BLOCK)
        codec, raw_length, payload = self.source.open(ordinal, offset, frame)
        try:
            decode_block(decompress(payload, codec, raw_length, self.source.dictionary))
        except ValueError as error:
            self.source.damaged(offset, str(error))
        self.source.damaged(offset, "data block does not decode")
        raise ValueError("data block does not decode")

    def may_contain(self, key: bytes) -> bool:
        tab: TabP = cython.address(self.tab)
        data: Data = cython.cast(Data, PyBytes_AS_STRING(key))
        hash: u64 = hash64(data, PyBytes_GET_SIZE(key))
        if compare_keys(data, PyBytes_GET_SIZE(key), tab.smallest, tab.smallest_size) < 0:
            return False
        if table_lower(tab, data, PyBytes_GET_SIZE(key)) == tab.blocks:
            return False
        return bool(filter_probe(cython.address(tab.filter), hash))

    def get(self, key: bytes, seqno: u64):
        """The newest version of a key at a seqno, tombstones included: (seqno, kind, value) or None."""
        blk: BlkP = cython.NULL
        at: u32 = 0
        data: Data = cython.cast(Data, PyBytes_AS_STRING(key))
        size: cython.size_t = PyBytes_GET_SIZE(key)
        if not table_find(self, data, size, hash64(data, size), seqno, cython.address(blk), cython.address(at)):
            return None
        try:
            value = PyBytes_FromStringAndSize(cython.cast(cython.p_char, block_value(blk, at)), block_value_size(blk, at))
            return (block_seqno(blk, at), cython.cast(cython.int, block_kind(blk, at)), value)
        finally:
            blk_unpin(blk)

    def block(self, ordinal, keep=True):
        """A decoded block through the cache; with keep=False a missed one is not added to it."""
        if not 0 <= ordinal < self.tab.blocks:
            raise IndexError(f"block {ordinal} of a table that has {self.tab.blocks}")
        return block_adopt(table_block(self, ordinal, keep))

    def raw_block(self, ordinal):
        """What a data block's frame holds, decompressed and not decoded, past the cache."""
        if not 0 <= ordinal < self.tab.blocks:
            raise IndexError(f"block {ordinal} of a table that has {self.tab.blocks}")
        offset: u64 = self.tab.offsets[ordinal]
        codec, raw_length, payload = self.source.open(ordinal, offset, self.source.read(offset, self.tab.sizes[ordinal]))
        try:
            return decompress(payload, codec, raw_length, self.source.dictionary)
        except ValueError as error:
            self.source.damaged(offset, str(error))

    def release(self) -> None:
        """Forget the cached blocks (the table is no longer in any version)."""
        self.cache.drop(cython.address(self.tab))

    @property
    def blocks(self):
        return self.tab.blocks

    @property
    def entries(self):
        return self.tab.total

    @property
    def min_seqno(self):
        return self.tab.min_seqno

    @property
    def max_seqno(self):
        return self.tab.max_seqno

    @property
    def global_seqno(self):
        return self.tab.global_seqno

    @property
    def smallest(self):
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.tab.smallest), self.tab.smallest_size)

    @property
    def largest(self):
        last: u32 = self.tab.blocks - 1
        tab: TabP = cython.address(self.tab)
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, last_key(tab, last)), last_key_size(tab, last))


def _column(table, at, size):
    """The next 8-aligned piece of the table's memory."""
    found: Room = cython.cast(Room, table._memory) + at[0]
    at[0] += (size + 7) & ~cython.cast(cython.size_t, 7)
    return found
