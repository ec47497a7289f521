from .sqlite cimport Api, sqlite3_context, sqlite3_value

cdef object value_object(Api api, sqlite3_value* value)  # None, int, float, str or bytes
cdef tuple value_objects(Api api, int count, sqlite3_value** values, bint changes)  # changes: apsw.no_change for a column that UPDATE leaves alone
cdef int result_object(Api api, sqlite3_context* context, object value) except -1
