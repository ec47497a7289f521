# cython: language_level=3
"""A table's shape, as C: taken from its schema once, when SQLite opens the table."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.lsmsql.bridge.sqlite import SQLITE_BLOB, SQLITE_FLOAT, SQLITE_INTEGER, SQLITE_NULL, SQLITE_TEXT
from cython.cimports.lsmsql.bridge.structs import KeyPart
from cython.cimports.lsmsql.engine.kernel.native import U64s

from lsmsql.vtab.affinity import Affinity
from lsmsql.vtab.key_codec_cy import COLLATION_CODES

_TYPES = {int: SQLITE_INTEGER, float: SQLITE_FLOAT, str: SQLITE_TEXT, bytes: SQLITE_BLOB, type(None): SQLITE_NULL}


def shape_fill(shape, table):
    schema: object = table.schema
    index: cython.int
    number: cython.int
    shape.columns = len(schema.columns)
    shape.parts = len(schema.key)
    shape.alias = -1 if schema.rowid_column is None else schema.rowid_column
    shape.part = cython.cast(cython.pointer[KeyPart], calloc(shape.parts + 1, cython.sizeof(KeyPart)))
    shape.place = cython.cast(cython.p_int, calloc(shape.columns, cython.sizeof(cython.int)))
    shape.types = cython.cast(cython.p_uchar, calloc(shape.columns, 1))
    shape.real = cython.cast(cython.p_uchar, calloc(shape.columns, 1))
    shape.codes = cython.cast(U64s, calloc(shape.columns, 8))
    if (
        shape.part == cython.NULL
        or shape.place == cython.NULL
        or shape.types == cython.NULL
        or shape.real == cython.NULL
        or shape.codes == cython.NULL
    ):
        raise MemoryError
    for index in range(shape.columns):
        shape.place[index] = -1
        shape.real[index] = schema.columns[index].affinity == Affinity.REAL
        for kind in table.writer.insert_types[index]:
            shape.types[index] |= 1 << cython.cast(cython.int, _TYPES[kind])
    for number in range(shape.parts):
        part = schema.key[number]
        affinity = schema.columns[part.index].affinity
        shape.place[part.index] = number
        shape.part[number].column = part.index
        shape.part[number].collation = COLLATION_CODES[part.collation]
        shape.part[number].flip = 255 if part.descending else 0
        shape.part[number].real = affinity == Affinity.REAL
        shape.part[number].exact = affinity >= Affinity.NUMERIC
    return 0


def shape_free(shape):
    free(shape.part)
    free(shape.place)
    free(shape.types)
    free(shape.real)
    free(shape.codes)
