"""Writing SSTables: what a table stream hands out, into finished, synced files. Flush, compaction and ingest share it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ...checksum_policy import ChecksumPolicy
from ...errors import UsageError
from ...options import Options
from ...parity_scheme import ParityScheme
from ...prefix_extractor import PrefixExtractor
from ..kernel import FilterKind, TableStream, TableSummary
from ..kernel.partitions import Partition
from ..manifest.version import TableRecord
from ..storage.block_frame import FrameType, seal_frame, seal_many
from ..storage.checksum import RunningChecksum
from ..storage.compression import Codec
from ..storage.dictionary import Dictionary
from ..storage.encryption import OVERHEAD, FileCipher
from ..storage.filenames import FileKind, file_name
from ..storage.filesystem import File, FileSystem, processors
from ..storage.keyring import Keyring
from ..storage.parity import METADATA
from .blob_files import LinkedBlobFile, pack_blob_files
from .block_form import block_form
from .properties import Properties
from .range_tombstones import Fragment, pack_fragments, seqno_bounds
from .sealing import sealed_ahead, sealed_at_once
from .table_of_contents import Section, SectionType, TableOfContents, mirror_gap, padding
from .top_index import pack_top_index

_SECTION_LEVEL = 1
_SEALING_THREADS_MAX = 3
_BLOOM_LEVEL_MAX = 1  # Tables up to it are merged again soon: building BuRR would cost more than its bits are worth.


def _now_us() -> int:
    return time.time_ns() // 1000


class Separation(Protocol):
    """What puts values apart from their tables. threshold: from how many bytes on, 0: none."""

    threshold: int

    def put(self, value: bytes) -> bytes:
        """Take a value; returns its pointer."""

    def sync(self) -> None:
        """Make durable what was taken: before the tables that point to it."""

    def links(self, pointers: bytes) -> tuple[LinkedBlobFile, ...]:
        """What the pointers of a table, one behind the other, lead into."""

    def give_up(self) -> None:
        """No table points to what was taken, and none will."""


class NoSeparation:
    """Every value stays in its table."""

    threshold = 0

    def put(self, value: bytes) -> bytes:
        raise UsageError("there is no blob store to put a value in")

    def sync(self) -> None:
        """Nothing was taken."""

    def give_up(self) -> None:
        """Nothing was taken."""

    def links(self, pointers: bytes) -> tuple[LinkedBlobFile, ...]:
        if pointers:
            raise UsageError("the tables have values in a blob store, and there is none")
        return ()


@dataclass(frozen=True, slots=True)
class TableSink:
    """Where tables go and what they say of themselves.

    new_file_id: called once for each file. schema: the statement that made an SQL table's tree.
    edit_number: the manifest's last durable edit. replaced: file ids of a compaction's inputs. host_seqno: see Properties. obsolete: asked once
    at the end of the writing; see Properties. discarded: told the file id of each table that is given up.
    pace: called after each chunk with the bytes written, between two writes; what it raises ends the writing. clock: microseconds.
    """

    fs: FileSystem
    directory: str
    database_id: bytes
    keyring: Keyring | None
    new_file_id: Callable[[], int]
    options: Options
    tree_id: int
    tree_name: str
    level: int
    edit_number: int
    schema: str = ""
    replaced: tuple[int, ...] = ()
    pace: Callable[[int], None] | None = None
    clock: Callable[[], int] = _now_us
    host_seqno: int = 0
    obsolete: Callable[[], tuple[int, ...]] = tuple
    discarded: Callable[[int], None] = lambda _: None
    separation: Separation = field(default_factory=NoSeparation, compare=False)  # of the values of these tables
    reserved: deque[int] = field(default_factory=deque, compare=False)  # file ids of tables to come

    def reserve_file_id(self) -> int:
        """The id of the next table, asked for before it begins."""
        self.reserved.append(self.new_file_id())
        return self.reserved[-1]

    def take_file_id(self) -> int:
        """The id of a table that begins."""
        return self.reserved.popleft() if self.reserved else self.new_file_id()


def table_stream(
    sources: Sequence[Any],
    options: Options,
    *,
    encrypted: bool,
    floor: int,
    snapshots: Sequence[int] = (),
    bottom: bool = False,
    table_bytes: int | None = None,
    level: int | Callable[[bytes, bytes], int] = 0,
    dictionary: Dictionary | None = None,
    sink: TableSink | None = None,
) -> TableStream:
    """The stream of blocks that `write_tables` takes, as the options have it. table_bytes: instead of the options' (a flush may want one file).

    level: that the tables are for, or what says so of a finished one by its smallest and largest key; it decides the kind of filter, the form
    of the blocks, and whether entries get checksums, for which the latter counts as 0. dictionary: to compress with, where blocks are not in
    parts; each table embeds it. sink:
    where the tables go, which a policy of checksums by file id has to know."""
    form = block_form(options, None if callable(level) else level)
    return TableStream(
        sources,
        floor=floor,
        snapshots=snapshots,
        bottom=bottom,
        block_bytes=form.block_bytes,
        table_bytes=options.table_bytes if table_bytes is None else table_bytes,
        filter_bits=options.filter_bits,
        filter_kind=(lambda *keys: filter_kind(options, level(*keys))) if callable(level) else filter_kind(options, level),
        compression_level=form.compression_level,
        dictionary=dictionary if form.block_parts == 1 else None,
        block_parts=form.block_parts,
        overhead=OVERHEAD if encrypted else 0,
        restart_interval=options.restart_interval if form.rows else 0,
        hash_ratio=options.hash_ratio,
        parity=_parity(options).code,
        partition_bytes=0 if options.index == "full" else options.partition_bytes,
        spill_bytes=options.index_spill_bytes if options.index == "adaptive" else 0,
        full_filter=options.filter_layout == "full",
        checked=_checked(options, sink, 0 if callable(level) else level),
        deferred=sealing_threads(options) > 0,
        prefix=PrefixExtractor.parse(options.prefix).code,
        apart_bytes=sink.separation.threshold if sink is not None else 0,
        put_apart=sink.separation.put if sink is not None and sink.separation.threshold else None,
    )


def write_tables(stream: TableStream, sink: TableSink) -> list[TableRecord]:
    """Write every table of a stream, each synced once. The caller syncs the directory before the edit that adds them.

    On any error, of the stream too, every file begun here is closed and removed as far as possible, and the error goes on."""
    return finish_tables(begin_tables(stream, sink), sink)


class UnfinishedTable:
    """A table whose data is written and whose properties are not: an ingested one, before its seqno is known.

    What its sink says of whose table it is and how it is written is frozen here: UsageError where `finish` is told otherwise."""

    def __init__(self, sink: TableSink) -> None:
        self._frozen = _frozen(sink)
        self.file_id = sink.take_file_id()
        self.checked = ChecksumPolicy.parse(sink.options.kv_checksums).applies(sink.level, self.file_id)
        self.cipher: FileCipher | None = sink.keyring.cipher(self.file_id) if sink.keyring else None
        self.parity = _parity(sink.options)
        self.path = sink.fs.join(sink.directory, file_name(FileKind.SSTABLE, self.file_id))
        self.size = 0
        self.summary: TableSummary | None = None
        self.range_tombstones: tuple[Fragment, ...] = ()
        self.blob_files: tuple[LinkedBlobFile, ...] = ()
        self.sentinel = False
        self._sections: list[Section] = []
        self._mirrored: list[tuple[SectionType, int, bytes]] = []  # sections that will stand twice, with their number of frames
        self._checksum = RunningChecksum()
        self._discarded = sink.discarded
        self._file: File = sink.fs.create(self.path)

    def append(self, data: bytes) -> int:
        """Append, and return how many bytes that were."""
        self._file.append(data)
        self._checksum.update(data)
        self.size += len(data)
        return len(data)

    def sealed(self, first_block: int, frames: bytes, payloads: list[tuple[int, int, bytes]], dictionary: int) -> bytes:
        """See sealing.py."""
        if self.cipher is None:
            return frames
        found = [(payload, raw_length, codec) for codec, raw_length, payload in payloads]
        return b"".join(seal_many(FrameType.DATA, found, first_block, self.cipher, dictionary, self.parity))

    def end_data(self, summary: TableSummary) -> None:
        """Append filter, index, and the dictionary if there is one."""
        if self.summary is not None:
            raise UsageError(f"{self.path}: the data of the table has ended already")
        if self.size != summary.data_bytes:
            raise RuntimeError(f"{self.path}: {self.size} bytes of frames, but the index describes {summary.data_bytes}")
        self.summary = summary
        self._sections.append(Section(SectionType.DATA, 0, summary.blocks, 0, self.size))
        if summary.filter:  # Once: without it every lookup reads the table, and is right all the same.
            self._append_section(SectionType.FILTER, 0, 1, self._frame(FrameType.FILTER, summary.filter))
        index = self._append_partitions(summary.partitions) if summary.partitions else summary.index
        self._append_mirrored(SectionType.INDEX, [self._frame(FrameType.INDEX, index)])
        if summary.dictionary is not None:
            self._append_mirrored(SectionType.DICTIONARY, [self._frame(FrameType.DICTIONARY, summary.dictionary.content)])

    def attach(self, *, range_tombstones: Sequence[Fragment] = (), blob_files: Sequence[LinkedBlobFile] = (), sentinel: bool = False) -> None:
        """What else the table holds, to be written by `finish`. sentinel: its one entry only stands for the range tombstones."""
        self.range_tombstones = tuple(range_tombstones)
        self.blob_files = tuple(blob_files)
        self.sentinel = sentinel

    def finish(self, sink: TableSink, global_seqno: int, run: tuple[int, ...], obsolete: tuple[int, ...]) -> TableRecord:
        """Append the other sections, properties, mirrors and table of contents, sync, close. run, obsolete: see Properties. UsageError, or ValueError
        for what is attached, where that cannot be."""
        if _frozen(sink) != self._frozen:
            raise UsageError(f"{self.path}: a table's configuration is frozen at its first key")
        if self.range_tombstones and global_seqno:
            raise UsageError(f"{self.path}: an ingested table has no range tombstones")
        assert self.summary is not None
        summary = self.summary = self._with_range_tombstones(self.summary)
        if self.range_tombstones:
            self._append_mirrored(SectionType.RANGE_TOMBSTONES, [self._frame(FrameType.RANGE_TOMBSTONES, pack_fragments(self.range_tombstones))])
        if self.blob_files:
            self._append_mirrored(SectionType.BLOB_FILES, [self._frame(FrameType.BLOB_FILES, pack_blob_files(self.blob_files))])
        properties = _properties(sink, self, summary, global_seqno, run, obsolete)
        self._append_mirrored(SectionType.PROPERTIES, [self._frame(FrameType.PROPERTIES, properties.pack())])
        self._append_mirrors()
        contents = TableOfContents(self.file_id, sink.database_id, tuple(self._sections))
        self.append(bytes(padding(self.size)) + contents.pack())
        self._file.sync()  # The one sync: from the edit on these bytes are all there is, the WAL or the inputs being removed.
        if sink.level >= sink.options.cold_level:
            self._file.drop_cached()
        self._file.close()
        return TableRecord(
            file_id=self.file_id,
            tree_id=sink.tree_id,
            level=sink.level,
            size=self.size,
            entries=summary.entries,
            tombstones=summary.tombstones,
            smallest=summary.smallest,
            largest=summary.largest,
            min_seqno=summary.min_seqno + global_seqno,
            max_seqno=summary.max_seqno + global_seqno,
            global_seqno=global_seqno,
            run=run[0],
            checksum=self._checksum.digest(),
        )

    def _with_range_tombstones(self, summary: TableSummary) -> TableSummary:
        """The summary with the bounds of the range tombstones in it."""
        fragments = self.range_tombstones
        if not fragments:
            return summary
        low, high = seqno_bounds(fragments)
        return replace(
            summary,
            smallest=min(summary.smallest, fragments[0].start),
            largest=max(summary.largest, fragments[-1].end),
            min_seqno=min(summary.min_seqno, low),
            max_seqno=max(summary.max_seqno, high),
        )

    def discard(self, fs: FileSystem) -> None:
        """Close and remove. What cannot be removed is an orphan, which the next recovery removes."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            fs.remove(self.path)
        self._discarded(self.file_id)  # A power loss may bring it back.

    def _frame(self, type: FrameType, raw: bytes, ordinal: int = 0) -> bytes:
        return seal_frame(type, raw, codec=Codec.ZSTD, level=_SECTION_LEVEL, cipher=self.cipher, ordinal=ordinal, parity=METADATA)

    def _append_section(self, type: SectionType, copy: int, frames: int, data: bytes) -> None:
        self._sections.append(Section(type, copy, frames, self.size, len(data)))
        self.append(data)

    def _append_partitions(self, parts: Sequence[Partition]) -> bytes:
        """Append the partitions of filter and index; returns the raw top-level index."""
        filters: list[bytes] = []
        if any(part.filter for part in parts):  # One that is empty has its frame too: partition n of the filter goes with n of the index.
            filters = [self._frame(FrameType.FILTER_PARTITION, part.filter, number) for number, part in enumerate(parts)]
            self._append_section(SectionType.FILTER_PARTITION, 0, len(parts), b"".join(filters))
        indexes = [self._frame(FrameType.INDEX_PARTITION, part.index, number) for number, part in enumerate(parts)]
        self._append_mirrored(SectionType.INDEX_PARTITION, indexes)
        return pack_top_index(parts, [*map(len, indexes)], [*map(len, filters)])

    def _append_mirrored(self, type: SectionType, frames: Sequence[bytes]) -> None:
        data = b"".join(frames)
        self._mirrored.append((type, len(frames), data))
        self._append_section(type, 0, len(frames), data)

    def _append_mirrors(self) -> None:
        self.append(bytes(mirror_gap([len(data) for _, _, data in self._mirrored])))
        for type, frames, data in self._mirrored:
            self._append_section(type, 1, frames, data)


