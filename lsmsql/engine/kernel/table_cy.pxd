from .frame_cy cimport Scratch
from .cache_cy cimport BlockCache
from .native cimport Blk, Data, Tab, TabP, u8, u32, u64

cdef class Table:
    cdef Tab tab
    cdef readonly object source
    cdef readonly BlockCache cache
    cdef readonly bint encrypted
    cdef readonly bytes smallest
    cdef readonly bytes largest
    cdef bytes _index
    cdef bytes _filter
    cdef void* _memory
    cdef Blk* load(self, u32 ordinal, bint keep) except NULL  # see table_block
    cdef int damage(self, u32 ordinal, object frame, int code) except -1

# First block whose last key is not below the key; Tab.blocks if none.
cdef u32 table_lower(const Tab* tab, Data key, size_t size) noexcept nogil
# A block, through the cache, with one pin for the caller (blk_unpin). keep=False: a missed one is not added to the cache.
cdef Blk* table_block(Table table, u32 ordinal, bint keep) except NULL
# Bulk reading without the GIL: frame (unencrypted, exactly Tab.sizes[ordinal] bytes) to *blk, reused if large enough. A code of block_cy; then
# Table.damage(ordinal, frame bytes, code) raises, under the GIL. Encrypted tables: BlockSource.open first, then table_decode_payload.
cdef int table_decode_frame(const Tab* tab, u32 ordinal, Data frame, Scratch* scratch, Blk** blk) noexcept nogil
cdef int table_decode_payload(
    const Tab* tab, u32 ordinal, int codec, u32 raw_length, Data payload, size_t size, Scratch* scratch, Blk** blk
) noexcept nogil

cdef struct Level:
    u32 count
    TabP* tables
    u64* prefixes  # of each table's largest key

cdef class Levels:
    cdef readonly list levels  # of lists of Table
    cdef Level* c_levels
    cdef u32 count
