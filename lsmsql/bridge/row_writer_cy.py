# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The value bytes of a new row straight from SQLite's values.

vtab/row_codec_cy defines them, vtab/row_writer_cy says what a column stores as it is.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.libc.string import memcpy
from cython.cimports.lsmsql.bridge.sqlite import SQLITE_BLOB, SQLITE_FLOAT, SQLITE_INTEGER, SQLITE_NULL, SQLITE_TEXT
from cython.cimports.lsmsql.bridge.utf8_cy import is_utf8
from cython.cimports.lsmsql.bridge.values_cy import blob_of, text_of
from cython.cimports.lsmsql.engine.kernel.native import Data, Room, U64s, u64

_IN_KEY = cython.declare(u64, 10)


def row_bytes(api, shape, values):
    codes: U64s = shape.codes
    column: cython.int
    header: cython.size_t = 1
    bodies: cython.size_t = 0
    length: cython.size_t
    out: Room
    for column in range(shape.columns):
        if not _code(api, shape, column, values[column], codes + column):
            return None
        header += _varint_size(codes[column])
        bodies += body_size(codes[column])
    length = header
    while header - 1 + _varint_size(length) != length:
        length += 1
    row: bytes = PyBytes_FromStringAndSize(cython.NULL, length + bodies)
    out = _put_varint(cython.cast(Room, PyBytes_AS_STRING(row)), length)
    for column in range(shape.columns):
        out = _put_varint(out, codes[column])
    for column in range(shape.columns):
        if codes[column] != 0 and not 8 <= codes[column] <= 10:
            out = _put_body(api, shape, column, values[column], out)
    return row


def _code(api, shape, column, value, code):
    """The serial code of a column; False for a value that is not for us."""
    kind: cython.int = api.value_type(value)
    text: Data
    size: cython.size_t = 0
    if not shape.types[column] >> kind & 1:
        return False
    if kind == SQLITE_TEXT:
        text = text_of(api, value, cython.address(size))
        if not is_utf8(text, size):
            return False
    elif kind == SQLITE_BLOB:
        blob_of(api, value, cython.address(size))
    if column == shape.alias or (shape.place[column] >= 0 and _told_by_key(api, shape, column, value, kind)):
        code[0] = _IN_KEY
    elif kind == SQLITE_TEXT:
        code[0] = 2 * size + 13
    elif kind == SQLITE_INTEGER:
        code[0] = _integer_code(api.value_int64(value))
    elif kind == SQLITE_FLOAT:
        code[0] = 7
    elif kind == SQLITE_NULL:
        code[0] = 0
    else:
        code[0] = 2 * size + 12
    return True


def _told_by_key(api, shape, column, value, kind):
    """Whether the key's part gives exactly this value back, type and all."""
    collation: cython.int = shape.part[shape.place[column]].collation
    text: Data
    size: cython.Py_ssize_t
    at: cython.Py_ssize_t
    real: cython.double
    if kind == SQLITE_TEXT and collation:
        text = cython.cast(Data, api.value_text(value))
        size = api.value_bytes(value)
        if collation == 2:  # RTRIM
            return size == 0 or text[size - 1] != 32
        for at in range(size):
            if text[at] == 0 or 65 <= text[at] <= 90:
                return False
        return True
    if kind == SQLITE_FLOAT and not shape.part[shape.place[column]].real:
        real = api.value_double(value)
        # Those of 2^53 and more have no key of ours.
        return not (-9007199254740992.0 < real < 9007199254740992.0) or real != cython.cast(cython.double, cython.cast(cython.longlong, real))
    return True


def _integer_code(value):
    bits: u64 = cython.cast(u64, value if value >= 0 else -(value + 1))
    if value == 0 or value == 1:
        return 8 + cython.cast(u64, value)
    if bits < 0x80:
        return 1
    if bits < 0x8000:
        return 2
    if bits < 0x800000:
        return 3
    if bits >> 31 == 0:
        return 4
    return 5 if bits >> 47 == 0 else 6


def _varint_size(number):
    size: cython.size_t = 1
    while number > 127:
        number >>= 7
        size += 1
    return size


def _put_varint(out, number):
    while number > 127:
        out[0] = number & 127 | 128
        out += 1
        number >>= 7
    out[0] = number
    return out + 1


def _put_body(api, shape, column, value, out):
    code: u64 = shape.codes[column]
    size: cython.size_t = body_size(code)
    number: cython.longlong
    real: cython.double
    if code < 7:
        number = api.value_int64(value)
        memcpy(out, cython.address(number), size)
    elif code == 7:
        real = api.value_double(value)
        if shape.real[column] and real == 0.0:
            real = 0.0  # not -0.0: see affinity.stored
        memcpy(out, cython.address(real), 8)
    elif code & 1:
        memcpy(out, api.value_text(value), size)
    else:
        memcpy(out, api.value_blob(value), size)
    return out + size
