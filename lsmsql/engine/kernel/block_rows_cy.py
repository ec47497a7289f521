# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Decoding and searching the row layout, compiled: plain/block_rows.py defines it, block_rows_cy.pxd gives the C types.

Every entry is checked as it is read, in a search as in decoding: what does not lie between the header and the restart offsets is never touched.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.libc.string import memcmp, memcpy
from cython.cimports.lsmsql.engine.kernel.block_decode_cy import (
    BLOCK_BUCKET,
    BLOCK_ENTRY,
    BLOCK_HEAD,
    BLOCK_HUGE,
    BLOCK_KEY,
    BLOCK_KINDS,
    BLOCK_LAYOUT,
    BLOCK_NUMBER,
    BLOCK_OK,
    BLOCK_PARTS,
    BLOCK_RESTART,
    BLOCK_SHORT,
    BLOCK_TRAILER,
)
from cython.cimports.lsmsql.engine.kernel.native import (
    KINDS_READABLE,
    TOMBSTONE,
    U32_MAX,
    VALUE,
    Data,
    Room,
    U16s,
    U32s,
    U64s,
    compare_keys,
    ctz64,
    u8,
    u16,
    u32,
    u64,
)

_ROWS = cython.declare(u8, 2)
_HEADER = cython.declare(cython.size_t, 8)
_TRAILER = cython.declare(cython.size_t, 16)
_KEY_MAX = cython.declare(u64, 65535)
_BLOCK_KEYS_MAX = cython.declare(u64, 256 << 20)  # BLOCK_KEY_BYTES_MAX
_FREE = cython.declare(u8, 254)
_CONFLICT = cython.declare(u8, 255)


# --- reading


def common_bytes(a, a_size, b, b_size):
    """Leading bytes that two keys share."""
    limit: cython.size_t = a_size if a_size < b_size else b_size
    i: cython.size_t = 0
    x: u64
    y: u64
    while i + 8 <= limit:
        memcpy(cython.address(x), a + i, 8)
        memcpy(cython.address(y), b + i, 8)
        if x != y:
            return i + (ctz64(x ^ y) >> 3)
        i += 8
    while i < limit and a[i] == b[i]:
        i += 1
    return i


def _open(raw, size, rows):
    """Take header and trailer apart -> code."""
    count: u32
    same_count: u32
    flags: u16
    end: u32
    trailer: Data
    if size < _HEADER + _TRAILER:
        return BLOCK_SHORT
    memcpy(cython.address(count), raw, 4)
    memcpy(cython.address(flags), raw + 6, 2)
    rows.raw = raw
    rows.count = count
    rows.interval = raw[5]
    if raw[4] != _ROWS or rows.interval == 0 or flags > 1 or count == 0:
        return BLOCK_LAYOUT
    rows.checks = cython.NULL
    if flags:
        if (size - _HEADER - _TRAILER) // 4 < count:
            return BLOCK_TRAILER
        size -= 4 * cython.cast(cython.size_t, count)
        rows.checks = raw + size
    trailer = raw + size - _TRAILER
    memcpy(cython.address(same_count), trailer, 4)
    memcpy(cython.address(rows.restarts), trailer + 4, 4)
    memcpy(cython.address(end), trailer + 8, 4)
    memcpy(cython.address(rows.bucket_count), trailer + 12, 4)
    rows.wide = end > 65535
    if (
        same_count != count
        or rows.restarts != (cython.cast(u64, count) + rows.interval - 1) // rows.interval
        or end < _HEADER
        or end + cython.cast(u64, rows.restarts) * (4 if rows.wide else 2) + rows.bucket_count + _TRAILER != size
        or (rows.bucket_count and rows.restarts > _FREE)
    ):
        return BLOCK_TRAILER
    rows.end = raw + end
    rows.buckets = trailer - rows.bucket_count
    return BLOCK_OK


def _offset(rows, restart):
    wide: u32
    narrow: u16
    if rows.wide:
        memcpy(cython.address(wide), rows.end + 4 * cython.cast(cython.size_t, restart), 4)
        return wide
    memcpy(cython.address(narrow), rows.end + 2 * cython.cast(cython.size_t, restart), 2)
    return narrow


def _long_number(at, end, limit, number):
    """take_number for a number that does not stand in one byte."""
    position: Data = at[0]
    byte: u64
    shift: u32 = 0
    number[0] = 0
    while position < end and shift < 64:
        byte = position[0]
        position += 1
        if (byte == 0 and shift) or (shift == 63 and byte > 1):
            return BLOCK_NUMBER
        number[0] |= (byte & 127) << shift
        if byte < 128:
            at[0] = position
            return BLOCK_OK if number[0] <= limit else BLOCK_NUMBER
        shift += 7
    return BLOCK_NUMBER


