"""Tagged fields: a version byte, then (u8 tag, u32 length, bytes) again and again; edits, snapshots and SSTable properties are such."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping

_FIELD = struct.Struct("<BI")
_NUMBER = struct.Struct("<Q")


def pack_fields(version: int, fields: Iterable[tuple[int, bytes]]) -> bytes:
    parts = [bytes((version,))]
    for tag, content in fields:
        parts.append(_FIELD.pack(tag, len(content)))
        parts.append(content)
    return b"".join(parts)


def unpack_fields(data: bytes, version: int) -> list[tuple[int, bytes]]:
    """(tag, content) in their order; ValueError when the bytes are not whole fields of that version."""
    if not data or data[0] != version:
        raise ValueError(f"format version {data[0] if data else 'missing'} is unknown")
    fields = []
    position = 1
    while position < len(data):
        if len(data) - position < _FIELD.size:
            raise ValueError(f"field header cut short at byte {position}")
        tag, length = _FIELD.unpack_from(data, position)
        position += _FIELD.size
        if length > len(data) - position:
            raise ValueError(f"field {tag} of {length} bytes runs past the end")
        fields.append((tag, data[position : position + length]))
        position += length
    return fields


def unpack_single(data: bytes, version: int, tags: Mapping[int, str], optional: Collection[str] = ()) -> dict[str, bytes]:
    """The fields by name; ValueError unless each of `tags` (tag -> name) is there exactly once, those in `optional` at most once, and nothing
    else."""
    found: dict[str, bytes] = {}
    for tag, content in unpack_fields(data, version):
        name = tags.get(tag)
        if name is None or name in found:
            raise ValueError(f"field {tag} is unknown" if name is None else f"field {name} stands twice")
        found[name] = content
    if missing := set(tags.values()) - set(found) - set(optional):
        raise ValueError(f"fields are missing: {', '.join(sorted(missing))}")
    return found


def pack_number(number: int) -> bytes:
    return _NUMBER.pack(number)


def unpack_number(content: bytes) -> int:
    if len(content) != _NUMBER.size:
        raise ValueError(f"a number takes {_NUMBER.size} bytes, not {len(content)}")
    return int(_NUMBER.unpack(content)[0])


def pack_numbers(numbers: Iterable[int]) -> bytes:
    return b"".join(map(_NUMBER.pack, numbers))


def unpack_numbers(content: bytes) -> tuple[int, ...]:
    if len(content) % _NUMBER.size:
        raise ValueError(f"{len(content)} bytes are not whole numbers")
    return tuple(number for (number,) in _NUMBER.iter_unpack(content))
