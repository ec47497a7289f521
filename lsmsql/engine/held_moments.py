"""Held moments: what a reader's open views and snapshots read at. Nobody keeps history for a reader, so it keeps the files of each."""

from __future__ import annotations

import threading
from collections import deque

from ..errors import HistoryError
from .read_state import Published, ReadState


class HeldMoments:
    """As Pins, where another process decides what history stays. newest: what was published last; it is replaced whole."""

    def __init__(self, newest: Published) -> None:
        self.newest = newest
        self._lock = threading.RLock()  # Taken twice by what a signal handler or finalizer does in between.
        self._held: dict[int, tuple[int, ReadState]] = {}  # seqno -> how many hold it, a state that can be read at it
        self._released: deque[int] = deque()

    def pin(self, seqno: int | None = None) -> tuple[int, ReadState]:
        """Hold a seqno (default: the last published) and take a state that can be read at it. HistoryError if there is none."""
        with self._lock:
            self._drain()
            newest = self.newest
            if seqno is None:
                seqno = newest.seqno
            count, state = self._held.get(seqno, (0, newest.state))
            if not count and seqno != newest.seqno:
                require_retained(seqno, newest)
            self._held[seqno] = count + 1, state
            return seqno, state

    def release(self, seqno: int) -> None:
        """Give a hold back. Takes no lock, since finalizers may call it anywhere, even inside `pin`."""
        self._released.append(seqno)

    def drain(self) -> None:
        """Let go of what was given back."""
        with self._lock:
            self._drain()

    def _drain(self) -> None:
        while self._released:
            seqno = self._released.popleft()
            count, state = self._held.pop(seqno)
            if count > 1:
                self._held[seqno] = count - 1, state

    def __len__(self) -> int:
        with self._lock:
            self._drain()
            return sum(count for count, _ in self._held.values())


def require_retained(seqno: int, published: Published) -> None:
    """HistoryError unless what is published can be read at a seqno."""
    version = published.state.version
    if not 0 <= seqno <= published.seqno:
        raise HistoryError(f"seqno {seqno} lies in the future; the last commit that was read is {published.seqno}")
    if seqno < version.floor and seqno != published.seqno and seqno not in version.snapshots.values():
        raise HistoryError(f"the history of seqno {seqno} is not retained; the oldest that is: {version.floor}")
