"""MemoryStore: frames in a dict, with the same two phases as on disk. What the tests hold the slot store against."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext

from ...errors import CorruptionError, UsageError
from .frame_record import SLOT_BYTES, UNIT_BYTES, FrameRecord
from .frame_store import FrameStatistics, NewFrame, Read


class MemoryStore:
    """See `FrameStore`. Every frame has a slot of its own, numbered in the order of writing. One thread at a time.

    durable: what a crash leaves, for `crashed`.
    """

    path = ":memory:"
    reuses = 0

    def __init__(self, frames: dict[int, tuple[FrameRecord, bytes]] | None = None, next_id: int = 1) -> None:
        self._frames = dict(frames or {})
        self.durable = dict(self._frames)
        self._next_id = next_id
        self._slots = len(self._frames)
        self._images: dict[FrameRecord, bytes] = dict(self._frames.values())
        self._relocations = 0

    def crashed(self) -> MemoryStore:
        """The store as it is found after a crash."""
        return MemoryStore(self.durable, self._next_id)

    def reserve(self, count: int = 1) -> int:
        first, self._next_id = self._next_id, self._next_id + count
        return first

    def write(self, frames: Sequence[NewFrame]) -> None:
        for frame in frames:
            old = self._frames.get(frame.frame_id)
            data = b"".join(frame.buffers)
            if not 0 < frame.frame_id < self._next_id or frame.rewrites != (old[0].rewrites + 1 if old else 0):
                raise UsageError(f"frame {frame.frame_id} was not reserved, or is not the next rewrite of what is there")
            if not 0 < frame.length <= SLOT_BYTES or frame.length != len(data):
                raise UsageError(f"a frame has 1 to {SLOT_BYTES} bytes, not {frame.length}")
            record = FrameRecord(frame.frame_id, self._slots, 0, frame.parity, frame.length, frame.values, frame.rewrites)
            self._slots += 1
            self._relocations += old is not None
            self._frames[frame.frame_id] = record, data
            self._images[record] = data

    def record(self, frame_id: int) -> FrameRecord:
        try:
            return self._frames[frame_id][0]
        except KeyError:
            raise CorruptionError(self.path, None, f"frame {frame_id} is not in the slot map") from None

    def frames(self) -> list[FrameRecord]:
        return sorted(record for record, _ in self._frames.values())

    def read(self, record: FrameRecord, offset: int, size: int) -> bytes:
        return self._images[record][offset : offset + size]

    def is_cached(self, record: FrameRecord, offset: int) -> bool:
        return True

    def read_many(self, reads: Sequence[Read]) -> list[bytes]:
        return [self.read(*read) for read in reads]

    def pin(self) -> AbstractContextManager[object]:
        return nullcontext()

    def free(self, frame_ids: Collection[int]) -> None:
        for record in [self.record(frame_id) for frame_id in frame_ids]:
            self._frames.pop(record.frame_id, None)

    def sync(self) -> None:
        self.durable = dict(self._frames)

    def keep_only(self, frame_ids: Collection[int]) -> int:
        for frame_id in frame_ids:
            self.record(frame_id)
        orphans = self._frames.keys() - frame_ids
        self.free(orphans)
        self.sync()
        return len(orphans)

    def punch(self, units_min: int = 1) -> int:
        return 0

    def statistics(self) -> FrameStatistics:
        live = sum(record.units for record, _ in self._frames.values()) * UNIT_BYTES
        return FrameStatistics(len(self._frames), live, 0, 0, live, self._relocations)

    def close(self) -> None:
        pass
