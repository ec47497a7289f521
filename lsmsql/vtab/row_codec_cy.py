"""Row values: a table's row as the value bytes of one engine entry (docs/formats.md, "Row value").

    header length   varint (LEB128), itself included
    serial codes    one varint for each column: 0 NULL; 1 to 6 an integer of 1, 2, 3, 4, 6, 8 bytes; 7 a double; 8 the integer 0;
                    9 the integer 1; 10 as the key says; from 12 on even (n-12)/2 bytes of blob, odd (n-13)/2 bytes of text
    bodies          in column order, little-endian, text in UTF-8

A key column is stored only where the key does not tell it exactly (an integral real, text under NOCASE or RTRIM). A row written before
trailing columns were added has fewer codes; those columns read as their defaults.
"""

from __future__ import annotations

import struct

try:
    import cython
except ModuleNotFoundError:
    from lsmsql import _cython as cython

from lsmsql.vtab.key_codec_cy import decode_rowid

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
    from cython.cimports.cpython.unicode import PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
    from cython.cimports.libc.stdlib import free, malloc
    from cython.cimports.libc.string import memcpy

    _Bytes = cython.typedef(cython.pointer(cython.const[cython.uchar]))

IN_KEY = 10
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0)  # body bytes of the codes 0 to 10
_DOUBLE = struct.Struct("<d")
_pack_double = _DOUBLE.pack
_unpack_double = _DOUBLE.unpack_from
_from_bytes = int.from_bytes
_PLANS_MAX = 4096


def _varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


@cython.cclass
class RowCodec:
    """Encodes the rows of one table.

    columns: how many; parts: for each column its place in the key, -1 when it is not in the key; keys: the KeyCodec, None for a rowid
    table, whose `rowid_column` (-1: none) is never stored.
    """

    columns = cython.declare(cython.Py_ssize_t, visibility="public")
    parts = cython.declare(tuple, visibility="public")
    keys = cython.declare(object, visibility="public")
    rowid_column = cython.declare(cython.Py_ssize_t, visibility="public")
    if cython.compiled:
        _codes: cython.p_ulonglong

    def __cinit__(self, columns, *_others):
        if cython.compiled:
            self._codes = cython.cast(cython.p_ulonglong, malloc((columns + 1) * 8))
            if self._codes == cython.NULL:
                raise MemoryError

    def __dealloc__(self):
        if cython.compiled:
            free(self._codes)

    def __init__(self, columns, parts, keys, rowid_column):
        self.columns = columns
        self.parts = tuple(parts)
        self.keys = keys
        self.rowid_column = rowid_column

    def encode(self, values):
        """The value bytes of a row: one of None, int, float, str, bytes for each column, converted by affinity."""
        if cython.compiled:
            return self._encode_compiled(values)
        return self._encode_plain(values)

    def _encode_plain(self, values):
        parts, keys, rowid_column = self.parts, self.keys, self.rowid_column
        codes, bodies = bytearray(), []
        for column, value in enumerate(values):
            part = parts[column]
            kind = type(value)
            if (part >= 0 and keys.is_faithful(part, value)) or column == rowid_column:
                code = IN_KEY
            elif kind is str:
                body = value.encode()
                bodies.append(body)
                code = 2 * len(body) + 13
            elif kind is int:
                code, size = _integer_code(value)
                if size:
                    bodies.append(value.to_bytes(size, "little", signed=True))
            elif kind is float:
                code = 7
                bodies.append(_pack_double(value))
            elif value is None:
                code = 0
            else:
                bodies.append(value)
                code = 2 * len(value) + 12
            if code < 128:
                codes.append(code)
            else:
                codes += _varint(code)
        length = len(codes) + 1
        if length < 128:
            return b"".join((bytes((length,)), codes, *bodies))
        while len(_varint(length)) + len(codes) != length:
            length += 1
        return b"".join((_varint(length), codes, *bodies))

    if cython.compiled:

        @cython.cfunc
        def _encode_compiled(self, values):
            codes: cython.p_ulonglong = self._codes
            count: cython.Py_ssize_t = len(values)
            column: cython.Py_ssize_t
            header: cython.Py_ssize_t = 1
            bodies: cython.Py_ssize_t = 0
            length: cython.Py_ssize_t
            at: cython.p_char
            if count > self.columns:
                raise ValueError("more values than columns")
            for column in range(count):
                codes[column] = self._code_for(column, values[column])
                header += _varint_size(codes[column])
                bodies += _size_of(codes[column])
            length = header
            while header - 1 + _varint_size(length) != length:
                length += 1
            result = PyBytes_FromStringAndSize(cython.NULL, length + bodies)
            at = _put_varint(PyBytes_AS_STRING(result), length)
            for column in range(count):
                at = _put_varint(at, codes[column])
            for column in range(count):
                if codes[column] != 0 and not 8 <= codes[column] <= 10:
                    at = _put_body(at, codes[column], values[column])
            return result

        @cython.cfunc
        def _code_for(self, column: cython.Py_ssize_t, value) -> cython.ulonglong:
            part: cython.Py_ssize_t = self.parts[column]
            length: cython.Py_ssize_t = 0
            number: cython.longlong
            if column == self.rowid_column or (part >= 0 and self.keys.is_faithful(part, value)):
                return 10
            if type(value) is str:
                PyUnicode_AsUTF8AndSize(value, cython.address(length))
                return 2 * length + 13
            if type(value) is int:
                number = value
                return _code_of(number)
            if type(value) is float:
                return 7
            if value is None:
                return 0
            return 2 * PyBytes_GET_SIZE(cython.cast(bytes, value, typecheck=True)) + 12