def begin_tables(stream: TableStream, sink: TableSink) -> list[UnfinishedTable]:
    """Write data, filter and index of every table of a stream, and leave the files open for `finish_tables`. What was put apart is durable then.

    Errors as `write_tables`."""
    begun: list[UnfinishedTable] = []

    def begin() -> UnfinishedTable:
        begun.append(UnfinishedTable(sink))
        return begun[-1]

    threads = sealing_threads(sink.options)
    try:
        with closing(sealed_ahead(stream, begin, threads) if stream.deferred else sealed_at_once(stream, begin)) as stretches:
            for file, data, table in stretches:
                written = file.append(data)
                if table is not None:
                    file.end_data(table)
                    file.blob_files = sink.separation.links(table.pointers)
                if sink.pace is not None:
                    sink.pace(written)
        sink.separation.sync()
    except BaseException:
        stream.close()
        discard_tables(begun, sink.fs)
        raise
    return begun


def finish_tables(begun: Sequence[UnfinishedTable], sink: TableSink, global_seqno: int = 0) -> list[TableRecord]:
    """Write what ends each file, sync and close it. global_seqno: what readers add to the seqnos in the files. Errors as `write_tables`."""
    try:
        run, obsolete = tuple(table.file_id for table in begun), sink.obsolete()
        return [table.finish(sink, global_seqno, run, obsolete) for table in begun]
    except BaseException:
        discard_tables(begun, sink.fs)
        raise


