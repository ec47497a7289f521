from .sqlite cimport sqlite3_int64, sqlite3_value, sqlite3_vtab
from .structs cimport Vtab

cdef int table_update(sqlite3_vtab* vtab, int count, sqlite3_value** values, sqlite3_int64* rowid) noexcept with gil

cdef int _update(Vtab* own, int count, sqlite3_value** values, sqlite3_int64* rowid) except -1
cdef bint _insert(Vtab* own, object changes, int mode, int count, sqlite3_value** values, sqlite3_int64* rowid) except -1
