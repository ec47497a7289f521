# A table's filter, of whichever kind; the one place where lookups tell the kinds apart.
from .bloom_cy cimport bloom_line, bloom_probe
from .burr_cy cimport burr_prefetch, burr_probe
from .native cimport FILTER_BLOOM, FILTER_NONE, Data, Filter, prefetch, u32, u64

cdef bytes filter_build(int kind, const u64* hashes, size_t count, u32 filter_bits)
cdef int filter_open(Data data, size_t size, Filter* filter) except -1  # ValueError; the struct points into `data`, whose owner keeps it

cdef inline bint filter_probe(const Filter* filter, u64 hash) noexcept nogil:
    """False only if no key with that XXH3-64 hash is in the table."""
    if filter.kind == FILTER_BLOOM:
        return bloom_probe(bloom_line(filter.lines, filter.line_count, hash), filter.probes, hash)
    return filter.kind == FILTER_NONE or burr_probe(&filter.burr, hash)

cdef inline void filter_prefetch(const Filter* filter, u64 hash) noexcept nogil:
    """The lines that a probe is likely to read."""
    if filter.kind == FILTER_BLOOM:
        prefetch(bloom_line(filter.lines, filter.line_count, hash))
    elif filter.kind != FILTER_NONE:
        burr_prefetch(&filter.burr, hash)