def _integer_code(value):
    """(serial code, body bytes) of an integer."""
    if value == 0 or value == 1:
        return 8 + value, 0
    if -128 <= value < 128:
        return 1, 1
    if -32768 <= value < 32768:
        return 2, 2
    bits = (value if value >= 0 else ~value).bit_length()
    if bits < 24:
        return 3, 3
    if bits < 32:
        return 4, 4
    if bits < 48:
        return 5, 6
    return 6, 8


if cython.compiled:

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _code_of(value: cython.longlong) -> cython.ulonglong:
        bits: cython.ulonglong = cython.cast(cython.ulonglong, value if value >= 0 else -(value + 1))
        if value == 0 or value == 1:
            return 8 + value
        if bits < 0x80:
            return 1
        if bits < 0x8000:
            return 2
        if bits < 0x800000:
            return 3
        if (bits >> 31) == 0:
            return 4
        if (bits >> 47) == 0:
            return 5
        return 6

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _size_of(code: cython.ulonglong) -> cython.Py_ssize_t:
        if code >= 12:
            return (code - 12) >> 1
        if code < 5:
            return code
        if code == 5:
            return 6
        return 8 if code < 8 else 0

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _varint_size(number: cython.ulonglong) -> cython.Py_ssize_t:
        size: cython.Py_ssize_t = 1
        while number > 127:
            number >>= 7
            size += 1
        return size

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _put_varint(at: cython.p_char, number: cython.ulonglong) -> cython.p_char:
        while number > 127:
            at[0] = cython.cast(cython.char, number & 127 | 128)
            at += 1
            number >>= 7
        at[0] = cython.cast(cython.char, number)
        return at + 1

    @cython.cfunc
    def _put_body(at: cython.p_char, code: cython.ulonglong, value) -> cython.p_char:
        number: cython.longlong
        real: cython.double
        length: cython.Py_ssize_t = _size_of(code)
        if code < 7:
            number = value
            memcpy(at, cython.address(number), length)
        elif code == 7:
            real = value
            memcpy(at, cython.address(real), 8)
        elif code & 1:
            memcpy(at, PyUnicode_AsUTF8AndSize(value, cython.address(length)), length)
        else:
            memcpy(at, PyBytes_AS_STRING(value), length)
        return at + length

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _take_varint(
        p: _Bytes, end: cython.ulonglong, position: cython.pointer(cython.ulonglong), number: cython.pointer(cython.ulonglong)
    ) -> cython.bint:
        """Read a varint at `position` and move it on; false when it runs off `end` or is longer than any that is written."""
        shift: cython.int = 0
        number[0] = 0
        while position[0] < end and shift <= 35:
            byte: cython.uchar = p[position[0]]
            position[0] += 1
            number[0] |= cython.cast(cython.ulonglong, byte & 127) << shift
            if byte < 128:
                return True
            shift += 7
        return False

    @cython.cfunc
    def _value_at(p: _Bytes, code: cython.ulonglong):
        """The value of a serial code other than 10, its body at p."""
        number: cython.longlong = 0
        real: cython.double
        size: cython.Py_ssize_t = _size_of(code)
        if code >= 12:
            if code & 1:
                return PyUnicode_DecodeUTF8(cython.cast(cython.p_char, p), size, "strict")
            return PyBytes_FromStringAndSize(cython.cast(cython.p_char, p), size)
        if code == 7:
            memcpy(cython.address(real), p, 8)
            return real
        if code == 0:
            return None
        if code >= 8:
            number = code
            return number - 8
        memcpy(cython.address(number), p, size)
        if size < 8 and p[size - 1] > 127:
            number -= cython.cast(cython.longlong, 1) << (8 * size)
        return number


