"""Which frames are worth writing again, and doing it: under the same id and ordinals, without the values that nobody points at any more.

What is dead only the caller knows: compaction counts it, in the same edit that drops the last pointer to a value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from ...parity_scheme import ParityScheme
from ..storage.encryption import FileCipher
from .frame_reader import FrameReader
from .frame_store import FrameStore, NewFrame
from .value_frame import VALUE_SECTION, Stored, pack_frame


class FrameUsage(NamedTuple):
    """What of a frame is alive. stored_bytes, values: of all its pointers ever; dead_bytes, dead_values: of those that were dropped, counted since
    the frame was last rewritten or before, all the same."""

    frame_id: int
    values: int
    stored_bytes: int
    dead_values: int
    dead_bytes: int


class Choice(NamedTuple):
    """free: frames without a live value; relocate: frames to be rewritten, those that give the most back for a byte written first."""

    free: tuple[int, ...]
    relocate: tuple[int, ...]


def frames_below(live_share: float, usages: Iterable[FrameUsage], relocate_bytes: int | None = None) -> Choice:
    """What garbage collection should do. live_share: frames with less of their stored bytes alive are relocated; relocate_bytes: at most so many
    live bytes are, if there is anything to relocate at least one frame."""
    free: list[int] = []
    poor: list[tuple[float, int, int]] = []
    for usage in usages:
        live = max(0, usage.stored_bytes - usage.dead_bytes)
        if usage.dead_values >= usage.values:
            free.append(usage.frame_id)
        elif usage.dead_values and live < live_share * usage.stored_bytes:
            poor.append((live / usage.stored_bytes, usage.frame_id, live))
    chosen: list[int] = []
    budget = relocate_bytes
    for _, frame_id, live in sorted(poor):
        if budget is not None:
            if chosen and live > budget:
                break
            budget -= live
        chosen.append(frame_id)
    return Choice(tuple(sorted(free)), tuple(chosen))


def rewritten(
    store: FrameStore, reader: FrameReader, frame_id: int, dead: Collection[int], database_id: bytes, cipher: FileCipher | None
) -> NewFrame | None:
    """The frame as it should be written again, None if nothing in it would be left. Under a pin of the store.

    dead: ordinals without any retained version; those left out before may be among them or not. Every value that stays is verified first, if need be
    repaired, and encrypted anew where its key epoch is not the cipher's. CorruptionError if one cannot be read.
    """
    record = store.record(frame_id)
    values: list[Stored | None] = []
    located_frame = cipher.of_frame(frame_id) if cipher is not None else None
    dictionary = 0
    for ordinal in range(record.values):
        located = None if ordinal in dead else reader.find(frame_id, ordinal)
        if located is None:
            values.append(None)
            continue
        entry = located.entry
        data = reader.stored(located, store.read(record, entry.offset, entry.stored_length))
        dictionary = located.directory.dictionary
        epoch = entry.epoch
        if cipher is not None and located_frame is not None and epoch != cipher.epoch:
            its_dictionary = located.dictionary_id
            data = located_frame.seal(VALUE_SECTION, ordinal, entry.codec, its_dictionary, reader.opened(located, data))
            epoch = cipher.epoch
        values.append(Stored(data, entry.raw_length, entry.codec, epoch))
    if not any(value is not None for value in values):
        return None
    return pack_frame(frame_id, database_id, values, ParityScheme.of_code(record.parity), dictionary, record.rewrites + 1)
