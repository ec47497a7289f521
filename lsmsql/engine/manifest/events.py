"""Edits and whole versions as bytes: tagged fields (docs/formats.md, "Version edit").

    1 table added: u64 file id, u32 tree id, u8 level, u64 run, u64 size, entries, tombstones, min seqno, max seqno, global seqno, 16B checksum,
      u16 length of the smallest key, then the smallest and the largest key
    2 table removed u64   3 WAL added u64   4 WAL removed u64   5 tree created: u32 id, name   6 tree dropped u32
    7 snapshot set: u64 seqno, name   8 snapshot released: name   9 floor u64   10 next file id u64   11 last seqno u64
    15 WAL synced: u64 file id, u64 bytes   16 seqno of the last prepared commit that was committed u64
    17 schema of a tree: u32 id, text   18 time points: (u64 seqno, u64 microseconds) each   19 dictionary added: u32 tree id, u32 id, u32 bytes
    20 dictionary retired: u32 tree id, u32 id   21 statistics of a blob file: u64 file id, values, raw, stored bytes, dead values, dead bytes
    22 blob file removed u64

A whole version is the edit that makes it from nothing, and 12 next tree id u64, 13 edit number u64, cut into the sections of an archive by what
the fields are about. Tags 1 to 8 and from 17 on, but for 18, may repeat, the others stand once at most. Names and texts are UTF-8.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Mapping
from dataclasses import astuple, replace
from itertools import pairwise
from typing import Any

from .table_record import TableRecord
from .tagged_fields import pack_fields, pack_number, pack_numbers, unpack_fields, unpack_number, unpack_numbers
from .version import Version
from .version_edit import BlobStatistics, VersionEdit

EDIT_FORMAT = 2

_TABLE = struct.Struct("<QIBQQQQQQQ16sH")
_TREE = struct.Struct("<I")
_SEQNO = struct.Struct("<Q")
_DICTIONARY = struct.Struct("<III")
_DICTIONARY_PLACE = struct.Struct("<II")
_BLOB = struct.Struct("<6Q")

_ADDED, _REMOVED, _WAL_ADDED, _WAL_REMOVED, _TREE_CREATED, _TREE_DROPPED, _SNAPSHOT_SET, _SNAPSHOT_RELEASED = range(1, 9)
_FLOOR, _NEXT_FILE_ID, _LAST_SEQNO, _NEXT_TREE_ID, _NUMBER, _, _WAL_SYNCED, _HOST_SEQNO = range(9, 17)
_SCHEMA_SET, _TIMES, _DICTIONARY_ADDED, _DICTIONARY_RETIRED, _BLOB_SET, _BLOB_REMOVED = range(17, 23)

_MANY = {
    _ADDED: "added",
    _REMOVED: "removed",
    _WAL_ADDED: "wals_added",
    _WAL_REMOVED: "wals_removed",
    _TREE_CREATED: "trees_created",
    _SCHEMA_SET: "schemas_set",
    _TREE_DROPPED: "trees_dropped",
    _SNAPSHOT_SET: "snapshots_set",
    _SNAPSHOT_RELEASED: "snapshots_released",
    _DICTIONARY_ADDED: "dictionaries_added",
    _DICTIONARY_RETIRED: "dictionaries_retired",
    _BLOB_SET: "blobs_set",
    _BLOB_REMOVED: "blobs_removed",
}
_ONCE = {
    _FLOOR: "floor",
    _NEXT_FILE_ID: "next_file_id",
    _LAST_SEQNO: "last_seqno",
    _WAL_SYNCED: "wal_synced",
    _HOST_SEQNO: "host_seqno",
    _TIMES: "times",
}
_OF_VERSIONS = {_NEXT_TREE_ID: "next_tree_id", _NUMBER: "number"}

_OPTIONS = "options"
_SECTIONS = {
    "counters": {_FLOOR, _NEXT_FILE_ID, _LAST_SEQNO, _HOST_SEQNO, *_OF_VERSIONS},
    "wals": {_WAL_ADDED, _WAL_SYNCED},
    "trees": {_TREE_CREATED, _SCHEMA_SET},
    "tables": {_ADDED},
    "blobs": {_BLOB_SET},
    "dictionaries": {_DICTIONARY_ADDED},
    "snapshots": {_SNAPSHOT_SET},
    "times": {_TIMES},
}
"""Of a whole version: which tags stand in which section. Beside them is one with the text of the options."""


def encode_edit(edit: VersionEdit) -> bytes:
    return pack_fields(EDIT_FORMAT, _fields(edit))


def decode_edit(data: bytes) -> VersionEdit:
    """The edit that `encode_edit` encoded; ValueError, saying what, for bytes that are none."""
    values, _ = _values(data, {})
    return VersionEdit(**values)


def version_sections(version: Version, options_text: str) -> dict[str, bytes]:
    """A whole version and the options text, as the sections of an archive."""
    edit = VersionEdit(
        added=tuple(version.tables()),
        wals_added=version.wals,
        trees_created=tuple(sorted(version.trees.items())),
        schemas_set=tuple(sorted(version.schemas.items())),
        snapshots_set=tuple(sorted(version.snapshots.items())),
        floor=version.floor,
        next_file_id=version.next_file_id,
        last_seqno=version.last_seqno,
        wal_synced=version.wal_synced,
        host_seqno=version.host_seqno,
        blobs_set=tuple(blob for _, blob in sorted(version.blobs.items())),
        dictionaries_added=tuple((*place, size) for place, size in sorted(version.dictionaries.items())),
        times=version.times,
    )
    fields = [*_fields(edit), (_NEXT_TREE_ID, pack_number(version.next_tree_id)), (_NUMBER, pack_number(version.number))]
    sections = {name: [field for field in fields if field[0] in tags] for name, tags in _SECTIONS.items()}
    packed = {name: pack_fields(EDIT_FORMAT, found) if found else b"" for name, found in sections.items()}  # Nothing costs no frame.
    return {**packed, _OPTIONS: options_text.encode("utf-8")}


def version_from(sections: Mapping[str, bytes]) -> tuple[Version, str]:
    """The inverse of `version_sections`, with every check that applying an edit makes; ValueError, saying what, for damaged bytes."""
    if sections.keys() != {*_SECTIONS, _OPTIONS}:
        raise ValueError(f"the sections are {', '.join(sections)}; they should be {', '.join((*_SECTIONS, _OPTIONS))}")
    values: dict[str, Any] = {}
    extra: dict[str, bytes] = {}
    for name, tags in _SECTIONS.items():
        found, others = _values(sections[name], _OF_VERSIONS, tags) if sections[name] else ({}, {})
        values |= found
        extra |= others
    if missing := set(_OF_VERSIONS.values()) - set(extra):
        raise ValueError(f"fields are missing: {', '.join(sorted(missing))}")
    times = values.pop("times", ())
    version = Version().apply(VersionEdit(**values))
    next_tree_id = unpack_number(extra["next_tree_id"])
    if next_tree_id < version.next_tree_id:
        raise ValueError(f"next tree id {next_tree_id} is in use")
    number = unpack_number(extra["number"])
    if any(left >= right for left, right in pairwise(times)):
        raise ValueError("the time points do not ascend")
    version = replace(version, next_tree_id=next_tree_id, number=number, times=times)
    version.require_room()
    return version, sections[_OPTIONS].decode("utf-8")


def _fields(edit: VersionEdit) -> list[tuple[int, bytes]]:
    fields = [(_REMOVED, pack_number(file_id)) for file_id in edit.removed]
    fields += [(_ADDED, _pack_table(table)) for table in edit.added]
    fields += [(_WAL_ADDED, pack_number(file_id)) for file_id in edit.wals_added]
    fields += [(_WAL_REMOVED, pack_number(file_id)) for file_id in edit.wals_removed]
    fields += [(_TREE_CREATED, _TREE.pack(tree_id) + name.encode("utf-8")) for tree_id, name in edit.trees_created]
    fields += [(_SCHEMA_SET, _TREE.pack(tree_id) + text.encode("utf-8")) for tree_id, text in edit.schemas_set]
    fields += [(_TREE_DROPPED, _TREE.pack(tree_id)) for tree_id in edit.trees_dropped]
    fields += [(_SNAPSHOT_SET, _SEQNO.pack(seqno) + name.encode("utf-8")) for name, seqno in edit.snapshots_set]
    fields += [(_SNAPSHOT_RELEASED, name.encode("utf-8")) for name in edit.snapshots_released]
    fields += [(_DICTIONARY_ADDED, _DICTIONARY.pack(*dictionary)) for dictionary in edit.dictionaries_added]
    fields += [(_DICTIONARY_RETIRED, _DICTIONARY_PLACE.pack(*place)) for place in edit.dictionaries_retired]
    fields += [(_BLOB_SET, pack_numbers(astuple(blob))) for blob in edit.blobs_set]
    fields += [(_BLOB_REMOVED, pack_number(file_id)) for file_id in edit.blobs_removed]
    for tag, name in _ONCE.items():
        value = getattr(edit, name)
        if tag == _TIMES:
            if value:
                fields.append((tag, pack_numbers(number for point in value for number in point)))
        elif value is not None:
            fields.append((tag, pack_numbers(value) if tag == _WAL_SYNCED else pack_number(value)))
    return fields


def _values(data: bytes, others: dict[int, str], tags: Container[int] = range(1, 23)) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The attributes of an edit by name, and the content of the fields in `others` by name. tags: those that may stand here."""
    many: dict[str, list[Any]] = {}
    once: dict[str, Any] = {}
    extra: dict[str, bytes] = {}
    for tag, content in unpack_fields(data, EDIT_FORMAT):
        if tag in _MANY and tag in tags:
            many.setdefault(_MANY[tag], []).append(_unpack(tag, content))
            continue
        name = _ONCE.get(tag) or others.get(tag)
        if name is None or tag not in tags or name in once or name in extra:
            raise ValueError(f"field {tag} is unknown" if name is None else f"field {name} stands twice")
        if tag in others:
            extra[name] = content
        else:
            once[name] = _ONCE_PARSERS.get(tag, unpack_number)(content)
    return {**{name: tuple(values) for name, values in many.items()}, **once}, extra


