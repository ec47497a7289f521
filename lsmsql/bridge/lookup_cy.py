# cython: language_level=3
"""A scan that asks for one key: what vtab's Cursor does for it, without a Cursor."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.cpython.ref import Py_INCREF
from cython.cimports.lsmsql.engine.kernel.native import Data

from lsmsql.vtab.cursor_cy import look_up as _look_up

_ObjectP = cython.typedef(cython.p_void)


def lookup_start(own, key, timed):
    table: object = cython.cast(object, own.vtab.table)
    transaction: object = table.transaction
    shared: object
    table.reads_history = False
    drop(cython.address(own.value))
    if own.shared != cython.NULL and transaction.views.shared is cython.cast(object, own.shared):
        shared = cython.cast(object, own.shared)
    else:
        lookup_free(own)
        shared = transaction.acquire_view(table.schema_name)
        Py_INCREF(shared)
        own.shared = cython.cast(_ObjectP, shared)
    value, seqno = _look_up(transaction, shared, table.tree, key, timed)
    own.seqno = -1 if seqno is None else seqno
    own.ended = value is None
    own.watched = own.fresh = False
    own.at = 0
    own.end = 1
    if value is not None:
        drop(cython.address(own.key))
        Py_INCREF(key)
        Py_INCREF(value)
        own.key = cython.cast(_ObjectP, key)
        own.value = cython.cast(_ObjectP, value)
        own.row.header = 0
        own.row.key = cython.cast(Data, PyBytes_AS_STRING(key))
        own.row.key_size = PyBytes_GET_SIZE(key)
        own.row.value = cython.cast(Data, PyBytes_AS_STRING(value))
        own.row.value_size = PyBytes_GET_SIZE(value)
    return 0


def lookup_free(own):
    drop(cython.address(own.key))
    drop(cython.address(own.value))
    if own.shared != cython.NULL:
        shared: object = cython.cast(object, own.shared)
        drop(cython.address(own.shared))
        cython.cast(object, own.vtab.table).transaction.views.release(shared)
    return 0
