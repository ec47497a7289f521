from .aes_gcm_cy cimport NativeCipher, native_cipher
from .block_decode_cy cimport (
    BLOCK_CHECK, BLOCK_NO_MEMORY, BLOCK_OK, BLOCK_OTHER, FRAME_BAD, LEAD_WANTED, Layout, blk_allocate, blk_free, blk_reserve, blk_single, blk_unpin,
    block_fill,
)
from .cache_cy cimport KEEP, KEEP_NOT, KEEP_PASSING, BlockCache
from .frame_cy cimport Lead, Scratch
from .native cimport (
    Blk, BlkP, Data, FRAME_HEADER, Room, SLACK, Tab, TabP, U32s, U64s, block_key, block_key_size, block_kind, block_lower, block_seqno,
    block_value, block_value_size, compare_keys, last_key, last_key_size, prefix_of, same_key, u32, u64, u8,
)

cdef struct Wanted:  # a lookup that need not see the whole block
    Data key
    size_t size
    u64 hash
    u64 seqno
    int outcome  # where there is no block: ROW_ABSENT or ROW_BEYOND

cdef class Table:
    cdef Tab tab
    cdef readonly object source
    cdef readonly BlockCache cache
    cdef bytes _filter
    cdef object _dictionary  # what Tab.learned lies in
    cdef NativeCipher _cipher  # what Tab.key lies in
    cdef void* _memory  # of the index's columns
    cdef void* _starts  # of its partitions
    # table_block for a block that is not cached, of `tab`: the table's index, or a partition of it that is pinned. wanted: NULL, or what to look up
    # where the block is rows and the cache would not keep it; then the answer is a block of that version alone, or NULL and the outcome.
    cdef Blk* load(self, Tab* tab, u32 ordinal, int keep, Wanted* wanted) except? NULL
    cdef Blk* _pick(self, Tab* tab, u32 ordinal, object frame, const Layout* layout, size_t size, Wanted* wanted) except? NULL
    cdef int damage(self, const Tab* tab, u32 ordinal, object frame, int code) except -1  # raises the error of a failed decode
    cdef Tab* _piece(self, long long ordinal, bint keep) except NULL
    cdef int _open_dictionary(self, object dictionary) except -1
    cdef int _open_index(self, bytes index, u64 global_seqno, object partitions) except -1
    cdef Blk* _decode(self, Tab* tab, u32 ordinal, object frame, Scratch* scratch, int keep, Wanted* wanted) except? NULL

# First block whose last key is not below the key; Tab.blocks if none.
cdef u32 table_lower(const Tab* tab, Data key, size_t size) noexcept nogil
# A block of a table's index or pinned partition, through the cache, with one pin for the caller (blk_unpin). keep: KEEP_...
cdef Blk* table_block(Table table, Tab* tab, u32 ordinal, int keep) except NULL
# The newest version of a key at a seqno: 1, a pinned block and the position in it; or 0. hash: XXH3-64 of the key.
cdef int table_find(Table table, Data key, size_t size, u64 hash, u64 seqno, Blk** blk, u32* position) except -1
# Bulk reading without the GIL: frame (exactly Tab.sizes[ordinal] bytes) to *blk, reused if large enough. A code of block_decode_cy; then
# block_mend repairs it or raises, under the GIL.
# scratch.lead is one and the same for frames that are read one after another.
cdef int table_decode_frame(const Tab* tab, u32 ordinal, Data frame, Scratch* scratch, Blk** blk) noexcept nogil
cdef int table_decode_payload(
    const Tab* tab, u32 ordinal, int codec, u32 raw_length, Data payload, size_t size, Scratch* scratch, Blk** blk
) noexcept nogil

cdef int _check_block(const Tab* tab, u32 ordinal, Data checks, const Blk* blk) noexcept nogil
cdef int _find_in_parts(Table table, Wanted* wanted, Blk** blk, u32* position) except -1
cdef int _find(Table table, Tab* tab, Wanted* wanted, Blk** blk, u32* position) except -1
