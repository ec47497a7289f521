# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Checksums of single entries, compiled: plain/checksums.py defines them, checksums_cy.pxd gives the C types."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.libc.string import memcpy
from cython.cimports.lsmsql.engine.kernel.libraries_cy import hash64
from cython.cimports.lsmsql.engine.kernel.native import (
    U32_MAX,
    block_key,
    block_key_size,
    block_kind,
    block_seqno,
    block_value,
    block_value_size,
    u8,
    u32,
    u64,
)

_ROWS = cython.declare(u8, 2)


def entry_check(key_hash, value, value_size, seqno, kind):
    parts: u64[3]
    parts[0] = key_hash
    parts[1] = hash64(value, value_size)
    parts[2] = seqno << 8 | kind
    return hash64(cython.address(parts[0]), 24) & U32_MAX


def _check_of(blk, i, global_seqno):
    key_hash: u64 = hash64(block_key(blk, i), block_key_size(blk, i))
    return entry_check(key_hash, block_value(blk, i), block_value_size(blk, i), block_seqno(blk, i) - global_seqno, block_kind(blk, i))


def checks_append(blk, carried, raw, size):
    i: u32
    check: u32
    if raw[4] == _ROWS:
        raw[6] |= 1
    else:
        raw[5] |= 4
    for i in range(blk.count):
        check = _check_of(blk, i, 0)
        if carried != cython.NULL and carried[i] != check:
            return i
        memcpy(raw + size + 4 * cython.cast(cython.size_t, i), cython.address(check), 4)
    return blk.count


def checks_match(blk, checks, global_seqno):
    i: u32
    check: u32
    for i in range(blk.count):
        memcpy(cython.address(check), checks + 4 * cython.cast(cython.size_t, i), 4)
        if check != _check_of(blk, i, global_seqno):
            return False
    return True
