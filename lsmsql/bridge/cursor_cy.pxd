from .sqlite cimport sqlite3_context, sqlite3_int64, sqlite3_value, sqlite3_vtab, sqlite3_vtab_cursor
from .structs cimport Cur

cdef int cursor_open(sqlite3_vtab* vtab, sqlite3_vtab_cursor** cursor) noexcept nogil
cdef int cursor_close(sqlite3_vtab_cursor* cursor) noexcept with gil
cdef int cursor_filter(sqlite3_vtab_cursor* cursor, int number, const char* text, int count, sqlite3_value** values) noexcept with gil
cdef int cursor_next(sqlite3_vtab_cursor* cursor) noexcept nogil
cdef int cursor_eof(sqlite3_vtab_cursor* cursor) noexcept nogil
cdef int cursor_column(sqlite3_vtab_cursor* cursor, sqlite3_context* context, int number) noexcept nogil
cdef int cursor_rowid(sqlite3_vtab_cursor* cursor, sqlite3_int64* rowid) noexcept nogil

cdef int _filter(Cur* own, const char* text, int count, sqlite3_value** values) except -1
cdef int _next_block(Cur* own) noexcept with gil
cdef void _stand(Cur* own) noexcept nogil
cdef int _other_column(Cur* own, sqlite3_context* context, int number, int code) noexcept with gil
cdef object _other_value(Cur* own, int number, int code)
cdef int _unusual_rowid(Cur* own, sqlite3_int64* rowid) noexcept with gil
