"""What `FrameStore` promises, of the store on disk and of its twin in memory; and hypothesis holding the two against each other."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lsmsql import CorruptionError, UsageError
from lsmsql.engine.blob import MemoryStore, SlotStore
from lsmsql.engine.blob.frame_record import SLOT_BYTES
from lsmsql.engine.blob.frame_store import FrameStore, NewFrame, Read
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from tests.proof.fault_filesystem import FaultFileSystem

from .blob_world import DATABASE, DIRECTORY, SMALL


def frame(frame_id: int, data: bytes, rewrites: int = 0) -> NewFrame:
    return NewFrame(frame_id, [data[:10], data[10:]], len(data), 1, 0, rewrites)


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest) -> FrameStore:
    if request.param == "memory":
        return MemoryStore()
    return SlotStore(MemoryFileSystem(directories=[DIRECTORY]), DIRECTORY, DATABASE, None, SMALL)


def test_a_frame_is_read_as_it_was_written(store: FrameStore) -> None:
    first = store.reserve(3)
    assert store.reserve() == first + 3
    store.write([frame(first + 2, b"c" * SLOT_BYTES), frame(first, b"a" * 5000), frame(first + 1, b"b")])
    assert [record.frame_id for record in store.frames()] == [first, first + 1, first + 2]
    for frame_id, data in ((first, b"a" * 5000), (first + 1, b"b"), (first + 2, b"c" * SLOT_BYTES)):
        record = store.record(frame_id)
        assert store.read(record, 0, record.length) == data and record.length == len(data)
    assert store.read_many([Read(store.record(first), 10, 3), Read(store.record(first + 1), 0, 1)]) == [b"aaa", b"b"]
    store.close()


def test_a_frame_takes_its_place_under_the_same_id(store: FrameStore) -> None:
    first = store.reserve()
    store.write([frame(first, b"a" * 9000)])
    old = store.record(first)
    with store.pin():
        store.write([frame(first, b"b" * 7000, rewrites=1)])
        store.sync()
        store.write([frame(store.reserve(), b"c" * 9000)])
        assert store.read(old, 0, 9000) == b"a" * 9000, "a pinned image is written over"
    assert store.read(store.record(first), 0, 7000) == b"b" * 7000
    assert store.statistics().relocations == 1 and store.record(first).rewrites == 1


def test_what_cannot_be_is_refused_and_changes_nothing(store: FrameStore) -> None:
    first = store.reserve()
    store.write([frame(first, b"a")])
    for wrong in (
        frame(first + 1, b"b"),  # not reserved
        frame(first, b"b"),  # no rewrite
        frame(first, b"b", rewrites=2),
        frame(first, b"", rewrites=1),
        frame(first, bytes(SLOT_BYTES + 1), rewrites=1),
        frame(first, b"b", rewrites=1)._replace(length=2),
    ):
        with pytest.raises(UsageError):
            store.write([wrong])
    with pytest.raises(CorruptionError, match="frame 77 is not in the slot map"):
        store.free([first, 77])
    with pytest.raises(CorruptionError, match="frame 77"):
        store.keep_only([first, 77])
    assert store.read(store.record(first), 0, 1) == b"a"
    store.free([first])
    with pytest.raises(CorruptionError):
        store.record(first)


class StoreMachine(RuleBasedStateMachine):
    """The same calls on both; a crash takes both back to their last sync."""

    @initialize(preallocate=st.booleans())
    def begin(self, preallocate: bool) -> None:
        self.fs = FaultFileSystem(directories=[DIRECTORY])
        self.readers = False
        self.twin = MemoryStore()
        self.open()
        self.pins: list[tuple[object, list[tuple[object, bytes]]]] = []

    def open(self) -> None:
        self.store = SlotStore(self.fs, DIRECTORY, DATABASE, None, SMALL, others_read=lambda: self.readers)

    @rule(sizes=st.lists(st.sampled_from((1, 4096, 4097, 20_000, 400_000)), min_size=1, max_size=4), letter=st.integers(1, 255))
    def write(self, sizes: list[int], letter: int) -> None:
        first = self.store.reserve(len(sizes))
        assert self.twin.reserve(len(sizes)) == first
        frames = [frame(first + n, bytes([letter]) * size) for n, size in enumerate(sizes)]
        self.store.write(frames)
        self.twin.write(frames)

    @precondition(lambda self: self.twin.frames())
    @rule(data=st.data(), size=st.sampled_from((1, 5000, 100_000)))
    def rewrite(self, data: st.DataObject, size: int) -> None:
        record = data.draw(st.sampled_from(self.twin.frames()))
        again = frame(record.frame_id, bytes([record.rewrites % 256]) * size, record.rewrites + 1)
        self.store.write([again])
        self.twin.write([again])

    @precondition(lambda self: self.twin.frames())
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from([record.frame_id for record in self.twin.frames()]), unique=True, max_size=3))
        self.store.free(ids)
        self.twin.free(ids)

    @rule()
    def sync(self) -> None:
        self.store.sync()
        self.twin.sync()

    @rule(held=st.booleans())
    def others(self, held: bool) -> None:
        self.readers = held

    @rule()
    def punch(self) -> None:
        self.store.punch()

    @rule()
    def pin(self) -> None:
        if len(self.pins) < 3:
            images = [(record, self.store.read(record, 0, record.length)) for record in self.store.frames()]
            self.pins.append((self.store.pin(), images))

    @precondition(lambda self: self.pins)
    @rule()
    def unpin(self) -> None:
        pin, images = self.pins.pop(0)
        for record, data in images:
            assert self.store.read(record, 0, len(data)) == data  # type: ignore[arg-type]
        pin.release()  # type: ignore[attr-defined]

    @rule(seed=st.integers(0, 1000))
    def crash(self, seed: int) -> None:
        for pin, _ in self.pins:
            pin.release()  # type: ignore[attr-defined]
        self.pins = []
        images = list(self.fs.images(limit=8, seed=seed))
        self.store.close()
        self.fs = images[seed % len(images)]
        self.twin = self.twin.crashed()
        self.open()
        self.store.keep_only([record.frame_id for record in self.store.frames()])
        found = {record.frame_id for record in self.store.frames()}
        durable = {record.frame_id for record in self.twin.frames()}
        self.twin._next_id = max(self.twin._next_id, self.store._next_id)
        self.store._next_id = self.twin._next_id
        assert found == durable
        self.check()

    @invariant()
    def check(self) -> None:
        assert [(r.frame_id, r.length, r.rewrites) for r in self.store.frames()] == [(r.frame_id, r.length, r.rewrites) for r in self.twin.frames()]
        for record in self.twin.frames():
            mine = self.store.record(record.frame_id)
            assert self.store.read(mine, 0, mine.length) == self.twin.read(record, 0, record.length)
        found = self.store.statistics()
        assert (found.live_bytes + found.waiting_bytes + found.free_bytes) % SLOT_BYTES == 0
        assert found.live_bytes == self.twin.statistics().live_bytes


class TestStores(StoreMachine.TestCase):
    settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
