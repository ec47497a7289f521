"""The directories of frames that were read, so that the next value of a frame takes one read instead of two."""

from __future__ import annotations

import threading

from .value_frame import Directory

CACHE_BYTES = 8 << 20
_OVERHEAD = 200  # Of an entry, beside the bytes of the directory.


class DirectoryCache:
    """The one that has been here longest goes first. Any thread. A directory belongs to one image of its frame: whoever asks holds its record to the
    one in the slot map. get: the directory of a frame id, or None."""

    def __init__(self, bytes_max: int = CACHE_BYTES) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._found: dict[int, Directory] = {}
        self._lock = threading.RLock()
        self.get = self._found.get

    def put(self, frame_id: int, directory: Directory) -> None:
        with self._lock:
            self.drop(frame_id)
            self._found[frame_id] = directory
            self._bytes += directory.size + _OVERHEAD
            while self._bytes > self._bytes_max:
                self.drop(next(iter(self._found)))

    def drop(self, frame_id: int) -> None:
        with self._lock:
            old = self._found.pop(frame_id, None)
            if old is not None:
                self._bytes -= old.size + _OVERHEAD
