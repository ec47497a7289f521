"""Files that are read and written anywhere: what the blob store keeps its slots in.

Beside `filesystem`, which it is a part of, the only module that touches the operating system.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import UsageError

if TYPE_CHECKING:
    from .filesystem import Bytes

SECTOR_BYTES = 4096
"""What a direct file is read and written in, in memory and on disk."""

_BUFFERS_MAX = 1024  # IOV_MAX of Linux and macOS
_WHOLE_READ_BYTES = 1 << 20
_DIRECT = getattr(os, "O_DIRECT", None)  # Linux
_PUNCH = 0x02 | 0x01  # linux/falloc.h: FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY)
"""What `preallocate` and `punch` fail with where the file system does not know them."""


class RandomAccessFile(Protocol):
    """One open file that is written in place. Any number of threads may read and write it, at places that do not overlap, and sync it."""

    @property
    def path(self) -> str: ...

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer only where the file ends. A size beyond the end of the file costs no memory."""
        ...

    def is_cached(self, offset: int) -> bool:
        """Whether the byte there is in memory, so that reading it would not wait for the disk; False too where nobody can tell."""
        ...

    def write_at(self, offset: int, buffers: Sequence[Bytes]) -> None:
        """Write the buffers one behind the other, all of them, or raise OSError: what lies in their place then is not known."""
        ...

    def preallocate(self, offset: int, size: int) -> None:
        """Make room on disk for these bytes, and the file as long as they reach; what is in it stays. OSError with one of UNSUPPORTED where the
        file system cannot."""
        ...

    def punch(self, offset: int, size: int) -> None:
        """Give the room of these bytes back; they read as zeros. Errors as of `preallocate`."""
        ...

    def sync(self) -> None:
        """Make what was written before this call survive a power loss. After an OSError every later write or sync of this file raises."""
        ...

    def drop_cached(self) -> None:
        """See `File.drop_cached`."""
        ...

    def size(self) -> int: ...

    def close(self) -> None: ...


class RandomAccess(Protocol):
    """The part of `FileSystem` that has to do with such files."""

    def open_random(self, path: str, *, create: bool = False, direct: bool = False) -> RandomAccessFile:
        """A file, for reading and writing anywhere. create: a new one, FileExistsError if the name is taken; its name is the caller's to sync.

        direct: past the system's page cache; every write must then start at and be a multiple of SECTOR_BYTES. UsageError where that cannot be."""
        ...


class OsRandomAccessFile:
    """A file of the operating system. A failed sync takes away what may not be done again, as in `OsFile`."""

    __slots__ = ("_fd", "_sync", "_write_fd", "path")

    def __init__(self, path: str, fd: int, sync: Callable[[int], None]) -> None:
        self.path = path
        self._sync = sync
        self._fd = self._write_fd = fd

    def read_at(self, offset: int, size: int) -> bytes:
        if size > _WHOLE_READ_BYTES:  # pread allocates before it reads: a damaged length must not become an allocation.
            size = max(0, min(size, self.size() - offset))
        try:
            data = os.pread(self._fd, size, offset)
        except OverflowError:  # An offset no file can have.
            return b""
        while len(data) < size and (rest := os.pread(self._fd, size - len(data), offset + len(data))):
            data += rest
        return data

    def is_cached(self, offset: int) -> bool:
        try:
            return os.preadv(self._fd, [bytearray(1)], offset, _NOWAIT) == 1
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINVAL, *UNSUPPORTED):
                return False
            raise

    def write_at(self, offset: int, buffers: Sequence[Bytes]) -> None:
        left: list[Any] = list(buffers)
        while left:
            part = left[:_BUFFERS_MAX]
            written = os.pwritev(self._write_fd, part, offset)
            if written == 0 and any(len(buffer) for buffer in part):
                raise OSError(errno.EIO, "the file takes no more bytes", self.path)
            offset += written
            done = 0
            for buffer in part:  # One call stops at 2 GiB, at a full disk and at signals; trying again either goes on or says why not.
                if written < len(buffer):
                    break
                written -= len(buffer)
                done += 1
            del left[:done]
            if written:  # A copy, since a view would have to be released in time.
                left[0] = bytes(memoryview(left[0])[written:])

    def preallocate(self, offset: int, size: int) -> None:
        _fallocate(self._write_fd, 0, offset, size, self.path)

    def punch(self, offset: int, size: int) -> None:
        _fallocate(self._write_fd, _PUNCH, offset, size, self.path)

    def sync(self) -> None:
        if self._write_fd < 0:
            raise OSError(errno.EBADF, "the file is closed, or a sync of it failed before", self.path)
        try:
            self._sync(self._write_fd)
        except BaseException:
            self._write_fd = -1  # A second one would succeed without having written anything.
            raise

    def drop_cached(self) -> None:
        if not hasattr(os, "posix_fadvise"):
            raise OSError(errno.ENOSYS, "this system has no posix_fadvise", self.path)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        fd, self._fd, self._write_fd = self._fd, -1, -1
        if fd >= 0:
            os.close(fd)


