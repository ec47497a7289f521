# cython: language_level=3
"""The entry point that SQLite calls when it loads this file as an extension, and the module it registers.

The file is imported by Python before SQLite is told to load it: it is one library, loaded once. Which connection is loading is noted first
(`expecting`), so that the entry point knows its host.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

import threading
import weakref
from contextlib import contextmanager

import apsw
from cython.cimports.cpython.ref import Py_DECREF, Py_INCREF
from cython.cimports.libc.string import memset
from cython.cimports.lsmsql.bridge.cursor_cy import (
    cursor_close,
    cursor_column,
    cursor_eof,
    cursor_filter,
    cursor_next,
    cursor_open,
    cursor_rowid,
)
from cython.cimports.lsmsql.bridge.errors_cy import Pending, failed, put_aside, put_back
from cython.cimports.lsmsql.bridge.sqlite import SQLITE_OK, sqlite3_module
from cython.cimports.lsmsql.bridge.structs import Registration, RegistrationP
from cython.cimports.lsmsql.bridge.table_cy import (
    table_begin,
    table_best_index,
    table_commit,
    table_connect,
    table_create,
    table_destroy,
    table_disconnect,
    table_release,
    table_rename,
    table_rollback,
    table_rollback_to,
    table_savepoint,
    table_sync,
)
from cython.cimports.lsmsql.bridge.update_cy import table_update

ENTRY = "sqlite3_lsmsql_init"

_module = cython.declare(sqlite3_module)
_expected = threading.local()  # pointer, connection, vtab's Module: of the connection that this thread is loading the extension into


@contextmanager
def expecting(connection, module):
    """While a connection loads the extension: whose tables it is to have."""
    _expected.one = (connection.sqlite3_pointer(), connection, module)
    try:
        yield
    finally:
        del _expected.one


def _load(db, message, api):
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    try:
        _register(db, api)
    except BaseException as error:
        code = failed(cython.address(pending), error, api, message)
    put_back(cython.address(pending))
    return code


def _register(db, api):
    expected = getattr(_expected, "one", None)
    if expected is None or expected[0] != cython.cast(cython.size_t, db):
        raise RuntimeError("lsmsql: open the database with lsmsql.connect(), which loads this extension itself")
    _, connection, module = expected
    registration: RegistrationP = cython.cast(RegistrationP, api.malloc64(cython.sizeof(Registration)))
    if registration == cython.NULL:
        raise MemoryError
    reference: object = weakref.ref(connection)
    Py_INCREF(module)
    Py_INCREF(reference)
    registration.api = api
    registration.module = cython.cast(cython.p_void, module)
    registration.connection = cython.cast(cython.p_void, reference)
    # SQLite calls _unregister also when this fails.
    code: cython.int = api.create_module_v2(db, b"lsm", cython.address(_module), registration, _unregister)
    if code:
        raise apsw.exception_for(code)
    return 0


def _unregister(registration):
    own: RegistrationP = cython.cast(RegistrationP, registration)
    pending: Pending
    put_aside(cython.address(pending))
    module: object = cython.cast(object, own.module)
    reference: object = cython.cast(object, own.connection)
    Py_DECREF(module)
    Py_DECREF(reference)
    own.api.free(own)
    put_back(cython.address(pending))


def _fill_module():
    global on_load
    memset(cython.address(_module), 0, cython.sizeof(sqlite3_module))
    _module.iVersion = 2
    _module.xCreate = table_create
    _module.xConnect = table_connect
    _module.xBestIndex = table_best_index
    _module.xDisconnect = table_disconnect
    _module.xDestroy = table_destroy
    _module.xOpen = cursor_open
    _module.xClose = cursor_close
    _module.xFilter = cursor_filter
    _module.xNext = cursor_next
    _module.xEof = cursor_eof
    _module.xColumn = cursor_column
    _module.xRowid = cursor_rowid
    _module.xUpdate = table_update
    _module.xBegin = table_begin
    _module.xSync = table_sync
    _module.xCommit = table_commit
    _module.xRollback = table_rollback
    _module.xRename = table_rename
    _module.xSavepoint = table_savepoint
    _module.xRelease = table_release
    _module.xRollbackTo = table_rollback_to
    on_load = _load


_fill_module()
