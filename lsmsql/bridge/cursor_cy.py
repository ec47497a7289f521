# cython: language_level=3
"""What SQLite calls for a scan, done by vtab's Cursor."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.cpython.ref import Py_DECREF, Py_INCREF
from cython.cimports.libc.string import memset
from cython.cimports.lsmsql.bridge.errors_cy import Pending, failed, put_aside, put_back
from cython.cimports.lsmsql.bridge.sqlite import SQLITE_OK
from cython.cimports.lsmsql.bridge.structs import CurP, VtabP
from cython.cimports.lsmsql.bridge.values_cy import result_object, value_objects


def cursor_open(vtab, cursor):
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    try:
        _open(vtab, cursor)
    except BaseException as error:
        code = failed(cython.address(pending), error, cython.cast(VtabP, vtab).api, cython.address(vtab.zErrMsg))
    put_back(cython.address(pending))
    return code


def _open(vtab, cursor):
    own: VtabP = cython.cast(VtabP, vtab)
    opened: object = cython.cast(object, own.table).Open()
    new: CurP = cython.cast(CurP, own.api.malloc64(cython.sizeof(Cur)))
    if new == cython.NULL:
        raise MemoryError
    memset(new, 0, cython.sizeof(Cur))
    new.api = own.api
    new.vtab = own
    Py_INCREF(opened)
    new.cursor = cython.cast(cython.p_void, opened)
    cursor[0] = cython.address(new.base)
    return 0


def cursor_close(cursor):
    own: CurP = cython.cast(CurP, cursor)
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    walked: object = cython.cast(object, own.cursor)
    try:
        walked.Close()
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(cursor.pVtab.zErrMsg))
    Py_DECREF(walked)
    own.api.free(own)
    put_back(cython.address(pending))
    return code


def cursor_filter(cursor, number, text, count, values):
    own: CurP = cython.cast(CurP, cursor)
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    try:
        cython.cast(object, own.cursor).Filter(number, text.decode(), value_objects(own.api, count, values, False))
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(cursor.pVtab.zErrMsg))
    put_back(cython.address(pending))
    return code


def cursor_next(cursor):
    own: CurP = cython.cast(CurP, cursor)
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    try:
        cython.cast(object, own.cursor).Next()
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(cursor.pVtab.zErrMsg))
    put_back(cython.address(pending))
    return code


def cursor_eof(cursor):
    return cython.cast(object, cython.cast(CurP, cursor).cursor).Eof()


def cursor_column(cursor, context, number):
    own: CurP = cython.cast(CurP, cursor)
    pending: Pending
    code: cython.int = SQLITE_OK
    if own.api.vtab_nochange(context):
        return SQLITE_OK  # An UPDATE reads the old row itself.
    put_aside(cython.address(pending))
    try:
        result_object(own.api, context, cython.cast(object, own.cursor).Column(number))
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(cursor.pVtab.zErrMsg))
    put_back(cython.address(pending))
    return code


def cursor_rowid(cursor, rowid):
    own: CurP = cython.cast(CurP, cursor)
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    try:
        rowid[0] = cython.cast(object, own.cursor).Rowid()
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(cursor.pVtab.zErrMsg))
    put_back(cython.address(pending))
    return code
