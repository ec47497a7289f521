from .sqlite cimport Api, sqlite3

cdef class CommitNumber:
    cdef Api api
    cdef sqlite3* db
    cdef bytes schema_name
    cdef const char* name  # its bytes
    cdef bint _write(self, unsigned long long number, unsigned long long committed, long long written) noexcept nogil

cdef CommitNumber commit_number(Api api, sqlite3* db, bytes schema_name)
