"""One disk under both stores: SQLite's files of app.db, recorded by a VFS, and the engine's directory, on a FaultFileSystem.

SQLite's files are real ones in a directory; beside them stands a model of what the disk would be sure of: of each file its synced bytes and
the writes since, of each name every file it has led to since the directory was last synced. Every operation on either store is one step of
`operations`, and before each `watch` is called, as the disk would be if the machine stopped there.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apsw
import pytest
import xxhash

from lsmsql.engine.database import Database
from lsmsql.engine.storage.filesystem import FileSystem
from lsmsql.vtab import engines, session
from tests.proof.fault_filesystem import FaultFileSystem, Operation
from tests.proof.images import Image, combinations

VFS = "unix-recording"
PLACE = "/disk"  # The directory of app.db, as the engine's file system calls it.
RECORDED = ("app.db", "app.db-wal", "app.db-journal")
_NEW_IS_SYNCED = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_SUPER_JOURNAL

_disks: dict[str, RecordedDisk] = {}  # By the real directory.
_file_systems: dict[str, FileSystem] = {}


class Stored:
    """A file of SQLite's. pending: what was done to it since its last sync: (offset, bytes), or (length, None) for a truncation;
    unlisted: its name is synced along with its bytes the next time."""

    def __init__(self, data: bytes = b"", unlisted: bool = False) -> None:
        self.synced = data
        self.pending: list[tuple[int, bytes | None]] = []
        self.unlisted = unlisted

    def with_only(self, kept: list[tuple[int, bytes | None]]) -> bytes:
        data = bytearray(self.synced)
        for offset, written in kept:
            if written is None:
                del data[offset:]
            else:
                data += bytes(max(0, offset - len(data)))
                data[offset : offset + len(written)] = written
        return bytes(data)

    def sync(self) -> None:
        self.synced, self.pending = self.with_only(self.pending), []

    def copy(self) -> Stored:
        other = Stored(self.synced, self.unlisted)
        other.pending = list(self.pending)
        return other

    def tails(self, ordered: bool) -> list[tuple[str, bytes]]:
        """What a power loss may leave of it, from everything lost to everything kept. ordered: writes reach the disk in their order."""
        pending = self.pending
        count = len(pending)
        choices = [(f"{n} of {count} writes", pending[:n]) for n in range(count)]
        if count:
            offset, written = pending[-1]
            if written is not None and len(written) > 1:
                choices.append(("half of the last write", [*pending[:-1], (offset, written[: len(written) // 2])]))
        if count > 1 and not ordered:
            choices += [(f"all writes but {n}", pending[:n] + pending[n + 1 :]) for n in range(count - 1)]
            choices += [(f"write {n} alone", [pending[n]]) for n in range(1, count)]
        return [(told, self.with_only(kept)) for told, kept in [*choices, ("all", pending)]]


@dataclass(frozen=True)
class Left:
    """Both stores after a power loss. files: app.db's, by name; engine: the directory's; description: what was lost."""

    files: Mapping[str, bytes]
    engine: Image
    description: str

    @property
    def digest(self) -> bytes:
        state = xxhash.xxh3_128(self.engine.digest)
        for name, data in sorted(self.files.items()):
            state.update(f"{name}\0{len(data)}\0".encode())
            state.update(data)
        return state.digest()


class EngineFileSystem(FaultFileSystem):
    """The engine's, whose syncs of app.db's directory count for app.db's names too."""

    disk: RecordedDisk

    def exists(self, path: str) -> bool:
        return self._stored(path) is not None if self._is_ours(path) else super().exists(path)

    def open(self, path: str) -> Any:
        return _Syncing(self.disk, path) if self._is_ours(path) else super().open(path)

    def _is_ours(self, path: str) -> bool:
        return os.path.dirname(path) == self.disk.directory

    def _stored(self, path: str) -> Stored | None:
        return self.disk.names.get(os.path.basename(path))

    def sync_directory(self, path: str) -> None:
        super().sync_directory(path)
        if self.absolute(path) == PLACE:
            self.disk.sync_names()


class _Syncing:
    """A file of SQLite's that the engine opens to sync it."""

    def __init__(self, disk: RecordedDisk, path: str) -> None:
        self._disk, self.path = disk, path

    def sync(self) -> None:
        name = os.path.basename(self.path)
        self._disk.step("sync", name)
        self._disk.names[name].sync()

    def close(self) -> None:
        pass


