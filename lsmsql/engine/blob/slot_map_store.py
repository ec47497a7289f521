"""SlotMapStore: the frames that a slot map names, for reading only, beside the process that writes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NoReturn

from ...errors import CorruptionError, UsageError
from ..storage.filesystem import File
from .frame_record import UNIT_BYTES, FrameRecord
from .frame_store import FrameStatistics, NewFrame, Read

_NO_WRITING = "the blob store is open for reading only"


class SlotMapStore:
    """See `FrameStore`: the frames of one moment. file: the blob file, which stays the caller's; None where there are no frames."""

    reuses = 0  # Whoever writes reuses nothing meanwhile.

    def __init__(self, path: str, file: File | None, records: Mapping[int, FrameRecord]) -> None:
        self.path = path
        self._file = file
        self._records = records

    def record(self, frame_id: int) -> FrameRecord:
        try:
            return self._records[frame_id]
        except KeyError:
            raise CorruptionError(self.path, None, f"frame {frame_id} is not in the slot map") from None

    def frames(self) -> list[FrameRecord]:
        return sorted(self._records.values())

    def read(self, record: FrameRecord, offset: int, size: int) -> bytes:
        assert self._file is not None
        return self._file.read_at(record.offset + offset, size)

    def is_cached(self, record: FrameRecord, offset: int) -> bool:
        return True

    def read_many(self, reads: Sequence[Read]) -> list[bytes]:
        return [self.read(*read) for read in reads]

    def pin(self) -> AbstractContextManager[object]:
        return nullcontext()

    def statistics(self) -> FrameStatistics:
        units = sum(record.units for record in self._records.values())
        return FrameStatistics(len(self._records), units * UNIT_BYTES, file_bytes=self._file.size() if self._file is not None else 0)

    def close(self) -> None:
        """Nothing is its own."""

    # What only a writer does

    def _refuse(self) -> NoReturn:
        raise UsageError(_NO_WRITING)

    def reserve(self, count: int = 1) -> int:
        self._refuse()

    def write(self, frames: Sequence[NewFrame]) -> None:
        self._refuse()

    def free(self, frame_ids: Collection[int]) -> None:
        self._refuse()

    def sync(self) -> None:
        self._refuse()

    def keep_only(self, frame_ids: Collection[int]) -> int:
        self._refuse()

    def punch(self, units_min: int = 1) -> int:
        self._refuse()
