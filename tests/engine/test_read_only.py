"""Reading beside a writer: one moment until `refresh`, nothing written, and whatever the writer does in between comes out as one of its moments."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lsmsql
from lsmsql import ClosedError, CorruptionError, Database, HistoryError, KeyUnavailableError, LockedError, Options, ReadOnlyDatabase, UsageError
from lsmsql.engine.prepared import Host
from lsmsql.engine.storage.filesystem import OsFileSystem
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from tests.engine.database_world import DIRECTORY, INLINE, KEY, memory, open_database, rows, table_paths, wal_paths
from tests.engine.read_only_world import TINY, open_reader


@pytest.fixture
def fs() -> MemoryFileSystem:
    return memory()


@pytest.fixture
def writer(fs: MemoryFileSystem) -> Iterator[Database]:
    with open_database(fs) as database:
        yield database


@pytest.fixture
def reader(fs: MemoryFileSystem, writer: Database) -> Iterator[ReadOnlyDatabase]:
    writer.tree("a").put(b"k", b"1")
    with open_reader(fs) as database:
        yield database


def test_a_reader_shows_one_moment_until_it_is_refreshed(writer: Database, reader: ReadOnlyDatabase) -> None:
    theirs, ours = writer.tree("a"), reader.tree("a")
    assert rows(ours) == {b"k": b"1"} and reader.seqno == writer.seqno == 1
    theirs.put(b"k", b"2")
    theirs.put(b"l", b"1")
    writer.tree("b").put(b"x", b"y")
    assert rows(ours) == {b"k": b"1"} and reader.tree_names() == ["a"]
    assert reader.refresh()
    assert rows(ours) == {b"k": b"2", b"l": b"1"} and reader.seqno == writer.seqno
    assert reader.tree("a") is ours and rows(reader.tree("b")) == {b"x": b"y"}
    assert not reader.refresh()


@pytest.mark.parametrize("act", [Database.flush, Database.compact], ids=["flush", "compact"])
def test_files_that_are_removed_stay_readable_until_the_refresh(writer: Database, fs: MemoryFileSystem, act: Callable[[Database], None]) -> None:
    tree = writer.tree("a")
    for number in range(300):
        tree.put(b"%03d" % number, b"old" * 5)
    writer.flush()
    reader = open_reader(fs)
    ours = reader.tree("a")
    before = {b"%03d" % number: b"old" * 5 for number in range(300)}
    view, scan = reader.read_view(), iter(ours.scan())
    assert next(scan)[0] == b"000"
    for number in range(300):
        tree.put(b"%03d" % number, b"new" * 5)
    act(writer)
    writer.compact()
    assert rows(ours) == before
    assert reader.refresh()
    assert set(rows(ours).values()) == {b"new" * 5}
    assert dict(view.scan(ours)) == before and len(list(scan)) == 299
    assert ours.get(b"000", snapshot=view) == b"old" * 5
    with reader.read_view(view.seqno) as again:  # Held by the open view.
        assert again.get(ours, b"000") == b"old" * 5
    opened = reader.statistics()["opened_tables"]
    view.close()
    tree.put(b"x", b"y")
    reader.refresh()
    assert reader.statistics()["opened_tables"] == opened
    with pytest.raises(HistoryError):
        reader.read_view(view.seqno)
    reader.close()


def test_a_refresh_reads_only_what_is_new(writer: Database, reader: ReadOnlyDatabase, fs: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = writer.tree("a")
    for number in range(20):
        tree.put(b"%d" % number, bytes(50))
    reader.refresh()
    tree.put(b"new", b"x")
    read: list[tuple[str, int]] = []
    opened: list[str] = []
    original, original_open = type(fs.open(wal_paths(fs)[0])).read_at, MemoryFileSystem.open

    def read_at(file: Any, offset: int, size: int) -> bytes:
        read.append((file.path, size))
        return original(file, offset, size)

    def opening(fs: MemoryFileSystem, path: str) -> Any:
        opened.append(path)
        return original_open(fs, path)

    monkeypatch.setattr("lsmsql.engine.storage.memory_filesystem.MemoryFile.read_at", read_at)
    monkeypatch.setattr(MemoryFileSystem, "open", opening)
    assert reader.refresh()
    assert len(read) == 1 and read[0][1] < 100 and not opened
    assert not reader.refresh()
    assert len(read) == 1 and not opened


def test_every_write_is_refused(writer: Database, reader: ReadOnlyDatabase) -> None:
    tree = reader.tree("a")
    batch = writer.batch()
    calls: list[Callable[[], object]] = [
        lambda: tree.put(b"k", b"v"),
        lambda: tree.delete(b"k"),
        lambda: tree.put_many([(b"k", b"v")]),
        lambda: tree.ingest([(b"k", b"v")]),
        lambda: tree.__delitem__(slice(None)),
        lambda: reader.tree("new", create=True),
        lambda: reader.drop_tree("a"),
        lambda: reader.batch(),
        lambda: reader.commit(batch),
        lambda: reader.prepare(batch),
        lambda: reader.snapshot("name"),
        lambda: reader.release("name"),
        lambda: reader.flush(),
        lambda: reader.compact(),
        lambda: reader.wait_idle(),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="open for reading only"):
            call()
    assert rows(tree) == {b"k": b"1"}


def test_a_reader_writes_nothing_but_readers(fs: MemoryFileSystem) -> None:
    with open_database(fs) as writer:
        for number in range(200):
            writer.tree("a").put(b"%d" % number, bytes(30))
    before = fs.files()
    with open_reader(fs) as reader:
        assert len(rows(reader.tree("a"))) == 200
        assert fs.files() == {**before, f"{DIRECTORY}/READERS": b""}
        with pytest.raises(LockedError):
            fs.lock(f"{DIRECTORY}/READERS", 0)
        with open_reader(fs) as other:
            assert other.seqno == 200
    fs.lock(f"{DIRECTORY}/READERS", 0).release()
    assert fs.files() == {**before, f"{DIRECTORY}/READERS": b""}


class ReadOnlyFileSystem(OsFileSystem):
    """As a medium mounted read-only."""

    def _refuse(self, *arguments: Any, **_: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), arguments[0])

    create = rename = remove = sync_directory = make_directory = _refuse

    def lock(self, path: str, timeout: float, *, shared: bool = False) -> Any:
        return super().lock(path, timeout, shared=shared) if shared and os.path.exists(path) else self._refuse(path)


def test_a_read_only_medium_can_be_read(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    with lsmsql.open(path, TINY) as writer:
        for number in range(200):
            writer.tree("a").put(b"%d" % number, bytes(30))
    before = {name: os.stat(f"{path}/{name}").st_mtime_ns for name in os.listdir(path)}
    for _ in range(2):
        with lsmsql.open(path, read_only=True, filesystem=ReadOnlyFileSystem()) as reader:
            assert len(rows(reader.tree("a"))) == 200
        assert {name: os.stat(f"{path}/{name}").st_mtime_ns for name in os.listdir(path) if name != "READERS"} == before
        Path(f"{path}/READERS").touch()  # The second time it is there.


def test_there_is_nothing_to_read_where_no_database_is(tmp_path: Path, fs: MemoryFileSystem) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none", tmp_path / "empty", tmp_path / "file", ":memory:", ""):
        with pytest.raises(UsageError):
            lsmsql.open(path, read_only=True)
    assert os.listdir(tmp_path / "empty") == [] and not (tmp_path / "none").exists()


def test_an_encrypted_database_needs_its_key(fs: MemoryFileSystem) -> None:
    with open_database(fs, key=KEY) as writer:
        tree = writer.tree("a")
        tree.put(b"k", b"v")
        for key in (None, bytes(32)):
            with pytest.raises(KeyUnavailableError):
                open_reader(fs, key=key)
        with open_reader(fs, key=KEY) as reader:
            writer.flush()
            tree.put(b"l", b"w")
            assert reader.refresh() and rows(reader.tree("a")) == {b"k": b"v", b"l": b"w"}
            assert reader.statistics()["encrypted"] == 1
    with pytest.raises(UsageError, match="not encrypted"):
        other = memory()
        open_database(other).close()
        open_reader(other, key=KEY)


def test_named_snapshots_and_seqnos_can_be_read(writer: Database, reader: ReadOnlyDatabase) -> None:
    theirs, ours = writer.tree("a"), reader.tree("a")
    writer.snapshot("one").close()
    theirs.put(b"k", b"2")
    assert reader.snapshots() == {}
    reader.refresh()
    assert reader.snapshots() == {"one": 1}
    assert ours.get(b"k", snapshot="one") == b"1" == ours.get(b"k", snapshot=1) and ours.get(b"k") == b"2"
    with pytest.raises(HistoryError, match="future"):
        ours.get(b"k", snapshot=3)
    with reader.snapshot() as kept:
        theirs.put(b"k", b"3")
        writer.compact()
        reader.refresh()
        assert ours.get(b"k", snapshot=kept) == b"2" and ours.get(b"k", snapshot="one") == b"1" and ours.get(b"k") == b"3"
    with pytest.raises(HistoryError, match="not retained"):
        ours.get(b"k", snapshot=2)


def test_a_dropped_tree_is_there_until_the_refresh(writer: Database, reader: ReadOnlyDatabase) -> None:
    ours = reader.tree("a")
    writer.drop_tree("a")
    writer.tree("a").put(b"k", b"new")
    assert rows(ours) == {b"k": b"1"}
    reader.refresh()
    with pytest.raises(UsageError, match="dropped"):
        ours.get(b"k")
    assert rows(reader.tree("a")) == {b"k": b"new"}


def test_a_torn_tail_is_left_for_the_next_refresh(writer: Database, reader: ReadOnlyDatabase, fs: MemoryFileSystem) -> None:
    path = wal_paths(fs)[-1]
    before = fs.files()[path]
    writer.tree("a").put(b"k", b"2")
    after = fs.files()[path]
    node = fs._nodes[path]
    for length in range(len(before), len(after)):
        node.data = bytearray(after[:length])
        assert not reader.refresh() and rows(reader.tree("a")) == {b"k": b"1"}
        with open_reader(fs) as fresh:
            assert rows(fresh.tree("a")) == {b"k": b"1"}
    node.data = bytearray(after)
    assert reader.refresh() and rows(reader.tree("a")) == {b"k": b"2"}


def test_damage_is_named_as_the_writer_would(fs: MemoryFileSystem) -> None:
    with open_database(fs) as writer:
        for number in range(100):
            writer.tree("a").put(b"%d" % number, bytes(50))
    for path in [*table_paths(fs), wal_paths(fs)[-1], f"{DIRECTORY}/CURRENT"]:
        damaged = MemoryFileSystem(fs.files())
        del damaged._nodes[path]
        with pytest.raises(CorruptionError):
            open_reader(damaged)
    path = wal_paths(fs)[-1]
    damaged = MemoryFileSystem(fs.files())
    damaged._nodes[path].data[70] ^= 1
    with pytest.raises(CorruptionError) as caught:
        open_reader(damaged)
    assert caught.value.path == path
    assert not damaged.is_locked(f"{DIRECTORY}/READERS")
    damaged.lock(f"{DIRECTORY}/READERS", 0).release()


def test_damage_that_comes_later_leaves_the_moment_as_it_is(writer: Database, reader: ReadOnlyDatabase, fs: MemoryFileSystem) -> None:
    path = wal_paths(fs)[-1]
    start = len(fs.files()[path])
    for number in range(3):
        writer.tree("a").put(b"k", b"%d" % number)
    fs._nodes[path].data[start + 70] ^= 1
    for _ in range(2):
        with pytest.raises(CorruptionError, match=r"options\.recovery"):
            reader.refresh()
        assert rows(reader.tree("a")) == {b"k": b"1"}
    fs._nodes[path].data[start + 70] ^= 1
    assert reader.refresh() and rows(reader.tree("a")) == {b"k": b"2"}


def test_commits_on_their_way_into_the_wal_do_not_change_an_open_view(fs: MemoryFileSystem) -> None:
    """With durability "off" a compaction's floor may lie above all that has been written."""
    with open_database(fs, Options(background=False, durability="off")) as writer:
        tree = writer.tree("a")
        for value in (b"1", b"2"):
            tree.put(b"k", value)
            writer.flush()
        tree.put(b"k", b"3")
        writer._upkeep.compact_all(tree.id)
        with open_reader(fs) as reader, reader.read_view() as view:
            ours = reader.tree("a")
            assert reader.statistics()["floor"] == writer.seqno == 3 and view.get(ours, b"k") == b"2"
            tree.put(b"l", bytes(70_000))
            reader.refresh()
            assert ours.get(b"k") == b"3" and view.get(ours, b"k") == b"2" and view.seqno == 2


