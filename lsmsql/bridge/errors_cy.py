# cython: language_level=3
"""Python's exceptions in SQLite's calls: a result code and a message for SQLite, the exception itself for APSW.

APSW raises, after a step, whatever exception is pending on the thread. So a callback that fails leaves its exception there, and those that SQLite
calls afterwards (to close cursors and roll back) put it aside meanwhile; the first one counts.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

import apsw
from cython.cimports.cpython.ref import Py_INCREF
from cython.cimports.libc.string import memcpy
from cython.cimports.lsmsql.bridge.sqlite import SQLITE_ERROR, SQLITE_NOMEM

_PyObjectP = cython.typedef(cython.pointer(PyObject))
_CODES = {type(apsw.exception_for(code)): code for code in range(1, 27)}


def put_aside(pending):
    PyErr_Fetch(cython.address(pending.kind), cython.address(pending.value), cython.address(pending.trace))


def put_back(pending):
    if pending.kind != cython.NULL:
        PyErr_Restore(pending.kind, pending.value, pending.trace)


def failed(pending, error, api, message):
    code: cython.int = SQLITE_ERROR
    try:
        code = _code_of(error)
        if message != cython.NULL and message[0] == cython.NULL:
            message[0] = _copied(api, str(error).encode("utf-8", "replace"))
    except BaseException:  # An exception whose text cannot be had still has to end the statement.
        pass
    if pending.kind == cython.NULL:
        kind: object = type(error)
        Py_INCREF(kind)
        Py_INCREF(error)
        pending.kind = cython.cast(_PyObjectP, kind)
        pending.value = cython.cast(_PyObjectP, error)
        trace: object = error.__traceback__
        if trace is not None:
            Py_INCREF(trace)
            pending.trace = cython.cast(_PyObjectP, trace)
    return code


def raise_code(api, db, code):
    error = apsw.exception_for(code)
    error.args = (api.errmsg(db).decode("utf-8", "replace"),)
    raise error


@cython.cfunc
def _code_of(error):
    """The result code that APSW gives an exception: its extended one, its class's, or SQLITE_ERROR."""
    if isinstance(error, MemoryError):
        return SQLITE_NOMEM
    for kind in type(error).__mro__:
        code = _CODES.get(kind)
        if code is not None:
            extended = getattr(error, "extendedresult", code)
            return extended if type(extended) is int else code
    return SQLITE_ERROR


@cython.cfunc
@cython.exceptval(check=False)
def _copied(api: Api, text: bytes) -> cython.p_char:
    """The text in SQLite's memory, NUL-terminated; NULL where there is none left."""
    size: cython.size_t = len(text) + 1
    copy: cython.p_char = cython.cast(cython.p_char, api.malloc64(size))
    if copy != cython.NULL:
        memcpy(copy, cython.cast(cython.p_char, text), size)
    return copy
