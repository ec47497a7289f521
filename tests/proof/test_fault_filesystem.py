"""The fault-injecting file system itself: what it says a disk may forget, and that a missing sync cannot hide from it."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmsql.engine.storage.filesystem import replace_file
from lsmsql.errors import LockedError
from tests.proof.fault_filesystem import KINDS, Crash, FaultFileSystem, Operation, crash_points, fault_points
from tests.proof.images import Image


def states(fs: FaultFileSystem, **arguments: int) -> list[dict[str, bytes]]:
    return [image.files() for image in fs.images(**arguments)]


def write(fs: FaultFileSystem, path: str, data: bytes, sync: bool = False) -> None:
    file = fs.create(path)
    file.append(data)
    if sync:
        file.sync()
    file.close()


def same(actual: list[dict[str, bytes]], expected: list[dict[str, bytes]]) -> bool:
    def key(files: dict[str, bytes]) -> list[tuple[str, bytes]]:
        return sorted(files.items())

    return sorted(map(key, actual)) == sorted(map(key, expected))


def test_a_quiet_disk_has_one_image() -> None:
    fs = FaultFileSystem({"a": b"A", "d/b": b"B"})
    assert states(fs) == [{"a": b"A", "d/b": b"B"}]


def test_unsynced_bytes_are_kept_torn_or_lost_behind_the_synced_ones() -> None:
    fs = FaultFileSystem()
    file = fs.create("a")
    fs.sync_directory("")
    assert states(fs) == [{"a": b""}]
    file.append(b"1234")
    assert states(fs) == [{"a": b"1234"}, {"a": b"12"}, {"a": b""}]
    file.sync()
    file.append(b"56")
    file.append(b"78")
    assert states(fs) == [{"a": b"12345678"}, {"a": b"123456"}, {"a": b"1234"}]
    assert same(states(fs, zeros=1), [*states(fs), {"a": b"1234\0\0\0\0"}])
    file.sync()
    file.append(b"9")
    assert states(fs) == [{"a": b"123456789"}, {"a": b"12345678"}]


def test_syncing_a_file_does_not_sync_its_name() -> None:
    fs = FaultFileSystem(directories=["d"])
    write(fs, "d/a", b"A", sync=True)
    assert same(states(fs), [{"d/a": b"A"}, {}])
    fs.sync_directory("")
    assert same(states(fs), [{"d/a": b"A"}, {}])
    fs.sync_directory("d")
    assert states(fs) == [{"d/a": b"A"}]


def test_names_are_lost_one_by_one() -> None:
    fs = FaultFileSystem({"old": b"O"})
    write(fs, "a", b"A", sync=True)
    write(fs, "b", b"B", sync=True)
    fs.remove("old")
    expected = [
        {name: data for name, data, kept in (("a", b"A", a), ("b", b"B", b), ("old", b"O", old)) if kept}
        for a in (0, 1)
        for b in (0, 1)
        for old in (0, 1)
    ]
    assert same(states(fs), expected)
    assert states(fs)[0] == {"a": b"A", "b": b"B"}


def test_a_rename_is_two_entries() -> None:
    fs = FaultFileSystem({"a": b"A"})
    fs.rename("a", "b")
    assert same(states(fs), [{"b": b"A"}, {"a": b"A", "b": b"A"}, {"a": b"A"}, {}])
    fs.sync_directory("")
    assert states(fs) == [{"b": b"A"}]


def test_a_replaced_name_is_never_missing() -> None:
    fs = FaultFileSystem({"current": b"0"})
    for content in (b"1", b"2"):
        write(fs, "tmp", content, sync=True)
        fs.rename("tmp", "current")
    assert all("current" in files for files in states(fs))
    assert {files["current"] for files in states(fs)} == {b"0", b"1", b"2"}
    assert states(fs)[0] == {"current": b"2"}


def test_a_name_that_came_and_went_may_be_found() -> None:
    fs = FaultFileSystem()
    write(fs, "tmp", b"T", sync=True)
    fs.remove("tmp")
    assert states(fs) == [{}, {"tmp": b"T"}]


def test_a_lost_directory_takes_everything_in_it() -> None:
    fs = FaultFileSystem()
    fs.make_directory("d")
    fs.make_directory("d/e")
    write(fs, "d/e/a", b"A", sync=True)
    fs.sync_directory("d/e")
    fs.sync_directory("d")
    found = [(image.files(), image.directories()) for image in fs.images()]
    assert found == [({"d/e/a": b"A"}, ["d", "d/e"]), ({}, [])]
    fs.sync_directory("")
    assert len(states(fs)) == 1


def test_many_changes_are_sampled_with_each_alone() -> None:
    fs = FaultFileSystem()
    names = [f"f{i}" for i in range(20)]
    for name in names:
        write(fs, name, b"x", sync=True)
    found = [set(files) for files in states(fs, limit=100, seed=1)]
    assert found[0] == set(names)
    assert set() in found
    for name in names:
        assert set(names) - {name} in found
        assert {name} in found
    assert 60 < len(found) <= 100
    assert found == [set(files) for files in states(fs, limit=100, seed=1)]
    assert found != [set(files) for files in states(fs, limit=100, seed=2)]


def test_an_image_is_a_disk_of_its_own_and_says_what_it_lost() -> None:
    fs = FaultFileSystem({"a": b"A"})
    write(fs, "b", b"BB", sync=False)
    images = list(fs.images())
    assert images[0].description == "nothing lost"
    assert {image.description for image in images} >= {"b is missing", "half of the last 2 bytes of b"}
    images[0].remove("a")
    assert fs.read("a") == b"A"
    assert states(images[1]) == [images[1].files()]


# Crashing


def test_images_share_the_bytes_that_are_the_same_in_them() -> None:
    fs = FaultFileSystem({"steady": b"s" * 1000})
    log = fs.create("log")
    log.append(b"l" * 1000)
    log.sync()
    first, *others = fs.states()
    log.append(b"m")
    second, *_ = fs.states()
    assert others and all(other.files["steady"] is second.files["steady"] for other in (first, *others))
    assert first.files["log"] == b"l" * 1000 and second.files["log"] == b"l" * 1000 + b"m"
    disk = FaultFileSystem(first.files)
    disk.remove("steady")
    file = disk.create("steady")
    file.append(b"other")
    assert first.files["steady"] == fs.read("steady") == b"s" * 1000


def test_an_append_that_was_shown_torn_leaves_nothing_in_later_images() -> None:
    fs = FaultFileSystem()
    file = fs.create("a")
    fs.watch = lambda _: found.extend(image.files["a"] for image in fs.states() if "a" in image.files)
    found: list[bytes] = []
    for data in (b"1111", b"2222"):
        file.append(data)
    assert set(found) == {b"", b"1", b"11", b"111", b"111122"}
    fs.watch = None
    assert {image.files.get("a") for image in fs.states()} == {None, b"", b"1111", b"11112222"}


def test_the_digest_of_an_image_tells_files_names_and_directories_apart() -> None:
    images = [
        Image({}),
        Image({"a": b""}),
        Image({"a": b"b"}),
        Image({"b": b"a"}),
        Image({"a": b"", "b": b""}),
        Image({"a": b"b\0000\0"}),
        Image({}, frozenset({"a"})),
        Image({}, frozenset({"a", "b"})),
        Image({"a": b"b"}, frozenset({"a"})),
    ]
    assert len({image.digest for image in images}) == len(images)
    assert Image({"b": b"2", "a": b"1"}).digest == Image({"a": b"1", "b": b"2"}, description="other").digest


def test_a_crash_stops_before_the_operation_and_for_good() -> None:
    fs = FaultFileSystem({"a": b"A"})
    file = fs.open("a")
    fs.crash_at = 1
    fs.make_directory("d")
    with pytest.raises(Crash):
        fs.remove("a")
    calls: list[Callable[[], object]] = [
        lambda: fs.list(""),
        lambda: fs.read("a"),
        lambda: fs.exists("a"),
        lambda: fs.create("b"),
        lambda: fs.lock("LOCK", 0),
        lambda: file.read_at(0, 1),
        file.sync,
        file.size,
    ]
    for call in calls:
        with pytest.raises(Crash):
            call()
    file.close()
    assert all(files == {"a": b"A"} for files in states(fs))
    assert [str(operation) for operation in fs.operations] == ["0: make_directory d", "1: remove a"]


def test_a_crash_in_an_append_tears_it() -> None:
    fs = FaultFileSystem()
    file = fs.create("a")
    fs.sync_directory("")
    fs.crash_at = 2
    with pytest.raises(Crash):
        file.append(b"12345678")
    assert states(fs) == [{"a": b"1234"}, {"a": b"12"}, {"a": b""}]


def test_every_operation_is_a_crash_point() -> None:
    def run(fs: FaultFileSystem) -> None:
        replace_file(fs, "", "CURRENT", b"new")

    left = list(crash_points(lambda: FaultFileSystem({"CURRENT": b"old"}), run))
    assert [fs.crashed for fs in left] == [True] * 5 + [False]
    assert [operation.kind for operation in left[-1].operations] == ["create", "append", "sync", "rename", "sync_directory"]
    assert left[-1].operations[3] == Operation(3, "rename", "CURRENT.tmp", "CURRENT")


def test_watching_one_run_shows_what_stopping_at_every_operation_leaves() -> None:
    def run(fs: FaultFileSystem) -> None:
        replace_file(fs, "", "CURRENT", b"new content")
        write(fs, "a", b"12345678", sync=True)
        fs.remove("a")

    stopped = [states(fs) for fs in crash_points(lambda: FaultFileSystem({"CURRENT": b"old"}), run)]
    watched: list[list[dict[str, bytes]]] = []
    fs = FaultFileSystem({"CURRENT": b"old"})
    fs.watch = lambda _operation: watched.append(states(fs))
    run(fs)
    watched.append(states(fs))
    assert watched == stopped
    assert fs.files() == {"CURRENT": b"new content"}


def test_a_copy_is_as_unsynced_as_the_original_and_apart_from_it() -> None:
    fs = FaultFileSystem({"old": b"1"}, ["d"])
    write(fs, "a", b"12")
    fs.rename("a", "b")
    fs.remove("old")
    copy = fs.copy()
    before = states(fs)
    assert states(copy) == before and len(before) > 4
    copy.sync_directory("")
    write(copy, "d/c", b"3")
    assert states(fs) == before != states(copy)
    fs.sync_directory("")
    assert sorted(fs.files()) == ["b"]


def test_a_restart_loses_nothing_and_makes_nothing_durable() -> None:
    fs = FaultFileSystem()
    lock = fs.lock("LOCK", 0)
    write(fs, "a", b"12")
    again = fs.restart()
    assert again.files() == {"LOCK": b"", "a": b"12"}
    assert {"LOCK": b""} in states(again) and {"LOCK": b"", "a": b""} in states(again)
    again.lock("LOCK", 0).release()
    with pytest.raises(Crash):
        fs.list("")
    file = again.open("a")
    file.sync()
    again.sync_directory("")
    assert states(again) == [{"LOCK": b"", "a": b"12"}]
    lock.release()


# Failing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("persistent", [False, True])
def test_any_call_can_be_made_to_fail(kind: str, persistent: bool) -> None:
    fs = FaultFileSystem({"a": b"A", "r": b"R", "x": b"X"}, ["d"])
    names = iter(range(100))
    file, reader, anywhere = fs.create("w"), fs.open("a"), fs.open_random("x")
    calls: dict[str, Callable[[], object]] = {
        "create": lambda: fs.create(f"c{next(names)}"),
        "append": lambda: file.append(b"xy"),
        "sync": reader.sync,
        "rename": lambda: fs.rename("r", "r"),
        "remove": lambda: fs.remove("a"),
        "sync_directory": lambda: fs.sync_directory("d"),
        "make_directory": lambda: fs.make_directory(f"d{next(names)}"),
        "write_at": lambda: anywhere.write_at(0, [b"A"]),
        "preallocate": lambda: anywhere.preallocate(0, anywhere._inode.synced + 1),  # type: ignore[attr-defined]
        "punch": lambda: anywhere.punch(1, 1),
        "open": lambda: fs.open("a"),
        "read": lambda: (reader.read_at(0, 1), fs.read("a")),
        "list": lambda: fs.list("d"),
        "size": lambda: (reader.size(), fs.size("a")),
        "lock": lambda: fs.lock(f"l{next(names)}", 0),
        "drop_cached": reader.drop_cached,
    }
    assert set(calls) == set(KINDS)
    before = fs.files()
    fault = fs.fail(kind, code=errno.ENOSPC, persistent=persistent)
    for other, call in calls.items():
        if other != kind and other != "remove":
            call()
    assert (fault.calls, fault.hits) == (0, 0)
    with pytest.raises(OSError, match="injected") as info:
        calls[kind]()
    assert info.value.errno == errno.ENOSPC and fault.hits == 1
    assert fs.read("a") == before["a"] if kind != "read" else True
    if persistent:
        with pytest.raises(OSError):
            calls[kind]()
        fs.heal()
    if kind not in ("append", "sync"):
        calls[kind]()


def test_the_nth_call_of_some_path_can_be_chosen() -> None:
    fs = FaultFileSystem({"a": b"A", "b": b"B"})
    fs.fail("read", 2, match=lambda path: path == "b")
    assert [fs.read(name) for name in "aaabaa"] == [b"A", b"A", b"A", b"B", b"A", b"A"]
    with pytest.raises(OSError):
        fs.read("b")
    assert fs.read("b") == b"B"


def test_a_failed_append_is_torn_and_ends_the_file() -> None:
    fs = FaultFileSystem()
    file = fs.create("a")
    fs.fail("append", code=errno.ENOSPC)
    with pytest.raises(OSError):
        file.append(b"1234")
    with pytest.raises(OSError) as info:
        file.append(b"5678")
    assert info.value.errno == errno.EBADF and fs.read("a") == b"12"


def test_a_failed_sync_cannot_be_made_good() -> None:
    fs = FaultFileSystem()
    file = fs.create("a")
    fs.sync_directory("")
    file.append(b"12")
    fs.fail("sync")
    with pytest.raises(OSError):
        file.sync()
    with pytest.raises(OSError):
        file.sync()
    other = fs.open("a")
    other.sync()  # The system calls the pages clean by now.
    assert {"a": b""} in states(fs)


def test_faults_are_tried_one_after_another_until_none_is_left() -> None:
    def run(fs: FaultFileSystem) -> None:
        replace_file(fs, "", "CURRENT", b"new")

    for persistent in (False, True):
        outcomes = list(fault_points(lambda: FaultFileSystem({"CURRENT": b"old"}), run, persistent=persistent))
        assert [error is None for _, error in outcomes] == [False] * 5 + [True]
        assert not any(fs.open_files for fs, _ in outcomes)
        assert {fs.files()["CURRENT"] for fs, _ in outcomes} == {b"old", b"new"}


def test_what_is_not_let_go_of_is_seen() -> None:
    fs = FaultFileSystem({"a": b"A"})
    file, lock = fs.open("a"), fs.lock("LOCK", 0)
    assert fs.open_files == [file] and fs.held_locks == [lock]
    with pytest.raises(LockedError):
        fs.lock("LOCK", 0)
    file.close()
    lock.release()
    lock.release()
    assert not fs.open_files and not fs.held_locks


# Leaving out syncs: the file system must be able to show each of them to be needed


def store(fs: FaultFileSystem) -> None:
    """Two versions of a table, each under a name of its own that CURRENT gives: a small manifest protocol."""
    for number in (1, 2):
        file = fs.create(f"db/{number}.sst")
        file.append(b"table %d" % number)
        file.sync()
        file.close()
        fs.sync_directory("db")
        replace_file(fs, "db", "CURRENT", b"%d" % number)
        if number > 1:
            fs.remove(f"db/{number - 1}.sst")


def loaded(fs: FaultFileSystem) -> int:
    """The version that is found, 0 for none; raises if what CURRENT names is not whole."""
    if not fs.exists("db/CURRENT"):
        return 0
    number = int(fs.read("db/CURRENT"))
    assert fs.read(f"db/{number}.sst") == b"table %d" % number
    return number


def survives(skipped: int | None) -> bool:
    """Whether every power loss at every moment leaves a version, and at least the one that was acknowledged."""

    def start() -> FaultFileSystem:
        fs = FaultFileSystem(directories=["db"])
        if skipped is not None:
            fs.skip_sync(skipped)
        return fs

    for fs in crash_points(start, store):
        done = [operation.index for operation in fs.operations if operation.kind == "sync_directory"]
        finished = len(done) if not fs.crashed else sum(index < len(fs.operations) - 1 for index in done)
        for image in fs.images(limit=200):
            try:
                if loaded(image) < finished // 2:
                    return False
            except (AssertionError, ValueError, FileNotFoundError):
                return False
    return True


def test_the_toy_protocol_survives() -> None:
    assert survives(None)


@pytest.mark.parametrize("skipped", range(8))
def test_no_sync_of_the_toy_protocol_can_be_left_out(skipped: int) -> None:
    assert not survives(skipped)


def test_there_are_no_more_syncs_than_were_left_out() -> None:
    fs = FaultFileSystem(directories=["db"])
    store(fs)
    assert len(fs.syncs) == 8
    fs.skip_sync(lambda operation: operation.kind == "sync" and operation.path.endswith(".sst"))
    write(fs, "db/3.sst", b"table", sync=True)
    fs.sync_directory("db")
    assert any(image.read("db/3.sst") == b"" for image in fs.images())


@pytest.mark.parametrize("skipped", [0, 1])
def test_replacing_a_file_needs_both_of_its_syncs(skipped: int) -> None:
    def run(fs: FaultFileSystem) -> None:
        if skip:
            fs.skip_sync(skipped)
        replace_file(fs, "", "CURRENT", b"new content")

    for skip in (False, True):
        wrong = 0
        for fs in crash_points(lambda: FaultFileSystem({"CURRENT": b"old"}), run):
            allowed = {b"old", b"new content"} if fs.crashed else {b"new content"}
            wrong += sum(image.files().get("CURRENT") not in allowed for image in fs.images())
        assert bool(wrong) is skip


STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "sync", "rename", "remove", "sync_directory"]), st.sampled_from("abc"), st.sampled_from("abc")),
    max_size=8,
)


@given(STEPS)
def test_whatever_happens_the_kept_image_is_the_present_and_syncing_all_leaves_only_it(steps: list[tuple[str, str, str]]) -> None:
    fs = FaultFileSystem()
    for step, name, other in steps:
        if step == "write" and not fs.exists(name):
            write(fs, name, name.encode() * 3)
        elif step == "sync" and fs.exists(name):
            file = fs.open(name)
            file.sync()
            file.close()
        elif step == "rename" and fs.exists(name):
            fs.rename(name, other)
        elif step == "remove" and fs.exists(name):
            fs.remove(name)
        elif step == "sync_directory":
            fs.sync_directory("")
    found = states(fs, limit=500)
    assert found[0] == fs.files()
    assert all(b"aaabbbccc".find(data) >= 0 for files in found for data in files.values())
    for name in fs.list(""):
        file = fs.open(name)
        file.sync()
        file.close()
    fs.sync_directory("")
    assert states(fs) == [fs.files()]
    assert not fs.open_files
