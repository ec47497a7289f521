from .levels_cy cimport Levels
from .memtable_cy cimport Memtable
from .native cimport Blk, Data, TabP, u8, u32, u64

cdef struct Key:  # what is looked up, and the best version found so far
    Data data
    size_t size
    u64 hash
    u64 seqno  # the reader's
    u64 best  # seqno of the best version
    bint found
    bint apart  # what was found is unread, a tuple of its pointer
    TabP tab  # that may hold the key, NULL: none
    TabP piece  # its index, or the partition of it that the key lies in; NULL: has to be read
    u32 ordinal  # the block of that
    u32 position
    Blk* blk  # the block if it is cached

cdef int _start(Key* key, object data, u64 seqno) except -1
cdef object _ask_memtable(Memtable memtable, Key* key, bint whole)
cdef object _ask_table(TabP tab, Key* key, object best, bint whole)
cdef object _take(const Blk* blk, u32 at, Key* key, bint whole)
cdef object _find(object memtables, Levels levels, object data, u64 seqno, bint whole)
cdef int _stage(object memtables, Levels levels, list keys, size_t first, u32 count, u64 seqno, list out) except -1
cdef int _stage_memtables(object memtables, Key* keys, u32 count, size_t first, list out) except -1
cdef int _stage_tables(Key* keys, u32 count, size_t first, list out) except -1
cdef bint _settle(Key* key)
cdef bint _aim(Key* key) noexcept nogil
cdef bint _aim_in_parts(Key* key) noexcept nogil
