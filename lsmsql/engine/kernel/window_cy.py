# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Reading ahead for a scan whose blocks the cache is not to keep: some frames at once, decoded one by one into memory of the cursor's own."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.ref import Py_DECREF, Py_INCREF

_READ_AT_ONCE = cython.declare(u64, 1 << 20)


def window_block(cursor, table, scratch):
    """The block to load, decoded into memory of the cursor's own, with one pin."""
    tab: TabP = cursor.tab
    ordinal: i64 = cursor.ordinal
    if cursor.window_tab != tab or not cursor.window_first <= ordinal < cursor.window_last:
        _read_window(cursor, table)
    frame: Data = cursor.window + (tab.offsets[ordinal] - tab.offsets[cursor.window_first])
    size: u32 = tab.sizes[ordinal]
    blk: BlkP = cursor.spare
    code: cython.int
    cursor.spare = cython.NULL
    scratch.lead = cython.address(cursor.lead)
    code = table_decode_frame(tab, ordinal, frame, scratch, cython.address(blk))
    if code:
        cursor.spare = blk
        _mend(cursor, table, cython.cast(cython.p_char, frame)[:size], code, scratch)
        blk = cursor.spare
        cursor.spare = cython.NULL
    return blk


def _mend(cursor, table, frame, code, scratch):
    """Decode the block to load from its frame after repair, into cursor.spare."""
    blk: BlkP = cython.NULL
    try:
        block_mend(table, cursor.tab, cursor.ordinal, frame, code, scratch, cython.address(blk))
    except BaseException:
        if blk != cython.NULL:
            blk_free(blk)
        raise
    if cursor.spare != cython.NULL:
        blk_free(cursor.spare)
    cursor.spare = blk
    return 0


def _read_window(cursor, table):
    """Read some blocks, the one to load among them, at once: twice as many each time, up to a MiB."""
    tab: TabP = cursor.tab
    first: i64 = cursor.ordinal
    last: i64 = first + 1
    limit: i64 = cursor.ahead
    window_close(cursor)
    if cursor.descending:
        while (
            last - first < limit
            and first > cursor.first
            and window_wants(cursor, tab, first - 1)
            and tab.offsets[last] - tab.offsets[first - 1] <= _READ_AT_ONCE
        ):
            first -= 1
    else:
        while (
            last - first < limit
            and last <= cursor.last
            and window_wants(cursor, tab, last)
            and tab.offsets[last + 1] - tab.offsets[first] <= _READ_AT_ONCE
        ):
            last += 1
    size: u64 = tab.offsets[last] - tab.offsets[first]
    chunk: bytes = table.source.read(tab.offsets[first], size)
    if cython.cast(u64, len(chunk)) != size:
        raise ValueError(f"{len(chunk)} bytes read instead of {size}")
    Py_INCREF(chunk)
    cursor.window_owner = cython.cast(cython.p_void, chunk)
    cursor.window = chunk
    cursor.window_tab = tab
    cursor.window_first = first
    cursor.window_last = last
    cursor.ahead = min(2 * limit, 1 << 20)
    return 0


def window_close(cursor):
    owner: cython.p_void = cursor.window_owner
    cursor.window_owner = cython.NULL
    cursor.window_tab = cython.NULL
    if owner != cython.NULL:
        Py_DECREF(cython.cast(object, owner))
