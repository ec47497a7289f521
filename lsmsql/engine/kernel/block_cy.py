# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The decoded block as Python sees it; plain/block.py defines it."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memset
from cython.cimports.lsmsql.engine.kernel.native import (
    U32_MAX,
    BlkP,
    Data,
    Room,
    block_key,
    block_key_size,
    block_kind,
    block_seqno,
    block_value,
    block_value_size,
    u32,
    u64,
)

_MESSAGES = {
    BLOCK_SHORT: "data block shorter than its header",
    BLOCK_LAYOUT: "unknown data block layout",
    BLOCK_COLUMNS: "data block columns run past its end",
    BLOCK_PARTS: "data block parts do not fill it",
    BLOCK_KINDS: "data block holds a kind or seqno that this version does not know",
    BLOCK_SHARED: "data block key shares more than the key before it has",
    BLOCK_KEY: "data block key over the limit",
    BLOCK_HUGE: "data block keys larger than 256 MiB",
    BLOCK_OTHER: "data block is not the one the index describes",
    BLOCK_TRAILER: "data block trailer does not describe it",
    BLOCK_NUMBER: "data block number is overlong or cut short",
    BLOCK_ENTRY: "data block entry runs past the entries",
    BLOCK_RESTART: "data block restart is not where its offset says",
    BLOCK_HEAD: "data block key shares more than its restart head has",
    BLOCK_BUCKET: "data block hash index names a restart that is not there",
    BLOCK_CHECK: "data block entry does not match its checksum",
}


@cython.cclass
class Block:
    """A decoded block: parallel sequences of keys, seqnos, kinds and values, in entry order."""

    def __init__(self, keys: list, seqnos: list, kinds: list, values: list) -> None:
        builder: Builder
        if not len(keys) == len(seqnos) == len(kinds) == len(values):
            raise ValueError("the columns of a block differ in length")
        memset(cython.address(builder), 0, cython.sizeof(Builder))
        code: cython.int = BLOCK_OK
        key: bytes
        value: bytes
        try:
            for key, seqno, kind, value in zip(keys, seqnos, kinds, values):
                if key is None or value is None:
                    raise TypeError("keys and values of a block are bytes")
                if PyBytes_GET_SIZE(key) > 65535:
                    raise ValueError("data block key over the limit")
                if cython.cast(u64, PyBytes_GET_SIZE(value)) > U32_MAX:
                    raise ValueError("data block value over the limit")
                code = builder_append(
                    cython.address(builder),
                    cython.cast(Data, PyBytes_AS_STRING(key)),
                    PyBytes_GET_SIZE(key),
                    seqno,
                    kind,
                    cython.cast(Data, PyBytes_AS_STRING(value)),
                    PyBytes_GET_SIZE(value),
                )
                if code:
                    raise block_error(code)
            old: BlkP = self.blk
            self.blk = cython.NULL
            if old != cython.NULL:
                blk_unpin(old)
            code = blk_copy(cython.address(builder.view), cython.address(self.blk))
            if code:
                raise block_error(code)
        finally:
            builder_free(cython.address(builder))

    def __dealloc__(self):
        if self.blk != cython.NULL:
            blk_unpin(self.blk)

    def _key(self, i):
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, block_key(self.blk, i)), block_key_size(self.blk, i))

    def _value(self, i):
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, block_value(self.blk, i)), block_value_size(self.blk, i))

    def keys(self) -> list:
        i: u32
        return [self._key(i) for i in range(self.blk.count)]

    def values(self) -> list:
        i: u32
        return [self._value(i) for i in range(self.blk.count)]

    def seqnos(self) -> list:
        i: u32
        return [block_seqno(self.blk, i) for i in range(self.blk.count)]

    def kinds(self) -> list:
        i: u32
        return [block_kind(self.blk, i) for i in range(self.blk.count)]

    def items(self) -> list:
        i: u32
        return [(self._key(i), self._value(i)) for i in range(self.blk.count)]

    def __len__(self) -> int:
        return self.blk.count


def block_adopt(blk):
    block: Block = Block.__new__(Block)
    block.blk = blk
    return block


def block_error(code):
    if code == BLOCK_NO_MEMORY:
        return MemoryError("no memory for a data block")
    return ValueError(_MESSAGES.get(code, "data block does not decode"))


def decode_block(raw) -> Block:
    """The block that `encode_block` or `encode_rows` encoded; ValueError, naming the check, when the bytes are not one."""
    data: bytes = raw if type(raw) is bytes else bytes(raw)
    blk: BlkP = cython.NULL
    code: cython.int = block_decode(cython.cast(Data, PyBytes_AS_STRING(data)), PyBytes_GET_SIZE(data), 0, cython.address(blk))
    if code:
        raise block_error(code)
    return block_adopt(blk)


def encode_block(block: Block) -> bytes:
    """The raw column form of a block of at least one entry."""
    if block.blk == cython.NULL or block.blk.count == 0:
        raise ValueError("a data block has at least one entry")
    out: Room = cython.cast(Room, malloc(block_encode_bound(block.blk)))
    if out == cython.NULL:
        raise MemoryError("no memory to encode a data block")
    try:
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, out), block_encode(block.blk, out))
    finally:
        free(out)


def encode_rows(block: Block, restart_interval: cython.int = 16, hash_ratio: cython.double = 0.75) -> bytes:
    """The raw row form of a block of at least one entry. hash_ratio: buckets for each entry, 0 for no hash index.

    A kind that has no value is written without one."""
    if block.blk == cython.NULL or block.blk.count == 0:
        raise ValueError("a data block has at least one entry")
    if not 1 <= restart_interval <= 255 or not 0 <= hash_ratio <= 8:
        raise ValueError("restart intervals are from 1 to 255, hash ratios from 0 to 8")
    out: Room = cython.cast(Room, malloc(rows_encode_bound(block.blk, restart_interval, hash_ratio)))
    if out == cython.NULL:
        raise MemoryError("no memory to encode a data block")
    try:
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, out), rows_encode(block.blk, restart_interval, hash_ratio, out))
    finally:
        free(out)


def rows_find(raw: bytes, key: bytes, seqno: u64):
    """The newest version at a seqno that a raw block has of a key, as (seqno, kind, value); ValueError for damage on the way to it."""
    row: Row
    outcome: cython.int = 0
    data: Data = cython.cast(Data, PyBytes_AS_STRING(key))
    size: cython.size_t = PyBytes_GET_SIZE(key)
    code: cython.int = rows_search(
        cython.cast(Data, PyBytes_AS_STRING(raw)),
        PyBytes_GET_SIZE(raw),
        data,
        size,
        hash64(data, size),
        seqno,
        cython.address(row),
        cython.address(outcome),
    )
    if code:
        raise block_error(code)
    if outcome != ROW_FOUND:
        return None
    return (row.seqno, cython.cast(cython.int, row.kind), PyBytes_FromStringAndSize(cython.cast(cython.p_char, row.value), row.value_size))
