# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The table being written: blocks are encoded, compressed, framed and described here, without the GIL (the twin of plain's `_OpenTable`).

Functions that say `-> code` return 0, or the code of block_decode_cy for what failed: memory, or a block beyond 4 GiB.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memcpy, memmove, memset
from cython.cimports.lsmsql.engine.kernel.block_decode_cy import BLOCK_NO_MEMORY

from ..storage.compression import LEAD_BYTES_MAX
from .chunk import TableSummary, changed_entry
from .kinds import FilterKind
from .partitions import PARTITION_ENTRIES, PARTITION_FILTER_BYTES, Partition

_BLOCK_OVERHEAD = cython.declare(u64, 27)  # counted for each block against index_bytes
_LEAD_MAX = cython.declare(u32, LEAD_BYTES_MAX)
_PART_ENTRIES = cython.declare(u64, PARTITION_ENTRIES)
_PART_FILTER = cython.declare(u64, PARTITION_FILTER_BYTES)


def table_carry(table, check):
    n: u32 = table.builder.view.count
    if n > table.carried_room and _reserve(cython.cast(cython.pp_void, cython.address(table.carried)), cython.address(table.carried_room), n, 4):
        return BLOCK_NO_MEMORY
    table.carried[n - 1] = check
    return 0


def table_changed(table):
    if not table.changed:
        return None
    view: cython.pointer[Blk] = cython.address(table.builder.view)
    return changed_entry(cython.cast(cython.p_char, block_key(view, table.changed_at))[: block_key_size(view, table.changed_at)])


def table_add_key(table, key, size):
    """Count one user key of the table, its first entry being about to be committed -> code."""
    if table.keys == 0:
        if _resize(cython.cast(cython.pp_void, cython.address(table.smallest)), size):
            return BLOCK_NO_MEMORY
        memcpy(table.smallest, key, size)
        table.smallest_size = size
    table.keys += 1
    code: cython.int = _add_hash(table, key, size)
    return _add_prefix(table, key, size) if code == 0 and table.prefix_code else code


def _add_hash(table, key, size):
    if _reserve(cython.cast(cython.pp_void, cython.address(table.hashes)), cython.address(table.hash_room), table.hash_count + 1, 8):
        return BLOCK_NO_MEMORY
    table.hashes[table.hash_count] = hash64(key, size)
    table.hash_count += 1
    return 0


def _add_prefix(table, key, size):
    """The prefix of a key, if it is not that of the key before; the key itself is there already."""
    length: cython.size_t = prefix_length(table.prefix_code, key, size)
    if length == 0 or same_key(table.prefix, table.prefix_size, key, length):
        return 0
    if _reserve(cython.cast(cython.pp_void, cython.address(table.prefix)), cython.address(table.prefix_room), length, 1):
        return BLOCK_NO_MEMORY
    memcpy(table.prefix, key, length)
    table.prefix_size = length
    return _add_hash(table, key, length) if length < size else 0


def table_close_block(table, count):
    """Make a block of the first `count` entries of the builder; what lies behind begins the next -> code."""
    view: Blk = table.builder.view
    blk: cython.pointer[Blk] = cython.address(view)
    sealed: Sealed
    code: cython.int
    view.count = count
    if table.deferred:
        return _defer_block(table, blk) or _keep_rest(table, count)
    if _reserve(cython.cast(cython.pp_void, cython.address(table.raw)), cython.address(table.raw_room), _bound(table, blk), 1):
        return BLOCK_NO_MEMORY
    raw_size: cython.size_t = _encode(table, blk, table.raw)
    if raw_size == 0:
        return BLOCK_NO_MEMORY
    room: cython.size_t = sealing_room(cython.address(table.sealing), raw_size)
    if _reserve(cython.cast(cython.pp_void, cython.address(table.out)), cython.address(table.out_room), table.out_size + room, 1):
        return BLOCK_NO_MEMORY
    number: u32 = table.blocks
    if sealing_block(cython.address(table.sealing), number, table.raw, raw_size, cython.NULL, table.out + table.out_size, cython.address(sealed)):
        return BLOCK_NO_MEMORY
    table.out_size += sealed.written
    table.payload_bytes += sealed.payload
    code = _append_index(table, blk, raw_size, sealed.frame, sealed.codec)
    table.settled = table.blocks
    return code or _keep_rest(table, count)


