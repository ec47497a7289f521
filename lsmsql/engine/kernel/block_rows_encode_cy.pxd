from .native cimport Blk, Data, Room, u32, u64

cdef size_t rows_encode_bound(const Blk* blk, u32 interval, double hash_ratio) noexcept nogil
cdef size_t rows_encode(const Blk* blk, u32 interval, double hash_ratio, Room out) noexcept nogil  # bytes written; `out` has room for the bound

cdef Room _put(Room at, u64 number) noexcept nogil
cdef size_t _bucket_count(u32 count, u32 restarts, double hash_ratio) noexcept nogil
cdef Room _encode_entries(const Blk* blk, u32 interval, Room at, Room out, Room offsets) noexcept nogil
cdef void _encode_buckets(const Blk* blk, u32 interval, size_t buckets, Room out) noexcept nogil
