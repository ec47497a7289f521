"""Doing a compaction: open tables in, finished files and the edit that swaps them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..kernel import Table
from ..manifest.version_edit import VersionEdit
from ..sstable.writer import TableSink, table_stream, write_tables
from ..storage.dictionary import Dictionary
from .picker import Compaction


def run(
    compaction: Compaction,
    tables: Mapping[int, Table],
    sink: TableSink,
    *,
    floor: int,
    snapshots: Sequence[int] = (),
    dictionary: Dictionary | None = None,
) -> VersionEdit:
    """Write the outputs of a compaction, and return the edit; nothing else has changed, and on any error no file of it is left.

    tables: the open inputs by file id; they stay open. sink: of the inputs' tree; its level and `replaced` are filled in here, and its `pace` is
    called between chunks and may raise to stop. floor: at most the oldest seqno that a reader without a name may still ask for; the edit
    carries it, since the outputs cannot answer below it. snapshots: seqnos of the named snapshots. dictionary: to compress the
    outputs with (dictionary_choice.py).
    The caller syncs the directory before it commits the edit, and keeps the inputs until no reader has them.
    """
    removed = compaction.file_ids()
    if compaction.trivial_move:
        (table,) = compaction.tables()
        return VersionEdit(added=(replace(table, level=compaction.output_level),), removed=removed)  # Nothing was dropped: no floor.
    sources: list[Any] = []
    for level, records in compaction.inputs:
        opened = [tables[record.file_id] for record in records]
        sources += opened if level == 0 else [opened]
    options = sink.options
    stream = table_stream(
        sources,
        options,
        sink=sink,
        encrypted=sink.keyring is not None,
        floor=floor,
        snapshots=snapshots,
        bottom=compaction.bottom,
        level=compaction.output_level,
        dictionary=dictionary,
    )
    outputs = write_tables(stream, replace(sink, level=compaction.output_level, replaced=removed))
    return VersionEdit(added=tuple(outputs), removed=removed, floor=floor)
