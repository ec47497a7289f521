"""Key bytes: an encoding of column values whose byte order is SQLite's order (docs/formats.md, "Key bytes").

One part for each key column, none a prefix of another:

    NULL    01
    number  02, the largest double not above it as 8 sortable bytes, and from 2^53 in size on the integer rest above that double as u16
    text    03, the bytes (00 as 00 FF), 00 00          NOCASE: folded to lower case, cut at a NUL and then 00 01 and the length as u64
    blob    04, the bytes (00 as 00 FF), 00 00          RTRIM: without trailing spaces

All big-endian. A descending part has every bit inverted. Equal values have equal bytes: 5 and 5.0, -0.0 and 0, 'a' and 'A' under NOCASE.
`successor(prefix)` is above every key that begins with these parts and below all that come after. A rowid's key is 8 bytes, the sign
bit flipped.
"""

from __future__ import annotations

import struct

try:
    import cython
except ModuleNotFoundError:
    from lsmsql import _cython as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
    from cython.cimports.cpython.unicode import PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
    from cython.cimports.libc.string import memchr, memcpy

BINARY, NOCASE, RTRIM = 0, 1, 2
COLLATION_CODES = {"BINARY": BINARY, "NOCASE": NOCASE, "RTRIM": RTRIM}

_NULL, _NUMBER, _TEXT, _BLOB = b"\x01", b"\x02", b"\x03", b"\x04"
_INVERT = bytes(range(255, -1, -1))
_DOUBLE = struct.Struct(">d")
_U64 = struct.Struct(">Q")
_SIGN = 1 << 63
_ALL = (1 << 64) - 1
_EXACT = 1 << 53
_INT_LOW, _INT_HIGH = -(1 << 63), (1 << 63) - 1
_NAN = float("nan")
_INFINITY = float("inf")

_pack_double = _DOUBLE.pack
_unpack_double = _DOUBLE.unpack
_pack_u64 = _U64.pack
_unpack_u64 = _U64.unpack
_from_bytes = int.from_bytes

rowid_key_min = b"\x00" * 8


def encode_rowid(rowid):
    """The key of a rowid: 8 bytes in the order of the integers."""
    return _pack_u64(rowid + _SIGN)


def decode_rowid(key):
    """ValueError for a key that is not a rowid's."""
    if len(key) != 8:
        raise ValueError("the key is not one of this table")
    return _unpack_u64(key)[0] - _SIGN


def successor(prefix):
    """The smallest key above all keys that begin with the parts of `prefix`."""
    return prefix + b"\xff"


def fold(text, collation):
    """The text that stands for all texts equal to `text` under a collation (BINARY, NOCASE, RTRIM)."""
    if collation == NOCASE:
        if text.isascii():
            return text.lower()
        return text.encode().lower().decode()  # bytes.lower folds ASCII only, as NOCASE does
    if collation == RTRIM:
        return text.rstrip(" ")
    return text


def encode_value(value, collation=BINARY, descending=False):
    """One part of a key. value: None, int in 64 bits, float but not NaN, str or bytes."""
    if cython.compiled and not descending:
        if type(value) is str and collation == BINARY:
            part = _plain_text_part(value)
            if part is not None:
                return part
        elif type(value) is bytes:
            part = _plain_part(3 + 1, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
            if part is not None:
                return part
    kind = type(value)
    if kind is int or kind is float or kind is bool:
        part = _number_part(value)
    elif kind is str:
        part = _text_part(value.encode(), collation)
    elif value is None:
        part = _NULL
    else:
        part = _BLOB + _escape(bytes(value)) + b"\0\0"
    return part.translate(_INVERT) if descending else part


if cython.compiled:

    @cython.cfunc
    def _plain_text_part(text):
        length: cython.Py_ssize_t = 0
        return _plain_part(3, PyUnicode_AsUTF8AndSize(text, cython.address(length)), length)

    @cython.cfunc
    def _plain_part(tag: cython.int, raw: cython.pointer(cython.const[cython.char]), length: cython.Py_ssize_t):
        """The part of a text or blob without a NUL; None when there is one."""
        if length and memchr(raw, 0, length) != cython.NULL:
            return None
        part = PyBytes_FromStringAndSize(cython.NULL, length + 3)
        out: cython.p_char = PyBytes_AS_STRING(part)
        out[0] = cython.cast(cython.char, tag)
        memcpy(out + 1, raw, length)
        out[length + 1] = out[length + 2] = 0
        return part

    @cython.cfunc
    def _ordered(number: cython.double, rest: cython.int):
        """The part of a number; rest: -1 for none."""
        bits: cython.ulonglong
        buffer: cython.uchar[11]
        place: cython.int
        number += 0.0
        memcpy(cython.address(bits), cython.address(number), 8)
        if bits >> 63:
            bits = ~bits
        else:
            bits |= cython.cast(cython.ulonglong, 1) << 63
        buffer[0] = 2
        for place in range(8):
            buffer[1 + place] = cython.cast(cython.uchar, (bits >> (56 - 8 * place)) & 255)
        if rest < 0:
            return PyBytes_FromStringAndSize(cython.cast(cython.p_char, cython.address(buffer[0])), 9)
        buffer[9] = cython.cast(cython.uchar, rest >> 8)
        buffer[10] = cython.cast(cython.uchar, rest & 255)
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, cython.address(buffer[0])), 11)


