"""Values by pointers: sizes, streams, compression, encryption, rewriting frames without their dead values."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmsql import CorruptionError, UsageError
from lsmsql.engine.blob import BlobPointer, FrameUsage, MemoryStore, SlotStore, ValueStore, frames_below, parse_pointer
from lsmsql.engine.blob.frame_record import SLOT_BYTES
from lsmsql.engine.blob.value_frame import stretch_bytes
from lsmsql.engine.storage.compression import Codec
from lsmsql.engine.storage.dictionary import Dictionary
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.parity_scheme import ParityScheme
from tests.storage.dictionary_world import json_row, trained

from .blob_world import DATA_KEY, DATABASE, DIRECTORY, SMALL, open_store, value

RS = ParityScheme.parse("rs(4,2)")


@pytest.fixture(params=["disk", "encrypted", "memory"])
def store(request: pytest.FixtureRequest) -> Iterator[ValueStore]:
    if request.param == "memory":
        yield ValueStore(MemoryStore(), DATABASE)
    else:
        found = open_store(MemoryFileSystem(directories=[DIRECTORY]), request.param == "encrypted")
        yield found
        found.close()


@pytest.mark.parametrize("parity", ["none", "xor(4)", "rs(4,2)", "rs(32,8)"])
def test_values_of_every_size_are_read_whole_and_in_ranges(store: ValueStore, parity: str) -> None:
    scheme = ParityScheme.parse(parity)
    edge = stretch_bytes(scheme)
    sizes = [0, 1, 4095, 4096, 4097, 70_000, edge - 1, edge, edge + 1, 2 * edge, SLOT_BYTES, 2_000_000]
    values = [value(size, size) for size in sizes] + [bytes(3_000_000)]
    pointers = store.write(values, parity=scheme)
    store.sync()
    assert [store.read(pointer) for pointer in pointers] == values == store.read_many(pointers)
    for pointer, expected in zip(pointers, values, strict=True):
        assert pointer.raw_length == len(expected) and bool(pointer.stretch) == (len(expected) > edge)
        assert parse_pointer(pointer.pack()) == pointer
        for start in (0, 1, edge - 2, edge, len(expected) - 3, len(expected)):
            if start >= 0:
                assert store.read_range(pointer, start, 5) == expected[start : start + 5]
        assert store.read_range(pointer, 3, 1 << 40) == expected[3:]
    with pytest.raises(UsageError):
        store.read_range(pointers[0], -1, 5)
    store.verify()


def test_small_values_share_frames_and_large_ones_take_several(store: ValueStore) -> None:
    pointers = store.write([value(1000, n) for n in range(600)] + [value(1_500_000, 1)])
    assert len({pointer.frame_id for pointer in pointers[:-1]}) == 2
    assert len(pointers[-1].frames) == 3 and set(pointers[-1].frames).isdisjoint(pointer.frame_id for pointer in pointers[:-1])
    assert store.statistics().frames == 5


def test_a_value_that_compression_makes_fit_has_one_frame(store: ValueStore) -> None:
    half = value(500_000, 1)
    values = [half[:300_000] + bytes(300_000), bytes(1_900_000), bytes(3_000_000), bytes(40_000) + half + half[:200_000], half + bytes(100_000)]
    pointers = store.write(values)
    assert [pointer.stretch > 0 for pointer in pointers] == [True, False, True, True, True]  # The first begins as if it did not compress.
    for pointer, expected in zip(pointers, values, strict=True):
        assert store.read(pointer) == expected and store.read_range(pointer, 500_000, 9) == expected[500_000:500_009]


def test_a_stream_is_written_and_read_a_frame_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(MemoryFileSystem(directories=[DIRECTORY]))
    largest = []
    write = store.frames.write
    monkeypatch.setattr(store.frames, "write", lambda frames: (largest.append(sum(frame.length for frame in frames)), write(frames)))
    dice = random.Random(1)
    chunks = [dice.randbytes(dice.randrange(1, 900_000)) for _ in range(40)]
    expected = b"".join(chunks)
    for announced in (None, len(expected)):
        writer = store.writer(parity=RS)
        pointer = writer.add_stream(iter(chunks), announced)
        writer.flush()
        assert pointer.raw_length == len(expected) and max(largest) < 5 << 20
        with store.open(pointer) as stream:
            assert stream.seekable() and stream.readable() and not stream.writable()
            assert io.BufferedReader(stream).read(10) == expected[:10]
        with store.open(pointer) as stream:
            stream.seek(-7, io.SEEK_END)
            assert stream.read() == expected[-7:] and stream.read(5) == b"" and stream.tell() == len(expected)
            stream.seek(12_345_678)
            room = bytearray(1000)
            assert stream.readinto(room) == 1000 and room == expected[12_345_678:12_346_678]
            for wrong in (lambda: stream.seek(-1), lambda: stream.seek(0, 9)):
                with pytest.raises(ValueError):
                    wrong()
        with pytest.raises(ValueError):
            stream.read(1)
    short = store.writer()
    assert short.add_stream([b"ab", b"c"]).stretch == 0
    for length in (2, 4):
        with pytest.raises(UsageError, match="was announced"):
            store.writer().add_stream([b"abc"], length)
    with pytest.raises(UsageError, match="was announced"):
        store.writer().add_stream([bytes(1 << 20)] * 2, 1 << 20)
    store.close()


def test_short_reads_of_a_stream_read_each_frame_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(MemoryFileSystem(directories=[DIRECTORY]))
    pointer = store.write([value(1_500_000, 1)])[0]
    store.read(pointer)
    reads = []
    read = store.frames.read
    monkeypatch.setattr(store.frames, "read", lambda record, offset, size: (reads.append(record.frame_id), read(record, offset, size))[1])
    with store.open(pointer) as stream:
        while stream.read(1000):
            pass
    assert reads == list(pointer.frames)


def test_a_frame_is_rewritten_under_its_id_without_its_dead_values(store: ValueStore) -> None:
    values = [value(4000, n) for n in range(20)]
    pointers = store.write(values, parity=RS)
    store.sync()
    frame = pointers[0].frame_id
    before = store.frames.record(frame)
    assert store.read(pointers[3]) == values[3]
    dead = [n for n in range(20) if n % 4]
    assert 0 < store.relocate({frame: dead}) < before.length // 2
    after = store.frames.record(frame)
    assert after.rewrites == 1 and after.values == 20 and after.parity == before.parity
    for again in range(2):
        store.sync()
        for n, pointer in enumerate(pointers):
            if n % 4:
                with pytest.raises(CorruptionError, match=f"value {n} was collected"):
                    store.read(pointer)
            else:
                assert store.read(pointer) == values[n]
        if not again:
            store.relocate({frame: [1, 4]})
            with pytest.raises(CorruptionError, match="value 4 was collected"):
                store.read(pointers[4])
            values[4:5], pointers[4:5] = [], []
            break
    assert store.statistics().relocations == 2
    store.relocate({frame: range(20)})
    with pytest.raises(CorruptionError, match="not in the slot map"):
        store.read(pointers[0])


def test_a_rewrite_repairs_what_it_copies_and_refuses_what_it_cannot_read() -> None:
    fs = MemoryFileSystem(directories=[DIRECTORY])
    store = open_store(fs)
    values = [value(3000, n) for n in range(6)]
    for parity, works in ((RS, True), (ParityScheme(), False)):
        pointers = store.write(values, parity=parity)
        record = store.frames.record(pointers[0].frame_id)
        fs._nodes[f"{DIRECTORY}/BLOBS"].data[record.offset + 7000] ^= 1
        if works:
            store.relocate({record.frame_id: [0]})
            assert store.repairs.count and store.read(pointers[5]) == values[5]
            store.verify()
        else:
            with pytest.raises(CorruptionError, match="value 2 does not match"):
                store.relocate({record.frame_id: [0]})
            assert store.frames.record(record.frame_id) == record
            store.relocate({record.frame_id: [0, 2]})
            assert store.read(pointers[1]) == values[1]


def test_a_dictionary_is_asked_for_by_its_id() -> None:
    source = random.Random(1)
    dictionary: Dictionary = trained([json_row(source) for _ in range(300)])
    known = {dictionary.id: dictionary}
    frames = MemoryStore()
    store = ValueStore(frames, DATABASE, dictionaries=known.get)
    writer = store.writer(dictionary=dictionary)
    sample = json_row(source)
    pointer = writer.add(sample)
    writer.flush()
    assert pointer.stored_length < len(sample) // 2 and store.read(pointer) == sample
    store.relocate({pointer.frame_id: []})
    assert store.read(pointer) == sample
    known.clear()
    with pytest.raises(CorruptionError, match="needs dictionary"):
        store.read(pointer)


def test_rewriting_moves_a_frame_to_the_newest_key() -> None:
    fs = MemoryFileSystem(directories=[DIRECTORY])
    store = open_store(fs, True)
    values = [b"SECRET" * 100, value(5000, 1)]
    pointers = store.write(values, codec=Codec.NONE)
    store.sync()
    store.close()
    assert all(b"SECRET" not in data for data in fs.files().values())
    keys = Keyring(DATABASE, {1: DATA_KEY, 2: bytes(32)})
    newer = ValueStore(SlotStore(fs, DIRECTORY, DATABASE, keys, SMALL), DATABASE, keys)
    assert newer.read_many(pointers) == values
    newer.relocate({pointers[0].frame_id: []})
    newer.sync()
    newer.close()
    only = Keyring(DATABASE, {2: bytes(32)})
    last = ValueStore(SlotStore(fs, DIRECTORY, DATABASE, only, SMALL), DATABASE, only)
    assert last.read_many(pointers) == values
    last.close()


def test_where_compression_is_in_vain_it_is_tried_now_and_then(store: ValueStore) -> None:
    values = [value(500, n) for n in range(60)] + [bytes(500)] * 40
    pointers = store.write(values)
    stored = [pointer.stored_length < 100 for pointer in pointers]
    assert not any(stored[:60]) and sum(stored[60:]) > 30 and all(stored[-30:])
    assert store.read_many(pointers) == values


def test_a_mutable_value_is_taken_as_it_is_now() -> None:
    store = ValueStore(MemoryStore(), DATABASE)
    writer = store.writer()
    data = bytearray(value(5000, 1))
    pointer = writer.add(data)
    data[:] = bytes(5000)
    writer.flush()
    assert store.read(pointer) == value(5000, 1)


@given(st.binary(min_size=24, max_size=24))
def test_any_bytes_are_a_pointer_or_refused(data: bytes) -> None:
    try:
        pointer = parse_pointer(data)
    except ValueError:
        return
    assert pointer.pack() == data and len(pointer.frames) <= 10**9


def test_a_pointer_that_leads_nowhere_is_corruption(store: ValueStore) -> None:
    pointer = store.write([b"abc"])[0]
    for wrong in (pointer._replace(frame_id=99), pointer._replace(ordinal=1), pointer._replace(raw_length=2), BlobPointer(1, 0, 1 << 20, 9, 4096)):
        for read in (store.read, lambda wrong: store.read_many([wrong]), lambda wrong: store.open(wrong).read()):
            with pytest.raises(CorruptionError):
                read(wrong)


def test_the_choice_of_what_to_rewrite() -> None:
    usages = [
        FrameUsage(1, 10, 1000, 0, 0),
        FrameUsage(2, 10, 1000, 10, 1000),  # nothing alive
        FrameUsage(3, 10, 1000, 2, 200),
        FrameUsage(4, 10, 1000, 5, 500),
        FrameUsage(5, 10, 1000, 9, 900),
        FrameUsage(6, 2, 0, 1, 0),  # empty values
        FrameUsage(7, 1, 0, 1, 0),
    ]
    assert frames_below(0.75, usages) == ((2, 7), (5, 4))
    assert frames_below(0.9, usages) == ((2, 7), (5, 4, 3))
    assert frames_below(0.9, usages, relocate_bytes=600) == ((2, 7), (5, 4))
    assert frames_below(0.9, usages, relocate_bytes=1) == ((2, 7), (5,))
    assert frames_below(0, usages) == ((2, 7), ())


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5000), st.integers(0, 9), st.integers(0, 5000)), max_size=12), st.floats(0, 1))
def test_a_choice_is_of_frames_below_and_never_of_a_full_one(rows: list[tuple[int, int, int, int]], share: float) -> None:
    usages = [FrameUsage(n, values, stored, dead, lost) for n, (values, stored, dead, lost) in zip(itertools.count(1), rows, strict=False)]
    found = frames_below(share, usages)
    assert not set(found.free) & set(found.relocate)
    for usage in usages:
        if usage.dead_values == 0:
            assert usage.frame_id not in found.free + found.relocate
        if usage.frame_id in found.relocate:
            assert usage.stored_bytes - usage.dead_bytes < share * usage.stored_bytes
