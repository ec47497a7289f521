"""A table that holds nothing but range tombstones. Its index needs a block, and the block an entry: the sentinel.

The sentinel is the point tombstone, at the start and seqno of the range tombstone with the lowest seqno, that this range tombstone implies, so that
it changes no answer and moves neither the bounds nor the seqnos of the table. (Not a weak tombstone, which could take a value away with it.)
"""

from __future__ import annotations

from collections.abc import Sequence

from ..kernel import MemtableArena
from .range_tombstones import Fragment, check_fragments, lowest
from .writer import TableSink, UnfinishedTable, begin_tables, table_stream

_ARENA_BYTES = 1 << 20


def begin_sentinel(fragments: Sequence[Fragment], sink: TableSink) -> list[UnfinishedTable]:
    """The one table of those range tombstones, begun; `finish_tables` or `discard_tables` takes it. ValueError for impossible fragments."""
    check_fragments(fragments)
    key, seqno = lowest(fragments)
    arena = MemtableArena(_ARENA_BYTES)
    arena.begin()
    arena.delete(sink.tree_id, key)
    arena.seal(2, 1, 0, seqno, 0, 0)
    arena.index(seqno)
    stream = table_stream([arena.memtable(sink.tree_id)], sink.options, encrypted=sink.keyring is not None, floor=0, level=sink.level, sink=sink)
    begun = begin_tables(stream, sink)
    for table in begun:
        table.attach(range_tombstones=fragments, sentinel=True)
    return begun
