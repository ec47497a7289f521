from .sqlite cimport Api, sqlite3

cdef class CommitNumber:
    cdef Api api
    cdef sqlite3* db
    cdef bytes schema_name
    cdef const char* name  # its bytes
    # SQLite's code; what a callback of the user's (a progress handler, say) has raised meanwhile comes before it.
    cdef int _write(self, unsigned long long number, unsigned long long committed, long long written, bint* done) except * nogil

cdef CommitNumber commit_number(Api api, sqlite3* db, bytes schema_name)
