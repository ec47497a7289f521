"""FrameStore: what value frames are kept in, as little of it as they need. `slot_store` keeps them on disk, `memory_store` in a dict."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from ..storage.filesystem import Bytes
from .frame_record import FrameRecord


class NewFrame(NamedTuple):
    """A frame to be written. buffers: its bytes, in pieces; length: of all of them; the rest as in FrameRecord."""

    frame_id: int
    buffers: Sequence[Bytes]
    length: int
    values: int
    parity: int = 0
    rewrites: int = 0


class Read(NamedTuple):
    """Some bytes of a frame."""

    record: FrameRecord
    offset: int
    size: int


class FrameStatistics(NamedTuple):
    """frames: in the map; live_bytes: of their units; waiting_bytes: freed, but not to be written yet; free_bytes: to be written again, or never
    written; file_bytes: length of the file; relocations: rewrites of frames under their ids since the store was opened."""

    frames: int = 0
    live_bytes: int = 0
    waiting_bytes: int = 0
    free_bytes: int = 0
    file_bytes: int = 0
    relocations: int = 0


class FrameStore(Protocol):
    """Frames by id, each written whole and read in ranges. Any thread may call any of it.

    Two phases: what `write` and `free` do is seen at once, and survives a crash from the next `sync` on. So whoever links frames writes, syncs, and
    then makes the link durable; whoever unlinks them makes that durable, and then frees. What falls between is an orphan, which `keep_only` finds.
    """

    @property
    def path(self) -> str:
        """For messages."""
        ...

    @property
    def reuses(self) -> int:
        """Changes whenever places are about to be written again: what was looked up and read while it stayed the same is right without a pin."""
        ...

    def reserve(self, count: int = 1) -> int:
        """The first of `count` consecutive frame ids that nobody else gets."""
        ...

    def write(self, frames: Sequence[NewFrame]) -> None:
        """Write frames, all or, after an OSError, none. One under an id that is in use takes its place, and must say one rewrite more."""
        ...

    def record(self, frame_id: int) -> FrameRecord:
        """What is known of a frame; CorruptionError if there is none. It may be read for as long as a pin is held that was there before."""
        ...

    def frames(self) -> list[FrameRecord]:
        """All of them."""
        ...

    def read(self, record: FrameRecord, offset: int, size: int) -> bytes:
        """Bytes of a frame as they are on disk, checked by nobody; fewer than asked for only where the file ends."""
        ...

    def is_cached(self, record: FrameRecord, offset: int) -> bool:
        """Whether reading there would not wait for the disk, as far as anybody can tell."""
        ...

    def read_many(self, reads: Sequence[Read]) -> list[bytes]:
        """As `read`, several at a time: for reads that wait for the disk."""
        ...

    def pin(self) -> AbstractContextManager[object]:
        """While it is held, no place that was looked up under it is written."""
        ...

    def free(self, frame_ids: Collection[int]) -> None:
        """These are no more. CorruptionError, and nothing is freed, if one is not there."""
        ...

    def sync(self) -> None:
        """Make all that was written and freed before this call survive a crash: first the frames, then the map that says where they are."""
        ...

    def keep_only(self, frame_ids: Collection[int]) -> int:
        """After a crash: free every frame but these, durably, and say how many. CorruptionError if one of these is not there."""
        ...

    def punch(self, units_min: int = 1) -> int:
        """Give free runs of at least so many units back to the file system; how many bytes that were. 0 where it cannot."""
        ...

    def statistics(self) -> FrameStatistics: ...

    def close(self) -> None: ...
