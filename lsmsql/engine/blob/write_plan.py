"""The order in which a batch of frames is written: by place, those next to each other in one call."""

from __future__ import annotations

from collections.abc import Sequence

from ..storage.filesystem import Bytes
from .frame_record import SLOT_BYTES, UNIT_BYTES, Place

CALL_BYTES_MAX = 8 << 20


def write_plan(frames: Sequence[tuple[Place, Sequence[Bytes]]]) -> list[tuple[int, list[Bytes]]]:
    """(offset, buffers) for each vectored write, ascending. The buffers of a frame fill its units."""
    calls: list[tuple[int, list[Bytes]]] = []
    start = end = -1
    for place, buffers in sorted(frames, key=lambda frame: frame[0]):
        offset = place.slot * SLOT_BYTES + place.unit * UNIT_BYTES
        if offset != end or offset - start >= CALL_BYTES_MAX:
            start = offset
            calls.append((offset, []))
        calls[-1][1].extend(buffers)
        end = offset + place.units * UNIT_BYTES
    return calls
