# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The header of a WAL record, compiled: storage/record_log.py has its layout, plain/record.py says what this does."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.buffer import PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.lsmsql.engine.kernel.libraries_cy import hash64
from cython.cimports.lsmsql.engine.kernel.native import RECORD_HEADER, U32_MAX, Room, u16, u32, u64


def record_fill(at, size, kind, flags, log_id, ordinal, seqno, previous, epoch, time):
    length: u32 = size - RECORD_HEADER
    digest: u64 = hash64(at + RECORD_HEADER, length)
    check: u32
    memset(at, 0, RECORD_HEADER)
    memcpy(at + 4, cython.address(kind), 2)
    memcpy(at + 6, cython.address(flags), 2)
    memcpy(at + 8, cython.address(log_id), 8)
    memcpy(at + 16, cython.address(ordinal), 8)
    memcpy(at + 24, cython.address(seqno), 8)
    memcpy(at + 32, cython.address(previous), 8)
    memcpy(at + 40, cython.address(length), 4)
    memcpy(at + 44, cython.address(epoch), 4)
    memcpy(at + 48, cython.address(time), 8)
    memcpy(at + 56, cython.address(digest), 8)
    check = hash64(at + 4, RECORD_HEADER - 4) & U32_MAX
    memcpy(at, cython.address(check), 4)


def fill_record_header(record, kind: u16, flags: u16, log_id: u64, ordinal: u64, seqno: u64, previous: u64, epoch: u32, time: u64) -> None:
    buffer: cython.Py_buffer
    PyObject_GetBuffer(record, cython.address(buffer), PyBUF_WRITABLE)
    try:
        if buffer.len < RECORD_HEADER or buffer.len - RECORD_HEADER > cython.cast(cython.Py_ssize_t, U32_MAX):
            raise ValueError(f"{buffer.len} bytes are no record")
        record_fill(cython.cast(Room, buffer.buf), buffer.len, kind, flags, log_id, ordinal, seqno, previous, epoch, time)
    finally:
        PyBuffer_Release(cython.address(buffer))
