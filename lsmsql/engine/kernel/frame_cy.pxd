from .block_decode_cy cimport Layout
from .native cimport Data, Room, u8, u32, u64

cdef struct Scratch:  # one thread's working memory; zeroed to begin with, freed by scratch_free
    void* compressor
    void* decompressor
    u8* raw
    size_t room

cdef size_t frame_room(size_t raw_size) noexcept nogil  # bytes that frame_seal may write for a raw block
cdef size_t frame_seal(Scratch* scratch, int level, Data raw, size_t size, Room out) noexcept nogil  # a whole DATA frame; 0: no memory
cdef size_t payload_seal(Scratch* scratch, int level, Data raw, size_t size, Room out, int* codec) noexcept nogil  # payload alone; 0: no memory
cdef int frame_check(Data frame, size_t size, int* codec, u32* raw_length) noexcept nogil  # FRAME_BAD unless an intact unencrypted DATA frame
# Decompresses into scratch (or points at the payload) and measures; the layout is good until the scratch is used again. A code of block_decode_cy.
cdef int payload_decode(Scratch* scratch, int codec, u32 raw_length, Data payload, size_t size, Layout* layout) noexcept nogil
cdef void scratch_free(Scratch* scratch) noexcept nogil
