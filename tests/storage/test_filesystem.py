"""Every file system keeps the same promises; the real one also keeps them when writes are short and processes fork."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lsmsql.engine.storage import filesystem as filesystem_module
from lsmsql.engine.storage.filesystem import File, FileSystem, OsFileSystem, at_fork_in_child, replace_file
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.errors import LockedError
from tests.proof.fault_filesystem import FaultFileSystem

Place = tuple[FileSystem, str]


@pytest.fixture(params=["os", "memory", "fault"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A file system and an empty directory in it."""
    if request.param == "os":
        return OsFileSystem(), str(tmp_path)
    return (MemoryFileSystem if request.param == "memory" else FaultFileSystem)(directories=["db"]), "db"


def write(fs: FileSystem, path: str, data: bytes) -> None:
    file = fs.create(path)
    file.append(data)
    file.close()


def test_appended_bytes_are_read_back_by_every_way(place: Place) -> None:
    fs, directory = place
    path = fs.join(directory, "a")
    file = fs.create(path)
    assert (file.path, file.size(), file.read_at(0, 10)) == (path, 0, b"")
    file.append(b"hello ")
    file.append(bytearray(b"wor"))
    file.append(memoryview(b"xld!")[1:])
    file.append(b"")
    file.sync()
    assert (file.size(), fs.size(path), fs.read(path)) == (12, 12, b"hello world!")
    other = fs.open(path)
    for each in (file, other):
        assert each.read_at(0, 12) == b"hello world!"
        assert each.read_at(6, 3) == b"wor"
        assert each.read_at(10, 100) == b"d!"
        assert each.read_at(12, 1) == each.read_at(1 << 40, 5) == each.read_at(3, 0) == b""
        assert isinstance(each.read_at(0, 4), bytes)
    file.append(b"?")
    assert other.size() == 13
    file.close()
    other.close()
    file.close()
    with pytest.raises(OSError) as info:
        file.read_at(0, 1)
    assert info.value.errno == errno.EBADF


def test_a_damaged_length_or_offset_costs_no_memory(place: Place) -> None:
    fs, directory = place
    path = fs.join(directory, "a")
    write(fs, path, b"abc")
    file = fs.open(path)
    assert file.read_at(1, 1 << 62) == b"bc"
    assert file.read_at(5, 1 << 62) == b""
    assert file.read_at((1 << 64) - 1, 40) == b""
    assert file.read_at((1 << 64) - 1, 1 << 40) == b""
    file.close()


def test_a_file_opened_for_reading_cannot_be_appended_to(place: Place) -> None:
    fs, directory = place
    path = fs.join(directory, "a")
    write(fs, path, b"abc")
    file = fs.open(path)
    with pytest.raises(OSError):
        file.append(b"x")
    file.sync()
    file.close()
    assert fs.read(path) == b"abc"


def test_names(place: Place) -> None:
    fs, directory = place
    a, b, sub = (fs.join(directory, name) for name in ("a", "b", "sub"))
    write(fs, b, b"B")
    write(fs, a, b"A")
    fs.make_directory(sub)
    write(fs, fs.join(sub, "deep"), b"D")
    assert fs.list(directory) == ["a", "b", "sub"]
    assert fs.list(sub) == ["deep"]
    with pytest.raises(FileExistsError):
        fs.create(a)
    with pytest.raises(FileExistsError):
        fs.make_directory(sub)
    held = fs.open(b)
    fs.rename(a, b)
    assert (fs.list(directory), fs.read(b), held.read_at(0, 1)) == (["b", "sub"], b"A", b"B")
    held.close()
    fs.sync_directory(directory)
    held = fs.open(b)
    fs.remove(b)
    assert held.read_at(0, 9) == b"A"
    held.close()
    assert [fs.exists(path) for path in (a, b, sub, directory)] == [False, False, True, True]


def test_what_is_missing_is_a_file_not_found_error(place: Place) -> None:
    fs, directory = place
    gone, inside = fs.join(directory, "gone"), fs.join(fs.join(directory, "none"), "x")
    calls: list[Callable[[], object]] = [
        lambda: fs.open(gone),
        lambda: fs.read(gone),
        lambda: fs.size(gone),
        lambda: fs.remove(gone),
        lambda: fs.rename(gone, fs.join(directory, "b")),
        lambda: fs.list(gone),
        lambda: fs.sync_directory(gone),
        lambda: fs.create(inside),
        lambda: fs.make_directory(inside),
        lambda: fs.identity(gone),
        lambda: fs.lock(inside, 0),
    ]
    for call in calls:
        with pytest.raises(FileNotFoundError):
            call()
    assert fs.list(directory) == []


