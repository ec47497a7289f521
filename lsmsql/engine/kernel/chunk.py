"""What a table stream hands out: chunks of data blocks, sealed or raw, and the summary that closes each table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ...errors import CorruptionError
from ..storage.dictionary import Dictionary
from .kinds import FilterKind
from .partitions import Partition


def changed_entry(key: bytes) -> CorruptionError:
    """The error for an entry that is no longer what was committed."""
    return CorruptionError(
        "memtable", None, f"the entry of key {key[:100]!r} has changed in memory since its commit", "nothing was written; open the database again"
    )


@dataclass
class TableSummary:
    """What a finished run of data blocks says of itself. index and filter are raw section contents; keys counts distinct user keys.

    partitions: not empty where the index is partitioned; then there is no index, and a filter only where the partitions have none."""

    index: bytes
    filter: bytes
    smallest: bytes
    largest: bytes
    blocks: int
    entries: int
    keys: int
    tombstones: int
    min_seqno: int
    max_seqno: int
    kind_mask: int
    data_bytes: int  # of frames in the file
    raw_bytes: int  # of user keys and values
    filter_kind: FilterKind = FilterKind.NONE
    block_bytes: int = 0  # at which blocks were closed
    rows: bool = False  # their layout, else columns
    compression_level: int = 0  # of zstd, 0 for none
    dictionary: Dictionary | None = None  # that some block was compressed with
    partitions: tuple[Partition, ...] = ()
    block_parts: int = 1  # from one lead to the next
    pointers: bytes = b""  # of the entries that have them, in their order


@dataclass
class Chunk:
    """Consecutive blocks of one table, the first being number `first_block`: ready frames, or payloads (codec, raw length, bytes) to be sealed.

    dictionary: the id of the one that payloads of codec ZSTD_DICTIONARY were compressed with."""

    first_block: int
    frames: bytes
    payloads: list[tuple[int, int, bytes]]
    table: TableSummary | None  # set when these blocks end their table
    dictionary: int = 0


class RawChunk(NamedTuple):
    """Consecutive blocks of one table, the first being number `first_block`, still to be sealed. lengths: u32 each; ends: they end their table.

    dictionary: the id of the one that they are to be compressed with, 0 for none. lead: raw, of the block that the chunk begins in the middle of."""

    first_block: int
    raw: bytes
    lengths: bytes
    ends: bool
    dictionary: int = 0
    lead: bytes = b""


class SealedBlocks(NamedTuple):
    """What a BlockSealer made of a raw chunk: frames, their sizes (u32 each), codecs (u8)."""

    frames: bytes
    sizes: bytes
    codecs: bytes
