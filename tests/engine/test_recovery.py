"""Recovery: WALs replayed, damage judged by mode, missing and surplus files, and crashes while recovering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lsmsql import CorruptionError, Error
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.options import RECOVERY_MODES
from tests.proof.fault_filesystem import FaultFileSystem, Operation

from .database_world import DIRECTORY, INLINE, KEY, memory, open_database, rows, table_paths, wal_paths

NORMAL = replace(INLINE, durability="normal")
COMMITS = 6


def abandoned(
    commits: int = COMMITS, key: bytes | None = None, durability: str = "normal", keep_sealed: bool = False
) -> tuple[MemoryFileSystem, list[int]]:
    """The files of a database whose process died after some commits, and the sizes of its last WAL after each.

    Half of the commits are in a sealed generation that was not flushed, if `keep_sealed`."""
    fs = memory()
    engine = open_database(fs, replace(INLINE, durability=durability, sealed_max=64), key=key)
    tree = engine.tree("kv")
    if keep_sealed:
        engine._worker.wake = lambda: None  # type: ignore[method-assign]
    sizes = []
    for number in range(commits):
        if keep_sealed and number == commits // 2:
            with engine._commits.held():
                engine._commits.rotate()
        tree.put(b"%d" % number, b"value %d" % number)
        sizes.append(fs.size(wal_paths(fs)[-1]))
    return MemoryFileSystem(fs.files(), [DIRECTORY]), sizes


def state(commits: int) -> dict[bytes, bytes]:
    return {b"%d" % number: b"value %d" % number for number in range(commits)}


def altered(fs: MemoryFileSystem, path: str, change: Callable[[bytearray], object]) -> MemoryFileSystem:
    files = fs.files()
    data = bytearray(files[path])
    change(data)
    return MemoryFileSystem({**files, path: data}, [DIRECTORY])


def reopened(fs: MemoryFileSystem, mode: str = "tolerate_tail", key: bytes | None = None) -> dict[bytes, bytes]:
    """The rows after recovery in a mode, the same after the next in the strictest one, and with a commit on top."""
    with open_database(fs, replace(INLINE, recovery=mode), key=key) as engine:
        found = rows(engine.tree("kv"))
        seqno = engine.seqno
        engine.tree("kv").put(b"after", b"recovery")
    with open_database(fs, replace(INLINE, recovery="absolute"), key=key) as engine:
        assert rows(engine.tree("kv")) == {**found, b"after": b"recovery"}
        assert engine.seqno == seqno + 1
    return found


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("mode", RECOVERY_MODES)
@pytest.mark.parametrize("keep_sealed", [False, True])
def test_every_mode_reads_whole_wals(mode: str, key: bytes | None, keep_sealed: bool) -> None:
    fs, _ = abandoned(key=key, keep_sealed=keep_sealed)
    assert len(wal_paths(fs)) == 1 + keep_sealed
    assert reopened(fs, mode, key) == state(COMMITS)


@pytest.mark.parametrize("key", [None, KEY])
def test_a_torn_tail_is_cut_or_refused_as_the_mode_says(key: bytes | None) -> None:
    fs, sizes = abandoned(key=key)
    (path,) = wal_paths(fs)
    for commits in range(1, COMMITS):
        for length in (sizes[commits - 1] + 1, sizes[commits] - 1):
            torn = altered(fs, path, lambda data, length=length: data.__delitem__(slice(length, None)))  # type: ignore[misc]
            with pytest.raises(CorruptionError) as caught:
                reopened(MemoryFileSystem(torn.files(), [DIRECTORY]), "absolute", key)
            assert (caught.value.path, caught.value.offset) == (path, sizes[commits - 1])
            for mode in ("tolerate_tail", "point_in_time", "skip_corrupt"):
                assert reopened(MemoryFileSystem(torn.files(), [DIRECTORY]), mode, key) == state(commits)


@pytest.mark.parametrize("key", [None, KEY])
def test_damage_with_valid_records_behind_it_is_judged_by_mode(key: bytes | None) -> None:
    fs, sizes = abandoned(key=key)
    (path,) = wal_paths(fs)
    for position in (sizes[1] + 1, sizes[1] + 20, sizes[1] + 70):  # In the third record's header, and its payload.
        damaged = altered(fs, path, lambda data, position=position: data.__setitem__(position, data[position] ^ 1))  # type: ignore[misc]
        for mode in ("absolute", "tolerate_tail"):
            with pytest.raises(CorruptionError) as caught:
                reopened(MemoryFileSystem(damaged.files(), [DIRECTORY]), mode, key)
            assert (caught.value.path, caught.value.offset) == (path, sizes[1])
        assert reopened(MemoryFileSystem(damaged.files(), [DIRECTORY]), "point_in_time", key) == state(2)
        without = state(COMMITS)
        del without[b"2"]
        assert reopened(MemoryFileSystem(damaged.files(), [DIRECTORY]), "skip_corrupt", key) == without


def test_a_tear_in_an_earlier_wal_cuts_there_and_discards_later_ones() -> None:
    fs, _ = abandoned(keep_sealed=True)
    first, _ = wal_paths(fs)
    torn = altered(fs, first, lambda data: data.__delitem__(slice(len(data) - 1, None)))
    assert reopened(torn) == state(COMMITS // 2 - 1)
    # Also when whole records are missing, which the file itself cannot tell.
    _, sizes = abandoned(COMMITS // 2)
    torn = altered(fs, first, lambda data: data.__delitem__(slice(sizes[0], None)))
    assert reopened(torn) == state(1)
    assert reopened(altered(fs, first, lambda data: data.__delitem__(slice(sizes[0], None))), "point_in_time") == state(1)
    kept = {**state(1), **{key: value for key, value in state(COMMITS).items() if int(key) >= COMMITS // 2}}
    assert reopened(altered(fs, first, lambda data: data.__delitem__(slice(sizes[0], None))), "skip_corrupt") == kept


def test_a_tear_below_a_synced_length_is_corruption() -> None:
    fs, _ = abandoned(durability="full", keep_sealed=True)
    first, second = wal_paths(fs)
    torn = altered(fs, first, lambda data: data.__delitem__(slice(len(data) - 1, None)))
    with pytest.raises(CorruptionError, match="synced") as caught:
        open_database(torn)
    assert caught.value.path == first
    assert reopened(torn, "point_in_time") == state(COMMITS // 2 - 1)
    torn = altered(fs, second, lambda data: data.__delitem__(slice(len(data) - 1, None)))
    assert reopened(torn) == state(COMMITS - 1)


def test_a_full_commit_after_a_rotation_makes_the_commits_before_it_durable() -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    engine = open_database(fs, replace(NORMAL, sealed_max=64))
    engine._worker.wake = lambda: None  # type: ignore[method-assign]
    tree = engine.tree("kv")
    tree.put(b"0", b"value 0")
    with engine._commits.held():
        engine._commits.rotate()
    batch = engine.batch()
    batch.put(tree, b"1", b"value 1")
    engine.commit(batch, durability="full")
    for image in fs.images():
        with open_database(image) as other:
            assert rows(other.tree("kv")) == state(2), image.description


def test_a_missing_wal_or_table_is_named() -> None:
    fs = memory()
    with open_database(fs) as engine:
        engine.tree("kv").put(b"k", b"v")
        engine.flush()
        engine.tree("kv").put(b"k2", b"v")
    for path in (*wal_paths(fs), *table_paths(fs)):
        files = {other: data for other, data in fs.files().items() if other != path}
        before = MemoryFileSystem(files, [DIRECTORY])
        for mode in RECOVERY_MODES:
            with pytest.raises(CorruptionError, match="missing") as caught:
                open_database(before, replace(INLINE, recovery=mode))
            assert caught.value.path == path
        assert {path: data for path, data in before.files().items() if "LOCK" not in path} == {p: d for p, d in files.items() if "LOCK" not in p}


def test_a_missing_current_is_never_a_fresh_database() -> None:
    fs, _ = abandoned()
    files = {path: data for path, data in fs.files().items() if not path.endswith("CURRENT")}
    with pytest.raises(CorruptionError):
        open_database(MemoryFileSystem(files, [DIRECTORY]))


def test_an_older_manifest_than_the_wal_knows_is_refused() -> None:
    fs = memory()
    with open_database(fs) as engine:
        engine.tree("one").put(b"k", b"v")
    old = {path: data for path, data in fs.files().items() if "/manifest-" in path or "/events-" in path or path.endswith("CURRENT")}
    with open_database(fs, replace(INLINE, filter_bits=3)) as engine:
        engine.tree("two").put(b"k", b"v")
        engine.flush()
        engine.tree("two").put(b"k", b"w")
    files = {path: data for path, data in fs.files().items() if path.endswith((".wal", ".sst"))}
    with pytest.raises(CorruptionError):
        open_database(MemoryFileSystem({**files, **old}, [DIRECTORY]))


def test_orphans_are_removed_once_everything_was_found_in_order() -> None:
    fs = memory()
    with open_database(fs) as engine:
        engine.tree("kv").put(b"k", b"v")
        engine.flush()
    orphans = ("/db/900001.sst", "/db/900002.wal", "/db/CURRENT.tmp")
    others = ("/db/notes.txt", "/db/sub.sst.bak")
    files = {**fs.files(), **dict.fromkeys((*orphans, *others), b"?")}
    broken = {path: data for path, data in files.items() if path != table_paths(fs)[0]}
    with pytest.raises(CorruptionError):
        open_database(world := MemoryFileSystem(broken, [DIRECTORY]))
    assert set(orphans) <= set(world.files())
    with open_database(world := MemoryFileSystem(files, [DIRECTORY])) as engine:
        assert rows(engine.tree("kv")) == {b"k": b"v"}
        assert not set(orphans) & set(world.files()) and set(others) <= set(world.files())


def test_a_file_that_cannot_be_removed_is_tried_again_and_never_fatal() -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    with open_database(fs) as engine:
        tree = engine.tree("kv")
        fs.fail("remove", persistent=True)
        for number in range(5):
            tree.put_many((b"%03d" % i, b"%d" % number) for i in range(50))
            engine.flush()
        engine.compact()
        assert engine.statistics()["obsolete_files"] > 0
        fs.heal()
        tree.put(b"k", b"v")
        engine.flush()
        assert engine.statistics()["obsolete_files"] == 0
        assert len(table_paths(fs)) == engine.statistics()["tables"]


def test_replayed_commits_are_flushed_and_their_wals_go() -> None:
    fs, _ = abandoned(keep_sealed=True)
    with open_database(fs) as engine:
        assert engine.statistics()["flushes"] == 2 and len(wal_paths(fs)) == 1
        assert engine.statistics()["memtable_entries"] == 0
    for _ in range(3):
        open_database(fs).close()
    assert len(wal_paths(fs)) == 1
    with open_database(fs) as engine:
        assert rows(engine.tree("kv")) == state(COMMITS)


def test_seqnos_named_by_a_snapshot_or_floor_are_not_used_again() -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    engine = open_database(fs, NORMAL)
    tree = engine.tree("kv")
    tree.put(b"a", b"1")
    engine.snapshot("name").close()
    tree.put(b"a", b"2")
    with engine.read_view(), engine.batch() as batch:
        batch.put(tree, b"b", b"3")
    for image in fs.images():
        with open_database(image, NORMAL) as other:
            assert other.snapshots() == {"name": 1}
            assert rows(other.tree("kv"), snapshot="name") == {b"a": b"1"}, image.description


def test_a_wal_of_another_database_is_refused() -> None:
    one, _ = abandoned()
    two, _ = abandoned()
    (path,) = wal_paths(one)
    with pytest.raises(CorruptionError):
        open_database(MemoryFileSystem({**one.files(), path: two.files()[path]}, [DIRECTORY]))


def test_every_flipped_byte_of_a_wal_is_the_right_answer_or_corruption() -> None:
    fs, sizes = abandoned(3)
    (path,) = wal_paths(fs)
    for position in range(len(fs.files()[path])):
        damaged = altered(fs, path, lambda data, position=position: data.__setitem__(position, data[position] ^ 0x10))  # type: ignore[misc]
        try:
            with open_database(damaged) as engine:
                assert rows(engine.tree("kv")) == state(2) and position >= sizes[1]  # Only the last record can be taken for a torn one.
        except CorruptionError as error:
            assert error.path == path and position < sizes[1]


@pytest.mark.parametrize("key", [None, KEY])
def test_a_crash_during_recovery_and_during_the_recovery_from_it_loses_nothing(key: bytes | None) -> None:
    source, _ = abandoned(key=key, keep_sealed=True)
    fs = FaultFileSystem(source.files(), [DIRECTORY])
    steps = 0

    def second(image: FaultFileSystem) -> None:
        with open_database(image, key=key) as engine:
            assert rows(engine.tree("kv")) == state(COMMITS), image.description

    def first(_: object) -> None:
        nonlocal steps
        steps += 1
        for number, image in enumerate(fs.images(limit=4, seed=steps)):
            if steps % 8 == 0 and number == 1:  # Every one would take minutes.
                image.watch = lambda _, image=image: [second(other) for other in image.images(limit=2)]  # type: ignore[misc, func-returns-value]
            second(image)

    fs.watch = first
    with open_database(fs, key=key) as engine:
        assert rows(engine.tree("kv")) == state(COMMITS)
    assert steps > 15


@pytest.mark.parametrize("key", [None, KEY])
def test_every_failing_call_of_an_opening_is_told_and_leaves_nothing_open(key: bytes | None) -> None:
    source, _ = abandoned(key=key, keep_sealed=True)
    nth = 0
    while True:
        nth += 1
        fs = FaultFileSystem(source.files(), [DIRECTORY])
        fault = fs.fail("any", nth)
        engine = None
        try:
            engine = open_database(fs, key=key)
        except (OSError, Error):
            pass
        if engine is not None:
            fs.heal()
            assert rows(engine.tree("kv")) == state(COMMITS)
            engine.close()
        assert not fs.open_files and not fs.held_locks, nth
        fs.heal()
        with open_database(fs, key=key) as engine:
            assert rows(engine.tree("kv")) == state(COMMITS)
        if not fault.hits:
            break
    assert nth > 20


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize("edit", ["ingest", "snapshot", "drop"])
def test_a_wal_that_ends_below_what_an_edit_stands_on_is_damage(edit: str, key: bytes | None) -> None:
    """Else the edit would be found without the commits before it: a state that never was."""
    fs = memory()
    sizes = []
    with open_database(fs, INLINE, key=key) as engine:
        tree = engine.tree("kv")
        engine.tree("other")
        for number in range(3):
            tree.put(b"%d" % number, b"value %d" % number)
            sizes.append(fs.size(wal_paths(fs)[-1]))
        if edit == "ingest":
            engine.tree("other").ingest([(b"k", b"ingested")])
        elif edit == "snapshot":
            engine.snapshot("name")
        else:
            engine.drop_tree("other")
        stands = fs.size(wal_paths(fs)[-1])  # A drop is noted in the WAL as well.
        tree.put(b"3", b"value 3")
    path = wal_paths(fs)[-1]
    for end in (sizes[0], sizes[1], sizes[1] + 70, sizes[2] - 1):
        cut = altered(fs, path, lambda data: data.__delitem__(slice(end, None)))  # noqa: B023
        for mode in ("absolute", "tolerate_tail"):
            with pytest.raises(CorruptionError) as raised:
                reopened(cut, mode, key)
            assert raised.value.path == path and raised.value.offset in (sizes[0], sizes[1])
        assert reopened(cut, "point_in_time", key) == state(1 if end == sizes[0] else 2)
    assert reopened(altered(fs, path, lambda data: data.__delitem__(slice(stands, None))), "tolerate_tail", key) == state(3)


def test_a_wal_that_was_cut_with_leave_is_not_judged_again() -> None:
    """A crash anywhere in the recovery that cut it included."""
    fs = memory()
    with open_database(fs, INLINE) as engine:
        for number in range(3):
            engine.tree("kv").put(b"%d" % number, b"value %d" % number)
        engine.snapshot("name")
    path = wal_paths(fs)[-1]
    cut = altered(fs, path, lambda data: data.__delitem__(slice(len(data) - 10, None)))
    disk = FaultFileSystem(cut.files(), cut.directories())
    judged = []

    def crash(operation: Operation) -> None:
        for image in disk.states(limit=8):
            for mode in ("point_in_time", "tolerate_tail"):
                try:
                    found = reopened(image.in_memory(), mode)
                except CorruptionError:
                    found = {}
                judged.append((mode, not found))
                assert found == state(2) or (mode == "tolerate_tail" and not found), f"{operation}, {image.description}"

    disk.watch = crash
    with open_database(disk, replace(INLINE, recovery="point_in_time")) as engine:
        assert rows(engine.tree("kv")) == state(2)
        disk.watch = None
    assert reopened(MemoryFileSystem(disk.files(), disk.directories()), "absolute") == state(2)
    assert {(mode, refused) for mode, refused in judged} == {("point_in_time", False), ("tolerate_tail", True), ("tolerate_tail", False)}
