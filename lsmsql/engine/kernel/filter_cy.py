# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A table's filter, compiled: plain/filters.py defines it; filter_cy.pxd asks it."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.lsmsql.engine.kernel.bloom_cy import bloom_build, bloom_open
from cython.cimports.lsmsql.engine.kernel.burr_cy import burr_build, burr_open
from cython.cimports.lsmsql.engine.kernel.libraries_cy import hash64
from cython.cimports.lsmsql.engine.kernel.native import FILTER_BLOOM, FILTER_BURR, FILTER_NONE, Data, Filter, U64s, u32, u64

from .kinds import FilterKind

_VERSION_AT = cython.declare(cython.size_t, 5)
_AT_ONCE = cython.declare(cython.size_t, 32)  # probes whose lines are fetched side by side, as get_many does


def filter_build(kind, hashes, count, filter_bits):
    if filter_bits == 0 or kind == FILTER_NONE:
        return b""
    if kind == FILTER_BLOOM:
        return bloom_build(hashes, count, filter_bits)
    bits: u64 = (cython.cast(u64, filter_bits) * 69 + 99) // 100
    return burr_build(hashes, count, bits if bits < 16 else 16)


def filter_open(data, size, filter):
    memset(filter, 0, cython.sizeof(Filter))
    if size == 0:
        return 0
    if size > _VERSION_AT and data[_VERSION_AT] == FILTER_BURR:
        burr_open(data, size, cython.address(filter.burr))
        filter.kind = FILTER_BURR
    else:
        bloom_open(data, size, cython.address(filter.lines), cython.address(filter.line_count), cython.address(filter.probes))
        filter.kind = FILTER_BLOOM
    return 0


def build_filter(hashes, filter_bits: u32, kind=FilterKind.BLOOM) -> bytes:
    """As `plain.build_filter`."""
    count: cython.size_t = len(hashes)
    array: U64s = cython.cast(U64s, malloc((count + 1) * 8))
    i: cython.size_t
    if array == cython.NULL:
        raise MemoryError("no memory for a filter")
    try:
        for i in range(count):
            array[i] = hashes[i]
        return filter_build(FilterKind(kind), array, count, filter_bits)
    finally:
        free(array)


def may_contain(data: bytes, key: bytes) -> bool:
    """As `plain.may_contain`."""
    filter: Filter
    filter_open(cython.cast(Data, PyBytes_AS_STRING(data)), PyBytes_GET_SIZE(data), cython.address(filter))
    return bool(filter_probe(cython.address(filter), hash64(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))))


def count_maybe(data: bytes, hashes: bytes) -> int:
    """As `plain.count_maybe`."""
    filter: Filter
    raw: Data = cython.cast(Data, PyBytes_AS_STRING(hashes))
    total: cython.size_t = PyBytes_GET_SIZE(hashes) // 8
    first: cython.size_t = 0
    i: cython.size_t
    end: cython.size_t
    hash: u64 = 0
    found: u64 = 0
    filter_open(cython.cast(Data, PyBytes_AS_STRING(data)), PyBytes_GET_SIZE(data), cython.address(filter))
    if PyBytes_GET_SIZE(hashes) % 8:
        raise ValueError("hashes take 8 bytes each")
    with cython.nogil:
        while first < total:
            end = first + _AT_ONCE if total - first > _AT_ONCE else total
            for i in range(first, end):
                memcpy(cython.address(hash), raw + 8 * i, 8)
                filter_prefetch(cython.address(filter), hash)
            for i in range(first, end):
                memcpy(cython.address(hash), raw + 8 * i, 8)
                found += filter_probe(cython.address(filter), hash)
            first = end
    return found
