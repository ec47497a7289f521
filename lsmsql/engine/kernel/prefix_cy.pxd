# Prefixes of keys, by the code of a PrefixExtractor (lsmsql/prefix_extractor.py, which defines both functions).
from libc.string cimport memchr, memcmp

from .native cimport Data, u32

cdef inline size_t prefix_length(u32 code, Data key, size_t size) noexcept nogil:
    """Bytes of a key's prefix; 0: it has none."""
    cdef const void* at
    if code >> 16 == 1:
        return code & 0xFFFF if size >= (code & 0xFFFF) else 0
    if code >> 16 == 2:
        at = memchr(key, code & 0xFF, size)
        return 0 if at == NULL else <size_t> (<Data> at - key) + 1
    return 0

cdef inline size_t prefix_of_range(u32 code, Data lower, size_t lower_size, Data upper, size_t upper_size) noexcept nogil:
    """Bytes of the prefix, of `lower`, that every key from lower up to upper has; NULL: open; 0: there is none."""
    cdef size_t n, stem
    n = 0 if lower == NULL else prefix_length(code, lower, lower_size)
    if n == 0 or (upper != NULL and upper_size >= n and memcmp(upper, lower, n) == 0):
        return n
    stem = n
    while stem and lower[stem - 1] == 0xFF:
        stem -= 1
    if stem == 0:
        return n
    if upper == NULL or upper_size != stem or memcmp(upper, lower, stem - 1) or upper[stem - 1] != lower[stem - 1] + 1:
        return 0
    return n