def _defer_block(table, blk):
    """The raw block at the end of the chunk; its frame is not known yet -> code."""
    bound: cython.size_t = _bound(table, blk)
    if _reserve(cython.cast(cython.pp_void, cython.address(table.out)), cython.address(table.out_room), table.out_size + bound, 1):
        return BLOCK_NO_MEMORY
    raw_size: cython.size_t = _encode(table, blk, table.out + table.out_size)
    if raw_size == 0:
        return BLOCK_NO_MEMORY
    table.out_size += raw_size
    table.payload_bytes += raw_size
    table.unsettled_raw += raw_size
    return _append_index(table, blk, raw_size, 0, 0)


def _bound(table, blk):
    """Room that the encoded block may take."""
    bound: cython.size_t = rows_encode_bound(blk, table.restart_interval, table.hash_ratio) if table.restart_interval else block_encode_bound(blk)
    return bound + 4 * cython.cast(cython.size_t, blk.count) if table.checked else bound


def _encode(table, blk, out):
    """The block in the layout of the table. Returns its size; 0: an entry has changed."""
    size: cython.size_t = rows_encode(blk, table.restart_interval, table.hash_ratio, out) if table.restart_interval else block_encode(blk, out)
    fine: u32
    if not table.checked:
        return size
    fine = checks_append(blk, table.carried if table.carrying else cython.NULL, out, size)
    if fine < blk.count:
        table.changed = True
        table.changed_at = fine
        return 0
    return size + 4 * cython.cast(cython.size_t, blk.count)


def _append_index(table, blk, raw_size, frame_size, codec):
    i: u32
    n: u32 = table.blocks
    low: u64 = ~cython.cast(u64, 0)
    high: u64 = 0
    mask: u8 = DUPLICATES if table.duplicates else 0
    last_end: u32 = table.last_ends[n - 1] if n else 0
    before: u32 = table.last_ends[n - 2] if n > 1 else 0
    if n + 1 >= table.block_room and _grow_blocks(table):
        return BLOCK_NO_MEMORY
    for i in range(blk.count):
        seqno: u64 = cython.cast(U64s, blk.seqnos)[i]
        low = seqno if seqno < low else low
        high = seqno if seqno > high else high
        mask |= cython.cast(u8, 1 << (blk.kinds[i] & 7))
        table.tombstones += blk.kinds[i] == TOMBSTONE
    if n and same_key(table.last_keys + before, last_end - before, block_key(blk, 0), block_key_size(blk, 0)):
        table.masks[n - 1] |= DUPLICATES
        mask |= DUPLICATES
    size: u32 = block_key_size(blk, blk.count - 1)
    if _reserve(cython.cast(cython.pp_void, cython.address(table.last_keys)), cython.address(table.last_room), last_end + size, 1):
        return BLOCK_NO_MEMORY
    memcpy(table.last_keys + last_end, block_key(blk, blk.count - 1), size)
    table.last_ends[n] = last_end + size
    table.sizes[n] = frame_size
    table.raw_lengths[n] = raw_size
    table.codecs[n] = codec
    table.entries[n] = blk.count
    table.minima[n] = low
    table.maxima[n] = high
    table.masks[n] = mask
    table.blocks = n + 1
    table.total += blk.count
    table.raw_bytes += key_start(blk, blk.count) + value_start(blk, blk.count)
    table.data_bytes += frame_size
    table.index_bytes += _BLOCK_OVERHEAD + size
    if mask & (1 << BLOB_POINTER) and _keep_pointers(table, blk):
        return BLOCK_NO_MEMORY
    return _end_block(table, size) if table.partition_bytes else 0


def _keep_pointers(table, blk):
    """Note the block's pointers, for the table's summary; True: no memory."""
    i: u32
    need: cython.size_t = table.pointers_size + POINTER_BYTES * cython.cast(cython.size_t, blk.count)
    if _reserve(cython.cast(cython.pp_void, cython.address(table.pointers)), cython.address(table.pointers_room), need, 1):
        return 1
    for i in range(blk.count):
        if blk.kinds[i] == BLOB_POINTER and block_value_size(blk, i) == POINTER_BYTES:
            memcpy(table.pointers + table.pointers_size, block_value(blk, i), POINTER_BYTES)
            table.pointers_size += POINTER_BYTES
    return 0


