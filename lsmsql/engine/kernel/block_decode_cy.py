# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Decoding a data block, compiled: plain/block.py defines it, block_decode_cy.pxd gives the C types; block_rows_cy does it for rows.

It trusts nothing: `block_measure` checks every length of a raw block before `block_fill` copies by them.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memcmp, memcpy, memmove, memset
from cython.cimports.lsmsql.engine.kernel.block_rows_cy import rows_fill, rows_measure
from cython.cimports.lsmsql.engine.kernel.native import (
    KINDS_READABLE,
    SLACK,
    U32_MAX,
    VALUE,
    Blk,
    BlkP,
    Data,
    Room,
    U16s,
    U32s,
    U64s,
    u8,
    u32,
    u64,
)

_HEADER = cython.declare(cython.size_t, 24)
_COLUMNS = cython.declare(u8, 1)
_ROWS = cython.declare(u8, 2)
_HAS_KINDS = cython.declare(u8, 1)
_WIDE_SUFFIXES = cython.declare(u8, 2)
_CHECKED = cython.declare(u8, 4)
_SHARED_MAX = cython.declare(cython.size_t, 255)
_KEY_MAX = cython.declare(cython.size_t, 65535)
_BLOCK_KEYS_MAX = cython.declare(u64, 256 << 20)  # BLOCK_KEY_BYTES_MAX


def block_measure(raw, size, layout):
    """Check a raw block in full and find what its decoded form takes."""
    flags: u8
    suffix_bytes: u32
    fixed: cython.size_t
    code: cython.int
    if size < _HEADER:
        return BLOCK_SHORT
    if raw[4] == _ROWS:
        code = rows_measure(raw, size, layout)
        if code == BLOCK_OK:
            layout_need(layout)
        return code
    memcpy(cython.address(layout.count), raw, 4)
    flags = raw[5]
    layout.raw = raw
    layout.checks = cython.NULL
    layout.seqno_width = raw[6]
    layout.value_width = raw[7]
    memcpy(cython.address(layout.base), raw + 8, 8)
    memcpy(cython.address(layout.value_length), raw + 16, 4)
    memcpy(cython.address(suffix_bytes), raw + 20, 4)
    if (
        raw[4] != _COLUMNS
        or flags & ~(_HAS_KINDS | _WIDE_SUFFIXES | _CHECKED)
        or layout.seqno_width > 8
        or layout.value_width > 4
        or layout.count == 0
    ):
        return BLOCK_LAYOUT
    if flags & _CHECKED:
        if (size - _HEADER) // 4 < layout.count:
            return BLOCK_COLUMNS
        size -= 4 * cython.cast(cython.size_t, layout.count)
        layout.checks = raw + size
    layout.has_kinds = flags & _HAS_KINDS
    layout.suffix_width = 2 if flags & _WIDE_SUFFIXES else 1
    fixed = _HEADER + cython.cast(cython.size_t, layout.count) * (
        1 + layout.suffix_width + layout.value_width + layout.seqno_width + layout.has_kinds
    )
    if fixed + suffix_bytes > size:
        return BLOCK_COLUMNS
    layout.suffix_start = fixed
    code = _measure_columns(layout, size, suffix_bytes)
    if code:
        return code
    layout_need(layout)
    return BLOCK_OK


def _measure_columns(layout, size, suffix_bytes):
    """Every column lies inside the block by now: check what they say."""
    count: cython.size_t = layout.count
    shared: Data = layout.raw + _HEADER
    suffixes: Data = shared + count
    lengths: Data = suffixes + count * layout.suffix_width
    seqnos: Data = lengths + count * layout.value_width
    kinds: Data = seqnos + count * layout.seqno_width
    i: cython.size_t
    key: cython.size_t = 0
    suffix: cython.size_t
    total: u64 = 0
    keys: u64 = 0
    values: u64 = 0
    over_shared: cython.bint = False
    over_limit: cython.bint = False
    for i in range(count):
        suffix = suffixes[i]
        if layout.suffix_width == 2:
            suffix |= cython.cast(cython.size_t, suffixes[count + i]) << 8
        if shared[i] > key:
            over_shared = True
        key = shared[i] + suffix
        if key > _KEY_MAX:
            over_limit = True
        total += suffix
        keys += key
    if layout.value_width:
        for i in range(count):
            values += _plane_number(lengths, count, layout.value_width, i)
    else:
        values = cython.cast(u64, layout.value_length) * count
    # None of these sums can overflow: there are less than 2^32 entries of less than 2^32 bytes.
    if total != suffix_bytes or values > size or layout.suffix_start + suffix_bytes + values != size:
        return BLOCK_PARTS
    if layout.has_kinds:
        for i in range(count):
            if kinds[i] > 5 or not KINDS_READABLE >> kinds[i] & 1:
                return BLOCK_KINDS
    if _overflows(layout, seqnos, count):
        return BLOCK_KINDS
    if over_limit:
        return BLOCK_KEY
    if over_shared:
        return BLOCK_SHARED
    if keys > _BLOCK_KEYS_MAX or values > U32_MAX:
        return BLOCK_HUGE
    layout.key_bytes = keys
    layout.value_bytes = values
    return BLOCK_OK


