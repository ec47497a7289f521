# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The levels of a tree, compiled: plain/table.py defines what they do, levels_cy.pxd gives the C types."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.lsmsql.engine.kernel.native import TabP, U64s, compare_keys, last_key, last_key_size, prefix_of, u32, u64
from cython.cimports.lsmsql.engine.kernel.table_cy import Table

from .values_apart import NoValues


@cython.cclass
class Levels:
    """The SSTables of one tree in one version. levels[0] may overlap, in any order; every further level is ascending and disjoint.

    apart: reads the values that stand apart (values_apart.py)."""

    def __init__(self, levels, apart=None) -> None:
        n: cython.size_t
        i: cython.size_t
        table: Table
        level: cython.pointer[Level]
        if self.c_levels != cython.NULL:
            raise TypeError("Levels are made once")
        self.apart = apart if apart is not None else NoValues()
        self.levels = [list(tables) for tables in levels]
        self.c_levels = cython.cast(cython.pointer[Level], calloc(len(self.levels) + 1, cython.sizeof(Level)))
        if self.c_levels == cython.NULL:
            raise MemoryError("no memory for levels")
        self.count = len(self.levels)
        for n in range(self.count):
            level = cython.address(self.c_levels[n])
            level.tables = cython.cast(cython.pointer[TabP], calloc(len(self.levels[n]) + 1, cython.sizeof(TabP)))
            level.prefixes = cython.cast(U64s, calloc(len(self.levels[n]) + 1, 8))
            if level.tables == cython.NULL or level.prefixes == cython.NULL:
                raise MemoryError("no memory for levels")
            i = 0
            for table in self.levels[n]:
                if table is None or table._memory == cython.NULL:
                    raise TypeError("levels hold tables")
                level.tables[i] = cython.address(table.tab)
                level.prefixes[i] = prefix_of(last_key(level.tables[i], table.tab.blocks - 1), last_key_size(level.tables[i], table.tab.blocks - 1))
                i += 1
            level.count = i

    def __dealloc__(self):
        n: u32
        for n in range(self.count):
            free(self.c_levels[n].tables)
            free(self.c_levels[n].prefixes)
        free(self.c_levels)


def level_lower(level, key, size):
    """The first table of a disjoint level whose largest key is not below the key."""
    low: u32 = 0
    high: u32 = level.count
    middle: u32
    last: u32
    prefix: u64 = prefix_of(key, size)
    while low < high:
        middle = (low + high) >> 1
        last = level.tables[middle].blocks - 1
        if level.prefixes[middle] < prefix or (
            level.prefixes[middle] == prefix
            and compare_keys(last_key(level.tables[middle], last), last_key_size(level.tables[middle], last), key, size) < 0
        ):
            low = middle + 1
        else:
            high = middle
    return low
