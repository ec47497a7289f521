from .native cimport Data, TabP, u32, u64

cdef struct Level:
    u32 count
    TabP* tables
    u64* prefixes  # of each table's largest key

cdef class Levels:
    cdef readonly list levels  # of lists of Table
    cdef readonly object apart  # a ValueSource
    cdef Level* c_levels
    cdef u32 count

# The table of a disjoint level that a key would be in: the first whose largest key is not below it; Level.count if none.
cdef u32 level_lower(const Level* level, Data key, size_t size) noexcept nogil
