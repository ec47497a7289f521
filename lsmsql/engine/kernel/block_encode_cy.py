# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Building and encoding a data block, compiled: plain/block.py defines the encoding, block_encode_cy.pxd gives the C types."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.lsmsql.engine.kernel.block_decode_cy import (
    BLOCK_HUGE,
    BLOCK_NO_MEMORY,
    BLOCK_OK,
    Layout,
    blk_place,
    blk_reserve,
    layout_need,
)
from cython.cimports.lsmsql.engine.kernel.native import (
    SLACK,
    U32_MAX,
    VALUE,
    Blk,
    Data,
    Room,
    U16s,
    U32s,
    U64s,
    block_key,
    block_key_size,
    block_seqno,
    block_value_size,
    ctz64,
    key_start,
    same_key,
    u8,
    u32,
    u64,
    value_start,
)

_HEADER = cython.declare(cython.size_t, 24)
_COLUMNS = cython.declare(u8, 1)
_HAS_KINDS = cython.declare(u8, 1)
_WIDE_SUFFIXES = cython.declare(u8, 2)
_SHARED_MAX = cython.declare(cython.size_t, 255)


def block_encode_bound(blk):
    count: cython.size_t = blk.count
    return _HEADER + count * 16 + key_start(blk, blk.count) + value_start(blk, blk.count) + SLACK


def _shared(a, a_size, b, b_size):
    """Leading bytes that two keys share, at most _SHARED_MAX. Both lie in memory with SLACK behind it."""
    limit: cython.size_t = a_size if a_size < b_size else b_size
    i: cython.size_t = 0
    x: u64
    y: u64
    if limit > _SHARED_MAX:
        limit = _SHARED_MAX
    while i < limit:
        memcpy(cython.address(x), a + i, 8)
        memcpy(cython.address(y), b + i, 8)
        if x != y:
            i += ctz64(x ^ y) >> 3
            break
        i += 8
    return i if i < limit else limit


def _number_width(number):
    width: cython.int = 0
    while number:
        width += 1
        number >>= 8
    return width


def block_encode(blk, out):
    """The raw column form of a block of at least one entry. Returns its size."""
    count: cython.size_t = blk.count
    i: cython.size_t
    size: u32
    smallest: u32 = block_value_size(blk, 0)
    largest: u32 = smallest
    for i in range(1, count):
        size = block_value_size(blk, i)
        smallest = size if size < smallest else smallest
        largest = size if size > largest else largest
    value_width: u8 = 0 if smallest == largest else _number_width(largest)
    low: u64 = block_seqno(blk, 0)
    high: u64 = low
    seqno: u64
    for i in range(1, count):
        seqno = block_seqno(blk, i)
        low = seqno if seqno < low else low
        high = seqno if seqno > high else high
    has_kinds: cython.bint = False
    if blk.kinds != cython.NULL:
        for i in range(count):
            has_kinds = has_kinds or blk.kinds[i] != VALUE
    wide: cython.bint = _encode_shared(blk, out + _HEADER)
    memcpy(out, cython.address(blk.count), 4)
    out[4] = _COLUMNS
    out[5] = (_HAS_KINDS if has_kinds else 0) | (_WIDE_SUFFIXES if wide else 0)
    out[6] = _number_width(high - low)
    out[7] = value_width
    memcpy(out + 8, cython.address(low), 8)
    if value_width:
        smallest = 0
    memcpy(out + 16, cython.address(smallest), 4)
    return _encode_columns(blk, out, has_kinds)


def _encode_shared(blk, shared):
    """The column of shared lengths; returns whether some suffix is longer than 255 bytes."""
    i: cython.size_t
    key: Data = block_key(blk, 0)
    key_size: cython.size_t = block_key_size(blk, 0)
    wide: cython.bint = key_size > 255
    before: Data
    before_size: cython.size_t
    shared[0] = 0
    for i in range(1, blk.count):
        before, before_size = key, key_size
        key, key_size = block_key(blk, i), block_key_size(blk, i)
        shared[i] = _shared(before, before_size, key, key_size)
        wide = wide or key_size - shared[i] > 255
    return wide


