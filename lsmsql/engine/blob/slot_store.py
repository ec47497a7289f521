"""SlotStore: frames in one packed data file of 512 KiB slots, found by a slot map.

**Shadow writes**: a unit that the durable map references is never written. A frame goes to free units; the map moves it there once its bytes are
durable; what it leaves goes back to the allocator once the map is, and its readers are gone (`retirement`). So a crash tears only what no map names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ...errors import CorruptionError, UsageError
from ..storage.filenames import FileKind, file_name
from ..storage.filesystem import Bytes, FileSystem
from ..storage.keyring import Keyring
from ..storage.parity import Repairs
from ..storage.random_access import RandomAccessFile
from .allocator import Allocator, holes
from .batch_read import READ_THREADS, BatchReader
from .frame_record import FRAME_ID_MAX, SLOT_BYTES, UNIT_BYTES, FrameRecord, MapChange, Place
from .frame_store import FrameStatistics, NewFrame, Read
from .preallocation import Preallocation, punch
from .retirement import Pin, Retirement
from .slot_map_log import MAP_BYTES, MAP_RATIO, SlotMapLog, read_slot_map
from .write_plan import write_plan

_PADDING = bytes(UNIT_BYTES)


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """direct: past the page cache; UsageError at opening where the file system cannot. map_bytes, map_ratio: the map is written anew when its log has
    so many bytes, and is so many times as long as the map was. preallocate: make room in the file in coarse steps. read_threads: for batches of
    which something is not in the page cache, 1 for none."""

    direct: bool = False
    map_bytes: int = MAP_BYTES
    map_ratio: int = MAP_RATIO
    preallocate: bool = True
    read_threads: int = READ_THREADS

    def __post_init__(self) -> None:
        if self.map_bytes < 1 or self.map_ratio < 0 or not 1 <= self.read_threads <= 64:
            raise UsageError(f"no store has {self}")


class SlotStore:
    """See the module, and `FrameStore` for the contract. Two epochs: writes are counted, and a sync makes durable those that it saw finished; what
    finishes meanwhile waits, with its changes of the map, for the next one.

    A failed write leaves everything as it was. After a failed sync nobody knows what the disk holds: every later write, free or sync raises OSError
    until the store is opened again. Reading goes on.
    """

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        database_id: bytes,
        keyring: Keyring | None = None,
        options: StoreOptions | None = None,
        *,
        others_read: Callable[[], bool] = lambda: False,
        repairs: Repairs | None = None,
    ) -> None:
        """Open the store in a directory whose lock the caller holds, or begin one. others_read: see `Retirement`.

        CorruptionError for a map that cannot be read, or a data file that is missing."""
        options = options or StoreOptions()
        found = read_slot_map(fs, directory, database_id, keyring, repairs)
        self.path = fs.join(directory, file_name(FileKind.BLOBS))
        self._file = _data_file(fs, self.path, bool(found.records), options.direct)
        try:
            used = [record.place for record in found.records.values()]
            # What lies behind the last frame may be another one's in a map that a reader still has, so it waits like everything that is free.
            slots = max([-(-self._file.size() // SLOT_BYTES), *(place.slot + 1 for place in used)])
            self._log = SlotMapLog(fs, directory, database_id, keyring, found, options.map_bytes, options.map_ratio)
        except BaseException:
            self._file.close()
            raise
        self._records = dict(found.records)
        self._next_id = found.next_frame_id
        self._live_units = sum(place.units for place in used)
        self._allocator = Allocator(slots)
        self._retirement = Retirement(others_read)
        self._retirement.add(holes(slots, used))
        self._preallocation = Preallocation(self._file, slots) if options.preallocate else None
        self._batches = BatchReader(self._file, options.read_threads)
        self._mutex = threading.RLock()
        self._syncing = threading.RLock()
        self._placed: dict[int, FrameRecord] = {}  # changes that are not durable yet
        self._freed: set[int] = set()
        self._left: list[Place] = []  # what these leave behind
        self._in_flight: frozenset[int] = frozenset()  # frames that a sync is just making durable
        self._write_epoch = self._sync_epoch = 0
        self._relocations = 0
        self._error: BaseException | None = None

    @property
    def reuses(self) -> int:
        return self._retirement.reuses

    def reserve(self, count: int = 1) -> int:
        with self._mutex:
            first, self._next_id = self._next_id, self._next_id + count
            if self._next_id > FRAME_ID_MAX:
                raise UsageError("the blob store has given out every frame id")
            return first

    def write(self, frames: Sequence[NewFrame]) -> None:
        with self._mutex:
            self._usable()
            self._check_new(frames)
            self._allocator.release(self._retirement.take())
            places = self._allocate(frames)
        try:
            if self._preallocation is not None:
                self._preallocation.reach(max((place.slot + 1 for place in places), default=0))
            padded: list[tuple[Place, Sequence[Bytes]]] = []
            for frame, place in zip(frames, places, strict=True):
                rest = -frame.length % UNIT_BYTES
                padded.append((place, [*frame.buffers, _PADDING[:rest]] if rest else frame.buffers))
            for offset, buffers in write_plan(padded):
                self._file.write_at(offset, buffers)
        except BaseException:
            with self._mutex:
                self._allocator.release(places)  # No map names them, whatever is in them now.
            raise
        with self._mutex:
            self._publish(frames, places)

    def _check_new(self, frames: Sequence[NewFrame]) -> None:
        for frame in frames:
            old = self._records.get(frame.frame_id)
            if not 0 < frame.frame_id < self._next_id or frame.rewrites != (old.rewrites + 1 if old else 0):
                raise UsageError(f"frame {frame.frame_id} was not reserved, or is not the next rewrite of what is there")
            if not 0 < frame.length <= SLOT_BYTES or frame.length != sum(map(len, frame.buffers)):
                raise UsageError(f"a frame has 1 to {SLOT_BYTES} bytes, not {frame.length}")
        if len({frame.frame_id for frame in frames}) != len(frames):
            raise UsageError("a frame is written twice at once")

    def _allocate(self, frames: Sequence[NewFrame]) -> list[Place]:
        places: list[Place] = []
        try:
            for frame in frames:
                places.append(self._allocator.allocate(-(-frame.length // UNIT_BYTES)))
        except BaseException:
            self._allocator.release(places)
            raise
        return places

    def _publish(self, frames: Sequence[NewFrame], places: Sequence[Place]) -> None:
        self._write_epoch += 1
        for frame, place in zip(frames, places, strict=True):
            old = self._records.get(frame.frame_id)
            record = FrameRecord(frame.frame_id, place.slot, place.unit, frame.parity, frame.length, frame.values, frame.rewrites)
            if old is not None:
                self._leave(old)
                self._relocations += 1
            self._records[frame.frame_id] = self._placed[frame.frame_id] = record
            self._live_units += place.units

    def _leave(self, record: FrameRecord) -> None:
        self._left.append(record.place)
        self._live_units -= record.units

    def free(self, frame_ids: Collection[int]) -> None:
        with self._mutex:
            self._usable()
            ids = dict.fromkeys(frame_ids)
            for record in [self.record(frame_id) for frame_id in ids]:
                self._leave(self._records.pop(record.frame_id))
                self._placed.pop(record.frame_id, None)
                if record.frame_id in self._in_flight or record.frame_id in self._log.durable.records:
                    self._freed.add(record.frame_id)

    def sync(self) -> None:
        with self._syncing:
            with self._mutex:
                self._usable()
                epoch = self._write_epoch
                change = MapChange(self._next_id, tuple(self._placed.values()), tuple(sorted(self._freed)))
                left = self._left
                self._in_flight = frozenset(self._placed)
                self._placed, self._freed, self._left = {}, set(), []
            try:
                if epoch > self._sync_epoch:
                    self._file.sync()  # Before the map says that the frames are there.
                    self._sync_epoch = epoch
                if change.placed or change.freed:
                    self._log.append(change)
                self._retirement.add(left)  # Not before: a crash would bring back a map that points at them.
                if self._log.is_long:
                    self._log.begin_generation()
            except BaseException as error:
                self._error = error
                raise
            self._in_flight = frozenset()  # They are in the durable map by now.

    def keep_only(self, frame_ids: Collection[int]) -> int:
        orphans = self._records.keys() - frame_ids
        for frame_id in frame_ids:
            self.record(frame_id)
        self.free(orphans)
        self.sync()
        return len(orphans)

    def record(self, frame_id: int) -> FrameRecord:
        try:
            return self._records[frame_id]
        except KeyError:
            raise CorruptionError(self.path, None, f"frame {frame_id} is not in the slot map") from None

    def frames(self) -> list[FrameRecord]:
        return sorted(self._records.copy().values())

    def read(self, record: FrameRecord, offset: int, size: int) -> bytes:
        return self._file.read_at(record[1] * SLOT_BYTES + record[2] * UNIT_BYTES + offset, size)  # slot, unit

    def is_cached(self, record: FrameRecord, offset: int) -> bool:
        return self._file.is_cached(record.offset + offset)

    def read_many(self, reads: Sequence[Read]) -> list[bytes]:
        return self._batches.read([(record.offset + offset, size) for record, offset, size in reads])

    def pin(self) -> Pin:
        return Pin(self._retirement)

    def punch(self, units_min: int = 1) -> int:
        with self._mutex:  # Nobody may get these units meanwhile.
            self._usable()
            self._allocator.release(self._retirement.take())
            return punch(self._file, [place for place in self._allocator.runs() if place.units >= units_min])

    def statistics(self) -> FrameStatistics:
        with self._mutex:
            waiting = self._retirement.waiting_units + sum(place.units for place in self._left)
            units = len(self._records), self._live_units * UNIT_BYTES, waiting * UNIT_BYTES, self._allocator.free_units * UNIT_BYTES
            return FrameStatistics(*units, self._file.size(), self._relocations)

    def _usable(self) -> None:
        if self._error is not None:
            self._refuse(self._error)

    def _refuse(self, error: BaseException) -> NoReturn:
        code = error.errno if isinstance(error, OSError) else None
        raise OSError(code, f"the blob store takes nothing more since a sync failed ({error!r})", self.path) from error

    def close(self) -> None:
        """Let go of the files; closing twice is allowed. Does not sync."""
        self._batches.close()
        self._file.close()
        self._log.close()


def _data_file(fs: FileSystem, path: str, needed: bool, direct: bool) -> RandomAccessFile:
    """The data file; its name becomes durable with the first snapshot of the map, which is made after it."""
    try:
        return fs.open_random(path, direct=direct)
    except FileNotFoundError:
        if needed:
            raise CorruptionError(path, None, "the blob file is missing", "restore the directory from a backup") from None
    return fs.open_random(path, create=True, direct=direct)
