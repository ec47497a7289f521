# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Batch, arena and memtable, compiled: plain/memtable.py defines what they do, memtable_cy.pxd gives the C types."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.cpython.tuple import PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.lsmsql.engine.kernel.libraries_cy import hash64
from cython.cimports.lsmsql.engine.kernel.native import (
    BATCH_SEQNO,
    KIND_WRITABLE_MAX,
    OP_HEADER,
    SELECT_TREE,
    SLACK,
    TOMBSTONE,
    U32_MAX,
    VALUE,
    ChunkP,
    Data,
    Ops,
    Room,
    compare_keys,
    op_key,
    op_key_size,
    op_kind,
    op_size,
    op_value,
    op_value_size,
    u8,
    u32,
    u64,
    visible_node,
)
from cython.cimports.lsmsql.engine.kernel.operations_cy import (
    Operations,
    chunk_give,
    chunk_take,
    ops_add_tree,
    ops_find,
    ops_insert,
    ops_pop,
    ops_reserve,
    ops_tree,
)
from cython.cimports.lsmsql.engine.kernel.order_cy import order_next, order_seek, order_update, order_valid

from .entry_error import EntryError, EntryTypeError, pair_of, require_key

_KEY_MAX = cython.declare(u64, 65_535)  # as in kinds.py
_VALUE_MAX = cython.declare(u64, 1_000_000_000)
_CHUNK = cython.declare(cython.size_t, (1 << 20) - 64)
_SMALL_CHUNK = cython.declare(cython.size_t, 2000)


# --- operations


def check_entry(key, value):
    """EntryError or EntryTypeError unless key and value can be stored."""
    if type(key) is not bytes:
        raise EntryTypeError(f"key must be bytes, not {type(key).__name__}")
    if type(value) is not bytes:
        raise EntryTypeError(f"value must be bytes, not {type(value).__name__}")
    if cython.cast(u64, PyBytes_GET_SIZE(key)) > _KEY_MAX:
        raise EntryError(f"key of {len(key)} bytes; the limit is {_KEY_MAX}")
    if cython.cast(u64, PyBytes_GET_SIZE(value)) > _VALUE_MAX:
        raise EntryError(f"value of {len(value)} bytes; the limit is {_VALUE_MAX}")
    return 0


def write_operation(at, select, selecting, key, key_size, kind, value, value_size):
    """Encode an operation, behind a tree selection if need be. Returns where the operation proper starts."""
    if selecting:
        memset(at, 0, OP_HEADER)
        memcpy(at, cython.address(select), 4)
        at[6] = SELECT_TREE
        at += OP_HEADER
    memcpy(at, cython.address(value_size), 4)
    at[4] = cython.cast(u8, key_size)
    at[5] = cython.cast(u8, key_size >> 8)
    at[6] = kind
    at[7] = 0
    memcpy(at + OP_HEADER, key, key_size)
    memcpy(at + OP_HEADER + key_size, value, value_size)
    return at


def _value(op):
    return PyBytes_FromStringAndSize(cython.cast(cython.p_char, op_value(op)), op_value_size(op))


def _version(ops, node):
    return (ops.nodes[node].seqno, cython.cast(cython.int, op_kind(ops.nodes[node].op)), _value(ops.nodes[node].op))


def _lookup(ops, number, key, seqno):
    """The node of the newest version of a key at a seqno, or 0."""
    data: Data = cython.cast(Data, PyBytes_AS_STRING(key))
    size: cython.size_t = PyBytes_GET_SIZE(key)
    node: u32 = ops_find(ops, number, hash64(data, size), data, size)
    return visible_node(ops.nodes, node, seqno) if node else 0


# --- memtable


