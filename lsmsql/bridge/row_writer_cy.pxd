from lsmsql.engine.kernel.native cimport Room, u64

from .sqlite cimport Api, sqlite3_value
from .structs cimport Shape, body_size

# The value bytes of a new row with these values, one for each column; None when it takes vtab/row_writer_cy to convert, or to refuse, one of them.
cdef object row_bytes(Api api, const Shape* shape, sqlite3_value** values)

cdef bint _code(Api api, const Shape* shape, int column, sqlite3_value* value, u64* code) except -1
cdef bint _told_by_key(Api api, const Shape* shape, int column, sqlite3_value* value, int kind) noexcept
cdef u64 _integer_code(long long value) noexcept nogil
cdef size_t _varint_size(u64 number) noexcept nogil
cdef Room _put_varint(Room out, u64 number) noexcept nogil
cdef Room _put_body(Api api, const Shape* shape, int column, sqlite3_value* value, Room out) noexcept