def _end_block(table, key_size):
    """Close the open partition if it is long enough -> code."""
    n: u32 = table.parts
    keys: u64 = table.hash_count - (table.ends[2 * n - 1] if n else 0)
    table.open_bytes += _BLOCK_OVERHEAD + key_size
    table.open_entries += table.entries[table.blocks - 1]
    if table.blocks % table.sealing.span:
        return 0  # A block's parts lie in one partition.
    if table.open_bytes < table.partition_bytes and table.open_entries < _PART_ENTRIES and keys * table.filter_bits // 8 < _PART_FILTER:
        return 0
    return _end_partition(table, key_size)


def _end_partition(table, key_size):
    n: cython.size_t = table.parts
    if _reserve(cython.cast(cython.pp_void, cython.address(table.ends)), cython.address(table.ends_room), 2 * n + 2, 8):
        return BLOCK_NO_MEMORY
    table.ends[2 * n] = table.blocks
    table.ends[2 * n + 1] = table.hash_count
    table.prefix_size = 0  # A partition's filter has the prefixes of all keys that begin in it.
    table.parts = n + 1
    table.top_bytes += _BLOCK_OVERHEAD + key_size
    table.open_bytes = table.open_entries = 0
    return 0


def _filter_bytes(table):
    return table.hash_count * table.filter_bits // 8


def table_index_ends(table):
    if table.partition_bytes == 0:
        return table.index_bytes >= table.index_limit
    return table.top_bytes >= table.index_limit or table.index_bytes // 16 >= table.index_limit


def _frame_bytes(table):
    """Of all blocks; those that are being sealed are taken to shrink as the others did, or not at all."""
    if table.unsettled_raw == 0:
        return table.data_bytes
    if table.settled_raw == 0:
        return table.unsettled_raw + (table.blocks - table.settled) * (FRAME_HEADER + table.sealing.overhead)
    rate: cython.double = cython.cast(cython.double, table.data_bytes) / cython.cast(cython.double, table.settled_raw)
    return table.data_bytes + cython.cast(u64, cython.cast(cython.double, table.unsettled_raw) * rate)


def table_full(table):
    if _frame_bytes(table) >= table.table_bytes or table_index_ends(table):
        return True
    return (table.partition_bytes == 0 or table.full_filter) and _filter_bytes(table) >= table.filter_limit


def _spills(table):
    if table.partition_bytes == 0:
        return False
    return table.index_bytes > table.spill_bytes or (not table.full_filter and _filter_bytes(table) >= table.filter_limit)


def _keep_rest(table, first):
    """Begin the next block with the builder's entries from `first` on."""
    old: cython.pointer[Blk] = cython.address(table.builder.view)
    spare: cython.pointer[Builder] = cython.address(table.spare)
    i: u32
    code: cython.int = 0
    table.size = table.committed = 0
    table.duplicates = False
    if table.carrying:
        memmove(table.carried, table.carried + first, 4 * cython.cast(cython.size_t, old.count - first))
    if first < old.count:
        builder_clear(cython.address(table.spare))
        for i in range(first, old.count):
            key: Data = block_key(old, i)
            size: u32 = block_value_size(old, i)
            code = builder_append(spare, key, block_key_size(old, i), block_seqno(old, i), block_kind(old, i), block_value(old, i), size)
            if code:
                return code
        swapped: Builder = table.builder
        table.builder = table.spare
        table.spare = swapped
    else:
        builder_clear(cython.address(table.builder))
    return 0


# --- memory


def _resize(memory, size):
    """Give the buffer whose address is at `memory` room for `size` bytes and SLACK; True: no memory, nothing changed."""
    found: cython.p_void = realloc(memory[0], size + SLACK)
    if found == cython.NULL:
        return True
    memory[0] = found
    return False


def _reserve(memory, room, need, width):
    """Room for `need` items of `width` bytes; True: no memory."""
    size: cython.size_t = need + need // 2 + 256
    if memory[0] != cython.NULL and need <= room[0]:
        return False
    if _resize(memory, size * width):
        return True
    room[0] = size
    return False


