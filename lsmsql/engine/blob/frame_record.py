"""FrameRecord: where a frame lies and what it takes to read it; and the changes of the slot map that hold such records (docs/formats.md, "Slot map").

Entry, 28 bytes: u64 frame id, u32 slot, u16 unit in the slot, u16 parity scheme, u32 length, u32 values, u32 rewrites.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from ...parity_scheme import ParityScheme
from ..storage.filesystem import Bytes
from ..storage.random_access import SECTOR_BYTES

UNIT_BYTES = SECTOR_BYTES
UNITS_PER_SLOT = 128
SLOT_BYTES = UNIT_BYTES * UNITS_PER_SLOT
FRAME_ID_MAX = (1 << 63) - 1
SLOTS_MAX = 1 << 32

ENTRY = struct.Struct("<QIHHIII")
_CHANGE = struct.Struct("<QII")
_ID = struct.Struct("<Q")


class Place(NamedTuple):
    """Some units of one slot, next to each other."""

    slot: int
    unit: int
    units: int


class FrameRecord(NamedTuple):
    """One frame in the slot map.

    slot, unit: where it starts; parity: the code of the scheme that stands behind it; length: bytes with parity; values: how many ordinals it has,
    values left out included; rewrites: how often it was written again under its id, so that an older image is told from it.
    """

    frame_id: int
    slot: int
    unit: int
    parity: int
    length: int
    values: int
    rewrites: int

    @property
    def offset(self) -> int:
        """Of its first byte in the data file."""
        return self.slot * SLOT_BYTES + self.unit * UNIT_BYTES

    @property
    def units(self) -> int:
        return units_of(self.length)

    @property
    def place(self) -> Place:
        return Place(self.slot, self.unit, units_of(self.length))


class MapChange(NamedTuple):
    """What one record of the slot map's log says. next_frame_id: no frame so far has it or one above; placed: frames that lie there from now on,
    also those that lay elsewhere; freed: frames that are no more."""

    next_frame_id: int
    placed: tuple[FrameRecord, ...]
    freed: tuple[int, ...]


def units_of(length: int) -> int:
    """How many units hold so many bytes."""
    return -(-length // UNIT_BYTES)


def pack_entries(records: Iterable[FrameRecord]) -> bytes:
    return b"".join([ENTRY.pack(*record) for record in records])


def parse_entries(data: Bytes) -> list[FrameRecord]:
    """The inverse of `pack_entries`; ValueError for an entry that no frame has."""
    if len(data) % ENTRY.size:
        raise ValueError(f"{len(data)} bytes are no whole number of slot map entries")
    records = [FrameRecord(*fields) for fields in ENTRY.iter_unpack(data)]
    for record in records:
        ParityScheme.of_code(record.parity)
        if not (0 < record.frame_id <= FRAME_ID_MAX and record.length and record.values and record.unit + record.units <= UNITS_PER_SLOT):
            raise ValueError(f"no frame lies like {record}")
    return records


def pack_change(change: MapChange) -> bytes:
    """The payload of a log record."""
    fixed = _CHANGE.pack(change.next_frame_id, len(change.placed), len(change.freed))
    return fixed + pack_entries(change.placed) + b"".join([_ID.pack(frame_id) for frame_id in change.freed])


def parse_change(data: bytes) -> MapChange:
    """The inverse of `pack_change`; ValueError, saying what, for bytes that are none."""
    next_frame_id, placed, freed = _CHANGE.unpack_from(data) if len(data) >= _CHANGE.size else (0, -1, 0)
    middle = _CHANGE.size + placed * ENTRY.size
    if placed < 0 or len(data) != middle + freed * _ID.size:
        raise ValueError("a change of the slot map does not fill its record")
    records = parse_entries(memoryview(data)[_CHANGE.size : middle])
    change = MapChange(next_frame_id, tuple(records), tuple(frame_id for (frame_id,) in _ID.iter_unpack(data[middle:])))
    ids = [record.frame_id for record in change.placed] + list(change.freed)
    if len(set(ids)) != len(ids) or max(ids, default=0) >= next_frame_id:
        raise ValueError("a change of the slot map names a frame twice, or one that was not given out")
    return change


def check_places(records: Iterable[FrameRecord]) -> None:
    """ValueError if two frames share a unit. For whole maps: in the middle of a log that holds for no moment between two records."""
    used: dict[int, int] = {}
    for record in records:
        mask = ((1 << record.units) - 1) << record.unit
        if used.get(record.slot, 0) & mask:
            raise ValueError(f"slot {record.slot} is referenced twice: by frame {record.frame_id} and another")
        used[record.slot] = used.get(record.slot, 0) | mask
