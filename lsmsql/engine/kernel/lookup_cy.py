# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Point reads over all sources of one tree, compiled: plain/table.py defines them.

get_many looks up 32 keys side by side, so that the processor's cache misses overlap.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.lsmsql.engine.kernel.block_decode_cy import blk_unpin
from cython.cimports.lsmsql.engine.kernel.filter_cy import filter_prefetch, filter_probe
from cython.cimports.lsmsql.engine.kernel.levels_cy import Levels, level_lower
from cython.cimports.lsmsql.engine.kernel.libraries_cy import hash64
from cython.cimports.lsmsql.engine.kernel.memtable_cy import Memtable
from cython.cimports.lsmsql.engine.kernel.native import (
    BLOB_POINTER,
    VALUE,
    BlkP,
    Data,
    TabP,
    block_key,
    block_key_size,
    block_kind,
    block_lower,
    block_seqno,
    block_value,
    block_value_size,
    key_start,
    op_kind,
    op_value,
    op_value_size,
    prefetch,
    same_key,
    u8,
    u32,
    u64,
    visible_node,
)
from cython.cimports.lsmsql.engine.kernel.operations_cy import ops_find, ops_prefetch
from cython.cimports.lsmsql.engine.kernel.parts_cy import filter_cached, part_cached, part_filter, part_tab
from cython.cimports.lsmsql.engine.kernel.table_cy import Table, table_find, table_lower

from .entry_error import EntryTypeError
from .values_apart import fill_values

_STAGE = cython.declare(u32, 32)


def _start(key, data, seqno):
    if type(data) is not bytes:
        raise EntryTypeError(f"key must be bytes, not {type(data).__name__}")
    key.data = cython.cast(Data, PyBytes_AS_STRING(data))
    key.size = PyBytes_GET_SIZE(data)
    key.hash = hash64(key.data, key.size)
    key.seqno = seqno
    key.found = key.apart = False
    key.tab = cython.NULL
    return 0


# A version is answered as its value, None for a tombstone, a tuple of the pointer for a value that is unread; or, if `whole`, as (seqno, kind, value).


def _ask_memtable(memtable, key, whole):
    """The version that a memtable has, noted in `key`; None if it has none."""
    node: u32 = ops_find(memtable.ops, memtable.mem.number, key.hash, key.data, key.size)
    op: cython.pointer[u8]
    if node:
        node = visible_node(memtable.ops.nodes, node, memtable.limit_seqno if memtable.limited else key.seqno)
    if node == 0:
        return None
    key.found = True
    key.best = memtable.ops.nodes[node].seqno
    op = memtable.ops.nodes[node].op
    if not whole and op_kind(op) != VALUE:
        return None
    value = PyBytes_FromStringAndSize(cython.cast(cython.p_char, op_value(op)), op_value_size(op))
    return (key.best, cython.cast(cython.int, op_kind(op)), value) if whole else value


def _take(blk, at, key, whole):
    key.found = True
    key.best = block_seqno(blk, at)
    key.apart = False
    if not whole and block_kind(blk, at) != VALUE:
        if block_kind(blk, at) != BLOB_POINTER:
            return None
        key.apart = True
        return (PyBytes_FromStringAndSize(cython.cast(cython.p_char, block_value(blk, at)), block_value_size(blk, at)),)
    value = PyBytes_FromStringAndSize(cython.cast(cython.p_char, block_value(blk, at)), block_value_size(blk, at))
    return (key.best, cython.cast(cython.int, block_kind(blk, at)), value) if whole else value


def _ask_table(tab, key, best, whole):
    """The version that a table has if it is newer than the best so far; else `best`."""
    blk: BlkP = cython.NULL
    at: u32 = 0
    table: Table = cython.cast(Table, tab.owner)
    if table_find(table, key.data, key.size, key.hash, key.seqno, cython.address(blk), cython.address(at)):
        if not key.found or block_seqno(blk, at) > key.best:
            best = _take(blk, at, key, whole)
        blk_unpin(blk)
    return best


