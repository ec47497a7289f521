"""Which frames an SSTable's pointers lead into, and how much of each: what its section of linked frames says, and garbage collection goes by."""

from __future__ import annotations

from typing import NamedTuple

from .pointer import POINTER_BYTES, parse_pointer


class Link(NamedTuple):
    """values: how many pointers lead into the frame; raw_bytes, stored_bytes: of what they lead to. A value in several frames is one in each, and
    its stored bytes are shared out evenly."""

    frame_id: int
    values: int
    raw_bytes: int
    stored_bytes: int


def links_of(pointers: bytes) -> tuple[Link, ...]:
    """Of pointers one behind the other; ascending. ValueError where one is none."""
    found: dict[int, list[int]] = {}
    for at in range(0, len(pointers), POINTER_BYTES):
        pointer = parse_pointer(pointers[at : at + POINTER_BYTES])
        frames = pointer.frames
        for number, frame_id in enumerate(frames):
            link = found.setdefault(frame_id, [0, 0, 0])
            link[0] += 1
            link[1] += min(pointer.stretch, pointer.raw_length - number * pointer.stretch) if pointer.stretch else pointer.raw_length
            link[2] += pointer.stored_length // len(frames) + (number < pointer.stored_length % len(frames))
    return tuple(Link(frame_id, *link) for frame_id, link in sorted(found.items()))
