# cython: language_level=3
"""xUpdate: INSERT, UPDATE and DELETE of one row."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.cpython.exc import PyErr_CheckSignals
from cython.cimports.lsmsql.bridge.errors_cy import Pending, failed, put_aside, put_back
from cython.cimports.lsmsql.bridge.key_cy import row_key
from cython.cimports.lsmsql.bridge.row_writer_cy import row_bytes
from cython.cimports.lsmsql.bridge.sqlite import SQLITE_CONSTRAINT, SQLITE_INTEGER, SQLITE_NULL, SQLITE_OK
from cython.cimports.lsmsql.bridge.structs import ShapeP, VtabP
from cython.cimports.lsmsql.bridge.values_cy import value_object, value_objects

from lsmsql.vtab.row_writer_cy import SkipRow


def table_update(vtab, count, values, rowid):
    own: VtabP = cython.cast(VtabP, vtab)
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    try:
        _update(own, count, values, rowid)
    except SkipRow:
        code = SQLITE_CONSTRAINT  # With OR IGNORE SQLite goes on, and does not count the row.
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(vtab.zErrMsg))
    put_back(cython.address(pending))
    return code


def _update(own, count, values, rowid):
    PyErr_CheckSignals()
    table: object = cython.cast(object, own.table)
    changes: object = table.changes
    mode: cython.int = own.api.vtab_on_conflict(own.db)
    if count == 1:
        changes.delete(value_object(own.api, values[0]), mode)
        return 0
    inserting: cython.bint = own.api.value_type(values[0]) == SQLITE_NULL
    if inserting and _insert(own, changes, mode, count, values, rowid):
        return 0
    new_row: object = value_object(own.api, values[1])
    fields: tuple = value_objects(own.api, count - 2, values + 2, True)
    if inserting:
        rowid[0] = changes.insert(new_row, fields, mode)
        table.session.given_rowid = 0  # SQLite is told.
    else:
        changes.change(value_object(own.api, values[0]), new_row, fields, mode)
    return 0


def _insert(own, changes, mode, count, values, rowid):
    """Insert a row that needs no conversion, and has nothing to be refused for but its key. False: it is not such a row."""
    shape: ShapeP = cython.address(own.shape)
    number: cython.int
    kind: cython.int
    for number in range(shape.columns + 2, count):
        if own.api.value_type(values[number]) != SQLITE_NULL:
            return False  # a hidden column
    key: object = None
    given: object = None
    if shape.parts:
        key = row_key(own.api, shape, values + 2)
        if key is None:
            return False
    else:
        number = 1
        if shape.alias >= 0 and own.api.value_type(values[shape.alias + 2]) != SQLITE_NULL:
            number = shape.alias + 2
        kind = own.api.value_type(values[number])
        if kind == SQLITE_INTEGER:
            given = own.api.value_int64(values[number])
        elif kind != SQLITE_NULL:
            return False
    value: object = row_bytes(own.api, shape, values + 2)
    if value is None:
        return False
    if key is None:
        rowid[0] = changes.put_numbered(given, value, mode)
    else:
        changes.put_new(key, value, mode)
        rowid[0] = own.api.last_insert_rowid(own.db)  # There is none, and whatever is told becomes the last one.
    return True
