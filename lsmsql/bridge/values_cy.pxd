from lsmsql.engine.kernel.native cimport Data

from .sqlite cimport Api, sqlite3_context, sqlite3_value

# The bytes of a text or blob and how many there are. NoMemError where SQLite has none left to make them: the value reads as NULL from then on.
cdef Data text_of(Api api, sqlite3_value* value, size_t* size) except NULL
cdef Data blob_of(Api api, sqlite3_value* value, size_t* size) except NULL

cdef object value_object(Api api, sqlite3_value* value)  # None, int, float, str or bytes
cdef tuple value_objects(Api api, int count, sqlite3_value** values, bint changes)  # changes: apsw.no_change for a column that UPDATE leaves alone
cdef int result_object(Api api, sqlite3_context* context, object value) except -1
