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
from cython.cimports.lsmsql.engine.kernel.block_rows_cy import ROW_ABSENT, ROW_FOUND, Row, rows_last, rows_search
from cython.cimports.lsmsql.engine.kernel.cache_cy import BlockCache
from cython.cimports.lsmsql.engine.kernel.checksums_cy import checks_match
from cython.cimports.lsmsql.engine.kernel.filter_cy import filter_open, filter_probe
from cython.cimports.lsmsql.engine.kernel.frame_cy import Framed, Lead, Scratch, frame_check, frame_open, payload_decode, scratch_free
from cython.cimports.lsmsql.engine.kernel.index_cy import index_fill, index_need, index_partitions
from cython.cimports.lsmsql.engine.kernel.lead_cy import frame_raw, lead_fetch, lead_free, lead_keep, lead_of, lead_wanted
from cython.cimports.lsmsql.engine.kernel.libraries_cy import hash64
from cython.cimports.lsmsql.engine.kernel.parts_cy import part_index, part_may_contain, part_release, part_unpin

from ...prefix_extractor import PrefixExtractor
from .block_cy import decode_block
from .native_dictionary import native_dictionary

_ABSENT = cython.declare(cython.int, 0)  # of _find
_FOUND = cython.declare(cython.int, 1)
_BEYOND = cython.declare(cython.int, 2)
_ROWS = cython.declare(u8, 2)
_ZSTD_LEAD = cython.declare(cython.int, 3)  # Codec.ZSTD_LEAD
_BIG = cython.declare(u32, 1 << 20)  # raw bytes from which a block is decoded without the GIL, in memory of its own
_OTHER_BLOCK = "data block is not the one the index describes"

# Memory for decompressing small blocks. A thread that finds it taken (the libraries' stand-ins may let go of the GIL) uses its own.
_scratch = cython.declare(Scratch)
_scratch_taken = cython.declare(cython.bint, False)
_lead = cython.declare(Lead)  # likewise
memset(cython.address(_scratch), 0, cython.sizeof(Scratch))
memset(cython.address(_lead), 0, cython.sizeof(Lead))
_scratch.lead = cython.address(_lead)
_serial = cython.declare(u64, 0)  # of the last Table


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


def _check_block(tab, ordinal, checks, blk):
    last: u32 = blk.count - 1
    if tab.paranoid and checks != cython.NULL and not checks_match(blk, checks, tab.global_seqno):
        return BLOCK_CHECK
    if blk.count != tab.entries[ordinal]:
        return BLOCK_OTHER
    if not same_key(block_key(blk, last), block_key_size(blk, last), last_key(tab, ordinal), last_key_size(tab, ordinal)):
        return BLOCK_OTHER
    return BLOCK_OK


def table_decode_payload(tab, ordinal, codec, raw_length, payload, size, scratch, blk):
    layout: Layout
    if codec == _ZSTD_LEAD and lead_wanted(tab, ordinal, scratch.lead):
        return LEAD_WANTED
    code: cython.int = payload_decode(scratch, tab.learned, codec, raw_length, payload, size, cython.address(layout))
    if code == BLOCK_OK:
        code = blk_reserve(blk, layout.need)
    if code == BLOCK_OK:
        block_fill(cython.address(layout), tab.global_seqno, blk[0])
        code = _check_block(tab, ordinal, layout.checks, blk[0])
    if code == BLOCK_OK and tab.span > 1 and lead_of(tab, ordinal) == tab.first + ordinal:
        lead_keep(scratch.lead, tab.serial, tab.first + ordinal, layout.raw, raw_length)  # If not, it is read again.
    return code


def table_decode_frame(tab, ordinal, frame, scratch, blk):
    found: Framed
    code: cython.int = frame_check(frame, tab.sizes[ordinal], tab.parity, tab.dictionary, tab.key, cython.address(found))
    payload: Data = frame + FRAME_HEADER
    if code == BLOCK_OK and tab.key != cython.NULL:
        code = frame_open(scratch, tab.key, tab.first + ordinal, cython.address(found), tab.dictionary, cython.address(payload))
    if code:
        return code
    return table_decode_payload(tab, ordinal, found.codec, found.raw_length, payload, found.stored, scratch, blk)


# --- blocks, through the cache


def table_block(table, tab, ordinal, keep):
    blk: BlkP = tab.cached[ordinal]
    if blk == cython.NULL:
        return table.load(tab, ordinal, keep, cython.NULL)
    table.cache.hits += 1
    blk.referenced = True
    blk.pins += 1
    return blk


