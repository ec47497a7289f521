from .native cimport Data, MemTree, Ops, Pair, u8, u32, u64
from .operations_cy cimport Operations, ops_find, ops_prefetch
from .order_cy cimport order_next, order_previous, order_seek, order_sorted, order_update, order_valid

cdef class Memtable:
    cdef Operations operations
    cdef Ops* ops
    cdef MemTree* mem
    cdef bint limited  # `limit` replaces the reader's seqno
    cdef u64 limit_seqno

cdef class Batch:
    cdef Operations operations
    cdef u64 bytes
    cdef int append(self, u32 tree, object key, u8 kind, object value) except -1

cdef Memtable memtable_view(Operations operations, u32 number)
cdef int check_entry(object key, object value) except -1
cdef u8* write_operation(u8* at, u32 select, bint selecting, Data key, u32 key_size, u8 kind, Data value, u32 value_size) noexcept nogil

cdef object _version(const Ops* ops, u32 node)
cdef object _value(u8* op)
cdef u32 _lookup(const Ops* ops, u32 number, object key, u64 seqno)