@cython.cclass
class Memtable:
    """The entries of one tree in one generation or batch; batches and arenas make it."""

    def __init__(self) -> None:
        raise TypeError("a Memtable comes from a Batch or a MemtableArena")

    def get(self, key, seqno: u64):
        """The newest version of a key at a seqno, tombstones included: (seqno, kind, value) or None."""
        if type(key) is not bytes:
            require_key(key)
        node: u32 = _lookup(self.ops, self.mem.number, key, self.limit_seqno if self.limited else seqno)
        return _version(self.ops, node) if node else None

    def ordered_keys(self) -> list:
        """All keys in ascending order."""
        run: u32 = 0
        position: u32 = 0
        keys: list = []
        op: Room
        if order_update(self.ops, self.mem):
            raise MemoryError("no memory to order a memtable")
        while run < self.mem.run_count:
            op = self.ops.nodes[self.mem.runs[run].pairs[position].node].op
            keys.append(PyBytes_FromStringAndSize(cython.cast(cython.p_char, op_key(op)), op_key_size(op)))
            order_next(self.mem, cython.address(run), cython.address(position))
        return keys

    def has_key_in(self, smallest, largest) -> bool:
        """Whether any key lies in [smallest, largest], deleted ones included."""
        require_key(smallest)
        require_key(largest)
        run: u32 = 0
        position: u32 = 0
        op: Room
        size: cython.size_t = PyBytes_GET_SIZE(smallest)
        if order_update(self.ops, self.mem):
            raise MemoryError("no memory to order a memtable")
        order_seek(self.ops, self.mem, cython.cast(Data, PyBytes_AS_STRING(smallest)), size, False, cython.address(run), cython.address(position))
        if not order_valid(self.mem, run):
            return False
        op = self.ops.nodes[self.mem.runs[run].pairs[position].node].op
        return compare_keys(op_key(op), op_key_size(op), cython.cast(Data, PyBytes_AS_STRING(largest)), PyBytes_GET_SIZE(largest)) <= 0

    @property
    def tree(self):
        return self.mem.id

    @property
    def limit(self):
        return self.limit_seqno if self.limited else None

    @property
    def entries(self):
        return self.mem.entries

    @property
    def min_seqno(self):
        return self.mem.min_seqno

    @property
    def max_seqno(self):
        return self.mem.max_seqno

    @property
    def kind_mask(self):
        return self.mem.kind_mask

    def __len__(self) -> int:
        return self.mem.entries


def memtable_view(operations, number):
    memtable: Memtable = Memtable.__new__(Memtable)
    memtable.operations = operations
    memtable.ops = cython.address(operations.ops)
    memtable.mem = operations.ops.trees[number]
    return memtable


# --- batch


