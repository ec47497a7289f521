"""The engine's options: one frozen, validated value that prints, parses, and is saved with the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from .checksum_policy import ChecksumPolicy
from .errors import UsageError
from .parity_scheme import ParityScheme
from .prefix_extractor import PrefixExtractor

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

DURABILITIES = ("full", "normal", "off")
COMPRESSIONS = ("zstd", "none")
BLOCK_PARTS_MAX = 256
FILTERS = ("auto", "bloom", "burr", "none")
BLOCK_LAYOUTS = ("columns", "rows")
INDEXES = ("adaptive", "full", "partitioned")
FILTER_LAYOUTS = ("adaptive", "full", "partitioned")
SYNC_MODES = ("data", "all", "full")
RECOVERY_MODES = ("absolute", "tolerate_tail", "point_in_time", "skip_corrupt")
_LEVELS_MAX = 7


@dataclass(frozen=True, slots=True)
class Options:
    """How an engine directory behaves. Sizes are bytes, times seconds. Unknown or impossible values raise UsageError.

    Behaviour
        durability      what a commit waits for: "full" fdatasync, "normal" write(), "off" neither
        sync_mode       how files are synced: "data" fdatasync; "all" fsync, times of change too; "full" F_FULLFSYNC, where the system has it
        copy_on_write   False switches it off for new files where the file system has it (Btrfs), and with it that file system's own checksums
        recovery        what opening does with a damaged WAL or event log of the manifest: "absolute", "tolerate_tail", "point_in_time",
                        "skip_corrupt" (of an event log the last two are the same)
        lock_timeout    how long to wait for another process to let go of the directory
        background      flush and compact on threads of their own; False does that work inside the writing call
    Performance
        memtable_bytes  memory at which a generation is sealed and flushed, index included
        sealing_threads  threads that compress and encrypt for each flush, compaction and ingest, beside the one that merges: 0 none, -1 one
                        less than there are processors, at most 3; with background=False there are none
        sealed_max      sealed generations waiting for flush before writers stop
        cache_bytes     memory for decoded blocks
        compression     "zstd" or "none", for data blocks
        compression_level  zstd's, 1 to 19. This one, compression, block_bytes, block_parts and block_layout are one value for all levels of the
                        tree, or a tuple of those of level 0, 1 and so on, the last one for all deeper levels and for ingested tables; a table that
                        only moves to another level stays as it is
        dictionary_bytes  at most this large is the zstd dictionary that compaction trains from a tree's own blocks and uses where, on blocks that it
                        was not trained from, it saves at least 5 %; 256 to 131,072, or 0 for none
        parity          for data blocks: "none"; "xor(d)", by which a damaged block is repaired if only one of d + 1 parts is; "rs(d,p)", the same
                        for any p of d + p. It costs p / d of the data on disk. The index, filter and properties of a table always have rs(4,2)
        kv_checksums    which SSTables carry 4 bytes of checksum for every entry, besides those of their blocks: "off", "all", "levels(0,1)" (an
                        ingested table counts as of level 0), "tables(10,99)" by file id. They tell what went wrong before a block was written, or
                        after it was read
        kv_check_at     when those are made: "block", as a block is encoded; "insert", as an entry enters memory, so that a flush finds one that has
                        changed there, and writes nothing; needs kv_checksums for level 0, and 4 bytes of memory an entry
        paranoid        whether every read holds entries to their checksums; else `lsmsql sstable verify` does
        block_bytes     decoded size at which a data block is closed
        block_parts     how many parts, about equal, a data block is stored in, 1 to 256. The first is read for itself, each other one with the first,
                        which it is compressed against. For large blocks of cold levels, which have to be compressed and get no dictionary then:
                        smaller than blocks of the size of the parts, and not as slow to look up as whole ones
        block_layout    of the data blocks written from now on, while tables of either are read: "columns", 5 % smaller and decoded twice as fast,
                        or "rows", which can be searched undecoded where the cache would not keep the block
        restart_interval  of rows: entries from one whole key to the next, 1 to 255
        hash_ratio      of rows: hash buckets for each entry, 0 for no hash index
        table_bytes     file size at which compaction starts the next SSTable
        filter          of each SSTable: "bloom", quick to build; "burr", 30 % smaller and ten times as long to build; "none"; "auto" is bloom in
                        levels 0 and 1 and burr below, where tables live long
        filter_bits     bits for each key of a Bloom filter, 0 for no filter; BuRR takes just what it needs to err as rarely: fingerprints of
                        0.69 * filter_bits bits rounded up, at most 16, for 1 % more than that in bits a key
        index           of each SSTable: "full", in memory as a whole; "partitioned", of which only the top level is, and parts are read through the
                        cache when they are needed; "adaptive" is full up to index_spill_bytes and partitioned beyond
        index_spill_bytes  of an adaptive index, before compression (27 bytes and a key for each block)
        partition_bytes  of a partitioned index, before compression, at which the next partition begins
        filter_layout   "full", one filter for each SSTable; "partitioned", one for each partition of the index, which must be partitioned; "adaptive"
                        is as the index is
        prefix          of keys, which filters hold beside the keys, so that a scan within one prefix passes over tables without it: "none";
                        "fixed:N", the first N bytes; "delimiter:X", all up to the first X, a character or 0xHH. Each table keeps the one that it
                        was written with
        blob_threshold  bytes from which a value leaves the SSTables, when it is flushed, compacted or ingested, for the blob store, which compaction
                        does not write again; 0: none does. Values that are there already stay where they are until then, and are read all the same
        blob_live_share  of the values in a frame of the blob store (up to 512 KiB) that nothing may read any more, so many may stay: below this share
                        of bytes alive the frame is written again without the dead ones; 0: only those that are dead as a whole are freed
        pin_index, pin_filter  levels, from level 0 on, whose partitions stay in memory once they were read, beside cache_bytes: 0 none, 7 all
        cold_level      tables for this level and deeper ones leave the system's page cache once they are written; 7: none do
        l0_tables       L0 tables that start a compaction;  l0_slowdown, l0_stop: tables at which writers are slowed, stopped
        level_bytes     size of L1;  level_ratio: each further level is that many times larger
        manifest_bytes  event log size at which a new manifest snapshot is written
        manifest_mirror  whether the footer of each of its two copies stands in its first 4 KiB as well as at its end
    """

    durability: str = "full"
    sync_mode: str = "data"
    copy_on_write: bool = True
    recovery: str = "tolerate_tail"
    lock_timeout: float = 5.0
    background: bool = True
    sealing_threads: int = -1
    memtable_bytes: int = 96 * MIB
    sealed_max: int = 2
    cache_bytes: int = 128 * MIB
    compression: str | tuple[str, ...] = "zstd"
    compression_level: int | tuple[int, ...] = 1
    dictionary_bytes: int = 16 * KIB
    parity: str = "none"
    kv_checksums: str = "off"
    kv_check_at: str = "block"
    paranoid: bool = False
    block_bytes: int | tuple[int, ...] = 8 * KIB
    block_parts: int | tuple[int, ...] = 1
    block_layout: str | tuple[str, ...] = "columns"
    restart_interval: int = 16
    hash_ratio: float = 0.75
    table_bytes: int = 64 * MIB
    filter: str = "auto"
    filter_bits: int = 10
    index: str = "adaptive"
    index_spill_bytes: int = 4 * MIB
    partition_bytes: int = 4 * KIB
    filter_layout: str = "adaptive"
    prefix: str = "none"
    blob_threshold: int = 0
    blob_live_share: float = 0.75
    pin_index: int = 2
    pin_filter: int = 1
    cold_level: int = 7
    l0_tables: int = 4
    l0_slowdown: int = 12
    l0_stop: int = 24
    level_bytes: int = 256 * MIB
    level_ratio: int = 10
    manifest_bytes: int = 1 * MIB
    manifest_mirror: bool = True

    def __post_init__(self) -> None:
        self._one_of("durability", DURABILITIES)
        self._one_of("sync_mode", SYNC_MODES)
        self._one_of_each_level("compression", COMPRESSIONS)
        self._one_of("filter", FILTERS)
        self._one_of("recovery", RECOVERY_MODES)
        self._one_of_each_level("block_layout", BLOCK_LAYOUTS)
        self._one_of("index", INDEXES)
        self._one_of("filter_layout", FILTER_LAYOUTS)
        self._one_of("kv_check_at", ("block", "insert"))
        for name, parse in (("parity", ParityScheme.of_data), ("kv_checksums", ChecksumPolicy.parse)):
            try:
                parse(getattr(self, name))
            except UsageError as error:
                raise UsageError(f"option {name}: {error}") from None
        if self.kv_check_at == "insert" and 0 not in ChecksumPolicy.parse(self.kv_checksums).levels:
            raise UsageError('option kv_check_at = "insert" needs kv_checksums for level 0, where memory is flushed to')
        self._levels("compression_level", 1, 19)
        self._levels("block_bytes", 1, 16 * MIB)
        self._levels("block_parts", 1, BLOCK_PARTS_MAX)
        self._parts()
        try:
            PrefixExtractor.parse(self.prefix)
        except UsageError as error:
            raise UsageError(f"option prefix: {error}") from None
        for name, low, high in _RANGES:
            self._between(name, low, high)
        if 0 < self.dictionary_bytes < 256:
            raise UsageError(f"option dictionary_bytes must be 0 or at least 256, not {self.dictionary_bytes!r}")
        for name in ("background", "copy_on_write", "paranoid", "manifest_mirror"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"option {name} must be True or False, not {getattr(self, name)!r}")
        if self.filter_layout == "partitioned" and self.index != "partitioned":
            raise UsageError("option filter_layout = partitioned needs index = partitioned; adaptive is as the index is")
        if not self.l0_tables <= self.l0_slowdown <= self.l0_stop:
            raise UsageError("options must satisfy l0_tables <= l0_slowdown <= l0_stop")

    def _one_of(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise UsageError(f"option {name} must be one of {', '.join(allowed)}, not {value!r}")

    def _one_of_each_level(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        values = value if isinstance(value, tuple) else (value,)
        if not 1 <= len(values) <= _LEVELS_MAX or any(each not in allowed for each in values):
            raise UsageError(f"option {name} must be one of {', '.join(allowed)}, or a tuple of 1 to {_LEVELS_MAX} of them, not {value!r}")

    def _between(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        number = (int, float) if name in ("lock_timeout", "hash_ratio", "blob_live_share") else int
        if not isinstance(value, number) or isinstance(value, bool) or not low <= value <= high:
            raise UsageError(f"option {name} must be a number from {low} to {high}, not {value!r}")

    def _levels(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not 1 <= len(numbers) <= _LEVELS_MAX or any(type(number) is not int or not low <= number <= high for number in numbers):
            raise UsageError(f"option {name} must be a number from {low} to {high}, or a tuple of 1 to {_LEVELS_MAX} of them, not {value!r}")

    def _parts(self) -> None:
        """UsageError for blocks in parts where that cannot be."""
        for level in range(_LEVELS_MAX):
            compression, size, parts = (at_level(getattr(self, name), level) for name in ("compression", "block_bytes", "block_parts"))
            if parts > size or (parts > 1 and compression == "none"):
                raise UsageError(f"option block_parts: a block of {size} bytes with compression {compression} is not stored in {parts} parts")

    def to_text(self) -> str:
        """One `name = value` line per option, in the order of the class; `from_text` reads it back."""
        return "".join(f"{field.name} = {_text(getattr(self, field.name))}\n" for field in fields(self))

    @classmethod
    def from_text(cls, text: str) -> Options:
        """Parse what `to_text` wrote. Blank lines and lines starting with # are skipped; anything else unknown raises UsageError."""
        if not isinstance(text, str):
            raise UsageError(f"options are parsed from a str, not {type(text).__name__}")
        values: dict[str, Any] = {}
        for line in text.splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, equals, value = (part.strip() for part in line.partition("="))
            if not equals or name not in _PARSERS:
                raise UsageError(f"unknown option line: {line!r}")
            try:
                values[name] = _PARSERS[name](value)
            except ValueError:
                raise UsageError(f"option {name} has an unreadable value: {value!r}") from None
        return cls(**values)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("lock_timeout", 0, 1e6),
    ("sealing_threads", -1, 16),
    ("memtable_bytes", 1, 4 * GIB),
    ("sealed_max", 1, 64),
    ("cache_bytes", 0, 1 << 46),
    ("dictionary_bytes", 0, 128 * KIB),
    ("restart_interval", 1, 255),
    ("hash_ratio", 0, 8),
    ("table_bytes", 1, 1 << 40),
    ("filter_bits", 0, 64),
    ("index_spill_bytes", 0, 1 << 30),
    ("partition_bytes", 1, 16 * MIB),
    ("blob_threshold", 0, 1_000_000_000),
    ("blob_live_share", 0, 1),
    ("pin_index", 0, 7),
    ("pin_filter", 0, 7),
    ("cold_level", 0, 7),
    ("l0_tables", 1, 1 << 20),
    ("l0_slowdown", 1, 1 << 20),
    ("l0_stop", 1, 1 << 20),
    ("level_bytes", 1, 1 << 60),
    ("level_ratio", 2, 1000),
    ("manifest_bytes", 0, 1 << 40),
)


def at_level(value: Any, level: int | None) -> Any:
    """What an option that may be a tuple says of a level; None: one that is not known, but likely a deep one."""
    if not isinstance(value, tuple):
        return value
    return value[-1] if level is None else value[min(level, len(value) - 1)]


def _boolean(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(text)
    return text == "True"


def _text(value: Any) -> str:
    return f"({', '.join(map(str, value))})" if isinstance(value, tuple) else str(value)


def _levels(parse: Callable[[str], Any], text: str) -> Any:
    if not text.startswith("("):
        return parse(text)
    if not text.endswith(")"):
        raise ValueError(text)
    return tuple(parse(part.strip()) for part in text[1:-1].split(",") if part.strip())


_BY_TYPE: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": _boolean,
    "int | tuple[int, ...]": partial(_levels, int),
    "str | tuple[str, ...]": partial(_levels, str),
}
_PARSERS: dict[str, Callable[[str], Any]] = {field.name: _BY_TYPE[str(field.type)] for field in fields(Options)}
