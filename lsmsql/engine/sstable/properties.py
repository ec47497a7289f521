"""Properties: what an SSTable says of itself, so that it can be checked against the manifest, and the manifest rebuilt from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any

from ...errors import UsageError
from ...options import BLOCK_LAYOUTS, BLOCK_PARTS_MAX
from ...parity_scheme import ParityScheme
from ...prefix_extractor import PrefixExtractor
from ..kernel.kinds import SEQNO_MAX
from ..manifest.tagged_fields import pack_fields, pack_number, pack_numbers, unpack_number, unpack_numbers, unpack_single

PROPERTIES_FORMAT = 10


@dataclass(frozen=True, slots=True)
class Properties:
    """database_id: 16 bytes. edit_number: of the manifest's last durable edit when the table was finished. keys: distinct user keys.
    min_seqno, max_seqno: as in the file, before global_seqno is added. They, smallest and largest are of entries and range tombstones together:
    `largest` may be where a range tombstone ends, which is beyond the last key that it reaches.
    data_bytes: of the data frames; raw_bytes: of user keys and values.
    created_us: microseconds since the Unix epoch. replaced: file ids of the tables that this one was merged from, with the others of its run.
    run: file ids of all tables that were written together with it, itself included. obsolete: file ids of tables and WALs that no version named any
    more when it was finished, and that may come back after a power loss. host_seqno: of the last prepared commit that was committed and that
    it, or a table before it, holds. options: as text.

    On disk tagged fields (tagged_fields.py): the tag is the attribute's place in this class, from 1; numbers are u64, hash_ratio is text.
    """

    database_id: bytes
    file_id: int
    tree_id: int
    tree_name: str
    edit_number: int
    entries: int
    keys: int
    tombstones: int
    min_seqno: int
    max_seqno: int
    global_seqno: int
    kind_mask: int
    smallest: bytes
    largest: bytes
    blocks: int
    data_bytes: int
    raw_bytes: int
    block_bytes: int
    compression_level: int  # of zstd, 0 for none
    parity: int  # ParityScheme.code of the data blocks
    filter_bits: int
    created_us: int
    replaced: tuple[int, ...]
    options: str
    filter_kind: int  # FilterKind: 0 none, 1 Bloom, 2 BuRR
    block_layout: str
    restart_interval: int  # this and the next of rows only
    hash_ratio: float
    schema: str  # the statement that made an SQL table, "" for others
    range_tombstones: int  # fragments in the section of them
    sentinel: int  # 1: the one entry only stands for the range tombstones (sentinel.py)
    blob_files: int  # linked ones
    dictionary_id: int  # of the one that the table embeds, 0 for none
    partitions: int  # of the index, 0 if it is one block
    partition_bytes: int  # raw, at which they were closed
    kv_checksums: int  # 1: blocks carry a checksum of every entry
    prefix: str  # PrefixExtractor of what the filter holds beside the keys
    level: int  # that it was written for
    run: tuple[int, ...]
    obsolete: tuple[int, ...]
    host_seqno: int
    block_parts: int = 1  # data blocks that are the parts of one; left out where it is 1

    def pack(self) -> bytes:
        return pack_fields(
            PROPERTIES_FORMAT, [(tag, _pack(getattr(self, name))) for tag, name in _TAGS.items() if getattr(self, name) != _DEFAULTS.get(name)]
        )


def parse_properties(data: bytes) -> Properties:
    """The inverse of `Properties.pack`; ValueError, saying what, for bytes that are none."""
    contents = unpack_single(data, PROPERTIES_FORMAT, _TAGS, _DEFAULTS)
    properties = Properties(**{name: _PARSERS[_TYPES[name]](content) for name, content in contents.items()})
    if properties.max_seqno + properties.global_seqno > SEQNO_MAX or properties.min_seqno > properties.max_seqno:
        raise ValueError(f"impossible seqno bounds {properties.min_seqno} to {properties.max_seqno}")
    if properties.block_layout not in BLOCK_LAYOUTS:
        raise ValueError(f"unknown block layout {properties.block_layout!r}")
    if not 1 <= properties.block_parts <= BLOCK_PARTS_MAX or (properties.block_parts > 1 and properties.dictionary_id):
        raise ValueError(f"impossible blocks of {properties.block_parts} parts")
    if properties.file_id not in properties.run:
        raise ValueError(f"table {properties.file_id} is not in its own run {properties.run}")
    if properties.kv_checksums > 1:
        raise ValueError(f"unknown checksums of entries {properties.kv_checksums}")
    if properties.sentinel > 1 or (properties.sentinel and (not properties.range_tombstones or properties.entries != 1)):
        raise ValueError("a sentinel that stands for nothing")
    ParityScheme.of_code(properties.parity)
    try:
        PrefixExtractor.parse(properties.prefix)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return properties


def _pack(value: bytes | int | float | str | tuple[int, ...]) -> bytes:
    if isinstance(value, int):
        return pack_number(value)
    if isinstance(value, float):
        return repr(value).encode("ascii")
    if isinstance(value, str):
        return value.encode("utf-8")
    return value if isinstance(value, bytes) else pack_numbers(value)


_TAGS = {tag: field.name for tag, field in enumerate(fields(Properties), 1)}
_DEFAULTS = {field.name: field.default for field in fields(Properties) if field.default is not MISSING}
_TYPES = {field.name: str(field.type) for field in fields(Properties)}
_PARSERS: dict[str, Callable[[bytes], Any]] = {
    "int": unpack_number,
    "bytes": bytes,
    "float": lambda content: float(content.decode("ascii")),
    "str": lambda content: content.decode("utf-8"),
    "tuple[int, ...]": unpack_numbers,
}
