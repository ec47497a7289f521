"""What is in an SSTable, for people: every part on its own, so that a damaged table, or one whose key is missing, still shows the rest."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

from ...errors import CorruptionError, KeyUnavailableError
from ...parity_scheme import ParityScheme
from ..kernel import decode_block, parse_index
from ..storage.block_frame import FLAG_ENCRYPTED, HEADER_BYTES, FrameHeader, FrameType, check_frame, open_frame, open_payload, peek_header
from ..storage.compression import LEAD_BYTES_MAX, Codec, Lead, decompress
from ..storage.dictionary import Dictionary, shared_dictionary
from ..storage.encryption import FileCipher
from ..storage.filesystem import File
from ..storage.parity import METADATA, Repairs
from .blob_files import LinkedBlobFile, parse_blob_files
from .filter_statistics import FilterStatistics, filter_statistics
from .properties import Properties, parse_properties
from .range_tombstones import Fragment, parse_fragments
from .table_of_contents import CONTENTS_BYTES, SECTOR_BYTES, Section, SectionType, TableOfContents, parse_sector
from .top_index import TopIndex, parse_top_index

T = TypeVar("T")
_SEARCH_BYTES = 1 << 20
_MAGIC = struct.pack("<H", 0x4D53)


class IndexEntry(NamedTuple):
    """A data block as the index describes it. size: of its frame with parity; seqnos as in the file; kind_mask: see docs/formats.md."""

    offset: int
    size: int
    entries: int
    min_seqno: int
    max_seqno: int
    kind_mask: int
    last_key: bytes


class Entry(NamedTuple):
    """One version of a key. block: its number; seqno: as in the file."""

    block: int
    key: bytes
    seqno: int
    kind: int
    value: bytes


@dataclass(frozen=True, slots=True)
class BlockLine:
    """A data block as it stands in the file. number: -1 where damage before it leaves that unknown. size: with parity. header: None if it is damaged.

    state: "whole", "repaired" (readable by its parity) or what is wrong with it."""

    number: int
    offset: int
    size: int
    header: FrameHeader | None
    parity: ParityScheme
    state: str


class TableDump:
    """An open SSTable. Methods raise CorruptionError where what they are asked for is damaged beyond repair, and KeyUnavailableError where it is
    encrypted and `cipher` is None; those that go over many things go on behind a damaged one.

    damage: what has been found unreadable so far; repairs: what had to be repaired, or read from its mirror.
    """

    def __init__(self, file: File, cipher: FileCipher | None, why: str = "no key was given") -> None:
        """why: there is no cipher, in the words of the error that a reader meets."""
        self.file = file
        self.path = file.path
        self.size = file.size()
        self.cipher = cipher
        self._why = why
        self._found: dict[SectionType, Any] = {}
        self._last_lead: tuple[int, Lead] | None = None
        self.damage: list[CorruptionError] = []
        self.repairs = Repairs()

    def close(self) -> None:
        self.file.close()

    # What the file has.

    def contents(self) -> TableOfContents:
        """From the last sector, or else from the one before it."""
        start = max(0, self.size - CONTENTS_BYTES)
        sectors = self.file.read_at(start, CONTENTS_BYTES)
        try:
            return parse_sector(sectors[SECTOR_BYTES:], self.size)
        except ValueError as error:
            reason = str(error)
        try:
            found = parse_sector(sectors[:SECTOR_BYTES], self.size)
        except ValueError:
            raise CorruptionError(self.path, start, reason) from None
        self.repairs.add(self.path, start + SECTOR_BYTES)
        return found

    def sections(self) -> Iterator[tuple[Section, str]]:
        """Each section but data, and what is to be said of it: as BlockLine.state, of partitions of the worst of them."""
        for section in self.contents().sections:
            if section.type in (SectionType.INDEX_PARTITION, SectionType.FILTER_PARTITION):
                yield section, self._state_of_partitions(section)
            elif section.type != SectionType.DATA:
                yield section, self._state(section.offset, section.size, FrameType[section.type.name], METADATA)

    def properties(self) -> Properties:
        """What the table says of itself, from the first good copy."""
        if SectionType.PROPERTIES not in self._found:
            self._found[SectionType.PROPERTIES] = self._section(SectionType.PROPERTIES, parse_properties)
        found: Properties = self._found[SectionType.PROPERTIES]
        return found

    def index(self) -> list[IndexEntry]:
        """The blocks as the first good copy of the index describes them."""
        if SectionType.INDEX not in self._found:
            if self.properties().partitions:
                count = self._top().partitions.blocks
                parts = [self._partition(SectionType.INDEX_PARTITION, number, parse_index) for number in range(len(count))]
            else:
                parts = [self._section(SectionType.INDEX, parse_index)]
            rows = [row for part in parts for row in zip(*part, strict=True)]
            offsets = accumulate((row[0] for row in rows), initial=0)
            self._found[SectionType.INDEX] = [IndexEntry(offset, *row) for offset, row in zip(offsets, rows, strict=False)]
        found: list[IndexEntry] = self._found[SectionType.INDEX]
        return found

    def _top(self) -> TopIndex:
        if SectionType.INDEX_PARTITION not in self._found:
            self._found[SectionType.INDEX_PARTITION] = self._section(SectionType.INDEX, parse_top_index)
        found: TopIndex = self._found[SectionType.INDEX_PARTITION]
        return found

    def dictionary(self) -> Dictionary | None:
        """What the blocks were compressed with; None if the table embeds none."""
        if SectionType.DICTIONARY not in self._found:
            embedded = self.contents().find(SectionType.DICTIONARY) is not None
            self._found[SectionType.DICTIONARY] = self._section(SectionType.DICTIONARY, shared_dictionary) if embedded else None
        found: Dictionary | None = self._found[SectionType.DICTIONARY]
        return found

    def filter(self) -> FilterStatistics | None:
        """What the filter is and how well it works; None if the table has none. Of one in partitions, these together."""
        raws = [raw for raw, _ in self.filters() if raw]
        if not raws:
            return None
        try:
            return filter_statistics(raws, self.properties().keys)
        except ValueError as error:
            raise CorruptionError(self.path, None, f"filter makes no sense: {error}") from None

    def filters(self) -> list[tuple[bytes, int]]:
        """The raw filters and how many blocks each is about: one, b"" for none, or one for each partition of the index."""
        if self.contents().find(SectionType.FILTER_PARTITION) is not None:
            return [
                (self._partition(SectionType.FILTER_PARTITION, number, bytes), blocks) for number, blocks in enumerate(self._top().partitions.blocks)
            ]
        has_one = self.contents().find(SectionType.FILTER) is not None
        return [(self._section(SectionType.FILTER, bytes) if has_one else b"", self.properties().blocks)]

    def metadata_frames(self) -> Iterator[tuple[int, int]]:
        """Where every frame is that is not of data, and its size."""
        for section in self.contents().sections:
            if section.type in (SectionType.INDEX_PARTITION, SectionType.FILTER_PARTITION):
                top = self._top()
                places = top.places if section.type == SectionType.INDEX_PARTITION else top.filter_places
                yield from ((section.offset + offset, size) for offset, size in places)
            elif section.type != SectionType.DATA:
                yield section.offset, section.size

    def range_tombstones(self) -> tuple[Fragment, ...]:
        """Those that the table holds, in fragments."""
        return self._optional(SectionType.RANGE_TOMBSTONES, parse_fragments)

    def blob_files(self) -> tuple[LinkedBlobFile, ...]:
        """Those that the table points into."""
        return self._optional(SectionType.BLOB_FILES, parse_blob_files)

    # Blocks and entries.

    def blocks(self) -> Iterator[BlockLine]:
        """Every data block, as far as it can be found: by the index, or else by the headers of the frames themselves."""
        data = self.contents().find(SectionType.DATA)
        if data is None:
            raise CorruptionError(self.path, None, "the table has no data section")
        try:
            scheme, places = ParityScheme.of_code(self.properties().parity), self.index()
        except (CorruptionError, KeyUnavailableError) as error:
            self.note(error)
            yield from self._walk(data)
            return
        for number, entry in enumerate(places):
            yield self._line(number, entry.offset, entry.size, scheme)

    def entries(self, first: int = 0) -> Iterator[Entry]:
        """Every entry of the blocks from number `first` on that can be read; `damage` has those that could not."""
        for number, _ in enumerate(self.index()[first:], first):
            try:
                found = list(self.block(number))
            except CorruptionError as error:
                self.note(error)
            else:
                yield from found

    def block(self, number: int) -> Iterator[Entry]:
        """The entries of one block. IndexError if there is none of that number."""
        place = self._place(number)
        raw = self.raw(number)
        try:
            block = decode_block(raw)
        except ValueError as error:
            raise CorruptionError(self.path, place.offset, str(error)) from None
        for key, seqno, kind, value in zip(block.keys(), block.seqnos(), block.kinds(), block.values(), strict=True):
            yield Entry(number, bytes(key), seqno, kind, bytes(value))

    def raw(self, number: int) -> bytes:
        """One block verified, repaired if need be, decrypted and decompressed."""
        place, dictionary = self._place(number), self.dictionary()
        scheme = ParityScheme.of_code(self.properties().parity)
        self._require_key(place.offset)
        stored, known = self.file.read_at(place.offset, place.size), dictionary.id if dictionary else 0
        opened = open_payload(self.path, place.offset, stored, FrameType.DATA, self.cipher, number, scheme, self.repairs, known)
        codec, raw_length, payload = opened
        lead = self._lead(number) if codec == Codec.ZSTD_LEAD else None
        try:
            return decompress(payload, codec, raw_length, lead or dictionary)
        except ValueError as error:
            raise CorruptionError(self.path, place.offset, f"frame payload {error}") from None

    def _lead(self, number: int) -> Lead | None:
        """What a part of a block is compressed against, kept for the next; None for the first part."""
        first = number - number % self.properties().block_parts
        if first == number:
            return None
        if self._last_lead is None or self._last_lead[0] != first:
            raw = self.raw(first)
            if not 0 < len(raw) <= LEAD_BYTES_MAX:
                raise CorruptionError(self.path, self._place(first).offset, f"the first part of a block has {len(raw)} bytes, and is no lead")
            self._last_lead = first, Lead(raw)
        return self._last_lead[1]

    def stored(self, number: int) -> tuple[BlockLine, bytes]:
        """One block and its bytes in the file, header and parity included. IndexError if there is none of that number."""
        for line in self.blocks():
            if line.number == number:
                return line, self.file.read_at(line.offset, line.size)
        raise IndexError(f"{self.path} has no block {number} that could be found")

    # Reading.

    def _place(self, number: int) -> IndexEntry:
        places = self.index()
        if not 0 <= number < len(places):
            raise IndexError(f"{self.path} has blocks 0 to {len(places) - 1}, not {number}")
        return places[number]

    def _section(self, type: SectionType, parse: Callable[[bytes], T]) -> T:
        return self._mirrored(type, [(section.offset, section.size) for section in self.contents().copies(type)], parse)

    def _partition(self, type: SectionType, number: int, parse: Callable[[bytes], T]) -> T:
        top = self._top()
        offset, size = (top.places if type == SectionType.INDEX_PARTITION else top.filter_places)[number]
        return self._mirrored(type, [(section.offset + offset, size) for section in self.contents().copies(type)], parse, number)

    def _mirrored(self, type: SectionType, places: Sequence[tuple[int, int]], parse: Callable[[bytes], T], ordinal: int = 0) -> T:
        """What the first good copy of a frame holds, which stands at several (offset, size)."""
        first: CorruptionError | None = None
        for offset, size in places:
            try:
                self._require_key(offset)
                stored = self.file.read_at(offset, size)
                found = parse(open_frame(self.path, offset, stored, FrameType[type.name], self.cipher, ordinal, METADATA, self.repairs))
            except ValueError as error:
                first = first or CorruptionError(self.path, offset, f"{type.name.lower()} section makes no sense: {error}")
            except CorruptionError as error:
                first = first or error
            else:
                if first is not None:
                    self.repairs.add(self.path, first.offset or 0)
                return found
        raise first or CorruptionError(self.path, None, f"the table has no {type.name.lower()} section")

    def _optional(self, type: SectionType, parse: Callable[[bytes], tuple[T, ...]]) -> tuple[T, ...]:
        return self._section(type, parse) if self.contents().find(type) is not None else ()

    def _require_key(self, offset: int) -> None:
        """KeyUnavailableError for an encrypted frame without a key."""
        peeked = peek_header(self.file.read_at(offset, HEADER_BYTES))
        if self.cipher is None and peeked is not None and peeked[0].flags & FLAG_ENCRYPTED:
            raise KeyUnavailableError(
                f"{self.path}: this is encrypted, and {self._why}; without the key the contents, the blocks and their bytes can be shown"
            )

    def _line(self, number: int, offset: int, size: int, scheme: ParityScheme) -> BlockLine:
        peeked = peek_header(self.file.read_at(offset, HEADER_BYTES))
        return BlockLine(number, offset, size, peeked[0] if peeked else None, scheme, self._state(offset, size, FrameType.DATA, scheme))

    def _state(self, offset: int, size: int, type: FrameType, scheme: ParityScheme) -> str:
        repaired = Repairs()
        try:
            check_frame(self.path, offset, self.file.read_at(offset, size), type, scheme, repaired)
        except CorruptionError as error:
            self.note(error)
            return error.message
        if repaired.count:
            self.repairs.add(self.path, offset)
        return "repaired" if repaired.count else "whole"

    def _state_of_partitions(self, section: Section) -> str:
        """The worst of them; without the top-level index, which is encrypted, or damaged, nobody knows where they are."""
        try:
            top = self._top()
        except (CorruptionError, KeyUnavailableError) as error:
            self.note(error)
            return "unknown without the top-level index"
        places = top.places if section.type == SectionType.INDEX_PARTITION else top.filter_places
        states = [self._state(section.offset + offset, size, FrameType[section.type.name], METADATA) for offset, size in places]
        return next((state for state in states if state not in ("whole", "repaired")), "repaired" if "repaired" in states else "whole")

    def _walk(self, data: Section) -> Iterator[BlockLine]:
        """Blocks by their own headers. What lies between two that can be found is one line, without a number from there on."""
        offset, number = data.offset, 0
        while offset < data.end:
            peeked = peek_header(self.file.read_at(offset, HEADER_BYTES))
            size = peeked[0].frame_length + peeked[1].parity_length(peeked[0].frame_length) if peeked else 0
            if peeked and peeked[0].type == FrameType.DATA and offset + size <= data.end:
                yield self._line(number, offset, size, peeked[1])
                number += number >= 0
            else:
                size = self._next_frame(offset + 1, data.end) - offset
                self.note(CorruptionError(self.path, offset, "no block begins here"))
                yield BlockLine(-1, offset, size, None, ParityScheme(), "no block begins here")
                number = -1
            offset += size

    def _next_frame(self, start: int, end: int) -> int:
        """Where the next header that passes its own check is, or the end."""
        while start < end:
            window = self.file.read_at(start, min(_SEARCH_BYTES, end - start) + HEADER_BYTES)
            at = window.find(_MAGIC)
            while 0 <= at < _SEARCH_BYTES:
                if start + at < end and peek_header(window[at : at + HEADER_BYTES]):
                    return start + at
                at = window.find(_MAGIC, at + 1)
            start += _SEARCH_BYTES
        return end

    def note(self, error: Exception) -> None:
        """Add to `damage`, once."""
        if isinstance(error, CorruptionError) and str(error) not in map(str, self.damage):
            self.damage.append(error)
