"""The kernels in idiomatic Python: the definition of their interface, the fallback without a compiler, and the oracle of their tests.

    memtable      Batch, MemtableArena, Memtable: operations in commit order, and the index over them
    record        fill_record_header: the header of a WAL record
    filters       build_filter, may_contain, count_maybe: a table's filter; bloom and burr are its kinds
    decoded_block Block: the one form in which entries are read
    block         encode_block, decode_block: its column form, and decoding either form
    block_rows    encode_rows, rows_find: its row form, which can be searched as it is
    checksums     of single entries, behind a block of either form
    cache         BlockCache: decoded blocks and partitions, by bytes
    index         Index: a table's index, whole or a partition
    table         Table, Levels, get, get_entry, get_many: point reads over all sources
    scan          Scan: the visible rows of a range, either way
    table_stream  TableStream, SortedRows: flush, compaction and ingest; merged sources in, data frames out
    sealing       BlockSealer: the last step of that, on any thread

Entries are (user key, seqno, kind, value); order is key ascending, then seqno descending.
"""

from __future__ import annotations

from .block import decode_block, encode_block, has_checks, verify_block
from .block_rows import encode_rows, rows_find
from .cache import BlockCache
from .decoded_block import Block
from .filters import build_filter, count_maybe, may_contain
from .memtable import Batch, Memtable, MemtableArena
from .record import fill_record_header
from .scan import Scan
from .sealing import BlockSealer
from .table import Levels, Table, get, get_entry, get_many
from .table_stream import SortedRows, TableStream

__all__ = [
    "Batch",
    "Block",
    "BlockCache",
    "BlockSealer",
    "Levels",
    "Memtable",
    "MemtableArena",
    "Scan",
    "SortedRows",
    "Table",
    "TableStream",
    "build_filter",
    "count_maybe",
    "decode_block",
    "encode_block",
    "encode_rows",
    "fill_record_header",
    "get",
    "get_entry",
    "get_many",
    "has_checks",
    "may_contain",
    "rows_find",
    "verify_block",
]