def table_find(table, key, size, hash, seqno, blk, position):
    tab: TabP = cython.address(table.tab)
    wanted: Wanted
    if compare_keys(key, size, tab.smallest, tab.smallest_size) < 0:
        return 0
    wanted.key, wanted.size, wanted.hash, wanted.seqno = key, size, hash, seqno
    if tab.parts:
        return _find_in_parts(table, cython.address(wanted), blk, position)
    if not filter_probe(cython.address(tab.filter), hash):
        return 0
    return _find(table, tab, cython.address(wanted), blk, position) == _FOUND


def _find_in_parts(table, wanted, blk, position):
    """table_find in a table whose index is partitioned."""
    root: TabP = cython.address(table.tab)
    number: u32 = table_lower(root, wanted.key, wanted.size)
    tab: TabP
    code: cython.int
    if number == root.blocks:
        return 0
    if root.filtered:
        if not part_may_contain(root, table.source, table.cache, number, wanted.hash):
            return 0
    elif not filter_probe(cython.address(root.filter), wanted.hash):
        return 0
    while number < root.blocks:
        tab = part_index(root, table.source, table.cache, number, True)
        try:
            code = _find(table, tab, wanted, blk, position)
        finally:
            part_unpin(tab)
        if code != _BEYOND:
            return code == _FOUND
        number += 1
    return 0


def _find(table, tab, wanted, blk, position):
    """table_find in a whole index, or in one partition of it, which is pinned; _BEYOND if all that is left of it was looked through."""
    key: Data = wanted.key
    size: cython.size_t = wanted.size
    ordinal: u32 = table_lower(tab, key, size)
    at: u32
    found: BlkP
    while ordinal < tab.blocks:
        if tab.cached[ordinal] != cython.NULL:
            found = table_block(table, tab, ordinal, True)
        else:
            found = table.load(tab, ordinal, True, wanted)
            if found == cython.NULL:
                if wanted.outcome == ROW_ABSENT:
                    return _ABSENT
                ordinal += 1
                continue
        at = block_lower(found, key, size)
        while at < found.count:
            if not same_key(block_key(found, at), block_key_size(found, at), key, size):
                blk_unpin(found)
                return _ABSENT
            if block_seqno(found, at) <= wanted.seqno:
                blk[0] = found
                position[0] = at
                return _FOUND
            at += 1
        blk_unpin(found)
        ordinal += 1
    return _BEYOND


