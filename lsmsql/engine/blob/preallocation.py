"""Room in the data file: asked for in coarse steps before it is needed, given back where it is not."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ..storage.random_access import UNSUPPORTED, RandomAccessFile
from .frame_record import SLOT_BYTES, UNIT_BYTES, Place

STEP_SLOTS, LARGE_STEP_SLOTS = 8, 64
LARGE_FROM_SLOTS = 128


class Preallocation:
    """slots: how many the file has room for. Where the file system cannot preallocate nothing is asked of it again."""

    def __init__(self, file: RandomAccessFile, slots: int) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._supported = True
        self.slots = slots

    def reach(self, slots: int) -> None:
        """See that there is room for so many slots. OSError if the disk is full."""
        if slots <= self.slots or not self._supported:
            return
        with self._lock:
            step = LARGE_STEP_SLOTS if slots >= LARGE_FROM_SLOTS else STEP_SLOTS
            target = -(-slots // step) * step
            if target > self.slots:
                try:
                    self._file.preallocate(self.slots * SLOT_BYTES, (target - self.slots) * SLOT_BYTES)
                except OSError as error:
                    if error.errno not in UNSUPPORTED:
                        raise
                    self._supported = False
                    return
                self.slots = target


def punch(file: RandomAccessFile, places: Sequence[Place]) -> int:
    """Give the room of these units back to the file system, as far as the file reaches; how many bytes they are, 0 where it cannot."""
    total = 0
    end = file.size()
    for slot, unit, units in places:
        offset = slot * SLOT_BYTES + unit * UNIT_BYTES
        size = min(units * UNIT_BYTES, end - offset)
        if size > 0:
            try:
                file.punch(offset, size)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
                return total
            total += size
    return total
