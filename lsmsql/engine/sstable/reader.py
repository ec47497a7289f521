"""Opening SSTables: every section checked against itself, the file against its record, and the result handed to the kernels."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NoReturn, TypeVar

from ...errors import ClosedError, CorruptionError, KeyUnavailableError
from ...options import Options
from ...parity_scheme import ParityScheme
from ...prefix_extractor import PrefixExtractor
from ..kernel import BlockCache, Table
from ..manifest.advice import REBUILD
from ..manifest.version import TableRecord
from ..storage.block_frame import HEADER_BYTES, FrameType, open_frame, open_payload, peek_header
from ..storage.dictionary import Dictionary, shared_dictionary
from ..storage.encryption import FileCipher
from ..storage.filenames import FileKind, file_name
from ..storage.filesystem import Bytes, File, FileSystem
from ..storage.keyring import Keyring
from ..storage.parity import METADATA, Repairs
from .blob_files import LinkedBlobFile, parse_blob_files
from .properties import Properties, parse_properties
from .range_tombstones import Fragment, parse_fragments, seqno_bounds
from .table_of_contents import CONTENTS_BYTES, SECTOR_BYTES, SectionType, TableOfContents, parse_sector
from .top_index import TopIndex, parse_top_index

T = TypeVar("T")


class TableFile:
    """The file behind a table: what the kernels ask for blocks (BlockSource).

    cipher: of the epoch that the file was sealed under, None if its frames are not encrypted; parity: ParityScheme.code of its data frames;
    dictionary: that they were compressed with, or None; block_parts: data blocks that are the parts of one; filter_lost: the filter was damaged, and
    every lookup reads the table; data_bytes: of the data section, with which the file begins; repairs: where what had to be repaired by parity, or
    read from its mirror, is counted; paranoid: whether reads hold entries to their checksums; links: what of the blob store its pointers lead into,
    from `open_table` on."""

    def __init__(self, file: File, cipher: FileCipher | None, repairs: Repairs | None = None, paranoid: bool = False) -> None:
        self.file = file
        self.path = file.path
        self.cipher = cipher
        self.filter_lost = self.closed = False
        self.links: tuple[LinkedBlobFile, ...] = ()
        self.repairs = repairs
        self.paranoid = paranoid
        self.contents = self._read_contents()
        data = self.contents.find(SectionType.DATA)
        if data is None or data.offset:
            self.damaged(self.file.size() - CONTENTS_BYTES, "the table does not begin with its data section")
        self.data_bytes, self._data_frames = data.size, data.frames
        self.properties = self._mirrored_section(SectionType.PROPERTIES, parse_properties)
        self.top: TopIndex | None = None  # of a partitioned index, from `index` on
        self.parity = self.properties.parity
        self.block_parts = self.properties.block_parts
        self._scheme = ParityScheme.of_code(self.parity)
        self.dictionary = self._mirrored_section(SectionType.DICTIONARY, self._check_dictionary) if self.properties.dictionary_id else None

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes at `offset`; CorruptionError when the file ends before."""
        try:
            data = self.file.read_at(offset, size)
        except OSError:
            if self.closed:  # A scan that outlived its database.
                raise ClosedError("the database is closed") from None
            raise
        if len(data) != size:
            raise CorruptionError(self.path, offset, f"the file ends within {size} bytes that should be here")
        return data

    def open(self, ordinal: int, offset: int, frame: bytes) -> tuple[int, int, Bytes]:
        """A data block frame verified, repaired if it can be, and decrypted: codec, raw length, payload still compressed; else CorruptionError."""
        dictionary = self.properties.dictionary_id
        return open_payload(self.path, offset, frame, FrameType.DATA, self.cipher, ordinal, self._scheme, self.repairs, dictionary)

    def damaged(self, offset: int, message: str) -> NoReturn:
        raise CorruptionError(self.path, offset, message)

    def close(self) -> None:
        self.closed = True
        self.file.close()

    def index(self) -> bytes:
        """The raw index; CorruptionError unless its frames exactly fill the data section. Of a partitioned one that of its partitions; see `top`."""
        if not self.properties.partitions:
            return self._mirrored_section(SectionType.INDEX, self._check_index)
        self.top = self._mirrored_section(SectionType.INDEX, self._check_top)
        return self.top.index

    def index_partition(self, number: int, parse: Callable[[bytes], T]) -> T:
        """What `parse` makes of a raw partition of the index; CorruptionError when no copy is whole, or `parse` raises ValueError for all."""
        assert self.top is not None
        offset, size = self.top.places[number]
        return self._mirrored(FrameType.INDEX_PARTITION, [(section.offset + offset, size) for section in self._index_sections], parse, number)

    def filter_partition(self, number: int, parse: Callable[[bytes], T]) -> T:
        """Likewise of the filter; b"" is parsed, which answers "maybe", when it is damaged."""
        assert self.top is not None
        section = self.contents.find(SectionType.FILTER_PARTITION)
        assert section is not None
        offset, size = self.top.filter_places[number]
        try:
            return parse(self._open_section(FrameType.FILTER_PARTITION, section.offset + offset, size, number))
        except (CorruptionError, ValueError):
            self.filter_lost = True
            return parse(b"")

    def filter(self) -> bytes:
        """The raw filter; b"", which answers "maybe" to everything, when there is none or it is damaged."""
        section = self.contents.find(SectionType.FILTER)
        if section is None:
            return b""
        try:
            return self._open_section(FrameType.FILTER, section.offset, section.size)
        except CorruptionError:
            self.filter_lost = True
            return b""

    def range_tombstones(self) -> tuple[Fragment, ...]:
        """Ascending; CorruptionError unless they are what the properties say, and within the table's bounds."""
        return self._optional_section(SectionType.RANGE_TOMBSTONES, self.properties.range_tombstones, self._parse_fragments)

    def blob_files(self) -> tuple[LinkedBlobFile, ...]:
        """Ascending; CorruptionError unless there are as many as the properties say."""
        return self._optional_section(SectionType.BLOB_FILES, self.properties.blob_files, parse_blob_files)

    def _parse_fragments(self, data: bytes) -> tuple[Fragment, ...]:
        fragments, bounds = parse_fragments(data), self.properties
        low, high = seqno_bounds(fragments)
        keys = bounds.smallest <= fragments[0].start and fragments[-1].end <= bounds.largest
        if not (keys and bounds.min_seqno <= low <= high <= bounds.max_seqno):
            raise ValueError("range tombstones reach beyond the table's bounds")
        return fragments

    def _optional_section(self, type: SectionType, count: int, parse: Callable[[bytes], tuple[T, ...]]) -> tuple[T, ...]:
        """The parts of a section that stands where there are any; CorruptionError unless there are `count`."""
        found = self._mirrored_section(type, parse) if self.contents.find(type) is not None else ()
        if len(found) != count:
            self.damaged(self.offset_of(type), f"{type.name.lower()} section has {len(found)} parts, but the properties say {count}")
        return found

    def offset_of(self, type: SectionType) -> int:
        """Where a section is that an error is about."""
        section = self.contents.find(type)
        return section.offset if section else 0

    def _check_dictionary(self, content: bytes) -> Dictionary:
        dictionary = shared_dictionary(content)
        if dictionary.id != self.properties.dictionary_id:
            raise ValueError(f"it is dictionary {dictionary.id:#010x} instead of {self.properties.dictionary_id:#010x}")
        return dictionary

    def _check_index(self, index: bytes) -> bytes:
        count = int.from_bytes(index[:4], "little")
        if len(index) < 4 + 4 * count or count != self.properties.blocks:
            raise ValueError(f"it is of {count} blocks, but the table has {self.properties.blocks}")
        if count != self._data_frames:
            raise ValueError(f"it is of {count} blocks, but the data section has {self._data_frames} frames")
        if sum(struct.unpack_from(f"<{count}I", index, 4)) != self.data_bytes:
            raise ValueError("it does not describe the data section")
        return index

    def _check_top(self, raw: bytes) -> TopIndex:
        top = parse_top_index(raw)
        self._index_sections = self.contents.copies(SectionType.INDEX_PARTITION)
        filters = self.contents.find(SectionType.FILTER_PARTITION)
        if len(top.places) != self.properties.partitions:
            raise ValueError(f"it is of {len(top.places)} partitions, but the table has {self.properties.partitions}")
        for places, sections in ((top.places, self._index_sections), (top.filter_places, (filters,) if filters else ())):
            if bool(places) != bool(sections) or any((sum(size for _, size in places), len(places)) != (s.size, s.frames) for s in sections):
                raise ValueError("it does not describe the sections of its partitions")
        if sum(top.partitions.blocks) != self.properties.blocks or self.properties.blocks != self._data_frames:
            raise ValueError(f"it is of {sum(top.partitions.blocks)} blocks, but the table has {self.properties.blocks}")
        if sum(top.partitions.blocks) * HEADER_BYTES > self.data_bytes:
            raise ValueError(f"it is of {sum(top.partitions.blocks)} blocks, more than {self.data_bytes} bytes can hold")
        if sum(top.partitions.data_bytes) != self.data_bytes:
            raise ValueError("it does not describe the data section")
        return top

    def _read_contents(self) -> TableOfContents:
        """From the last sector, or else from the one before it."""
        size = self.file.size()
        start = size - CONTENTS_BYTES
        if start < 0 or size % SECTOR_BYTES:
            self.damaged(max(0, start), f"an SSTable ends with {CONTENTS_BYTES} bytes on a multiple of {SECTOR_BYTES}; this file has {size} bytes")
        sectors = self.read(start, CONTENTS_BYTES)
        reasons: list[str] = []
        for offset in (SECTOR_BYTES, 0):
            try:
                contents = parse_sector(sectors[offset : offset + SECTOR_BYTES], size)
            except ValueError as error:
                reasons.append(str(error))
                continue
            if reasons:
                self._mirror_served(start + SECTOR_BYTES)
            return contents
        raise CorruptionError(self.path, start, reasons[0])

    def _mirrored_section(self, type: SectionType, parse: Callable[[bytes], T]) -> T:
        """What the first good copy of a section holds; CorruptionError with what is wrong with the first when none is. parse: raises ValueError."""
        places = [(section.offset, section.size) for section in self.contents.copies(type)]
        if not places:
            self.damaged(self.file.size() - CONTENTS_BYTES, f"the table has no {type.name.lower()} section")
        return self._mirrored(FrameType[type.name], places, parse)

    def _mirrored(self, type: FrameType, places: Sequence[tuple[int, int]], parse: Callable[[bytes], T], ordinal: int = 0) -> T:
        """The same of one frame, which stands at several (offset, size)."""
        first: CorruptionError | None = None
        for offset, size in places:
            try:
                content = parse(self._open_section(type, offset, size, ordinal))
            except ValueError as error:
                first = first or CorruptionError(self.path, offset, f"{type.name.lower()} section makes no sense: {error}")
            except CorruptionError as error:
                first = first or error
            else:
                if first is not None:
                    self._mirror_served(first.offset or 0)
                return content
        assert first is not None
        raise first

    def _mirror_served(self, offset: int) -> None:
        if self.repairs is not None:
            self.repairs.add(self.path, offset)

    def _open_section(self, type: FrameType, offset: int, size: int, ordinal: int = 0) -> bytes:
        stored = self.read(offset, size)
        content = open_frame(self.path, offset, stored, type, self.cipher, ordinal, METADATA, self.repairs)
        if type is FrameType.PROPERTIES and self.cipher is not None and (peeked := peek_header(stored)) is not None:
            with suppress(KeyUnavailableError):
                self.cipher = self.cipher.at(peeked[0].epoch)  # One for the whole file: it was the newest when the file was begun.
        return content


