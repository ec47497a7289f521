# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Whether text is UTF-8 (RFC 3629, section 4), which SQLite itself never asks."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("the bridge works only compiled; vtab.module stands in for it")

from cython.cimports.libc.string import memcpy
from cython.cimports.lsmsql.engine.kernel.native import u64

_HIGH = cython.declare(u64, 0x8080808080808080)


def is_utf8(text, size):
    at: cython.size_t = 0
    length: cython.size_t
    word: u64
    while at < size:
        if size - at >= 8:
            memcpy(cython.address(word), text + at, 8)
            if word & _HIGH == 0:
                at += 8
                continue
        if text[at] < 128:
            at += 1
            continue
        length = _sequence(text + at, size - at)
        if length == 0:
            return False
        at += length
    return True


def _sequence(text, left):
    """The length of the sequence of two bytes or more that begins here; 0 if it is none."""
    lead: u8 = text[0]
    lowest: u8 = 0x80
    highest: u8 = 0xBF
    length: cython.size_t = 2
    at: cython.size_t
    if lead < 0xC2 or lead > 0xF4:
        return 0
    if lead >= 0xF0:
        length = 4
        if lead == 0xF0:
            lowest = 0x90
        elif lead == 0xF4:
            highest = 0x8F
    elif lead >= 0xE0:
        length = 3
        if lead == 0xE0:
            lowest = 0xA0
        elif lead == 0xED:
            highest = 0x9F
    if length > left or text[1] < lowest or text[1] > highest:
        return 0
    for at in range(2, length):
        if text[at] & 0xC0 != 0x80:
            return 0
    return length
