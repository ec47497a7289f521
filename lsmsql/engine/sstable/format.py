"""The SSTable's footer, the last 128 bytes, and with it the place of every section (docs/formats.md, "SSTable").

    data frames, back to back from 0 | filter frame, or nothing | index frame | properties frame | footer

    0 8s magic "LSMSQLST"   8 u16 format version   10 u16 0   12 u32 0   16 u64 file id
    24 u64 filter offset   32 u64 filter size (0: no filter)   40 u64 index offset   48 u64 index size
    56 u64 properties offset   64 u64 properties size   72 48 zero bytes   120 u64 check: XXH3-64 over bytes 0..120

Sections are block frames, each number 0 of its type, with parity rs(4,2), which their sizes include. No key stands outside them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..storage.block_frame import HEADER_BYTES, RAW_BYTES_MAX
from ..storage.checksum import checksum64
from ..storage.encryption import OVERHEAD
from ..storage.parity import METADATA, parity_length

FORMAT_VERSION = 2
FOOTER_BYTES = 128

_MAGIC = b"LSMSQLST"
_FIELDS = struct.Struct("<8sHHIQQQQQQQ48s")
_CHECK = struct.Struct("<Q")
_FRAME_BYTES_MAX = RAW_BYTES_MAX + HEADER_BYTES + OVERHEAD
_SECTION_BYTES_MAX = _FRAME_BYTES_MAX + parity_length(METADATA, _FRAME_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class Footer:
    """Offsets and sizes in bytes. The data frames end where the filter begins."""

    file_id: int
    filter_offset: int
    filter_size: int
    index_offset: int
    index_size: int
    properties_offset: int
    properties_size: int

    def pack(self) -> bytes:
        """The 128 bytes."""
        fields = _FIELDS.pack(
            _MAGIC,
            FORMAT_VERSION,
            0,
            0,
            self.file_id,
            self.filter_offset,
            self.filter_size,
            self.index_offset,
            self.index_size,
            self.properties_offset,
            self.properties_size,
            b"",
        )
        return fields + _CHECK.pack(checksum64(fields))


def parse_footer(data: bytes, file_size: int) -> Footer:
    """The footer in the last 128 bytes of a file; ValueError, saying what, unless its sections exactly fill the file before it."""
    if len(data) != FOOTER_BYTES:
        raise ValueError(f"footer has {len(data)} bytes instead of {FOOTER_BYTES}")
    fields, (check,) = data[: _FIELDS.size], _CHECK.unpack(data[_FIELDS.size :])
    magic, version, zero, zero2, file_id, *places, rest = _FIELDS.unpack(fields)
    if magic != _MAGIC or check != checksum64(fields):
        raise ValueError("footer does not match its own check")
    if version != FORMAT_VERSION or zero or zero2 or any(rest):
        raise ValueError(f"SSTable format version {version} is unknown")
    footer = Footer(file_id, *places)
    position = footer.filter_offset
    for offset, size in zip(places[::2], places[1::2], strict=True):
        if offset != position or size > _SECTION_BYTES_MAX:
            raise ValueError("sections are not back to back")
        position += size
    if position != file_size - FOOTER_BYTES or not footer.filter_offset:
        raise ValueError("sections do not fill the file")
    return footer
