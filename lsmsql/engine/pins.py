"""Pins: the seqnos that open views and snapshots read at, and the floor that follows from them (engine rules 3 and 4)."""

from __future__ import annotations

import threading
from collections import Counter, deque

from ..errors import HistoryError
from .read_state import Published, ReadState


class Pins:
    """floor: the highest ever given to a flush or compaction. Below it only named snapshots and pinned seqnos are readable.

    The floor is taken under the lock under which views register, so a view is either older than a floor, which then lies at or below
    it, or newer, and then at or above it.
    """

    def __init__(self, published: Published) -> None:
        self._published = published
        self.lock = threading.RLock()  # Taken twice by what a signal handler or finalizer does in between.
        self._counts: Counter[int] = Counter()
        self._released: deque[int] = deque()
        self.floor = published.state.version.floor

    def pin(self, seqno: int | None = None) -> tuple[int, ReadState]:
        """Pin a seqno (default: the last published) and take a state that can be read at it. HistoryError if there is none."""
        published = self._published
        with self.lock:
            newest = published.seqno
            # After the seqno, so the state holds all of it; nor can it be compacted beyond it, since every floor so far is at most `newest`.
            state = published.state
            if seqno is None:
                seqno = newest
            elif seqno != newest:
                self._check(seqno, newest, state)
            self._counts[seqno] += 1
            return seqno, state

    def _check(self, seqno: int, newest: int, state: ReadState) -> None:
        if not 0 <= seqno <= newest:
            raise HistoryError(f"seqno {seqno} lies in the future; the last commit is {newest}")
        self._drain()
        if seqno < self.floor and seqno not in self._counts and seqno not in state.version.snapshots.values():
            raise HistoryError(f"the history of seqno {seqno} is not retained; the oldest that is: {self.floor}")

    def release(self, seqno: int) -> None:
        """Give a pin back. Takes no lock, since finalizers may call it anywhere, even inside `pin`."""
        self._released.append(seqno)

    def retention(self) -> tuple[int, list[int]]:
        """For a flush or compaction that begins now: its floor, and the seqnos below it whose newest versions must stay."""
        with self.lock:
            self._drain()
            self.floor = max(self.floor, min([self._published.seqno, *self._counts]))
            named = self._published.state.version.snapshots.values()
            return self.floor, sorted({seqno for seqno in (*named, *self._counts) if seqno < self.floor})

    def oldest(self) -> int | None:
        """The oldest pinned seqno."""
        with self.lock:
            self._drain()
            return min(self._counts, default=None)

    def __len__(self) -> int:
        with self.lock:
            self._drain()
            return self._counts.total()

    def _drain(self) -> None:
        while self._released:
            seqno = self._released.popleft()
            self._counts[seqno] -= 1
            if not self._counts[seqno]:
                del self._counts[seqno]
