"""How files are synced, whether they are copied on write, and whether the system keeps their pages: as options say, or an error."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

import lsmsql
from lsmsql import Options, UsageError
from lsmsql.engine.storage import filesystem
from lsmsql.engine.storage.filesystem import FileSystem, OsFileSystem
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from tests.proof.fault_filesystem import FaultFileSystem

NOCOW = 0x00800000
WRITING = {"background": False, "memtable_bytes": 2000}


def tuned(fs: FileSystem | None = None, sync_mode: str = "data", copy_on_write: bool = True, drop_cached: bool = False) -> FileSystem:
    return (fs or OsFileSystem()).tuned(sync_mode=sync_mode, copy_on_write=copy_on_write, drop_cached=drop_cached)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the system's syncs that were called."""
    called: list[str] = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda fd, real=real, name=name: (called.append(name), real(fd))[1])
    return called


@pytest.mark.parametrize(("mode", "expected"), [("data", "fdatasync"), ("all", "fsync")])
def test_a_file_is_synced_as_the_mode_says(tmp_path: Path, syncs: list[str], mode: str, expected: str) -> None:
    fs = tuned(sync_mode=mode)
    file = fs.create(str(tmp_path / "a"))
    file.append(b"x")
    file.sync()
    file.close()
    file = fs.open(str(tmp_path / "a"))
    file.sync()
    file.close()
    fs.sync_directory(str(tmp_path))
    assert syncs == [expected, expected, "fsync"]


def test_the_full_mode_is_refused_where_there_is_none_and_used_where_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: list[str]
) -> None:
    monkeypatch.setattr(filesystem, "_F_FULLFSYNC", None)
    with pytest.raises(UsageError, match="F_FULLFSYNC"):
        tuned(sync_mode="full")
    with pytest.raises(UsageError, match="F_FULLFSYNC"):
        lsmsql.open(tmp_path / "db", Options(sync_mode="full"))
    assert not (tmp_path / "db" / "CURRENT").exists()
    called: list[int] = []
    monkeypatch.setattr(filesystem, "_F_FULLFSYNC", 51)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: called.append(command))
    fs = tuned(sync_mode="full")
    file = fs.create(str(tmp_path / "a"))
    file.sync()
    file.close()
    fs.sync_directory(str(tmp_path))
    assert called == [51, 51] and not syncs


def test_a_databases_files_are_synced_as_its_options_say(tmp_path: Path, syncs: list[str]) -> None:
    database = lsmsql.open(tmp_path / "db", Options(sync_mode="all", **WRITING), key="secret")  # type: ignore[arg-type]
    database.tree("t").put(b"key", b"value")
    database.flush()
    database.close()
    assert set(syncs) == {"fsync"}
    database = lsmsql.open(tmp_path / "db", key="secret")  # As it was saved.
    database.tree("t").put(b"key", b"other")
    database.flush()
    database.close()
    assert set(syncs) == {"fsync"}