@cython.cclass
class RowDecoder:
    """Decodes the columns that one query uses, whole blocks of rows at a time.

    A decoded row is a list as wide as the table and then `_snapshot`, `_seqno`, `_key` and the rowid (None for a keyed table). Places not
    in `used` (column numbers as in the declaration, hidden ones included) hold None. defaults: what missing trailing columns read as.
    """

    _codec: RowCodec
    _columns: cython.Py_ssize_t
    _last: cython.Py_ssize_t
    _key_parts: cython.Py_ssize_t
    _want_key: cython.bint
    _want_seqno: cython.bint
    _wanted: bytes
    _defaults: list
    _template: list
    _plans: dict
    _copied: cython.bint

    def __init__(self, codec, used, defaults, snapshot=None):
        columns = codec.columns
        self._codec = codec
        self._columns = columns
        self._wanted = bytes(column in used for column in range(columns))
        self._last = max((column for column in range(columns) if column in used), default=-1)
        self._key_parts = max((codec.parts[column] + 1 for column in range(columns) if column in used), default=0)
        self._want_seqno = columns + 1 in used
        self._want_key = columns + 2 in used
        self._defaults = list(defaults)
        self._template = [None] * (columns + 4)
        self._template[columns] = snapshot
        self._plans = {}

    def rows(self, keys, values, seqnos=None):
        """Rows of parallel lists; seqnos are needed only where `_seqno` is used. ValueError when the bytes are not this table's rows."""
        columns = self._columns
        rows = self._bare_rows(keys, values)
        if self._codec.keys is None:
            place: cython.Py_ssize_t = columns + 3
            alias: cython.Py_ssize_t = self._codec.rowid_column
            for key, row in zip(keys, rows):
                row[place] = rowid = decode_rowid(key)
                if alias >= 0:
                    row[alias] = rowid
        if self._want_key:
            for key, row in zip(keys, rows):
                row[columns + 2] = key
        if self._want_seqno and seqnos is not None:
            for seqno, row in zip(seqnos, rows):
                row[columns + 1] = seqno
        return rows

    def row(self, key, value, seqno=None):
        """One row. ValueError when the bytes are not one of this table."""
        columns: cython.Py_ssize_t = self._columns
        row: list
        if cython.compiled:
            row = self._decode_compiled(key, value) if self._last >= 0 else self._template[:]
        else:
            row = self._bare_rows((key,), (value,))[0]
        if self._codec.keys is None:
            row[columns + 3] = rowid = decode_rowid(key)
            if self._codec.rowid_column >= 0:
                row[self._codec.rowid_column] = rowid
        if self._want_key:
            row[columns + 2] = key
        row[columns + 1] = seqno
        return row

    def _bare_rows(self, keys, values):
        template = self._template
        if self._last < 0:
            return [template[:] for _ in keys]
        if cython.compiled:
            return [self._decode_compiled(key, value) for key, value in zip(keys, values)]
        plans = self._plans
        rows = []
        for key, value in zip(keys, values):
            plan = plans.get(value[: value[0]] if value else value)
            if plan is None:
                plan = self._make_plan(value)
            steps, total, from_key = plan
            if len(value) != total:
                raise ValueError("row parts do not fill it")
            row = template[:]
            for column, code, start, end in steps:
                if code > 12:
                    row[column] = str(value[start:end], "utf-8") if code & 1 else value[start:end]
                elif code < 7:
                    row[column] = _from_bytes(value[start:end], "little", signed=True)
                elif code == 7:
                    row[column] = _unpack_double(value, start)[0]
                else:
                    row[column] = start  # a constant: NULL, 0, 1, an empty blob or a default
            if from_key:
                parts = self._codec.keys.decode(key, self._key_parts)
                for column, part in from_key:
                    row[column] = parts[part]
            rows.append(row)
        return rows

    def _make_plan(self, value):
        """How to read every row whose header is this one: (column, code, start, end) steps, the row's length, (column, key part) pairs."""
        header, position = _read_varint(value, 0)
        if header > len(value):
            raise ValueError("row shorter than its header")
        steps, from_key = [], []
        body = header
        column = 0
        while position < header:
            code, position = _read_varint(value, position)
            size = (code - 12) >> 1 if code >= 12 else _SIZES[code] if code < 11 else -1
            if size < 0 or column >= self._columns or position > header:
                raise ValueError("unknown row header")
            if self._wanted[column]:
                if code == IN_KEY:
                    if self._codec.parts[column] >= 0:
                        from_key.append((column, self._codec.parts[column]))
                elif code == 0 or code == 12:
                    steps.append((column, 11, None if code == 0 else b"", 0))
                elif code == 8 or code == 9:
                    steps.append((column, 11, code - 8, 0))
                else:
                    steps.append((column, code, body, body + size))
            body += size
            column += 1
        steps += [(missing, 11, self._defaults[missing], 0) for missing in range(column, self._columns) if self._wanted[missing]]
        plan = (tuple(steps), body, tuple(from_key))
        if value[0] < 128:
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[value[:header]] = plan
        return plan

    if cython.compiled:

        @cython.cfunc
        @cython.boundscheck(False)
        @cython.wraparound(False)
        def _decode_compiled(self, key, value_object):
            value: bytes = value_object
            p: _Bytes = cython.cast(_Bytes, PyBytes_AS_STRING(value))
            wanted: _Bytes = cython.cast(_Bytes, PyBytes_AS_STRING(self._wanted))
            total: cython.ulonglong = PyBytes_GET_SIZE(value)
            header: cython.ulonglong = 0
            position: cython.ulonglong = 0
            code: cython.ulonglong = 0
            body: cython.ulonglong
            size: cython.ulonglong
            column: cython.Py_ssize_t = 0
            part: cython.Py_ssize_t
            row: list = self._template[:]
            parts: list = None
            if not _take_varint(p, total, cython.address(position), cython.address(header)) or header > total or header < position:
                raise ValueError("row shorter than its header")
            body = header
            while position < header:
                if not _take_varint(p, header, cython.address(position), cython.address(code)) or code == 11:
                    raise ValueError("unknown row header")
                size = _size_of(code)
                if column >= self._columns or size > total - body:
                    raise ValueError("row parts do not fill it")
                if wanted[column]:
                    if code != 10:
                        row[column] = _value_at(p + body, code)
                    else:
                        part = self._codec.parts[column]
                        if part >= 0:
                            if parts is None:
                                parts = self._codec.keys.decode(key, self._key_parts)
                            row[column] = parts[part]
                body += size
                column += 1
                if column > self._last and position < header:
                    return row  # The rest is not asked for.
            if body != total:
                raise ValueError("row parts do not fill it")
            while column <= self._last:
                if wanted[column]:
                    row[column] = self._defaults[column]
                column += 1
            return row


def _read_varint(data, position):
    """(number, position after it). ValueError when it runs off the end or is longer than any that is written."""
    number = shift = 0
    while True:
        if position >= len(data) or shift > 35:
            raise ValueError("row ends inside a number")
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
