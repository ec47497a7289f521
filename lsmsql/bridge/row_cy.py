# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Columns of stored rows as SQLite's results, without Python: vtab/row_codec_cy and vtab/key_codec_cy define the bytes.

Text and blobs are always copied by SQLite (SQLITE_TRANSIENT), or made in its memory: min() and max() keep values beyond the row.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.libc.string import memchr, memcpy
from cython.cimports.lsmsql.bridge.sqlite import SQLITE_TRANSIENT, SQLITE_UTF8
from cython.cimports.lsmsql.bridge.utf8_cy import is_utf8
from cython.cimports.lsmsql.engine.kernel.native import Data, Room, swap64, u8, u64

_TextP = cython.typedef(cython.pointer(cython.const[cython.char]))

_MESSAGES = {
    ROW_SHORT: "row shorter than its header",
    ROW_HEADER: "unknown row header",
    ROW_PARTS: "row parts do not fill it",
    ROW_TEXT: "text that is not UTF-8",
    KEY_BAD: "the key is not one of this table",
}


def row_message(code):
    return _MESSAGES[code]


def row_result(row, shape, api, context, column):
    code: u64 = 0
    size: u64
    found: cython.int
    if column == shape.alias:
        if row.key_size != 8:
            return KEY_BAD
        api.result_int64(context, rowid_of(row.key))
        return ROW_OK
    if row.header == 0 or column < row.column:
        found = _begin(row)
        if found:
            return found
    while row.position < row.header:
        if not _varint(row.value, row.header, cython.address(row.position), cython.address(code)) or code == 11:
            return ROW_HEADER
        size = body_size(code)
        if row.column >= shape.columns or size > row.value_size - row.body:
            return ROW_PARTS
        row.body += size
        row.column += 1
        if row.column > column:
            if row.position == row.header and row.body != row.value_size:
                return ROW_PARTS
            if code != 10:
                return _body_result(api, context, row.value + row.body - size, code)
            if shape.place[column] < 0:
                api.result_null(context)
                return ROW_OK
            return _key_result(api, context, row, shape, shape.place[column])
    return ROW_PARTS if row.body != row.value_size else ROW_DEFAULT


def rowid_of(key):
    number: u64
    memcpy(cython.address(number), key, 8)
    return cython.cast(cython.longlong, swap64(number) ^ (cython.cast(u64, 1) << 63))


def _begin(row):
    """Read the header's length."""
    row.position = 0
    row.column = 0
    if not _varint(row.value, row.value_size, cython.address(row.position), cython.address(row.header)):
        row.header = 0
        return ROW_SHORT
    if row.header > row.value_size or row.header < row.position:
        row.header = 0
        return ROW_SHORT
    row.body = row.header
    return ROW_OK


def _varint(data, end, position, number):
    """Read a varint at `position` and move it on; false when it runs off `end` or is longer than any that is written."""
    shift: cython.int = 0
    byte: u8
    number[0] = 0
    while position[0] < end and shift <= 35:
        byte = data[position[0]]
        position[0] += 1
        number[0] |= cython.cast(u64, byte & 127) << shift
        if byte < 128:
            return True
        shift += 7
    return False


def _body_result(api, context, body, code):
    number: cython.longlong = 0
    real: cython.double
    size: u64 = body_size(code)
    if code >= 12:
        if code & 1:
            if not is_utf8(body, size):
                return ROW_TEXT
            api.result_text64(context, cython.cast(_TextP, body), size, SQLITE_TRANSIENT, SQLITE_UTF8)
        else:
            api.result_blob64(context, body, size, SQLITE_TRANSIENT)
    elif code == 7:
        memcpy(cython.address(real), body, 8)
        api.result_double(context, real)
    elif code == 0:
        api.result_null(context)
    elif code >= 8:
        api.result_int64(context, cython.cast(cython.longlong, code) - 8)
    else:
        memcpy(cython.address(number), body, size)
        if size < 8 and body[size - 1] > 127:
            number -= cython.cast(cython.longlong, 1) << (8 * size)
        api.result_int64(context, number)
    return ROW_OK


# Parts of keys


