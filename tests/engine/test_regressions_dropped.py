"""A database that is dropped without close() ends what it began, as Python's files do: what is buffered is written, and all is let go of."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lsmsql
from lsmsql import Database, Options
from lsmsql.engine import open_directories

from .database_world import INLINE, KEY, memory, open_database, rows

BUFFERED = replace(INLINE, durability="off", memtable_bytes=1 << 20)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("lsmsql")]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("key", [None, KEY])
def test_a_dropped_database_is_closed(tmp_path: Path, key: bytes | None, background: bool) -> None:
    path = tmp_path / "db"
    engine = lsmsql.open(path, replace(BUFFERED, background=background), key=key)
    engine.tree("kv").put(b"a", b"1")
    before = len(threads())
    gc.disable()  # The last reference is enough.
    try:
        with pytest.warns(ResourceWarning, match="unclosed"):
            del engine
    finally:
        gc.enable()
    assert len(threads()) == before - 2 * background
    with lsmsql.open(path, key=key) as engine:
        assert rows(engine.tree("kv")) == {b"a": b"1"}


def test_a_dropped_ring_that_holds_a_database_is_closed_by_the_garbage_collector() -> None:
    fs = memory()
    ring: list[Any] = [open_database(fs, BUFFERED)]
    ring[0].tree("kv").put(b"a", b"1")
    ring.append(ring)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del ring
        gc.collect()
    with open_database(fs) as engine:
        assert rows(engine.tree("kv")) == {b"a": b"1"}


def test_closing_leaves_nothing_to_warn_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = open_database(memory(), Options())
        engine.close()
        del engine
        gc.collect()


HOLDERS: dict[str, Callable[[Database], Any]] = {
    "tree": lambda engine: engine.tree("kv"),
    "tree's method": lambda engine: engine.tree("kv").get,
    "read view": lambda engine: engine.read_view(),
    "current view": lambda engine: engine.current_view(),
    "snapshot": lambda engine: engine.snapshot(),
    "batch": lambda engine: engine.batch(),
    "scan": lambda engine: engine.tree("kv").scan(),
    "scan of a view": lambda engine: engine.read_view().scan(engine.tree("kv")),
    "iterator": lambda engine: iter(engine.tree("kv")),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_whatever_comes_from_a_database_keeps_it_open(holder: str) -> None:
    fs = memory()
    engine = open_database(fs)
    engine.tree("kv").put(b"a", b"1")
    held = HOLDERS[holder](engine)
    if holder == "iterator":
        next(held)
    del engine
    gc.collect()
    assert open_directories.find(fs.identity("/db")) is not None
    with pytest.warns(ResourceWarning, match="unclosed"):
        del held
        gc.collect()
    open_database(fs).close()


def test_rows_are_read_from_a_database_that_only_the_scan_holds(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with lsmsql.open(path) as engine:
        engine.tree("kv").put_many((b"%04d" % number, b"x" * 100) for number in range(2000))
        engine.flush()
    with pytest.warns(ResourceWarning):
        assert sum(1 for _ in lsmsql.open(path).tree("kv").scan()) == 2000


def test_a_database_that_ends_on_a_thread_of_its_own_is_closed_by_that_thread() -> None:
    """The garbage collector may run the finalizer in the middle of a flush, which holds what closing waits for."""
    fs = memory()
    engine = open_database(fs, replace(BUFFERED, background=True))
    engine.tree("kv").put(b"a", b"1")
    instance = engine.instance
    sealed = instance.upkeep.sealed
    abandoned = threading.Event()

    def abandon() -> Any:
        if threading.current_thread().name == "lsmsql flush" and not abandoned.is_set():
            with instance.upkeep._flushing:
                abandoned.set()
                instance.abandon()
        return sealed()

    instance.upkeep.sealed = abandon  # type: ignore[method-assign]
    instance.worker.wake()
    assert abandoned.wait(20)
    deadline = time.monotonic() + 20
    while open_directories._open.get(fs.identity("/db")) is instance and time.monotonic() < deadline:
        time.sleep(0.005)
    with open_database(fs) as again:
        assert rows(again.tree("kv")) == {b"a": b"1"}


PROGRAM = """
import sys, lsmsql
from lsmsql import Options
engine = lsmsql.open(sys.argv[1], Options(durability="off", background=sys.argv[2] == "threads"))
tree = engine.tree("kv")
tree.put(b"a", b"1")
ring = [engine]
ring.append(ring)
if sys.argv[3] == "error":
    raise SystemExit(3)
"""


@pytest.mark.parametrize("background", ["threads", "none"])
@pytest.mark.parametrize("end", ["normal", "error"])
def test_at_the_end_of_the_interpreter_buffered_commits_are_written(tmp_path: Path, background: str, end: str) -> None:
    path = tmp_path / "db"
    command = [sys.executable, "-W", "default::ResourceWarning", "-c", PROGRAM, str(path), background, end]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (3 if end == "error" else 0)
    assert "ResourceWarning: unclosed <lsmsql.Database" in done.stderr and "Traceback" not in done.stderr
    with lsmsql.open(path) as engine:
        assert rows(engine.tree("kv")) == {b"a": b"1"}
