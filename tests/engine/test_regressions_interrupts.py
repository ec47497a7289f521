"""Interrupts (Ctrl-C) that come while the engine is at work leave nothing locked, lost or half closed."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import lsmsql
from lsmsql import Error
from lsmsql.engine.prepared import Host
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem

from .database_world import INLINE, is_held, memory, open_database, rows


class Interrupted(BaseException):
    """Stands for KeyboardInterrupt."""


def interrupt_at(event: int, call: Callable[[], Any]) -> bool:
    """Call, and raise Interrupted where the `event`th call of a C function returns, as a signal would; False if there are fewer.

    Not in callbacks of the garbage collector: Python swallows what is raised there."""
    seen = 0

    def profile(frame: FrameType, what: str, _: Any) -> None:
        nonlocal seen
        code = frame.f_code
        swallowed = code.co_filename.startswith("<") or "_weakrefset" in code.co_filename or code.co_name == "gc_callback"
        if what == "c_return" and not swallowed:
            seen += 1
            if seen == event:
                sys.setprofile(None)
                raise Interrupted

    sys.setprofile(profile)
    try:
        call()
    except Interrupted:
        pass
    finally:
        sys.setprofile(None)
    return seen >= event


@pytest.mark.parametrize("operation", ["put", "delete", "put_many", "batch"])
def test_an_interrupted_write_never_leaves_the_commit_line_locked(operation: str) -> None:
    options = replace(INLINE, durability="normal", memtable_bytes=1 << 20)
    event = 0
    more = True
    while more:
        event += 1
        with open_database(memory(), options) as engine:
            tree = engine.tree("kv")
            tree.put(b"first", b"1")
            batch = engine.batch()
            batch.put(tree, b"key", b"value")
            calls: dict[str, Callable[[], Any]] = {
                "put": partial(tree.put, b"key", b"value"),
                "delete": partial(tree.delete, b"key"),
                "put_many": partial(tree.put_many, [(b"key", b"value")]),
                "batch": partial(engine.commit, batch),
            }
            more = interrupt_at(event, calls[operation])
            assert not is_held(engine._commits._lock), event
            _try_to_put(tree)
    assert event > 3


def test_an_interrupted_ingest_leaves_no_lock_held() -> None:
    options = replace(INLINE, memtable_bytes=1 << 20)
    event = 0
    more = True
    while more:
        event += 1
        with open_database(memory(), options) as engine:
            tree = engine.tree("kv")
            tree.put(b"first", b"1")
            more = interrupt_at(event, lambda: tree.ingest([(b"key", b"value")]))  # noqa: B023
            locks = (engine._commits._lock, engine._upkeep.compacting, engine._upkeep._flushing, engine._line.edits, engine._line.swap)
            assert not any(map(is_held, locks)), event
            _try_to_put(tree)
    assert event > 50


def test_an_interrupted_opening_leaves_the_directory_free(tmp_path: Path) -> None:
    options = replace(INLINE, lock_timeout=0.0)
    with lsmsql.open(tmp_path / "db", options) as engine:
        engine.tree("kv").put(b"a", b"1")

    def opened() -> None:
        lsmsql.open(tmp_path / "db", options).close()

    for event in range(1, 3000, 37):
        interrupt_at(event, opened)
        gc.collect()
        with lsmsql.open(tmp_path / "db", options) as engine:
            assert rows(engine.tree("kv")) == {b"a": b"1"}, event


def _try_to_put(tree: Any) -> None:
    try:
        tree.put(b"after", b"2")
    except Error:
        pass  # Once bytes have gone to the WAL, only opening again can tell where it ends.


def test_an_interrupt_of_the_leader_reaches_no_other_thread_and_hangs_none() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        line = engine._commits
        errors: list[BaseException] = []
        begun = threading.Barrier(3)

        def write(number: int) -> None:
            begun.wait()
            try:
                with engine.batch() as batch:
                    batch.put(tree, b"%d" % number, b"v")
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(2)]
        admit = line.admit

        def interrupted(*_: Any) -> None:
            line.admit = admit  # type: ignore[method-assign]
            raise Interrupted

        with line._lock:
            for thread in threads:
                thread.start()
            begun.wait()
            while len(line._waiting) < 2:
                pass
            line.admit = interrupted  # type: ignore[method-assign]
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive(), "it hangs"
        assert sorted(type(error) for error in errors if not isinstance(error, Error)) == [Interrupted]
        assert sum(isinstance(error, Error) for error in errors) == 1
        tree.put(b"after", b"1")
        assert set(rows(tree)) == {b"after"}


@pytest.mark.parametrize("work", ["compact", "flush"])
def test_an_interrupted_compaction_or_flush_does_not_stop_the_writers(work: str) -> None:
    with open_database(memory(), replace(INLINE, memtable_bytes=1 << 20)) as engine:
        tree = engine.tree("kv")
        for number in range(3):
            tree.put_many((b"%d-%d" % (number, i), b"v" * 100) for i in range(50))
            if work == "compact":
                engine.flush()
        chunks = engine._upkeep._pace

        def interrupted(_: int) -> None:
            engine._upkeep._pace = chunks  # type: ignore[method-assign]
            raise Interrupted

        before = rows(tree)
        engine._upkeep._pace = interrupted  # type: ignore[method-assign]
        with pytest.raises(Interrupted):
            getattr(engine, work)()
        tree.put(b"after", b"1")
        engine.compact()
        assert rows(tree) == {**before, b"after": b"1"}


def test_an_interrupted_close_still_lets_go_of_the_directory() -> None:
    fs = memory()
    engine = open_database(fs)
    engine.tree("kv").put(b"a", b"1")
    engine._worker.stop = _interrupt  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        engine.close()
    with open_database(fs) as again:
        assert rows(again.tree("kv")) == {b"a": b"1"}


def _interrupt() -> None:
    raise Interrupted


@pytest.mark.parametrize("outcome", ["commit", "abort"])
def test_an_interrupted_outcome_that_is_asked_for_again_is_written_once(outcome: str) -> None:
    event = 0
    more = True
    while more:
        event += 1
        fs = memory()
        with open_database(fs) as engine:
            engine.tree("kv").put(b"first", b"1")
            batch = engine.batch()
            batch.put(engine.tree("kv"), b"key", b"value")
            prepared = engine.prepare(batch)
            settle = getattr(prepared, outcome)
            more = interrupt_at(event, settle)
            assert not is_held(engine._commits._lock), event
            with suppress(Error, Interrupted):
                settle()
            with suppress(Error, Interrupted):
                engine.tree("kv").put(b"last", b"2")
        crashed = MemoryFileSystem(fs.files(), fs.directories())
        committed = prepared.seqno if outcome == "commit" else 0
        with open_database(crashed, host=Host("app.db", committed)) as engine:
            found = dict(engine.tree("kv").scan())
            assert found.pop(b"first") == b"1" and (b"key" in found) == (outcome == "commit"), event
    assert event > 3
