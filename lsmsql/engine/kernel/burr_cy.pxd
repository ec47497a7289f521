from .native cimport (
    BURR_BUCKET, Burr, Data, U16s, U64s, memcpy, parity64, prefetch, u8, u32, u64,
)

cdef struct Work:  # of a filter being built
    U64s keys  # mixed as the layer wants them, ascending
    U64s rows  # by slot, 0: free; room to sort in between two layers
    U16s results  # by slot
    size_t room  # of keys and of rows

cdef bytes burr_build(const u64* hashes, size_t count, u32 bits)  # UsageError, ValueError
cdef int burr_open(Data raw, size_t size, Burr* burr) except -1  # ValueError; the struct points into `data`
cdef bint burr_stashed(const Burr* burr, u64 x) noexcept nogil

cdef size_t _prepare(Work* work, const u64* hashes, size_t count) noexcept nogil
cdef size_t _insert(Work* work, size_t count, u64 blocks, u32 mask, u8* thresholds) noexcept nogil
cdef size_t _insert_bucket(Work* work, size_t first, size_t end, u64 positions, u32 mask) noexcept nogil
cdef void _solve(Work* work, u64 blocks, u32 bits, u8* words) noexcept nogil
cdef void _sort(Work* work, size_t count) noexcept nogil
cdef void _distribute(Work* work, size_t count, u32 shift) noexcept nogil
cdef inline u64 _stashed_at(const Burr* burr, u32 place) noexcept nogil:
    cdef u64 x
    memcpy(&x, burr.stash + 8 * <size_t> place, 8)
    return x

cdef bint _settle(U64s keys, size_t count, u64 moves) noexcept nogil

cdef inline u64 burr_mix(u64 x) noexcept nogil:
    """One step of SplitMix64."""
    x += <u64> 0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * <u64> 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <u64> 0x94D049BB133111EB
    return x ^ (x >> 31)

cdef inline u64 burr_row(u64 x) noexcept nogil:
    x *= <u64> 0x9E3779B97F4A7C15
    return (x ^ (x >> 32)) | 1

cdef inline u64 burr_start(u64 x, u64 positions) noexcept nogil:
    return ((x >> 32) * positions) >> 32

cdef inline void burr_prefetch(const Burr* burr, u64 hash) noexcept nogil:
    """The lines that a probe reads if the first layer has the key."""
    cdef u64 start
    cdef const u8* words
    if burr.layers:
        start = burr_start(burr_mix(hash), burr.layer[0].positions)
        words = burr.layer[0].words + (start >> 6) * 8 * burr.bits
        prefetch(burr.layer[0].thresholds + start // BURR_BUCKET)
        prefetch(words)
        prefetch(words + 16 * burr.bits - 1)
        if burr.bits > 4:
            prefetch(words + 64)

cdef inline bint burr_probe(const Burr* burr, u64 hash) noexcept nogil:
    """False only if no key with that hash was added."""
    cdef u64 x = hash, start, row, low, high, word, next_word
    cdef u32 n, j, found = 0, bits = burr.bits
    cdef const u8* words
    for n in range(burr.layers):
        x = burr_mix(x)
        start = burr_start(x, burr.layer[n].positions)
        if start % BURR_BUCKET < burr.layer[n].thresholds[start // BURR_BUCKET]:
            continue
        row = burr_row(x)
        low = row << (start & 63)
        high = (row >> 1) >> (63 - (start & 63))
        words = burr.layer[n].words + (start >> 6) * 8 * bits
        for j in range(bits):
            memcpy(&word, words + 8 * j, 8)
            memcpy(&next_word, words + 8 * (bits + j), 8)
            found |= <u32> parity64((word & low) ^ (next_word & high)) << j
        return found == (x & ((<u32> 1 << bits) - 1))
    return burr.stashed and burr_stashed(burr, burr_mix(x))
