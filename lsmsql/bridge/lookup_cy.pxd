from .structs cimport Cur, drop

# One key: stands on its row, or is at the end.
cdef int lookup_start(Cur* own, object key, bint timed) except -1
cdef int lookup_free(Cur* own) except -1
