"""Files and directories as the engine sees them, and the real ones.

Everything above asks a `FileSystem` for what it does to the world, so that tests can pass one that loses unsynced bytes,
and a `:memory:` database one that has no disk. With `random_access`, this is the only module that touches the operating system.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from copy import copy
from typing import Protocol, TypeAlias

from ...errors import LockedError, UsageError
from .filenames import temporary_name
from .random_access import OsRandomAccess, RandomAccess

Bytes: TypeAlias = bytes | bytearray | memoryview
"""Anything whose items are single bytes."""

READ_ONLY_ERRORS = (errno.EROFS, errno.EACCES, errno.EPERM)
"""What making or changing a file fails with where that is not allowed."""

_WHOLE_READ_BYTES = 1 << 20

# Linux: the attributes of an inode (linux/fs.h). The numbers say "a long", but the kernel reads and writes an int.
_FS_IOC_GETFLAGS = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
_FS_IOC_SETFLAGS = 1 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 2
_FS_NOCOW_FL = 0x0080_0000
_UNSUPPORTED = (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_F_FULLFSYNC = getattr(fcntl, "F_FULLFSYNC", None)  # macOS
_FADVISE = getattr(os, "posix_fadvise", None)  # not macOS
_LOCK_PAUSE_MIN, _LOCK_PAUSE_MAX = 0.001, 0.05


class File(Protocol):
    """One open file. Made by `FileSystem.create` it is appended to, made by `FileSystem.open` it is only read."""

    @property
    def path(self) -> str: ...

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer only where the file ends. A size beyond the end of the file costs no memory."""
        ...

    def append(self, data: Bytes) -> None:
        """Write all of `data` at the end, or raise OSError. How much of a failed append is in the file is not known,
        so every later append to this File raises too."""
        ...

    def sync(self) -> None:
        """Make the bytes appended so far survive a power loss (not the name: see `FileSystem.sync_directory`).

        After an OSError nothing is known about the unsynced bytes, and the system may have dropped them while calling
        them clean: every later append or sync of this File raises."""
        ...

    def drop_cached(self) -> None:
        """Let the system's page cache forget what of the file is synced: nobody will read it soon."""
        ...

    def size(self) -> int: ...

    def close(self) -> None:
        """Let go of the file; closing twice is allowed. Does not sync."""
        ...


class FileSystem(RandomAccess, Protocol):
    """What the engine may do to files. Failures are OSError, of the subclass that `os` would raise."""

    @property
    def without_copy_on_write(self) -> int:
        """How many files were made for which the file system has switched copy-on-write off."""
        ...

    def tuned(self, *, sync_mode: str, copy_on_write: bool, drop_cached: bool) -> FileSystem:
        """The same files, handled as options say; what is open already stays as it is. UsageError for what this system cannot do.

        sync_mode: "data" fdatasync, "all" fsync, "full" past the drive's own cache too. copy_on_write: False switches it off for every file made
        from now on, where the file system has it and lets go of it. drop_cached: whether File.drop_cached will be called."""
        ...

    def create(self, path: str) -> File:
        """A new, empty file, for appending and reading. FileExistsError if the name is taken."""
        ...

    def open(self, path: str) -> File:
        """An existing file, for reading. It may be synced, which makes another process's bytes durable."""
        ...

    def read(self, path: str) -> bytes:
        """The whole file."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Give a file another name in the same file system, replacing atomically what had that name."""
        ...

    def remove(self, path: str) -> None: ...

    def sync_directory(self, path: str) -> None:
        """Make the names created, renamed and removed in this directory survive a power loss."""
        ...

    def list(self, path: str) -> list[str]:
        """The names in a directory, sorted."""
        ...

    def make_directory(self, path: str) -> None:
        """A new directory in an existing one. FileExistsError if the name is taken."""
        ...

    def exists(self, path: str) -> bool: ...

    def size(self, path: str) -> int: ...

    def lock(self, path: str, timeout: float, *, shared: bool = False) -> Lock:
        """Hold a lock file, made if missing, against every other holder in any process (`shared`: against exclusive ones).

        Waits at most `timeout` seconds, then raises LockedError, naming the process that holds it if that is known. A shared lock is taken
        without write permission, too, on a file that is there."""
        ...

    def is_locked(self, path: str, *, shared: bool = False) -> bool:
        """Whether anybody holds a lock file exclusively right now; shared: or shared. Needs no write permission and makes no file.

        To find out it may hold the lock itself for a moment: only where the answer matters."""
        ...

    def identity(self, path: str) -> Hashable:
        """Equal for two paths exactly if they lead to the same directory; for registries inside this process."""
        ...

    def join(self, directory: str, name: str) -> str: ...

    def absolute(self, path: str) -> str:
        """The same place, whatever the process's working directory becomes."""
        ...


