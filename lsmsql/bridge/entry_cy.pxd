from .sqlite cimport Api, sqlite3, sqlite3_module

cdef extern from *:
    """
    typedef int (*lsmsql_entry)(sqlite3*, char**, const sqlite3_api_routines*);
    static lsmsql_entry lsmsql_on_load = NULL;

    __attribute__((visibility("default")))
    int sqlite3_lsmsql_init(sqlite3* db, char** message, const sqlite3_api_routines* api) {
        return lsmsql_on_load == NULL ? SQLITE_ERROR : lsmsql_on_load(db, message, api);
    }
    """
    ctypedef int (*Entry "lsmsql_entry")(sqlite3*, char**, Api) noexcept
    Entry on_load "lsmsql_on_load"

cdef int _load(sqlite3* db, char** message, Api api) noexcept with gil
cdef int _register(sqlite3* db, Api api) except -1
cdef void _unregister(void* registration) noexcept with gil
cdef void _fill_module() noexcept
