"""A value frame: header, directory, values, parity (docs/formats.md, "Value frame"). This module makes them and reads the first two.

Header, 64 bytes, little-endian, then for each ordinal an entry of 32 bytes:

    0 u32 magic "LSMV"   4 u16 version   6 u16 parity scheme   8 u64 frame id   16 16B database id   32 u32 values
    36 u32 length without parity   40 u32 rewrites   44 u32 dictionary id   48 16B XXH3-128 of bytes 0..48 and the directory

    0 u32 offset in the frame, 0 for a value that was left out   4 u32 stored length   8 u32 raw length   12 u8 codec   13 u8 0
    14 u16 key epoch, 0 for a value that is not encrypted   16 16B XXH3-128 of the stored value

Nothing in the header is needed to find the parity: the slot map knows scheme and length, so that a damaged header can be repaired as well.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ...errors import UsageError
from ...parity_scheme import ParityScheme
from ..storage.checksum import checksum128
from ..storage.encryption import FileCipher
from ..storage.filesystem import Bytes
from ..storage.parity import add_parity
from .frame_record import SLOT_BYTES, UNIT_BYTES, FrameRecord
from .frame_store import NewFrame

MAGIC = 0x564D534C
VERSION = 1
HEADER_BYTES, ENTRY_BYTES = 64, 32
VALUE_SECTION = 0x40  # Section type of a sealed value: above the types of block frames, below those of records.

_HEADER = struct.Struct("<IHHQ16sIIII")
_ENTRY = struct.Struct("<IIIBBH16s")
_LEFT_OUT = bytes(ENTRY_BYTES)
unpack_entry = _ENTRY.unpack_from


class Stored(NamedTuple):
    """A value as it stands in a frame. data: compressed and sealed; epoch: of its key, 0 for a value that is not encrypted."""

    data: Bytes
    raw_length: int
    codec: int
    epoch: int


class Entry(NamedTuple):
    """What a directory says of one value. offset: in the frame; 0 for a value that was left out."""

    offset: int
    stored_length: int
    raw_length: int
    codec: int
    zero: int
    epoch: int
    digest: bytes


def body_bytes_max(parity: ParityScheme) -> int:
    """How long header, directory and values can be for the frame with its parity to fit into a slot."""
    return SLOT_BYTES * parity.d // (parity.d + parity.p) // parity.d * parity.d if parity else SLOT_BYTES


def stretch_bytes(parity: ParityScheme) -> int:
    """How many bytes of a value are sure to fit into a frame of their own, compressible or not, encrypted or not."""
    room = (body_bytes_max(parity) - HEADER_BYTES - ENTRY_BYTES - 64) // UNIT_BYTES * UNIT_BYTES
    if room < UNIT_BYTES:
        raise UsageError(f"parity {parity} is too much for a frame of {SLOT_BYTES} bytes")
    return room


def pack_frame(
    frame_id: int, database_id: bytes, values: Sequence[Stored | None], parity: ParityScheme, dictionary: int = 0, rewrites: int = 0
) -> NewFrame:
    """The frame of these values in the order of their ordinals, None for one that is left out."""
    offset = HEADER_BYTES + ENTRY_BYTES * len(values)
    entries = []
    for value in values:
        if value is None:
            entries.append(_LEFT_OUT)
        else:
            data, raw_length, codec, epoch = value
            length = len(data)
            entries.append(_ENTRY.pack(offset, length, raw_length, codec, 0, epoch, checksum128(data)))
            offset += length
    directory = b"".join(entries)
    fields = _HEADER.pack(MAGIC, VERSION, parity.code, frame_id, database_id, len(values), offset, rewrites, dictionary)
    buffers: list[Bytes] = [b"".join((fields, checksum128(fields + directory), directory)), *(value.data for value in values if value)]
    if parity:
        buffers = [add_parity(parity, b"".join(buffers))]
        offset = len(buffers[0])
    return NewFrame(frame_id, buffers, offset, len(values), parity.code, rewrites)


class Directory:
    """The directory of a frame that has passed its check. record: of the image of the frame that it belongs to; entries: its bytes; dictionary: the
    id of the frame's, 0 for none; cipher: the one that last opened a value of the frame."""

    __slots__ = ("cipher", "dictionary", "entries", "record")

    def __init__(self, record: FrameRecord, entries: bytes, dictionary: int) -> None:
        self.record = record
        self.entries = entries
        self.dictionary = dictionary
        self.cipher: FileCipher | None = None

    @property
    def size(self) -> int:
        return len(self.entries)

    def entry(self, ordinal: int) -> Entry:
        """ValueError if the frame has none of that number."""
        if not 0 <= ordinal < self.record.values:
            raise ValueError(f"the frame has {self.record.values} values, and no value {ordinal}")
        return Entry._make(unpack_entry(self.entries, ordinal * ENTRY_BYTES))


def directory_bytes(record: FrameRecord) -> int:
    """How many bytes `parse_directory` needs."""
    return HEADER_BYTES + ENTRY_BYTES * record.values


def parse_directory(data: Bytes, record: FrameRecord, database_id: bytes) -> Directory:
    """The directory at the start of a frame; ValueError, saying which check failed, if this is not the frame that the slot map means."""
    size = directory_bytes(record)
    if len(data) < size or size > record.length:
        raise ValueError(f"frame is cut short: {len(data)} bytes of {size} are there")
    magic, version, parity, frame_id, its_database, values, length, rewrites, dictionary = _HEADER.unpack_from(data)
    fields, digest = bytes(data[: _HEADER.size]), bytes(data[_HEADER.size : HEADER_BYTES])
    entries = bytes(data[HEADER_BYTES:size])
    if digest != checksum128(fields + entries):
        raise ValueError("frame header and directory do not match their checksum")
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"frame magic {magic:#x}, version {version} are unknown")
    if (frame_id, values, parity, rewrites, its_database) != (record.frame_id, record.values, record.parity, record.rewrites, database_id):
        raise ValueError(f"frame {frame_id} with {values} values, rewritten {rewrites} times, lies where the slot map says {record}")
    for offset, stored, _, _, zero, _, _ in _ENTRY.iter_unpack(entries):
        if zero or offset + stored > length or (offset and offset < size):
            raise ValueError("frame directory makes no sense")
    return Directory(record, entries, dictionary)


assert _HEADER.size + 16 == HEADER_BYTES and _ENTRY.size == ENTRY_BYTES