def open_table(
    fs: FileSystem,
    directory: str,
    record: TableRecord,
    keyring: Keyring | None,
    cache: BlockCache,
    *,
    database_id: bytes | None = None,
    repairs: Repairs | None = None,
    options: Options | None = None,
) -> Table:
    """The table of a record, its file kept open until `close_table`. database_id: that the file must name, where given. repairs: where frames are
    counted that were damaged and that their parity repaired, now and later. options: that say whether partitions of the table's level stay in memory
    once they were read, and whether reads are paranoid; without them neither.

    CorruptionError, with file and offset, when the file is missing, damaged in its metadata, or not the one that the record describes;
    its data blocks are checked as they are read. A damaged filter only costs reads: `table.source.filter_lost`."""
    source = _open_file(fs, directory, record.file_id, keyring, repairs, options is not None and options.paranoid)
    pin_index = options is not None and record.level < options.pin_index
    pin_filter = options is not None and record.level < options.pin_filter
    try:
        _check(source, record, source.file.size(), database_id)
        source.links = source.blob_files()
        if source.range_tombstones():  # The kernels would leave them out of their answers.
            place = source.offset_of(SectionType.RANGE_TOMBSTONES)
            raise CorruptionError(source.path, place, "the table holds range tombstones, which this version cannot apply", "open it by a newer one")
        table = _kernel_table(source, record, cache, pin_index, pin_filter)
        found = table.entries, table.smallest, table.largest, table.min_seqno, table.max_seqno
        if found != (record.entries, record.smallest, record.largest, record.min_seqno, record.max_seqno):
            source.damaged(source.offset_of(SectionType.INDEX), "index does not describe the table that the manifest does")
    except BaseException:
        source.close()
        raise
    return table


