from .native cimport Data, u8, u32, u64

cdef bytes bloom_build(const u64* hashes, size_t count, u32 bits_per_key)
cdef int bloom_open(Data data, size_t size, const u8** lines, u32* count, u32* probes) except -1  # ValueError
cdef void _set(u8* bits, u64 lines, u32 probes, u64 hash) noexcept nogil

cdef inline const u8* bloom_line(const u8* lines, u32 count, u64 hash) noexcept nogil:
    return lines + (((hash >> 32) * count) >> 32) * 64

cdef inline bint bloom_probe(const u8* line, u32 probes, u64 hash) noexcept nogil:
    cdef u32 position = hash & 0x1FF, step = ((hash >> 9) & 0x1FF) | 1, n
    for n in range(probes):
        if not (line[position >> 3] >> (position & 7)) & 1:
            return False
        position = (position + step) & 0x1FF
    return True
