# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Leads of blocks in parts, compiled: plain/table.py defines them, lead_cy.pxd gives the C types."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memcpy

from ..storage.compression import LEAD_BYTES_MAX, Codec, decompress
from ..storage.compression import Lead as PlainLead

_LEAD_MAX = cython.declare(cython.size_t, LEAD_BYTES_MAX)


def lead_keep(lead, serial, number, raw, size):
    found: cython.p_void
    lead.size = 0
    if size > _LEAD_MAX:
        return False
    if lead.room < size:
        found = realloc(lead.raw, size + size // 4 + SLACK)
        if found == cython.NULL:
            return False
        lead.raw = cython.cast(Room, found)
        lead.room = size + size // 4
    memcpy(lead.raw, raw, size)
    lead.size = size
    lead.serial = serial
    lead.number = number
    return True


def lead_free(lead):
    free(lead.raw)
    lead.raw = cython.NULL
    lead.size = lead.room = 0


def frame_raw(source, tab, ordinal, frame):
    offset: u64 = tab.offsets[ordinal]
    codec, raw_length, payload = source.open(tab.first + ordinal, offset, frame)
    learned = source.dictionary
    if codec == Codec.ZSTD_LEAD:
        learned = None if lead_of(tab, ordinal) == tab.first + ordinal else PlainLead(_raw_lead(source, tab, ordinal))
    try:
        return decompress(payload, codec, raw_length, learned)
    except ValueError as error:
        source.damaged(offset, str(error))
        raise


def _raw_lead(source, tab, ordinal):
    """Of a block that is none."""
    raw: bytes
    number: u32 = lead_of(tab, ordinal)
    if number < tab.first:
        source.damaged(tab.offsets[ordinal], "a block's parts lie in several partitions of the index")
    lead: u32 = number - tab.first
    raw = frame_raw(source, tab, lead, source.read(tab.offsets[lead], tab.sizes[lead]))
    if not 0 < len(raw) <= LEAD_BYTES_MAX:
        source.damaged(tab.offsets[lead], f"the first part of a block has {len(raw)} bytes, and is no lead")
    return raw


def lead_fetch(source, tab, ordinal, lead):
    raw: bytes
    number: u32 = lead_of(tab, ordinal)
    if number == tab.first + ordinal:
        source.damaged(tab.offsets[ordinal], "is compressed against the lead of a block, which it does not belong to")
    raw = _raw_lead(source, tab, ordinal)
    if not lead_keep(lead, tab.serial, number, cython.cast(Data, PyBytes_AS_STRING(raw)), PyBytes_GET_SIZE(raw)):
        raise MemoryError("no memory for a data block")
    return 0
