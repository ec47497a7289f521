"""Many reads at once, for whoever knows that they wait for the disk, which then works on several at a time. What is in the page cache is read faster
one after another."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..storage.random_access import RandomAccessFile

READ_THREADS = 8
_LARGE_BYTES = 256 << 10  # From here on one read keeps a disk as busy as several do.


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
        if self._threads == 1 or len(reads) < 2 or sum(size for _, size in reads) >= _LARGE_BYTES * len(reads):
            return [self._file.read_at(offset, size) for offset, size in reads]
        executor = self._started()
        if executor is None:
            return [self._file.read_at(offset, size) for offset, size in reads]
        return list(executor.map(lambda place: self._file.read_at(*place), reads))

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