def close_table(table: Table) -> None:
    """Forget a table's cached blocks and close its file."""
    table.release()
    table.source.close()


def read_properties(fs: FileSystem, directory: str, file_id: int, keyring: Keyring | None) -> Properties:
    """What a table file says of itself, for files that no version names; CorruptionError when it is not whole."""
    source = _open_file(fs, directory, file_id, keyring)
    source.close()
    return source.properties


def _open_file(
    fs: FileSystem, directory: str, file_id: int, keyring: Keyring | None, repairs: Repairs | None = None, paranoid: bool = False
) -> TableFile:
    path = fs.join(directory, file_name(FileKind.SSTABLE, file_id))
    try:
        file = fs.open(path)
    except FileNotFoundError:
        raise CorruptionError(path, None, "the SSTable is missing", REBUILD) from None
    try:
        source = TableFile(file, keyring.cipher(file_id) if keyring else None, repairs, paranoid)
        if source.contents.file_id != file_id or source.properties.file_id != file_id:
            source.damaged(source.offset_of(SectionType.PROPERTIES), f"this is table {source.contents.file_id}, not {file_id}")
        if source.contents.database_id != source.properties.database_id:
            source.damaged(source.offset_of(SectionType.PROPERTIES), "the properties are of another database than the table of contents")
    except BaseException:
        file.close()
        raise
    return source


