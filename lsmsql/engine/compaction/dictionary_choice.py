"""Which dictionary a compaction compresses with: the tree's, as long as it pays on a sample of the inputs, a new one, or none.

A tree has one dictionary, which its compactions share. It is kept while it saves at least MARGIN of the sampled blocks, and at least KEPT of what it
saved when it was new; else a new one is trained, and takes its place if it saves at least MARGIN and more. Where none does, the next training waits
until as many bytes again were compacted as before it (at least once in RETRY_BYTES), so that data which a dictionary does not suit costs next to
nothing. Tables so small that embedding the dictionary leaves less than MARGIN are written without it.

After a restart the tree's dictionary is that of the newest of the inputs. Level 0 and ingested tables, which compaction rewrites, have none; nor have
levels whose blocks are in parts, each of which learns from the first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ...options import Options
from ..kernel import Table
from ..sstable.block_form import BlockForm, block_form
from ..sstable.zstd_dictionary import SAMPLES_MIN, SAMPLES_PER_BYTE, Saving, saving, split, train
from ..storage.dictionary import Dictionary
from .picker import Compaction

MARGIN = 0.05
KEPT = 0.75
RETRY_BYTES = 4 << 30


@dataclass
class _Tree:
    """dictionary: the one in use, which saved `saved` of the blocks when it was new. compacted: raw bytes so far; due: how many of them have to be
    compacted before the next training."""

    dictionary: Dictionary | None = None
    saved: float = 0.0
    compacted: int = 0
    due: int = 0


class DictionaryChoice:
    """The trees' dictionaries, as far as compactions have looked for them. trained, adopted: how many dictionaries were, and how many of
    them are or were used.

    One thread at a time for each tree."""

    def __init__(self) -> None:
        self.trained = self.adopted = 0
        self._trees: dict[int, _Tree] = {}

    def keep(self, tree_ids: Collection[int]) -> None:
        """Forget all other trees, which were dropped."""
        for tree_id in [tree_id for tree_id in self._trees if tree_id not in tree_ids]:
            self._trees.pop(tree_id, None)

    def choose(self, compaction: Compaction, tables: Mapping[int, Table], options: Options) -> Dictionary | None:
        """What the outputs of a compaction are to be compressed with, None for no dictionary. tables: the open inputs by file id.

        CorruptionError and OSError where a sampled block cannot be read, as the compaction itself would raise them."""
        form = block_form(options, compaction.output_level)
        level = form.compression_level
        inputs = [tables[record.file_id] for record in compaction.tables()]
        if not level or form.block_parts > 1 or not options.dictionary_bytes or not inputs:
            return None
        tree = self._trees.setdefault(compaction.tree_id, _Tree())
        raw_bytes = sum(table.source.properties.raw_bytes for table in inputs)
        tree.compacted += raw_bytes
        fitting = [table for table in inputs if _alike(table, form)]
        blocks = sum(table.blocks for table in fitting)
        known = tree.dictionary or _newest(inputs)
        if blocks < SAMPLES_MIN or (known is None and tree.compacted < tree.due):
            return None
        wanted = max(SAMPLES_MIN, options.dictionary_bytes * SAMPLES_PER_BYTE // form.block_bytes)
        training, judging = split(_sample(fitting, min(blocks, wanted)))
        found = saving(known, judging, level) if known is not None else None
        if found is not None and found.of_blocks >= max(MARGIN, KEPT * tree.saved):
            tree.dictionary, tree.saved = known, max(tree.saved, found.of_blocks)
        else:
            tree.dictionary, tree.saved = (known, found.of_blocks) if found is not None and found.of_blocks >= MARGIN else (None, 0.0)
            if tree.compacted >= tree.due:
                found = self._train(tree, training, judging, level, options.dictionary_bytes) or found
        worth = found is not None and found.of_table(min(raw_bytes, options.table_bytes)) >= MARGIN
        return tree.dictionary if worth else None

    def _train(self, tree: _Tree, training: Sequence[bytes], judging: Sequence[bytes], level: int, size: int) -> Saving | None:
        """Put a new dictionary in the place of the tree's, if it is better; what it saves, or None."""
        made = train(training, size, level)
        self.trained += made is not None
        found = saving(made, judging, level) if made is not None else None
        if found is None or found.of_blocks < MARGIN or found.of_blocks <= tree.saved:
            tree.due = tree.compacted + min(tree.compacted, RETRY_BYTES)
            return None
        self.adopted += 1
        tree.dictionary, tree.saved, tree.due = made, found.of_blocks, 0
        return found


def _alike(table: Table, form: BlockForm) -> bool:
    """Whether the blocks of a table are as those that will be written."""
    properties = table.source.properties
    return bool(properties.block_bytes == form.block_bytes and (properties.block_layout == "rows") == form.rows)


def _newest(tables: Sequence[Table]) -> Dictionary | None:
    """The dictionary of the newest table that has one."""
    embedding = [table for table in tables if table.source.dictionary is not None]
    newest = max(embedding, key=lambda table: table.source.properties.file_id, default=None)
    return newest.source.dictionary if newest is not None else None


def _sample(tables: Sequence[Table], count: int) -> list[bytes]:
    """`count` raw blocks, evenly spread over all of them."""
    ends = list(accumulate(table.blocks for table in tables))
    found = []
    for number in range(count):
        place = number * ends[-1] // count
        at = bisect_right(ends, place)
        found.append(tables[at].raw_block(place - (ends[at - 1] if at else 0)))
    return found
