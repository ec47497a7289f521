"""The footer of a manifest archive: its table of contents, with the checksum of every section (docs/formats.md, "Manifest archive").

    0 u8 layout version (1)   1 u8 flags (1: mirrored in the first 4 KiB)   2 u16 sections, then for each section:
    u8 name length, name in UTF-8, u64 offset in the archive, u64 raw bytes, 16B checksum, u16 frames, frames * u32 size with parity

It is a frame of type FOOTER with parity, followed by its own size as u32: at most 4 KiB together, at the tail, and as its mirror in the head.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ...errors import UsageError
from ..storage.checksum import checksum128

HEAD_BYTES = 4096  # Of the archive: the mirror of the footer, or zeros.
FOOTER_BYTES_MAX = 4096  # With parity and size hint.
NAME_BYTES_MAX = 64
SECTION_BYTES_MAX = 1 << 30
PART_BYTES = 4 << 20  # Raw bytes of each frame of a section, but the last.

HINT = struct.Struct("<I")
_LAYOUT = 1
_MIRRORED = 1
_FIXED = struct.Struct("<BBH")
_SECTION = struct.Struct("<QQ16sH")
_SIZE = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class ArchiveSection:
    """offset: in the archive; raw_bytes: of its content; checksum: 16 bytes, over the digests in the headers of its frames; frames: bytes of
    each, with parity."""

    name: str
    offset: int
    raw_bytes: int
    checksum: bytes
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Footer:
    """mirrored: it stands in the head as well; sections: in file order."""

    mirrored: bool
    sections: tuple[ArchiveSection, ...]

    def pack(self) -> bytes:
        parts = [_FIXED.pack(_LAYOUT, _MIRRORED if self.mirrored else 0, len(self.sections))]
        for section in self.sections:
            name = section.name.encode("utf-8")
            parts += [bytes((len(name),)), name, _SECTION.pack(section.offset, section.raw_bytes, section.checksum, len(section.frames))]
            parts += map(_SIZE.pack, section.frames)
        return b"".join(parts)

    def digest(self, version_id: int) -> bytes:
        """What CURRENT binds: 16 bytes over the version's number and every field, in the order of names. Not over the bytes of the file, which
        repair by parity or mirror may have to make good first."""
        ordered = Footer(self.mirrored, tuple(sorted(self.sections, key=lambda section: section.name)))
        return checksum128(version_id.to_bytes(8, "little") + ordered.pack())


def parse_footer(data: bytes, archive_bytes: int) -> Footer:
    """The inverse of `Footer.pack`; ValueError, saying what, for bytes that describe no archive of that size."""
    if len(data) < _FIXED.size:
        raise ValueError("the footer is cut short")
    layout, flags, count = _FIXED.unpack_from(data)
    if layout != _LAYOUT or flags & ~_MIRRORED:
        raise ValueError(f"footer layout {layout}, flags {flags:#04x} are unknown")
    position = _FIXED.size
    sections: list[ArchiveSection] = []
    for _ in range(count):
        section, position = _parse_section(data, position)
        if section.name in {other.name for other in sections}:
            raise ValueError(f"section {section.name!r} stands twice")
        end = sections[-1].offset + sum(sections[-1].frames) if sections else HEAD_BYTES
        if section.offset != end or section.offset + sum(section.frames) > archive_bytes:
            raise ValueError(f"section {section.name!r} does not lie behind the one before it")
        sections.append(section)
    if position != len(data):
        raise ValueError("the footer does not fill its frame")
    return Footer(bool(flags & _MIRRORED), tuple(sections))


def check_name(name: str) -> None:
    """UsageError for a name that no section can have."""
    if not 1 <= len(name.encode("utf-8")) <= NAME_BYTES_MAX:
        raise UsageError(f"the name of a section has 1 to {NAME_BYTES_MAX} bytes in UTF-8, not {len(name.encode('utf-8'))}")


def _parse_section(data: bytes, position: int) -> tuple[ArchiveSection, int]:
    length = data[position] if position < len(data) else 0
    start = position + 1
    fields = start + length
    if not 1 <= length <= NAME_BYTES_MAX or fields + _SECTION.size > len(data):
        raise ValueError("a section without a name, or cut short")
    offset, raw_bytes, checksum, frames = _SECTION.unpack_from(data, fields)
    sizes = fields + _SECTION.size
    end = sizes + frames * _SIZE.size
    if end > len(data) or raw_bytes > SECTION_BYTES_MAX or frames != -(-raw_bytes // PART_BYTES):
        raise ValueError(f"a section cannot have {frames} frames for {raw_bytes} bytes")
    name = data[start:fields].decode("utf-8")
    return ArchiveSection(name, offset, raw_bytes, checksum, tuple(size for (size,) in _SIZE.iter_unpack(data[sizes:end]))), end