def _check(source: TableFile, record: TableRecord, size: int, database_id: bytes | None) -> None:
    """CorruptionError unless the file's properties are those of the record."""
    properties = source.properties
    shift = properties.global_seqno
    pairs = {
        "size": (size, record.size),
        "tree": (properties.tree_id, record.tree_id),
        "database": (properties.database_id, database_id or properties.database_id),
        "entries": (properties.entries, record.entries),
        "tombstones": (properties.tombstones, record.tombstones),
        "smallest key": (properties.smallest, record.smallest),
        "largest key": (properties.largest, record.largest),
        "smallest seqno": (properties.min_seqno + shift, record.min_seqno),
        "largest seqno": (properties.max_seqno + shift, record.max_seqno),
        "global seqno": (shift, record.global_seqno),
        "data section": (properties.data_bytes, source.data_bytes),
    }
    for name, (found, expected) in pairs.items():
        if found != expected:
            source.damaged(source.offset_of(SectionType.PROPERTIES), f"its {name} is not what the manifest says")


def _kernel_table(source: TableFile, record: TableRecord, cache: BlockCache, pin_index: bool, pin_filter: bool) -> Table:
    index, filter_bytes = source.index(), source.filter()
    made = partial(
        Table,
        source,
        index,
        smallest=record.smallest,
        cache=cache,
        global_seqno=record.global_seqno,
        partitions=source.top.partitions if source.top else None,
        pin_index=pin_index,
        pin_filter=pin_filter,
        prefix=PrefixExtractor.parse(source.properties.prefix).code,
    )
    if filter_bytes:
        try:
            return made(filter_bytes=filter_bytes)
        except ValueError:
            source.filter_lost = True  # If it is not the filter's fault, the index fails again below.
    try:
        return made(filter_bytes=b"")
    except ValueError as error:
        source.damaged(source.offset_of(SectionType.INDEX), f"index makes no sense: {error}")
