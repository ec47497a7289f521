# Partitions of index and filter, through the cache. Under the GIL; `source` is the table's, and its Python code may let go of the GIL.
from .block_decode_cy cimport blk_allocate, blk_free, blk_unpin
from .cache_cy cimport KEEP, KEEP_PASSING, BlockCache
from .filter_cy cimport filter_open, filter_probe
from .index_cy cimport index_fill, index_need
from .native cimport U32_MAX, Blk, BlkP, Data, Filter, Room, Tab, TabP, memcpy, same_key, last_key, last_key_size, u8, u32, u64

cdef inline Tab* part_tab(Blk* blk) noexcept nogil:
    """The partition of the index that lies in a block."""
    return <Tab*> (blk + 1)

cdef inline Filter* part_filter(Blk* blk) noexcept nogil:
    return <Filter*> (blk + 1)

cdef inline Blk* part_cached(const Tab* root, u32 number) noexcept nogil:
    """The block of a partition of the index; NULL: it has to be read."""
    return root.cached[root.data_blocks + number]

cdef inline Blk* filter_cached(const Tab* root, u32 number) noexcept nogil:
    return root.cached[<size_t> root.data_blocks + root.parts + number]

cdef inline void part_unpin(Tab* tab) noexcept:
    """Let go of a partition; nothing for a table's own index."""
    if tab != NULL and tab.part != NULL:
        blk_unpin(tab.part)

# A partition of the index, with one pin for the caller. keep: KEEP_... of cache_cy.
cdef Tab* part_index(Tab* root, object source, BlockCache cache, u32 number, int keep) except NULL
# Whether a partition of the filter rules a hash out (0) or not (1).
cdef int part_may_contain(Tab* root, object source, BlockCache cache, u32 number, u64 hash) except -1

cdef void part_release(Tab* root, BlockCache cache, size_t slot) noexcept  # a partition that is kept for as long as its table, to the cache

cdef void _settle(Tab* root, BlockCache cache, Blk* blk, size_t slot, bint pin, int keep) noexcept

cdef class _Opener:  # what a source calls with the raw bytes
    cdef Tab* root
    cdef BlockCache cache
    cdef u32 number
    cdef bint filters
    cdef Blk* blk
    cdef int _index(self, Data data, size_t size) except -1
    cdef int _filter(self, Data data, size_t size) except -1
    cdef Blk* _room(self, size_t need) except NULL
    cdef Blk* give(self) noexcept
