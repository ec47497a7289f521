"""VersionEdit: one change to a version, made durable as a whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass

from .table_record import TableRecord


@dataclass(frozen=True, slots=True)
class VersionEdit:
    """Removals come before additions, so a table moves to another level by being in both.

    removed: file ids of tables. wals_added, wals_removed: file ids of WALs. trees_created: (id, name). schemas_set: (tree id, text).
    trees_dropped: ids; their tables go with them. snapshots_set: (name, seqno). floor: the one a compaction has used; the
    version keeps the highest. next_file_id: all ids below are reserved. last_seqno: the highest flushed or ingested. wal_synced: of the newest
    WAL its file id, and how many bytes of it were synced before this edit: what the edit stands on. host_seqno: of the last prepared commit that
    was committed and flushed. None leaves as it is.
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
