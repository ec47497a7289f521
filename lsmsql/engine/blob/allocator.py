"""Which units of the data file are free, and which of them a frame gets: the shortest run that is long enough, in the lowest slot that has one."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from ...errors import UsageError
from .frame_record import SLOTS_MAX, UNITS_PER_SLOT, Place

_FULL = (1 << UNITS_PER_SLOT) - 1


class Allocator:
    """Free units of slots 0 to `slots` - 1; behind them everything is free. Not for several threads at once.

    slots: how many were ever given out, or lie in the file; free_units: in them.
    """

    def __init__(self, slots: int = 0) -> None:
        self.slots = slots
        self.free_units = 0
        self._free: dict[int, int] = {}  # slot -> a bit for each free unit, of slots that have any
        self._longest: dict[int, int] = {}  # slot -> how long its longest free run is
        self._by_run: list[list[int]] = [[] for _ in range(UNITS_PER_SLOT + 1)]  # heaps of slots; those whose run has changed are passed over

    def allocate(self, units: int) -> Place:
        """Units that nobody has. UsageError if a slot has not as many, or there are no more slots."""
        if not 1 <= units <= UNITS_PER_SLOT:
            raise UsageError(f"a frame has 1 to {UNITS_PER_SLOT} units, not {units}")
        slot = self._shortest_run(units)
        if slot is None:
            if self.slots >= SLOTS_MAX:
                raise UsageError(f"the blob file has {SLOTS_MAX} slots and takes no more")
            slot, self.slots = self.slots, self.slots + 1
            mask = _FULL
            self.free_units += UNITS_PER_SLOT
        else:
            mask = self._free[slot]
        unit = _find_run(mask, units)
        self.free_units -= units
        self._set(slot, mask & ~_mask(unit, units))
        return Place(slot, unit, units)

    def release(self, places: Iterable[Place]) -> None:
        """Units that may be given out again."""
        for slot, unit, units in places:
            mask = self._free.get(slot, 0)
            assert slot < self.slots and not mask & _mask(unit, units), "units freed twice"
            self.free_units += units
            self._set(slot, mask | _mask(unit, units))

    def runs(self) -> list[Place]:
        """All free units, by place; runs within a slot as long as they can be."""
        return [Place(slot, unit, units) for slot in sorted(self._free) for unit, units in _runs(self._free[slot])]

    def _shortest_run(self, units: int) -> int | None:
        for length in range(units, UNITS_PER_SLOT + 1):
            heap = self._by_run[length]
            while heap:
                if self._longest.get(heap[0]) == length:
                    return heap[0]
                heapq.heappop(heap)
        return None

    def _set(self, slot: int, mask: int) -> None:
        if not mask:
            self._free.pop(slot, None)
            self._longest.pop(slot, None)
            return
        self._free[slot] = mask
        length = max(units for _, units in _runs(mask))
        if self._longest.get(slot) != length:
            self._longest[slot] = length
            heapq.heappush(self._by_run[length], slot)


def holes(slots: int, used: Iterable[Place]) -> list[Place]:
    """What is free in slots 0 to `slots` - 1 where `used` is not."""
    masks: dict[int, int] = {}
    for slot, unit, units in used:
        masks[slot] = masks.get(slot, 0) | _mask(unit, units)
    return [Place(slot, unit, units) for slot in range(slots) for unit, units in _runs(_FULL & ~masks.get(slot, 0))]


def _mask(unit: int, units: int) -> int:
    return ((1 << units) - 1) << unit


def _runs(mask: int) -> list[tuple[int, int]]:
    """(first, length) of every run of ones, lowest first."""
    found = []
    start = 0
    while mask:
        zeros = (mask & -mask).bit_length() - 1
        mask >>= zeros
        ones = (~mask & (mask + 1)).bit_length() - 1
        found.append((start + zeros, ones))
        mask >>= ones
        start += zeros + ones
    return found


def _find_run(mask: int, units: int) -> int:
    """The first unit of the shortest run that is long enough; there is one."""
    return min((length, unit) for unit, length in _runs(mask) if length >= units)[1]