def _find(memtables, levels, data, seqno, whole):
    key: Key
    memtable: Memtable
    best: object = None
    level: u32
    i: u32
    _start(cython.address(key), data, seqno)
    for memtable in memtables:
        if memtable is None:
            raise TypeError("memtables are Memtable, not None")
        best = _ask_memtable(memtable, cython.address(key), whole)
        if key.found:
            break
    # Ingested tables may be newer than what the memtables hold, so L0 is asked wherever it could win.
    for i in range(levels.c_levels[0].count if levels.count else 0):
        if not key.found or levels.c_levels[0].tables[i].max_seqno > key.best:
            best = _ask_table(levels.c_levels[0].tables[i], cython.address(key), best, whole)
    for level in range(1, levels.count):
        if key.found:
            break
        i = level_lower(cython.address(levels.c_levels[level]), key.data, key.size)
        if i < levels.c_levels[level].count:
            best = _ask_table(levels.c_levels[level].tables[i], cython.address(key), best, whole)
    return best


def get_entry(memtables, levels: Levels, key, seqno: u64):
    """The newest version of a key at a seqno over all sources, tombstones included: (seqno, kind, value) or None."""
    found = _find(memtables, levels, key, seqno, True)
    if found is not None and found[1] == BLOB_POINTER:
        return (found[0], VALUE, levels.apart.read(key, found[2]))
    return found


def get(memtables, levels: Levels, key, seqno: u64):
    """The value of a key at a seqno, or None."""
    found = _find(memtables, levels, key, seqno, False)
    return levels.apart.read(key, found[0]) if type(found) is tuple else found


def get_many(memtables, levels: Levels, keys, seqno: u64) -> list:
    """The values of keys at one seqno, in the order of the keys; None where there is none."""
    wanted: list = list(keys)  # Ours: what lies in it stays while tables are read.
    out: list = [None] * len(wanted)
    total: cython.size_t = len(wanted)
    first: cython.size_t = 0
    apart: cython.bint = False
    while first < total:
        if _stage(memtables, levels, wanted, first, _STAGE if total - first > _STAGE else total - first, seqno, out):
            apart = True
        first += _STAGE
    if apart:
        fill_values(levels.apart, wanted, out)
    return out


# --- stages


def _stage(memtables, levels, keys, first, count, seqno, out):
    """Look up at most _STAGE keys, source by source. Returns whether some values are unread."""
    key: Key[32]
    i: u32
    n: u32
    level: u32
    for i in range(count):
        _start(cython.address(key[i]), keys[first + i], seqno)
    _stage_memtables(memtables, key, count, first, out)
    for n in range(levels.c_levels[0].count if levels.count else 0):
        for i in range(count):
            key[i].tab = cython.NULL
            if not key[i].found or levels.c_levels[0].tables[n].max_seqno > key[i].best:
                key[i].tab = levels.c_levels[0].tables[n]
        _stage_tables(key, count, first, out)
    for level in range(1, levels.count):
        if levels.c_levels[level].count == 0:
            continue
        for i in range(count):
            key[i].tab = cython.NULL
            if not key[i].found:
                n = level_lower(cython.address(levels.c_levels[level]), key[i].data, key[i].size)
                if n < levels.c_levels[level].count:
                    key[i].tab = levels.c_levels[level].tables[n]
        _stage_tables(key, count, first, out)
    for i in range(count):
        if key[i].apart:
            return 1
    return 0


def _stage_memtables(memtables, keys, count, first, out):
    memtable: Memtable
    i: u32
    for memtable in memtables:
        if memtable is None:
            raise TypeError("memtables are Memtable, not None")
        for i in range(count):
            ops_prefetch(memtable.ops, memtable.mem.number, keys[i].hash)
        for i in range(count):
            if not keys[i].found:
                value = _ask_memtable(memtable, cython.address(keys[i]), False)
                if keys[i].found:
                    out[first + i] = value
    return 0


