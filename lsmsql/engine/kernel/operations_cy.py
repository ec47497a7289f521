# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Encoded operations in chunks of memory, and the hash index over them: what batches and arenas share. operations_cy.pxd gives the C types.

Slots hold 32 bits of hash and a key node; nodes lie in the order of the operations; the versions of a key hang on its key node, newest first.
"""

from __future__ import annotations

import secrets

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.libc.stdlib import calloc, free, malloc, realloc
from cython.cimports.libc.string import memset
from cython.cimports.lsmsql.engine.kernel.checksums_cy import entry_check
from cython.cimports.lsmsql.engine.kernel.libraries_cy import hash64
from cython.cimports.lsmsql.engine.kernel.native import (
    SELECT_TREE,
    TREE_STEP,
    U32_MAX,
    Chunk,
    ChunkP,
    MemTree,
    MemTreeP,
    Node,
    NodeP,
    U32s,
    U64s,
    clz64,
    op_key,
    op_key_size,
    op_kind,
    op_size,
    op_value,
    op_value_size,
    prefetch,
    same_key,
    u8,
    u32,
    u64,
)
from cython.cimports.lsmsql.engine.kernel.order_cy import order_free, order_remove

_POOL_BYTES_MAX = cython.declare(cython.size_t, 64 << 20)
_POOLED_ROOM_MIN = cython.declare(cython.size_t, 256 << 10)
_NODES_MAX = cython.declare(u64, (1 << 32) - 2)
_STAGE = cython.declare(cython.int, 16)
_spread = cython.declare(u64, secrets.randbits(64) | 1)  # Secret, as a file may name trees that any known hash puts into one bucket.

# Chunks of memory that generations gone by have touched: a fresh page costs more than what is written into it. Under the GIL.
_pool = cython.declare(ChunkP, cython.NULL)
_pool_bytes = cython.declare(cython.size_t, 0)


def chunk_take(room):
    global _pool, _pool_bytes
    chunk: ChunkP = _pool
    before: ChunkP = cython.NULL
    while chunk != cython.NULL:
        if chunk.room >= room and chunk.room <= 4 * room:
            if before == cython.NULL:
                _pool = chunk.before
            else:
                before.before = chunk.before
            _pool_bytes -= chunk.room
            break
        before = chunk
        chunk = chunk.before
    else:
        chunk = cython.cast(ChunkP, malloc(cython.sizeof(Chunk) + room))
        if chunk == cython.NULL:
            return chunk
        chunk.room = room
    chunk.before = cython.NULL
    chunk.used = 0
    return chunk


def chunk_give(chunk):
    global _pool, _pool_bytes
    if chunk.room < _POOLED_ROOM_MIN or _pool_bytes + chunk.room > _POOL_BYTES_MAX:
        free(chunk)
        return
    chunk.before = _pool
    _pool = chunk
    _pool_bytes += chunk.room


@cython.cclass
class Operations:
    """Owns the memory of a batch or an arena."""

    def __cinit__(self):
        memset(cython.address(self.ops), 0, cython.sizeof(self.ops))

    def __dealloc__(self):
        chunk: ChunkP = self.ops.chunk
        before: ChunkP
        i: u32
        while chunk != cython.NULL:
            before = chunk.before
            chunk_give(chunk)
            chunk = before
        for i in range(self.ops.tree_count):
            order_free(self.ops.trees[i])
            free(self.ops.trees[i])
        free(self.ops.trees)
        free(self.ops.nodes)
        free(self.ops.checks)
        free(self.ops.slots)


# --- trees


def ops_tree(ops, id):
    at: u32
    if ops.tree_count == 0:
        return -1
    if ops.trees[ops.recent].id == id:
        return ops.recent
    at = _bucket(ops, id)[0]
    while at:
        if ops.trees[at - 1].id == id:
            ops.recent = at - 1
            return at - 1
        at = ops.trees[at - 1].chained
    return -1


def _bucket(ops, id):
    """Where the chain of a tree begins; there is room for trees."""
    return ops.buckets + ((id * _spread) >> (clz64(ops.tree_room) + 1))


def ops_add_tree(ops, id):
    number: cython.int = ops_tree(ops, id)
    if number >= 0:
        return number
    if ops.tree_count == ops.tree_room:
        _grow_trees(ops)
    bucket: U32s
    tree: MemTreeP = cython.cast(MemTreeP, calloc(1, cython.sizeof(MemTree)))
    if tree == cython.NULL:
        raise MemoryError("no memory for a memtable")
    tree.id = id
    tree.number = ops.tree_count
    ops.trees[ops.tree_count] = tree
    ops.tree_count += 1
    bucket = _bucket(ops, id)
    tree.chained = bucket[0]
    bucket[0] = tree.number + 1
    return tree.number


def _grow_trees(ops):
    """Twice the room for trees, and as many buckets; MemoryError leaves all as it was."""
    room: cython.size_t = cython.cast(cython.size_t, ops.tree_room) * 2 if ops.tree_room else 4
    bucket: U32s
    i: u32
    trees = cython.cast(cython.pointer[MemTreeP], realloc(ops.trees, room * (cython.sizeof(MemTreeP) + cython.sizeof(u32))))
    if trees == cython.NULL:
        raise MemoryError("no memory for a memtable")
    ops.trees = trees
    ops.buckets = cython.cast(U32s, trees + room)
    ops.tree_room = room
    memset(ops.buckets, 0, room * cython.sizeof(u32))
    for i in range(ops.tree_count):
        bucket = _bucket(ops, trees[i].id)
        trees[i].chained = bucket[0]
        bucket[0] = i + 1
    return 0


# --- the index


def ops_hash(tree_number, hash):
    return cython.cast(u32, hash >> 32) ^ (tree_number * TREE_STEP)


def ops_prefetch(ops, tree_number, hash):
    if ops.slots != cython.NULL:
        prefetch(ops.slots + (ops_hash(tree_number, hash) >> ops.shift))


def ops_find(ops, tree_number, hash, key, size):
    hash32: u32 = ops_hash(tree_number, hash)
    mask: u32
    at: u32
    slot: u64
    node: NodeP
    if ops.slots == cython.NULL:
        return 0
    mask = cython.cast(u32, U32_MAX) >> ops.shift
    at = hash32 >> ops.shift
    while True:
        slot = ops.slots[at]
        if slot == 0:
            return 0
        if cython.cast(u32, slot >> 32) == hash32:
            node = ops.nodes + cython.cast(u32, slot)
            if node.tree == tree_number and same_key(op_key(node.op), op_key_size(node.op), key, size):
                return cython.cast(u32, slot)
        at = (at + 1) & mask


def ops_reserve(ops, more):
    if cython.cast(u64, ops.node_count) + more > _NODES_MAX:
        return -1
    if ops.node_count + more + 1 > ops.node_room and _grow_nodes(ops, ops.node_count + more + 1):
        return -1
    # At most 70 % of the slots are in use.
    if ops.slots == cython.NULL or (ops.keys + more) * 10 > ((cython.cast(cython.size_t, 1) << (32 - ops.shift)) * 7):
        return _grow_slots(ops, ops.keys + more)
    return 0


def _grow_nodes(ops, need):
    room: cython.size_t = cython.cast(cython.size_t, ops.node_room) * 2
    if room < need:
        room = need
    if room < 16:
        room = 16
    if room > _NODES_MAX:
        room = _NODES_MAX
    if ops.checked:
        checks: U32s = cython.cast(U32s, realloc(ops.checks, room * 4))
        if checks == cython.NULL:
            return -1
        ops.checks = checks
    nodes: NodeP = cython.cast(NodeP, realloc(ops.nodes, room * cython.sizeof(Node)))
    if nodes == cython.NULL:
        return -1
    if ops.node_count == 0:
        memset(nodes, 0, cython.sizeof(Node))
        ops.node_count = 1
    ops.nodes = nodes
    ops.node_room = room
    return 0


def _grow_slots(ops, need):
    """Slots for `need` keys. The old ones are gone through in order, and so are the new ones: their order is that of the hashes."""
    bits: cython.int = 64 - clz64((need * 10) // 7 + 16)
    size: cython.size_t
    mask: cython.size_t
    at: cython.size_t
    i: cython.size_t
    slots: U64s
    if bits > 32:
        return -1
    if ops.slots != cython.NULL and bits < 33 - cython.cast(cython.int, ops.shift):
        bits = 33 - cython.cast(cython.int, ops.shift)
        if bits > 32:
            return -1
    size = cython.cast(cython.size_t, 1) << bits
    mask = size - 1
    slots = cython.cast(U64s, calloc(size, 8))
    if slots == cython.NULL:
        return -1
    if ops.slots != cython.NULL:
        for i in range(cython.cast(cython.size_t, 1) << (32 - ops.shift)):
            if ops.slots[i]:
                at = cython.cast(u32, ops.slots[i] >> 32) >> (32 - bits)
                while slots[at]:
                    at = (at + 1) & mask
                slots[at] = ops.slots[i]
        free(ops.slots)
    ops.slots = slots
    ops.shift = 32 - bits
    return 0


def ops_insert(ops, tree_number, hash, op, seqno):
    """Index one operation; it replaces one of the same key and seqno. Room is reserved."""
    tree: MemTreeP = ops.trees[tree_number]
    key_node: u32 = ops_find(ops, tree_number, hash, op_key(op), op_key_size(op))
    made: u32 = ops.node_count
    node: NodeP = ops.nodes + made
    key: NodeP = ops.nodes + key_node
    hash32: u32
    at: u32
    if tree.entries == 0 or seqno < tree.min_seqno:
        tree.min_seqno = seqno
    if seqno > tree.max_seqno:
        tree.max_seqno = seqno
    tree.kind_mask |= cython.cast(u32, 1) << op_kind(op)
    if key_node and ops.nodes[key.peer].seqno == seqno:
        ops.nodes[key.peer].op = op
        if ops.checked:
            ops.checks[key.peer] = entry_check(hash, op_value(op), op_value_size(op), seqno, op_kind(op))
        return
    if ops.checked:
        ops.checks[made] = entry_check(hash, op_value(op), op_value_size(op), seqno, op_kind(op))
    node.op = op
    node.seqno = seqno
    node.tree = tree_number
    node.previous = 0
    if key_node:
        node.older = key.peer
        node.peer = key_node
        key.peer = made
    else:
        node.older = 0
        node.peer = made
        node.previous = tree.last
        tree.last = made
        tree.keys += 1
        hash32 = ops_hash(tree_number, hash)
        at = hash32 >> ops.shift
        while ops.slots[at]:
            at = (at + 1) & (cython.cast(u32, U32_MAX) >> ops.shift)
        ops.slots[at] = cython.cast(u64, hash32) << 32 | made
        ops.keys += 1
    ops.node_count = made + 1
    tree.entries += 1


def ops_insert_record(ops, at, end, seqno):
    staged: cython.pointer[u8][16]
    hashes: u64[16]
    numbers: u32[16]
    count: cython.int
    i: cython.int
    number: u32 = 0
    while at < end:
        count = 0
        while at < end and count < _STAGE:
            if op_kind(at) == SELECT_TREE:
                number = ops_tree(ops, op_value_size(at))
                at += 8
                continue
            staged[count] = at
            numbers[count] = number
            hashes[count] = hash64(op_key(at), op_key_size(at))
            ops_prefetch(ops, number, hashes[count])
            count += 1
            at += op_size(at)
        for i in range(count):
            ops_insert(ops, numbers[i], hashes[i], staged[i], seqno)


def ops_pop(ops):
    last: u32 = ops.node_count - 1
    node: NodeP = ops.nodes + last
    tree: MemTreeP = ops.trees[node.tree]
    hash: u64
    if node.older:
        ops.nodes[node.peer].peer = node.older
    else:
        hash = hash64(op_key(node.op), op_key_size(node.op))
        _clear_slot(ops, ops_hash(node.tree, hash), last)
        if tree.ordered_through >= last:
            order_remove(ops, tree, last)
            tree.ordered_through = node.previous
        tree.last = node.previous
        tree.keys -= 1
    tree.entries -= 1
    tree.changes += 1
    ops.node_count = last


def _clear_slot(ops, hash, node):
    """Take a key node out of the slots, moving later ones of its cluster up so that all stay findable."""
    mask: u32 = cython.cast(u32, U32_MAX) >> ops.shift
    hole: u32 = hash >> ops.shift
    at: u32
    home: u32
    while cython.cast(u32, ops.slots[hole]) != node:
        hole = (hole + 1) & mask
    at = hole
    while True:
        at = (at + 1) & mask
        if ops.slots[at] == 0:
            break
        home = cython.cast(u32, ops.slots[at] >> 32) >> ops.shift
        if ((at - home) & mask) >= ((at - hole) & mask):
            ops.slots[hole] = ops.slots[at]
            hole = at
    ops.slots[hole] = 0
    ops.keys -= 1
