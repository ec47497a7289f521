from .aes_gcm_cy cimport Context
from .native cimport Chunk, Data, Ops, u8, u16, u32, u64
from .operations_cy cimport Operations

cdef class MemtableArena:
    cdef Operations operations
    cdef dict memtables
    cdef readonly u64 capacity
    cdef readonly u64 size
    cdef u64 slot_bytes  # of the index's slots, as `size` has them
    cdef size_t start  # of the open record in the newest chunk: a hole for its header, then the payload
    cdef size_t pending  # operations in the open record
    cdef long long selected  # tree of its last operation, or -1
    cdef bint open
    cdef u8* reserve(self, size_t more) except NULL
    cdef int append_one(self, u32 tree, object key, u8 kind, object value) except -1
    cdef int add_one(self, u32 tree, object key, u8 kind, object value) except -1
    cdef int reserve_index(self) except -1
    cdef u8* sealed  # where records are encrypted
    cdef size_t sealed_room
    cdef Context cipher  # the context for it
    cdef object seal_open(self, u16 kind, u64 log_id, u64 ordinal, u64 seqno, u64 previous, u64 time)

cdef Chunk* _move_record(Ops* ops, size_t start, size_t need)
cdef int _check_payload(Ops* ops, Data payload, size_t size, size_t* count) except -1
