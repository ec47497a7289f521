from .native cimport Blk, Tab, u32, u64

cdef class BlockCache:
    cdef Blk** ring
    cdef u32 count
    cdef u32 room
    cdef u32 hand
    cdef public u64 capacity
    cdef readonly u64 used
    cdef readonly u64 hits
    cdef readonly u64 misses
    cdef readonly u64 evictions
    cdef public u64 index_reads  # of partitions
    cdef public u64 filter_reads
    cdef Blk* spare  # an evicted block's memory, for the next one
    cdef Blk* take(self, size_t need)  # memory for a block (pins 1, in no cache), an evicted one's if it fits; NULL: no memory
    cdef void add(self, Blk* blk, Tab* table, u32 ordinal) noexcept  # into the cache, if it can hold it and the slot is free
    cdef void drop(self, Tab* table) noexcept  # every block of a table; pinned ones live on, in no cache
    cdef void _detach(self, Blk* blk) noexcept
    cdef void _shrink(self, u64 limit) noexcept
