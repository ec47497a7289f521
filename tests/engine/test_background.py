"""Upkeep: threads that flush and compact, slow writers down before they stop, and fail for good; or none, and then in one order."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lsmsql
from lsmsql import Error, Options
from lsmsql.engine.compaction.job import run
from lsmsql.engine.pace import Pace
from tests.proof.fault_filesystem import FaultFileSystem

from .database_world import DIRECTORY, INLINE, KEY, memory, open_database, rows, table_paths, wal_paths

THREADS = replace(INLINE, background=True, durability="normal")


def threads_of_the_engine() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lsmsql")]


@pytest.mark.parametrize("key", [None, KEY])
def test_readers_and_writers_on_many_threads_see_whole_commits(tmp_path: Path, key: bytes | None) -> None:
    engine = lsmsql.open(str(tmp_path / "db"), replace(THREADS, memtable_bytes=8000), key=key)
    left, right = engine.tree("left"), engine.tree("right")
    done = threading.Event()
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        for number in range(100):
            with engine.batch() as batch:
                value = b"%d" % number
                for i in range(4):
                    batch.put(left, b"%d-%d" % (writer, i), value)
                    batch.put(right, b"%d-%d" % (writer, i), value)

    def read(writer: int) -> None:
        last = -1
        while not done.is_set():
            with engine.read_view() as view:
                found = {value for tree in (left, right) for _, value in view.scan(tree, b"%d" % writer, b"%d." % writer)}
                found |= {view.get(left, b"%d-2" % writer)} - {None}  # type: ignore[arg-type]
                assert len(found) <= 1, found
                number = int(found.pop()) if found else -1
            assert number >= last
            last = number
            assert int(left.get(b"%d-0" % writer, b"-1")) >= last

    def guarded(body, writer: int) -> None:  # type: ignore[no-untyped-def]
        try:
            body(writer)
        except BaseException as error:
            failures.append(error)
            done.set()

    readers = [threading.Thread(target=guarded, args=(read, writer)) for writer in range(2)]
    writers = [threading.Thread(target=guarded, args=(write, writer)) for writer in range(2)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert not failures
    engine.wait_idle()
    assert engine.statistics()["flushes"] >= 1
    assert set(rows(left).values()) == {b"99"}
    engine.close()
    assert not threads_of_the_engine()


def test_without_threads_the_same_writes_make_the_same_files() -> None:
    def names() -> list[str]:
        fs = FaultFileSystem(directories=[DIRECTORY])
        with open_database(fs) as engine:
            tree = engine.tree("kv")
            for i in range(300):
                tree.put(b"%03d" % (i * 7 % 100), b"x" * 50)
        return [f"{operation.kind} {operation.path}" for operation in fs.operations]

    first = names()
    assert first == names() and not threads_of_the_engine()
    assert sum(".sst" in name for name in first) > 10


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("kind", ["create", "append", "sync", "sync_directory"])
def test_a_failed_flush_stops_every_later_write_and_loses_nothing(background: bool, kind: str) -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    engine = open_database(fs, replace(INLINE, background=background))
    tree = engine.tree("kv")
    if kind == "sync_directory":
        engine._line.fs = _FailingDirectorySync(fs, lambda: any(path.endswith(".sst") for path in fs.files()))  # type: ignore[assignment]
    else:
        fs.fail(kind, match=lambda path: path.endswith(".sst"))
    written = {}
    with pytest.raises((OSError, Error)):
        for i in range(10_000):
            tree.put(b"%05d" % i, b"x" * 50)
            written[b"%05d" % i] = b"x" * 50
    fs.heal()
    for write in (lambda: tree.put(b"k", b"v"), engine.flush, lambda: engine.snapshot("name"), lambda: engine.tree("other")):
        with pytest.raises(Error, match="flush or compaction failed"):
            write()
    found = rows(tree)
    assert written.items() <= found.items() and len(found) <= len(written) + 1
    assert "Error" in str(engine.statistics()["error"])
    engine.close()
    assert not fs.open_files and not threads_of_the_engine()
    with open_database(fs.restart()) as engine:
        assert written.items() <= rows(engine.tree("kv")).items()
        assert len(table_paths(engine._line.fs)) == engine.statistics()["tables"]  # type: ignore[arg-type]


class _FailingDirectorySync:
    """A file system whose directory cannot be synced once a condition holds."""

    def __init__(self, fs: FaultFileSystem, when) -> None:  # type: ignore[no-untyped-def]
        self._fs, self._when = fs, when

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        return getattr(self._fs, name)

    def sync_directory(self, path: str) -> None:
        if self._when():
            raise OSError(5, "injected", path)
        self._fs.sync_directory(path)


def test_writers_stop_while_too_many_generations_wait_and_go_on_afterwards() -> None:
    fs = memory()
    engine = open_database(fs, replace(THREADS, sealed_max=2))
    tree = engine.tree("kv")
    with engine._upkeep._flushing:  # As if a flush took very long.
        writer = threading.Thread(target=lambda: [tree.put(b"%05d" % i, b"x" * 50) for i in range(400)])
        writer.start()
        deadline = time.monotonic() + 20
        while not engine.statistics()["stops"] and time.monotonic() < deadline:
            time.sleep(0.005)
        assert engine.statistics()["stops"] == 1 and engine.statistics()["generations"] == 3
        assert engine.statistics()["slowdowns"] > 0
        before = engine.seqno
        assert tree.get(b"00000") == b"x" * 50 and len(list(tree.scan())) == before  # Reads never wait.
        time.sleep(0.05)
        assert engine.seqno == before
    writer.join(60)
    assert not writer.is_alive() and engine.seqno == 400
    engine.wait_idle()
    assert len(rows(tree)) == 400 and engine.statistics()["generations"] == 1
    engine.close()


def test_writers_stop_while_level_0_is_full() -> None:
    engine = open_database(memory(), replace(THREADS, l0_tables=2, l0_slowdown=3, l0_stop=4))
    tree = engine.tree("kv")
    with engine._upkeep.compacting:
        writer = threading.Thread(target=lambda: [tree.put(b"%05d" % (i * 7 % 1000), b"x" * 50) for i in range(1000)])
        writer.start()
        deadline = time.monotonic() + 20
        before = -1
        while (engine.statistics()["level_0_tables"] < 4 or engine.seqno != before) and time.monotonic() < deadline:  # type: ignore[operator]
            before = engine.seqno
            time.sleep(0.05)
        assert engine.statistics()["stops"] and engine.statistics()["level_0_tables"] >= 4  # type: ignore[operator]
        assert writer.is_alive() and engine.seqno < 1000
    writer.join(60)
    assert engine.seqno == 1000
    engine.wait_idle()
    assert len(rows(tree)) == 1000
    engine.close()


@pytest.mark.parametrize("stuck", ["_flushing", "compacting"])
def test_closing_ends_writers_that_wait_for_room(stuck: str) -> None:
    fs = memory()
    engine = open_database(fs, replace(THREADS, sealed_max=1, l0_tables=1, l0_slowdown=1, l0_stop=2))
    tree = engine.tree("kv")
    ended: list[BaseException] = []

    def write() -> None:
        try:
            for i in range(10_000):
                tree.put(b"%05d" % i, b"x" * 50)
        except BaseException as error:
            ended.append(error)

    lock = getattr(engine._upkeep, stuck)
    writer = threading.Thread(target=write)
    with lock:
        writer.start()
        while not engine.statistics()["stops"]:
            time.sleep(0.005)
        acknowledged = engine.seqno
        engine._upkeep.stopping = True
        engine._worker.wake()
        writer.join(20)
    assert not writer.is_alive() and isinstance(ended[0], Error)
    engine.close()
    with open_database(fs) as engine:
        assert len(rows(engine.tree("kv"))) == acknowledged


def test_closing_gives_up_work_and_the_next_opening_does_it() -> None:
    fs = memory()
    engine = open_database(fs, replace(THREADS, memtable_bytes=100_000))
    tree = engine.tree("kv")
    for i in range(2000):
        tree.put(b"%05d" % (i * 7 % 2000), b"x" * 50)
    engine.close()
    assert not threads_of_the_engine()
    with open_database(fs) as engine:
        assert len(rows(engine.tree("kv"))) == 2000
        assert len(wal_paths(fs)) == 1 and len(table_paths(fs)) == engine.statistics()["tables"]


def test_an_obsolete_table_waits_for_its_last_reader_and_then_goes() -> None:
    fs = memory()
    with open_database(fs, THREADS) as engine:
        tree = engine.tree("kv")
        tree.put_many((b"%03d" % i, b"x") for i in range(100))
        engine.flush()
        scan = tree.scan()
        scan.fill(1)
        engine.compact()
        tree.put(b"000", b"y")
        engine.compact()
        assert engine.statistics()["obsolete_files"] >= 1  # type: ignore[operator]
        assert len(scan.fill(1000)) == 99
        del scan
        deadline = time.monotonic() + 10
        while engine.statistics()["obsolete_files"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(table_paths(fs)) == engine.statistics()["tables"] == 1


def test_the_pace_rests_by_debt() -> None:
    pace = Pace()
    pace.rest(10, 1e9)
    assert pace.count == 0
    pace.rest(10_000_000, 1e9)  # Worth 10 ms, of which one commit rests 200 us.
    assert pace.count == 1 and 200e-6 <= pace.seconds < 10e-3
    pace.rest(0, 1e9)
    assert pace.count == 2


def test_every_option_of_size_can_be_one() -> None:
    tiny = Options(
        background=False, memtable_bytes=1, sealed_max=1, cache_bytes=0, block_bytes=1, table_bytes=1, filter_bits=0,
        l0_tables=1, l0_slowdown=1, l0_stop=1, level_bytes=1, level_ratio=2, manifest_bytes=0,
    )  # fmt: skip
    fs = memory()
    with open_database(fs, tiny) as engine:
        tree = engine.tree("kv")
        for i in range(30):
            tree.put(b"%d" % (i % 10), b"%d" % i)
        tree.delete(b"3")
        expected = {b"%d" % (i % 10): b"%d" % i for i in range(30)}
        del expected[b"3"]
        assert rows(tree) == expected
    with open_database(fs, None) as engine:
        assert rows(engine.tree("kv")) == expected


def test_a_compaction_does_not_keep_memtables_that_are_flushed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_database(memory())
    tree = engine.tree("t")
    tree.put(b"a", b"1")
    engine.flush()
    tree.put(b"b", b"2")
    kept: list[bool] = []

    def watch(*arguments: Any, **more: Any) -> Any:
        line = upkeep._line  # type: ignore[attr-defined]
        before = weakref.ref(line.published.state)
        line.touch()
        kept.append(before() is not None)
        return run(*arguments, **more)

    upkeep = engine._upkeep
    monkeypatch.setattr("lsmsql.engine.upkeep.run", watch)
    engine.compact()
    assert kept == [False]
    assert rows(tree) == {b"a": b"1", b"b": b"2"}
    engine.close()
