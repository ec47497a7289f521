"""VersionEdit: one change to a version, made durable as a whole or not at all; made twice, it is the same as made once."""

from __future__ import annotations

from dataclasses import dataclass

from .table_record import TableRecord
from .time_points import TimePoint


@dataclass(frozen=True, slots=True)
class BlobStatistics:
    """What a blob file holds: values, their bytes before and after compression, and how many values and stored bytes of these no version of a key
    leads to any more."""

    file_id: int
    values: int
    raw_bytes: int
    stored_bytes: int
    dead_values: int
    dead_bytes: int


@dataclass(frozen=True, slots=True)
class VersionEdit:
    """Removals come before additions, so a table moves to another level by being in both.

    removed: file ids of tables. wals_added, wals_removed: file ids of WALs. trees_created: (id, name). schemas_set: (tree id, text).
    trees_dropped: ids; their tables go with them. snapshots_set: (name, seqno). floor: the one a compaction has used; the
    version keeps the highest. next_file_id: all ids below are reserved. last_seqno: the highest flushed or ingested. wal_synced: of the newest
    WAL its file id, and how many bytes of it were synced before this edit: what the edit stands on. host_seqno: of the last prepared commit that
    was committed and flushed. None leaves as it is.
    blobs_set: what is in blob files now; blobs_removed: their file ids. dictionaries_added: (tree id, dictionary id, its bytes), of those that
    the tree's tables embed from now on; dictionaries_retired: (tree id, dictionary id), which no table does any more. times: see time_points.py.
    """

    added: tuple[TableRecord, ...] = ()
    removed: tuple[int, ...] = ()
    wals_added: tuple[int, ...] = ()
    wals_removed: tuple[int, ...] = ()
    trees_created: tuple[tuple[int, str], ...] = ()
    schemas_set: tuple[tuple[int, str], ...] = ()
    trees_dropped: tuple[int, ...] = ()
    snapshots_set: tuple[tuple[str, int], ...] = ()
    snapshots_released: tuple[str, ...] = ()
    floor: int | None = None
    next_file_id: int | None = None
    last_seqno: int | None = None
    wal_synced: tuple[int, int] | None = None
    host_seqno: int | None = None
    blobs_set: tuple[BlobStatistics, ...] = ()
    blobs_removed: tuple[int, ...] = ()
    dictionaries_added: tuple[tuple[int, int, int], ...] = ()
    dictionaries_retired: tuple[tuple[int, int], ...] = ()
    times: tuple[TimePoint, ...] = ()
