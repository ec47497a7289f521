"""A file system that forgets, tears and fails on demand, so that tests can ask what the engine is left with.

It keeps what a disk would be sure of: of each file a synced prefix, of each name every file it has led to since its directory
was last synced. `images` makes from that the states that a power loss at this moment may leave.
"""

from __future__ import annotations

import errno
import itertools
import os
import posixpath
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from lsmsql.engine.storage.filesystem import Bytes, Lock
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from tests.proof.fault import KINDS, MUTATING, OTHERS, SYNCS, Crash, Fault, Operation
from tests.proof.images import DIRECTORY, Image, Inode, Piece, Target, Unsynced

__all__ = ["KINDS", "MUTATING", "OTHERS", "SYNCS", "Crash", "Fault", "FaultFile", "FaultFileSystem", "Operation", "crash_points", "fault_points"]


class FaultFile:
    """An open file of a FaultFileSystem."""

    def __init__(self, fs: FaultFileSystem, path: str, inode: Inode, writable: bool) -> None:
        self.path = path
        self._fs = fs
        self._inode = inode
        self._writable = writable
        self._syncable = True
        self._open = True
        fs.open_files.append(self)

    def __repr__(self) -> str:
        return f"<FaultFile {self.path}>"

    def _require(self, able: bool) -> None:
        if not (able and self._open):
            raise OSError(errno.EBADF, "closed, read-only, or a write failed before", self.path)

    def read_at(self, offset: int, size: int) -> bytes:
        self._require(True)
        self._fs._step("read", self.path)
        return bytes(self._inode.data[offset : offset + size])

    def append(self, data: Bytes) -> None:
        self._require(self._writable)

        inode = self._inode
        before = len(inode.data)

        def tear() -> None:
            inode.append(bytes(data)[: len(data) // 2])

        def mend() -> None:
            inode.cut(before)

        try:
            with self._fs._during("append", self.path, str(len(data)), tear, mend):
                inode.append(data)
        except OSError:
            self._writable = False
            raise

    def sync(self) -> None:
        self._require(self._syncable)
        try:
            with self._fs._during("sync", self.path) as operation:
                if not self._fs._skips(operation) and not self._inode.lost:
                    self._inode.settle()
        except OSError:
            self._writable = self._syncable = False
            self._inode.lost = True  # The system has dropped the dirty pages and calls them clean.
            raise

    def drop_cached(self) -> None:
        self._require(True)
        self._fs._step("drop_cached", self.path)

    def size(self) -> int:
        self._require(True)
        self._fs._step("size", self.path)
        return len(self._inode.data)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._fs.open_files.remove(self)


class FaultRandomAccessFile(FaultFile):
    """An open file that is written anywhere."""

    def __init__(self, fs: FaultFileSystem, path: str, inode: Inode) -> None:
        super().__init__(fs, path, inode, True)
        inode.written_anywhere()

    def append(self, data: Bytes) -> None:
        raise NotImplementedError

    def is_cached(self, offset: int) -> bool:
        return False

    def write_at(self, offset: int, buffers: Sequence[Bytes]) -> None:
        """A failed one leaves half of its bytes, and takes nothing away: what it was to write is the caller's to forget."""
        self._change(Piece("write", offset, b"".join(map(bytes, buffers))))

    def preallocate(self, offset: int, size: int) -> None:
        if offset + size > len(self._inode.data):
            self._change(Piece("size", offset + size, b""))

    def punch(self, offset: int, size: int) -> None:
        self._change(Piece("punch", offset, bytes(max(0, min(size, len(self._inode.data) - offset)))))

    def _change(self, piece: Piece) -> None:
        self._require(self._writable)
        inode = self._inode
        before = bytes(inode.data), list(inode.pieces)

        def tear() -> None:
            if piece.kind == "write":
                inode.change(Piece("write", piece.offset, piece.data[: len(piece.data) // 2]))

        def mend() -> None:
            inode.data, inode.pieces = bytearray(before[0]), before[1]
            inode.synced = len(inode.data)

        kind = {"write": "write_at", "size": "preallocate"}.get(piece.kind, piece.kind)
        with self._fs._during(kind, self.path, f"{piece.offset} {len(piece.data)}", tear, mend):
            inode.change(piece)


class FaultFileSystem(MemoryFileSystem):
    """See `FileSystem` for what the calls do, and the module for what they do beyond.

    operations: the mutating calls so far; syncs: those of them that are syncs; crash_at: the operation that raises Crash (an
    append is torn, anything else not done), and every call after it; open_files, held_locks: what was not let go of;
    description: what the power loss took that made this image; watch: called before each mutating call, with an append half done,
    as the disk would be if the machine stopped there: so one run shows every crash point; unguarded: called before that, with nothing done
    and no lock held, so that it may hold one thread up while others go on.
    """

    def __init__(self, files: Mapping[str, Bytes] | None = None, directories: Iterable[str] = (), description: str = "") -> None:
        """The initial files and directories are durable."""
        super().__init__(None, directories)
        self.description = description
        self.operations: list[Operation] = []
        self.syncs: list[Operation] = []
        self.crash_at: int | None = None
        self.crashed = False
        self.watch: Callable[[Operation], None] | None = None
        self.unguarded: Callable[[Operation], None] | None = None
        self.open_files: list[FaultFile] = []
        self.held_locks: list[Lock] = []
        self._faults: list[Fault] = []
        self._skip: list[int | Callable[[Operation], bool]] = []
        self._mutex = threading.RLock()
        self._inodes: dict[str, Inode] = {}
        self._nodes = self._inodes  # type: ignore[assignment]  # The base class sees the same files.
        # For each name changed since its directory was synced: what it led to then, and everything it has led to since.
        self._history: dict[str, list[Target]] = {}
        for path, data in (files or {}).items():
            name = self.absolute(path)
            self._make_parents(name)
            self._inodes[name] = Inode(data, len(data))

    # What tests ask for

    def fail(self, kind: str, nth: int = 1, code: int = errno.EIO, *, persistent: bool = False, match: Callable[[str], bool] | None = None) -> Fault:
        """Make a call fail. kind: one of KINDS, "any", or "write" for the mutating ones; match: of the path; an append that
        fails leaves half of its bytes."""
        kinds = {"any": KINDS, "write": MUTATING}.get(kind, (kind,))
        assert set(kinds) <= set(KINDS), kind
        fault = Fault(kinds, nth, code, persistent, match)
        self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Nothing fails from now on. What failed syncs lost stays lost."""
        self._faults.clear()

    def skip_sync(self, which: int | Callable[[Operation], bool]) -> None:
        """Let a sync do nothing and succeed. which: its index in `syncs`, or a predicate over the operation."""
        self._skip.append(which)

    def restart(self) -> FaultFileSystem:
        """The same disk after the process died and the machine did not: nothing is lost, nothing more is durable.

        This file system is crashed from now on."""
        with self._mutex:
            self.crashed = True
            other = FaultFileSystem()
            other._inodes, other._directories, other._history = self._inodes, self._directories, self._history
            other._nodes = other._inodes  # type: ignore[assignment]
            return other

    def copy(self) -> FaultFileSystem:
        """Another disk in the same state: as synced and as unsynced as this one, with the same syncs to be skipped, and nothing open."""
        with self._mutex:
            other = FaultFileSystem()
            copies: dict[int, Inode] = {}

            def copied(target: Target) -> Target:
                if not isinstance(target, Inode):
                    return target
                if id(target) not in copies:
                    copies[id(target)] = target.copy()
                return copies[id(target)]

            other._inodes.update((path, copied(inode)) for path, inode in self._inodes.items())  # type: ignore[misc]
            other._directories |= self._directories
            other._history = {path: [copied(target) for target in history] for path, history in self._history.items()}
            other._skip = list(self._skip)
            return other

    def images(self, limit: int = 64, seed: int = 0, zeros: bool = False) -> Iterator[FaultFileSystem]:
        """The distinct states after a power loss now; the first has lost nothing.

        Every file has its synced bytes and none, half or all of the others (`zeros`: or all of them null, as a file system
        leaves that had written the size only); every name leads to something it has led to since its directory was synced.
        All combinations up to `limit`, else: all kept, all lost, each one lost or kept alone, and random ones up to `limit`.
        """
        for image in self.states(limit, seed, zeros):
            yield FaultFileSystem(image.files, image.directories, image.description)

    def states(self, limit: int = 64, seed: int = 0, zeros: bool = False) -> Iterator[Image]:
        """As `images`, but only the bytes of each, which all share as far as they are the same."""
        with self._mutex:
            yield from Unsynced(self._inodes, self._directories, self._history).images(limit, seed, zeros)

    # Each call

    @contextmanager
    def _during(
        self, kind: str, path: str, detail: str = "", tear: Callable[[], None] | None = None, mend: Callable[[], None] | None = None
    ) -> Iterator[Operation]:
        """A mutating call as a whole: no other thread's comes between its count and its effect."""
        if self.unguarded:
            self.unguarded(Operation(len(self.operations), kind, path, detail))
        with self._mutex:
            yield self._step(kind, path, detail, tear, mend)

    def _step(
        self, kind: str, path: str, detail: str = "", tear: Callable[[], None] | None = None, mend: Callable[[], None] | None = None
    ) -> Operation:
        """Count a call; raise what was asked for. `tear` does the part of an append that is done all the same, `mend` undoes it."""
        with self._mutex:
            if self.crashed:
                raise Crash("after the crash")
            operation = Operation(len(self.operations), kind, path, detail)
            if kind in MUTATING:
                self.operations.append(operation)
                if operation.index == self.crash_at:
                    self.crashed = True
                    if tear:
                        tear()
                    raise Crash(str(operation))
                if self.watch:
                    self._show(operation, tear, mend)
            struck = [fault for fault in self._faults if fault.strikes(kind, path)]
            if struck:
                if tear:
                    tear()
                raise OSError(struck[0].code, os.strerror(struck[0].code) + " (injected)", path)
            return operation

    def _show(self, operation: Operation, tear: Callable[[], None] | None, mend: Callable[[], None] | None) -> None:
        assert self.watch
        if tear:
            tear()
        try:
            self.watch(operation)
        finally:
            if mend:
                mend()

    def _skips(self, operation: Operation) -> bool:
        with self._mutex:
            self.syncs.append(operation)
            index = len(self.syncs) - 1
            return any(which == index if isinstance(which, int) else which(operation) for which in self._skip)

    def _change(self, name: str, before: Target, after: Target) -> None:
        self._history.setdefault(name, [before]).append(after)

    def create(self, path: str) -> FaultFile:  # type: ignore[override]
        with self._during("create", path):
            name = self.absolute(path)
            self._require_free(name)
            inode = self._inodes[name] = Inode()
            self._change(name, None, inode)
        return FaultFile(self, path, inode, True)

    def open(self, path: str) -> FaultFile:  # type: ignore[override]
        self._step("open", path)
        self._node(self.absolute(path))
        return FaultFile(self, path, self._inodes[self.absolute(path)], False)

    def open_random(self, path: str, *, create: bool = False, direct: bool = False) -> FaultRandomAccessFile:  # type: ignore[override]
        if not create:
            self._step("open", path)
            self._node(self.absolute(path))
            return FaultRandomAccessFile(self, path, self._inodes[self.absolute(path)])
        with self._during("create", path):
            name = self.absolute(path)
            self._require_free(name)
            inode = self._inodes[name] = Inode()
            self._change(name, None, inode)
        return FaultRandomAccessFile(self, path, inode)

    def read(self, path: str) -> bytes:
        self._step("read", path)
        return super().read(path)

    def rename(self, source: str, target: str) -> None:
        with self._during("rename", source, target):
            old, new = self.absolute(source), self.absolute(target)
            inode, replaced = self._inodes.get(old), self._inodes.get(new)
            super().rename(source, target)
            if old != new:
                self._change(new, replaced, inode)
                self._change(old, inode, None)

    def remove(self, path: str) -> None:
        with self._during("remove", path):
            name = self.absolute(path)
            inode = self._inodes.get(name)
            super().remove(path)
            self._change(name, inode, None)

    def sync_directory(self, path: str) -> None:
        with self._during("sync_directory", path) as operation:
            super().sync_directory(path)
            if not self._skips(operation):
                directory = self.absolute(path)
                for name in [name for name in self._history if posixpath.dirname(name) == directory]:
                    del self._history[name]

    def list(self, path: str) -> list[str]:
        self._step("list", path)
        return super().list(path)

    def make_directory(self, path: str) -> None:
        with self._during("make_directory", path):
            super().make_directory(path)
            self._change(self.absolute(path), None, DIRECTORY)

    def exists(self, path: str) -> bool:
        if self.crashed:
            raise Crash("after the crash")
        return super().exists(path)

    def size(self, path: str) -> int:
        self._step("size", path)
        return super().size(path)

    def lock(self, path: str, timeout: float, *, shared: bool = False) -> Lock:
        """The lock file itself is durable at once: nothing depends on whether it is there."""
        self._step("lock", path)
        name = self.absolute(path)
        if name not in self._inodes:
            self._require_free(name)
            self._inodes[name] = Inode()
        inner = super().lock(path, timeout, shared=shared)

        def release(_inherited: bool) -> None:
            self.held_locks.remove(outer)
            inner.release()

        outer = Lock(path, release)
        self.held_locks.append(outer)
        return outer


def crash_points(start: Callable[[], FaultFileSystem], run: Callable[[FaultFileSystem], None]) -> Iterator[FaultFileSystem]:
    """Run `run(start())` again and again, stopping at operation 0, 1, 2 ... until it ends by itself; yields each file system
    as it was left, the last of them whole. Ask each for its `images`."""
    for n in itertools.count():
        fs = start()
        fs.crash_at = n
        try:
            run(fs)
        except Crash:
            pass
        yield fs
        if not fs.crashed:
            return


def fault_points(
    start: Callable[[], FaultFileSystem],
    run: Callable[[FaultFileSystem], None],
    kind: str = "any",
    code: int = errno.EIO,
    *,
    persistent: bool = False,
) -> Iterator[tuple[FaultFileSystem, Exception | None]]:
    """Run `run(start())` again and again with the 1st, 2nd ... call of `kind` failing, until none does; yields the file system
    and what `run` raised. Anything but an Exception passes through."""
    for nth in itertools.count(1):
        fs = start()
        fault = fs.fail(kind, nth, code, persistent=persistent)
        raised = None
        try:
            run(fs)
        except Exception as error:
            raised = error
        yield fs, raised
        if not fault.hits:
            return
