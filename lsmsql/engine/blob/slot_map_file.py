"""slots-N: every frame and its place at one moment, written once, twice in the file (docs/formats.md, "Slot map").

A copy is a row of block frames of type SLOT_MAP with parity rs(4,2), whose ordinal is the part's number. The first copy starts at 0, the second,
byte for byte the same, at the next multiple of 4096. No other file says how long a copy is: the length of the file does, or the parts themselves.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ...errors import CorruptionError
from ..storage.block_frame import HEADER_BYTES, FrameType, open_frame, peek_header, seal_frame
from ..storage.checksum import checksum128
from ..storage.compression import Codec
from ..storage.encryption import FileCipher
from ..storage.parity import METADATA, Repairs
from .frame_record import ENTRY, FrameRecord, check_places, pack_entries, parse_entries

_PART = struct.Struct("<16sQQQII")  # database id, generation, next frame id, frames, part, parts
_ENTRIES_PER_PART = 32 << 10
_ALIGNMENT = 4096
_LEVEL = 1


def pack_snapshot(
    database_id: bytes, generation: int, next_frame_id: int, records: Sequence[FrameRecord], cipher: FileCipher | None
) -> tuple[bytes, bytes]:
    """(the whole file, the digest that the log names)."""
    parts = -(-len(records) // _ENTRIES_PER_PART) or 1
    frames, raws = [], []
    for part in range(parts):
        entries = records[part * _ENTRIES_PER_PART : (part + 1) * _ENTRIES_PER_PART]
        raw = _PART.pack(database_id, generation, next_frame_id, len(records), part, parts) + pack_entries(entries)
        raws.append(raw)
        frames.append(seal_frame(FrameType.SLOT_MAP, raw, codec=Codec.ZSTD, level=_LEVEL, cipher=cipher, ordinal=part, parity=METADATA))
    copy = b"".join(frames)
    return copy.ljust(_aligned(len(copy)), b"\0") + copy, _digest(raws)


def parse_snapshot(
    path: str, data: bytes, database_id: bytes, generation: int, cipher: FileCipher | None, repairs: Repairs | None = None
) -> tuple[int, list[FrameRecord], bytes]:
    """(next frame id, frames, digest) from the first copy that can be read; CorruptionError with what is wrong with the first when neither can."""
    damage = None
    for start in (0, _second_copy(len(data))):
        try:
            return _read_copy(path, data, start, database_id, generation, cipher, repairs)
        except CorruptionError as error:
            damage = damage or error
    assert damage is not None
    raise damage


def _read_copy(
    path: str, data: bytes, start: int, database_id: bytes, generation: int, cipher: FileCipher | None, repairs: Repairs | None
) -> tuple[int, list[FrameRecord], bytes]:
    raws: list[bytes] = []
    records: list[FrameRecord] = []
    offset = start
    first: tuple[object, ...] = ()
    while True:
        length = _length(data, offset, start)
        raw = open_frame(path, offset, data[offset : offset + length], FrameType.SLOT_MAP, cipher, len(raws), METADATA, repairs)
        if len(raw) < _PART.size:
            raise CorruptionError(path, offset, "a part of the slot map is cut short")
        its_database, its_generation, next_frame_id, count, part, parts = _PART.unpack_from(raw)
        first = first or (database_id, generation, next_frame_id, count, parts)
        if (its_database, its_generation, next_frame_id, count, parts) != first or part != len(raws):
            raise CorruptionError(path, offset, "a part of the slot map is of another map or place")
        try:
            records += parse_entries(memoryview(raw)[_PART.size :])
        except ValueError as error:
            raise CorruptionError(path, offset, f"the slot map makes no sense: {error}") from None
        raws.append(raw)
        offset += length
        if len(raws) == parts:
            break
    ids = {record.frame_id for record in records}
    if len(records) != count or len(ids) != count or max(ids, default=0) >= next_frame_id:
        raise CorruptionError(path, start, "the slot map holds other frames than it says")
    try:
        check_places(records)
    except ValueError as error:
        raise CorruptionError(path, start, f"the slot map makes no sense: {error}") from None
    return next_frame_id, records, _digest(raws)


def _length(data: bytes, offset: int, start: int) -> int:
    """How many bytes the frame at `offset` has with its parity, by its header, or, where that is damaged, as the last one of its copy."""
    found = peek_header(data[offset : offset + HEADER_BYTES])
    if found is not None:
        length = found[0].frame_length
        return length + METADATA.parity_length(length)
    return max(0, _copy_length(len(data)) - (offset - start))


def _digest(raws: Sequence[bytes]) -> bytes:
    return checksum128(b"".join([checksum128(raw) for raw in raws]))


def _aligned(length: int) -> int:
    return -(-length // _ALIGNMENT) * _ALIGNMENT


def _copy_length(size: int) -> int:
    """How long one copy is in a file of that size: the file is one copy, filled up to whole sectors, and another."""
    return max(0, size - -(-size // (2 * _ALIGNMENT)) * _ALIGNMENT)


def _second_copy(size: int) -> int:
    return size - _copy_length(size)


assert ENTRY.size * _ENTRIES_PER_PART < 1 << 20
