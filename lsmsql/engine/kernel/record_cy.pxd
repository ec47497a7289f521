from .native cimport Room, u16, u32, u64

# Fill in the header of a whole record: `size` bytes with it, the stored payload in place (storage/record_log.py has the layout).
cdef void record_fill(Room at, size_t size, u16 kind, u16 flags, u64 log_id, u64 ordinal, u64 seqno, u64 previous, u32 epoch, u64 time) noexcept nogil
