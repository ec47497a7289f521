"""The store on disk: where frames go, when units come back, room made ahead, failures of the disk, threads."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmsql import UsageError
from lsmsql.engine.blob import SlotStore, StoreOptions, ValueStore
from lsmsql.engine.blob.allocator import Allocator, holes
from lsmsql.engine.blob.frame_record import SLOT_BYTES, UNITS_PER_SLOT, Place
from lsmsql.engine.blob.preallocation import Preallocation
from lsmsql.engine.storage.filesystem import OsFileSystem
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from tests.proof.fault_filesystem import FaultFileSystem

from .blob_world import DATABASE, DIRECTORY, SMALL, check_whole, open_store, value

MIB = 1 << 20


@given(st.lists(st.tuples(st.booleans(), st.integers(1, UNITS_PER_SLOT)), max_size=60))
def test_the_allocator_gives_no_unit_twice_and_loses_none(steps: list[tuple[bool, int]]) -> None:
    allocator = Allocator()
    held: list[Place] = []
    for free, units in steps:
        if free and held:
            allocator.release([held.pop(units % len(held))])
        else:
            held.append(allocator.allocate(units))
        assert allocator.runs() == holes(allocator.slots, held)
        assert allocator.free_units + sum(place.units for place in held) == allocator.slots * UNITS_PER_SLOT


def test_the_allocator_fills_the_shortest_run_of_the_lowest_slot() -> None:
    allocator = Allocator()
    places = [allocator.allocate(units) for units in (100, 100, 100)]
    assert [place.slot for place in places] == [0, 1, 2]
    assert allocator.allocate(28) == Place(0, 100, 28) and allocator.allocate(20) == Place(1, 100, 20)
    assert allocator.allocate(8) == Place(1, 120, 8) and allocator.allocate(40) == Place(3, 0, 40)
    for units in (0, UNITS_PER_SLOT + 1):
        with pytest.raises(UsageError):
            allocator.allocate(units)


def test_freed_units_come_back_when_the_free_is_durable_and_all_readers_are_gone() -> None:
    fs = MemoryFileSystem(directories=[DIRECTORY])
    others = [False]
    store = open_store(fs, others_read=lambda: others[0])

    def slots_after_one_more() -> int:
        store.write([value(500_000, 2)])
        return store.frames._allocator.slots  # type: ignore[attr-defined, no-any-return]

    first = store.write([value(500_000, 1)])[0]
    store.sync()
    pin = store.pin()
    others[0] = True
    store.free([first.frame_id])
    assert slots_after_one_more() == 2  # not durable
    store.sync()
    assert slots_after_one_more() == 3  # pinned
    pin.release()  # type: ignore[attr-defined]
    assert slots_after_one_more() == 4  # another process
    assert store.statistics().waiting_bytes == 123 * 4096
    others[0] = False
    assert slots_after_one_more() == 4
    assert not store.statistics().waiting_bytes
    check_whole(store)


def test_what_was_free_at_opening_waits_for_readers_that_were_there_before() -> None:
    fs = MemoryFileSystem(directories=[DIRECTORY])
    store = open_store(fs)
    pointers = [store.write([value(500_000, n)])[0] for n in range(2)]
    store.sync()
    store.free([pointers[1].frame_id])
    store.sync()
    store.close()
    again = open_store(fs, others_read=lambda: True)
    again.write([value(500_000, 3)])
    assert again.frames.frames()[-1].slot == 2
    assert again.frames.punch() == 0
    check_whole(again)


def test_orphans_are_freed_and_missing_frames_told() -> None:
    fs = MemoryFileSystem(directories=[DIRECTORY])
    store = open_store(fs)
    pointers = store.write([value(300_000, n) for n in range(3)])
    store.sync()
    store.close()
    again = open_store(fs)
    assert again.keep_only({pointers[1].frame_id}) == 2
    assert [record.frame_id for record in again.frames.frames()] == [pointers[1].frame_id]
    again.close()
    third = open_store(fs)
    assert third.keep_only({pointers[1].frame_id}) == 0
    assert third.frames.reserve() > pointers[2].frame_id, "an id is given out again"


def test_room_is_made_in_steps_of_8_and_64_slots() -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    store = open_store(fs, options=StoreOptions())
    room = Preallocation(fs.open_random(f"{DIRECTORY}/BLOBS"), 0)
    reached = []
    for slots in (1, 8, 9, 127, 128, 129, 200):
        room.reach(slots)
        reached.append(room.slots)
    assert reached == [8, 8, 16, 128, 128, 192, 256] and fs.size(f"{DIRECTORY}/BLOBS") == 256 * SLOT_BYTES
    store.write([b"x"])
    assert fs.size(f"{DIRECTORY}/BLOBS") == 256 * SLOT_BYTES


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_that_cannot_preallocate_or_punch_is_asked_once(code: int) -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    fault = fs.fail("preallocate", code=code, persistent=True)
    fs.fail("punch", code=code, persistent=True)
    store = open_store(fs, options=StoreOptions())
    for n in range(20):
        pointer = store.write([value(400_000, n)])[0]
    assert fault.hits == 1 and store.read(pointer) == value(400_000, 19)
    store.sync()
    assert store.frames.punch() == 0


@pytest.mark.parametrize("kind", ["preallocate", "write_at"])
def test_a_full_disk_is_told_and_leaves_everything_as_it_was(kind: str) -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    store = open_store(fs, options=StoreOptions())
    kept = store.write([value(5000, 1)])[0] if kind == "write_at" else None
    fs.fail(kind, code=errno.ENOSPC)
    with pytest.raises(OSError) as found:
        store.write([value(200_000, 2)])
    assert found.value.errno == errno.ENOSPC
    check_whole(store)
    pointer = store.write([value(200_000, 3)])[0]
    store.sync()
    store.close()
    again = open_store(fs)
    assert again.read(pointer) == value(200_000, 3) and (kept is None or again.read(kept) == value(5000, 1))
    check_whole(again)


@pytest.mark.parametrize("kind", ["sync", "append", "rename", "sync_directory", "create"])
def test_after_a_failed_sync_nothing_is_promised_any_more(kind: str) -> None:
    """Each call of a sync fails in turn, those that write the map anew among them."""
    for nth in range(1, 4):
        fs = FaultFileSystem(directories=[DIRECTORY])
        store = open_store(fs, options=StoreOptions(preallocate=False, map_bytes=1, map_ratio=0))
        kept = store.write([value(5000, 1)])[0]
        store.sync()
        fault = fs.fail(kind, nth)
        pointer = store.write([value(5000, 2)])[0]
        try:
            store.sync()
        except OSError:
            for call in (store.sync, lambda: store.write([b"x"]), lambda: store.free([kept.frame_id]), store.frames.punch):  # noqa: B023
                with pytest.raises(OSError, match="takes nothing more"):
                    call()
            assert store.read(kept) == value(5000, 1) and store.read(pointer) == value(5000, 2)
        else:
            assert not fault.hits
        store.close()
        fs.heal()
        assert not fs.open_files
        again = open_store(fs)
        again.keep_only([kept.frame_id])
        assert again.read(kept) == value(5000, 1)
        check_whole(again)


def test_every_failing_call_of_opening_lets_go_of_its_files() -> None:
    for nth in range(1, 30):
        fs = FaultFileSystem(directories=[DIRECTORY])
        open_store(fs).close()
        fault = fs.fail("any", nth)
        try:
            open_store(fs).close()
        except OSError:
            assert fault.hits
        assert not fs.open_files
        if not fault.hits:
            assert nth > 8
            return
    pytest.fail("it never ends")


def test_a_write_that_ends_during_a_sync_waits_for_the_next() -> None:
    """Its bytes may not be covered: the map must not name it."""
    fs = FaultFileSystem(directories=[DIRECTORY])
    store = open_store(fs)
    first = store.write([value(5000, 1)])[0]
    later = []

    def write_meanwhile(operation) -> None:  # type: ignore[no-untyped-def]
        if operation.kind == "sync" and operation.path.endswith("BLOBS") and not later:
            later.append(None)
            thread = threading.Thread(target=lambda: later.append(store.write([value(6000, 2)])[0]))
            thread.start()
            thread.join(20)

    fs.unguarded = write_meanwhile
    store.sync()
    fs.unguarded = None
    second = later[1]
    assert second is not None and store.read(second) == value(6000, 2)
    for image in fs.images():
        assert [record.frame_id for record in open_store(image).frames.frames()] == [first.frame_id]
    store.free([first.frame_id])
    store.sync()
    for image in fs.images():
        assert [record.frame_id for record in open_store(image).frames.frames()] == [second.frame_id]


def test_a_frame_freed_while_it_is_made_durable_is_freed_by_the_next_sync() -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    store = open_store(fs)
    pointer = store.write([value(5000, 1)])[0]
    rewritten = []

    def free_meanwhile(operation) -> None:  # type: ignore[no-untyped-def]
        if operation.kind == "append" and "slotlog" in operation.path and not rewritten:
            rewritten.append(True)
            store.relocate({pointer.frame_id: []})
            store.free([pointer.frame_id])

    fs.unguarded = free_meanwhile
    store.sync()
    fs.unguarded = None
    store.sync()
    store.close()
    again = open_store(fs)
    assert rewritten and not again.frames.frames()
    check_whole(again)


def test_threads_write_read_rewrite_and_sync_side_by_side(tmp_path: Path) -> None:
    store = ValueStore(SlotStore(OsFileSystem(), str(tmp_path), DATABASE, None, StoreOptions(map_bytes=4096, map_ratio=0)), DATABASE)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            held = {}
            for turn in range(40):
                data = value(1000 + 7000 * (turn % 5), number * 1000 + turn)
                held[store.write([data])[0]] = data
                if turn % 5 == 4:
                    store.sync()
                    old = list(held)[: len(held) // 2]
                    store.relocate({pointer.frame_id: [] for pointer in list(held)[len(held) // 2 :]})
                    store.free([pointer.frame_id for pointer in old])
                    for pointer in old:
                        del held[pointer]
                pointers = list(held)
                assert store.read_many(pointers) == list(held.values())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    store.sync()
    check_whole(store)
    store.verify()
    store.close()


def test_batches_that_wait_for_the_disk_are_read_by_threads_and_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ValueStore(SlotStore(OsFileSystem(), str(tmp_path), DATABASE), DATABASE)
    values = [value(5000, n) for n in range(50)]
    pointers = store.write(values)
    store.sync()
    readers: set[str] = set()
    read_at = store.frames._file.read_at  # type: ignore[attr-defined]
    for cached, name in ((True, "MainThread"), (False, "lsmsql blob reads")):
        monkeypatch.setattr(store.frames, "is_cached", lambda *_, cached=cached: cached)
        file = store.frames._file  # type: ignore[attr-defined]

        class Watched:
            path = file.path

            def read_at(self, offset: int, size: int) -> bytes:
                readers.add(threading.current_thread().name.rpartition("_")[0] or threading.current_thread().name)
                data: bytes = read_at(offset, size)
                return data

            def close(self) -> None:
                file.close()  # noqa: B023

        monkeypatch.setattr(store.frames._batches, "_file", Watched())  # type: ignore[attr-defined]
        assert store.read_many(pointers) == values
        assert readers == (set() if cached else {name})
    store.close()


def test_direct_io_is_an_option_that_a_file_system_may_not_have(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no direct I/O"):
        open_store(MemoryFileSystem(directories=[DIRECTORY]), options=StoreOptions(direct=True))
    fs = OsFileSystem()
    try:
        store = ValueStore(SlotStore(fs, str(tmp_path), DATABASE, None, StoreOptions(direct=True)), DATABASE)
    except UsageError:
        pytest.skip("no direct I/O here")
    values = [value(size, size) for size in (0, 1, 5000, 600_000)]
    pointers = store.write(values)
    store.sync()
    store.relocate({pointers[0].frame_id: [0]})
    store.sync()
    assert store.read_many(pointers[1:]) == values[1:]
    store.close()
    again = ValueStore(SlotStore(fs, str(tmp_path), DATABASE), DATABASE)
    assert [again.read(pointer) for pointer in pointers[1:]] == values[1:]
    again.close()


def test_punching_gives_room_back(tmp_path: Path) -> None:
    store = ValueStore(SlotStore(OsFileSystem(), str(tmp_path), DATABASE), DATABASE)
    pointers = store.write([value(MIB, n) for n in range(8)])
    store.sync()
    blocks = (tmp_path / "BLOBS").stat().st_blocks
    store.free([frame for pointer in pointers[1:] for frame in pointer.frames])
    store.sync()
    punched = store.frames.punch(16)
    after = (tmp_path / "BLOBS").stat().st_blocks
    assert punched == 0 or blocks - after > 7 * MIB // 512
    assert store.read(pointers[0]) == value(MIB, 0)
    store.close()


def test_options_that_cannot_be_are_refused() -> None:
    for wrong in ({"map_bytes": 0}, {"read_threads": 0}, {"read_threads": 65}, {"map_ratio": -1}):
        with pytest.raises(UsageError):
            StoreOptions(**wrong)  # type: ignore[arg-type]
    assert SMALL.map_ratio == 0