def _read(rows, at, at_head, head_size, row):
    """The entry at a position, which moves behind it. head_size: of the key of its restart head -> code."""
    position: Data = at[0]
    number: u64 = 0
    size: u64 = 0
    code: cython.int
    if position < rows.raw + _HEADER or position >= rows.end:
        return BLOCK_ENTRY
    row.kind = position[0]
    if row.kind > 5 or not KINDS_READABLE >> row.kind & 1:
        return BLOCK_KINDS
    position += 1
    code = take_number(cython.address(position), rows.end, ~cython.cast(u64, 0), cython.address(row.seqno))
    if code:
        return code
    if not at_head:
        code = take_number(cython.address(position), rows.end, U32_MAX, cython.address(number))
        if code:
            return code
        if number > head_size:
            return BLOCK_HEAD
    code = take_number(cython.address(position), rows.end, U32_MAX, cython.address(size))
    if code:
        return code
    if number + size > _KEY_MAX:
        return BLOCK_KEY
    if size > cython.cast(u64, rows.end - position):
        return BLOCK_ENTRY
    row.shared = number
    row.key = position
    row.key_size = size
    position += size
    size = 0
    if row.kind != TOMBSTONE:
        code = take_number(cython.address(position), rows.end, U32_MAX, cython.address(size))
        if code:
            return code
        if size > cython.cast(u64, rows.end - position):
            return BLOCK_ENTRY
    row.value = position
    row.value_size = size
    at[0] = position + size
    return BLOCK_OK


def rows_measure(raw, size, layout):
    rows: Rows
    row: Row
    code: cython.int = _open(raw, size, cython.address(rows))
    at: Data = raw + _HEADER
    i: u32
    left: u32 = 0
    restart: u32 = 0
    head_size: u32 = 0
    at_head: cython.bint
    low: u64 = ~cython.cast(u64, 0)
    high: u64 = 0
    keys: u64 = 0
    values: u64 = 0
    if code:
        return code
    layout.has_kinds = False
    for i in range(rows.count):
        at_head = left == 0
        if at_head:
            if cython.cast(cython.size_t, at - raw) != _offset(cython.address(rows), restart):
                return BLOCK_RESTART
            restart += 1
            left = rows.interval
        left -= 1
        code = _read(cython.address(rows), cython.address(at), at_head, head_size, cython.address(row))
        if code:
            return code
        if at_head:
            head_size = row.key_size
        keys += row.shared + row.key_size
        values += row.value_size
        low = row.seqno if row.seqno < low else low
        high = row.seqno if row.seqno > high else high
        if row.kind != VALUE:
            layout.has_kinds = True
    if at != rows.end:
        return BLOCK_PARTS
    for i in range(rows.bucket_count):
        if rows.restarts <= rows.buckets[i] < _FREE:
            return BLOCK_BUCKET
    if keys > _BLOCK_KEYS_MAX or values > U32_MAX:
        return BLOCK_HUGE
    layout.raw = raw
    layout.checks = rows.checks
    layout.count = rows.count
    layout.base = low
    layout.seqno_width = 0 if high == low else 2 if high - low <= 65535 else 4 if high - low <= U32_MAX else 8
    layout.key_bytes = keys
    layout.value_bytes = values
    layout.suffix_start = rows.end - raw
    return BLOCK_OK


def rows_fill(layout, blk):
    """Decode a measured block into one that is placed, `base` included. Sixteen bytes are readable behind every key: the trailer's, if no others."""
    at: Data = layout.raw + _HEADER
    i: u32
    left: u32 = 0
    interval: u32 = layout.raw[5]
    key: Room = blk.keys
    value: Room = blk.values
    head: Data = at
    kind: u8
    shared: cython.size_t
    size: cython.size_t
    before: cython.size_t = 0
    delta: u64
    high: u64 = 0
    blk.kind_mask = 0
    blk.duplicates = False
    for i in range(layout.count):
        _fill_offsets(blk, i, key - blk.keys, value - blk.values)
        kind = at[0]
        at += 1
        delta = pass_number(cython.address(at)) - layout.base
        high = delta if delta > high else high
        if blk.seqno_width == 2:
            cython.cast(U16s, blk.seqnos)[i] = delta
        elif blk.seqno_width == 4:
            cython.cast(U32s, blk.seqnos)[i] = delta
        elif blk.seqno_width == 8:
            cython.cast(U64s, blk.seqnos)[i] = delta
        if blk.kinds != cython.NULL:
            blk.kinds[i] = kind
        blk.kind_mask |= 1 << kind
        shared = pass_number(cython.address(at)) if left else 0
        size = pass_number(cython.address(at))
        if left == 0:
            left = interval
            head = at
        left -= 1
        memcpy(key, head, 16)
        if shared > 16:
            memcpy(key + 16, head + 16, shared - 16)
        memcpy(key + shared, at, 16)
        if size > 16:
            memcpy(key + shared + 16, at + 16, size - 16)
        at += size
        size += shared
        if i and size == before and memcmp(key - before, key, size) == 0:
            blk.duplicates = True
        before = size
        key += size
        if kind != TOMBSTONE:
            size = pass_number(cython.address(at))
            memcpy(value, at, size)
            value += size
            at += size
    _fill_offsets(blk, layout.count, key - blk.keys, value - blk.values)
    blk.min_seqno = blk.base
    blk.max_seqno = blk.base + high


