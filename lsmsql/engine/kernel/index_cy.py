# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A table's index, or one of its partitions, compiled: plain/index.py defines it, native.pxd's Tab holds it."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.libc.string import memcpy

_BLOCK_COLUMNS = cython.declare(cython.size_t, 27)  # bytes of an index entry besides its key


def index_need(data, size):
    count: u32 = 0
    length: u16
    keys: u64 = 0
    i: cython.size_t
    memcpy(cython.address(count), data, size if size < 4 else 4)
    fixed: cython.size_t = 4 + cython.cast(cython.size_t, count) * _BLOCK_COLUMNS
    if size < fixed or count == 0:
        raise ValueError("index shorter than its columns")
    for i in range(count):
        memcpy(cython.address(length), data + fixed - 2 * (count - i), 2)
        keys += length
    if fixed + keys != size or keys > U32_MAX:
        raise ValueError("index keys do not fill it")
    return cython.cast(cython.size_t, count) * (4 * 8 + 3 * 4 + 1) + 128 + keys + SLACK


def index_fill(tab, memory, data, size, global_seqno, start):
    at: cython.size_t = 0
    count: u32 = 0
    memcpy(cython.address(count), data, 4)
    n: cython.size_t = count
    fixed: cython.size_t = 4 + n * _BLOCK_COLUMNS
    tab.blocks = count
    tab.prefixes = cython.cast(U64s, _column(memory, cython.address(at), 8 * n))
    tab.offsets = cython.cast(U64s, _column(memory, cython.address(at), 8 * (n + 1)))
    tab.min_seqnos = cython.cast(U64s, _column(memory, cython.address(at), 8 * n))
    tab.max_seqnos = cython.cast(U64s, _column(memory, cython.address(at), 8 * n))
    tab.sizes = cython.cast(U32s, _column(memory, cython.address(at), 4 * n))
    tab.entries = cython.cast(U32s, _column(memory, cython.address(at), 4 * n))
    tab.key_offsets = cython.cast(U32s, _column(memory, cython.address(at), 4 * (n + 1)))
    tab.masks = _column(memory, cython.address(at), n)
    tab.keys = memory + at
    memcpy(tab.keys, data + fixed, size - fixed)
    return _fill_columns(tab, data + 4, global_seqno, start)


def _fill_columns(tab, data, global_seqno, start):
    count: cython.size_t = tab.blocks
    lengths: Data = data + count * 25
    length: u16
    i: cython.size_t
    possible: cython.bint = True
    memcpy(tab.sizes, data, 4 * count)
    memcpy(tab.entries, data + 4 * count, 4 * count)
    memcpy(tab.min_seqnos, data + 8 * count, 8 * count)
    memcpy(tab.max_seqnos, data + 16 * count, 8 * count)
    memcpy(tab.masks, data + 24 * count, count)
    tab.global_seqno = global_seqno
    tab.min_seqno = tab.min_seqnos[0] + global_seqno
    tab.max_seqno = tab.total = 0
    tab.offsets[0] = start
    tab.key_offsets[0] = 0
    for i in range(count):
        tab.offsets[i + 1] = tab.offsets[i] + tab.sizes[i]
        tab.total += tab.entries[i]
        tab.min_seqnos[i] += global_seqno
        tab.max_seqnos[i] += global_seqno
        tab.min_seqno = min(tab.min_seqno, tab.min_seqnos[i])
        tab.max_seqno = max(tab.max_seqno, tab.max_seqnos[i])
        memcpy(cython.address(length), lengths + 2 * i, 2)
        tab.key_offsets[i + 1] = tab.key_offsets[i] + length
        if tab.sizes[i] == 0 or tab.entries[i] == 0 or tab.masks[i] & ~(DUPLICATES | KINDS_READABLE):
            possible = False
    for i in range(1, count):
        if compare_keys(last_key(tab, i - 1), last_key_size(tab, i - 1), last_key(tab, i), last_key_size(tab, i)) > 0:
            raise ValueError("index keys out of order")
    if not possible:
        raise ValueError("impossible index entry")
    # The keys ascend, so what the first and the last share they all share.
    i = 0
    while i < last_key_size(tab, 0) and i < last_key_size(tab, count - 1) and last_key(tab, 0)[i] == last_key(tab, count - 1)[i]:
        i += 1
    tab.common = i
    for i in range(count):
        tab.prefixes[i] = prefix_of(last_key(tab, i) + tab.common, last_key_size(tab, i) - tab.common)
    return 0


def index_partitions(tab, starts, partitions):
    i: u32
    if len(partitions.blocks) != tab.blocks:
        raise ValueError("index of another number of partitions")
    tab.part_starts = starts
    tab.part_firsts = cython.cast(U32s, starts + tab.blocks + 1)
    tab.part_starts[0] = tab.part_firsts[0] = 0
    for i in range(tab.blocks):
        tab.part_firsts[i + 1] = tab.part_firsts[i] + partitions.blocks[i]
        tab.part_starts[i + 1] = tab.part_starts[i] + partitions.data_bytes[i]
    tab.data_blocks = tab.part_firsts[tab.blocks]
    tab.filtered = partitions.filtered
    tab.parts = tab.blocks
    return 0


def _column(memory, at, size):
    """The next 8-aligned piece of the memory."""
    found: Room = memory + at[0]
    at[0] += (size + 7) & ~cython.cast(cython.size_t, 7)
    return found
