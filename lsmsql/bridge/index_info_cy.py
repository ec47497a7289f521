# cython: language_level=3
"""IndexInfo: SQLite's sqlite3_index_info under the names of apsw.IndexInfo, as far as Table.BestIndexObject uses them."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.libc.string import memcpy


@cython.cclass
class IndexInfo:
    """Valid only while SQLite asks for a plan."""

    def _set(self, number):
        """Check a constraint's number."""
        if self.info == cython.NULL or not 0 <= number < self.info.nConstraint:
            raise IndexError(f"there is no constraint {number}")
        return 0

    @property
    def nConstraint(self):
        return self.info.nConstraint

    def get_aConstraint_iColumn(self, number: cython.int):
        self._set(number)
        return self.info.aConstraint[number].iColumn

    def get_aConstraint_op(self, number: cython.int):
        self._set(number)
        return self.info.aConstraint[number].op

    def get_aConstraint_usable(self, number: cython.int):
        self._set(number)
        return self.info.aConstraint[number].usable != 0

    def get_aConstraint_collation(self, number: cython.int):
        self._set(number)
        return self.api.vtab_collation(self.info, number).decode()

    def get_aConstraintUsage_in(self, number: cython.int):
        self._set(number)
        return self.api.vtab_in(self.info, number, -1) != 0

    def set_aConstraintUsage_argvIndex(self, number: cython.int, place: cython.int):
        self._set(number)
        self.info.aConstraintUsage[number].argvIndex = place

    def set_aConstraintUsage_omit(self, number: cython.int, omit: cython.bint):
        self._set(number)
        self.info.aConstraintUsage[number].omit = omit

    @property
    def nOrderBy(self):
        return self.info.nOrderBy

    def get_aOrderBy_iColumn(self, number: cython.int):
        return self.info.aOrderBy[number].iColumn if 0 <= number < self.info.nOrderBy else None

    def get_aOrderBy_desc(self, number: cython.int):
        return self.info.aOrderBy[number].desc != 0 if 0 <= number < self.info.nOrderBy else None

    @property
    def colUsed(self):
        """The numbers of the columns that are used; 63 stands for itself and all above it."""
        column: cython.int
        return {column for column in range(64) if self.info.colUsed >> column & 1}

    def _keep(self, text):
        size: cython.size_t = len(text) + 1
        copy: cython.p_char = cython.cast(cython.p_char, self.api.malloc64(size))
        if copy == cython.NULL:
            raise MemoryError
        memcpy(copy, cython.cast(cython.p_char, text), size)
        self.info.idxStr = copy
        self.info.needToFreeIdxStr = 1
        return 0

    @property
    def idxStr(self):
        """The plan's text."""
        return None if self.info.idxStr == cython.NULL else self.info.idxStr.decode()

    @idxStr.setter
    def idxStr(self, text):
        self._keep(text.encode())

    @property
    def orderByConsumed(self):
        return self.info.orderByConsumed != 0

    @orderByConsumed.setter
    def orderByConsumed(self, consumed: cython.bint):
        self.info.orderByConsumed = consumed

    @property
    def estimatedRows(self):
        return self.info.estimatedRows

    @estimatedRows.setter
    def estimatedRows(self, rows: cython.longlong):
        self.info.estimatedRows = rows

    @property
    def estimatedCost(self):
        return self.info.estimatedCost

    @estimatedCost.setter
    def estimatedCost(self, cost: cython.double):
        self.info.estimatedCost = cost

    @property
    def idxFlags(self):
        return self.info.idxFlags

    @idxFlags.setter
    def idxFlags(self, flags: cython.int):
        self.info.idxFlags = flags


def index_info(api, info):
    described: IndexInfo = IndexInfo.__new__(IndexInfo)
    described.api = api
    described.info = info
    return described