@cython.cfunc
def _escape(raw):
    return raw.replace(b"\0", b"\0\xff") if b"\0" in raw else raw


@cython.cfunc
def _text_part(raw, collation):
    if collation == NOCASE:
        length = len(raw)
        stop = raw.find(b"\0")
        if stop >= 0:  # SQLite's NOCASE compares up to a NUL, then the lengths.
            return _TEXT + raw[:stop].lower() + b"\0\x01" + _pack_u64(length)
        return _TEXT + raw.lower() + b"\0\0"
    if collation == RTRIM:
        raw = raw.rstrip(b" ")
    return _TEXT + _escape(raw) + b"\0\0"


@cython.cfunc
def _number_part(value):
    below = float(value)
    if -_EXACT < below < _EXACT:
        if cython.compiled:
            return _ordered(below, -1)
        bits = _unpack_u64(_pack_double(below + 0.0))[0]  # + 0.0 makes -0.0 positive
        return _NUMBER + _pack_u64(bits ^ _ALL if bits & _SIGN else bits | _SIGN)
    rest = 0
    if type(value) is not float:
        if below > value:
            below = _next_below(below)
        rest = value - int(below)
    bits = _unpack_u64(_pack_double(below))[0]
    return _NUMBER + _pack_u64(bits ^ _ALL if bits & _SIGN else bits | _SIGN) + bytes((rest >> 8, rest & 255))


@cython.cfunc
def _next_below(number):
    """The next double towards minus infinity, for numbers of 2^53 and more in size."""
    bits = _unpack_u64(_pack_double(number))[0]
    return _unpack_double(_pack_u64(bits + 1 if bits & _SIGN else bits - 1))[0]


@cython.cclass
class KeyCodec:
    """Encodes and decodes the keys of one table.

    parts: (collation code, descending, is real) for each key column; is real: the column stores every number as a real.
    """

    _parts: tuple
    _descending: bytes
    _reals: bytes

    def __init__(self, parts):
        self._parts = tuple(parts)
        self._descending = bytes(bool(part[1]) for part in self._parts)
        self._reals = bytes(bool(part[2]) for part in self._parts)

    def encode(self, values):
        """The key, or the prefix of a key, of as many leading parts as there are values."""
        if len(values) == 1:
            collation, descending, _ = self._parts[0]
            return encode_value(values[0], collation, descending)
        return b"".join([encode_value(value, part[0], part[1]) for value, part in zip(values, self._parts)])

    def encode_part(self, index, value):
        """One column's part."""
        collation, descending, _ = self._parts[index]
        return encode_value(value, collation, descending)

    def is_faithful(self, index, value):
        """Whether `decode` gives exactly `value` back, type and all; if not the row has to keep it."""
        collation, _, real = self._parts[index]
        kind = type(value)
        if kind is str:
            return collation == BINARY or (fold(value, collation) == value and (collation != NOCASE or "\0" not in value))
        if kind is float:
            if real:
                return value != 0.0 or str(value) == "0.0"
            return not (value.is_integer() and _INT_LOW <= value <= _INT_HIGH)
        return kind is not int or not real

    def split(self, key, count):
        """Where the part after the first `count` parts of `key` begins. ValueError when the key is not one."""
        position = 0
        for _, descending, _ in self._parts[:count]:
            position = _end_of_part(key, position, descending)
        return position

    def decode(self, key, count):
        """The values of the first `count` parts, in their canonical form. ValueError when the bytes are not a key."""
        if cython.compiled:
            return self._decode_compiled(key, count)
        values = []
        position = 0
        for _, descending, real in self._parts[:count]:
            end = _end_of_part(key, position, descending)
            part = key[position:end]
            values.append(_decode_part(part.translate(_INVERT) if descending else part, real))
            position = end
        return values

    if cython.compiled:

        @cython.cfunc
        @cython.boundscheck(False)
        @cython.wraparound(False)
        def _decode_compiled(self, key_object, count: cython.Py_ssize_t):
            key: bytes = key_object
            p: cython.pointer(cython.const[cython.uchar]) = cython.cast(cython.pointer(cython.const[cython.uchar]), PyBytes_AS_STRING(key))
            found: cython.pointer(cython.const[cython.uchar])
            size: cython.Py_ssize_t = PyBytes_GET_SIZE(key)
            position: cython.Py_ssize_t = 0
            index: cython.Py_ssize_t
            end: cython.Py_ssize_t
            flip: cython.uchar
            tag: cython.uchar
            values: list = []
            for index in range(min(count, len(self._parts))):
                flip = 255 if self._descending[index] else 0
                tag = p[position] ^ flip if position < size else 0
                if tag == 1:
                    values.append(None)
                    position += 1
                elif tag == 2:
                    end = _end_of_part(key, position, flip != 0)
                    values.append(_number_at(p + position, end - position, flip, self._reals[index] != 0))
                    position = end
                else:
                    if flip == 0 and (tag == 3 or tag == 4):
                        found = cython.cast(cython.pointer(cython.const[cython.uchar]), memchr(p + position, 0, size - position))
                        if found != cython.NULL and found + 1 < p + size and found[1] == 0:
                            end = found - p
                            if tag == 3:
                                values.append(PyUnicode_DecodeUTF8(cython.cast(cython.p_char, p + position + 1), end - position - 1, "strict"))
                            else:
                                values.append(PyBytes_FromStringAndSize(cython.cast(cython.p_char, p + position + 1), end - position - 1))
                            position = end + 2
                            continue
                    end = _end_of_part(key, position, flip != 0)
                    part = key[position:end]
                    values.append(_decode_part(part.translate(_INVERT) if flip else part, False))
                    position = end
            return values


