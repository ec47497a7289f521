from lsmsql.engine.kernel.native cimport Data, Room, u8

from .sqlite cimport Api, sqlite3_value
from .structs cimport KeyPart, Shape

# The key that the values of a whole key ask for, as bytes; None when it takes vtab/ranges.py to say.
cdef object point_key(Api api, const Shape* shape, int count, sqlite3_value** values)

# The key of a row with these values, one for each column, which it may store as they are; None when it takes vtab/key_codec_cy to say.
cdef object row_key(Api api, const Shape* shape, sqlite3_value** values)

cdef object _key(Api api, const Shape* shape, sqlite3_value** values, bint by_column, Py_ssize_t room)
cdef Py_ssize_t _room(Api api, const KeyPart* part, sqlite3_value* value, bint asked) except -2
cdef Room _put(Api api, const KeyPart* part, sqlite3_value* value, Room out) noexcept
cdef Room _put_number(double number, Room out) noexcept
cdef Room _put_text(Data text, size_t size, u8 collation, Room out) noexcept
cdef Room _put_escaped(Data raw, size_t size, Room out) noexcept
