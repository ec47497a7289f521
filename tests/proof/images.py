"""What a power loss may leave: the choices it has, file by file and name by name, and the states of the disk that they make."""

from __future__ import annotations

import itertools
import math
import posixpath
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import xxhash

from lsmsql.engine.storage.filesystem import Bytes
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem, Node, put

PREFIXES_MAX = 4
TEAR_BYTES = 512  # What a disk writes whole.
SECTOR_BYTES = 4096


class Piece:
    """One change of a file that is written anywhere, until a sync makes it safe. kind: "write", "punch" or "size"."""

    __slots__ = ("data", "kind", "offset")

    def __init__(self, kind: str, offset: int, data: bytes) -> None:
        self.kind, self.offset, self.data = kind, offset, data

    @property
    def options(self) -> tuple[str, ...]:
        """What a power loss may leave of it, from nothing to all."""
        if self.kind != "write" or len(self.data) <= TEAR_BYTES:
            return "none", "all"
        return ("none", "front", "back", "every other sector", "all") if len(self.data) > SECTOR_BYTES else ("none", "front", "back", "all")

    def apply(self, room: bytearray, option: str) -> None:
        middle = len(self.data) // 2 // TEAR_BYTES * TEAR_BYTES  # In the middle of a sector of 4 KiB, or wherever.
        if option == "none":
            return
        if option == "front":
            put(room, self.offset, self.data[:middle])
        elif option == "back":
            put(room, self.offset + middle, self.data[middle:])
        elif option == "all":
            put(room, self.offset, self.data)
        else:
            for start in range(0, len(self.data), 2 * SECTOR_BYTES):
                put(room, self.offset + start, self.data[start : start + SECTOR_BYTES])


class Inode(Node):
    """A file: `synced` bytes of it are safe. lost: a sync failed, so no later one can be trusted to write what it left.

    data: bytes that others have too, until something is appended. Once a file is written anywhere, `durable` is what is safe of it, and
    `pieces` are the changes since; `synced` then says nothing."""

    __slots__ = ("_prefixes", "durable", "lost", "pieces", "synced")

    def __init__(self, data: Bytes = b"", synced: int = 0) -> None:
        self.data = data if isinstance(data, bytes) else bytearray(data)  # type: ignore[assignment]
        self.synced = synced
        self.lost = False
        self._prefixes: dict[int, bytes] = {}
        self.durable: bytes | None = None
        self.pieces: list[Piece] = []

    def written_anywhere(self) -> None:
        """From now on changes are pieces."""
        if self.durable is None:
            self.durable = bytes(self.data[: self.synced])
            rest = bytes(self.data[self.synced :])
            self.pieces = [Piece("write", self.synced, rest)] if rest else []
            self.data = bytearray(self.data)
            self.synced = len(self.data)

    def change(self, piece: Piece) -> None:
        self.pieces.append(piece)
        piece.apply(self.data, "all")
        self.synced = len(self.data)
        self._prefixes.clear()

    def settle(self) -> None:
        """What a sync does."""
        if self.durable is not None:
            self.durable = bytes(self.data)
            self.pieces = []
        self.synced = len(self.data)

    def copy(self) -> Inode:
        other = Inode(self.prefix(len(self.data)), self.synced)
        other.lost, other.durable, other.pieces = self.lost, self.durable, list(self.pieces)
        if self.durable is not None:
            other.data = bytearray(other.data)
        return other

    def left(self, options: Mapping[int, str]) -> bytes:
        """A file that is written anywhere, as a power loss leaves it. options: by the piece's id."""
        assert self.durable is not None
        if not self.pieces:
            return self.durable
        room = bytearray(self.durable)
        for piece in self.pieces:
            piece.apply(room, options[id(piece)])
        return bytes(room)

    def append(self, data: Bytes) -> None:
        if isinstance(self.data, bytes):
            self.data = bytearray(self.data)
        self.data += data

    def cut(self, length: int) -> None:
        """Undo what was appended behind `length`."""
        del self.data[length:]
        self._prefixes = {kept: prefix for kept, prefix in self._prefixes.items() if kept <= length}

    def prefix(self, length: int) -> bytes:
        """The first bytes: one object for all images that hold as many of them."""
        if isinstance(self.data, bytes) and length == len(self.data):
            return self.data
        if length not in self._prefixes:
            while len(self._prefixes) >= PREFIXES_MAX:
                del self._prefixes[next(iter(self._prefixes))]
            self._prefixes[length] = bytes(self.data[:length])
        return self._prefixes[length]


class Directory:
    """What a name leads to when it leads to a directory."""


DIRECTORY = Directory()
Target = Inode | Directory | None  # None: the name does not exist.


