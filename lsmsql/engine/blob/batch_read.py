"""Many reads at once: one after another where the page cache has them, for then a thread only costs; by a few threads where the disk must be asked,
which then works on several at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..storage.random_access import RandomAccessFile

READ_THREADS = 8


class BatchReader:
    """Reads of one file. Its threads are started by the first batch that waits for the disk, and end with `close`."""

    def __init__(self, file: RandomAccessFile, threads: int) -> None:
        self._file = file
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = False

    def read(self, reads: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of every (offset, size), as `RandomAccessFile.read_at` gives them."""
        if self._threads == 1 or len(reads) < 2:
            return [self._file.read_at(offset, size) for offset, size in reads]
        found = [self._file.read_cached(offset, size) for offset, size in reads]
        missing = [place for place, data in enumerate(found) if data is None]
        executor = self._started() if len(missing) > 1 else None
        if executor is None:
            return [self._file.read_at(*place) if data is None else data for place, data in zip(reads, found, strict=True)]
        for place, data in zip(missing, executor.map(lambda place: self._file.read_at(*reads[place]), missing), strict=True):
            found[place] = data
        return [data for data in found if data is not None]

    def _started(self) -> ThreadPoolExecutor | None:
        with self._lock:
            if self._executor is None and not self._closed:
                self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="lsmsql blob reads")
            return self._executor

    def close(self) -> None:
        with self._lock:
            self._closed = True
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(cancel_futures=True)
