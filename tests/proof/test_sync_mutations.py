"""Every sync that the engine asks for is needed: with any one call site left out, some crash image fails.

A call site is a line of the engine that asks for a sync, and the kind of file it asks it for. A survivor is either superfluous or shows a
hole in the simulation; the last test names the survivors.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace

from proof.fault_filesystem import FaultFileSystem, Operation
from proof.judge import Judge
from proof.workload import KEY, TINY, Life, full_life, let_go, open_database

from lsmsql import Options

WRAPPERS = {"append", "sync", "commit"}  # Methods that only pass a sync on: who calls them decides.
NUMBER = re.compile(r"[0-9]{6,}")


def site_of(operation: Operation) -> str:
    """Who asks for the sync that is being made right now, and for what: the same in every run."""
    frame = sys._getframe(1)
    names: list[str] = []
    while frame is not None:
        path = frame.f_code.co_filename
        if f"{os.sep}lsmsql{os.sep}" in path:
            name = os.path.basename(path).removesuffix(".py") + "." + frame.f_code.co_name
            names.append(name)
            if frame.f_code.co_name not in WRAPPERS and not name.startswith(("record_log.", "wal.sync")):
                break
        frame = frame.f_back  # type: ignore[assignment]
    target = "directory " + operation.path if operation.kind == "sync_directory" else NUMBER.sub("N", operation.path.rpartition("/")[2])
    return f"{' < '.join(names)}: {target}"


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


# Short lives first: most sites fall there.
LIVES = [
    ("brief", TINY, brief_life, None),
    ("encrypted", TINY, brief_life, KEY),
    ("without rotation", replace(TINY, manifest_bytes=1 << 20), full_life, None),
    ("full", TINY, full_life, None),
    ("normal", replace(TINY, durability="normal"), mixed_life, None),
]


def sites() -> dict[str, list[int]]:
    """Every call site, and in which of LIVES it occurs."""
    found: dict[str, list[int]] = {}

    for number, (_, options, live, key) in enumerate(LIVES):
        for recovering in (False, True):
            fs = FaultFileSystem()

            def note(operation: Operation, number: int = number) -> None:
                if operation.kind in ("sync", "sync_directory"):
                    of = found.setdefault(site_of(operation), [])
                    if number not in of:
                        of.append(number)

            fs.watch = note
            life = Life(fs, options, key)
            live(life)
            if recovering:
                note_recovery(fs, options, key, note)
    return found


def note_recovery(fs: FaultFileSystem, options: Options, key: bytes | None, note: object) -> None:
    disk = fs.copy()
    disk.watch = note  # type: ignore[assignment]
    let_go(open_database(disk, options, key))


def falls(site: str, lives: list[int]) -> str:
    """The first failure that leaving out the site leads to; "" if it survives."""
    for number in lives:
        _, options, live, key = LIVES[number]
        fs = FaultFileSystem()
        fs.skip_sync(lambda operation: site_of(operation) == site)
        life = Life(fs, options, key)
        judge = Judge(life, limit=24, further=3, kill=3)
        judge.watch(fs)
        try:
            live(life)
            judge.crash(fs, "the end")
        except AssertionError as error:
            return str(error).splitlines()[0]
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
