"""Flush: one sealed generation becomes one SSTable per tree, and one edit puts them in its WAL's place."""

from __future__ import annotations

from collections.abc import Callable

from .generation import Generation
from .manifest.version import TableRecord
from .manifest.version_edit import VersionEdit
from .pins import Pins
from .sstable.writer import Separation, TableSink, table_stream, write_tables
from .storage.filenames import FileKind
from .version_line import VersionLine

_ONE_FILE = 1 << 62  # A memtable is one table, however large, unless its index grows too large.


def flush_generation(line: VersionLine, pins: Pins, generation: Generation, pace: Callable[[int], None] | None = None) -> tuple[TableRecord, ...]:
    """Flush the oldest generation, which is sealed. Returns the tables that were written.

    Oldest first: else a crash in between could lose an older commit and keep a newer one. pace: see TableSink.
    """
    floor, retained = pins.retention()
    version = line.version
    records: list[TableRecord] = []
    separations: list[Separation] = []
    try:
        for tree_id in generation.arena.trees():
            if tree_id in version.trees:  # Dropped trees leave their entries behind.
                sink = line.table_sink(version, tree_id, 0, pace, max(generation.host_seqno, version.host_seqno))
                separations.append(sink.separation)
                records += _flush_tree(line, generation, sink, floor, retained)
        if records:
            line.sync_directory()  # Before the edit: a table that the manifest names and that is missing is corruption.
        opened = line.open_tables(tuple(records))
    except BaseException:
        for record in records:  # Nothing names them. After the edit below nobody could know that, and recovery decides.
            line.obsolete.add_path(line.path(FileKind.SSTABLE, record.file_id))
        line.obsolete.collect()
        for separation in separations:
            separation.give_up()
        raise
    added = tuple(records)
    edit = VersionEdit(
        added=added,
        wals_removed=(generation.wal.id,),
        floor=floor,
        last_seqno=generation.last_seqno,
        host_seqno=generation.host_seqno,
        times=tuple(generation.times.points),
    )
    line.install(edit, opened, retire=generation)
    generation.wal.close()
    line.obsolete.add_path(generation.wal.path)  # Nothing names it any more; a crash leaves it to recovery, which removes it.
    line.obsolete.collect()
    return added


def _flush_tree(line: VersionLine, generation: Generation, sink: TableSink, floor: int, retained: list[int]) -> list[TableRecord]:
    stream = table_stream(
        [generation.arena.memtable(sink.tree_id)],
        line.options,
        sink=sink,
        encrypted=line.keyring is not None,
        floor=floor,
        snapshots=retained,
        table_bytes=_ONE_FILE,
        level=0,
    )
    return write_tables(stream, sink)