class OsDirectFile(OsRandomAccessFile):
    """As OsRandomAccessFile, past the page cache: every transfer goes through a buffer of whole pages."""

    __slots__ = ()

    def read_at(self, offset: int, size: int) -> bytes:
        start = offset - offset % SECTOR_BYTES
        end = min(offset + size, self.size())
        if end <= offset:
            return b""
        length = -(-(end - start) // SECTOR_BYTES) * SECTOR_BYTES
        with mmap.mmap(-1, length) as room:
            done = 0
            with memoryview(room) as view:
                while done < end - start and (count := os.preadv(self._fd, [view[done:]], start + done)):
                    done += count
                    if done % SECTOR_BYTES:  # Where the file ends, and nowhere else.
                        break
            return room[offset - start : min(done, end - start)]

    def is_cached(self, offset: int) -> bool:
        return False

    def write_at(self, offset: int, buffers: Sequence[Bytes]) -> None:
        length = sum(map(len, buffers))
        if offset % SECTOR_BYTES or length % SECTOR_BYTES:
            raise UsageError(f"a direct write of {length} bytes at {offset} is not a multiple of {SECTOR_BYTES}")
        if length:
            with mmap.mmap(-1, length) as room:
                for buffer in buffers:
                    room.write(buffer)
                with memoryview(room) as view:
                    self._write_all(offset, view)

    def _write_all(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            with view[done:] as rest:
                count = os.pwrite(self._write_fd, rest, offset + done)
            if count == 0:
                raise OSError(errno.EIO, "the file takes no more bytes", self.path)
            done += count


class OsRandomAccess:
    """What `OsFileSystem` has of `RandomAccess`."""

    _sync: Callable[[int], None]

    def _begin(self, fd: int) -> None:
        """Prepare a file that is new and empty."""
        raise NotImplementedError

    def open_random(self, path: str, *, create: bool = False, direct: bool = False) -> OsRandomAccessFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        if direct and _DIRECT is None:
            raise UsageError("direct I/O needs O_DIRECT, which this system has not")
        fd = os.open(path, flags, 0o644)
        try:
            if create:
                self._begin(fd)
            if direct:
                _go_direct(path, fd)
        except BaseException:
            os.close(fd)
            raise
        return (OsDirectFile if direct else OsRandomAccessFile)(path, fd, self._sync)


_NOWAIT = getattr(os, "RWF_NOWAIT", 1 << 30)  # Elsewhere an unknown flag, which is refused.


def _go_direct(path: str, fd: int) -> None:
    """Switch O_DIRECT on for an open file, and see that it works: some file systems take the flag and refuse the reads."""
    assert _DIRECT is not None
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | _DIRECT)
        with mmap.mmap(-1, SECTOR_BYTES) as room:
            os.preadv(fd, [room], 0)
    except OSError as error:
        if error.errno != errno.EINVAL and error.errno not in UNSUPPORTED:
            raise
        raise UsageError(f"{path}: its file system has no direct I/O; open the database without it") from None


def _fallocate(fd: int, mode: int, offset: int, size: int, path: str) -> None:
    """Linux's fallocate. posix_fallocate would write zeros where the file system has nothing better, and cannot punch."""
    call = _native_fallocate()
    if call is None:
        raise OSError(errno.ENOSYS, "this system has no fallocate", path)
    while call(fd, mode, offset, size) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code), path)


@cache
def _native_fallocate() -> Callable[[int, int, int, int], int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate64 if os.uname().sysname == "Linux" else None
    except AttributeError:
        return None
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function
