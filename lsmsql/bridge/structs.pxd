# What SQLite holds for the bridge. The first three begin with SQLite's own struct, or are its pointer, so that one is the other.
from cpython.ref cimport Py_DECREF

from lsmsql.engine.kernel.native cimport Blk, Data, u8, u32, u64

from .sqlite cimport Api, sqlite3, sqlite3_vtab, sqlite3_vtab_cursor

ctypedef long long i64

cdef struct Registration:  # of the module in one connection
    Api api
    void* module  # vtab's Module, one reference
    void* connection  # a weak reference to the APSW connection, one reference: the connection itself holds the tables

ctypedef Registration* RegistrationP

# --- a table's shape: what it takes to read its rows, and write its keys, without Python

cdef struct KeyPart:
    int column
    u8 collation  # key_codec_cy's code
    u8 flip  # 255 for a descending part, else 0
    u8 real  # the column stores every number as a real
    u8 exact  # the column's affinity is numeric: see plan.KeyPart

cdef struct Shape:
    int columns
    int parts  # of the key, 0 for a rowid table
    int alias  # the column that is the rowid, -1: none
    KeyPart* part
    int* place  # for each column its part of the key, -1: none
    u8* types  # for each column a bit (1 << type) for every type whose values a new row stores as they are
    u8* real  # for each column whether it stores numbers as reals
    u64* codes  # room for the serial codes of a row

ctypedef Shape* ShapeP

# --- one row, read from left to right as far as columns are asked for

cdef struct Row:
    Data key
    Data value
    size_t key_size
    size_t value_size
    u64 header  # its end; 0: nothing was read yet
    u64 position  # of the next serial code
    u64 body  # where the next column's bytes begin
    int column  # the next

# --- a plan that was run before, known by its text

cdef enum:
    PLANS = 8

cdef struct KnownPlan:
    char* text  # NULL: free
    void* prepared  # vtab's PreparedPlan, one reference
    bint point
    bint timed

cdef struct Vtab:
    sqlite3_vtab base
    Api api
    sqlite3* db
    void* table  # vtab's Table, one reference
    Shape shape
    KnownPlan plans[PLANS]
    int plan  # used last
    int replaced  # next

ctypedef Vtab* VtabP

cdef struct Cur:
    sqlite3_vtab_cursor base
    Api api
    Vtab* vtab
    bint ended
    bint fresh  # `row` is not yet the one that the cursor stands on
    Row row
    # -- a lookup
    void* shared  # vtab's SharedView that is read at, one reference; NULL: none
    void* key  # bytes, one reference each
    void* value
    i64 seqno  # of the row; -1: pending, or nobody asked
    # -- a scan
    void* cursor  # vtab's Cursor, one reference; NULL: none yet
    void* source  # the kernel's Scan that gives the blocks now, one reference; NULL: none
    void* block  # the kernel's Block that keeps `blk` pinned, one reference; NULL: none
    Blk* blk
    u32 at
    u32 end
    i64 skip  # rows to leave out yet
    i64 left  # rows to show after this block; -1: all
    bint watched  # whose reading of hidden columns and rowids has to be noted: see vtab's Cursor

ctypedef Cur* CurP

cdef inline void drop(void** place) noexcept:
    """Give up the reference that is held there, if any."""
    if place[0] != NULL:
        held = <object> place[0]
        place[0] = NULL
        Py_DECREF(held)

cdef inline size_t body_size(u64 code) noexcept nogil:
    """Bytes of a column in a row's body, by its serial code: see vtab/row_codec_cy."""
    if code >= 12:
        return (code - 12) >> 1
    if code < 5:
        return code
    if code == 5:
        return 6
    return 8 if code < 8 else 0
