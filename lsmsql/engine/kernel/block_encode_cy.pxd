from .native cimport Blk, Data, Room, u8, u32, u64

# Entries appended one by one; `view` reads as a block all the while (wide offsets, whole seqnos, kinds present). Zeroed to begin with.
# min_seqno, max_seqno, kind_mask and duplicates of the view are kept up to date.
cdef struct Builder:
    Blk view
    size_t entry_room
    size_t key_room
    size_t value_room
    size_t key_bytes
    size_t value_bytes

cdef size_t block_encode_bound(const Blk* blk) noexcept nogil
cdef size_t block_encode(const Blk* blk, Room out) noexcept nogil  # bytes written; `out` has room for the bound

cdef int builder_append(Builder* builder, Data key, u32 key_size, u64 seqno, u8 kind, Data value, u32 value_size) noexcept nogil
cdef void builder_clear(Builder* builder) noexcept nogil  # keeps the memory
cdef void builder_free(Builder* builder) noexcept nogil
cdef int blk_copy(const Blk* source, Blk** blk) noexcept nogil  # *blk as in blk_reserve

cdef size_t _shared(Data a, size_t a_size, Data b, size_t b_size) noexcept nogil
cdef int _number_width(u64 number) noexcept nogil
cdef bint _encode_shared(const Blk* blk, Room shared) noexcept nogil
cdef size_t _encode_columns(const Blk* blk, Room out, bint has_kinds) noexcept nogil
cdef void _encode_seqnos(const Blk* blk, u64 base, int width, Room planes) noexcept nogil
cdef bint _resize(void** memory, size_t size) noexcept nogil
cdef int _grow_entries(Builder* builder, size_t need) noexcept nogil
cdef int _grow_bytes(u8** memory, size_t* room, size_t used, size_t more) noexcept nogil
