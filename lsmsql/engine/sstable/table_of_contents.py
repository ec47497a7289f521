"""The table of contents: which sections an SSTable has and where (docs/formats.md, "SSTable").

It fills the last two sectors of the file, each of 4,096 bytes and aligned to that, and both the same, so that one lost sector leaves the other.

    0 8s magic "LSMSQLST"   8 u16 format version   10 u16 sections   12 u32 0   16 u64 file id   24 16s database id
    40 per section: u8 type   u8 copy   u16 0   u32 frames   u64 offset   u64 size
    4080 16s XXH3-128 over bytes 0..4080

Sections stand in the order of the table, which is that of the file. What is mirrored stands as copy 0 and copy 1, at least 4,096 bytes apart.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from ..storage.checksum import checksum128

FORMAT_VERSION = 3
SECTOR_BYTES = 4096
CONTENTS_BYTES = 2 * SECTOR_BYTES
APART_BYTES = 4096  # between the end of a section and the beginning of its mirror: no lost sector touches both

_MAGIC = b"LSMSQLST"
_HEAD = struct.Struct("<8sHHIQ16s")
_ENTRY = struct.Struct("<BBHIQQ")
_DIGEST_BYTES = 16
_BODY_BYTES = SECTOR_BYTES - _DIGEST_BYTES
SECTIONS_MAX = (_BODY_BYTES - _HEAD.size) // _ENTRY.size


class SectionType(IntEnum):
    """On disk: never renumber."""

    DATA = 1
    INDEX = 2
    FILTER = 3
    PROPERTIES = 4
    INDEX_PARTITION = 5
    FILTER_PARTITION = 6
    DICTIONARY = 7
    RANGE_TOMBSTONES = 8
    BLOB_FILES = 9


@dataclass(frozen=True, slots=True)
class Section:
    """type, copy: which; frames: how many stand in it, back to back; offset, size: bytes of the file."""

    type: SectionType
    copy: int
    frames: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class TableOfContents:
    """file_id, database_id: whose the file is; sections: in file order."""

    file_id: int
    database_id: bytes
    sections: tuple[Section, ...]

    def find(self, type: SectionType, copy: int = 0) -> Section | None:
        """One section, None if the table has it not."""
        for section in self.sections:
            if section.type == type and section.copy == copy:
                return section
        return None

    def copies(self, type: SectionType) -> tuple[Section, ...]:
        return tuple(section for section in self.sections if section.type == type)

    def pack(self) -> bytes:
        """Both sectors."""
        body = bytearray(_HEAD.pack(_MAGIC, FORMAT_VERSION, len(self.sections), 0, self.file_id, self.database_id))
        for section in self.sections:
            body += _ENTRY.pack(section.type, section.copy, 0, section.frames, section.offset, section.size)
        if len(body) > _BODY_BYTES:
            raise ValueError(f"a table has at most {SECTIONS_MAX} sections, not {len(self.sections)}")
        whole = bytes(body.ljust(_BODY_BYTES, b"\0"))
        return (whole + checksum128(whole)) * 2


def padding(written: int) -> int:
    """How many zero bytes bring a file of this length to where its table of contents may stand."""
    return -written % SECTOR_BYTES


def mirror_gap(sizes: list[int]) -> int:
    """How many bytes have to lie between sections of these sizes, one behind the other, and their mirrors in the same order."""
    return max(0, APART_BYTES + max(sizes, default=0) - sum(sizes))


def parse_sector(data: bytes, file_size: int) -> TableOfContents:
    """The table of contents in one of the sectors; ValueError, saying what, unless it is whole and its sections lie in the file, in order."""
    if len(data) != SECTOR_BYTES:
        raise ValueError(f"table of contents has {len(data)} bytes instead of {SECTOR_BYTES}")
    if checksum128(data[:_BODY_BYTES]) != data[_BODY_BYTES:]:
        raise ValueError("table of contents does not match its checksum")
    magic, version, count, zero, file_id, database_id = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("this is no SSTable")
    if version != FORMAT_VERSION or zero:
        raise ValueError(f"SSTable format version {version} is unknown; a newer version may have written it")
    if count > SECTIONS_MAX or data[_HEAD.size + count * _ENTRY.size : _BODY_BYTES].strip(b"\0"):
        raise ValueError(f"table of contents of {count} sections makes no sense")
    sections = tuple(_section(*_ENTRY.unpack_from(data, _HEAD.size + number * _ENTRY.size)) for number in range(count))
    end = 0
    for section in sections:
        if section.offset < end or section.end > file_size - CONTENTS_BYTES:
            raise ValueError(f"section {section.type.name} does not lie in its place")
        end = section.end
    if len({(section.type, section.copy) for section in sections}) != count:
        raise ValueError("a section stands twice in the table of contents")
    if file_size - CONTENTS_BYTES - end != padding(end):
        raise ValueError("sections do not fill the file")
    return TableOfContents(file_id, database_id, sections)


def _section(type: int, copy: int, zero: int, frames: int, offset: int, size: int) -> Section:
    if zero or copy > 1 or not frames or not size:
        raise ValueError(f"section of type {type} makes no sense")
    try:
        return Section(SectionType(type), copy, frames, offset, size)
    except ValueError:
        raise ValueError(f"section type {type} is unknown; a newer version may have written it") from None
