from .structs cimport Cur

# One key: stands on its row, or is at the end.
cdef int look_up(Cur* own, object key) except -1
cdef int lookup_free(Cur* own) except -1

cdef object _value(object table, object transaction, object shared, object key)
cdef void _drop(void** place) noexcept
