"""ValueStream: a value as a file that is read, a stretch at a time, so that one of a gigabyte takes half a MiB of memory."""

from __future__ import annotations

import io
from collections.abc import Callable

from ...errors import UsageError
from .pointer import BlobPointer

ReadStretch = Callable[[int, int, int], bytes]
"""(frame id, ordinal, raw length) -> that value."""


def read_range(read: ReadStretch, pointer: BlobPointer, offset: int, size: int) -> bytes:
    """`size` bytes of a value from `offset`, fewer where it ends; only the frames that hold them are read."""
    if offset < 0 or size < 0:
        raise UsageError(f"no range of a value begins at {offset} and has {size} bytes")
    end = min(offset + size, pointer.raw_length)
    if offset >= end:
        return b""
    stretch = pointer.stretch or pointer.raw_length
    parts = []
    for number in range(offset // stretch, -(-end // stretch)):
        start = number * stretch
        data = read_stretch(read, pointer, number)
        parts.append(data[max(0, offset - start) : end - start] if offset > start or end < start + len(data) else data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_stretch(read: ReadStretch, pointer: BlobPointer, number: int) -> bytes:
    """The n-th stretch of a value; of one that is not cut the only one."""
    if not pointer.stretch:
        return read(pointer.frame_id, pointer.ordinal, pointer.raw_length)
    return read(pointer.frame_id + number, 0, min(pointer.stretch, pointer.raw_length - number * pointer.stretch))


class ValueStream(io.RawIOBase):
    """Python's file protocol over a value: readable and seekable. One thread at a time. Errors as of the reading of values.

    It keeps one stretch, so short reads one after another read each frame once."""

    def __init__(self, read: ReadStretch, pointer: BlobPointer, on_close: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._read = read
        self._pointer = pointer
        self._on_close = on_close
        self._position = 0
        self._number = -1
        self._data = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check_open()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._pointer.raw_length}.get(whence)
        if base is None or base + offset < 0:
            raise ValueError(f"no position {offset} from {whence}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        self._check_open()
        return self._position

    def readinto(self, buffer: object) -> int:
        with memoryview(buffer) as view, view.cast("B") as room:  # type: ignore[arg-type]
            data = self.read(len(room))
            room[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        """Unlike a raw file's, as many bytes as asked for, while there are any."""
        self._check_open()
        if size is None or size < 0:
            size = max(0, self._pointer.raw_length - self._position)
        data = read_range(self._stretch, self._pointer, self._position, size)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def _stretch(self, frame_id: int, ordinal: int, raw_length: int) -> bytes:
        number = frame_id - self._pointer.frame_id
        if number != self._number:
            self._data = self._read(frame_id, ordinal, raw_length)
            self._number = number
        return self._data

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the stream is closed")

    def close(self) -> None:
        if not self.closed:
            self._data = b""
            self._on_close()
        super().close()
