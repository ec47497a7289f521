"""Small databases at rest, with everything in them that a database can have, for campaigns that damage their files."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.options import Options
from tests.proof.fault_filesystem import FaultFileSystem, Operation
from tests.proof.workload import TINY, Life, let_go, open_database, seen

OPTIONS = replace(TINY, memtable_bytes=1 << 12, level_bytes=1 << 12, manifest_bytes=500, filter_bits=4)
SECRETS = (b"a key of ours", b"a value of ours", b"name of a snapshot", b"name of a tree")


@dataclass(frozen=True)
class AtRest:
    """files: by path; states: what was visible after each change, oldest first; base: the newest one that is not in the WAL alone."""

    name: str
    key: bytes | None
    files: dict[str, bytes]
    states: tuple[Any, ...]
    base: int

    @property
    def final(self) -> Any:
        return self.states[-1]

    def opened(self, files: dict[str, bytes] | None = None) -> tuple[MemoryFileSystem, Any]:
        """The database, with other files in their place where given, opened with the options saved in it."""
        fs = MemoryFileSystem(self.files if files is None else files, ["db"])
        return fs, open_database(fs, None, self.key)

    def read(self, files: dict[str, bytes] | None = None) -> Any:
        """All that can be seen."""
        _, engine = self.opened(files)
        try:
            return seen(engine)
        finally:
            engine.close()


def _grow(life: Life) -> int:
    """Tables in level 0 and deeper, an ingested one, a manifest that was rotated, and at the end a WAL with commits."""
    tree = SECRETS[3].decode()
    life.open()
    life.create(tree)
    life.create("b")
    life.commit((tree, b"", b"empty"), (tree, SECRETS[0], SECRETS[1]), ("b", b"k1", b"one"))
    life.commit((tree, b"gone", b"soon"), ("b", b"k1", b"two"), ("b", b"k2", b"2" * 30))
    life.flush()
    life.snapshot(SECRETS[2].decode())
    life.commit((tree, b"gone", None), (tree, SECRETS[0], SECRETS[1] + b" again"), ("b", b"k1", None))
    life.flush()
    life.ingest("b", [(b"i%d" % number, SECRETS[1] + b"%d" % number) for number in range(3)])
    life.reopen()
    life.commit((tree, b"x", b"level 0"), ("b", b"x", None))
    life.flush()
    life.commit((tree, b"y", b"in the WAL"))
    life.commit((tree, b"", None), ("b", b"k1", SECRETS[1]))
    life.commit((tree, SECRETS[0], SECRETS[1] + b" last"), ("b", b"i1", None))
    return len(life.states) - 4


def closed(key: bytes | None = None, name: str = "closed", options: Options = OPTIONS) -> AtRest:
    """Closed in order."""
    life = Life(FaultFileSystem(), options, key)
    base = _grow(life)
    life.close()
    files = {path: data for path, data in life.fs.files().items() if not path.endswith("LOCK")}
    return AtRest(name, key, files, tuple(state.visible() for state in life.states), base)


def with_parity(key: bytes | None = None) -> AtRest:
    """Closed in order, with parity behind the data blocks too."""
    return closed(key, "with parity", replace(OPTIONS, parity="rs(4,2)"))


def cut_short(key: bytes | None = None) -> AtRest:
    """Killed in the middle of a flush: two WALs that are live and hold commits, and a table that nothing names."""
    life = Life(FaultFileSystem(), OPTIONS, key)
    base = _grow(life)
    life.close()
    flushing, go_on = threading.Event(), threading.Event()

    def hold_up(operation: Operation) -> None:
        if operation.kind == "sync" and operation.path.endswith(".sst"):
            flushing.set()
            go_on.wait(30)

    disk = life.fs.copy()
    disk.unguarded = hold_up
    other = Life(disk, replace(OPTIONS, background=True, memtable_bytes=1, sealed_max=8, l0_tables=100, manifest_bytes=1 << 20), key)
    other.states, other.lives, other.commits = life.states, life.lives, life.commits
    try:
        other.open()
        assert flushing.wait(30)
        other.commit(("b", b"k1", b"sealed behind it"))
        other.commit(("b", b"k2", b"in the newest WAL"), (SECRETS[3].decode(), b"y", None))
        files = {path: data for path, data in disk.files().items() if not path.endswith("LOCK")}
    finally:
        go_on.set()
        let_go(other.engine)
    return AtRest("cut short", key, files, tuple(state.visible() for state in life.states), base)


def ingested(key: bytes | None = None) -> AtRest:
    """The last version edit is that of an ingest, with commits behind it."""
    life = Life(FaultFileSystem(), replace(OPTIONS, manifest_bytes=1 << 20), key)
    base = _grow(life)
    life.ingest("b", [(b"m%d" % number, b"ingested") for number in range(3)])
    life.commit(("b", b"m1", b"after the ingest"), (SECRETS[3].decode(), b"y", b"1"))
    life.commit(("b", b"m2", None))
    life.close()
    files = {path: data for path, data in life.fs.files().items() if not path.endswith("LOCK")}
    return AtRest("ingested", key, files, tuple(state.visible() for state in life.states), base)


def rows(key: bytes | None = None) -> AtRest:
    """Closed in order, its data blocks being rows that are not compressed, and looked up without a cache."""
    life = Life(FaultFileSystem(), replace(OPTIONS, block_layout="rows", restart_interval=2, compression="none", cache_bytes=0), key)
    base = _grow(life)
    life.close()
    files = {path: data for path, data in life.fs.files().items() if not path.endswith("LOCK")}
    return AtRest("rows", key, files, tuple(state.visible() for state in life.states), base)