def _plane_number(planes, count, width, i):
    """Entry i of a column of `width` byte planes, low plane first."""
    number: u64 = planes[i]
    k: cython.int
    for k in range(1, width):
        number |= cython.cast(u64, planes[count * k + i]) << (8 * k)
    return number


def _overflows(layout, seqnos, count):
    """Whether some seqno would be 2^64 or more."""
    room: u64 = ~layout.base
    i: cython.size_t
    if layout.seqno_width == 0:
        return False
    if layout.seqno_width < 8 and room >> (8 * layout.seqno_width):
        return False
    for i in range(count):
        if _plane_number(seqnos, count, layout.seqno_width, i) > room:
            return True
    return False


def _memory_width(seqno_width):
    return 0 if seqno_width == 0 else 2 if seqno_width <= 2 else 4 if seqno_width <= 4 else 8


def _round8(size):
    return (size + 7) & ~cython.cast(cython.size_t, 7)


def layout_need(layout):
    count: cython.size_t = layout.count
    layout.need = (
        _round8(cython.sizeof(Blk))
        + _round8(count * _memory_width(layout.seqno_width))
        + _round8((count + 1) * (4 if layout.key_bytes > 65535 else 2))
        + _round8((count + 1) * (4 if layout.value_bytes > 65535 else 2))
        + (count if layout.has_kinds else 0)
        + layout.key_bytes
        + layout.value_bytes
        + 2 * SLACK
    )


def blk_place(blk, count, seqno_width, has_kinds, key_bytes, value_bytes):
    """Lay a block's arrays out behind its struct; the order is that of `_measure_need`."""
    at: Room = cython.cast(Room, blk) + _round8(cython.sizeof(Blk))
    blk.count = count
    blk.seqno_width = seqno_width
    blk.key_wide = key_bytes > 65535
    blk.value_wide = value_bytes > 65535
    blk.seqnos = at
    at += _round8(cython.cast(cython.size_t, count) * seqno_width)
    blk.key_offsets = at
    at += _round8((cython.cast(cython.size_t, count) + 1) * (4 if blk.key_wide else 2))
    blk.value_offsets = at
    at += _round8((cython.cast(cython.size_t, count) + 1) * (4 if blk.value_wide else 2))
    blk.kinds = cython.NULL
    if has_kinds:
        blk.kinds = at
        at += count
    blk.keys = at
    blk.values = at + key_bytes + SLACK


def block_fill(layout, global_seqno, blk):
    """Decode a measured block into `blk`, whose capacity is at least `layout.need`."""
    count: cython.size_t = layout.count
    at: Data
    blk_place(blk, layout.count, _memory_width(layout.seqno_width), layout.has_kinds, layout.key_bytes, layout.value_bytes)
    blk.size = layout.need
    blk.base = layout.base + global_seqno
    if layout.raw[4] == _ROWS:
        rows_fill(layout, blk)
        return BLOCK_OK
    at = layout.raw + _HEADER + count * (1 + layout.suffix_width)
    _fill_value_offsets(layout, at, blk)
    at += count * layout.value_width
    _fill_seqnos(layout, at, blk)
    at += count * layout.seqno_width
    _fill_kinds(layout, at, blk)
    _fill_keys(layout, blk)
    memcpy(blk.values, layout.raw + layout.suffix_start + _suffix_bytes(layout), layout.value_bytes)
    return BLOCK_OK


def _suffix_bytes(layout):
    size: u32
    memcpy(cython.address(size), layout.raw + 20, 4)
    return size


def _fill_value_offsets(layout, lengths, blk):
    count: cython.size_t = layout.count
    i: cython.size_t
    at: u32 = 0
    wide: U32s = cython.cast(U32s, blk.value_offsets)
    narrow: U16s = cython.cast(U16s, blk.value_offsets)
    for i in range(count):
        if blk.value_wide:
            wide[i] = at
        else:
            narrow[i] = at
        at += _plane_number(lengths, count, layout.value_width, i) if layout.value_width else layout.value_length
    if blk.value_wide:
        wide[count] = at
    else:
        narrow[count] = at


def _fill_seqnos(layout, planes, blk):
    count: cython.size_t = layout.count
    i: cython.size_t
    delta: u64
    lowest: u64 = ~cython.cast(u64, 0)
    highest: u64 = 0
    if layout.seqno_width == 0:
        lowest = 0
    for i in range(count if layout.seqno_width else 0):
        delta = _plane_number(planes, count, layout.seqno_width, i)
        lowest = delta if delta < lowest else lowest
        highest = delta if delta > highest else highest
        if blk.seqno_width == 2:
            cython.cast(U16s, blk.seqnos)[i] = delta
        elif blk.seqno_width == 4:
            cython.cast(U32s, blk.seqnos)[i] = delta
        else:
            cython.cast(U64s, blk.seqnos)[i] = delta
    blk.min_seqno = blk.base + lowest
    blk.max_seqno = blk.base + highest


