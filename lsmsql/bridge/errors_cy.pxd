from .sqlite cimport Api, sqlite3

cdef extern from "Python.h":
    ctypedef struct PyObject:
        pass
    void PyErr_Fetch(PyObject** kind, PyObject** value, PyObject** trace)
    void PyErr_Restore(PyObject* kind, PyObject* value, PyObject* trace)

cdef struct Pending:  # an exception that a callback before this one has left on the thread
    PyObject* kind
    PyObject* value
    PyObject* trace

# Around everything that a callback does in Python: what was pending is put aside, and put back at the end, or else what failed here.
cdef void put_aside(Pending* pending) noexcept
cdef void put_back(Pending* pending) noexcept
# Notes what failed, to be left on the thread for APSW, which raises it as it is; its text goes to SQLite as well. Returns the result code.
cdef int failed(Pending* pending, object error, Api api, char** message) noexcept
cdef int raise_code(Api api, sqlite3* db, int code) except -1  # as APSW raises it, with the message that SQLite has now