def discard_tables(begun: Sequence[UnfinishedTable], fs: FileSystem) -> None:
    """Close and remove the files, as far as that is possible."""
    for table in begun:
        table.discard(fs)


def sealing_threads(options: Options) -> int:
    """How many threads seal blocks for each stream beside the one that writes."""
    if not options.background:
        return 0
    return min(processors() - 1, _SEALING_THREADS_MAX) if options.sealing_threads < 0 else options.sealing_threads


def filter_kind(options: Options, level: int) -> FilterKind:
    """What filter the tables of a level get."""
    if options.filter == "none" or not options.filter_bits:
        return FilterKind.NONE
    if options.filter == "auto":
        return FilterKind.BLOOM if level <= _BLOOM_LEVEL_MAX else FilterKind.BURR
    return FilterKind.BLOOM if options.filter == "bloom" else FilterKind.BURR


def _parity(options: Options) -> ParityScheme:
    return ParityScheme.of_data(options.parity)


def _checked(options: Options, sink: TableSink | None, level: int) -> bool | Callable[[], bool]:
    """Whether the blocks of a level carry checksums of their entries; where that depends on the table, what tells of the next."""
    policy = ChecksumPolicy.parse(options.kv_checksums)
    if policy.tables is None:
        return policy.applies(level, 0)
    if sink is None:
        raise UsageError("a policy of checksums by file id needs to know where the tables go")
    reserve = sink.reserve_file_id
    return lambda: policy.applies(level, reserve())