# Prepared commits


def prepare(writer: Database, value: bytes) -> Any:
    batch = writer.batch()
    batch.put(writer.tree("a"), b"k", value)
    return writer.prepare(batch)


def test_what_is_prepared_is_not_seen_before_its_outcome(writer: Database, reader: ReadOnlyDatabase, fs: MemoryFileSystem) -> None:
    tree = reader.tree("a")
    prepared = prepare(writer, b"2")
    assert not reader.refresh() and tree.get(b"k") == b"1"
    with open_reader(fs) as fresh:  # The writer is there to decide.
        assert fresh.tree("a").get(b"k") == b"1"
    prepared.commit()
    assert reader.refresh() and tree.get(b"k") == b"2" and reader.host_seqno == writer.host_seqno == 2
    prepare(writer, b"3").abort()
    assert reader.refresh() and tree.get(b"k") == b"2" and (reader.seqno, reader.host_seqno) == (3, 2)
    writer.tree("a").put(b"k", b"4")
    assert reader.refresh() and tree.get(b"k") == b"4" and (reader.seqno, reader.host_seqno) == (4, 2)


def test_the_hosts_word_decides_before_the_outcome_is_written(writer: Database, reader: ReadOnlyDatabase) -> None:
    tree = reader.tree("a")
    prepared = prepare(writer, b"2")
    prepared.replace(prepared_batch(writer, b"3"), (1,))
    with reader.host_view(0) as view:
        assert view.get(tree, b"k") == b"1"
    with reader.host_view(2) as view:
        assert view.get(tree, b"k") == b"3"
    assert reader.host_seqno == 2
    prepared.commit()
    assert not reader.refresh()
    writer.tree("a").put(b"k", b"4")
    assert reader.refresh() and tree.get(b"k") == b"4"
    writer.flush()
    assert reader.refresh() and tree.get(b"k") == b"4" and reader.host_seqno == 2


