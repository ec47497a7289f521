# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Partitions of a table's index and filter, compiled: plain/table.py defines them. Each lies in a block of the cache, behind its struct."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.libc.string import memset


@cython.cclass
class _Opener:
    """Makes a block of a raw partition; ValueError, naming the check, when it is malformed or not the one it should be."""

    def __call__(self, raw):
        data: bytes = raw if type(raw) is bytes else bytes(raw)
        if self.blk != cython.NULL:
            blk_free(self.blk)
            self.blk = cython.NULL
        if self.filters:
            self._filter(cython.cast(Data, PyBytes_AS_STRING(data)), PyBytes_GET_SIZE(data))
        else:
            self._index(cython.cast(Data, PyBytes_AS_STRING(data)), PyBytes_GET_SIZE(data))
        return self

    def __dealloc__(self):
        if self.blk != cython.NULL:
            blk_free(self.blk)

    def _room(self, need):
        self.blk = self.cache.take(cython.sizeof(Blk) + need)
        if self.blk == cython.NULL:
            raise MemoryError("no memory for a partition")
        return self.blk

    def give(self):
        blk: BlkP = self.blk
        self.blk = cython.NULL
        return blk

    def _index(self, data, size):
        root: TabP = self.root
        n: u32 = self.number
        i: u32
        mask: u8 = 0
        blk: BlkP = self._room(cython.sizeof(Tab) + index_need(data, size))
        tab: TabP = part_tab(blk)
        memset(tab, 0, cython.sizeof(Tab))
        index_fill(tab, cython.cast(Room, tab + 1), data, size, root.global_seqno, root.part_starts[n])
        for i in range(tab.blocks):
            mask |= tab.masks[i]
        if (
            tab.blocks != root.part_firsts[n + 1] - root.part_firsts[n]
            or tab.offsets[tab.blocks] != root.part_starts[n + 1]
            or tab.total != root.entries[n]
            or tab.min_seqno != root.min_seqnos[n]
            or tab.max_seqno != root.max_seqnos[n]
            or mask != root.masks[n]
            or not same_key(last_key(tab, tab.blocks - 1), last_key_size(tab, tab.blocks - 1), last_key(root, n), last_key_size(root, n))
        ):
            raise ValueError("it is not the partition that the top-level index describes")
        tab.owner = root.owner
        tab.root = root
        tab.part = blk
        tab.parity = root.parity
        tab.paranoid = root.paranoid
        tab.learned = root.learned
        tab.key = root.key
        tab.dictionary = root.dictionary
        tab.span = root.span
        tab.serial = root.serial
        tab.first = root.part_firsts[n]
        tab.cached = root.cached + tab.first
        return 0

    def _filter(self, data, size):
        blk: BlkP = self._room(cython.sizeof(Filter) + size)
        filter: cython.pointer[Filter] = part_filter(blk)
        room: Room = cython.cast(Room, filter + 1)
        memcpy(room, data, size)
        filter_open(room, size, filter)
        return 0


def part_index(root, source, cache, number, keep):
    blk: BlkP = part_cached(root, number)
    if blk == cython.NULL:
        opener: _Opener = _Opener()
        opener.root = root
        opener.cache = cache
        opener.number = number
        source.index_partition(number, opener)
        blk = part_cached(root, number)
        if blk == cython.NULL:  # Else another thread was faster while the GIL was free.
            cache.index_reads += 1
            blk = opener.give()
            _settle(root, cache, blk, cython.cast(cython.size_t, root.data_blocks) + number, root.pin_index, keep)
            return part_tab(blk)
    blk.referenced = True
    blk.pins += 1
    return part_tab(blk)


def part_may_contain(root, source, cache, number, hash):
    blk: BlkP = filter_cached(root, number)
    found: cython.bint
    if blk == cython.NULL:
        opener: _Opener = _Opener()
        opener.root = root
        opener.cache = cache
        opener.number = number
        opener.filters = True
        source.filter_partition(number, opener)
        blk = filter_cached(root, number)
        if blk == cython.NULL:
            cache.filter_reads += 1
            blk = opener.give()
            _settle(root, cache, blk, cython.cast(cython.size_t, root.data_blocks) + root.parts + number, root.pin_filter, KEEP)
            found = filter_probe(part_filter(blk), hash)
            blk_unpin(blk)
            return found
    blk.referenced = True
    return filter_probe(part_filter(blk), hash)


def part_release(root, cache, slot):
    blk: BlkP = root.cached[slot]
    if blk != cython.NULL and blk.ring == U32_MAX:
        root.cached[slot] = cython.NULL
        blk.table = cython.NULL
        cache.add(blk, root, slot, False)
        blk_unpin(blk)


def _settle(root, cache, blk, slot, pin, keep):
    """Keep a partition that was read, which has the caller's pin, for as long as its table, or as the cache likes."""
    if pin:
        blk.table = root
        blk.ordinal = slot
        blk.ring = U32_MAX
        blk.pins += 1
        root.cached[slot] = blk
    elif keep:
        cache.add(blk, root, slot, keep == KEEP_PASSING)
