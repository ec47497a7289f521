"""A life of values on a disk that can be lost at any moment, and what must be found then."""

from __future__ import annotations

import random

from lsmsql.engine.blob import BlobPointer, SlotStore, StoreOptions, ValueStore
from lsmsql.engine.blob.allocator import holes
from lsmsql.engine.blob.frame_record import UNITS_PER_SLOT, check_places
from lsmsql.engine.blob.slot_map_log import read_slot_map
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.parity_scheme import ParityScheme
from tests.proof.fault_filesystem import FaultFileSystem, Operation

DIRECTORY = "/db"
DATABASE = bytes(range(16))
DATA_KEY = bytes(range(32))
SMALL = StoreOptions(preallocate=False, map_bytes=300, map_ratio=0, read_threads=1)  # The map is written anew every few changes.


def keyring(encrypted: bool) -> Keyring | None:
    return Keyring(DATABASE, {1: DATA_KEY}) if encrypted else None


def open_store(fs: MemoryFileSystem, encrypted: bool = False, options: StoreOptions = SMALL, **given) -> ValueStore:  # type: ignore[no-untyped-def]
    keys = keyring(encrypted)
    return ValueStore(SlotStore(fs, DIRECTORY, DATABASE, keys, options, **given), DATABASE, keys)


def value(size: int, seed: int) -> bytes:
    """Bytes that no compression makes smaller."""
    return random.Random(seed).randbytes(size)


class Life:
    """What an engine does to a value store: values by name, linked and unlinked by edits that are durable at once.

    linked: the values of the last durable edit; going: pointers that the edit before it named and this one does not, to be freed."""

    def __init__(self, fs: FaultFileSystem, encrypted: bool = False, options: StoreOptions = SMALL, parity: str = "none") -> None:
        self.fs = fs
        self.encrypted = encrypted
        self.options = options
        self.parity = ParityScheme.parse(parity)
        self.linked: dict[str, tuple[BlobPointer, bytes]] = {}
        self.store: ValueStore | None = None

    def open(self) -> ValueStore:
        self.store = open_store(self.fs, self.encrypted, self.options)
        self.store.keep_only(self.frames())
        return self.store

    def frames(self) -> set[int]:
        return {frame for pointer, _ in self.linked.values() for frame in pointer.frames}

    def put(self, **values: bytes) -> None:
        """Write values, make them durable, link them; what they replace is garbage, and its frames freed or written again."""
        assert self.store
        pointers = self.store.write(values.values(), parity=self.parity)
        self.store.sync()
        self.edit(dict(zip(values, zip(pointers, values.values(), strict=True), strict=True)), ())

    def delete(self, *names: str) -> None:
        self.edit({}, names)

    def edit(self, added: dict[str, tuple[BlobPointer, bytes]], removed: tuple[str, ...]) -> None:
        """The edit is durable in one stroke; then the frames that it unlinks are freed, as durable as the next sync makes it."""
        assert self.store
        before = self.frames()
        kept = {name: found for name, found in self.linked.items() if name not in removed}
        self.linked = kept | added
        self.store.free(sorted(before - self.frames()))

    def relocate(self) -> None:
        """Write every frame again without the values that are not linked."""
        assert self.store
        alive = {(pointer.frame_id, pointer.ordinal) for pointer, _ in self.linked.values() if not pointer.stretch}
        small = {pointer.frame_id for pointer, _ in self.linked.values() if not pointer.stretch}
        records = [self.store.frames.record(frame) for frame in sorted(small)]
        self.store.relocate({record.frame_id: [n for n in range(record.values) if (record.frame_id, n) not in alive] for record in records})

    def sync(self) -> None:
        assert self.store
        self.store.sync()

    def close(self) -> None:
        assert self.store
        self.store.close()

    def check(self, image: MemoryFileSystem) -> None:
        """The disk after a crash: every linked value is whole, no unit is used twice, none is lost, and life goes on."""
        store = open_store(image, self.encrypted, self.options)
        store.keep_only(self.frames())
        self.check_values(store)
        check_whole(store)
        more = value(9000, 99)
        pointer = store.write([more])[0]
        store.sync()
        self.check_values(store)
        store.close()
        again = open_store(image, self.encrypted, self.options)
        assert again.read(pointer) == more
        assert {record.frame_id for record in again.frames.frames()} == self.frames() | {pointer.frame_id}
        self.check_values(again)
        check_whole(again)
        again.close()

    def check_values(self, store: ValueStore) -> None:
        for name, (pointer, expected) in self.linked.items():
            assert store.read(pointer) == expected, name


def check_whole(store: ValueStore) -> None:
    """Every unit is in one frame, waiting or free, and in one of them only."""
    slots = store.frames
    assert isinstance(slots, SlotStore)
    records = slots.frames()
    check_places(records)
    found = slots.statistics()
    units = slots._allocator.slots * UNITS_PER_SLOT
    assert (found.live_bytes + found.waiting_bytes + found.free_bytes) // 4096 == units
    assert found.live_bytes == sum(record.units for record in records) * 4096
    if not found.waiting_bytes:
        assert slots._allocator.runs() == holes(slots._allocator.slots, [record.place for record in records])


def shadow_oracle(fs: FaultFileSystem, encrypted: bool, limit: int = 6) -> None:
    """Look at every write to the data file, while the file system is watched: no map that a crash could leave names the units that it goes to."""

    def look(operation: Operation) -> None:
        if operation.kind not in ("write_at", "punch"):
            return
        start, size = map(int, operation.detail.split())
        for image in fs.states(limit):
            found = read_slot_map(image.in_memory(), DIRECTORY, DATABASE, keyring(encrypted))
            for record in found.records.values():
                end = record.offset + record.units * 4096
                assert end <= start or start + size <= record.offset, f"{operation} would write over {record}: {image.description}"

    fs.watch = look
