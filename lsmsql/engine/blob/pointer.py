"""BlobPointer: what an SSTable holds in place of a value. It never changes: not where a frame lies, nor what else is in it, is part of it.

24 bytes (docs/formats.md, "Blob pointer"): u64 frame id, u32 ordinal, u32 raw length, u32 stored length, u32 stretch.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..storage.filesystem import Bytes
from .frame_record import FRAME_ID_MAX

_FIELDS = struct.Struct("<QIIII")
POINTER_BYTES = _FIELDS.size
VALUE_BYTES_MAX = 1_000_000_000


class BlobPointer(NamedTuple):
    """frame_id, ordinal: of the value, or of its first stretch; raw_length: of the value; stored_length: of it, compressed and encrypted, in all its
    frames: what is dead when the pointer is dropped. stretch: 0 for a value in one frame; else it is cut into stretches of so many bytes (the
    last one shorter), the n-th of which is value 0 of frame frame_id + n."""

    frame_id: int
    ordinal: int
    raw_length: int
    stored_length: int
    stretch: int = 0

    @property
    def frames(self) -> range:
        """The ids of all frames that hold some of the value."""
        return range(self.frame_id, self.frame_id + (-(-self.raw_length // self.stretch) if self.stretch else 1))

    def pack(self) -> bytes:
        return _FIELDS.pack(*self)


def parse_pointer(data: Bytes) -> BlobPointer:
    """The inverse of `BlobPointer.pack`; ValueError for bytes that are none."""
    if len(data) != POINTER_BYTES:
        raise ValueError(f"a blob pointer has {POINTER_BYTES} bytes, not {len(data)}")
    pointer = BlobPointer(*_FIELDS.unpack(data))
    cut = pointer.stretch and (pointer.ordinal or pointer.raw_length <= pointer.stretch)
    if not pointer.frame_id or cut or pointer.raw_length > VALUE_BYTES_MAX or pointer.frames.stop > FRAME_ID_MAX:
        raise ValueError(f"no value is pointed to by {pointer}")
    return pointer
