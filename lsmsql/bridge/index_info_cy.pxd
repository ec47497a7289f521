from .sqlite cimport Api, sqlite3_index_info

cdef class IndexInfo:
    cdef Api api
    cdef sqlite3_index_info* info
    cdef int _set(self, int number) except -1
    cdef int _keep(self, bytes text) except -1

cdef IndexInfo index_info(Api api, sqlite3_index_info* info)
