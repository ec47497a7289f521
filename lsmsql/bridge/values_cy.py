# cython: language_level=3, boundscheck=False, wraparound=False
"""SQLite's values as Python's, and Python's as results."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

import apsw
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.cpython.unicode import PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from cython.cimports.lsmsql.bridge.sqlite import (
    SQLITE_BLOB,
    SQLITE_FLOAT,
    SQLITE_INTEGER,
    SQLITE_NULL,
    SQLITE_TEXT,
    SQLITE_TRANSIENT,
    SQLITE_UTF8,
)
from cython.cimports.lsmsql.engine.kernel.native import Data

_TextP = cython.typedef(cython.pointer(cython.const[cython.char]))
_no_change = apsw.no_change
_EMPTY = cython.declare(Data, cython.cast(Data, cython.cast(cython.p_char, b"")))


def text_of(api, value, size):
    text: Data = cython.cast(Data, api.value_text(value))
    if text == cython.NULL:
        raise apsw.NoMemError("out of memory")
    size[0] = api.value_bytes(value)
    return text


def blob_of(api, value, size):
    size[0] = api.value_bytes(value)
    if size[0] == 0:
        return _EMPTY
    blob: Data = cython.cast(Data, api.value_blob(value))
    if blob == cython.NULL:  # the zeros of a zeroblob() are only counted until they are asked for
        raise apsw.NoMemError("out of memory")
    return blob


def value_object(api, value):
    size: cython.size_t = 0
    kind: cython.int = api.value_type(value)
    if kind == SQLITE_INTEGER:
        return api.value_int64(value)
    if kind == SQLITE_TEXT:
        text: Data = text_of(api, value, cython.address(size))
        return PyUnicode_DecodeUTF8(cython.cast(_TextP, text), size, "strict")
    if kind == SQLITE_FLOAT:
        return api.value_double(value)
    if kind == SQLITE_NULL:
        return None
    blob: Data = blob_of(api, value, cython.address(size))
    return PyBytes_FromStringAndSize(cython.cast(_TextP, blob), size)


def value_objects(api, count, values, changes):
    found: list = []
    place: cython.int
    for place in range(count):
        found.append(_no_change if changes and api.value_nochange(values[place]) else value_object(api, values[place]))
    return tuple(found)


def result_object(api, context, value):
    length: cython.Py_ssize_t = 0
    text: cython.pointer(cython.const[cython.char])
    if value is None:
        api.result_null(context)
    elif type(value) is int:
        api.result_int64(context, value)
    elif type(value) is float:
        api.result_double(context, value)
    elif type(value) is str:
        text = PyUnicode_AsUTF8AndSize(value, cython.address(length))
        api.result_text64(context, text, length, SQLITE_TRANSIENT, SQLITE_UTF8)
    elif type(value) is bytes:
        api.result_blob64(context, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), SQLITE_TRANSIENT)
    else:
        raise TypeError(f"not a value of SQLite's: {type(value).__name__}")
    return 0