def test_identity_is_of_the_directory_not_of_its_path(place: Place) -> None:
    fs, directory = place
    fs.make_directory(fs.join(directory, "sub"))
    same = fs.join(fs.join(directory, "sub"), "..")
    assert fs.identity(directory) == fs.identity(same) == fs.identity(fs.absolute(directory))
    assert fs.identity(directory) != fs.identity(fs.join(directory, "sub"))
    assert hash(fs.identity(directory)) == hash(fs.identity(same))
    assert MemoryFileSystem(directories=["db"]).identity("db") != MemoryFileSystem(directories=["db"]).identity("db")


def test_locks_exclude_and_share(place: Place) -> None:
    fs, directory = place
    path = fs.join(directory, "LOCK")
    lock = fs.lock(path, 0)
    assert lock.held and lock.pid == os.getpid() and not lock.forked and lock.path == path
    for shared in (False, True):
        with pytest.raises(LockedError, match="LOCK"):
            fs.lock(path, 0, shared=shared)
    lock.release()
    lock.release()
    assert not lock.held
    readers = [fs.lock(path, 0, shared=True) for _ in range(2)]
    with pytest.raises(LockedError):
        fs.lock(path, 0)
    readers[0].release()
    with pytest.raises(LockedError):
        fs.lock(path, 0)
    readers[1].release()
    fs.lock(path, 0).release()


def test_waiting_for_a_lock_is_bounded_and_ends_when_it_is_free(place: Place) -> None:
    fs, directory = place
    path = fs.join(directory, "LOCK")
    lock = fs.lock(path, 0)
    start = time.monotonic()
    with pytest.raises(LockedError):
        fs.lock(path, 0.1)
    assert 0.09 <= time.monotonic() - start < 5
    timer = threading.Timer(0.05, lock.release)
    timer.start()
    fs.lock(path, 30).release()
    timer.join()


def test_replacing_a_file(place: Place) -> None:
    fs, directory = place
    replace_file(fs, directory, "CURRENT", b"one")
    write(fs, fs.join(directory, "CURRENT.tmp"), b"left by a crash")
    replace_file(fs, directory, "CURRENT", b"two")
    assert (fs.list(directory), fs.read(fs.join(directory, "CURRENT"))) == (["CURRENT"], b"two")


# The real one


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """os.write takes at most three bytes; the list gets the size of each."""
    sizes: list[int] = []
    real = os.write

    def short(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return real(fd, bytes(data)[:3])

    monkeypatch.setattr(filesystem_module.os, "write", short)
    return sizes


def test_a_short_write_is_continued(tmp_path: Path, counted: list[int]) -> None:
    file = OsFileSystem().create(str(tmp_path / "a"))
    file.append(b"0123456789")
    file.append(memoryview(b"abcd"))
    assert counted == [10, 7, 4, 1, 4, 1]
    assert file.read_at(0, 99) == b"0123456789abcd"
    file.close()


def test_an_append_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    real = os.write
    monkeypatch.setattr(filesystem_module.os, "write", lambda fd, data: seen.append(data) or real(fd, data))
    file = OsFileSystem().create(str(tmp_path / "a"))
    data = memoryview(bytearray(1 << 20))
    file.append(data)
    assert seen == [data] and seen[0] is data
    file.close()


@pytest.mark.parametrize("written", [None, 2])
def test_nothing_is_appended_behind_a_failed_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int | None) -> None:
    file = OsFileSystem().create(str(tmp_path / "a"))
    file.append(b"whole")
    real = os.write
    calls = iter([written, None])

    def failing(fd: int, data: bytes) -> int:
        count = next(calls)
        if count is None:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, bytes(data)[:count])

    monkeypatch.setattr(filesystem_module.os, "write", failing)
    with pytest.raises(OSError, match="full"):
        file.append(b"second")
    monkeypatch.setattr(filesystem_module.os, "write", real)
    with pytest.raises(OSError) as info:
        file.append(b"third")
    assert info.value.errno == errno.EBADF
    assert file.read_at(0, 99) == b"whole" + b"second"[: written or 0]
    file.close()


def test_a_write_that_takes_nothing_is_an_error_not_a_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem_module.os, "write", lambda fd, data: 0)
    file = OsFileSystem().create(str(tmp_path / "a"))
    with pytest.raises(OSError):
        file.append(b"x")
    file.close()


