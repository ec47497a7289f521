"""The names of the files in a database directory: kind and number <-> name (docs/formats.md, "The directory")."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from ...errors import UsageError


class FileKind(Enum):
    """Every kind of file in a database directory; the value is its name, or the pattern of it."""

    LOCK = "LOCK"
    READERS = "READERS"
    KEYS = "KEYS"
    CURRENT = "CURRENT"
    OPTIONS = "OPTIONS"
    MANIFEST = "manifest-{:06d}"
    EVENT_LOG = "events-{:06d}"
    WAL = "{:06d}.wal"
    SSTABLE = "{:06d}.sst"
    BLOBS = "BLOBS"
    SLOT_MAP = "slots-{:06d}"
    SLOT_LOG = "slotlog-{:06d}"
    TEMPORARY = "{}.tmp"

    @property
    def numbered(self) -> bool:
        return "{:" in self.value


class FileName(NamedTuple):
    """A parsed name. number: the file id or generation, 0 for the kinds that have none."""

    kind: FileKind
    number: int


FILE_NUMBER_MAX = (1 << 64) - 1

_SINGLE = {kind.value: FileName(kind, 0) for kind in FileKind if "{" not in kind.value}
_NUMBERED = {kind.value.replace("{:06d}", "#"): kind for kind in FileKind if kind.numbered}
_DIGITS = re.compile(r"[0-9]{6,20}", re.ASCII)


def file_name(kind: FileKind, number: int = 0) -> str:
    """`000012.wal` for (WAL, 12); six digits, more if the number needs them. Temporary names come from `temporary_name`."""
    if kind is FileKind.TEMPORARY or (number != 0 and not kind.numbered) or not 0 <= number <= FILE_NUMBER_MAX:
        raise UsageError(f"no file name for {kind.name} number {number}")
    return kind.value.format(number)


def temporary_name(name: str) -> str:
    """Where the next content of `name` is written before it is renamed."""
    return FileKind.TEMPORARY.value.format(name)


def parse_file_name(name: str) -> FileName | None:
    """The inverse of `file_name` and `temporary_name`; None for a name that neither would make."""
    if single := _SINGLE.get(name):
        return single
    if name.endswith(".tmp") and len(name) > len(".tmp"):
        return FileName(FileKind.TEMPORARY, 0)
    digits = _DIGITS.search(name)
    if digits is None:
        return None
    kind = _NUMBERED.get(name[: digits.start()] + "#" + name[digits.end() :])
    number = int(digits[0])
    if kind is None or number > FILE_NUMBER_MAX or file_name(kind, number) != name:
        return None
    return FileName(kind, number)