class Inodes:
    """What ioctl does to the attributes of inodes, on a file system that has copy-on-write or one that has not."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.flags: list[int] = []

    def ioctl(self, fd: int, request: int, argument: bytes) -> bytes:
        assert os.fstat(fd).st_size == 0, "later it would be refused"
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        if request == 0x80086601:
            return (0x80000).to_bytes(4, "little") + argument[4:]
        assert request == 0x40086602
        self.flags.append(int.from_bytes(argument[:4], "little"))
        return argument


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="inode flags are Linux's")
def test_copy_on_write_is_switched_off_for_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inodes = Inodes()
    monkeypatch.setattr(fcntl, "ioctl", inodes.ioctl)
    tuned().create(str(tmp_path / "as ever")).close()
    assert not inodes.flags
    fs = tuned(copy_on_write=False)
    fs.create(str(tmp_path / "a")).close()
    assert inodes.flags == [0x80000 | NOCOW] and fs.without_copy_on_write == 1
    database = lsmsql.open(tmp_path / "db", Options(copy_on_write=False, **WRITING))  # type: ignore[arg-type]
    database.tree("t").put(b"key", b"value")
    database.flush()
    assert database.statistics()["files_without_copy_on_write"] == len(inodes.flags) - 1 > 3
    database.close()


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="inode flags are Linux's")
@pytest.mark.parametrize("code", [errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_copy_on_write_is_fine_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(fcntl, "ioctl", Inodes(code).ioctl)
    database = lsmsql.open(tmp_path / "db", Options(copy_on_write=False))
    database.tree("t").put(b"key", b"value")
    assert database.tree("t").get(b"key") == b"value" and database.statistics()["files_without_copy_on_write"] == 0
    database.close()


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="inode flags are Linux's")
def test_any_other_failure_to_switch_it_off_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "ioctl", Inodes(errno.EIO).ioctl)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError) as caught:
        tuned(copy_on_write=False).create(str(tmp_path / "a"))
    assert caught.value.errno == errno.EIO and len(os.listdir("/proc/self/fd")) == before


def test_the_real_file_system_under_the_tests_takes_it_or_leaves_it(tmp_path: Path) -> None:
    fs = tuned(copy_on_write=False)
    file = fs.create(str(tmp_path / "a"))
    file.append(b"bytes")
    file.sync()
    file.drop_cached()
    assert file.read_at(0, 10) == b"bytes" and fs.without_copy_on_write in (0, 1)
    file.close()


def test_systems_that_lack_something_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(filesystem, "_has_inode_flags", lambda: False)
    with pytest.raises(UsageError, match="inode flags"):
        tuned(copy_on_write=False)
    monkeypatch.setattr(filesystem, "_FADVISE", None)
    with pytest.raises(UsageError, match="posix_fadvise"):
        tuned(drop_cached=True)
    with pytest.raises(UsageError, match="posix_fadvise"):
        lsmsql.open(tmp_path / "db", Options(cold_level=1))
    file = tuned().create(str(tmp_path / "a"))
    with pytest.raises(OSError, match="posix_fadvise"):
        file.drop_cached()
    file.close()


@pytest.mark.parametrize(("cold_level", "flushed", "compacted"), [(7, False, False), (1, False, True), (0, True, True)])
def test_cold_tables_leave_the_page_cache_once_they_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: list[str], cold_level: int, flushed: bool, compacted: bool
) -> None:
    dropped: list[str] = []

    def fadvise(fd: int, offset: int, size: int, advice: int) -> None:
        assert (offset, size, advice) == (0, 0, os.POSIX_FADV_DONTNEED) and syncs
        dropped.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))

    monkeypatch.setattr(filesystem, "_FADVISE", fadvise)
    database = lsmsql.open(tmp_path / "db", Options(cold_level=cold_level, **WRITING))  # type: ignore[arg-type]
    tree = database.tree("t")
    for n in range(3):
        tree.put(b"key", b"value %d" % n)
        database.flush()
    assert bool(dropped) == flushed
    before = len(dropped)
    database.compact()
    assert bool(dropped[before:]) == compacted and all(name.endswith(".sst") for name in dropped)
    assert tree.get(b"key") == b"value 2"
    database.close()


def test_a_failure_to_drop_pages_fails_the_table_and_leaves_nothing_of_it() -> None:
    fs = FaultFileSystem(directories=["db"])
    database = lsmsql.open("db", Options(cold_level=0, **WRITING), filesystem=fs)  # type: ignore[arg-type]
    tree = database.tree("t")
    tree.put(b"key", b"value")
    fs.fail("drop_cached")
    with pytest.raises(OSError, match="injected"):
        database.flush()
    assert not [name for name in fs.list("db") if name.endswith(".sst")]
    fs.heal()
    database.close()
    database = lsmsql.open("db", filesystem=fs)
    assert database.tree("t").get(b"key") == b"value"
    database.close()


def test_in_memory_there_is_nothing_to_tune() -> None:
    fs = MemoryFileSystem()
    assert tuned(fs, "all", False, True) is fs
    file = fs.create("a")
    file.drop_cached()
    file.close()
    with pytest.raises(OSError):
        file.drop_cached()


@pytest.mark.parametrize("wrong", [{"sync_mode": "some"}, {"copy_on_write": 1}, {"cold_level": 8}, {"cold_level": -1}, {"cold_level": True}])
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Options(**wrong)  # type: ignore[arg-type]