class Lock:
    """A lock held until `release`. After a fork the child's copy is void: `forked` is True there, and releasing does nothing.

    path: the lock file; pid: the process that took it (as the kernel numbers processes).
    """

    __slots__ = ("__weakref__", "_on_release", "forked", "path", "pid")

    def __init__(self, path: str, on_release: Callable[[bool], None]) -> None:
        """`on_release(inherited)` is called at most once; `inherited` says that this is the child of a fork, where the
        descriptor must be closed but the lock, which the parent shares, must not be undone."""
        self._on_release: Callable[[bool], None] | None = on_release
        self.path = path
        self.pid = os.getpid()
        self.forked = False
        _held.add(self)

    @property
    def held(self) -> bool:
        return self._on_release is not None

    def release(self) -> None:
        """Let others in. Releasing twice is allowed."""
        _held.discard(self)
        if self._on_release is not None:
            self._on_release(self.forked)
            self._on_release = None  # Not before: an interrupted release is done again when the lock is dropped.

    def __del__(self) -> None:
        if getattr(self, "_on_release", None) is not None:  # Whoever took it was interrupted before it could be noted.
            self.release()


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _drop_inherited_locks() -> None:
    # A flock belongs to the open file, which parent and child share: while the child kept its descriptor, the parent's
    # death would not free the database, and the child would believe that it holds it.
    for lock in list(_held):
        lock.forked = True
        lock.release()


def at_fork_in_child(callback: Callable[[], None]) -> None:
    """Call `callback()` in every child that this process forks from now on, before the child's own code runs."""
    os.register_at_fork(after_in_child=callback)


at_fork_in_child(_drop_inherited_locks)


def processors() -> int:
    """How many this process may use at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lower_thread_priority() -> None:
    """Let every other thread of this process go first: for work that nobody waits for."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # On Linux a thread's id names that thread alone.
    except OSError:
        pass


def _data_sync(fd: int) -> None:
    os.fdatasync(fd)  # Also carries the size, which reading the appended bytes needs.


def _all_sync(fd: int) -> None:
    os.fsync(fd)


def _full_sync(fd: int) -> None:
    assert _F_FULLFSYNC is not None
    fcntl.fcntl(fd, _F_FULLFSYNC)


_SYNCS = {"data": (_data_sync, _all_sync), "all": (_all_sync, _all_sync), "full": (_full_sync, _full_sync)}  # of a file, of a directory


