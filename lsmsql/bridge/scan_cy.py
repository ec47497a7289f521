# cython: language_level=3
"""A scan of many rows: vtab's Cursor plans and opens it, the engine's scans give blocks, and the block that is walked stays pinned."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.cpython.exc import PyErr_CheckSignals
from cython.cimports.cpython.ref import Py_INCREF
from cython.cimports.lsmsql.bridge.structs import i64
from cython.cimports.lsmsql.engine.kernel.native import u32
from cython.cimports.lsmsql.engine.kernel.scan_cy import Scan

_ObjectP = cython.typedef(cython.p_void)


def scan_open(own, text, values):
    cursor: object
    drop(cython.address(own.source))
    drop(cython.address(own.block))
    if own.cursor == cython.NULL:
        cursor = cython.cast(object, own.vtab.table).Open()
        Py_INCREF(cursor)
        own.cursor = cython.cast(_ObjectP, cursor)
    cursor = cython.cast(object, own.cursor)
    cursor.open_sources(text, values)
    own.skip = cursor.skip or 0
    own.left = -1 if cursor.left is None else cursor.left
    own.watched = cursor.watched
    return 0


def scan_block(own):
    cursor: object = cython.cast(object, own.cursor)
    scan: Scan
    block: Block
    first: u32 = 0
    stop: u32 = 0
    own.ended = True
    drop(cython.address(own.block))
    PyErr_CheckSignals()
    while own.left != 0:
        if own.source == cython.NULL:
            source: object = cursor.next_block()
            if source is None:
                break
            if isinstance(source, Scan):
                Py_INCREF(source)
                own.source = cython.cast(_ObjectP, source)
                continue
            block = _block_of(source)
            first = 0
            stop = block.blk.count
        else:
            if cursor.aborted:
                drop(cython.address(own.source))
                continue  # next_block says so
            scan = cython.cast(Scan, own.source)
            block = scan.stretch(cython.address(first), cython.address(stop))
            if block is None:
                drop(cython.address(own.source))
                continue
        if _take(own, block, first, stop):
            break
    return 0


def _take(own, block, first, stop):
    """Stand on the first row of a block that is to be shown; False if there is none."""
    count: i64 = stop - first
    skipped: i64 = min(own.skip, count)
    own.skip -= skipped
    count -= skipped
    if own.left >= 0:
        count = min(count, own.left)
        own.left -= count
    if count == 0:
        return False
    Py_INCREF(block)
    own.block = cython.cast(_ObjectP, block)
    own.blk = block.blk
    own.at = first + cython.cast(u32, skipped)
    own.end = own.at + cython.cast(u32, count)
    own.fresh = True
    own.ended = False
    return True


def _block_of(rows):
    """A block of rows that were not scanned, in the kernel's form."""
    if isinstance(rows, Block):
        return rows
    keys: list = rows.keys()
    return Block(keys, rows.seqnos() or [0] * len(keys), [1] * len(keys), rows.values())


def scan_free(own):
    drop(cython.address(own.source))
    drop(cython.address(own.block))
    if own.cursor != cython.NULL:
        cursor: object = cython.cast(object, own.cursor)
        drop(cython.address(own.cursor))
        cursor.Close()
    return 0
