# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The arena of a generation, compiled: plain/memtable.py defines what it does, arena_cy.pxd gives the C types."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.cpython.memoryview import PyMemoryView_FromMemory
from cython.cimports.cpython.tuple import PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memcpy
from cython.cimports.lsmsql.engine.kernel.aes_gcm_cy import OVERHEAD, NativeCipher, Piece, context_free, native_cipher, piece_seal
from cython.cimports.lsmsql.engine.kernel.libraries_cy import hash64
from cython.cimports.lsmsql.engine.kernel.native import (
    KIND_WRITABLE_MAX,
    OP_HEADER,
    RECORD_HEADER,
    SELECT_TREE,
    SLACK,
    TOMBSTONE,
    U32_MAX,
    VALUE,
    Chunk,
    ChunkP,
    Data,
    Node,
    Ops,
    Room,
    op_key_size,
    op_size,
    op_value_size,
    u8,
    u16,
    u32,
    u64,
)
from cython.cimports.lsmsql.engine.kernel.operations_cy import (
    Operations,
    chunk_take,
    ops_add_tree,
    ops_insert_record,
    ops_prefetch,
    ops_reserve,
    ops_tree,
)
from cython.cimports.lsmsql.engine.kernel.memtable_cy import Memtable, check_entry, memtable_view, write_operation
from cython.cimports.lsmsql.engine.kernel.record_cy import record_fill

from ..storage import encryption
from .entry_error import EntryError, pair_of

_SECTION_RECORD = cython.declare(u8, 0x80)  # as in storage/record_log.py
_FLAG_ENCRYPTED = cython.declare(u16, 1)
_CHUNK = cython.declare(cython.size_t, (1 << 20) - 64)
_ENTRY_BYTES = cython.declare(cython.size_t, 164)  # of record and index, at 100-byte values: what arenas are sized for


def _move_record(ops, start, need):
    """A newest chunk in which the open record has room to grow to `need` bytes; where it starts is then 0. NULL: no memory."""
    chunk: ChunkP = ops.chunk
    room: cython.size_t = 2 * need + SLACK if 2 * need + SLACK > _CHUNK else _CHUNK
    made: ChunkP
    if chunk != cython.NULL and start == 0:
        made = cython.cast(ChunkP, realloc(chunk, cython.sizeof(Chunk) + room))  # Nothing but the open record lies in it, and no node points there.
        if made != cython.NULL:
            made.room = room
            ops.chunk = made
        return made
    made = chunk_take(room)
    if made == cython.NULL:
        return made
    if chunk != cython.NULL:
        memcpy(made.data, cython.cast(Room, chunk.data) + start, chunk.used - start)
        made.used = chunk.used - start
        chunk.used = start
    made.before = chunk
    ops.chunk = made
    return made


