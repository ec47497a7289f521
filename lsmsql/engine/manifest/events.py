"""Edits and whole versions as bytes: tagged fields (docs/formats.md, "Version edit").

    1 table added: u64 file id, u32 tree id, u8 level, u64 size, entries, tombstones, min seqno, max seqno, global seqno,
      u16 length of the smallest key, then the smallest and the largest key
    2 table removed u64   3 WAL added u64   4 WAL removed u64   5 tree created: u32 id, name   6 tree dropped u32
    7 snapshot set: u64 seqno, name   8 snapshot released: name   9 floor u64   10 next file id u64   11 last seqno u64
    15 WAL synced: u64 file id, u64 bytes   16 seqno of the last prepared commit that was committed u64
    17 schema of a tree: u32 id, text

A whole version is the edit that makes it from nothing, and 12 next tree id u64, 13 edit number u64, 14 options text.
Tags 1 to 8 and 17 may repeat, the others stand once at most. Names and texts are UTF-8.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

from .table_record import TableRecord
from .tagged_fields import pack_fields, pack_number, pack_numbers, unpack_fields, unpack_number, unpack_numbers
from .version import FILE_ID_MAX, Version
from .version_edit import VersionEdit

EDIT_FORMAT = 1

_TABLE = struct.Struct("<QIBQQQQQQH")
_TREE = struct.Struct("<I")
_SEQNO = struct.Struct("<Q")

_ADDED, _REMOVED, _WAL_ADDED, _WAL_REMOVED, _TREE_CREATED, _TREE_DROPPED, _SNAPSHOT_SET, _SNAPSHOT_RELEASED = range(1, 9)
_FLOOR, _NEXT_FILE_ID, _LAST_SEQNO, _NEXT_TREE_ID, _NUMBER, _OPTIONS, _WAL_SYNCED, _HOST_SEQNO = range(9, 17)
_SCHEMA_SET = 17

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
}
_ONCE = {
    _FLOOR: "floor",
    _NEXT_FILE_ID: "next_file_id",
    _LAST_SEQNO: "last_seqno",
    _WAL_SYNCED: "wal_synced",
    _HOST_SEQNO: "host_seqno",
}
_OF_VERSIONS = {_NEXT_TREE_ID: "next_tree_id", _NUMBER: "number", _OPTIONS: "options"}


def encode_edit(edit: VersionEdit) -> bytes:
    return pack_fields(EDIT_FORMAT, _fields(edit))


def decode_edit(data: bytes) -> VersionEdit:
    """The edit that `encode_edit` encoded; ValueError, saying what, for bytes that are none."""
    values, _ = _values(data, {})
    return VersionEdit(**values)


def encode_version(version: Version, options_text: str) -> bytes:
    """A whole version and the options text."""
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
    )
    fields = [*_fields(edit), (_NEXT_TREE_ID, pack_number(version.next_tree_id)), (_NUMBER, pack_number(version.number))]
    return pack_fields(EDIT_FORMAT, [*fields, (_OPTIONS, options_text.encode("utf-8"))])


def decode_version(data: bytes) -> tuple[Version, str]:
    """The inverse of `encode_version`, with every check that applying an edit makes; ValueError, saying what, for damaged bytes."""
    values, extra = _values(data, _OF_VERSIONS)
    if missing := set(_OF_VERSIONS.values()) - set(extra):
        raise ValueError(f"fields are missing: {', '.join(sorted(missing))}")
    version = Version().apply(VersionEdit(**values))
    next_tree_id = unpack_number(extra["next_tree_id"])
    if next_tree_id < version.next_tree_id:
        raise ValueError(f"next tree id {next_tree_id} is in use")
    number = unpack_number(extra["number"])
    if number > FILE_ID_MAX or version.next_file_id > FILE_ID_MAX // 2:  # Room to go on counting from.
        raise ValueError(f"impossible edit number {number} or next file id {version.next_file_id}")
    version = replace(version, next_tree_id=next_tree_id, number=number)
    return version, extra["options"].decode("utf-8")


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
    for tag, name in _ONCE.items():
        if (value := getattr(edit, name)) is not None:
            fields.append((tag, pack_numbers(value) if tag == _WAL_SYNCED else pack_number(value)))
    return fields


def _values(data: bytes, others: dict[int, str]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The attributes of an edit by name, and the content of the fields in `others` by name."""
    many: dict[str, list[Any]] = {}
    once: dict[str, Any] = {}
    extra: dict[str, bytes] = {}
    for tag, content in unpack_fields(data, EDIT_FORMAT):
        if tag in _MANY:
            many.setdefault(_MANY[tag], []).append(_unpack(tag, content))
            continue
        name = _ONCE.get(tag) or others.get(tag)
        if name is None or name in once or name in extra:
            raise ValueError(f"field {tag} is unknown" if name is None else f"field {name} stands twice")
        if tag in others:
            extra[name] = content
        else:
            once[name] = _unpack_synced(content) if tag == _WAL_SYNCED else unpack_number(content)
    return {**{name: tuple(values) for name, values in many.items()}, **once}, extra


def _unpack(tag: int, content: bytes) -> Any:
    if tag == _ADDED:
        return _unpack_table(content)
    if tag == _TREE_DROPPED:
        if len(content) != _TREE.size:
            raise ValueError(f"a tree id takes {_TREE.size} bytes, not {len(content)}")
        return _TREE.unpack(content)[0]
    if tag in (_TREE_CREATED, _SCHEMA_SET, _SNAPSHOT_SET):
        number = _SEQNO if tag == _SNAPSHOT_SET else _TREE
        if len(content) < number.size:
            raise ValueError(f"field {tag} of {len(content)} bytes is too short")
        name = content[number.size :].decode("utf-8")
        return (name, number.unpack_from(content)[0]) if tag == _SNAPSHOT_SET else (number.unpack_from(content)[0], name)
    return content.decode("utf-8") if tag == _SNAPSHOT_RELEASED else unpack_number(content)


def _unpack_synced(content: bytes) -> tuple[int, int]:
    if len(numbers := unpack_numbers(content)) != 2:
        raise ValueError(f"what was synced of a WAL takes 16 bytes, not {len(content)}")
    return numbers[0], numbers[1]


def _pack_table(table: TableRecord) -> bytes:
    fixed = _TABLE.pack(
        table.file_id,
        table.tree_id,
        table.level,
        table.size,
        table.entries,
        table.tombstones,
        table.min_seqno,
        table.max_seqno,
        table.global_seqno,
        len(table.smallest),
    )
    return fixed + table.smallest + table.largest


def _unpack_table(content: bytes) -> TableRecord:
    if len(content) < _TABLE.size:
        raise ValueError(f"a table record of {len(content)} bytes is too short")
    file_id, tree_id, level, size, entries, tombstones, min_seqno, max_seqno, global_seqno, length = _TABLE.unpack_from(content)
    if length > len(content) - _TABLE.size:
        raise ValueError("a table record's key runs past its end")
    middle = _TABLE.size + length
    smallest, largest = content[_TABLE.size : middle], content[middle:]
    return TableRecord(file_id, tree_id, level, size, entries, tombstones, smallest, largest, min_seqno, max_seqno, global_seqno)
