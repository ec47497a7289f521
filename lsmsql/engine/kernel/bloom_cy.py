# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The blocked Bloom filter, compiled: plain/bloom.py defines it; the probe is in bloom_cy.pxd."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.lsmsql.engine.kernel.native import U32_MAX, Data, Room, u8, u32, u64

_HEADER = cython.declare(cython.size_t, 8)
_VERSION = cython.declare(u8, 1)
_LINE_BYTES = cython.declare(cython.size_t, 64)
_LINE_BITS = cython.declare(u64, 512)


def bloom_build(hashes, count, bits_per_key):
    """The filter over the XXH3-64 hashes of distinct user keys; b"" when bits_per_key is 0 or there is no key."""
    if bits_per_key == 0 or count == 0:
        return b""
    lines: u64 = (cython.cast(u64, count) * bits_per_key + _LINE_BITS - 1) // _LINE_BITS
    probes: u32 = max(1, min(16, round(bits_per_key * 0.69)))
    made: bytes
    out: Room
    i: cython.size_t
    if bits_per_key > U32_MAX >> 8 or lines > U32_MAX:
        raise OverflowError("a filter of more than 2^32 lines")
    made = PyBytes_FromStringAndSize(cython.NULL, _HEADER + lines * _LINE_BYTES)
    out = cython.cast(Room, PyBytes_AS_STRING(made))
    memset(out, 0, _HEADER + lines * _LINE_BYTES)
    memcpy(out, cython.address(lines), 4)
    out[4] = probes
    out[5] = _VERSION
    with cython.nogil:
        for i in range(count):
            _set(out + _HEADER, lines, probes, hashes[i])
    return made


def _set(bits, lines, probes, hash):
    line: Room = bits + (((hash >> 32) * lines) >> 32) * _LINE_BYTES
    position: u32 = hash & 0x1FF
    step: u32 = ((hash >> 9) & 0x1FF) | 1
    n: u32
    for n in range(probes):
        line[position >> 3] |= 1 << (position & 7)
        position = (position + step) & 0x1FF


def bloom_open(data, size, lines, count, probes):
    """ValueError unless the bytes are a filter of this version; its lines, how many, and its probes."""
    if size < _HEADER:
        raise ValueError("filter shorter than its header")
    memcpy(count, data, 4)
    lines[0] = data + _HEADER
    probes[0] = data[4]
    if (
        data[5] != _VERSION
        or data[6]
        or data[7]
        or probes[0] < 1
        or probes[0] > 16
        or count[0] == 0
        or size != _HEADER + cython.cast(cython.size_t, count[0]) * _LINE_BYTES
    ):
        raise ValueError("unknown filter version or wrong length")
    return 0
