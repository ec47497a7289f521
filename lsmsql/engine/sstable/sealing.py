"""Sealing: what a table stream hands out, into the bytes of its files, in their order: at once, or ahead of the file on threads of its own.

Ahead, the stream merges and encodes while a small pool compresses, encrypts and checksums the chunks before. A stream's caller writes all files
itself, so the file system sees the same calls either way; its threads last as long as the stream and have the caller's priority.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ..kernel import BlockSealer, TableStream, TableSummary
from ..storage.encryption import FileCipher

_AHEAD = 2  # chunks in flight for each thread: one being sealed, one waiting


class Unsealed(Protocol):
    """A file that chunks are made for. cipher: None where it is not encrypted."""

    cipher: FileCipher | None

    def sealed(self, first_block: int, frames: bytes, payloads: list[tuple[int, int, bytes]], dictionary: int) -> bytes:
        """The bytes of a chunk as the file takes them: payloads are to be encrypted."""
        ...


T = TypeVar("T", bound=Unsealed)


class Stretch(NamedTuple, Generic[T]):
    """Bytes to append to the data of one file; table: the summary, where they are its last."""

    file: T
    data: bytes
    table: TableSummary | None


def sealed_at_once(stream: TableStream, begin: Callable[[], T]) -> Generator[Stretch[T]]:
    """Every chunk of a stream. begin: makes the next table's file."""
    file: T | None = None
    while (chunk := stream.next_chunk()) is not None:
        file = file or begin()
        yield Stretch(file, file.sealed(chunk.first_block, chunk.frames, chunk.payloads, chunk.dictionary), chunk.table)
        if chunk.table is not None:
            file = None


def sealed_ahead(stream: TableStream, begin: Callable[[], T], threads: int) -> Generator[Stretch[T]]:
    """As `sealed_at_once`, of a deferred stream. threads: 0 is as 1."""
    threads = threads or 1
    waiting: deque[tuple[T, bool, Future[tuple[Any, bytes]]]] = deque()
    file: T | None = None
    more = True
    with _Pool(stream, threads) as pool:
        while True:
            # Never past the end of a table whose summary was not taken; and always as far ahead, so that tables end at the same keys each time.
            while more and len(waiting) < _AHEAD * threads and not (waiting and waiting[-1][1]):
                raw = stream.next_raw()
                if raw is None:
                    more = False
                else:
                    file = file or begin()
                    waiting.append((file, raw.ends, pool.seal(file, raw, alone=raw.ends and not waiting)))
            if not waiting:
                return
            its_file, ends, future = waiting.popleft()
            sealed, data = future.result()
            stream.settle(sealed)
            yield Stretch(its_file, data, stream.summary() if ends else None)
            if ends:
                file = None


class _Pool:
    """Threads that seal, started when there is something for them to do."""

    def __init__(self, stream: TableStream, threads: int) -> None:
        self._stream = stream
        self._threads = threads
        self._sealers: list[BlockSealer] = [stream.sealer() for _ in range(threads)]
        self._executor: ThreadPoolExecutor | None = None

    def seal(self, file: Unsealed, raw: Any, *, alone: bool) -> Future[tuple[Any, bytes]]:
        """Seal a raw chunk. alone: nothing else is there to be done meanwhile."""
        if not alone:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="lsmsql sealing")
            try:
                return self._executor.submit(self._seal, file, raw)
            except RuntimeError:
                pass  # The interpreter is ending, and starts nothing any more.
        future: Future[tuple[Any, bytes]] = Future()
        future.set_result(self._seal(file, raw))
        return future

    def _seal(self, file: Unsealed, raw: Any) -> tuple[Any, bytes]:
        try:
            sealer = self._sealers.pop()
        except IndexError:  # The interpreter is ending: see `seal`.
            sealer = self._stream.sealer()
        try:
            sealed = sealer.seal(raw, file.cipher)
            return sealed, sealed.frames
        finally:
            self._sealers.append(sealer)

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
