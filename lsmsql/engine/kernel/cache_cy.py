# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The cache of decoded blocks, compiled. Tables point at their cached blocks by number; the ring below only decides which goes next.

Everything here happens under the GIL.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memset
from cython.cimports.lsmsql.engine.kernel.block_decode_cy import blk_allocate, blk_free
from cython.cimports.lsmsql.engine.kernel.native import U32_MAX, Blk, BlkP, u32, u64

_ROUND = cython.declare(cython.size_t, 256)  # allocations are a multiple of this, so that one block's memory fits the next


@cython.cclass
class BlockCache:
    """Decoded blocks up to `capacity` bytes: a ring whose hand passes over pinned blocks and over those used since it last came by (CLOCK).

    used: bytes of memory that the cached blocks hold.
    """

    def __cinit__(self, capacity: u64):
        self.capacity = capacity

    def __dealloc__(self):
        if self.spare != cython.NULL:
            blk_free(self.spare)
        free(self.ring)

    def take(self, need):
        blk: BlkP
        size: cython.size_t = (need + _ROUND - 1) // _ROUND * _ROUND
        if size <= self.capacity:
            self._shrink(self.capacity - size)
        blk = self.spare
        if blk != cython.NULL and size <= blk.capacity <= size + size // 4:
            self.spare = cython.NULL
            size = blk.capacity
            memset(blk, 0, cython.sizeof(Blk))
            blk.capacity = size
            blk.pins = 1
            return blk
        return blk_allocate(size)

    def add(self, blk, table, ordinal):
        room: cython.size_t
        if blk.capacity > self.capacity or table.cached[ordinal] != cython.NULL:
            return
        self._shrink(self.capacity - blk.capacity)
        if self.used + blk.capacity > self.capacity:
            return  # What is left is pinned.
        if self.count == self.room:
            room = cython.cast(cython.size_t, self.room) * 2 + 64
            ring = cython.cast(cython.pointer[BlkP], realloc(self.ring, room * cython.sizeof(BlkP)))
            if ring == cython.NULL:
                return
            self.ring = ring
            self.room = room
        blk.table = table
        blk.ordinal = ordinal
        blk.ring = self.count
        blk.referenced = False
        self.ring[self.count] = blk
        self.count += 1
        self.used += blk.capacity
        table.cached[ordinal] = blk

    def _detach(self, blk):
        """Take a block out of ring and table; the last of the ring takes its place."""
        last: BlkP
        if blk.ring != U32_MAX:
            last = self.ring[self.count - 1]
            self.ring[blk.ring] = last
            last.ring = blk.ring
            self.count -= 1
            self.used -= blk.capacity
        blk.table.cached[blk.ordinal] = cython.NULL
        blk.table = cython.NULL

    def _shrink(self, limit):
        """Evict until at most `limit` bytes are used, or all that is left is pinned."""
        blk: BlkP
        steps: u64 = 2 * cython.cast(u64, self.count) + 2
        while self.used > limit and self.count and steps:
            steps -= 1
            if self.hand >= self.count:
                self.hand = 0
            blk = self.ring[self.hand]
            self.hand += 1
            if blk.pins:
                continue
            if blk.referenced:
                blk.referenced = False
                continue
            self._detach(blk)
            self.evictions += 1
            if self.spare != cython.NULL:
                blk_free(self.spare)
            self.spare = blk

    def drop(self, table):
        i: cython.size_t
        blk: BlkP
        for i in range(cython.cast(cython.size_t, table.data_blocks) + 2 * cython.cast(cython.size_t, table.parts)):
            blk = table.cached[i]
            if blk != cython.NULL:
                self._detach(blk)
                if blk.ring == U32_MAX:
                    blk.pins -= 1
                if blk.pins == 0:
                    blk_free(blk)