def _encode_columns(blk, out, has_kinds):
    """Everything behind the shared lengths, and the header's count of suffix bytes."""
    count: cython.size_t = blk.count
    shared: Data = out + _HEADER
    at: Room = out + _HEADER + count
    i: cython.size_t
    suffix: cython.size_t
    number: u64
    k: cython.int
    lengths: Room = at
    at += count * (2 if out[5] & _WIDE_SUFFIXES else 1)
    if out[7]:
        for i in range(count):
            number = block_value_size(blk, i)
            for k in range(out[7]):
                at[count * k + i] = number >> (8 * k)
        at += count * out[7]
    if out[6]:
        memcpy(cython.address(number), out + 8, 8)
        _encode_seqnos(blk, number, out[6], at)
        at += count * out[6]
    if has_kinds:
        memcpy(at, blk.kinds, count)
        at += count
    start: Room = at
    for i in range(count):
        suffix = block_key_size(blk, i) - shared[i]
        lengths[i] = suffix
        if out[5] & _WIDE_SUFFIXES:
            lengths[count + i] = suffix >> 8
        if suffix <= 16:
            memcpy(at, block_key(blk, i) + shared[i], 16)
        else:
            memcpy(at, block_key(blk, i) + shared[i], suffix)
        at += suffix
    total: u32 = at - start
    memcpy(out + 20, cython.address(total), 4)
    memcpy(at, blk.values + value_start(blk, 0), value_start(blk, count) - value_start(blk, 0))
    return at + (value_start(blk, count) - value_start(blk, 0)) - out


def _encode_seqnos(blk, base, width, planes):
    count: cython.size_t = blk.count
    i: cython.size_t
    k: cython.int
    delta: u64
    for i in range(count):
        delta = block_seqno(blk, i) - base
        for k in range(width):
            planes[count * k + i] = delta >> (8 * k)


# --- building


def _resize(memory, size):
    """Give the buffer whose address is at `memory` room for `size` bytes and SLACK; True: no memory, nothing changed."""
    found: cython.p_void = realloc(memory[0], size + SLACK)
    if found == cython.NULL:
        return True
    memory[0] = found
    return False


def _grow_entries(builder, need):
    size: cython.size_t = need + need // 2 + 64
    view: cython.pointer[Blk] = cython.address(builder.view)
    # Each array is at least as large as entry_room says, also when a later one finds no memory.
    if (
        _resize(cython.address(view.key_offsets), size * 4)
        or _resize(cython.address(view.value_offsets), size * 4)
        or _resize(cython.address(view.seqnos), size * 8)
        or _resize(cython.cast(cython.pp_void, cython.address(view.kinds)), size)
    ):
        return BLOCK_NO_MEMORY
    builder.entry_room = size
    view.key_wide = view.value_wide = True
    view.seqno_width = 8
    cython.cast(U32s, view.key_offsets)[view.count] = builder.key_bytes
    cython.cast(U32s, view.value_offsets)[view.count] = builder.value_bytes
    return BLOCK_OK


def _grow_bytes(memory, room, used, more):
    """Room for `more` bytes behind `used` in a byte buffer of the builder."""
    size: cython.size_t = (used + more) + (used + more) // 2 + 256
    if memory[0] != cython.NULL and used + more <= room[0]:
        return BLOCK_OK
    if _resize(cython.cast(cython.pp_void, memory), size):
        return BLOCK_NO_MEMORY
    room[0] = size
    return BLOCK_OK


