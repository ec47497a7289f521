from .errors_cy cimport Pending
from .sqlite cimport sqlite3, sqlite3_index_info, sqlite3_vtab
from .structs cimport Registration

cdef int table_create(sqlite3* db, void* registration, int count, const char* const* words, sqlite3_vtab** vtab, char** message) noexcept with gil
cdef int table_connect(sqlite3* db, void* registration, int count, const char* const* words, sqlite3_vtab** vtab, char** message) noexcept with gil
cdef int table_best_index(sqlite3_vtab* vtab, sqlite3_index_info* info) noexcept with gil
cdef int table_disconnect(sqlite3_vtab* vtab) noexcept with gil
cdef int table_destroy(sqlite3_vtab* vtab) noexcept with gil
cdef int table_rename(sqlite3_vtab* vtab, const char* name) noexcept with gil
cdef int table_begin(sqlite3_vtab* vtab) noexcept with gil
cdef int table_sync(sqlite3_vtab* vtab) noexcept with gil
cdef int table_commit(sqlite3_vtab* vtab) noexcept with gil
cdef int table_rollback(sqlite3_vtab* vtab) noexcept with gil
cdef int table_savepoint(sqlite3_vtab* vtab, int level) noexcept with gil
cdef int table_release(sqlite3_vtab* vtab, int level) noexcept with gil
cdef int table_rollback_to(sqlite3_vtab* vtab, int level) noexcept with gil

cdef int _opened(
    Registration* registration, sqlite3* db, int count, const char* const* words, bint create, sqlite3_vtab** vtab, char** message
) noexcept
cdef int _open(Registration* registration, sqlite3* db, int count, const char* const* words, bint create, sqlite3_vtab** vtab) except -1
cdef int _call(sqlite3_vtab* vtab, str name, object argument, bint certain) noexcept
cdef int _carry_out(sqlite3_vtab* vtab, str name, object argument, Pending* pending, bint* cut_short) noexcept
cdef void _free(sqlite3_vtab* vtab) noexcept