def _frozen(sink: TableSink) -> tuple[object, ...]:
    return sink.fs, sink.directory, sink.database_id, sink.keyring, sink.options, sink.tree_id, sink.tree_name, sink.schema


def _properties(
    sink: TableSink, table: UnfinishedTable, summary: TableSummary, global_seqno: int, run: tuple[int, ...], obsolete: tuple[int, ...]
) -> Properties:
    return Properties(
        database_id=sink.database_id,
        file_id=table.file_id,
        tree_id=sink.tree_id,
        tree_name=sink.tree_name,
        edit_number=sink.edit_number,
        entries=summary.entries,
        keys=summary.keys,
        tombstones=summary.tombstones,
        min_seqno=summary.min_seqno,
        max_seqno=summary.max_seqno,
        global_seqno=global_seqno,
        kind_mask=summary.kind_mask,
        smallest=summary.smallest,
        largest=summary.largest,
        blocks=summary.blocks,
        data_bytes=summary.data_bytes,
        raw_bytes=summary.raw_bytes,
        block_bytes=summary.block_bytes,
        compression_level=summary.compression_level,
        parity=_parity(sink.options).code,
        filter_bits=sink.options.filter_bits,
        created_us=sink.clock(),
        replaced=sink.replaced,
        options=sink.options.to_text(),
        filter_kind=summary.filter_kind,
        block_layout="rows" if summary.rows else "columns",
        restart_interval=sink.options.restart_interval,
        hash_ratio=float(sink.options.hash_ratio),
        schema=sink.schema,
        range_tombstones=len(table.range_tombstones),
        sentinel=int(table.sentinel),
        blob_files=len(table.blob_files),
        dictionary_id=summary.dictionary.id if summary.dictionary else 0,
        partitions=len(summary.partitions),
        partition_bytes=sink.options.partition_bytes,
        kv_checksums=int(table.checked),
        prefix=sink.options.prefix,
        block_parts=summary.block_parts,
        level=sink.level,
        run=run,
        obsolete=obsolete,
        host_seqno=sink.host_seqno,
    )
