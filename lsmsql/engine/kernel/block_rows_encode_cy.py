# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Encoding a data block as rows, compiled: plain/block_rows.py defines it, block_rows_encode_cy.pxd gives the C types."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.libc.string import memcpy, memset
from cython.cimports.lsmsql.engine.kernel.block_rows_cy import common_bytes
from cython.cimports.lsmsql.engine.kernel.libraries_cy import hash64
from cython.cimports.lsmsql.engine.kernel.native import (
    SLACK,
    TOMBSTONE,
    Data,
    Room,
    block_key,
    block_key_size,
    block_kind,
    block_seqno,
    block_value,
    block_value_size,
    key_start,
    u8,
    u16,
    u32,
    u64,
    value_start,
)

_ROWS = cython.declare(u8, 2)
_HEADER = cython.declare(cython.size_t, 8)
_TRAILER = cython.declare(cython.size_t, 16)
_ENTRY_MAX = cython.declare(cython.size_t, 22)  # of an entry besides its key and value: kind, seqno, two key lengths, value length
_FREE = cython.declare(u8, 254)
_CONFLICT = cython.declare(u8, 255)
_WEAK_TOMBSTONE = cython.declare(u8, 2)


def _bucket_count(count, restarts, hash_ratio):
    buckets: u64 = cython.cast(u64, count * hash_ratio)
    if restarts > _FREE or hash_ratio == 0:
        return 0
    return buckets if buckets else 1


def rows_encode_bound(blk, interval, hash_ratio):
    count: cython.size_t = blk.count
    restarts: cython.size_t = (count + interval - 1) // interval
    entries: cython.size_t = count * _ENTRY_MAX + key_start(blk, blk.count) + value_start(blk, blk.count)
    return _HEADER + entries + 4 * restarts + _bucket_count(count, restarts, hash_ratio) + _TRAILER + SLACK


def rows_encode(blk, interval, hash_ratio, out):
    count: u32 = blk.count
    restarts: u32 = (cython.cast(u64, count) + interval - 1) // interval
    buckets: u32 = _bucket_count(count, restarts, hash_ratio)
    end: u32
    offset: u32
    zero: u16 = 0
    i: u32
    # Offsets stand where the entries certainly end before, until it is known how wide they have to be.
    offsets: Room = out + _HEADER + count * _ENTRY_MAX + key_start(blk, count) + value_start(blk, count)
    memcpy(out, cython.address(count), 4)
    out[4] = _ROWS
    out[5] = interval
    memcpy(out + 6, cython.address(zero), 2)
    at: Room = _encode_entries(blk, interval, out + _HEADER, out, offsets)
    end = at - out
    for i in range(restarts):
        memcpy(cython.address(offset), offsets + 4 * cython.cast(cython.size_t, i), 4)
        memcpy(at, cython.address(offset), 2 if end <= 65535 else 4)
        at += 2 if end <= 65535 else 4
    _encode_buckets(blk, interval, buckets, at)
    at += buckets
    memcpy(at, cython.address(count), 4)
    memcpy(at + 4, cython.address(restarts), 4)
    memcpy(at + 8, cython.address(end), 4)
    memcpy(at + 12, cython.address(buckets), 4)
    return at + _TRAILER - out


def _encode_entries(blk, interval, at, out, offsets):
    i: u32
    left: u32 = 0  # entries until the next restart head
    shared: u32
    size: u32
    offset: u32
    key: Data
    head: Data = out
    head_size: u32 = 0
    for i in range(blk.count):
        key = block_key(blk, i)
        size = block_key_size(blk, i)
        at[0] = block_kind(blk, i)
        if left == 0:
            left = interval
            head, head_size = key, size
            offset = at - out
            memcpy(offsets, cython.address(offset), 4)
            offsets += 4
            at = _put(at + 1, block_seqno(blk, i))
            shared = 0
        else:
            shared = common_bytes(head, head_size, key, size)
            at = _put(_put(at + 1, block_seqno(blk, i)), shared)
        left -= 1
        at = _put(at, size - shared)
        memcpy(at, key + shared, size - shared)
        at += size - shared
        if block_kind(blk, i) != TOMBSTONE and block_kind(blk, i) != _WEAK_TOMBSTONE:
            size = block_value_size(blk, i)
            at = _put(at, size)
            memcpy(at, block_value(blk, i), size)
            at += size
    return at


def _encode_buckets(blk, interval, buckets, out):
    i: u32
    restart: u8
    bucket: u64
    if buckets == 0:
        return
    memset(out, _FREE, buckets)
    for i in range(blk.count):
        restart = i // interval
        bucket = hash64(block_key(blk, i), block_key_size(blk, i)) % buckets
        if out[bucket] == _FREE:
            out[bucket] = restart
        elif out[bucket] != restart:
            out[bucket] = _CONFLICT


def _put(at, number):
    """A number as a varint; returns what lies behind it."""
    while number > 127:
        at[0] = (number & 127) | 128
        at += 1
        number >>= 7
    at[0] = number
    return at + 1
