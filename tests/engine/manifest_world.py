"""A manifest's directory for tests: how to make one, what is in it, and what damage does to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lsmsql.engine.manifest.manifest import Manifest
from lsmsql.engine.manifest.version import TableRecord, Version
from lsmsql.engine.manifest.version_edit import VersionEdit
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem

DIRECTORY = "/db"
KEY = bytes(range(32))
OPTIONS = "durability = full\n"


def memory() -> MemoryFileSystem:
    return MemoryFileSystem(directories=[DIRECTORY])


def clock() -> Callable[[], int]:
    """A clock that ticks once for each question."""
    ticks = iter(range(1_000_000, 2_000_000))
    return lambda: next(ticks)


def create(fs: MemoryFileSystem, encrypted: bool = False, rotate_bytes: int = 1 << 20) -> Manifest:
    keyring = None
    if encrypted:
        keys = f"{DIRECTORY}/KEYS"
        keyring = Keyring.open(fs, DIRECTORY, KEY) if fs.exists(keys) else Keyring.create(fs, DIRECTORY, KEY)
    return Manifest.create(fs, DIRECTORY, keyring, OPTIONS, rotate_bytes=rotate_bytes, clock=clock())


def reopen(fs: MemoryFileSystem, encrypted: bool = False, rotate_bytes: int = 1 << 20) -> Manifest:
    keyring = Keyring.open(fs, DIRECTORY, KEY) if encrypted else None
    return Manifest.open(fs, DIRECTORY, keyring, rotate_bytes=rotate_bytes, clock=clock())


def add_table(manifest: Manifest, seqno: int = 5) -> Version:
    """Commit one more table of tree 1, with keys that are easy to find in plain text."""
    file_id = manifest.new_file_id()
    table = TableRecord(file_id, 1, 0, 1000, 10, 1, b"SECRETKEY-a", b"SECRETKEY-z", 1, seqno)
    return manifest.commit(VersionEdit(added=(table,), last_seqno=seqno))


def grow(manifest: Manifest, tables: int) -> list[Version]:
    """The versions after creating a tree and adding tables one by one."""
    versions = [manifest.commit(VersionEdit(trees_created=((1, "SECRETNAME"),), snapshots_set=(("SECRETSNAPSHOT", 3),)))]
    return versions + [add_table(manifest, seqno=n + 5) for n in range(tables)]


def damaged(data: bytes, flips: tuple[int, ...] = (0x01, 0xFF), step: int = 1) -> Iterator[tuple[str, bytes]]:
    """Every way to damage a file that is tried: each byte changed in some ways, each length, something behind. step: only of every so manieth."""
    for offset in range(0, len(data), step):
        for flip in flips:
            yield f"byte {offset} ^ {flip:#x}", data[:offset] + bytes((data[offset] ^ flip,)) + data[offset + 1 :]
    for length in range(0, len(data), step):
        yield f"cut to {length}", data[:length]
    yield "null bytes behind", data + bytes(100)
    yield "itself behind", data * 2


def with_file(fs: MemoryFileSystem, path: str, data: bytes | None) -> MemoryFileSystem:
    """A copy of the files with another content of one, or without it."""
    files = fs.files()
    if data is None:
        del files[path]
    else:
        files[path] = data
    return MemoryFileSystem(files, fs.directories())
