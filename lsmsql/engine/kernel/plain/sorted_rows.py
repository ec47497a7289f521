"""SortedRows: what an ingest gives a table stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ....errors import UsageError
from ..entry_error import EntryTypeError, pair_of
from ..kinds import KEY_BYTES_MAX, VALUE_BYTES_MAX, Kind
from .table import Entry


class SortedRows:
    """Rows to ingest: (key, value) in strictly ascending order of keys; UsageError, with the row's number, where they are not."""

    def __init__(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self.rows = rows

    def entries(self) -> Iterator[Entry]:
        before: bytes | None = None
        for number, item in enumerate(self.rows):
            key, value = pair_of(item)
            if not isinstance(key, bytes) or not isinstance(value, bytes):
                raise EntryTypeError(f"row {number} to ingest: key and value must be bytes")
            if before is not None and key <= before:
                raise UsageError(f"rows to ingest must ascend strictly: row {number} has key {key!r} after {before!r}")
            if len(key) > KEY_BYTES_MAX or len(value) > VALUE_BYTES_MAX:
                raise UsageError(f"row {number} to ingest: key or value over the limit")
            before = key
            yield key, 0, Kind.VALUE, value