@cython.cclass
class MemtableArena:
    """The operations of one generation in commit order, as the WAL holds them, indexed by tree."""

    def __cinit__(self, capacity: u64, checked: cython.bint = False):
        self.operations = Operations()
        self.operations.ops.checked = checked
        self.memtables = {}
        self.capacity = capacity
        self.size = self.slot_bytes = 0
        self.open = False
        entries: u64 = capacity // _ENTRY_BYTES
        # More than enough for entries of the usual size, so that no commit waits for the index to be made larger.
        if ops_reserve(cython.address(self.operations.ops), entries if entries < (1 << 24) else (1 << 24)):
            raise MemoryError("no memory for an arena")

    def __dealloc__(self):
        context_free(cython.address(self.cipher))
        free(self.sealed)

    def reserve(self, more):
        """Where the next `more` bytes of the open record go; opens one if there is none."""
        ops: cython.pointer[Ops] = cython.address(self.operations.ops)
        need: cython.size_t = more
        if not self.open:
            self.start = 0 if ops.chunk == cython.NULL else ops.chunk.used
            self.pending = 0
            self.selected = -1
            need += RECORD_HEADER
        if ops.chunk == cython.NULL or ops.chunk.room - ops.chunk.used < need + SLACK:
            used: cython.size_t = 0 if ops.chunk == cython.NULL else ops.chunk.used - self.start
            if _move_record(ops, self.start, used + need) == cython.NULL:
                raise MemoryError("no memory for a commit")
            self.start = 0
        if not self.open:
            self.open = True
            ops.chunk.used += RECORD_HEADER
        return cython.cast(Room, ops.chunk.data) + ops.chunk.used

    def append_one(self, tree, key, kind, value):
        at: Room
        need: cython.size_t
        selecting: cython.bint
        check_entry(key, value)
        need = OP_HEADER + PyBytes_GET_SIZE(key) + PyBytes_GET_SIZE(value)
        at = self.reserve(need + OP_HEADER)
        if self.operations.ops.chunk.used - self.start - RECORD_HEADER + need + OP_HEADER > U32_MAX:
            raise EntryError("write batch larger than 4 GiB")
        selecting = self.selected != tree
        if selecting:
            ops_add_tree(cython.address(self.operations.ops), tree)
        write_operation(
            at,
            tree,
            selecting,
            cython.cast(Data, PyBytes_AS_STRING(key)),
            PyBytes_GET_SIZE(key),
            kind,
            cython.cast(Data, PyBytes_AS_STRING(value)),
            PyBytes_GET_SIZE(value),
        )
        self.operations.ops.chunk.used += need + (OP_HEADER if selecting else 0)
        self.selected = tree
        self.pending += 1
        return 0

    def begin(self) -> None:
        """Open a record, dropping one that is open."""
        self.abandon()
        self.reserve(0)

    def put(self, tree: u32, key, value) -> None:
        self.add_one(tree, key, VALUE, value)

    def delete(self, tree: u32, key) -> None:
        self.add_one(tree, key, TOMBSTONE, b"")

    def add(self, tree: u32, key, kind: u8, value) -> None:
        """Append one operation to the open record; errors as Batch.add."""
        self.add_one(tree, key, kind, value)

    def add_one(self, tree, key, kind, value):
        """`append_one`, checked; the slot that `index` will look at is on its way from memory while the record is sealed and written."""
        ops: cython.pointer[Ops] = cython.address(self.operations.ops)
        if kind > KIND_WRITABLE_MAX:
            raise ValueError(f"operation of unknown kind {kind}")
        self.append_one(tree, key, kind, value)
        ops_prefetch(ops, ops_tree(ops, tree), hash64(cython.cast(Data, PyBytes_AS_STRING(key)), PyBytes_GET_SIZE(key)))
        return 0

    def put_many(self, tree: u32, items) -> int:
        """Put every (key, value) into the open record. Returns how many there were."""
        count: cython.size_t = 0
        for item in items:
            if type(item) is tuple and PyTuple_GET_SIZE(item) == 2:
                self.append_one(tree, cython.cast(object, PyTuple_GET_ITEM(item, 0)), VALUE, cython.cast(object, PyTuple_GET_ITEM(item, 1)))
            else:
                key, value = pair_of(item)
                self.append_one(tree, key, VALUE, value)
            item = None  # So that zip and its like can use their tuple again.
            count += 1
        return count

    def append(self, payload) -> int:
        """Append an encoded payload (a batch's, or a WAL record's). Returns the number of operations; ValueError if it is malformed."""
        data: bytes = payload if type(payload) is bytes else bytes(payload)
        size: cython.size_t = PyBytes_GET_SIZE(data)
        count: cython.size_t = 0
        at: Room
        _check_payload(cython.address(self.operations.ops), cython.cast(Data, PyBytes_AS_STRING(data)), size, cython.address(count))
        at = self.reserve(size)
        if self.operations.ops.chunk.used - self.start - RECORD_HEADER + size > U32_MAX:
            raise EntryError("write batch larger than 4 GiB")
        memcpy(at, PyBytes_AS_STRING(data), size)
        self.operations.ops.chunk.used += size
        self.pending += count
        self.selected = -1
        return count

    def payload(self):
        """The open record's payload, for sealing elsewhere (encryption): a view, good until the next `begin`."""
        chunk: ChunkP = self.operations.ops.chunk
        if not self.open:
            return b""
        self.reserve_index()
        return PyMemoryView_FromMemory(
            cython.cast(cython.p_char, chunk.data) + self.start + RECORD_HEADER, chunk.used - self.start - RECORD_HEADER, 0x100
        )

    def reserve_index(self):
        """Room in the index for the open record, before its bytes go to the WAL: `index` must not fail."""
        if ops_reserve(cython.address(self.operations.ops), self.pending):
            raise MemoryError("no memory to index a commit")
        return 0

    def seal(self, kind: u16, log_id: u64, ordinal: u64, seqno: u64, previous: u64, time: u64):
        """The open record as the WAL takes it, unencrypted: a view of its header, filled in, and payload, good until the next `begin`."""
        return self.seal_open(kind, log_id, ordinal, seqno, previous, time)

    def put_record(self, tree: u32, kind: u8, key, value, record_kind: u16, log_id: u64, ordinal: u64, seqno: u64, previous: u64, time: u64):
        """`add` and `seal` of a record of one operation."""
        self.add_one(tree, key, kind, value)
        return self.seal_open(record_kind, log_id, ordinal, seqno, previous, time)

    def put_sealed(self, tree: u32, kind: u8, key, value, record_kind: u16, cipher, ordinal: u64, seqno: u64, previous: u64, time: u64):
        """`add`, and the record of this one operation as an encrypted WAL takes it: a view, good until the next call."""
        native: NativeCipher = native_cipher(cipher)
        piece: Piece
        self.add_one(tree, key, kind, value)
        chunk: ChunkP = self.operations.ops.chunk
        payload: Room = cython.cast(Room, chunk.data) + self.start + RECORD_HEADER
        size: cython.size_t = chunk.used - self.start - RECORD_HEADER
        log_id: u64
        self.reserve_index()
        if self.sealed_room < RECORD_HEADER + OVERHEAD + size:
            made: cython.p_void = realloc(self.sealed, RECORD_HEADER + OVERHEAD + 2 * size)
            if made == cython.NULL:
                raise MemoryError("no memory for a commit")
            self.sealed = cython.cast(Room, made)
            self.sealed_room = RECORD_HEADER + OVERHEAD + 2 * size
        piece.key = cython.address(native.key)
        piece.section, piece.ordinal, piece.codec, piece.dictionary = _SECTION_RECORD + record_kind, ordinal, 0, 0
        nonce: bytes = encryption.new_nonce()
        fresh: Data = cython.cast(Data, PyBytes_AS_STRING(nonce))
        if piece_seal(cython.address(self.cipher), cython.address(piece), fresh, payload, size, self.sealed + RECORD_HEADER):
            raise MemoryError("no memory to encrypt a commit")
        memcpy(cython.address(log_id), native.key.file + 16, 8)
        size += RECORD_HEADER + OVERHEAD
        record_fill(self.sealed, size, record_kind, _FLAG_ENCRYPTED, log_id, ordinal, seqno, previous, native.key.epoch, time)
        return PyMemoryView_FromMemory(cython.cast(cython.p_char, self.sealed), size, 0x100)

    def seal_open(self, kind, log_id, ordinal, seqno, previous, time):
        at: Room = self.reserve(0)
        chunk: ChunkP = self.operations.ops.chunk
        size: cython.size_t = chunk.used - self.start
        self.reserve_index()
        at = cython.cast(Room, chunk.data) + self.start
        record_fill(at, size, kind, 0, log_id, ordinal, seqno, previous, 0, time)
        return PyMemoryView_FromMemory(cython.cast(cython.p_char, at), size, 0x100)

    def index(self, seqno: u64) -> None:
        """Make the open record's operations readable at `seqno`, and close it."""
        chunk: ChunkP = self.operations.ops.chunk
        start: Room
        slot_bytes: u64
        if not self.open:
            return
        self.reserve_index()
        start = cython.cast(Room, chunk.data) + self.start + RECORD_HEADER
        ops_insert_record(cython.address(self.operations.ops), start, cython.cast(Room, chunk.data) + chunk.used, seqno)
        slot_bytes = cython.cast(u64, 8) << (32 - self.operations.ops.shift)
        self.size += chunk.used - self.start + (cython.sizeof(Node) + 4 * self.operations.ops.checked) * self.pending + slot_bytes - self.slot_bytes
        self.slot_bytes = slot_bytes
        self.open = False
        self.pending = 0

    def abandon(self) -> None:
        """Drop the open record."""
        if self.open:
            self.operations.ops.chunk.used = self.start
        self.open = False
        self.pending = 0

    def memtable(self, tree: u32):
        memtable: Memtable = self.memtables.get(tree)
        number: cython.int
        if memtable is None:
            number = ops_tree(cython.address(self.operations.ops), tree)
            if number < 0 or self.operations.ops.trees[number].entries == 0:
                return None
            memtable = self.memtables[tree] = memtable_view(self.operations, number)
        return memtable

    def trees(self) -> list:
        ops: cython.pointer[Ops] = cython.address(self.operations.ops)
        i: u32
        return sorted([ops.trees[i].id for i in range(ops.tree_count) if ops.trees[i].entries])

    @property
    def full(self):
        return self.size >= self.capacity

    @property
    def entries(self):
        total: u64 = 0
        i: u32
        for i in range(self.operations.ops.tree_count):
            total += self.operations.ops.trees[i].entries
        return total


def _check_payload(ops, payload, size, count):
    """Check that bytes are operations, count them and make their trees known."""
    at: cython.size_t = 0
    header: cython.size_t
    known: cython.bint = False
    while at < size:
        header = at
        if size - at < OP_HEADER:
            raise ValueError(f"operation header cut short at byte {header} of the payload")
        at += OP_HEADER
        if payload[header + 6] == SELECT_TREE and op_key_size(payload + header) == 0 and payload[header + 7] == 0:
            ops_add_tree(ops, op_value_size(payload + header))
            known = True
            continue
        if payload[header + 6] > KIND_WRITABLE_MAX or payload[header + 7] or not known:
            raise ValueError(f"unknown operation at byte {header} of the payload")
        if size - at < cython.cast(cython.size_t, op_key_size(payload + header)) + op_value_size(payload + header):
            raise ValueError(f"operation runs past the payload at byte {header}")
        at = header + op_size(payload + header)
        count[0] += 1
    return 0
