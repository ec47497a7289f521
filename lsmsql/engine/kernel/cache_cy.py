# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The cache of decoded blocks, compiled. Tables point at their cached blocks by number; the rings below only decide which goes next.

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
_FRESH_SHARE = cython.declare(u64, 10)  # of the capacity, one part in so many is for blocks that were read once


@cython.cclass
class BlockCache:
    """Decoded blocks and partitions up to `capacity` bytes. plain/cache.py defines which go: rings here stand for its queues.

    used: bytes of memory that the cached blocks hold. Pinned blocks stay. When a block leaves a ring, the last one takes its place, behind the hand.
    """

    def __cinit__(self, capacity: u64):
        self.capacity = capacity

    def __dealloc__(self):
        if self.spare != cython.NULL:
            blk_free(self.spare)
        free(self.fresh.blocks)
        free(self.proven.blocks)

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

    def add(self, blk, table, ordinal, passing):
        proven: cython.bint
        if blk.capacity > self.capacity or table.cached[ordinal] != cython.NULL:
            return
        self._shrink(self.capacity - blk.capacity)
        if self.used + blk.capacity > self.capacity:
            return  # What is left is pinned.
        proven = not passing and (ordinal >= table.data_blocks or self._seen(table, ordinal))
        blk.referenced = not passing and ordinal >= table.data_blocks  # A partition is worth its many blocks.
        if not self._join(self._ring(proven), blk):
            return
        blk.proven = proven
        blk.table = table
        blk.ordinal = ordinal
        self.used += blk.capacity
        table.cached[ordinal] = blk

    def _seen(self, table, ordinal):
        """Whether a block was put out not longer ago than it takes to fill the cache."""
        stamp: u32 = table.ghosts[ordinal]
        return stamp != 0 and cython.cast(u32, cython.cast(u32, self.put_out | 1) - stamp) * cython.cast(u64, _ROUND) <= self.capacity

    def _ring(self, proven):
        return cython.address(self.proven) if proven else cython.address(self.fresh)

    def _join(self, ring, blk):
        room: cython.size_t
        if ring.count == ring.room:
            room = cython.cast(cython.size_t, ring.room) * 2 + 64
            blocks = cython.cast(cython.pointer[BlkP], realloc(ring.blocks, room * cython.sizeof(BlkP)))
            if blocks == cython.NULL:
                return False
            ring.blocks = blocks
            ring.room = room
        blk.ring = ring.count
        ring.blocks[ring.count] = blk
        ring.count += 1
        ring.used += blk.capacity
        return True

    def _leave(self, ring, blk):
        """Take a block out of a ring; the last one takes its place."""
        last: BlkP = ring.blocks[ring.count - 1]
        ring.blocks[blk.ring] = last
        last.ring = blk.ring
        ring.count -= 1
        ring.used -= blk.capacity

    def _detach(self, blk):
        """Take a block out of the cache and its table."""
        if blk.ring != U32_MAX:
            self._leave(self._ring(blk.proven), blk)
            self.used -= blk.capacity
        blk.table.cached[blk.ordinal] = cython.NULL
        blk.table = cython.NULL

    def _evict(self, blk):
        self._detach(blk)
        self.evictions += 1
        if self.spare != cython.NULL:
            blk_free(self.spare)
        self.spare = blk

    def _shrink(self, limit):
        """Evict until at most `limit` bytes are used, or all that is left is pinned."""
        steps: u64 = 4 * (cython.cast(u64, self.fresh.count) + self.proven.count) + 4
        pinned: u32 = 0  # fresh ones met in a row
        while self.used > limit and steps:
            steps -= 1
            if pinned < self.fresh.count and (self.fresh.used > self.capacity // _FRESH_SHARE or self.proven.count == 0):
                pinned = 0 if self._step_fresh() else pinned + 1
            elif self.proven.count:
                self._step_proven()

    def _step_fresh(self):
        blk: BlkP
        if self.fresh.hand >= self.fresh.count:
            self.fresh.hand = 0
        blk = self.fresh.blocks[self.fresh.hand]
        self.fresh.hand += 1
        if blk.pins:
            return False
        if blk.referenced:
            blk.referenced = False
            if self._join_proven(blk):
                return True
        self.put_out += blk.capacity // _ROUND + 1
        blk.table.ghosts[blk.ordinal] = cython.cast(u32, self.put_out) | 1
        self._evict(blk)
        return True

    def _join_proven(self, blk):
        """From the fresh ring; False: no memory."""
        place: u32 = blk.ring
        if not self._join(cython.address(self.proven), blk):
            return False
        joined: u32 = blk.ring
        blk.ring = place
        self._leave(cython.address(self.fresh), blk)
        blk.ring = joined
        blk.proven = True
        return True

    def _step_proven(self):
        blk: BlkP
        if self.proven.hand >= self.proven.count:
            self.proven.hand = 0
        blk = self.proven.blocks[self.proven.hand]
        self.proven.hand += 1
        if blk.pins == 0:
            if blk.referenced:
                blk.referenced = False
            else:
                self._evict(blk)

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