def _unpack(tag: int, content: bytes) -> Any:
    if tag in (_TREE_CREATED, _SCHEMA_SET, _SNAPSHOT_SET):
        number = _SEQNO if tag == _SNAPSHOT_SET else _TREE
        if len(content) < number.size:
            raise ValueError(f"field {tag} of {len(content)} bytes is too short")
        name = content[number.size :].decode("utf-8")
        return (name, number.unpack_from(content)[0]) if tag == _SNAPSHOT_SET else (number.unpack_from(content)[0], name)
    return _MANY_PARSERS.get(tag, unpack_number)(content)


def _exactly(fixed: struct.Struct, what: str) -> Callable[[bytes], tuple[Any, ...]]:
    """A parser of fields of one size."""

    def unpack(content: bytes) -> tuple[Any, ...]:
        if len(content) != fixed.size:
            raise ValueError(f"{what} takes {fixed.size} bytes, not {len(content)}")
        return fixed.unpack(content)

    return unpack


def _unpack_synced(content: bytes) -> tuple[int, int]:
    if len(numbers := unpack_numbers(content)) != 2:
        raise ValueError(f"what was synced of a WAL takes 16 bytes, not {len(content)}")
    return numbers[0], numbers[1]


def _unpack_times(content: bytes) -> tuple[tuple[int, int], ...]:
    numbers = unpack_numbers(content)
    if len(numbers) % 2:
        raise ValueError("a time point is cut short")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _pack_table(table: TableRecord) -> bytes:
    fixed = _TABLE.pack(
        table.file_id,
        table.tree_id,
        table.level,
        table.run,
        table.size,
        table.entries,
        table.tombstones,
        table.min_seqno,
        table.max_seqno,
        table.global_seqno,
        table.checksum,
        len(table.smallest),
    )
    return fixed + table.smallest + table.largest


