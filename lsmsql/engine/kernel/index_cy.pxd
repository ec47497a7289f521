# A raw index (docs/formats.md), taken apart into the columns of a Tab.
from .native cimport (
    DUPLICATES, KINDS_READABLE, SLACK, U32_MAX, Data, Room, Tab, TabP, U32s, U64s, compare_keys, last_key, last_key_size, prefix_of, u8, u16, u32, u64,
)

cdef size_t index_need(Data data, size_t size) except 0  # bytes of memory for its columns; ValueError when they do not fill it
# Fill a Tab whose raw index has been measured, from such memory, which it does not own. start: offset of the first block. ValueError.
cdef int index_fill(Tab* tab, Room memory, Data data, size_t size, u64 global_seqno, u64 start) except -1
# Note in the top-level index which blocks the partitions are of, in memory for 12 bytes each and one more. ValueError.
cdef int index_partitions(Tab* tab, U64s starts, object partitions) except -1

cdef u8* _column(Room memory, size_t* at, size_t size) noexcept
cdef int _fill_columns(Tab* tab, Data data, u64 global_seqno, u64 start) except -1