@cython.cclass
class Batch:
    """The operations of one write batch, in order; node n of its index is operation n, read as seqno BATCH_SEQNO + n."""

    def __cinit__(self):
        self.clear()

    def append(self, tree, key, kind, value):
        ops: cython.pointer[Ops] = cython.address(self.operations.ops)
        chunk: ChunkP = ops.chunk
        count: u32 = ops.node_count - 1 if ops.node_count else 0
        number: cython.int
        selecting: cython.bint
        need: cython.size_t
        size: cython.size_t
        at: Room
        check_entry(key, value)
        need = 2 * OP_HEADER + PyBytes_GET_SIZE(key) + PyBytes_GET_SIZE(value)
        if self.bytes + need > U32_MAX:
            raise EntryError("write batch larger than 4 GiB")
        selecting = count == 0 or ops.trees[ops.nodes[count].tree].id != tree
        number = ops_add_tree(ops, tree) if selecting else ops.nodes[count].tree
        if ops_reserve(ops, 1):
            raise MemoryError("no memory for a write batch")
        if chunk == cython.NULL or chunk.room - chunk.used < need + SLACK:
            size = _SMALL_CHUNK if chunk == cython.NULL else 2 * chunk.room if chunk.room * 2 < _CHUNK else _CHUNK
            chunk = chunk_take(size if size > need + SLACK else need + SLACK)
            if chunk == cython.NULL:
                raise MemoryError("no memory for a write batch")
            chunk.before = ops.chunk
            ops.chunk = chunk
        at = cython.cast(Room, chunk.data) + chunk.used
        at = write_operation(
            at,
            tree,
            selecting,
            cython.cast(Data, PyBytes_AS_STRING(key)),
            PyBytes_GET_SIZE(key),
            kind,
            cython.cast(Data, PyBytes_AS_STRING(value)),
            PyBytes_GET_SIZE(value),
        )
        need -= 0 if selecting else OP_HEADER
        chunk.used += need
        self.bytes += need
        ops_insert(ops, number, hash64(op_key(at), op_key_size(at)), at, BATCH_SEQNO + ops.node_count)
        return 0

    def put(self, tree: u32, key, value) -> None:
        self.append(tree, key, VALUE, value)

    def delete(self, tree: u32, key) -> None:
        self.append(tree, key, TOMBSTONE, b"")

    def add(self, tree: u32, key, kind: u8, value) -> None:
        """Append one operation. EntryError when a key, value or the batch is too large (limits in kinds.py)."""
        if kind > KIND_WRITABLE_MAX:
            raise ValueError(f"operation of unknown kind {kind}")
        self.append(tree, key, kind, value)

    def put_many(self, tree: u32, items) -> int:
        """Put every (key, value); when the iterable raises, the operations before stay. Returns how many were put."""
        count: cython.size_t = 0
        for item in items:
            if type(item) is tuple and PyTuple_GET_SIZE(item) == 2:
                self.append(tree, cython.cast(object, PyTuple_GET_ITEM(item, 0)), VALUE, cython.cast(object, PyTuple_GET_ITEM(item, 1)))
            else:
                key, value = pair_of(item)
                self.append(tree, key, VALUE, value)
            item = None  # So that zip and its like can use their tuple again.
            count += 1
        return count

    def get(self, tree: u32, key, mark=None):
        """(kind, value) of the last operation on a key, among the first `mark` operations if given; None if there is none."""
        if type(key) is not bytes:
            require_key(key)
        ops: cython.pointer[Ops] = cython.address(self.operations.ops)
        number: cython.int = ops_tree(ops, tree)
        limit: u64 = BATCH_SEQNO + cython.cast(u64, len(self) if mark is None else mark)
        node: u32 = 0 if number < 0 else _lookup(ops, number, key, limit)
        if node == 0:
            return None
        return (cython.cast(cython.int, op_kind(ops.nodes[node].op)), _value(ops.nodes[node].op))

    def mark(self) -> int:
        return len(self)

    def rollback(self, mark) -> None:
        """Forget every operation after the first `mark`."""
        ops: cython.pointer[Ops] = cython.address(self.operations.ops)
        first: u64 = mark
        end: Room
        chunk: ChunkP
        if first >= cython.cast(u64, len(self)):
            return
        ops.rollbacks += 1
        while cython.cast(u64, ops.node_count - 1) > first:
            ops_pop(ops)
        end = cython.NULL
        if first:
            end = ops.nodes[first].op + op_size(ops.nodes[first].op)
        while True:
            chunk = ops.chunk
            if end != cython.NULL and end >= cython.cast(Room, chunk.data) and end <= cython.cast(Room, chunk.data) + chunk.room:
                self.bytes -= chunk.used - (end - cython.cast(Room, chunk.data))
                chunk.used = end - cython.cast(Room, chunk.data)
                return
            self.bytes -= chunk.used
            if chunk.before == cython.NULL:
                chunk.used = 0
                return
            ops.chunk = chunk.before
            chunk_give(chunk)

    def memtable(self, tree: u32, mark=None):
        """The batch's entries of one tree, as a source of reads as of its first `mark` operations (default: all so far)."""
        number: cython.int = ops_tree(cython.address(self.operations.ops), tree)
        memtable: Memtable
        if number < 0:
            return None
        memtable = memtable_view(self.operations, number)
        memtable.limited = True
        memtable.limit_seqno = BATCH_SEQNO + cython.cast(u64, len(self) if mark is None else mark)
        return memtable

    def trees(self) -> list:
        ops: cython.pointer[Ops] = cython.address(self.operations.ops)
        i: u32
        return sorted([ops.trees[i].id for i in range(ops.tree_count) if ops.trees[i].keys])

    def payload(self) -> bytes:
        made: bytes = PyBytes_FromStringAndSize(cython.NULL, self.bytes)
        at: Room = cython.cast(Room, PyBytes_AS_STRING(made)) + self.bytes
        chunk: ChunkP = self.operations.ops.chunk
        while chunk != cython.NULL:
            at -= chunk.used
            memcpy(at, chunk.data, chunk.used)
            chunk = chunk.before
        return made

    def clear(self) -> None:
        self.operations = Operations()  # Views that are still read keep the old ones.
        self.bytes = 0

    @property
    def size(self):
        return self.bytes

    def __len__(self) -> int:
        return self.operations.ops.node_count - 1 if self.operations.ops.node_count else 0
