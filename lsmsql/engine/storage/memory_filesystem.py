"""A file system in memory: for `:memory:` databases, and the ground that the tests' fault-injecting one stands on."""

from __future__ import annotations

import errno
import itertools
import posixpath
import threading
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence

from ...errors import LockedError, UsageError
from .filesystem import Bytes, Lock

_serials = itertools.count(1)


class Node:
    """What a name leads to: the bytes of a file, whoever has it open and whatever it is called by now."""

    __slots__ = ("data",)

    def __init__(self, data: Bytes = b"") -> None:
        self.data = bytearray(data)


class MemoryFile:
    """An open file in memory. Bytes are durable for as long as the process is."""

    __slots__ = ("_node", "_writable", "path")

    def __init__(self, path: str, node: Node, writable: bool) -> None:
        self.path = path
        self._node: Node | None = node
        self._writable = writable

    def _opened(self) -> Node:
        if self._node is None:
            raise OSError(errno.EBADF, "the file is closed", self.path)
        return self._node

    def read_at(self, offset: int, size: int) -> bytes:
        if offset < 0 or size < 0:
            raise OSError(errno.EINVAL, "negative offset or size", self.path)
        # Sliced, not viewed: a view would make an append by another thread fail.
        return bytes(self._opened().data[offset : offset + size])

    def append(self, data: Bytes) -> None:
        node = self._opened()
        if not self._writable:
            raise OSError(errno.EBADF, "the file is open for reading", self.path)
        node.data += data

    def sync(self) -> None:
        self._opened()

    def drop_cached(self) -> None:
        self._opened()

    def size(self) -> int:
        return len(self._opened().data)

    def close(self) -> None:
        self._node = None


class MemoryRandomAccessFile(MemoryFile):
    """An open file in memory that is written anywhere."""

    __slots__ = ()

    def __init__(self, path: str, node: Node) -> None:
        super().__init__(path, node, True)

    def is_cached(self, offset: int) -> bool:
        return True

    def write_at(self, offset: int, buffers: Sequence[Bytes]) -> None:
        put(self._opened().data, offset, b"".join(buffers))

    def preallocate(self, offset: int, size: int) -> None:
        put(self._opened().data, offset + size, b"")

    def punch(self, offset: int, size: int) -> None:
        data = self._opened().data
        size = min(size, len(data) - offset)
        if size > 0:
            put(data, offset, bytes(size))


def put(data: bytearray, offset: int, piece: Bytes) -> None:
    """Overwrite bytes of a file, which grows as far as they reach, with zeros before them."""
    if len(data) < offset:
        data += bytes(offset - len(data))
    data[offset : offset + len(piece)] = piece


