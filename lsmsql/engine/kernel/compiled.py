"""The compiled kernels under the names of `plain`. ImportError where one of them was not built: then none is used."""

from __future__ import annotations

from .arena_cy import MemtableArena
from .block_cy import Block, decode_block, encode_block, encode_rows, rows_find
from .cache_cy import BlockCache
from .filter_cy import build_filter, count_maybe, may_contain
from .levels_cy import Levels
from .lookup_cy import get, get_entry, get_many
from .memtable_cy import Batch, Memtable
from .record_cy import fill_record_header
from .scan_cy import Scan
from .sealing_cy import BlockSealer
from .table_cy import Table
from .table_stream_cy import SortedRows, TableStream

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
    "may_contain",
    "rows_find",
]
