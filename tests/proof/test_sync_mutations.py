"""Every sync that the engine asks for is needed: with any one call site left out, some crash image fails.

A call site is a line of the engine that asks for a sync, and the kind of file it asks it for. A survivor is either superfluous or shows a
hole in the simulation; the last test names the survivors.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import replace

from lsmsql import Options
from tests.proof.fault_filesystem import FaultFileSystem, Operation
from tests.proof.judge import Judge
from tests.proof.workload import KEY, TINY, Life, full_life, let_go, open_database

WRAPPERS = {"append", "sync", "commit", "_sync_all"}  # Methods that only pass a sync on: who calls them decides.
NUMBER = re.compile(r"[0-9]{6,}")


def site_of() -> str:
    """Who asks for the sync that is being made right now, and for what: the same in every run."""
    frame = sys._getframe(1)
    names: list[str] = []
    target = ""
    while frame is not None:
        path = frame.f_code.co_filename
        if path.endswith("fault_filesystem.py") and "operation" in frame.f_locals:
            target = target_of(frame.f_locals["operation"])
        if f"{os.sep}lsmsql{os.sep}" in path:
            name = os.path.basename(path).removesuffix(".py") + "." + frame.f_code.co_name
            names.append(name)
            if frame.f_code.co_name not in WRAPPERS and not name.startswith("record_log."):
                break
        frame = frame.f_back  # type: ignore[assignment]
    return f"{' < '.join(names)}: {target}"


def target_of(operation: Operation) -> str:
    return "directory" if operation.kind == "sync_directory" else NUMBER.sub("N", operation.path.rpartition("/")[2])


def mixed_life(life: Life) -> None:
    """What a sync has to stand between when commits are not synced."""
    life.open()
    life.create("a")
    life.create("b")
    life.durable = life.acknowledged
    for number in range(4):
        life.commit(("a", b"x%d" % number, b"%d" % number * 60), ("b", b"y%d" % (number % 3), b"%d" % number * 70))
    life.snapshot("one")
    life.commit(("a", b"x1", b"1"), ("b", b"y1", b"1"))
    life.ingest("b", [(b"i%d" % number, b"in") for number in range(4)])
    life.commit(("a", b"x2", b"2"), ("b", b"y2", b"2"))
    life.drop("a")
    life.commit(("b", b"y3", b"3"))
    life.flush()
    life.commit(("b", b"y4", b"4"))
    life.close()


def brief_life(life: Life) -> None:
    life.open()
    life.create("a")
    life.create("b")
    life.commit(("a", b"k", b"v" * 30), ("b", b"k", b"v"))
    life.close()


Scenario = Callable[[FaultFileSystem, bool], None]


def living(options: Options, live: Callable[[Life], None], key: bytes | None = None, kill: int = 2) -> Scenario:
    """The life, judged or not, as a function of the file system that it is to be lived on."""

    def scenario(fs: FaultFileSystem, judged: bool) -> None:
        life = Life(fs, options, key)
        if not judged:
            live(life)
            let_go(open_database(fs, options, key))
            return
        judge = Judge(life, limit=12, further=12, kill=kill)
        judge.watch(fs)
        live(life)
        judge.crash(fs, "the end")

    return scenario


def full_commit_during_a_flush(fs: FaultFileSystem, _judged: bool) -> None:
    """A commit that waits for the disk, while the WAL before it is being flushed: all that it stands on must be durable with it."""
    flushing, go_on = threading.Event(), threading.Event()

    def watch(operation: Operation) -> None:
        if threading.current_thread().name == "lsmsql flush" and operation.path.endswith(".sst") and operation.kind == "append":
            flushing.set()
            go_on.wait(30)

    engine = open_database(fs, replace(TINY, background=True, durability="normal"))
    try:
        tree = engine.tree("a")
        fs.unguarded = watch
        tree.put(b"before", b"x" * 1000)
        tree.put(b"rotates", b"1")
        assert flushing.wait(30)
        sealed = next(path for path in fs.list("db") if path.endswith(".wal"))
        assert any(operation.path.endswith(sealed) for operation in fs.syncs[-3:]), "a sealed WAL is synced before its flush, not by a commit"
        with engine.batch() as batch:
            batch.put(tree, b"full", b"2")
            engine.commit(batch, durability="full")
            batch.clear()
        for image in fs.images(limit=8):
            left = open_database(image, TINY)
            keys = [key for key, _ in left.tree("a").scan()]
            left.close()
            assert keys == [b"before", b"full", b"rotates"], f"after a full commit: power loss, {image.description}: only {keys} are left"
    finally:
        go_on.set()
        engine.close()


def ingesting_life(life: Life) -> None:
    """An ingest that neither a flush nor a new manifest generation stands before or behind."""
    life.open()
    life.create("a")
    life.create("b")
    life.ingest("a", [(b"i%d" % number, b"in" * 10) for number in range(4)])
    life.commit(("b", b"k", b"v"))
    life.close()


# Short ones first: most sites fall there.
SCENARIOS = {
    "brief": living(TINY, brief_life),
    "full commit during a flush": full_commit_during_a_flush,
    "encrypted": living(TINY, brief_life, KEY),
    "ingesting": living(replace(TINY, manifest_bytes=1 << 20), ingesting_life, kill=0),
    "lazy": living(replace(TINY, durability="normal"), mixed_life, kill=0),
    "without rotation": living(replace(TINY, manifest_bytes=1 << 20), full_life, kill=0),
    "full": living(TINY, full_life, kill=0),
}


def sites() -> dict[str, list[str]]:
    """Every call site, and in which of SCENARIOS it occurs. What a recovery asks for is noted too."""
    found: dict[str, list[str]] = {}

    for name, scenario in SCENARIOS.items():

        def note(_: Operation, name: str = name) -> bool:
            of = found.setdefault(site_of(), [])
            if name not in of:
                of.append(name)
            return False

        fs = FaultFileSystem()
        fs.skip_sync(note)
        scenario(fs, False)
    return found


def falls(site: str, names: list[str]) -> str:
    """The first failure that leaving out the site leads to; "" if it survives."""
    for name in names:
        fs = FaultFileSystem()
        fs.skip_sync(lambda _: site_of() == site)
        try:
            SCENARIOS[name](fs, True)
        except AssertionError as error:
            return f"{name}: {error}".splitlines()[0]
    return ""


def test_leaving_out_any_sync_loses_something() -> None:
    found = sites()
    survivors = []
    for site, lives in sorted(found.items()):
        failure = falls(site, lives)
        print(f"{site}\n    {failure or 'SURVIVED'}")
        if not failure:
            survivors.append(site)
    assert len(found) >= 8
    assert not survivors, "these syncs can be left out and nothing is lost: " + "; ".join(survivors)
