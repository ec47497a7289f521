from .native cimport Blk, Tab, u32, u64

cdef enum:  # whether a missed block enters the cache
    KEEP_NOT = 0
    KEEP = 1
    KEEP_PASSING = 2  # as one that nobody has read before: a long scan comes by

cdef struct Ring:
    Blk** blocks
    u32 count
    u32 room
    u32 hand
    u64 used

cdef class BlockCache:
    cdef Ring fresh  # blocks that were read once
    cdef Ring proven
    cdef u64 put_out  # _ROUNDs of blocks that were put out of the fresh ring
    cdef public u64 capacity
    cdef readonly u64 used
    cdef readonly u64 hits
    cdef readonly u64 misses
    cdef readonly u64 evictions
    cdef public u64 index_reads  # of partitions
    cdef public u64 filter_reads
    cdef public u64 prefix_skips
    cdef Blk* spare  # an evicted block's memory, for the next one
    cdef Blk* take(self, size_t need)  # memory for a block (pins 1, in no cache), an evicted one's if it fits; NULL: no memory
    # Into the cache, if it can hold it and the slot is free. passing: what it was before does not count.
    cdef void add(self, Blk* blk, Tab* table, u32 ordinal, bint passing) noexcept
    cdef void drop(self, Tab* table) noexcept  # every block of a table; pinned ones live on, in no cache
    cdef Ring* _ring(self, bint proven) noexcept
    cdef bint _join(self, Ring* ring, Blk* blk) noexcept  # False: no memory
    cdef bint _join_proven(self, Blk* blk) noexcept
    cdef void _leave(self, Ring* ring, Blk* blk) noexcept
    cdef void _detach(self, Blk* blk) noexcept
    cdef void _shrink(self, u64 limit) noexcept
    cdef void _evict(self, Blk* blk) noexcept
    cdef bint _step_fresh(self) noexcept  # False: the block at the hand is pinned
    cdef void _step_proven(self) noexcept
    cdef bint _seen(self, const Tab* table, u32 ordinal) noexcept
