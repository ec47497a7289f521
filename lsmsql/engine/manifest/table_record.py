"""TableRecord: one SSTable as a version knows it."""

from __future__ import annotations

from dataclasses import dataclass

from ..kernel.kinds import KEY_BYTES_MAX, SEQNO_MAX

LEVELS = 7
CHECKSUM_BYTES = 16


@dataclass(frozen=True, slots=True)
class TableRecord:
    """size: bytes of the file. smallest, largest: user keys, both inclusive. min_seqno, max_seqno: as readers see them, so with global_seqno
    added, which is 0 for all but ingested tables. tombstones counts entries of that kind.
    run: the file id of the first of the tables that were written together with this one, in one flush, compaction or ingest, of which no two
    overlap. checksum: XXH3-128 over the whole file."""

    file_id: int
    tree_id: int
    level: int
    size: int
    entries: int
    tombstones: int
    smallest: bytes
    largest: bytes
    min_seqno: int
    max_seqno: int
    global_seqno: int = 0
    run: int = 0
    checksum: bytes = bytes(CHECKSUM_BYTES)

    def overlaps(self, smallest: bytes, largest: bytes) -> bool:
        """Whether a key of [smallest, largest] may be in the table."""
        return self.smallest <= largest and smallest <= self.largest

    def check(self) -> None:
        """ValueError, saying what, when no SSTable can be like this."""
        if not 0 <= self.level < LEVELS:
            raise ValueError(f"table {self.file_id} is in level {self.level}; levels are 0 to {LEVELS - 1}")
        if self.size < 1 or not 0 <= self.tombstones <= self.entries or self.entries < 1:
            raise ValueError(f"table {self.file_id} cannot have {self.size} bytes, {self.entries} entries, {self.tombstones} tombstones")
        if self.smallest > self.largest or max(len(self.smallest), len(self.largest)) > KEY_BYTES_MAX:
            raise ValueError(f"table {self.file_id} has impossible key bounds")
        if not 0 <= self.global_seqno <= self.min_seqno <= self.max_seqno <= SEQNO_MAX:
            raise ValueError(f"table {self.file_id} has impossible seqno bounds {self.min_seqno} to {self.max_seqno}")
        if len(self.checksum) != CHECKSUM_BYTES:
            raise ValueError(f"the checksum of table {self.file_id} has {len(self.checksum)} bytes")