def prepared_batch(writer: Database, value: bytes) -> bytes:
    batch = writer.batch()
    batch.put(writer.tree("a"), b"k", value)
    return bytes(batch.operations.payload())


def test_without_a_writer_the_host_is_needed(fs: MemoryFileSystem) -> None:
    writer = open_database(fs)
    writer.tree("a").put(b"k", b"1")
    prepare(writer, b"2")
    writer.close()
    with pytest.raises(UsageError, match="only the SQLite database beside it can decide"):
        open_reader(fs)
    for committed, value in ((2, b"2"), (0, b"1")):
        with open_reader(fs, host=Host("host", committed)) as reader, reader.host_view(committed) as view:
            assert view.get(reader.tree("a"), b"k") == value
    with pytest.raises(HistoryError, match="/db is behind host"):
        open_reader(fs, host=Host("host", 7))
    with open_reader(fs, host=Host("host", 0)) as reader:
        tree = reader.tree("a")
        assert tree.get(b"k") == b"1"
        with open_database(fs, host=Host("host", 2)):  # Recovery decides.
            assert reader.refresh() and tree.get(b"k") == b"2"


def test_a_number_that_nobody_knows_is_an_error(reader: ReadOnlyDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsmsql.engine.follower._HOST_SECONDS", 0.01)
    with pytest.raises(HistoryError, match="commit 7 is not in"):
        reader.host_view(7)


@pytest.mark.parametrize("act", ["nothing", "flush", "compact", "flush twice"])
def test_the_hosts_moment_is_found_when_the_writer_is_ahead(writer: Database, reader: ReadOnlyDatabase, act: str) -> None:
    """Also when what is newest has no history of it any more: through the version before, and WALs that are removed but open."""
    tree = reader.tree("a")
    for number in range(2, 6):
        prepare(writer, b"%d" % number).commit()
    wanted = writer.host_seqno - 1
    if act != "nothing":
        (writer.compact if act == "compact" else writer.flush)()
    if act == "flush twice":
        prepare(writer, b"6").commit()
        writer.compact()
    for _ in range(2):
        with reader.host_view(wanted) as view:
            assert view.get(tree, b"k") == b"4"
    assert tree.get(b"k") == (b"6" if act == "flush twice" else b"5")


# The life of a reader


def test_a_closed_reader_is_closed(fs: MemoryFileSystem, writer: Database, reader: ReadOnlyDatabase) -> None:
    tree, view = reader.tree("a"), reader.read_view()
    reader.close()
    reader.close()
    assert "closed" in repr(reader)
    for call in (reader.refresh, reader.tree_names, reader.statistics, reader.flush, lambda: tree.get(b"k"), lambda: view.get(tree, b"k")):
        with pytest.raises(ClosedError):
            call()
    fs.lock(f"{DIRECTORY}/READERS", 0).release()


def test_a_dropped_reader_closes_itself(fs: MemoryFileSystem, writer: Database) -> None:
    reader = open_reader(fs)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del reader
    fs.lock(f"{DIRECTORY}/READERS", 0).release()


def test_a_forked_child_cannot_use_a_reader(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    lsmsql.open(path, TINY).close()
    with lsmsql.open(path, read_only=True) as reader:
        pid = os.fork()
        if not pid:
            try:
                reader.refresh()
            except ClosedError as error:
                os._exit("opened before fork" in str(error))
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        assert not reader.refresh()


def test_a_second_writer_is_told_of_reading(tmp_path: Path) -> None:
    fs = memory()
    with open_database(fs):
        lock = MemoryFileSystem.identity
        MemoryFileSystem.identity = lambda self, path: object()  # type: ignore[method-assign,assignment,return-value]
        try:
            with pytest.raises(LockedError, match="read_only=True"):
                open_database(fs, INLINE, lock_timeout=0)
        finally:
            MemoryFileSystem.identity = lock  # type: ignore[method-assign]
