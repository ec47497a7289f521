"""The directories of frames that were read, so that the next value of a frame takes one read instead of two."""

from __future__ import annotations

import threading
from collections import OrderedDict

from .value_frame import Directory

CACHE_BYTES = 8 << 20
_OVERHEAD = 200  # Of an entry, beside the bytes of the directory.


class DirectoryCache:
    """Least recently used out first. Any thread. Who asks checks `rewrites`: a directory of an older image of the frame may be here."""

    def __init__(self, bytes_max: int = CACHE_BYTES) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._found: OrderedDict[int, Directory] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, frame_id: int) -> Directory | None:
        with self._lock:
            found = self._found.get(frame_id)
            if found is not None:
                self._found.move_to_end(frame_id)
            return found

    def put(self, frame_id: int, directory: Directory) -> None:
        with self._lock:
            self.drop(frame_id)
            self._found[frame_id] = directory
            self._bytes += directory.size + _OVERHEAD
            while self._bytes > self._bytes_max:
                _, oldest = self._found.popitem(last=False)
                self._bytes -= oldest.size + _OVERHEAD

    def drop(self, frame_id: int) -> None:
        with self._lock:
            old = self._found.pop(frame_id, None)
            if old is not None:
                self._bytes -= old.size + _OVERHEAD