if cython.compiled:

    @cython.cfunc
    def _number_at(p: cython.pointer(cython.const[cython.uchar]), size: cython.Py_ssize_t, flip: cython.uchar, real: cython.bint):
        bits: cython.ulonglong = 0
        number: cython.double
        place: cython.int
        rest: cython.int = 0
        for place in range(8):
            bits = bits << 8 | (p[1 + place] ^ flip)
        if bits >> 63:
            bits ^= cython.cast(cython.ulonglong, 1) << 63
        else:
            bits = ~bits
        memcpy(cython.address(number), cython.address(bits), 8)
        if real:
            return number
        if -9007199254740992.0 < number < 9007199254740992.0:
            if number == cython.cast(cython.double, cython.cast(cython.longlong, number)):
                return cython.cast(cython.longlong, number)
            return number
        if size > 10:
            rest = (p[9] ^ flip) << 8 | (p[10] ^ flip)
        if -9223372036854775808.0 <= number < 9223372036854775808.0:
            return cython.cast(cython.longlong, cython.cast(cython.ulonglong, cython.cast(cython.longlong, number)) + rest)
        return number


@cython.cfunc
def _end_of_part(key, position: cython.Py_ssize_t, descending: cython.bint):
    tag = key[position] if position < len(key) else 0
    if descending:
        tag ^= 255
    if tag == 1:
        return position + 1
    if tag == 2:
        end = position + 9
        if end > len(key):
            raise ValueError("key ends inside a number")
        first = _from_bytes(key[position + 1 : position + 3], "big")
        if descending:
            first ^= 0xFFFF
        exponent = ((first if first & 0x8000 else ~first) >> 4) & 0x7FF
        if exponent < 1023 + 53:
            return end
        if end + 2 > len(key):
            raise ValueError("key ends inside a number")
        return end + 2
    if tag != 3 and tag != 4:
        raise ValueError("key part of no known type")
    zero, escaped = (b"\xff", 0) if descending else (b"\0", 255)
    end = position + 1
    while True:
        end = key.find(zero, end) + 1
        if end == 0 or end >= len(key):
            raise ValueError("key ends inside a text")
        following = key[end]
        end += 1
        if following == escaped:
            continue
        if following ^ escaped == 254:  # the NUL of a NOCASE text: its length follows
            end += 8
            if end > len(key):
                raise ValueError("key ends inside a text")
        elif following ^ escaped != 255:
            raise ValueError("unknown escape in a key")
        return end


@cython.cfunc
def _decode_part(part, real):
    tag = part[0]
    if tag == 2:
        bits = _from_bytes(part[1:9], "big")
        number = _unpack_double(_pack_u64(bits ^ _SIGN if bits & _SIGN else bits ^ _ALL))[0]
        if real:
            return number
        rest = _from_bytes(part[9:], "big")
        if number.is_integer() and _INT_LOW <= (whole := int(number) + rest) <= _INT_HIGH:
            return whole
        return number
    if tag == 1:
        return None
    body = part[1:-2]
    if tag == 3 and part[-2:] != b"\0\0":
        body = part[1:-10]
    if b"\0" in body:
        body = body.replace(b"\0\xff", b"\0")
    return body.decode() if tag == 3 else body
