"""Units that a change of the slot map leaves behind, until they may be written again.

They wait, in this order: for the change to be durable (else a crash brings back a map that points at them), for the readers of this process that
may have looked the old place up, and for other processes, which read the map as it was at some moment, to be gone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from .frame_record import Place


class Pin:
    """A reader. While it is held, what it has looked up may be read: `with store.pin(): ...`. Letting go twice is allowed."""

    __slots__ = ("_era", "_retirement")

    def __init__(self, retirement: Retirement) -> None:
        self._retirement = retirement
        self._era = retirement.enter()

    def __enter__(self) -> Pin:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        era, self._era = self._era, -1
        if era >= 0:
            self._retirement.leave(era)

    def __del__(self) -> None:
        if getattr(self, "_era", -1) >= 0:
            self.release()


class Retirement:
    """Places on their way back to the allocator. Any thread.

    others_read: whether another process may be reading the file. It is asked after the change is durable, so that whoever begins later finds the
    change. waiting_units: not free yet, though durably freed. reuses: how often places were given back: a reader who looked a place up and read it
    while this stayed the same has read what was there, pin or no pin.
    """

    def __init__(self, others_read: Callable[[], bool]) -> None:
        self._others_read = others_read
        self._lock = threading.RLock()  # Of finalizers too, which let go of pins.
        self._era = 0
        self._readers: dict[int, int] = {}  # era -> pins taken in it
        self._pinned: deque[tuple[int, list[Place]]] = deque()
        self._shared: list[Place] = []
        self.waiting_units = 0
        self.reuses = 0

    def enter(self) -> int:
        with self._lock:
            era = self._era
            self._readers[era] = self._readers.get(era, 0) + 1
            return era

    def leave(self, era: int) -> None:
        with self._lock:
            left = self._readers[era] - 1
            if left:
                self._readers[era] = left
            else:
                del self._readers[era]

    def add(self, places: Iterable[Place]) -> None:
        """Places that no durable map references any more, and none that is in memory."""
        found = list(places)
        if found:
            with self._lock:
                self._pinned.append((self._era, found))
                self._era += 1  # Pins taken from now on find the new places.
                self.waiting_units += sum(place.units for place in found)

    def take(self) -> list[Place]:
        """The places that nobody can be reading any more; each is told once."""
        with self._lock:
            if not self._pinned and not self._shared:
                return []
            oldest = min(self._readers, default=self._era)
            while self._pinned and self._pinned[0][0] < oldest:
                self._shared += self._pinned.popleft()[1]
            if not self._shared or self._others_read():
                return []
            self.reuses += 1  # Before anybody can write there.
            places, self._shared = self._shared, []
            self.waiting_units -= sum(place.units for place in places)
            return places