@cython.no_gc_clear  # The cache and the blocks in it have to be there when a table goes.
@cython.cclass
class Table:
    """One open SSTable: its index and filter in memory, or the top-level index alone; its blocks, and partitions, through the cache."""

    def __init__(
        self,
        source,
        index,
        filter_bytes,
        smallest,
        cache: BlockCache,
        global_seqno: u64 = 0,
        partitions=None,
        pin_index=False,
        pin_filter=False,
        prefix: u32 = 0,
    ) -> None:
        global _serial
        tab: TabP = cython.address(self.tab)
        first: bytes = bytes(smallest)
        if self._memory != cython.NULL:
            raise TypeError("a Table is made once")
        self.source = source
        self.cache = cache
        if source.cipher is not None:
            self._cipher = native_cipher(source.cipher)
            tab.key = cython.address(self._cipher.key)
        tab.parity = source.parity
        self._open_dictionary(source.dictionary)
        tab.paranoid = source.paranoid
        tab.span = source.block_parts
        tab.serial = _serial = _serial + 1
        self._filter = bytes(filter_bytes)
        filter_open(cython.cast(Data, PyBytes_AS_STRING(self._filter)), PyBytes_GET_SIZE(self._filter), cython.address(tab.filter))
        self._open_index(bytes(index), global_seqno, partitions)
        tab.prefix_code = PrefixExtractor.of_code(prefix).code
        tab.pin_index = pin_index
        tab.pin_filter = pin_filter
        tab.smallest = cython.cast(Room, malloc(PyBytes_GET_SIZE(first) + SLACK))
        if tab.smallest == cython.NULL:
            raise MemoryError("no memory for a table")
        tab.smallest_size = PyBytes_GET_SIZE(first)
        memcpy(tab.smallest, PyBytes_AS_STRING(first), tab.smallest_size)
        if compare_keys(tab.smallest, tab.smallest_size, last_key(tab, 0), last_key_size(tab, 0)) > 0:
            raise ValueError("smallest key lies after the first block")

    def __dealloc__(self):
        if self.tab.cached != cython.NULL:
            self.cache.drop(cython.address(self.tab))
        free(self.tab.cached)
        free(self._memory)
        free(self._starts)
        free(self.tab.smallest)

    def _open_dictionary(self, dictionary):
        if dictionary is not None:
            self._dictionary = native_dictionary(dictionary)
            address: cython.size_t = self._dictionary.decompressing
            self.tab.learned = cython.cast(cython.p_void, address)
            self.tab.dictionary = dictionary.id
        return 0

    def _open_index(self, index, global_seqno, partitions):
        """Take a raw index apart, and note what partitions it is of; ValueError, naming the check, when it is malformed."""
        tab: TabP = cython.address(self.tab)
        size: cython.size_t = PyBytes_GET_SIZE(index)
        data: Data = cython.cast(Data, PyBytes_AS_STRING(index))
        slots: cython.size_t
        self._memory = malloc(index_need(data, size))
        if self._memory == cython.NULL:
            raise MemoryError("no memory for a table")
        index_fill(tab, cython.cast(Room, self._memory), data, size, global_seqno, 0)
        tab.owner = cython.cast(cython.p_void, self)
        tab.root = tab
        tab.data_blocks = tab.blocks
        if partitions is not None:
            self._starts = malloc((cython.cast(cython.size_t, tab.blocks) + 1) * 12)
            if self._starts == cython.NULL:
                raise MemoryError("no memory for a table")
            index_partitions(tab, cython.cast(U64s, self._starts), partitions)
        slots = cython.cast(cython.size_t, tab.data_blocks) + 2 * cython.cast(cython.size_t, tab.parts)
        tab.cached = cython.cast(cython.pointer[BlkP], calloc(slots, cython.sizeof(BlkP) + 4))
        if tab.cached == cython.NULL:
            raise MemoryError("no memory for a table")
        tab.ghosts = cython.cast(U32s, tab.cached + slots)
        return 0

    def load(self, tab, ordinal, keep, wanted):
        """A block that is not cached, read and decoded."""
        global _scratch_taken
        blk: BlkP
        own: Scratch
        own_lead: Lead
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
                return self._decode(tab, ordinal, frame, cython.address(_scratch), keep, wanted)
            finally:
                if _scratch.room + _scratch.opened_room > 4 * cython.cast(cython.size_t, _BIG):
                    scratch_free(cython.address(_scratch))
                _scratch_taken = False
        memset(cython.address(own), 0, cython.sizeof(Scratch))
        memset(cython.address(own_lead), 0, cython.sizeof(Lead))
        own.lead = cython.address(own_lead)
        try:
            return self._decode(tab, ordinal, frame, cython.address(own), keep, wanted)
        finally:
            scratch_free(cython.address(own))
            lead_free(cython.address(own_lead))

    def _pick(self, tab, ordinal, frame, layout, size, wanted):
        """Look up what is wanted in a measured block of rows, undecoded."""
        row: Row
        if layout.count != tab.entries[ordinal] or not rows_last(layout.raw, size, last_key(tab, ordinal), last_key_size(tab, ordinal)):
            self.damage(tab, ordinal, frame, BLOCK_OTHER)
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

    def _decode(self, tab, ordinal, frame, scratch, keep, wanted):
        """Verify, decompress and decode a frame; the block joins the cache if `keep`."""
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
        if PyBytes_GET_SIZE(held) == tab.sizes[ordinal]:
            code = frame_check(payload, tab.sizes[ordinal], tab.parity, tab.dictionary, tab.key, cython.address(found))
            payload += FRAME_HEADER
        if code == BLOCK_OK and tab.key != cython.NULL:
            code = frame_open(scratch, tab.key, tab.first + ordinal, cython.address(found), tab.dictionary, cython.address(payload))
        if code == BLOCK_OK:
            codec, raw_length, size = found.codec, found.raw_length, found.stored
        elif code == BLOCK_NO_MEMORY:
            self.damage(tab, ordinal, held, code)
        else:
            codec, raw_length, content = self.source.open(tab.first + ordinal, tab.offsets[ordinal], held)
            opened = content if type(content) is bytes else bytes(content)
            payload = cython.cast(Data, PyBytes_AS_STRING(opened))
            size = PyBytes_GET_SIZE(opened)
        if codec == _ZSTD_LEAD and lead_wanted(tab, ordinal, scratch.lead):
            lead_fetch(self.source, tab, ordinal, scratch.lead)
        if raw_length >= _BIG and scratch != cython.address(_scratch):
            with cython.nogil:
                code = payload_decode(scratch, tab.learned, codec, raw_length, payload, size, cython.address(layout))
        else:
            code = payload_decode(scratch, tab.learned, codec, raw_length, payload, size, cython.address(layout))
        if code:
            self.damage(tab, ordinal, held, code)
        if wanted != cython.NULL and layout.raw[4] == _ROWS and not tab.paranoid and layout.need > self.cache.capacity:
            return self._pick(tab, ordinal, held, cython.address(layout), raw_length, wanted)
        blk = self.cache.take(layout.need) if keep else blk_allocate(layout.need)
        if blk == cython.NULL:
            raise MemoryError("no memory for a data block")
        block_fill(cython.address(layout), tab.global_seqno, blk)
        code = _check_block(tab, ordinal, layout.checks, blk)
        if code:
            blk_free(blk)
            self.damage(tab, ordinal, held, code)
        if keep:
            self.cache.add(blk, tab.root, tab.first + ordinal, keep == KEEP_PASSING)
        return blk

    def damage(self, tab, ordinal, frame, code):
        """Raise what is wrong with a frame that did not decode: the reason comes from the Python functions that define it."""
        offset: u64 = tab.offsets[ordinal]
        if code == BLOCK_NO_MEMORY:
            raise MemoryError("no memory for a data block")
        if code == BLOCK_OTHER or code == BLOCK_CHECK:
            self.source.damaged(offset, _OTHER_BLOCK if code == BLOCK_OTHER else "data block entry does not match its checksum")
        raw = frame_raw(self.source, tab, ordinal, frame)
        try:
            decode_block(raw)
        except ValueError as error:
            self.source.damaged(offset, str(error))
        self.source.damaged(offset, "data block does not decode")

    def may_contain(self, key: bytes) -> bool:
        tab: TabP = cython.address(self.tab)
        data: Data = cython.cast(Data, PyBytes_AS_STRING(key))
        hash: u64 = hash64(data, PyBytes_GET_SIZE(key))
        if compare_keys(data, PyBytes_GET_SIZE(key), tab.smallest, tab.smallest_size) < 0:
            return False
        part: u32 = table_lower(tab, data, PyBytes_GET_SIZE(key))
        if part == tab.blocks:
            return False
        if tab.filtered:
            return bool(part_may_contain(tab, self.source, self.cache, part, hash))
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

    def _piece(self, ordinal, keep):
        """The index, or the partition of it, that a block is in, with a pin. IndexError."""
        tab: TabP = cython.address(self.tab)
        part: u32 = 0
        if not 0 <= ordinal < tab.data_blocks:
            raise IndexError(f"block {ordinal} of a table that has {tab.data_blocks}")
        if tab.parts == 0:
            return tab
        while tab.part_firsts[part + 1] <= cython.cast(u32, ordinal):
            part += 1
        return part_index(tab, self.source, self.cache, part, keep)

    def block(self, ordinal, keep=True):
        """A decoded block through the cache; with keep=False a missed one is not added to it."""
        tab: TabP = self._piece(ordinal, keep)
        try:
            return block_adopt(table_block(self, tab, ordinal - tab.first, keep))
        finally:
            part_unpin(tab)

    def raw_block(self, ordinal):
        """What a data block's frame holds, decompressed and not decoded, past the cache."""
        tab: TabP = self._piece(ordinal, False)
        ordinal -= tab.first
        try:
            return frame_raw(self.source, tab, ordinal, self.source.read(tab.offsets[ordinal], tab.sizes[ordinal]))
        finally:
            part_unpin(tab)

    def pin(self, index, filter) -> None:
        """Keep partitions that are read from now on; those that were kept go over to the cache where they are not to be any more."""
        tab: TabP = cython.address(self.tab)
        n: u32
        tab.pin_index = index
        tab.pin_filter = filter
        for n in range(tab.parts):
            if not index:
                part_release(tab, self.cache, cython.cast(cython.size_t, tab.data_blocks) + n)
            if not filter:
                part_release(tab, self.cache, cython.cast(cython.size_t, tab.data_blocks) + tab.parts + n)

    def release(self) -> None:
        """Forget the cached blocks (the table is no longer in any version)."""
        self.cache.drop(cython.address(self.tab))

    @property
    def blocks(self):
        return self.tab.data_blocks

    @property
    def partitions(self):
        return self.tab.parts

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
