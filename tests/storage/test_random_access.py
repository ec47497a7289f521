"""Files that are written anywhere: three file systems, one contract; and what only the real one, or only the failing one, does."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsmsql import UsageError
from lsmsql.engine.storage import random_access
from lsmsql.engine.storage.filesystem import OsFileSystem
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from tests.proof.fault_filesystem import FaultFileSystem

SECTOR = 4096


@pytest.fixture(params=["os", "memory", "fault"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[object, str]]:
    if request.param == "os":
        yield OsFileSystem(), str(tmp_path / "f")
    else:
        yield (MemoryFileSystem if request.param == "memory" else FaultFileSystem)(directories=["/d"]), "/d/f"


def test_what_is_written_anywhere_is_read_there(place) -> None:  # type: ignore[no-untyped-def]
    fs, path = place
    file = fs.open_random(path, create=True)
    file.write_at(2 * SECTOR, [b"ab", bytearray(b"cd"), memoryview(b"ef")])
    file.write_at(1, [b"x"])
    assert file.read_at(2 * SECTOR + 1, 4) == b"bcde" and file.read_at(0, 3) == b"\0x\0"
    assert file.read_at(2 * SECTOR + 4, 100) == b"ef" and file.read_at(1 << 40, 5) == b""
    assert isinstance(file.is_cached(2 * SECTOR), bool)
    assert file.size() == 2 * SECTOR + 6
    file.preallocate(0, 5 * SECTOR)
    assert file.size() == 5 * SECTOR and file.read_at(2 * SECTOR, 6) == b"abcdef"
    file.punch(2 * SECTOR, SECTOR)
    assert file.read_at(2 * SECTOR, 6) == bytes(6) and file.read_at(1, 1) == b"x"
    file.sync()
    file.close()
    file.close()
    with pytest.raises(FileExistsError):
        fs.open_random(path, create=True)
    again = fs.open_random(path)
    assert again.read_at(1, 1) == b"x"
    again.close()
    with pytest.raises(FileNotFoundError):
        fs.open_random(path + "-none")
    with pytest.raises(OSError):
        again.write_at(0, [b"x"])


def test_a_write_of_more_buffers_than_the_system_takes_is_whole(tmp_path: Path) -> None:
    file = OsFileSystem().open_random(str(tmp_path / "f"), create=True)
    file.write_at(3, [b"%05d" % number for number in range(2500)])
    assert file.read_at(3, 12500) == b"".join(b"%05d" % number for number in range(2500))
    file.close()


def test_a_short_write_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = OsFileSystem().open_random(str(tmp_path / "f"), create=True)
    whole = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, buffers, offset: whole(fd, [b"".join(buffers)[:3]], offset))
    file.write_at(1, [b"abcd", b"", b"efghi"])
    assert file.read_at(0, 20) == b"\0abcdefghi"
    monkeypatch.setattr(os, "pwritev", lambda *_: 0)
    with pytest.raises(OSError):
        file.write_at(1, [b"abcd"])
    file.close()


def test_after_a_failed_sync_nothing_is_written_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = OsFileSystem().open_random(str(tmp_path / "f"), create=True)
    file.write_at(0, [b"abc"])

    def failing(_: int) -> None:
        raise OSError(errno.EIO, "no")

    file._sync = failing
    with pytest.raises(OSError):
        file.sync()
    for call in (file.sync, lambda: file.write_at(0, [b"x"])):
        with pytest.raises(OSError):
            call()
    assert file.read_at(0, 3) == b"abc"
    file.close()


def test_direct_files_are_written_in_sectors_and_read_anywhere(tmp_path: Path) -> None:
    fs = OsFileSystem()
    path = str(tmp_path / "f")
    try:
        file = fs.open_random(path, create=True, direct=True)
    except UsageError:
        pytest.skip("no direct I/O here")
    data = os.urandom(3 * SECTOR)
    file.write_at(SECTOR, [data[:100], data[100:]])
    assert file.read_at(SECTOR, 3 * SECTOR) == data
    assert file.read_at(SECTOR + 5, 5000) == data[5:5005]
    assert file.read_at(4 * SECTOR - 7, 100) == data[-7:] and file.read_at(4 * SECTOR, 1) == b"" and file.read_at(1 << 40, 9) == b""
    with pytest.raises(UsageError, match="multiple of 4096"):
        file.write_at(SECTOR, [b"abc"])
    with pytest.raises(UsageError, match="multiple of 4096"):
        file.write_at(1, [bytes(SECTOR)])
    file.close()
    plain = fs.open_random(path)
    assert plain.read_at(SECTOR + 5, 50) == data[5:55]
    plain.close()


def test_a_file_system_without_direct_io_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object) -> int:
        raise OSError(errno.EINVAL, "no")

    with pytest.raises(UsageError, match="no direct I/O"):
        MemoryFileSystem(directories=["/d"]).open_random("/d/f", create=True, direct=True)
    monkeypatch.setattr(random_access.fcntl, "fcntl", refusing)
    with pytest.raises(UsageError, match="no direct I/O"):
        OsFileSystem().open_random(str(tmp_path / "f"), create=True, direct=True)
    monkeypatch.setattr(random_access, "_DIRECT", None)
    with pytest.raises(UsageError, match="O_DIRECT"):
        OsFileSystem().open_random(str(tmp_path / "g"), create=True, direct=True)


def test_a_system_without_fallocate_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = OsFileSystem().open_random(str(tmp_path / "f"), create=True)
    monkeypatch.setattr(random_access, "_native_fallocate", lambda: None)
    with pytest.raises(OSError) as found:
        file.preallocate(0, 10)
    assert found.value.errno in random_access.UNSUPPORTED
    file.close()


def test_a_power_loss_takes_each_unsynced_piece_on_its_own_and_tears_sectors() -> None:
    fs = FaultFileSystem(directories=["/d"])
    file = fs.open_random("/d/f", create=True)
    fs.sync_directory("/d")
    file.write_at(0, [b"a" * SECTOR * 3])
    file.sync()
    file.write_at(SECTOR, [b"b" * SECTOR])
    file.preallocate(0, 4 * SECTOR)
    found = {image.read("/d/f") for image in fs.images()}
    a, b, half, zeros = b"a" * SECTOR, b"b" * SECTOR, SECTOR // 2, bytes(SECTOR)
    middles = (a, b, b[:half] + a[:half], a[:half] + b[:half])
    assert found == {a + middle + a + tail for middle in middles for tail in (b"", zeros)}
    file.punch(0, SECTOR)
    file.write_at(5 * SECTOR, [b"c"])
    assert {image.read("/d/f")[:1] for image in fs.images(limit=999)} == {b"a", b"\0"}
    file.sync()
    assert {image.read("/d/f") for image in fs.images()} == {bytes(SECTOR) + b + a + 2 * zeros + b"c"}
    assert fs.copy().read("/d/f") == file.read_at(0, 1 << 20)


def test_a_crash_within_a_write_leaves_half_and_a_look_at_it_nothing() -> None:
    fs = FaultFileSystem({"/d/f": b"a" * 8})
    seen = []
    fs.watch = lambda operation: seen.append(fs.read("/d/f"))
    file = fs.open_random("/d/f")
    file.write_at(0, [b"b" * 8])
    assert seen == [b"bbbbaaaa"] and file.read_at(0, 9) == b"b" * 8
    fault = fs.fail("write_at")
    with pytest.raises(OSError):
        file.write_at(0, [b"c" * 8])
    assert fault.hits == 1 and file.read_at(0, 9) == b"ccccbbbb"
    file.write_at(0, [b"d" * 8])  # Unlike an append: its place is given anew.
    fs.fail("sync")
    with pytest.raises(OSError):
        file.sync()
    with pytest.raises(OSError):
        file.write_at(0, [b"e"])
    assert b"a" * 8 in {image.read("/d/f") for image in fs.images()}