def _grow_blocks(table):
    room: cython.size_t = 2 * cython.cast(cython.size_t, table.block_room) + 64
    if (
        _resize(cython.cast(cython.pp_void, cython.address(table.sizes)), room * 4)
        or _resize(cython.cast(cython.pp_void, cython.address(table.entries)), room * 4)
        or _resize(cython.cast(cython.pp_void, cython.address(table.raw_lengths)), room * 4)
        or _resize(cython.cast(cython.pp_void, cython.address(table.last_ends)), room * 4)
        or _resize(cython.cast(cython.pp_void, cython.address(table.minima)), room * 8)
        or _resize(cython.cast(cython.pp_void, cython.address(table.maxima)), room * 8)
        or _resize(cython.cast(cython.pp_void, cython.address(table.masks)), room)
        or _resize(cython.cast(cython.pp_void, cython.address(table.codecs)), room)
    ):
        return BLOCK_NO_MEMORY
    table.block_room = room
    return 0


def table_next_chunk(table):
    """The finished blocks were handed out."""
    table.out_size = 0
    table.payload_bytes = 0
    table.first_block = table.blocks


def table_start(table):
    """Begin another table; its first entries may be in the builder already."""
    table.blocks = table.settled = 0
    table.settled_raw = table.unsettled_raw = 0
    table.keys = table.hash_count = table.prefix_size = table.pointers_size = table.parts = 0
    table.open_bytes = table.open_entries = table.top_bytes = 0
    table.total = table.tombstones = table.raw_bytes = table.data_bytes = table.index_bytes = 0
    table_next_chunk(table)


def table_free(table):
    builder_free(cython.address(table.builder))
    builder_free(cython.address(table.spare))
    sealing_free(cython.address(table.sealing))
    free(table.raw)
    free(table.carried)
    free(table.pointers)
    free(table.sizes)
    free(table.entries)
    free(table.raw_lengths)
    free(table.minima)
    free(table.maxima)
    free(table.masks)
    free(table.codecs)
    free(table.last_ends)
    free(table.last_keys)
    free(table.hashes)
    free(table.ends)
    free(table.prefix)
    free(table.smallest)
    free(table.out)
    memset(table, 0, cython.sizeof(OpenTable))


# --- what Python sees, under the GIL


def table_out(table):
    """What the chunk's blocks are: frames, or raw."""
    return PyBytes_FromStringAndSize(cython.cast(cython.p_char, table.out), table.out_size)


def table_raw_lengths(table):
    """Of the chunk's blocks, u32 each."""
    return PyBytes_FromStringAndSize(cython.cast(cython.p_char, table.raw_lengths + table.first_block), 4 * (table.blocks - table.first_block))


def table_lead(table, before):
    n: u32
    lead: u32 = table.blocks - table.blocks % table.sealing.span
    at: cython.size_t = 0
    if lead == table.blocks:
        return b""
    if lead < table.first_block:
        return before
    for n in range(table.first_block, lead):
        at += table.raw_lengths[n]
    if table.raw_lengths[lead] > _LEAD_MAX:
        return b""
    return PyBytes_FromStringAndSize(cython.cast(cython.p_char, table.out + at), table.raw_lengths[lead])


def table_payloads(table):
    """The chunk's payloads, to be sealed: (codec, raw length, bytes)."""
    first: u32 = table.first_block
    return sealing_payloads(
        cython.address(table.sealing), table.out, table.sizes + first, table.raw_lengths + first, table.codecs + first, table.blocks - first
    )


def table_settle(table, sizes, codecs):
    """What has become of the next blocks that were handed out raw: the sizes of their frames (u32 each), their codecs."""
    count: cython.size_t = PyBytes_GET_SIZE(codecs)
    n: u32 = table.settled
    i: cython.size_t
    if cython.cast(cython.size_t, PyBytes_GET_SIZE(sizes)) != 4 * count or count > cython.cast(cython.size_t, table.blocks - n):
        raise ValueError("there are no such blocks to settle")
    memcpy(table.sizes + n, PyBytes_AS_STRING(sizes), 4 * count)
    memcpy(table.codecs + n, PyBytes_AS_STRING(codecs), count)
    for i in range(n, n + count):
        table.data_bytes += table.sizes[i]
        table.settled_raw += table.raw_lengths[i]
        table.unsettled_raw -= table.raw_lengths[i]
    table.settled = n + count
    return 0