def builder_append(builder, key, key_size, seqno, kind, value, value_size):
    view: cython.pointer[Blk] = cython.address(builder.view)
    n: cython.size_t = view.count
    if builder.key_bytes + key_size > U32_MAX or builder.value_bytes + value_size > U32_MAX:
        return BLOCK_HUGE
    if (
        (n + 2 > builder.entry_room and _grow_entries(builder, n + 2))
        or _grow_bytes(cython.address(view.keys), cython.address(builder.key_room), builder.key_bytes, key_size)
        or _grow_bytes(cython.address(view.values), cython.address(builder.value_room), builder.value_bytes, value_size)
    ):
        return BLOCK_NO_MEMORY
    memcpy(view.keys + builder.key_bytes, key, key_size)
    memcpy(view.values + builder.value_bytes, value, value_size)
    if n and same_key(block_key(view, n - 1), block_key_size(view, n - 1), key, key_size):
        view.duplicates = True
    builder.key_bytes += key_size
    builder.value_bytes += value_size
    cython.cast(U32s, view.key_offsets)[n + 1] = builder.key_bytes
    cython.cast(U32s, view.value_offsets)[n + 1] = builder.value_bytes
    cython.cast(U64s, view.seqnos)[n] = seqno
    view.kinds[n] = kind
    view.kind_mask |= cython.cast(u8, 1 << (kind & 7))
    if n == 0 or seqno < view.min_seqno:
        view.min_seqno = seqno
    if n == 0 or seqno > view.max_seqno:
        view.max_seqno = seqno
    view.count = n + 1
    return BLOCK_OK


def builder_clear(builder):
    builder.view.count = 0
    builder.view.kind_mask = 0
    builder.view.duplicates = False
    builder.view.min_seqno = builder.view.max_seqno = 0
    builder.key_bytes = builder.value_bytes = 0


def builder_free(builder):
    free(builder.view.key_offsets)
    free(builder.view.value_offsets)
    free(builder.view.seqnos)
    free(builder.view.kinds)
    free(builder.view.keys)
    free(builder.view.values)
    memset(builder, 0, cython.sizeof(Builder))


def blk_copy(source, blk):
    """The same entries in one allocation, offsets and seqnos as narrow as they can be."""
    layout: Layout
    i: cython.size_t
    count: cython.size_t = source.count
    spread: u64 = source.max_seqno - source.min_seqno
    has_kinds: cython.bint = source.kinds != cython.NULL and source.kind_mask != 1 << VALUE
    layout.count = source.count
    layout.seqno_width = 0 if spread == 0 else 2 if spread <= 65535 else 4 if spread <= U32_MAX else 8
    layout.has_kinds = has_kinds
    layout.key_bytes = key_start(source, count) if count else 0
    layout.value_bytes = value_start(source, count) if count else 0
    layout_need(cython.address(layout))
    if blk_reserve(blk, layout.need):
        return BLOCK_NO_MEMORY
    made: cython.pointer[Blk] = blk[0]
    blk_place(made, source.count, layout.seqno_width, has_kinds, layout.key_bytes, layout.value_bytes)
    made.size = layout.need
    made.base = made.min_seqno = source.min_seqno
    made.max_seqno = source.max_seqno
    made.kind_mask = source.kind_mask
    made.duplicates = source.duplicates
    for i in range(count + 1 if count else 0):
        if made.key_wide:
            cython.cast(U32s, made.key_offsets)[i] = key_start(source, i)
        else:
            cython.cast(U16s, made.key_offsets)[i] = key_start(source, i)
        if made.value_wide:
            cython.cast(U32s, made.value_offsets)[i] = value_start(source, i)
        else:
            cython.cast(U16s, made.value_offsets)[i] = value_start(source, i)
    for i in range(count if made.seqno_width else 0):
        if made.seqno_width == 2:
            cython.cast(U16s, made.seqnos)[i] = block_seqno(source, i) - made.base
        elif made.seqno_width == 4:
            cython.cast(U32s, made.seqnos)[i] = block_seqno(source, i) - made.base
        else:
            cython.cast(U64s, made.seqnos)[i] = block_seqno(source, i) - made.base
    if has_kinds:
        memcpy(made.kinds, source.kinds, count)
    memcpy(made.keys, source.keys, layout.key_bytes)
    memcpy(made.values, source.values, layout.value_bytes)
    return BLOCK_OK
