# cython: language_level=3
"""xUpdate: INSERT, UPDATE and DELETE of one row."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.lsmsql.bridge.errors_cy import Pending, failed, put_aside, put_back
from cython.cimports.lsmsql.bridge.sqlite import SQLITE_CONSTRAINT, SQLITE_NULL, SQLITE_OK
from cython.cimports.lsmsql.bridge.structs import VtabP
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
    changes: object = cython.cast(object, own.table).changes
    mode: cython.int = own.api.vtab_on_conflict(own.db)
    row: object = value_object(own.api, values[0])
    if count == 1:
        changes.delete(row, mode)
        return 0
    new_row: object = value_object(own.api, values[1])
    fields: tuple = value_objects(own.api, count - 2, values + 2, True)
    if own.api.value_type(values[0]) == SQLITE_NULL:
        rowid[0] = changes.insert(new_row, fields, mode)
    else:
        changes.change(row, new_row, fields, mode)
    return 0