class MemoryFileSystem:
    """Names and bytes in two dicts. "" and "/" always exist; every other directory has to be made.

    files, directories: what is there at the start, by path (parents of files are made)."""

    def __init__(self, files: Mapping[str, Bytes] | None = None, directories: Iterable[str] = ()) -> None:
        self._serial = next(_serials)
        self._nodes: dict[str, Node] = {}
        self._directories: set[str] = {"", "/"}
        self._locks: dict[str, list[bool]] = {}  # path -> for each holder: is it a shared one
        self._unlocked = threading.Condition()
        for path in directories:
            self._make_parents(self.absolute(path) + "/.")
        for path, data in (files or {}).items():
            name = self.absolute(path)
            self._make_parents(name)
            self._nodes[name] = Node(data)

    def _make_parents(self, path: str) -> None:
        while (parent := posixpath.dirname(path)) not in self._directories:
            self._directories.add(parent)
            path = parent

    def files(self) -> dict[str, bytes]:
        """A copy of every file, by path."""
        return {path: bytes(node.data) for path, node in self._nodes.items()}

    def directories(self) -> list[str]:
        """Every directory but the two that always exist."""
        return sorted(self._directories - {"", "/"})

    def _node(self, path: str) -> Node:
        try:
            return self._nodes[path]
        except KeyError:
            code = errno.EISDIR if path in self._directories else errno.ENOENT
            raise OSError(code, "no such file", path) from None

    def _require_free(self, path: str) -> None:
        if path in self._nodes or path in self._directories:
            raise OSError(errno.EEXIST, "the name is taken", path)
        self._require_directory(posixpath.dirname(path))

    def _require_directory(self, path: str) -> None:
        if path not in self._directories:
            raise OSError(errno.ENOTDIR if path in self._nodes else errno.ENOENT, "no such directory", path)

    without_copy_on_write = 0

    def tuned(self, *, sync_mode: str, copy_on_write: bool, drop_cached: bool) -> MemoryFileSystem:
        """Itself: there is no cache between it and its disk, and nothing is ever copied."""
        return self

    def create(self, path: str) -> MemoryFile:
        name = self.absolute(path)
        self._require_free(name)
        node = self._nodes[name] = Node()
        return MemoryFile(path, node, True)

    def open(self, path: str) -> MemoryFile:
        return MemoryFile(path, self._node(self.absolute(path)), False)

    def open_random(self, path: str, *, create: bool = False, direct: bool = False) -> MemoryRandomAccessFile:
        if direct:
            raise UsageError(f"{path}: a file system in memory has no direct I/O; open the database without it")
        name = self.absolute(path)
        if create:
            self._require_free(name)
            self._nodes[name] = Node()
        return MemoryRandomAccessFile(path, self._node(name))

    def read(self, path: str) -> bytes:
        return bytes(self._node(self.absolute(path)).data)

    def rename(self, source: str, target: str) -> None:
        old, new = self.absolute(source), self.absolute(target)
        node = self._node(old)
        if new in self._directories:
            raise OSError(errno.EISDIR, "the name is taken by a directory", target)
        self._require_directory(posixpath.dirname(new))
        self._nodes[new] = node
        if old != new:
            del self._nodes[old]

    def remove(self, path: str) -> None:
        name = self.absolute(path)
        self._node(name)
        del self._nodes[name]

    def sync_directory(self, path: str) -> None:
        self._require_directory(self.absolute(path))

    def list(self, path: str) -> list[str]:
        name = self.absolute(path)
        self._require_directory(name)
        every = itertools.chain(list(self._nodes), list(self._directories))
        return sorted(posixpath.basename(other) for other in every if posixpath.dirname(other) == name and posixpath.basename(other))

    def make_directory(self, path: str) -> None:
        name = self.absolute(path)
        self._require_free(name)
        self._directories.add(name)

    def exists(self, path: str) -> bool:
        name = self.absolute(path)
        return name in self._nodes or name in self._directories

    def size(self, path: str) -> int:
        return len(self._node(self.absolute(path)).data)

    def lock(self, path: str, timeout: float, *, shared: bool = False) -> Lock:
        name = self.absolute(path)
        if name not in self._nodes:
            self._require_free(name)
            self._nodes[name] = Node()
        deadline = time.monotonic() + timeout
        with self._unlocked:
            holders = self._locks.setdefault(name, [])
            while not (all(holders) if shared else not holders):
                left = deadline - time.monotonic()
                if left <= 0 or not self._unlocked.wait(left):
                    raise LockedError(f"{path} is held by this process; waited {timeout:g} s")
            holders.append(shared)
        return Lock(path, lambda inherited: self._unlock(name, shared, inherited))

    def is_locked(self, path: str, *, shared: bool = False) -> bool:
        with self._unlocked:
            holders = self._locks.get(self.absolute(path), ())
            return bool(holders) if shared else not all(holders)

    def _unlock(self, name: str, shared: bool, inherited: bool) -> None:
        if inherited:
            # The forked child has a copy of everything, of this Condition too, which a thread that does not exist
            # there may hold forever. So it is not entered; nobody in the child may use the copied files anyway.
            return
        with self._unlocked:
            self._locks[name].remove(shared)
            self._unlocked.notify_all()

    def identity(self, path: str) -> Hashable:
        name = self.absolute(path)
        self._require_directory(name)
        return "memory", self._serial, name

    def join(self, directory: str, name: str) -> str:
        return posixpath.join(directory, name)

    def absolute(self, path: str) -> str:
        """Paths have no working directory here: only `.`, `..` and doubled slashes are taken out."""
        name = posixpath.normpath(path) if path else ""
        if name.startswith("//"):  # Which normpath leaves alone, as POSIX allows it a meaning.
            return name[1:]
        return "" if name == "." else name
