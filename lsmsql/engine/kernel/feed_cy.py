# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What a table stream reads: every version in a memtable, a run of tables or the rows of an ingest, one entry at a time.

A feed moves without the GIL until it wants more: then `feed_read` takes the GIL once for about a MiB of frames, or `RowPuller.pull` for as many rows.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.cpython.tuple import PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cython.cimports.libc.stdlib import free, malloc

from ...errors import UsageError
from .entry_error import EntryTypeError, pair_of
from .kinds import KEY_BYTES_MAX, VALUE_BYTES_MAX

_READ_AT_ONCE = cython.declare(u64, 1 << 20)
_ROWS_AT_ONCE = cython.declare(cython.size_t, 8192)
_ROW_BYTES_AT_ONCE = cython.declare(u64, 1 << 20)
_KEY_MAX = cython.declare(cython.Py_ssize_t, KEY_BYTES_MAX)
_VALUE_MAX = cython.declare(cython.Py_ssize_t, VALUE_BYTES_MAX)
_SEQNO_MAX = cython.declare(u64, (1 << 56) - 1)


def feed_memtable(feed, memtable):
    feed.memory = True
    feed.ops = memtable.ops
    feed.tree = memtable.mem
    feed.limit = memtable.limit_seqno if memtable.limited else _SEQNO_MAX
    feed.rollbacks = memtable.ops.rollbacks
    feed.head.state = SEEK


def feed_run(feed, tables, count):
    feed.tables = tables
    feed.table_count = count
    feed.head.state = WANT


def feed_rows(feed):
    feed.rows = cython.cast(Rows, malloc(_ROWS_AT_ONCE * cython.sizeof(Row)))
    if feed.rows == cython.NULL:
        raise MemoryError
    feed.head.state = WANT
    return 0


def feed_free(feed):
    feed.head.state = DONE
    free(feed.pairs)
    free(feed.rows)
    lead_free(cython.address(feed.lead))
    part_unpin(feed.tab)
    part_unpin(feed.spent)
    feed.tab = feed.spent = cython.NULL
    if feed.blk != cython.NULL:
        blk_free(feed.blk)
    feed.pairs = cython.NULL
    feed.rows = cython.NULL
    feed.blk = cython.NULL


# --- moving


def feed_next(feed):
    """From a live head to the next entry; the head wants more when what is at hand is used up."""
    row: Rows
    if feed.memory:
        feed.node = feed.ops.nodes[feed.node].older
        if feed.node:
            head_of_operation(cython.address(feed.head), feed.ops.nodes[feed.node].op, feed.pairs[feed.at].prefix, feed.ops.nodes[feed.node].seqno)
        else:
            feed.at += 1
            _settle_pairs(feed)
    elif feed.rows != cython.NULL:
        feed.at += 1
        if feed.at == feed.row_count:
            feed.head.state = WANT
            return
        row = feed.rows + feed.at
        feed.head.key = row.key
        feed.head.key_size = row.key_size
        feed.head.prefix = prefix_of(row.key, row.key_size)
        feed.head.value = row.value
        feed.head.value_size = row.value_size
    else:
        feed.i += 1
        if feed.i < feed.blk.count:
            head_of_block(cython.address(feed.head), feed.blk, feed.i)
        else:
            feed.head.state = WANT


def _settle_pairs(feed):
    """The newest entry within the limit of the first key from `at` on that has one."""
    nodes: NodeP = feed.ops.nodes
    pairs: PairP = feed.pairs
    while feed.at < feed.pair_count:
        if feed.at + 16 < feed.pair_count:  # The operations lie in the order of commits: fetch them ahead.
            prefetch(nodes + pairs[feed.at + 16].node)
            prefetch(nodes[pairs[feed.at + 8].node].op)
            prefetch(nodes[pairs[feed.at + 8].node].op + 64)
        feed.node = visible_node(nodes, pairs[feed.at].node, feed.limit)
        if feed.node:
            head_of_operation(cython.address(feed.head), nodes[feed.node].op, pairs[feed.at].prefix, nodes[feed.node].seqno)
            return
        feed.at += 1
    feed.head.state = DONE


def _sort(feed):
    feed.pairs = order_sorted(feed.ops, feed.tree, cython.address(feed.pair_count))
    if feed.pairs == cython.NULL and feed.pair_count:
        feed.code = BLOCK_NO_MEMORY
        feed.head.state = FAILED
    else:
        _settle_pairs(feed)


def feed_refill(feed, scratch):
    """Do for a head that is not live what can be done without the GIL: sort the memtable, decode the next block of the window."""
    tab: TabP
    frame: Data
    if feed.head.state == SEEK:
        _sort(feed)
    if feed.head.state != WANT or feed.tables == cython.NULL:
        return
    if feed.tab != cython.NULL and feed.ordinal == feed.tab.blocks:
        feed.spent = feed.tab
        feed.tab = cython.NULL
        feed.ordinal = 0
        feed.window = cython.NULL
        feed.part += 1
        if feed.part >= feed.tables[feed.table].parts:
            feed.part = 0
            feed.table += 1
        if feed.table == feed.table_count:
            feed.head.state = DONE
            return
    if feed.window == cython.NULL or feed.ordinal >= feed.window_last:
        return
    tab = feed.tab
    scratch.lead = cython.address(feed.lead)
    frame = feed.window + (tab.offsets[feed.ordinal] - tab.offsets[feed.window_first])
    feed.code = table_decode_frame(tab, feed.ordinal, frame, scratch, cython.address(feed.blk))
    if feed.code:
        feed.head.state = FAILED
        return
    _begin_block(feed)