def _fill_kinds(layout, kinds, blk):
    i: cython.size_t
    blk.kind_mask = 1 << VALUE
    if blk.kinds != cython.NULL:
        memcpy(blk.kinds, kinds, layout.count)
        blk.kind_mask = 0
        for i in range(layout.count):
            blk.kind_mask |= 1 << kinds[i]


def _fill_keys(layout, blk):
    """Keys in full: what is shared from the key before, the rest from the raw block; 16 bytes at a time where there is room to."""
    count: cython.size_t = layout.count
    shared: Data = layout.raw + _HEADER
    lengths: Data = shared + count
    source: Data = layout.raw + layout.suffix_start
    limit: Data = source + _suffix_bytes(layout) + layout.value_bytes
    wide: U32s = cython.cast(U32s, blk.key_offsets)
    narrow: U16s = cython.cast(U16s, blk.key_offsets)
    before: Room = blk.keys
    key: Room = blk.keys
    before_size: cython.size_t = 0
    suffix: cython.size_t
    i: cython.size_t
    blk.duplicates = False
    for i in range(count):
        if blk.key_wide:
            wide[i] = key - blk.keys
        else:
            narrow[i] = key - blk.keys
        suffix = lengths[i]
        if layout.suffix_width == 2:
            suffix |= cython.cast(cython.size_t, lengths[count + i]) << 8
        if shared[i] <= 16:
            memmove(key, before, 16)  # At worst the first bytes of this key onto themselves, or into the slack.
        else:
            memcpy(key, before, shared[i])
        if suffix <= 16 and limit - source >= 16:
            memcpy(key + shared[i], source, 16)
        else:
            memcpy(key + shared[i], source, suffix)
        if i and shared[i] + suffix == before_size and (suffix == 0 or shared[i] == _SHARED_MAX):
            if suffix == 0 or memcmp(key, before, before_size) == 0:
                blk.duplicates = True
        before = key
        before_size = shared[i] + suffix
        source += suffix
        key += before_size
    if blk.key_wide:
        wide[count] = key - blk.keys
    else:
        narrow[count] = key - blk.keys


def block_decode(raw, size, global_seqno, blk):
    layout: Layout
    code: cython.int = block_measure(raw, size, cython.address(layout))
    if code:
        return code
    code = blk_reserve(blk, layout.need)
    return code if code else block_fill(cython.address(layout), global_seqno, blk[0])


# --- ownership


def blk_allocate(need):
    blk: BlkP = cython.cast(BlkP, malloc(need))
    if blk != cython.NULL:
        memset(blk, 0, cython.sizeof(Blk))
        blk.capacity = need
        blk.pins = 1
    return blk


def blk_single(key, key_size, seqno, kind, value, value_size):
    layout: Layout
    layout.count = 1
    layout.seqno_width = 0
    layout.has_kinds = kind != VALUE
    layout.key_bytes = key_size
    layout.value_bytes = value_size
    layout_need(cython.address(layout))
    blk: BlkP = blk_allocate(layout.need)
    if blk == cython.NULL:
        return blk
    blk_place(blk, 1, 0, layout.has_kinds, key_size, value_size)
    blk.size = layout.need
    blk.base = blk.min_seqno = blk.max_seqno = seqno
    blk.kind_mask = 1 << kind
    if blk.kinds != cython.NULL:
        blk.kinds[0] = kind
    cython.cast(U16s, blk.key_offsets)[0] = 0
    cython.cast(U16s, blk.key_offsets)[1] = key_size  # At most 65,535.
    if blk.value_wide:
        cython.cast(U32s, blk.value_offsets)[0] = 0
        cython.cast(U32s, blk.value_offsets)[1] = value_size
    else:
        cython.cast(U16s, blk.value_offsets)[0] = 0
        cython.cast(U16s, blk.value_offsets)[1] = value_size
    memcpy(blk.keys, key, key_size)
    memcpy(blk.values, value, value_size)
    return blk


def blk_free(blk):
    free(blk)


def blk_reserve(blk, need):
    if blk[0] != cython.NULL and blk[0].capacity >= need:
        return BLOCK_OK
    free(blk[0])
    blk[0] = blk_allocate(need + need // 8)
    return BLOCK_OK if blk[0] != cython.NULL else BLOCK_NO_MEMORY


def blk_unpin(blk):
    blk.pins -= 1
    if blk.pins == 0 and blk.table == cython.NULL:
        blk_free(blk)
