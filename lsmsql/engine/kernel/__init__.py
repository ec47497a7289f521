"""The kernels: where entries are touched one by one. Compiled when built so, else their plain twin; same files, same answers, byte for byte.

`COMPILED` says which; LSMSQL_PURE=1 in the environment forces the plain twin. The interface is defined by `plain/`: read it there.
"""

from __future__ import annotations

from . import plain
from ._choice import compiled_kernels
from .chunk import Chunk, TableSummary
from .kinds import BATCH_BYTES_MAX, BATCH_SEQNO, KEY_BYTES_MAX, SEQNO_MAX, VALUE_BYTES_MAX, FilterKind, Kind
from .plain.block import has_checks, verify_block
from .plain.index import parse_index

_kernels = compiled_kernels() or plain
COMPILED = _kernels is not plain

Batch = _kernels.Batch
Block = _kernels.Block
BlockCache = _kernels.BlockCache
BlockSealer = _kernels.BlockSealer
Levels = _kernels.Levels
Memtable = _kernels.Memtable
MemtableArena = _kernels.MemtableArena
Scan = _kernels.Scan
SortedRows = _kernels.SortedRows
Table = _kernels.Table
TableStream = _kernels.TableStream
count_maybe = _kernels.count_maybe
decode_block = _kernels.decode_block
encode_block = _kernels.encode_block
fill_record_header = _kernels.fill_record_header
get = _kernels.get
get_entry = _kernels.get_entry
get_many = _kernels.get_many
may_contain = _kernels.may_contain

__all__ = [
    "BATCH_BYTES_MAX",
    "BATCH_SEQNO",
    "COMPILED",
    "KEY_BYTES_MAX",
    "SEQNO_MAX",
    "VALUE_BYTES_MAX",
    "Batch",
    "Block",
    "BlockCache",
    "BlockSealer",
    "Chunk",
    "FilterKind",
    "Kind",
    "Levels",
    "Memtable",
    "MemtableArena",
    "Scan",
    "SortedRows",
    "Table",
    "TableStream",
    "TableSummary",
    "count_maybe",
    "decode_block",
    "encode_block",
    "fill_record_header",
    "get",
    "get_entry",
    "get_many",
    "has_checks",
    "may_contain",
    "parse_index",
    "verify_block",
]