def _unpack_table(content: bytes) -> TableRecord:
    if len(content) < _TABLE.size:
        raise ValueError(f"a table record of {len(content)} bytes is too short")
    file_id, tree_id, level, run, size, entries, tombstones, min_seqno, max_seqno, global_seqno, checksum, length = _TABLE.unpack_from(content)
    if length > len(content) - _TABLE.size:
        raise ValueError("a table record's key runs past its end")
    middle = _TABLE.size + length
    smallest, largest = content[_TABLE.size : middle], content[middle:]
    return TableRecord(file_id, tree_id, level, size, entries, tombstones, smallest, largest, min_seqno, max_seqno, global_seqno, run, checksum)


_MANY_PARSERS: dict[int, Callable[[bytes], Any]] = {
    _ADDED: _unpack_table,
    _TREE_DROPPED: lambda content: _exactly(_TREE, "a tree id")(content)[0],
    _SNAPSHOT_RELEASED: lambda content: content.decode("utf-8"),
    _DICTIONARY_ADDED: _exactly(_DICTIONARY, "a dictionary of a tree"),
    _DICTIONARY_RETIRED: _exactly(_DICTIONARY_PLACE, "a dictionary of a tree"),
    _BLOB_SET: lambda content: BlobStatistics(*_exactly(_BLOB, "a blob file")(content)),
}
_ONCE_PARSERS: dict[int, Callable[[bytes], Any]] = {_WAL_SYNCED: _unpack_synced, _TIMES: _unpack_times}