class RecordedDisk:
    """directory: the real one; operations: of both stores, in order; watch: called before each."""

    def __init__(self, directory: str, left: Left | None = None) -> None:
        os.makedirs(directory)
        self.directory = directory
        self.operations: list[Operation] = []
        self.watch: Callable[[Operation], None] | None = None
        self.ordered = False  # Writes of SQLite's reach the disk in their order.
        self.skip: Callable[[str, str], bool] = lambda _kind, _name: False  # Syncs of SQLite's that do nothing.
        self.names: dict[str, Stored] = {}
        self._history: dict[str, list[Stored | None]] = {}
        self._attach(EngineFileSystem(*((left.engine.files, {PLACE, *left.engine.directories}) if left else ({}, {PLACE}))))
        for name, data in left.files.items() if left else ():
            self.names[name] = Stored(data)
            _write(os.path.join(directory, name), data)
        _disks[directory] = self

    def _attach(self, fs: EngineFileSystem) -> None:
        self.fs = fs
        fs.disk = self
        fs.watch = lambda operation: self.step(operation.kind, operation.path, operation.detail)
        _file_systems[self.directory] = fs

    def path(self) -> str:
        return os.path.join(self.directory, "app.db")

    def step(self, kind: str, name: str, detail: object = "") -> None:
        operation = Operation(len(self.operations), kind, name, str(detail))
        self.operations.append(operation)
        if self.watch:
            self.watch(operation)

    def killed(self, directory: str) -> RecordedDisk:
        """The same disk after the death of the process: nothing is lost, nothing more is durable. In a directory of its own."""
        other = RecordedDisk(directory)
        copies: dict[int, Stored] = {}

        def copied(stored: Stored | None) -> Stored | None:
            return None if stored is None else copies.setdefault(id(stored), stored.copy())

        other.names = {name: copied(stored) for name, stored in self.names.items()}  # type: ignore[misc]
        other._history = {name: [copied(stored) for stored in history] for name, history in self._history.items()}
        other.ordered, other.skip = self.ordered, self.skip
        for name, stored in other.names.items():
            _write(os.path.join(directory, name), stored.with_only(stored.pending))
        engine = self.fs.copy()
        fs = EngineFileSystem()
        fs._inodes, fs._directories, fs._history, fs._skip = engine._inodes, engine._directories, engine._history, engine._skip
        fs._nodes = fs._inodes  # type: ignore[assignment]
        other._attach(fs)
        return other

    def remove(self) -> None:
        del _disks[self.directory], _file_systems[self.directory]
        shutil.rmtree(self.directory)

    # SQLite's names

    def opened(self, name: str, flags: int) -> Stored:
        stored = self.names.get(name)
        if stored is None:
            self.step("create", name)
            stored = self.names[name] = Stored(unlisted=bool(flags & _NEW_IS_SYNCED))
            self._history.setdefault(name, [None]).append(stored)
        return stored

    def deleted(self, name: str, synced: bool) -> None:
        stored = self.names.pop(name, None)
        self._history.setdefault(name, [stored]).append(None)
        if synced:
            self.step("sync_directory", PLACE)
            if not self.skip("sync_directory", PLACE):
                self.sync_names()

    def sync_names(self) -> None:
        self._history.clear()

    def synced(self, name: str, stored: Stored) -> None:
        if not self.skip("sync", name):
            stored.sync()
            if stored.unlisted:
                stored.unlisted = False
                # As the unix VFS does for a new journal. It syncs the directory, and so the engine's name in it.
                self.sync_names()
                for path in [path for path in self.fs._history if os.path.dirname(path) == PLACE]:
                    del self.fs._history[path]

    # What a power loss leaves

    def states(self, limit: int, seed: int) -> Iterator[tuple[str, dict[str, bytes]]]:
        """(what was lost, app.db's files) after a power loss; the first has lost nothing, the second, if there is a choice, everything."""
        names: list[tuple[str, list[Stored | None]]] = []
        files: dict[int, tuple[str, Stored]] = {}
        for name in RECORDED:
            history = self._history.get(name) or [self.names.get(name)]
            targets = list(dict.fromkeys([history[0], *history]))
            if targets[-1] is not self.names.get(name):
                targets = [target for target in targets if target is not self.names.get(name)] + [self.names.get(name)]
            names.append((name, targets))
            files.update({id(target): (name, target) for target in targets if target is not None})
        tails = [(name, stored, stored.tails(self.ordered)) for name, stored in files.values()]
        sizes = [len(targets) for _, targets in names] + [len(choices) for _, _, choices in tails]
        kept, lost = tuple(size - 1 for size in sizes), (0,) * len(sizes)
        others = [picks for picks in combinations(sizes, limit, seed) if picks not in (kept, lost)]
        if len(others) > limit:
            others = random.Random(seed).sample(others, limit)
        for picks in dict.fromkeys([kept, lost, *others]):
            told, left = [], {}
            content = {}
            for (name, stored, choices), pick in zip(tails, picks[len(names) :], strict=True):
                content[id(stored)] = choices[pick][1]
                if pick < len(choices) - 1:
                    told.append(f"{choices[pick][0]} to {name}")
            for (name, targets), pick in zip(names, picks, strict=False):
                target = targets[pick]
                if target is not None:
                    left[name] = content[id(target)]
                if pick < len(targets) - 1:
                    told.append(f"{name} is {'missing' if target is None else 'an earlier file'}")
            yield "; ".join(told), left

    def lefts(self, limit: int, seed: int) -> Iterator[Left]:
        """States of both stores after a power loss now, distinct. All there are when that is not above `limit`;
        else two of the four corners, and random ones."""
        ours = list(self.states(limit, seed))
        theirs = list(self.fs.states(limit, seed))
        pairs = list(itertools.product(range(len(ours)), range(len(theirs))))
        if len(pairs) > limit:
            worst = max(range(len(theirs)), key=lambda number: theirs[number].description.count(";"))
            corners = [(0, 0), (min(1, len(ours) - 1), worst), (0, worst), (min(1, len(ours) - 1), 0)]
            dice = random.Random(seed)
            pairs = [*dice.sample(corners, 2), *(dice.choice(pairs) for _ in range(limit - 2))]
        seen: set[bytes] = set()
        for a, b in pairs:
            told = "; ".join(text for text in (ours[a][0], theirs[b].description) if text and text != "nothing lost") or "nothing lost"
            left = Left(ours[a][1], theirs[b], told)
            if left.digest not in seen:
                seen.add(left.digest)
                yield left


class RecordedFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        directory, self._name = os.path.split(path or "")
        disk = _disks.get(directory)
        self._disk = disk if disk is not None and self._name in RECORDED else None
        if self._disk is not None:
            self._stored = self._disk.opened(self._name, flags[0])

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._disk is not None:
            self._disk.step("write", self._name, f"{len(data)} at {offset}")
            self._stored.pending.append((offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        if self._disk is not None:
            self._disk.step("truncate", self._name, newsize)
            self._stored.pending.append((newsize, None))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        if self._disk is not None:
            self._disk.step("sync", self._name)
            self._disk.synced(self._name, self._stored)
        # The model keeps what would be durable; the real files are let go of soon.


class RecordingVFS(apsw.VFS):
    def __init__(self) -> None:
        super().__init__(VFS, "unix")

    def xOpen(self, name: Any, flags: list[int]) -> RecordedFile:
        return RecordedFile(name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        directory, name = os.path.split(filename)
        disk = _disks.get(directory)
        if disk is not None and name in disk.names:
            disk.step("delete", name)
        super().xDelete(filename, False)
        if disk is not None:
            disk.deleted(name, syncdir)


class _Engines:
    """Stands for `Database` where the SQL layer opens engines: those of a RecordedDisk, or of an image of one, are opened on its file system."""

    @staticmethod
    def open(path: str, *arguments: Any, **keywords: Any) -> Database:
        directory, name = os.path.split(path)
        fs = _file_systems.get(directory)
        if fs is None:
            return Database.open(path, *arguments, **keywords)
        return Database.open(f"{PLACE}/{name}", *arguments, filesystem=fs, **keywords)


@contextmanager
def recording() -> Iterator[None]:
    """While this lasts the SQL layer opens its engines on the recorded disks."""
    vfs = RecordingVFS()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "Database", _Engines)
        patch.setattr(session, "_FILE_SYSTEMS", (*session._FILE_SYSTEMS, __name__))  # A VFS written in Python is called after its class.
        try:
            yield
        finally:
            vfs.unregister()


@contextmanager
def placed(left: Left, directory: str) -> Iterator[str]:
    """What a power loss left, as files of app.db in a real directory and an engine directory that nothing can happen to; the path of app.db."""
    os.makedirs(directory)
    for name, data in left.files.items():
        _write(os.path.join(directory, name), data)
    fs = left.engine.in_memory()
    fs._directories.add(PLACE)
    _file_systems[directory] = fs
    try:
        yield os.path.join(directory, "app.db")
    finally:
        del _file_systems[directory]
        shutil.rmtree(directory)


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