def _begin_block(feed):
    """Stand on the first entry of the block that was decoded."""
    feed.ordinal += 1
    feed.i = 0
    head_of_block(cython.address(feed.head), feed.blk, 0)


# --- reading, under the GIL


def feed_read(feed):
    """Read the frames that come next, about a MiB of them. Returns what has to stay alive while they are used."""
    if feed.tab == cython.NULL:
        _fetch_index(feed)
    tab: TabP = feed.tab
    table: Table = cython.cast(Table, tab.owner)
    first: u32 = feed.ordinal
    last: u32 = first + 1
    while last < tab.blocks and tab.offsets[last + 1] - tab.offsets[first] <= _READ_AT_ONCE:
        last += 1
    feed.window = cython.NULL
    chunk: bytes = table.source.read(tab.offsets[first], tab.offsets[last] - tab.offsets[first])
    if cython.cast(u64, len(chunk)) != tab.offsets[last] - tab.offsets[first]:
        raise ValueError(f"{len(chunk)} bytes read instead of {tab.offsets[last] - tab.offsets[first]}")
    feed.window_first = first
    feed.window_last = last
    feed.window = cython.cast(Data, PyBytes_AS_STRING(chunk))
    return [chunk]


def _fetch_index(feed):
    """The index of the table to read, or the next partition of it, which does not enter the cache."""
    root: TabP = feed.tables[feed.table]
    table: Table = cython.cast(Table, root.owner)
    part_unpin(feed.spent)
    feed.spent = cython.NULL
    feed.tab = part_index(root, table.source, table.cache, feed.part, False) if root.parts else root
    return 0


def feed_mend(feed, scratch):
    """Go on with the failed block's frame after repair, or raise what it calls for."""
    if feed.code == BLOCK_NO_MEMORY:
        raise MemoryError("no memory for a table stream")
    tab: TabP = feed.tab
    table: Table = cython.cast(Table, tab.owner)
    frame: Data = feed.window + (tab.offsets[feed.ordinal] - tab.offsets[feed.window_first])
    held: bytes = cython.cast(cython.p_char, frame)[: tab.sizes[feed.ordinal]]
    scratch.lead = cython.address(feed.lead)
    block_mend(table, tab, feed.ordinal, held, feed.code, scratch, cython.address(feed.blk))
    _begin_block(feed)
    return 0


@cython.cclass
class RowPuller:
    """Takes (key, value) rows from an iterable into a feed, checking that they ascend."""

    def __init__(self, rows) -> None:
        self.rows = iter(rows)

    def pull(self, feed):
        """Take the next rows, about a MiB of them. Returns what has to stay alive while they are used."""
        owners: list = []
        row: Rows = feed.rows
        size: u64 = 0
        feed.row_count = 0
        for item in self.rows:
            if type(item) is tuple and PyTuple_GET_SIZE(item) == 2:
                key = cython.cast(object, PyTuple_GET_ITEM(item, 0))
                value = cython.cast(object, PyTuple_GET_ITEM(item, 1))
            else:
                key, value = pair_of(item)
            item = None  # zip and its like use their tuple again when nobody holds it.
            self.check(key, value)
            row.key = cython.cast(Data, PyBytes_AS_STRING(key))
            row.key_size = PyBytes_GET_SIZE(key)
            row.value = cython.cast(Data, PyBytes_AS_STRING(value))
            row.value_size = PyBytes_GET_SIZE(value)
            owners.append(key)
            owners.append(value)
            size += row.key_size + row.value_size
            row += 1
            feed.row_count += 1
            if feed.row_count == _ROWS_AT_ONCE or size >= _ROW_BYTES_AT_ONCE:
                break
        feed.at = 0
        if feed.row_count == 0:
            feed.head.state = DONE
            return owners
        feed.head.state = LIVE
        feed.head.kind = VALUE
        feed.head.seqno = 0
        feed.head.key = feed.rows.key
        feed.head.key_size = feed.rows.key_size
        feed.head.prefix = prefix_of(feed.rows.key, feed.rows.key_size)
        feed.head.value = feed.rows.value
        feed.head.value_size = feed.rows.value_size
        return owners

    def check(self, key, value):
        before = self.before
        if type(key) is not bytes or type(value) is not bytes:
            raise EntryTypeError(f"row {self.number} to ingest: key and value must be bytes")
        if (
            before is not None
            and compare_keys(
                cython.cast(Data, PyBytes_AS_STRING(key)),
                PyBytes_GET_SIZE(key),
                cython.cast(Data, PyBytes_AS_STRING(before)),
                PyBytes_GET_SIZE(before),
            )
            <= 0
        ):
            raise UsageError(f"rows to ingest must ascend strictly: row {self.number} has key {key!r} after {before!r}")
        if PyBytes_GET_SIZE(key) > _KEY_MAX or PyBytes_GET_SIZE(value) > _VALUE_MAX:
            raise UsageError(f"row {self.number} to ingest: key or value over the limit")
        self.before = key
        self.number += 1
        return 0
