# cython: language_level=3
"""RowWriter: from the values of a statement to the key and value bytes of a row, by the rules of the table's columns."""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from lsmsql import _cython as cython

import apsw

from lsmsql.vtab.affinity import INT_MAX, INT_MIN, Affinity, number_in, stored
from lsmsql.vtab.key_codec_cy import COLLATION_CODES, KeyCodec
from lsmsql.vtab.row_codec_cy import RowCodec, RowDecoder
from lsmsql.vtab.sqlite_errors import DATATYPE, NOT_NULL, PRIMARY_KEY, constraint_failed

_NONE = type(None)
_STORED_AS_THEY_ARE = {
    Affinity.BLOB: frozenset((_NONE, int, float, str, bytes)),
    Affinity.TEXT: frozenset((_NONE, str, bytes)),
    Affinity.NUMERIC: frozenset((_NONE, int, bytes)),
    Affinity.INTEGER: frozenset((_NONE, int, bytes)),
    Affinity.REAL: frozenset((_NONE, float, bytes)),
}
_STRICT_TYPES = {
    "INT": (int,),
    "INTEGER": (int,),
    "REAL": (float,),
    "TEXT": (str,),
    "BLOB": (bytes,),
    "ANY": (int, float, str, bytes),
}
_TYPE_NAMES = {int: "INT", float: "REAL", str: "TEXT", bytes: "BLOB"}


class SkipRow(Exception):
    """OR IGNORE: leave this row out and go on."""


@cython.cclass
class RowWriter:
    """Converts, checks and encodes the rows of one table; knows nothing of what the table holds.

    count: of the columns; key_columns: those of the key, in its order; keys: the KeyCodec, None for a rowid table; codec: the RowCodec.
    insert_types: for each column the types whose values a new row stores as they are.
    """

    schema = cython.declare(object, visibility="readonly")
    count = cython.declare(cython.Py_ssize_t, visibility="readonly")
    key_columns = cython.declare(tuple, visibility="readonly")
    keys = cython.declare(object, visibility="readonly")
    codec = cython.declare(object, visibility="readonly")
    not_null = cython.declare(tuple, visibility="readonly")
    insert_types = cython.declare(tuple, visibility="readonly")
    _reals: tuple
    _update_types: tuple

    def __init__(self, schema):
        self.schema = schema
        self.count = len(schema.columns)
        self.key_columns = tuple(part.index for part in schema.key)
        codec_parts = [
            (COLLATION_CODES[part.collation], part.descending, schema.columns[part.index].affinity == Affinity.REAL) for part in schema.key
        ]
        self.keys = KeyCodec(codec_parts) if schema.key else None
        places = [self.key_columns.index(i) if i in self.key_columns else -1 for i in range(self.count)]
        alias = schema.rowid_column
        self.codec = RowCodec(self.count, places, self.keys, -1 if alias is None else alias)
        self.not_null = tuple(column.not_null or i in self.key_columns for i, column in enumerate(schema.columns))
        # On INSERT an omitted column and NULL look alike, so NULL becomes the default: neither column takes NULL as it is.
        self._reals = tuple(i for i, column in enumerate(schema.columns) if column.affinity == Affinity.REAL)
        self.insert_types = tuple(self._types(i, inserting=True) for i in range(self.count))
        self._update_types = tuple(self._types(i, inserting=False) for i in range(self.count))

    def _types(self, index, *, inserting):
        column = self.schema.columns[index]
        if index == self.schema.rowid_column:
            return frozenset((_NONE, int))
        types = _STORED_AS_THEY_ARE[column.affinity]
        if self.schema.strict:
            types &= {_NONE, *_STRICT_TYPES[column.declared_type.upper()]}
        if self.not_null[index] or (inserting and column.default is not None):
            types -= {_NONE}
        return types

    def decoder(self, columns, snapshot=None):
        defaults = [column.default.constant if column.default else None for column in self.schema.columns]
        return RowDecoder(self.codec, frozenset(columns), defaults, snapshot)

    def insert_values(self, fields, mode):
        """The values a new row stores. ConstraintError, or SkipRow, for a NULL or a type that may not be."""
        values: list = list(fields[: self.count])
        index: cython.Py_ssize_t
        for index in range(self.count):
            if type(values[index]) not in self.insert_types[index]:
                values[index] = self._repaired(index, values[index], mode, inserting=True)
        for index in self._reals:
            if values[index] == 0.0:
                values[index] = 0.0  # not -0.0: see affinity.stored
        return values

    def update_values(self, old, fields, mode):
        """The values a changed row stores; `apsw.no_change` stands for the old one."""
        values: list = list(fields[: self.count])
        index: cython.Py_ssize_t
        for index in range(self.count):
            if values[index] is apsw.no_change:
                assert old is not None
                values[index] = old[index]
            elif type(values[index]) not in self._update_types[index]:
                values[index] = self._repaired(index, values[index], mode, inserting=False)
        for index in self._reals:
            if values[index] == 0.0:
                values[index] = 0.0
        return values

    def _repaired(self, index, value, mode, *, inserting):
        """The value after defaults, affinity and checks."""
        schema = self.schema
        column = schema.columns[index]
        if index == schema.rowid_column:
            return as_rowid(value)
        if value is None and column.default is not None and (inserting or (mode == apsw.SQLITE_REPLACE and self.not_null[index])):
            value = column.default.value()
        value = stored(column.affinity, value)
        if value is None:
            if not self.not_null[index]:
                return None
            if mode == apsw.SQLITE_IGNORE:
                raise SkipRow
            raise constraint_failed(f"NOT NULL constraint failed: {schema.name}.{column.name}", NOT_NULL, mode)
        if schema.strict and not isinstance(value, _STRICT_TYPES[column.declared_type.upper()]):
            kind = _TYPE_NAMES[type(value)]
            message = f"cannot store {kind} value in {column.declared_type.upper()} column {schema.name}.{column.name}"
            raise constraint_failed(message, DATATYPE, apsw.SQLITE_ABORT)
        return value

    def key_of(self, values):
        """The key of a row of a table with declared key columns."""
        assert self.keys is not None
        return self.keys.encode([values[index] for index in self.key_columns])

    def not_unique(self, mode):
        """The error for a row whose key is taken, in SQLite's words."""
        schema = self.schema
        columns = self.key_columns
        if not columns:
            columns = () if schema.rowid_column is None else (schema.rowid_column,)
        names = ", ".join(f"{schema.name}.{schema.columns[i].name}" for i in columns) or f"{schema.name}.rowid"
        return constraint_failed(f"UNIQUE constraint failed: {names}", PRIMARY_KEY, mode)


def as_rowid(value):
    """A value given for a rowid or INTEGER PRIMARY KEY; "datatype mismatch" unless it is an integer in some spelling."""
    number = number_in(value) if isinstance(value, str) else value
    if isinstance(number, float) and number.is_integer() and INT_MIN <= number < INT_MAX and not (number == INT_MIN and isinstance(value, str)):
        number = int(number)  # Of the lowest, SQLite takes the real, but not text that is rounded to it.
    if not isinstance(number, int):
        raise apsw.MismatchError("datatype mismatch")
    return number