class OsFile:
    """A file of the operating system. Three copies of one descriptor: a failure takes away what may not be done again."""

    __slots__ = ("_append_fd", "_fd", "_sync", "_sync_fd", "path")

    def __init__(self, path: str, fd: int, writable: bool, sync: Callable[[int], None] | None = None) -> None:
        """sync: a stronger one than fdatasync."""
        self.path = path
        self._sync = sync or _data_sync
        self._fd = self._sync_fd = fd
        self._append_fd = fd if writable else -1

    def read_at(self, offset: int, size: int) -> bytes:
        if size > _WHOLE_READ_BYTES:  # pread allocates before it reads: a damaged length must not become an allocation.
            size = max(0, min(size, self.size() - offset))
        try:
            data = os.pread(self._fd, size, offset)
        except OverflowError:  # An offset no file can have.
            return b""
        return data if len(data) == size else self._read_rest(data, offset, size)

    def _read_rest(self, data: bytes, offset: int, size: int) -> bytes:
        """One pread stops at 2 GiB and may stop at a signal; only an empty one means the end."""
        parts = [data]
        done = len(data)
        while data and done < size:
            data = os.pread(self._fd, size - done, offset + done)
            parts.append(data)
            done += len(data)
        return b"".join(parts)

    def append(self, data: Bytes) -> None:
        try:
            written = os.write(self._append_fd, data)
            if written != len(data):
                self._append_rest(data, written)
        except BaseException:
            self._append_fd = -1  # The tail may be torn, so nothing may be written behind it.
            raise

    def _append_rest(self, data: Bytes, written: int) -> None:
        """One write stops at 2 GiB, at a full disk and at signals; trying again either goes on or says why not."""
        with memoryview(data) as whole:
            while written < len(whole):
                with whole[written:] as rest:
                    count = os.write(self._append_fd, rest)
                if count == 0:
                    raise OSError(errno.EIO, "the file takes no more bytes", self.path)
                written += count

    def sync(self) -> None:
        if self._sync_fd < 0:  # Which fdatasync would call a ValueError.
            raise OSError(errno.EBADF, "the file is closed, or a sync of it failed before", self.path)
        try:
            self._sync(self._sync_fd)
        except BaseException:
            self._append_fd = self._sync_fd = -1  # A second one would succeed without having written anything.
            raise

    def drop_cached(self) -> None:
        if _FADVISE is None:
            raise OSError(errno.ENOSYS, "this system has no posix_fadvise", self.path)
        _FADVISE(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        fd, self._fd, self._append_fd, self._sync_fd = self._fd, -1, -1, -1
        if fd >= 0:
            os.close(fd)


class OsFileSystem(OsRandomAccess):
    """The file system of the operating system. Paths are used as they are; see `FileSystem` for the contract."""

    def __init__(self) -> None:
        self.without_copy_on_write = 0
        self._copy_on_write = True
        self._sync, self._sync_directory = _SYNCS["data"]

    def tuned(self, *, sync_mode: str, copy_on_write: bool, drop_cached: bool) -> OsFileSystem:
        if sync_mode == "full" and _F_FULLFSYNC is None:
            raise UsageError('sync_mode = "full" needs F_FULLFSYNC, which this system has not; its "data" and "all" flush the drive\'s cache as well')
        if not copy_on_write and not _has_inode_flags():
            raise UsageError("copy_on_write = False needs the inode flags of Linux, which this system has not")
        if drop_cached and _FADVISE is None:
            raise UsageError("cold_level needs posix_fadvise, which this system has not")
        other = copy(self)
        other._copy_on_write = copy_on_write
        other._sync, other._sync_directory = _SYNCS[sync_mode]
        return other

    def create(self, path: str) -> OsFile:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            self._begin(fd)
        except BaseException:
            os.close(fd)
            raise
        return OsFile(path, fd, True, self._sync)

    def _begin(self, fd: int) -> None:
        if not self._copy_on_write:  # While the file is empty: later the file system refuses it.
            self.without_copy_on_write += _stop_copying(fd)

    def open(self, path: str) -> OsFile:
        return OsFile(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC), False, self._sync)

    def read(self, path: str) -> bytes:
        file = self.open(path)
        try:
            return file.read_at(0, file.size())
        finally:
            file.close()

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def sync_directory(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._sync_directory(fd)
        finally:
            os.close(fd)

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def make_directory(self, path: str) -> None:
        os.mkdir(path)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def lock(self, path: str, timeout: float, *, shared: bool = False) -> Lock:
        fd = _open_lock_file(path, shared)
        closed: list[bool] = []  # Not empty once it is, so that nobody closes what may be another file's by then.
        try:
            if not _acquire(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, timeout):
                raise LockedError(f"{path} is held by {_holder(fd, shared)}; waited {timeout:g} s")
            if not shared:
                _write_holder(fd)
            return Lock(path, lambda inherited: _unlock(fd, closed, shared, inherited))
        except BaseException:
            _close_once(fd, closed)
            raise

    def is_locked(self, path: str, *, shared: bool = False) -> bool:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _acquire(fd, fcntl.LOCK_EX if shared else fcntl.LOCK_SH, 0)
        finally:
            os.close(fd)

    def identity(self, path: str) -> Hashable:
        status = os.stat(path)
        return status.st_dev, status.st_ino

    def join(self, directory: str, name: str) -> str:
        return os.path.join(directory, name)

    def absolute(self, path: str) -> str:
        return os.path.abspath(path)


def _has_inode_flags() -> bool:
    return os.uname().sysname == "Linux"


def _stop_copying(fd: int) -> bool:
    """Switch copy-on-write off for an empty file; False where its file system has none, or does not let go of it."""
    try:
        flags = int.from_bytes(fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8))[:4], "little")
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, (flags | _FS_NOCOW_FL).to_bytes(8, "little"))
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


