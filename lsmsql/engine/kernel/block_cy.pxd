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
    BLOCK_HUGE = 8
    FRAME_BAD = 9  # header or checksum: ask BlockSource.open for the reason
    PAYLOAD_BAD = 10  # does not decompress: ask storage/compression for the reason
    BLOCK_OTHER = 11  # not the block that the index describes

cdef struct Layout:  # a checked raw block, measured
    Data raw
    u32 count
    u8 has_kinds
    u8 suffix_width
    u8 seqno_width
    u8 value_width
    u32 value_length
    u64 base
    u64 max_delta
    size_t key_bytes
    size_t value_bytes
    size_t suffix_start
    size_t need  # bytes of the Blk

cdef struct Scratch:  # one thread's working memory; zeroed to begin with, freed by scratch_free
    void* compressor
    void* decompressor
    u8* raw
    size_t room

# Entries appended one by one; `view` reads as a block all the while (wide offsets, whole seqnos, kinds present). Zeroed to begin with.
# min_seqno, max_seqno, kind_mask and duplicates of the view are kept up to date.
cdef struct Builder:
    Blk view
    size_t entry_room
    size_t key_room
    size_t value_room
    size_t key_bytes
    size_t value_bytes

# -- decoding
cdef int block_measure(Data raw, size_t size, Layout* layout) noexcept nogil
cdef int blk_reserve(Blk** blk, size_t need) noexcept nogil  # *blk may be NULL; its memory is reused if it is large enough, else replaced
cdef int block_fill(Layout* layout, u64 global_seqno, Blk* blk) noexcept nogil  # blk of at least layout.need bytes
cdef int block_decode(Data raw, size_t size, u64 global_seqno, Blk** blk) noexcept nogil  # the three above
# -- encoding
cdef size_t block_encode_bound(const Blk* blk) noexcept nogil
cdef size_t block_encode(const Blk* blk, Room out) noexcept nogil  # bytes written, at most the bound; out may be overwritten by SLACK bytes more
# -- building
cdef int builder_append(Builder* builder, Data key, u32 key_size, u64 seqno, u8 kind, Data value, u32 value_size) noexcept nogil
cdef void builder_clear(Builder* builder) noexcept nogil  # keeps the memory
cdef void builder_free(Builder* builder) noexcept nogil
cdef int blk_copy(const Blk* source, Blk** blk) noexcept nogil  # lean: one allocation, narrow offsets where they fit
# -- frames
cdef size_t frame_room(size_t raw_size) noexcept nogil  # bytes that frame_seal may write for a raw block
cdef size_t frame_seal(Scratch* scratch, int level, Data raw, size_t size, Room out) noexcept nogil  # a whole DATA frame; 0: no memory
cdef size_t payload_seal(Scratch* scratch, int level, Data raw, size_t size, Room out, int* codec) noexcept nogil  # payload alone; 0: no memory
cdef int frame_check(Data frame, size_t size, int* codec, u32* raw_length) noexcept nogil  # FRAME_BAD unless an intact unencrypted DATA frame
cdef int payload_decode(Scratch* scratch, int codec, u32 raw_length, Data payload, size_t size, Layout* layout) noexcept nogil
# ^ decompresses into scratch (or points at payload) and measures; layout is good until the scratch is used again
cdef void scratch_free(Scratch* scratch) noexcept nogil
# -- ownership
cdef Blk* blk_allocate(size_t need) noexcept nogil  # NULL: no memory
cdef void blk_free(Blk* blk) noexcept nogil
cdef void blk_unpin(Blk* blk) noexcept  # the last pin of a block that is in no cache frees it

cdef class Block:
    cdef Blk* blk
    cdef bytes _key(self, u32 i)
    cdef bytes _value(self, u32 i)

cdef Block block_adopt(Blk* blk)  # a Block that takes over one pin of the caller's
cdef object block_error(int code)  # the ValueError (or MemoryError) of a code, to be raised