def test_a_failed_sync_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "lost")

    file = OsFileSystem().create(str(tmp_path / "a"))
    file.append(b"x")
    real = os.fdatasync
    monkeypatch.setattr(filesystem_module.os, "fdatasync", failing)
    with pytest.raises(OSError, match="lost"):
        file.sync()
    monkeypatch.setattr(filesystem_module.os, "fdatasync", real)
    for call in (file.sync, lambda: file.append(b"y")):
        with pytest.raises(OSError) as info:
            call()
        assert info.value.errno == errno.EBADF
    assert file.read_at(0, 9) == b"x"
    file.close()


def test_a_short_read_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "a")
    write(OsFileSystem(), path, bytes(range(100)))
    real = os.pread
    monkeypatch.setattr(filesystem_module.os, "pread", lambda fd, size, offset: real(fd, min(size, 7), offset))
    file = OsFileSystem().open(path)
    assert file.read_at(10, 50) == bytes(range(10, 60))
    assert file.read_at(90, 50) == bytes(range(90, 100))
    file.close()


HOLDER = """
import sys
from lsmsql.engine.storage.filesystem import OsFileSystem
lock = OsFileSystem().lock(sys.argv[1], 0)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_of_another_process_is_named_and_dies_with_it(tmp_path: Path) -> None:
    path = str(tmp_path / "LOCK")
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=rf"{path} is held by process {other.pid}\b"):
            OsFileSystem().lock(path, 0)
        other.kill()
    lock = OsFileSystem().lock(path, 0)
    with pytest.raises(LockedError, match="this process"):
        OsFileSystem().lock(path, 0)
    lock.release()
    reader = OsFileSystem().lock(path, 0, shared=True)
    with pytest.raises(LockedError, match="held by another process or a reader"):  # Not by the last exclusive holder.
        OsFileSystem().lock(path, 0)
    reader.release()


def in_child(action: Callable[[], bool]) -> bool:
    """What `action` says in a forked child."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if action() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_forked_child_neither_holds_nor_frees_the_lock(tmp_path: Path) -> None:
    fs, path = OsFileSystem(), str(tmp_path / "LOCK")
    lock = fs.lock(path, 0)
    open_before = len(os.listdir("/proc/self/fd"))

    def child() -> bool:
        closed = len(os.listdir("/proc/self/fd")) == open_before - 1
        lock.release()  # What a destructor in the child may do.
        try:
            fs.lock(path, 0)
        except LockedError:
            return lock.forked and not lock.held and closed
        return False

    assert in_child(child)
    assert lock.held and not lock.forked
    with pytest.raises(LockedError):
        fs.lock(path, 0)
    lock.release()
    assert in_child(lambda: fs.lock(path, 0).held)


def test_a_sleeping_child_does_not_keep_the_lock_after_its_parent_let_go(tmp_path: Path) -> None:
    fs, path = OsFileSystem(), str(tmp_path / "LOCK")
    lock = fs.lock(path, 0)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        lock.release()
        fs.lock(path, 0).release()
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(pid, 0)


def test_a_lock_in_memory_is_void_in_a_forked_child() -> None:
    lock = MemoryFileSystem(directories=["db"]).lock("db/LOCK", 0)
    assert in_child(lambda: lock.forked and not lock.held)
    assert lock.held
    lock.release()


def test_callbacks_run_in_the_child_only() -> None:
    ran: list[int] = []
    at_fork_in_child(lambda: ran.append(1))
    assert in_child(lambda: ran == [1])
    assert ran == []


def test_files_in_memory_start_with_what_is_given() -> None:
    fs = MemoryFileSystem({"/a/b/c": b"x"}, ["d/e"])
    assert (fs.read("/a/b/c"), fs.list("/a"), fs.list("d"), fs.list("/")) == (b"x", ["b"], ["e"], ["a"])
    assert fs.files() == {"/a/b/c": b"x"}
    assert fs.directories() == ["/a", "/a/b", "d", "d/e"]
    assert fs.absolute("//a/./b/../c") == "/a/c"
    with pytest.raises(IsADirectoryError):
        fs.read("/a")
    with pytest.raises(OSError):
        fs.open("/a/b/c").read_at(-1, 1)


def test_appends_and_reads_of_one_file_in_memory_do_not_disturb_each_other() -> None:
    fs = MemoryFileSystem()
    file: File = fs.create("a")
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while file.size() < 4000 * 64:
                assert set(file.read_at(0, 1 << 20)) <= {7}
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(4000):
        file.append(b"\7" * 64)
    for thread in threads:
        thread.join()
    assert not failures
