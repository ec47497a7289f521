"""The blob files that an SSTable points into, and how much of each (docs/formats.md): what garbage collection goes by."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

_COUNT = struct.Struct("<I")
_FILE = struct.Struct("<QQQQ")
_FILE_ID_MAX = (1 << 63) - 1


class LinkedBlobFile(NamedTuple):
    """values: how many pointers lead into the file; raw_bytes: of those values; stored_bytes: that they take in the file."""

    file_id: int
    values: int
    raw_bytes: int
    stored_bytes: int


def pack_blob_files(files: Sequence[LinkedBlobFile]) -> bytes:
    """The raw section; ValueError, saying what, for files that `parse_blob_files` would refuse."""
    _check(files)
    return _COUNT.pack(len(files)) + b"".join(_FILE.pack(*file) for file in files)


def parse_blob_files(data: bytes) -> tuple[LinkedBlobFile, ...]:
    """The inverse of `pack_blob_files`; ValueError, saying what, for bytes that are none."""
    count = _COUNT.unpack_from(data)[0] if len(data) >= _COUNT.size else -1
    if len(data) != _COUNT.size + count * _FILE.size:
        raise ValueError("linked blob files do not fill their section")
    files = tuple(LinkedBlobFile(*fields) for fields in _FILE.iter_unpack(data[_COUNT.size :]))
    _check(files)
    return files


def _check(files: Sequence[LinkedBlobFile]) -> None:
    if not files:
        raise ValueError("no linked blob files where there should be some")
    for file in files:
        if not 0 < file.file_id <= _FILE_ID_MAX or not file.values or not all(0 <= number < 1 << 64 for number in file):
            raise ValueError(f"no table links a blob file like {file}")
    if any(before.file_id >= after.file_id for before, after in pairwise(files)):
        raise ValueError("linked blob files out of order")