def _aim(key):
    """Find the block that a key would lie in; False if its table has it for certain not."""
    tab: TabP = key.tab
    if tab.parts:
        return _aim_in_parts(key)
    if not filter_probe(cython.address(tab.filter), key.hash):
        return False
    key.piece = tab
    key.ordinal = table_lower(tab, key.data, key.size)
    if key.ordinal == tab.blocks:
        return False
    prefetch(tab.cached[key.ordinal])
    return True


def _aim_in_parts(key):
    """_aim at a table whose index is partitioned, as far as the partitions are at hand."""
    root: TabP = key.tab
    blk: BlkP
    number: u32 = table_lower(root, key.data, key.size)
    key.piece = cython.NULL
    if number == root.blocks:
        return False
    if root.filtered:
        blk = filter_cached(root, number)
        if blk == cython.NULL:
            return True
        blk.referenced = True
        if not filter_probe(part_filter(blk), key.hash):
            return False
    elif not filter_probe(cython.address(root.filter), key.hash):
        return False
    blk = part_cached(root, number)
    if blk != cython.NULL:
        blk.referenced = True
        key.piece = part_tab(blk)
        key.ordinal = table_lower(key.piece, key.data, key.size)  # Below its blocks: its last key is the top level's.
        prefetch(key.piece.cached[key.ordinal])
    return True


def _stage_tables(keys, count, first, out):
    """Ask each key's `tab`. Cached blocks first, stage by stage; what needs reading, or lies across blocks, one by one behind."""
    blk: BlkP
    at: u32
    i: u32
    for i in range(count):
        if keys[i].tab != cython.NULL:
            filter_prefetch(cython.address(keys[i].tab.filter), keys[i].hash)
    for i in range(count):
        if keys[i].tab != cython.NULL and not _aim(cython.address(keys[i])):
            keys[i].tab = cython.NULL
    for i in range(count):
        if keys[i].tab != cython.NULL and keys[i].piece != cython.NULL:
            blk = keys[i].piece.cached[keys[i].ordinal]
            if blk != cython.NULL:
                prefetch(cython.cast(Data, blk.key_offsets) + blk.count)
                prefetch(blk.keys + key_start(blk, 0) + 8 * cython.cast(cython.size_t, blk.count))
    for i in range(count):
        if keys[i].tab != cython.NULL:
            blk = cython.NULL if keys[i].piece == cython.NULL else keys[i].piece.cached[keys[i].ordinal]
            keys[i].blk = blk
            if blk != cython.NULL:
                keys[i].position = at = block_lower(blk, keys[i].data, keys[i].size)
                if at < blk.count:
                    prefetch(block_value(blk, at))
                    prefetch(block_value(blk, at) + 64)
    # Nothing from _aim to the end of this loop lets go of the GIL, so blocks and partitions stay where they are without a pin.
    for i in range(count):
        if keys[i].tab != cython.NULL and keys[i].blk != cython.NULL and _settle(cython.address(keys[i])):
            if keys[i].tab != cython.NULL:
                out[first + i] = _take(keys[i].blk, keys[i].position, cython.address(keys[i]), False)
            keys[i].tab = cython.NULL
    for i in range(count):
        if keys[i].tab != cython.NULL:
            out[first + i] = _ask_table(keys[i].tab, cython.address(keys[i]), out[first + i], False)
    return 0


def _settle(key):
    """Go on from the first entry of a cached block that is not below the key: to the version to take, or to none (`tab` is then NULL).

    False if the versions go on in the next block."""
    blk: BlkP = key.blk
    at: u32 = key.position
    table: Table = cython.cast(Table, key.tab.owner)
    while at < blk.count:
        if not same_key(block_key(blk, at), block_key_size(blk, at), key.data, key.size):
            key.tab = cython.NULL
            break
        if block_seqno(blk, at) <= key.seqno:
            key.position = at
            if key.found and block_seqno(blk, at) <= key.best:
                key.tab = cython.NULL
            break
        at += 1
    else:
        return False
    table.cache.hits += 1
    blk.referenced = True
    return True
