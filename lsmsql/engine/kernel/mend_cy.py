# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Bulk reading met a damaged frame, or one whose lead is not at hand: what the table's source makes of it, or the error; mend_cy.pxd has the types."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.lsmsql.engine.kernel.block_decode_cy import FRAME_BAD, LEAD_WANTED
from cython.cimports.lsmsql.engine.kernel.lead_cy import lead_fetch
from cython.cimports.lsmsql.engine.kernel.native import Data
from cython.cimports.lsmsql.engine.kernel.table_cy import table_decode_payload


def block_mend(table, tab, ordinal, frame, code, scratch, blk):
    payload: bytes
    while code == FRAME_BAD or code == LEAD_WANTED:
        if code == LEAD_WANTED:
            lead_fetch(table.source, tab, ordinal, scratch.lead)
        codec, raw_length, content = table.source.open(tab.first + ordinal, tab.offsets[ordinal], frame)
        payload = content if type(content) is bytes else bytes(content)
        data: Data = cython.cast(Data, PyBytes_AS_STRING(payload))
        code = table_decode_payload(tab, ordinal, codec, raw_length, data, PyBytes_GET_SIZE(payload), scratch, blk)
    return table.damage(tab, ordinal, frame, code) if code else 0
