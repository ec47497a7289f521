from lsmsql.engine.kernel.native cimport Data, u8, u64

from .sqlite cimport Api, sqlite3_context
from .structs cimport KeyPart, Row, Shape, body_size

cdef enum:
    ROW_OK = 0
    ROW_DEFAULT = 1  # written before the column was added
    ROW_NO_MEMORY = 2
    ROW_SHORT = 3
    ROW_HEADER = 4
    ROW_PARTS = 5
    ROW_TEXT = 6
    KEY_BAD = 7

# The value of one column as SQLite's result. The row's key, value and sizes are set, its `header` 0 before the first column.
cdef int row_result(Row* row, const Shape* shape, Api api, sqlite3_context* context, int column) noexcept nogil
cdef str row_message(int code)
cdef long long rowid_of(Data key) noexcept nogil

cdef bint _varint(Data data, u64 end, u64* position, u64* number) noexcept nogil
cdef int _begin(Row* row) noexcept nogil
cdef int _body_result(Api api, sqlite3_context* context, Data body, u64 code) noexcept nogil
cdef int _key_result(Api api, sqlite3_context* context, const Row* row, const Shape* shape, int part) noexcept nogil
cdef int _part_result(Api api, sqlite3_context* context, Data part, size_t size, const KeyPart* kind) noexcept nogil
cdef int _text_result(Api api, sqlite3_context* context, Data part, size_t size, u8 flip, u8 tag) noexcept nogil
cdef size_t _part_end(Data key, size_t size, size_t position, u8 flip) noexcept nogil
cdef void _number_result(Api api, sqlite3_context* context, Data part, size_t size, const KeyPart* kind) noexcept nogil
