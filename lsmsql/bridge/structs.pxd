# What SQLite holds for the bridge. Each begins with SQLite's own struct, so that a pointer to one is a pointer to the other.
from .sqlite cimport Api, sqlite3, sqlite3_vtab, sqlite3_vtab_cursor

cdef struct Registration:  # of the module in one connection
    Api api
    void* module  # vtab's Module, one reference
    void* connection  # a weak reference to the APSW connection, one reference: the connection itself holds the tables

ctypedef Registration* RegistrationP

cdef struct Vtab:
    sqlite3_vtab base
    Api api
    sqlite3* db
    void* table  # vtab's Table, one reference

ctypedef Vtab* VtabP

cdef struct Cur:
    sqlite3_vtab_cursor base
    Api api
    Vtab* vtab
    void* cursor  # vtab's Cursor, one reference

ctypedef Cur* CurP