def _fill_offsets(blk, i, key, value):
    if blk.key_wide:
        cython.cast(U32s, blk.key_offsets)[i] = key
    else:
        cython.cast(U16s, blk.key_offsets)[i] = key
    if blk.value_wide:
        cython.cast(U32s, blk.value_offsets)[i] = value
    else:
        cython.cast(U16s, blk.value_offsets)[i] = value


# --- searching


def rows_search(raw, size, key, key_size, hash, seqno, row, outcome):
    rows: Rows
    restart: u32 = 0
    bucket: u8 = _CONFLICT
    code: cython.int = _open(raw, size, cython.address(rows))
    outcome[0] = ROW_ABSENT
    if code:
        return code
    if rows.bucket_count:
        bucket = rows.buckets[hash % rows.bucket_count]
        if bucket == _FREE:
            return BLOCK_OK
        restart = bucket
    if bucket == _CONFLICT:
        code = _restart(cython.address(rows), key, key_size, seqno, cython.address(restart))
        if code:
            return code
    elif restart >= rows.restarts:
        return BLOCK_BUCKET
    return _walk(cython.address(rows), restart, bucket != _CONFLICT, key, key_size, seqno, row, outcome)


def _restart(rows, key, size, seqno, restart):
    """The last restart whose head is not behind (key, seqno) in the order of entries; the first if all are -> code."""
    low: u32 = 0
    high: u32 = rows.restarts
    middle: u32
    order: cython.int
    code: cython.int
    at: Data
    head: Row
    while low < high:
        middle = (low + high) >> 1
        at = rows.raw + _offset(rows, middle)
        code = _read(rows, cython.address(at), True, 0, cython.address(head))
        if code:
            return code
        order = compare_keys(head.key, head.key_size, key, size)
        if order < 0 or (order == 0 and head.seqno >= seqno):
            low = middle + 1
        else:
            high = middle
    restart[0] = low - 1 if low else 0
    return BLOCK_OK


def _walk(rows, restart, alone, key, key_size, seqno, row, outcome):
    """From a restart head on to the first entry that is not before (key, seqno). alone: all the key's versions lie behind this head -> code."""
    at: Data = rows.raw + _offset(rows, restart)
    left: u32 = 0
    head_size: u32 = 0
    common: cython.size_t = 0  # bytes that the head's key and the one sought share
    head_order: cython.int = 0
    order: cython.int
    at_head: cython.bint
    first: u64 = cython.cast(u64, restart) * rows.interval
    i: u64
    for i in range(first, rows.count):
        at_head = left == 0
        if at_head:
            if alone and i > first:
                return BLOCK_OK
            if cython.cast(cython.size_t, at - rows.raw) != _offset(rows, restart):
                return BLOCK_RESTART
            restart += 1
            left = rows.interval
        left -= 1
        code: cython.int = _read(rows, cython.address(at), at_head, head_size, row)
        if code:
            return code
        if at_head:
            head_size = row.key_size
            common = common_bytes(row.key, row.key_size, key, key_size)
            head_order = order = compare_keys(row.key, row.key_size, key, key_size)
        elif row.shared > common:
            order = head_order  # It parts from the key sought where its head does.
        else:
            order = compare_keys(row.key, row.key_size, key + row.shared, key_size - row.shared)
        if order > 0:
            return BLOCK_OK
        if order == 0 and row.seqno <= seqno:
            outcome[0] = ROW_FOUND
            return BLOCK_OK
    outcome[0] = ROW_BEYOND
    return BLOCK_OK


def rows_last(raw, size, key, key_size):
    rows: Rows
    row: Row
    i: u64
    _open(raw, size, cython.address(rows))
    at: Data = raw + _offset(cython.address(rows), rows.restarts - 1)
    _read(cython.address(rows), cython.address(at), True, 0, cython.address(row))
    head: Data = row.key
    head_size: u32 = row.key_size
    for i in range(cython.cast(u64, rows.restarts - 1) * rows.interval + 1, rows.count):
        _read(cython.address(rows), cython.address(at), False, head_size, cython.address(row))
    return row.shared + row.key_size == key_size and memcmp(head, key, row.shared) == 0 and memcmp(row.key, key + row.shared, row.key_size) == 0