@dataclass(frozen=True)
class Image:
    """A disk after a power loss, not yet touched. description: what was lost."""

    files: Mapping[str, bytes]
    directories: frozenset[str] = frozenset()
    description: str = ""

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that are the same for the same files and directories."""
        state = xxhash.xxh3_128()
        for path, data in sorted(self.files.items()):
            state.update(f"{path}\0{len(data)}\0".encode())
            state.update(data)
        state.update("\0".join(sorted(self.directories)).encode())
        return state.digest()

    def in_memory(self) -> MemoryFileSystem:
        """As a disk that nothing can happen to."""
        return MemoryFileSystem(self.files, self.directories)


class Tail(NamedTuple):
    """How much of a file a power loss leaves: `kept` of its bytes, then `zeros` null bytes."""

    name: str
    kept: int
    zeros: int = 0


class Choice(NamedTuple):
    """One thing that a power loss decides on its own. options: from lost to kept."""

    subject: str | Inode | Piece
    options: tuple[tuple[str, Target | Tail | str], ...]


@dataclass(frozen=True)
class Unsynced:
    """A disk and what is not safe on it. names: what each leads to now; history: of each name changed since its directory was synced, what it
    led to then, and everything it has led to since."""

    names: Mapping[str, Inode]
    directories: Iterable[str]
    history: Mapping[str, list[Target]]

    def images(self, limit: int, seed: int, zeros: bool) -> Iterator[Image]:
        """See `FaultFileSystem.images`."""
        choices = self.choices(zeros)
        seen: set[bytes] = set()
        for picks in combinations([len(choice.options) for choice in choices], limit, seed):
            image = Image(*self._left(choices, picks), describe(choices, picks))
            if image.digest not in seen:
                seen.add(image.digest)
                yield image

    def choices(self, zeros: bool) -> list[Choice]:
        choices: list[Choice] = []
        inodes: dict[int, tuple[str, Inode]] = {id(inode): (path, inode) for path, inode in self.names.items()}
        for path, history in sorted(self.history.items()):
            for target in history:
                if isinstance(target, Inode):
                    inodes.setdefault(id(target), (path, target))
            targets = [*dict.fromkeys(reversed(history))]  # By identity, the latest first; the durable one goes last.
            if len(targets) > 1:
                lost = history[0] if history[0] is not targets[0] else targets[-1]
                targets = [lost, *(target for target in reversed(targets) if target is not lost)]
                choices.append(Choice(path, tuple((target_name(target), target) for target in targets)))
        for path, inode in inodes.values():
            for piece in inode.pieces:
                what = f"of {piece.kind} {len(piece.data)} at {piece.offset} of {path}"
                choices.append(Choice(piece, tuple((f"{option} {what}", option) for option in piece.options)))
            rest = len(inode.data) - inode.synced
            if rest:
                tails = [Tail("none", inode.synced), Tail("half", inode.synced + rest // 2), Tail("all", len(inode.data))]
                if rest == 1:
                    del tails[1]
                if zeros:
                    tails.insert(1, Tail("zeros", inode.synced, rest))
                choices.append(Choice(inode, tuple((f"{tail.name} of the last {rest} bytes of {path}", tail) for tail in tails)))
        return choices

    def _left(self, choices: list[Choice], picks: tuple[int, ...]) -> tuple[dict[str, bytes], frozenset[str]]:
        """The files and directories that these picks leave."""
        targets: dict[str, Target] = dict(self.names) | dict.fromkeys(self.directories, DIRECTORY)
        tails: dict[int, Tail] = {}
        pieces: dict[int, str] = {}
        for choice, pick in zip(choices, picks, strict=True):
            value = choice.options[pick][1]
            if isinstance(choice.subject, Inode):
                assert isinstance(value, Tail)
                tails[id(choice.subject)] = value
            elif isinstance(choice.subject, Piece):
                assert isinstance(value, str)
                pieces[id(choice.subject)] = value
            else:
                assert not isinstance(value, Tail | str)
                targets[choice.subject] = value

        def reachable(path: str) -> bool:
            parent = posixpath.dirname(path)
            return path in ("", "/") or (isinstance(targets.get(parent), Directory) and reachable(parent))

        files = {}
        directories = set()
        for path, target in targets.items():
            if target is None or not reachable(path):
                continue
            if isinstance(target, Directory):
                directories.add(path)
            elif target.durable is not None:
                files[path] = target.left(pieces)
            else:
                tail = tails.get(id(target))
                kept = len(target.data) if tail is None else tail.kept
                files[path] = target.prefix(kept) + bytes(tail.zeros) if tail and tail.zeros else target.prefix(kept)
        return files, frozenset(directories - {"", "/"})


def target_name(target: Target) -> str:
    if isinstance(target, Inode):
        return f"is a file of {len(target.data)} bytes"
    return "is missing" if target is None else "is a directory"


def describe(choices: list[Choice], picks: tuple[int, ...]) -> str:
    told = []
    for choice, pick in zip(choices, picks, strict=True):
        if pick != len(choice.options) - 1:
            name = choice.options[pick][0]
            told.append(f"{choice.subject} {name}" if isinstance(choice.subject, str) else name)
    return "; ".join(told) or "nothing lost"


def combinations(sizes: list[int], limit: int, seed: int) -> Iterator[tuple[int, ...]]:
    """Tuples with one number below each size; 0 means lost, size - 1 kept. The first keeps all."""
    kept = tuple(size - 1 for size in sizes)
    if math.prod(sizes) <= limit:
        yield from itertools.product(*(range(size - 1, -1, -1) for size in sizes))
        return
    lost = (0,) * len(sizes)
    count = 0
    for base in (kept, lost):
        yield base
        count += 1
        for i, size in enumerate(sizes):
            for pick in range(size):
                if pick != base[i]:
                    yield (*base[:i], pick, *base[i + 1 :])
                    count += 1
    generator = random.Random(seed)
    for _ in range(limit - count):
        yield tuple(generator.randrange(size) for size in sizes)
