# What the bridge uses of SQLite, from the system's own header. SQLITE_CORE keeps the header from turning each function's name into a call through
# a static pointer: here the routines come from whoever loads the extension, and travel with each table (two SQLite libraries may be in the process).
cdef extern from *:
    """
    #ifndef SQLITE_CORE
    #define SQLITE_CORE 1
    #endif
    #include <sqlite3ext.h>
    #if SQLITE_VERSION_NUMBER < 3038000
    #error "the bridge needs the headers of SQLite 3.38 or newer"
    #endif
    """

cdef extern from "sqlite3ext.h" nogil:
    ctypedef long long sqlite3_int64
    ctypedef unsigned long long sqlite3_uint64

    ctypedef struct sqlite3:
        pass

    ctypedef struct sqlite3_value:
        pass

    ctypedef struct sqlite3_context:
        pass

    ctypedef struct sqlite3_module

    ctypedef struct sqlite3_vtab:
        const sqlite3_module* pModule
        char* zErrMsg

    ctypedef struct sqlite3_vtab_cursor:
        sqlite3_vtab* pVtab

    ctypedef struct sqlite3_blob:
        pass

    struct sqlite3_index_constraint:
        int iColumn
        unsigned char op
        unsigned char usable

    struct sqlite3_index_orderby:
        int iColumn
        unsigned char desc

    struct sqlite3_index_constraint_usage:
        int argvIndex
        unsigned char omit

    ctypedef struct sqlite3_index_info:
        int nConstraint
        sqlite3_index_constraint* aConstraint
        int nOrderBy
        sqlite3_index_orderby* aOrderBy
        sqlite3_index_constraint_usage* aConstraintUsage
        int idxNum
        char* idxStr
        int needToFreeIdxStr
        int orderByConsumed
        double estimatedCost
        sqlite3_int64 estimatedRows
        int idxFlags
        sqlite3_uint64 colUsed

    ctypedef struct sqlite3_module:
        int iVersion
        int (*xCreate)(sqlite3*, void*, int, const char* const*, sqlite3_vtab**, char**) noexcept
        int (*xConnect)(sqlite3*, void*, int, const char* const*, sqlite3_vtab**, char**) noexcept
        int (*xBestIndex)(sqlite3_vtab*, sqlite3_index_info*) noexcept
        int (*xDisconnect)(sqlite3_vtab*) noexcept
        int (*xDestroy)(sqlite3_vtab*) noexcept
        int (*xOpen)(sqlite3_vtab*, sqlite3_vtab_cursor**) noexcept
        int (*xClose)(sqlite3_vtab_cursor*) noexcept
        int (*xFilter)(sqlite3_vtab_cursor*, int, const char*, int, sqlite3_value**) noexcept
        int (*xNext)(sqlite3_vtab_cursor*) noexcept
        int (*xEof)(sqlite3_vtab_cursor*) noexcept
        int (*xColumn)(sqlite3_vtab_cursor*, sqlite3_context*, int) noexcept
        int (*xRowid)(sqlite3_vtab_cursor*, sqlite3_int64*) noexcept
        int (*xUpdate)(sqlite3_vtab*, int, sqlite3_value**, sqlite3_int64*) noexcept
        int (*xBegin)(sqlite3_vtab*) noexcept
        int (*xSync)(sqlite3_vtab*) noexcept
        int (*xCommit)(sqlite3_vtab*) noexcept
        int (*xRollback)(sqlite3_vtab*) noexcept
        int (*xRename)(sqlite3_vtab*, const char*) noexcept
        int (*xSavepoint)(sqlite3_vtab*, int) noexcept
        int (*xRelease)(sqlite3_vtab*, int) noexcept
        int (*xRollbackTo)(sqlite3_vtab*, int) noexcept

    ctypedef void (*destructor_t "sqlite3_destructor_type")(void*) noexcept nogil
    destructor_t SQLITE_TRANSIENT

    ctypedef struct sqlite3_api_routines:
        int (*create_module_v2)(sqlite3*, const char*, const sqlite3_module*, void*, destructor_t) noexcept nogil
        int (*declare_vtab)(sqlite3*, const char*) noexcept nogil
        int (*vtab_config)(sqlite3*, int, ...) noexcept nogil
        int (*vtab_on_conflict)(sqlite3*) noexcept nogil
        int (*vtab_nochange)(sqlite3_context*) noexcept nogil
        const char* (*vtab_collation)(sqlite3_index_info*, int) noexcept nogil
        int (*vtab_in)(sqlite3_index_info*, int, int) noexcept nogil
        int (*extended_errcode)(sqlite3*) noexcept nogil
        const char* (*errmsg)(sqlite3*) noexcept nogil
        sqlite3_int64 (*last_insert_rowid)(sqlite3*) noexcept nogil
        int (*get_autocommit)(sqlite3*) noexcept nogil
        int (*blob_open)(sqlite3*, const char*, const char*, const char*, sqlite3_int64, int, sqlite3_blob**) noexcept nogil
        int (*blob_bytes)(sqlite3_blob*) noexcept nogil
        int (*blob_read)(sqlite3_blob*, void*, int, int) noexcept nogil
        int (*blob_write)(sqlite3_blob*, const void*, int, int) noexcept nogil
        int (*blob_close)(sqlite3_blob*) noexcept nogil
        void* (*malloc64)(sqlite3_uint64) noexcept nogil
        void (*free)(void*) noexcept nogil
        int (*value_type)(sqlite3_value*) noexcept nogil
        int (*value_nochange)(sqlite3_value*) noexcept nogil
        sqlite3_int64 (*value_int64)(sqlite3_value*) noexcept nogil
        double (*value_double)(sqlite3_value*) noexcept nogil
        const unsigned char* (*value_text)(sqlite3_value*) noexcept nogil
        const void* (*value_blob)(sqlite3_value*) noexcept nogil
        int (*value_bytes)(sqlite3_value*) noexcept nogil
        void (*result_null)(sqlite3_context*) noexcept nogil
        void (*result_int64)(sqlite3_context*, sqlite3_int64) noexcept nogil
        void (*result_double)(sqlite3_context*, double) noexcept nogil
        void (*result_text64)(sqlite3_context*, const char*, sqlite3_uint64, destructor_t, unsigned char) noexcept nogil
        void (*result_blob64)(sqlite3_context*, const void*, sqlite3_uint64, destructor_t) noexcept nogil

    enum:
        SQLITE_OK
        SQLITE_ERROR
        SQLITE_NOMEM
        SQLITE_READONLY
        SQLITE_CONSTRAINT
        SQLITE_INTEGER
        SQLITE_FLOAT
        SQLITE_TEXT
        SQLITE_BLOB
        SQLITE_NULL
        SQLITE_UTF8
        SQLITE_VTAB_CONSTRAINT_SUPPORT

ctypedef const sqlite3_api_routines* Api