def _open_lock_file(path: str, shared: bool) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if not shared or error.errno not in READ_ONLY_ERRORS:
            raise
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise OSError(errno.EROFS, "the lock file is not there and cannot be made", path) from None


def _acquire(fd: int, operation: int, timeout: float) -> bool:
    """Poll: a blocking flock could only be bounded by a signal, which belongs to the host program."""
    deadline = time.monotonic() + timeout
    pause = _LOCK_PAUSE_MIN
    while True:
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LOCK_PAUSE_MAX)
        else:
            return True


def _write_holder(fd: int) -> None:
    try:  # Only for the message of the next one who waits: a full disk must not keep a database closed.
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except OSError:
        pass


def _holder(fd: int, shared: bool) -> str:
    text = os.pread(fd, 32, 0).strip()
    if not text.isdigit():  # Also when the holders are shared ones: they do not write their number.
        return "another process" if shared else "another process or a reader"
    pid = int(text)
    return "this process" if pid == os.getpid() else f"process {pid}"


def _close_once(fd: int, closed: list[bool]) -> None:
    if not closed:
        closed += (True,)  # No call, and so no interrupt, comes between this and the next line.
        os.close(fd)


def _unlock(fd: int, closed: list[bool], shared: bool, inherited: bool) -> None:
    if closed:
        return
    try:
        if not inherited:
            if not shared:
                os.ftruncate(fd, 0)  # While it is still ours: the next holder may be a shared one, who is not this process.
            # Explicitly, since a child forked by foreign code may still have a descriptor of the same open file.
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        _close_once(fd, closed)


def replace_file(fs: FileSystem, directory: str, name: str, data: Bytes) -> None:
    """Make `name` in `directory` hold `data`, durably; whatever happens it holds all of the old bytes or all of the new.

    After an OSError from here it is not known which of the two will be found."""
    temporary = fs.join(directory, temporary_name(name))
    if fs.exists(temporary):
        fs.remove(temporary)  # Left by a crash between the lines below; nothing refers to it.
    file = fs.create(temporary)
    try:
        file.append(data)  # A crash here leaves the old file and a temporary one.
        file.sync()  # Before the rename: else a crash may keep the new name without its bytes.
    finally:
        file.close()
    fs.rename(temporary, fs.join(directory, name))  # Atomic: a crash here keeps the old file or the new, both whole.
    fs.sync_directory(directory)  # Only now does the new one survive a power loss, and only now may anyone rely on it.
