from .native cimport Blk, Data, Room, u8, u32, u64

# Error codes of the nogil functions: 0 is success.
cdef enum:
    BLOCK_OK = 0
    BLOCK_NO_MEMORY = 1
    BLOCK_SHORT = 2
    BLOCK_LAYOUT = 3
    BLOCK_COLUMNS = 4
    BLOCK_PARTS = 5
    BLOCK_KINDS = 6
    BLOCK_SHARED = 7
    BLOCK_KEY = 8
    BLOCK_HUGE = 9
    FRAME_BAD = 10  # header or checksum: ask BlockSource.open for the reason
    PAYLOAD_BAD = 11  # does not decompress: ask storage/compression for the reason
    BLOCK_OTHER = 12  # not the block that the index describes
    BLOCK_TRAILER = 13  # this and those below: rows
    BLOCK_NUMBER = 14
    BLOCK_ENTRY = 15
    BLOCK_RESTART = 16
    BLOCK_HEAD = 17
    BLOCK_BUCKET = 18
    BLOCK_CHECK = 19  # an entry does not match its checksum
    LEAD_WANTED = 20  # the lead of its block is not at hand: block_mend reads it

cdef struct Layout:  # a checked raw block, measured
    Data raw
    Data checks  # of the entries, u32 each, unaligned; NULL: none
    u32 count
    u8 has_kinds
    u8 suffix_width
    u8 seqno_width
    u8 value_width
    u32 value_length
    u64 base
    size_t key_bytes
    size_t value_bytes
    size_t suffix_start
    size_t need  # bytes of the Blk

cdef int block_measure(Data raw, size_t size, Layout* layout) noexcept nogil
cdef int block_fill(const Layout* layout, u64 global_seqno, Blk* blk) noexcept nogil  # blk of at least layout.need bytes
cdef int block_decode(Data raw, size_t size, u64 global_seqno, Blk** blk) noexcept nogil  # measure, reserve, fill

# Ownership: blk_allocate gives a block one pin.
cdef Blk* blk_allocate(size_t need) noexcept nogil  # NULL: no memory
cdef int blk_reserve(Blk** blk, size_t need) noexcept nogil  # *blk may be NULL; its memory is reused if it is large enough, else replaced
cdef Blk* blk_single(Data key, u32 key_size, u64 seqno, u8 kind, Data value, u32 value_size) noexcept nogil  # a block of one entry; NULL: no memory
cdef void blk_free(Blk* blk) noexcept nogil
cdef void blk_unpin(Blk* blk) noexcept  # the last pin of a block that is in no cache frees it

cdef void layout_need(Layout* layout) noexcept nogil
cdef void blk_place(Blk* blk, u32 count, u8 seqno_width, bint has_kinds, size_t key_bytes, size_t value_bytes) noexcept nogil

cdef int _measure_columns(Layout* layout, size_t size, u32 suffix_bytes) noexcept nogil
cdef u64 _plane_number(Data planes, size_t count, int width, size_t i) noexcept nogil
cdef bint _overflows(const Layout* layout, Data seqnos, size_t count) noexcept nogil
cdef int _memory_width(int seqno_width) noexcept nogil
cdef size_t _round8(size_t size) noexcept nogil
cdef u32 _suffix_bytes(const Layout* layout) noexcept nogil
cdef void _fill_value_offsets(const Layout* layout, Data lengths, Blk* blk) noexcept nogil
cdef void _fill_seqnos(const Layout* layout, Data planes, Blk* blk) noexcept nogil
cdef void _fill_kinds(const Layout* layout, Data kinds, Blk* blk) noexcept nogil
cdef void _fill_keys(const Layout* layout, Blk* blk) noexcept nogil
