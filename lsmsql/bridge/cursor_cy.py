# cython: language_level=3, boundscheck=False, wraparound=False
"""What SQLite calls for a scan. From row to row of a block, and from column to column, there is no Python and no GIL."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.cpython.exc import PyErr_CheckSignals
from cython.cimports.libc.string import memset
from cython.cimports.lsmsql.bridge.errors_cy import Pending, failed, put_aside, put_back
from cython.cimports.lsmsql.bridge.key_cy import point_key
from cython.cimports.lsmsql.bridge.lookup_cy import lookup_free, lookup_start
from cython.cimports.lsmsql.bridge.plan_cy import known_plan
from cython.cimports.lsmsql.bridge.row_cy import KEY_BAD, ROW_DEFAULT, ROW_NO_MEMORY, ROW_OK, row_message, row_result, rowid_of
from cython.cimports.lsmsql.bridge.scan_cy import scan_block, scan_free, scan_open
from cython.cimports.lsmsql.bridge.sqlite import SQLITE_NOMEM, SQLITE_OK
from cython.cimports.lsmsql.bridge.structs import CurP, KnownPlan, VtabP
from cython.cimports.lsmsql.bridge.values_cy import result_object, value_objects
from cython.cimports.lsmsql.engine.kernel.native import (
    BATCH_SEQNO,
    block_key,
    block_key_size,
    block_seqno,
    block_value,
    block_value_size,
)

_KnownPlanP = cython.typedef(cython.pointer(KnownPlan))


def cursor_open(vtab, cursor):
    own: VtabP = cython.cast(VtabP, vtab)
    new: CurP = cython.cast(CurP, own.api.malloc64(cython.sizeof(Cur)))
    if new == cython.NULL:
        return SQLITE_NOMEM
    memset(new, 0, cython.sizeof(Cur))
    new.api = own.api
    new.vtab = own
    new.ended = True
    cursor[0] = cython.address(new.base)
    return SQLITE_OK


def cursor_close(cursor):
    own: CurP = cython.cast(CurP, cursor)
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    try:
        try:
            scan_free(own)
        finally:
            lookup_free(own)
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(cursor.pVtab.zErrMsg))
    own.api.free(own)
    put_back(cython.address(pending))
    return code


def cursor_filter(cursor, number, text, count, values):
    own: CurP = cython.cast(CurP, cursor)
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    own.ended = True
    try:
        _filter(own, text, count, values)
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(cursor.pVtab.zErrMsg))
    put_back(cython.address(pending))
    return code


def _filter(own, text, count, values):
    PyErr_CheckSignals()  # No Python code runs that would look.
    plan: _KnownPlanP = known_plan(own.vtab, text)
    timed: cython.bint = plan.timed
    if plan.point:
        key: object = point_key(own.api, cython.address(own.vtab.shape), count, values)
        if key is not None:
            if own.cursor != cython.NULL:
                scan_free(own)
            return lookup_start(own, key, timed)
    lookup_free(own)
    scan_open(own, text.decode(), value_objects(own.api, count, values, False))
    return scan_block(own)


def cursor_next(cursor):
    own: CurP = cython.cast(CurP, cursor)
    own.at += 1
    if own.at < own.end:
        own.fresh = True
        return SQLITE_OK
    if own.cursor == cython.NULL:
        own.ended = True
        return SQLITE_OK
    return _next_block(own)


def _next_block(own):
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    own.ended = True
    try:
        scan_block(own)
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(own.base.pVtab.zErrMsg))
    put_back(cython.address(pending))
    return code


def cursor_eof(cursor):
    return cython.cast(CurP, cursor).ended


def _stand(own):
    """Point `row` to the row that the cursor stands on."""
    own.fresh = False
    own.row.header = 0
    own.row.key = block_key(own.blk, own.at)
    own.row.key_size = block_key_size(own.blk, own.at)
    own.row.value = block_value(own.blk, own.at)
    own.row.value_size = block_value_size(own.blk, own.at)


def cursor_column(cursor, context, number):
    own: CurP = cython.cast(CurP, cursor)
    code: cython.int
    if own.api.vtab_nochange(context):
        return SQLITE_OK  # An UPDATE reads the old row itself.
    if own.fresh:
        _stand(own)
    if number >= own.vtab.shape.columns:
        return _other_column(own, context, number, ROW_OK)
    code = row_result(cython.address(own.row), cython.address(own.vtab.shape), own.api, context, number)
    if code == ROW_OK:
        return SQLITE_OK
    return _other_column(own, context, number, code)


def _other_column(own, context, number, code):
    """What cannot be answered without Python: hidden columns, defaults, damage."""
    pending: Pending
    put_aside(cython.address(pending))
    try:
        result_object(own.api, context, _other_value(own, number, code))
        code = SQLITE_OK
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(own.base.pVtab.zErrMsg))
    put_back(cython.address(pending))
    return code


def _other_value(own, number, code):
    table: object = cython.cast(object, own.vtab.table)
    hidden: cython.int = number - own.vtab.shape.columns
    if code == ROW_NO_MEMORY:
        raise MemoryError
    if code == ROW_DEFAULT:
        default = table.schema.columns[number].default
        return default.constant if default else None
    if code != ROW_OK:
        raise table.damaged(ValueError(row_message(code)))
    cursor: object = None if own.cursor == cython.NULL else cython.cast(object, own.cursor)
    if own.watched:
        cursor.watch(number)
    if hidden == 0:
        return None if cursor is None else cursor.snapshot
    if hidden == 1:
        if cursor is None:
            return None if own.seqno < 0 else own.seqno
        if not cursor.timed or block_seqno(own.blk, own.at) >= BATCH_SEQNO:
            return None  # Pending rows have none yet.
        return block_seqno(own.blk, own.at)
    return PyBytes_FromStringAndSize(cython.cast(cython.p_char, own.row.key), own.row.key_size)


def cursor_rowid(cursor, rowid):
    own: CurP = cython.cast(CurP, cursor)
    if own.fresh:
        _stand(own)
    if own.watched or own.row.key_size != 8:
        return _unusual_rowid(own, rowid)
    rowid[0] = rowid_of(own.row.key)
    return SQLITE_OK


def _unusual_rowid(own, rowid):
    """One whose reading has to be noted, or that is none."""
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    try:
        if own.row.key_size != 8:
            raise cython.cast(object, own.vtab.table).damaged(ValueError(row_message(KEY_BAD)))
        rowid[0] = rowid_of(own.row.key)
        if own.watched:
            cython.cast(object, own.cursor).watch_rowid()
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(own.base.pVtab.zErrMsg))
    put_back(cython.address(pending))
    return code
