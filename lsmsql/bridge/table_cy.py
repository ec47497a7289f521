# cython: language_level=3
"""What SQLite calls for a table: creating and opening it, planning, transactions. All of it is done by vtab's Module and Table."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.cpython.exc import PyErr_CheckSignals
from cython.cimports.cpython.ref import Py_DECREF, Py_INCREF
from cython.cimports.libc.string import memset
from cython.cimports.lsmsql.bridge.errors_cy import Pending, failed, put_aside, put_back, raise_code
from cython.cimports.lsmsql.bridge.index_info_cy import IndexInfo, index_info
from cython.cimports.lsmsql.bridge.number_cy import commit_number
from cython.cimports.lsmsql.bridge.plan_cy import plans_free
from cython.cimports.lsmsql.bridge.shape_cy import shape_fill, shape_free
from cython.cimports.lsmsql.bridge.sqlite import SQLITE_CONSTRAINT, SQLITE_NOMEM, SQLITE_OK, SQLITE_VTAB_CONSTRAINT_SUPPORT
from cython.cimports.lsmsql.bridge.structs import RegistrationP, Vtab, VtabP

_NO_ARGUMENT = object()

# Creating and opening


def table_create(db, registration, count, words, vtab, message):
    return _opened(cython.cast(RegistrationP, registration), db, count, words, True, vtab, message)


def table_connect(db, registration, count, words, vtab, message):
    return _opened(cython.cast(RegistrationP, registration), db, count, words, False, vtab, message)


def _opened(registration, db, count, words, create, vtab, message):
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    try:
        _open(registration, db, count, words, create, vtab)
    except BaseException as error:
        code = failed(cython.address(pending), error, registration.api, message)
    put_back(cython.address(pending))
    return code


def _open(registration, db, count, words, create, vtab):
    arguments: list = [words[place].decode() for place in range(count)]
    module: object = cython.cast(object, registration.module)
    connection: object = cython.cast(object, registration.connection)()
    if create:
        declaration, table = module.create(connection, arguments[1], arguments[2], tuple(arguments[3:]))
    else:
        declaration, table = module.connect(connection, arguments[1], arguments[2])
    registration.api.vtab_config(db, SQLITE_VTAB_CONSTRAINT_SUPPORT, 1)
    code: cython.int = registration.api.declare_vtab(db, declaration.encode())
    if code:
        raise_code(registration.api, db, code)
    new: VtabP = cython.cast(VtabP, registration.api.malloc64(cython.sizeof(Vtab)))
    if new == cython.NULL:
        raise MemoryError
    memset(new, 0, cython.sizeof(Vtab))
    new.api = registration.api
    new.db = db
    Py_INCREF(table)
    new.table = cython.cast(cython.p_void, table)
    try:
        shape_fill(cython.address(new.shape), table)
    except BaseException:
        _free(cython.address(new.base))
        raise
    table.transaction.carried_out(commit_number(registration.api, db, arguments[1].encode()))
    vtab[0] = cython.address(new.base)
    return 0


def table_disconnect(vtab):
    pending: Pending
    put_aside(cython.address(pending))
    _let_go(cython.cast(object, cython.cast(VtabP, vtab).table))
    _free(vtab)
    put_back(cython.address(pending))
    return SQLITE_OK


@cython.cfunc
@cython.exceptval(check=False)
def _let_go(table) -> cython.void:
    """Without exceptval: what fails here has nobody to be told but the interpreter's hook for unraisable exceptions."""
    table.Disconnect()


def table_destroy(vtab):
    code: cython.int = _call(vtab, "Destroy", _NO_ARGUMENT, False)
    pending: Pending
    if code == SQLITE_OK:  # Otherwise SQLite keeps the table.
        put_aside(cython.address(pending))
        _free(vtab)
        put_back(cython.address(pending))
    return code


def _free(vtab):
    own: VtabP = cython.cast(VtabP, vtab)
    table: object = cython.cast(object, own.table)
    plans_free(own)
    shape_free(cython.address(own.shape))
    Py_DECREF(table)
    own.api.free(own)


def table_rename(vtab, name):
    own: VtabP = cython.cast(VtabP, vtab)
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    try:
        cython.cast(object, own.table).Rename(name.decode())
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(vtab.zErrMsg))
    put_back(cython.address(pending))
    return code


# Planning


def table_best_index(vtab, info):
    own: VtabP = cython.cast(VtabP, vtab)
    pending: Pending
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    described: IndexInfo = index_info(own.api, info)
    try:
        if not cython.cast(object, own.table).BestIndexObject(described):
            code = SQLITE_CONSTRAINT
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.address(vtab.zErrMsg))
    described.info = cython.NULL
    put_back(cython.address(pending))
    return code


# Transactions


def _call(vtab, name, argument, certain):
    """certain: a refusal would undo more than the call. So what a signal raises that has come meanwhile (Ctrl-C while SQLite syncs, say) is left on
    the thread for APSW, and the call carried out; otherwise it is refused."""
    own: VtabP = cython.cast(VtabP, vtab)
    pending: Pending
    cut_short: cython.bint = False
    code: cython.int = SQLITE_OK
    put_aside(cython.address(pending))
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        code = failed(cython.address(pending), error, own.api, cython.NULL if certain else cython.address(vtab.zErrMsg))
        if certain:
            code = SQLITE_OK
    if code == SQLITE_OK:
        code = _carry_out(vtab, name, argument, cython.address(pending), cython.address(cut_short))
        if cut_short and certain:  # By a signal later than the check. All of these calls may be made again.
            code = _carry_out(vtab, name, argument, cython.address(pending), cython.address(cut_short))
    put_back(cython.address(pending))
    return code


def _carry_out(vtab, name, argument, pending, cut_short):
    own: VtabP = cython.cast(VtabP, vtab)
    try:
        method: object = getattr(cython.cast(object, own.table), name)
        if argument is _NO_ARGUMENT:
            method()
        else:
            method(argument)
    except BaseException as error:
        cut_short[0] = not isinstance(error, Exception)
        return failed(pending, error, own.api, cython.address(vtab.zErrMsg))
    return SQLITE_OK


def table_begin(vtab):
    return _call(vtab, "Begin", _NO_ARGUMENT, False)


def table_sync(vtab):
    return _call(vtab, "Sync", _NO_ARGUMENT, False)


def table_commit(vtab):
    return _call(vtab, "Commit", _NO_ARGUMENT, True)


def table_rollback(vtab):
    return _call(vtab, "Rollback", _NO_ARGUMENT, True)


def table_savepoint(vtab, level):
    return _call(vtab, "Savepoint", level, False)


def table_release(vtab, level):
    return _call(vtab, "Release", level, True)


def table_rollback_to(vtab, level):
    return _call(vtab, "RollbackTo", level, True)
