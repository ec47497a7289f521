from .sqlite cimport sqlite3_context, sqlite3_int64, sqlite3_value, sqlite3_vtab, sqlite3_vtab_cursor
from .structs cimport Cur

cdef int cursor_open(sqlite3_vtab* vtab, sqlite3_vtab_cursor** cursor) noexcept with gil
cdef int cursor_close(sqlite3_vtab_cursor* cursor) noexcept with gil
cdef int cursor_filter(sqlite3_vtab_cursor* cursor, int number, const char* text, int count, sqlite3_value** values) noexcept with gil
cdef int cursor_next(sqlite3_vtab_cursor* cursor) noexcept with gil
cdef int cursor_eof(sqlite3_vtab_cursor* cursor) noexcept with gil
cdef int cursor_column(sqlite3_vtab_cursor* cursor, sqlite3_context* context, int number) noexcept with gil
cdef int cursor_rowid(sqlite3_vtab_cursor* cursor, sqlite3_int64* rowid) noexcept with gil

cdef int _open(sqlite3_vtab* vtab, sqlite3_vtab_cursor** cursor) except -1
