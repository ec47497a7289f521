"""Every byte of a small store changed, every length cut: the right value, a repaired one, or CorruptionError; nothing else."""

from __future__ import annotations

import pytest

from lsmsql import CorruptionError
from lsmsql.engine.blob import BlobPointer, StoreOptions, ValueStore
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.parity_scheme import ParityScheme
from tests.proof.judge import LONG

from .blob_world import DATABASE, DIRECTORY, check_whole, keyring, open_store, value

VALUES = [b"", b"x", value(300, 1), b"zeros" * 400, value(1000, 2)]


def small(encrypted: bool, parity: str) -> tuple[MemoryFileSystem, list[BlobPointer]]:
    fs = MemoryFileSystem(directories=[DIRECTORY])
    store = open_store(fs, encrypted, StoreOptions(preallocate=False))
    pointers = store.write(VALUES[:3], parity=ParityScheme.parse(parity))
    store.sync()
    pointers += store.write(VALUES[3:], parity=ParityScheme.parse(parity))
    store.sync()
    store.close()
    return fs, pointers


def read_all(store: ValueStore, pointers: list[BlobPointer]) -> int:
    """How many of the values could be read; the others must have said what is wrong."""
    read = 0
    for pointer, expected in zip(pointers, VALUES, strict=True):
        try:
            assert store.read(pointer) == expected
            read += 1
        except CorruptionError as error:
            assert "frame" in str(error)
    return read


def with_file(fs: MemoryFileSystem, path: str, data: bytes) -> MemoryFileSystem:
    return MemoryFileSystem(fs.files() | {path: data}, fs.directories())


def used_bytes(fs: MemoryFileSystem, path: str) -> list[int]:
    """Offsets that matter: not the padding of units, of which some are taken all the same."""
    data = fs.read(path)
    return [at for at in range(len(data)) if data[at] or at % 97 == 0]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("parity", ["none", "rs(4,2)"])
def test_a_changed_byte_in_the_data_takes_at_most_its_frame_and_with_parity_nothing(encrypted: bool, parity: str) -> None:
    fs, pointers = small(encrypted, parity)
    path = f"{DIRECTORY}/BLOBS"
    data = fs.read(path)
    lost = repaired = 0
    for at in used_bytes(fs, path)[:: 1 if LONG else 7]:
        store = open_store(with_file(fs, path, data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]), encrypted)
        found = read_all(store, pointers)
        repaired += store.repairs.count
        lost += found < len(VALUES)
        assert found == len(VALUES) or (parity == "none" and found >= 2), at
        store.close()
    assert (lost > 50 and not repaired) if parity == "none" else (repaired > 50 and not lost)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_data_file_cut_short_is_corruption_or_whole(encrypted: bool) -> None:
    fs, pointers = small(encrypted, "rs(4,2)")
    path = f"{DIRECTORY}/BLOBS"
    data = fs.read(path)
    for length in range(0, len(data), 1 if LONG else 61):
        store = open_store(with_file(fs, path, data[:length]), encrypted)
        found = read_all(store, pointers)
        assert found == len(VALUES) or length < len(data) - 2000
        pointer = store.write([b"goes on"])[0]
        assert store.read(pointer) == b"goes on"
        store.close()


@pytest.mark.parametrize("name", ["slots-000001", "slotlog-000001"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_damaged_slot_map_is_repaired_or_corruption_and_never_another_map(name: str, encrypted: bool) -> None:
    fs, pointers = small(encrypted, "none")
    linked = {frame for pointer in pointers for frame in pointer.frames}
    path = f"{DIRECTORY}/{name}"
    data = fs.read(path)
    cases = [data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :] for at in used_bytes(fs, path) for flip in (0x01, 0xFF)]
    cases += [data[:length] for length in range(0, len(data), 1 if name.startswith("slotlog") else 31)] + [data + bytes(100), data * 2]
    opened = refused = 0
    for case in cases:
        try:
            store = open_store(with_file(fs, path, case), encrypted)
        except CorruptionError:
            refused += 1
            continue
        try:
            store.keep_only(linked)
            assert read_all(store, pointers) == len(VALUES)
            check_whole(store)
            opened += 1
        except CorruptionError as error:
            assert "is not in the slot map" in str(error)
            assert name.startswith("slotlog") and case != data  # An end of the log that a crash might have torn.
            refused += 1
        store.close()
    assert opened > 100 if name.startswith("slots") else refused > 100


def test_damage_beyond_repair_takes_only_the_values_that_it_lies_in() -> None:
    fs = MemoryFileSystem(directories=[DIRECTORY])
    store = open_store(fs)
    values = [value(1000, seed) for seed in range(40)]
    pointers = store.write(values, parity=ParityScheme.parse("rs(4,2)"))
    store.sync()
    data = bytearray(fs.read(f"{DIRECTORY}/BLOBS"))
    record = store.frames.frames()[0]
    for part in range(3, 6):  # Three of six shards, where two may be lost; the directory is in the first.
        start = record.length * part // 6 + 100
        data[start : start + 50] = bytes(50)
    damaged = open_store(with_file(fs, f"{DIRECTORY}/BLOBS", bytes(data)))
    lost = []
    for number, pointer in enumerate(pointers):
        try:
            assert damaged.read(pointer) == values[number]
        except CorruptionError as error:
            assert f"frame {pointer.frame_id}: value {number} does not match" in str(error) and error.offset is not None
            assert "could not repair" in error.advice
            lost.append(number)
    assert 1 <= len(lost) <= 2


def test_a_missing_file_is_told() -> None:
    fs, _ = small(False, "none")
    for name, what in (("BLOBS", "the blob file is missing"), ("slotlog-000001", "log of the slot map is missing")):
        files = {path: data for path, data in fs.files().items() if not path.endswith(name)}
        with pytest.raises(CorruptionError, match=what):
            open_store(MemoryFileSystem(files, fs.directories()))


def test_an_older_image_of_a_frame_is_not_taken_for_the_newer() -> None:
    """As a disk that loses a write while it says otherwise would have it."""
    fs, pointers = small(False, "none")
    store = open_store(fs)
    old = store.frames.record(pointers[0].frame_id)
    store.relocate({old.frame_id: []})
    store.sync()
    new = store.frames.record(old.frame_id)
    data = bytearray(fs.read(f"{DIRECTORY}/BLOBS"))
    data[new.offset : new.offset + 4096] = data[old.offset : old.offset + 4096]
    again = open_store(with_file(fs, f"{DIRECTORY}/BLOBS", bytes(data)))
    with pytest.raises(CorruptionError, match="rewritten 0 times"):
        again.read(pointers[0])


def test_a_frame_of_another_place_or_database_does_not_open() -> None:
    fs, pointers = small(True, "none")
    path = f"{DIRECTORY}/BLOBS"
    data = fs.read(path)
    swapped = data[4096:8192] + data[:4096] + data[8192:]
    store = open_store(with_file(fs, path, swapped), True)
    assert read_all(store, pointers) == 0
    plain, its_pointers = small(False, "none")
    assert keyring(False) is None and DATABASE
    with pytest.raises(CorruptionError, match="not encrypted, but the database is"):
        open_store(plain, True)
    with pytest.raises(CorruptionError):
        open_store(fs, False)
    assert its_pointers
