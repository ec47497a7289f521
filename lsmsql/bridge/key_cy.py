# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Keys straight from SQLite's values: vtab/key_codec_cy defines the bytes, vtab/cursor_cy.PreparedPlan.point_key which values make one."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memchr, memcpy
from cython.cimports.lsmsql.bridge.sqlite import SQLITE_BLOB, SQLITE_FLOAT, SQLITE_INTEGER, SQLITE_NULL, SQLITE_TEXT
from cython.cimports.lsmsql.bridge.values_cy import blob_of, text_of
from cython.cimports.lsmsql.engine.kernel.native import Data, Room, swap64, u64

_EXACT = cython.declare(cython.longlong, 1 << 53)  # below this in size every integer is a double
_TextP = cython.typedef(cython.pointer(cython.const[cython.char]))


def point_key(api, shape, count, values):
    number: cython.int
    room: cython.Py_ssize_t = 0
    more: cython.Py_ssize_t
    bits: u64
    if shape.parts == 0:
        if count < 1 or api.value_type(values[0]) != SQLITE_INTEGER:
            return None
        bits = swap64(cython.cast(u64, api.value_int64(values[0])) ^ (cython.cast(u64, 1) << 63))
        return PyBytes_FromStringAndSize(cython.cast(_TextP, cython.address(bits)), 8)
    if count < shape.parts:
        return None
    for number in range(shape.parts):
        more = _room(api, cython.address(shape.part[number]), values[number], True)
        if more < 0:
            return None
        room += more
    return _key(api, shape, values, False, room)


def row_key(api, shape, values):
    number: cython.int
    room: cython.Py_ssize_t = 0
    more: cython.Py_ssize_t
    for number in range(shape.parts):
        more = _room(api, cython.address(shape.part[number]), values[shape.part[number].column], False)
        if more < 0:
            return None
        room += more
    return _key(api, shape, values, True, room)


def _key(api, shape, values, by_column, room):
    """by_column: there is a value for each column, not for each part of the key."""
    small: cython.uchar[512]
    start: Room
    end: Room
    number: cython.int
    small[0] = 0
    start = cython.address(small[0]) if room <= 512 else cython.cast(Room, malloc(room))
    if start == cython.NULL:
        raise MemoryError
    end = start
    for number in range(shape.parts):
        end = _put(api, cython.address(shape.part[number]), values[shape.part[number].column if by_column else number], end)
    key: bytes = PyBytes_FromStringAndSize(cython.cast(_TextP, start), end - start)
    if room > 512:
        free(start)
    return key


def _room(api, part, value, asked):
    """The most bytes that a part can take; -1 where it is not for us. asked: the value is one to compare with, not one of the column's own."""
    kind: cython.int = api.value_type(value)
    whole: cython.longlong
    real: cython.double
    size: cython.size_t = 0
    if kind == SQLITE_BLOB:
        blob_of(api, value, cython.address(size))
        return 3 + 2 * size
    if kind == SQLITE_TEXT:
        if asked and part.exact:
            return -1
        text_of(api, value, cython.address(size))
        return 11 + 2 * size
    if kind == SQLITE_INTEGER and (part.exact or not asked):
        whole = api.value_int64(value)
        return 9 if -_EXACT < whole < _EXACT else -1
    if kind == SQLITE_FLOAT and (part.exact or not asked):
        real = api.value_double(value)
        return 9 if -9007199254740992.0 < real < 9007199254740992.0 else -1
    return -1  # NULL is not in a key but by IS.


def _put(api, part, value, out):
    kind: cython.int = api.value_type(value)
    start: Room = out
    data: Data
    if kind == SQLITE_INTEGER:
        out = _put_number(cython.cast(cython.double, api.value_int64(value)), out)
    elif kind == SQLITE_FLOAT:
        out = _put_number(api.value_double(value), out)
    elif kind == SQLITE_TEXT:
        data = cython.cast(Data, api.value_text(value))
        out = _put_text(data, api.value_bytes(value), part.collation, out)
    else:
        out[0] = 4
        data = cython.cast(Data, api.value_blob(value))
        out = _put_escaped(data, api.value_bytes(value), out + 1)
    if part.flip:
        while start < out:
            start[0] ^= 255
            start += 1
    return out


def _put_number(number, out):
    bits: u64
    number += 0.0  # -0.0 becomes 0
    memcpy(cython.address(bits), cython.address(number), 8)
    bits = ~bits if bits >> 63 else bits | cython.cast(u64, 1) << 63
    bits = swap64(bits)
    out[0] = 2
    memcpy(out + 1, cython.address(bits), 8)
    return out + 9


def _put_text(text, size, collation, out):
    at: cython.size_t = 0
    length: u64 = swap64(size)
    out[0] = 3
    out += 1
    if collation == 2:  # RTRIM
        while size and text[size - 1] == 32:
            size -= 1
    if collation != 1:
        return _put_escaped(text, size, out)
    while at < size and text[at]:  # NOCASE: folded, cut at a NUL
        out[0] = text[at] + 32 if 65 <= text[at] <= 90 else text[at]
        out += 1
        at += 1
    out[0] = 0
    if at == size:
        out[1] = 0
        return out + 2
    out[1] = 1
    memcpy(out + 2, cython.address(length), 8)
    return out + 10


def _put_escaped(raw, size, out):
    at: cython.size_t
    if size == 0 or memchr(raw, 0, size) == cython.NULL:
        memcpy(out, raw, size)
        out += size
    else:
        for at in range(size):
            out[0] = raw[at]
            out += 1
            if raw[at] == 0:
                out[0] = 255
                out += 1
    out[0] = out[1] = 0
    return out + 2