def _key_result(api, context, row, shape, part):
    position: cython.size_t = 0
    end: cython.size_t
    number: cython.int
    for number in range(part + 1):
        end = _part_end(row.key, row.key_size, position, shape.part[number].flip)
        if end == 0:
            return KEY_BAD
        if number == part:
            return _part_result(api, context, row.key + position, end - position, cython.address(shape.part[number]))
        position = end
    return KEY_BAD


def _part_end(key, size, position, flip):
    """Where the part that begins at `position` ends; 0 when there is none."""
    tag: u8
    first: cython.uint
    end: cython.size_t = position + 1
    found: Data
    if position >= size:
        return 0
    tag = key[position] ^ flip
    if tag == 1:
        return end
    if tag == 2:
        if position + 9 > size:
            return 0
        first = cython.cast(cython.uint, key[position + 1] ^ flip) << 8 | (key[position + 2] ^ flip)
        if ((first if first & 0x8000 else ~first) >> 4 & 0x7FF) < 1023 + 53:
            return position + 9
        return position + 11 if position + 11 <= size else 0
    if tag != 3 and tag != 4:
        return 0
    while end < size:
        found = cython.cast(Data, memchr(key + end, flip, size - end))
        if found == cython.NULL or found + 1 >= key + size:
            return 0
        end = found - key + 2
        if found[1] ^ flip == 255:
            continue
        if found[1] ^ flip == 1:  # the NUL of a NOCASE text: its length follows
            return end + 8 if end + 8 <= size else 0
        return end if found[1] ^ flip == 0 else 0
    return 0


def _part_result(api, context, part, size, kind):
    tag: u8 = part[0] ^ kind.flip
    if tag == 1:
        api.result_null(context)
        return ROW_OK
    if tag == 2:
        _number_result(api, context, part, size, kind)
        return ROW_OK
    if part[size - 1] != kind.flip:
        return KEY_BAD  # the length of a NOCASE text with a NUL, of which the row keeps the text itself
    return _text_result(api, context, part + 1, size - 3, kind.flip, tag)


def _text_result(api, context, part, size, flip, tag):
    """Text or a blob out of its escaped bytes."""
    copy: Room
    length: cython.size_t = 0
    at: cython.size_t = 0
    if flip == 0 and (size == 0 or memchr(part, 0, size) == cython.NULL):
        if tag == 3:
            if not is_utf8(part, size):
                return ROW_TEXT
            api.result_text64(context, cython.cast(_TextP, part), size, SQLITE_TRANSIENT, SQLITE_UTF8)
        else:
            api.result_blob64(context, part, size, SQLITE_TRANSIENT)
        return ROW_OK
    copy = cython.cast(Room, api.malloc64(size + 1))
    if copy == cython.NULL:
        return ROW_NO_MEMORY
    while at < size:
        copy[length] = part[at] ^ flip
        at += 2 if copy[length] == 0 else 1  # A NUL is followed by its escape.
        length += 1
    if tag == 3:
        if not is_utf8(copy, length):
            api.free(copy)
            return ROW_TEXT
        api.result_text64(context, cython.cast(_TextP, copy), length, api.free, SQLITE_UTF8)
    else:
        api.result_blob64(context, copy, length, api.free)
    return ROW_OK


def _number_result(api, context, part, size, kind):
    bits: u64 = 0
    number: cython.double
    rest: cython.longlong = 0
    place: cython.int
    for place in range(8):
        bits = bits << 8 | (part[1 + place] ^ kind.flip)
    if bits >> 63:
        bits ^= cython.cast(u64, 1) << 63
    else:
        bits = ~bits
    memcpy(cython.address(number), cython.address(bits), 8)
    if kind.real:
        api.result_double(context, number)
    elif -9007199254740992.0 < number < 9007199254740992.0:
        if number == cython.cast(cython.double, cython.cast(cython.longlong, number)):
            api.result_int64(context, cython.cast(cython.longlong, number))
        else:
            api.result_double(context, number)
    elif -9223372036854775808.0 <= number < 9223372036854775808.0:
        if size > 10:
            rest = (part[9] ^ kind.flip) << 8 | (part[10] ^ kind.flip)
        api.result_int64(context, cython.cast(cython.longlong, cython.cast(u64, cython.cast(cython.longlong, number)) + cython.cast(u64, rest)))
    else:
        api.result_double(context, number)
