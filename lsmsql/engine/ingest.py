"""Ingest: sorted rows straight into SSTables, as one commit that never passes through the WAL (engine rule 20)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .commit import CommitLine
from .kernel import SortedRows
from .manifest.version import NO_TABLES, Levels
from .manifest.version_edit import VersionEdit
from .sstable.writer import TableSink, UnfinishedTable, begin_tables, discard_tables, finish_tables, table_stream
from .upkeep import Upkeep
from .version_line import VersionLine, now_us


def ingest(line: VersionLine, commits: CommitLine, upkeep: Upkeep, tree_id: int, rows: Iterable[tuple[bytes, bytes]]) -> int:
    """Write `rows` into one tree; returns the seqno of that commit (no rows: the last one, and nothing is written).

    The rows are at seqno 0 in the files; readers add the table's own, which is known only at the end."""
    commits.check()
    upkeep.refuse_reentry()
    sink = line.table_sink(line.version, tree_id, 0)
    stream = table_stream(
        [SortedRows(rows)],
        line.options,
        sink=sink,
        encrypted=line.keyring is not None,
        floor=0,
        level=lambda smallest, largest: _level_for(_levels(line, tree_id), [(smallest, largest)]),
    )
    try:
        begun = begin_tables(stream, sink)
    except BaseException:
        sink.separation.give_up()
        raise
    if not begun:
        return line.published.seqno
    try:
        with commits.held():
            commits.admit((tree_id,))
            return _finish(line, commits, upkeep, begun, sink)
    except BaseException:
        if begun:  # Before the edit nothing names them; afterwards this is empty.
            discard_tables(begun, line.fs)
            sink.separation.give_up()
        raise


def _finish(line: VersionLine, commits: CommitLine, upkeep: Upkeep, begun: list[UnfinishedTable], sink: TableSink) -> int:
    # The edit below is durable at once, so everything before it must be too: history has no holes.
    commits.sync()
    if _overlaps_memtables(line, sink.tree_id, begun):
        # An older version of a key may not be flushed after this newer one: it would lie above it.
        if commits.has_commits:
            commits.rotate()
        while upkeep.flush_next():
            pass
    seqno = commits.next_seqno()
    alone: list[bool] = []
    try:
        # A running compaction may write where these rows would go, so then they stay in level 0. Acquired and noted in one step, as an
        # interrupt in between would leave the lock held for good.
        alone += map(upkeep.compacting.acquire, (False,))
        level = _level_for(_levels(line, sink.tree_id), _ranges(begun)) if True in alone else 0
        records = tuple(finish_tables(begun, replace(sink, level=level), seqno))
        line.sync_directory()  # Before the edit that names them.
        opened = line.open_tables(records)
        begun.clear()  # From here on a failure leaves it open whether the edit is durable, so the files stay for recovery to judge.
        commits.publish_with(seqno, lambda: line.install(VersionEdit(added=records, last_seqno=seqno, times=((seqno, now_us()),)), opened))
    finally:
        if True in alone:
            upkeep.compacting.release()
    upkeep.on_change()
    return seqno


def _overlaps_memtables(line: VersionLine, tree_id: int, begun: Sequence[UnfinishedTable]) -> bool:
    """Whether any generation holds a key in the range of one of the new tables."""
    memtables = [memtable for generation in line.published.state.generations if (memtable := generation.arena.memtable(tree_id)) is not None]
    return any(memtable.has_key_in(*bounds) for memtable in memtables for bounds in _ranges(begun))


def _ranges(begun: Sequence[UnfinishedTable]) -> list[tuple[bytes, bytes]]:
    return [(table.summary.smallest, table.summary.largest) for table in begun if table.summary is not None]


def _levels(line: VersionLine, tree_id: int) -> Levels:
    return line.version.levels.get(tree_id, NO_TABLES)


def _level_for(levels: Levels, ranges: Sequence[tuple[bytes, bytes]]) -> int:
    """The deepest level that tables of these ranges fit into without overlapping anything there or above: the less has to be rewritten later."""
    found = 0
    for number, level in enumerate(levels):
        if any(record.overlaps(*bounds) for record in level for bounds in ranges):
            break
        found = number
    return found