def table_summary(table, filter_kind, dictionary):
    """The TableSummary of the table, which has at least one block. dictionary: the one that it may have been compressed with."""
    n: u32
    learned: cython.bint = False
    last: u32 = table.blocks - 1
    mask: u8 = 0
    low: u64 = table.minima[0]
    high: u64 = table.maxima[0]
    for n in range(table.blocks):
        mask |= table.masks[n]
        learned = learned or table.codecs[n] == 2
        low = min(low, table.minima[n])
        high = max(high, table.maxima[n])
    start: u32 = table.last_ends[last - 1] if last else 0
    smallest: bytes = PyBytes_FromStringAndSize(cython.cast(cython.p_char, table.smallest), table.smallest_size)
    largest: bytes = PyBytes_FromStringAndSize(cython.cast(cython.p_char, table.last_keys) + start, table.last_ends[last] - start)
    kind: cython.int = FilterKind(filter_kind(smallest, largest) if callable(filter_kind) else filter_kind)
    made: bytes = b""
    partitions: tuple = _partitions(table, kind) if _spills(table) else ()
    if table.full_filter or not partitions:
        made = filter_build(kind, table.hashes, table.hash_count, table.filter_bits)
    return TableSummary(
        index=b"" if partitions else _index(table, 0, table.blocks),
        filter=made,
        filter_kind=FilterKind(kind) if made or any([part.filter for part in partitions]) else FilterKind.NONE,
        partitions=partitions,
        smallest=smallest,
        largest=largest,
        blocks=table.blocks,
        entries=table.total,
        keys=table.keys,
        tombstones=table.tombstones,
        min_seqno=low,
        max_seqno=high,
        kind_mask=mask & ~DUPLICATES,
        data_bytes=table.data_bytes,
        raw_bytes=table.raw_bytes,
        block_bytes=table.block_bytes,
        rows=table.restart_interval > 0,
        compression_level=table.sealing.level,
        dictionary=dictionary if learned else None,
        block_parts=table.sealing.span,
        pointers=PyBytes_FromStringAndSize(cython.cast(cython.p_char, table.pointers), table.pointers_size) if table.pointers_size else b"",
    )


def _partitions(table, kind):
    """The partitions of index and filter."""
    found: list = []
    n: u32
    first: u64 = 0
    key: u64 = 0
    last: u32 = table.blocks - 1
    bits: u32 = 0 if table.full_filter else table.filter_bits
    if table.open_bytes and _end_partition(table, table.last_ends[last] - (table.last_ends[last - 1] if last else 0)):
        raise MemoryError("no memory for a table stream")
    for n in range(table.parts):
        made = filter_build(kind, table.hashes + key, table.ends[2 * n + 1] - key, bits)
        found.append(Partition(_index(table, first, table.ends[2 * n]), made))
        first = table.ends[2 * n]
        key = table.ends[2 * n + 1]
    return tuple(found)


def _index(table, first, end):
    """The raw index (docs/formats.md) of some of the blocks."""
    count: u32 = end - first
    n: u32
    length: u16
    start: u32 = table.last_ends[first - 1] if first else 0
    size: cython.size_t = table.last_ends[end - 1] - start
    index: bytes = PyBytes_FromStringAndSize(cython.NULL, 4 + 27 * cython.cast(cython.size_t, count) + size)
    at: Room = cython.cast(Room, PyBytes_AS_STRING(index))
    memcpy(at, cython.address(count), 4)
    at += 4
    memcpy(at, table.sizes + first, 4 * cython.cast(cython.size_t, count))
    at += 4 * cython.cast(cython.size_t, count)
    memcpy(at, table.entries + first, 4 * cython.cast(cython.size_t, count))
    at += 4 * cython.cast(cython.size_t, count)
    memcpy(at, table.minima + first, 8 * cython.cast(cython.size_t, count))
    at += 8 * cython.cast(cython.size_t, count)
    memcpy(at, table.maxima + first, 8 * cython.cast(cython.size_t, count))
    at += 8 * cython.cast(cython.size_t, count)
    memcpy(at, table.masks + first, count)
    at += count
    for n in range(first, end):
        length = table.last_ends[n] - (table.last_ends[n - 1] if n else 0)
        memcpy(at, cython.address(length), 2)
        at += 2
    memcpy(at, table.last_keys + start, size)
    return index
