"""What to compact next: pure functions of a version.

Leveled: level 0 takes flushed tables, which may overlap; every deeper level is one sorted run, `level_ratio` times as large as the one above.
The level with the highest score, at least 1, gives tables to the next one: level 0 scores its number of tables against l0_tables, a deeper
one its bytes against its target.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from operator import attrgetter

from ...options import Options
from ..manifest.version import LEVELS, NO_TABLES, Levels, TableRecord, Version

LAST_LEVEL = LEVELS - 1


@dataclass(frozen=True, slots=True)
class Compaction:
    """inputs: (level, tables in the level's order) for each level that gives any, ascending. bottom: no table outside the inputs can hold an
    older version of a key in their range. trivial_move: the one input table only changes its level."""

    tree_id: int
    inputs: tuple[tuple[int, tuple[TableRecord, ...]], ...]
    output_level: int
    bottom: bool
    trivial_move: bool

    def tables(self) -> Iterator[TableRecord]:
        for _, tables in self.inputs:
            yield from tables

    def file_ids(self) -> tuple[int, ...]:
        return tuple(table.file_id for table in self.tables())

    @property
    def size(self) -> int:
        """Bytes of the inputs."""
        return sum(table.size for table in self.tables())


def pick(version: Version, tree_id: int, options: Options, busy: AbstractSet[int] = frozenset()) -> Compaction | None:
    """The next compaction of a tree, or None when no level is due, or what is due waits for tables in `busy` (inputs of running ones).

    Never with an input that is busy: since outputs stay within the range of the inputs, two compactions never write the same keys.
    """
    levels = version.levels.get(tree_id, NO_TABLES)
    scores = [(score(levels, level, options), -level) for level in range(LAST_LEVEL)]
    for value, negative in sorted(scores, reverse=True):
        if value < 1:
            return None
        level = -negative
        seeds = _level_0_seeds(levels[0]) if level == 0 else _deep_seeds(levels, level)
        for seed in seeds:
            compaction = _into_next(tree_id, levels, level, seed)
            if busy.isdisjoint(compaction.file_ids()):
                return compaction
    return None


def pick_all(version: Version, tree_id: int, floor: int | None = None) -> Compaction | None:
    """The full compaction of a tree into its lowest level that has tables, at least 1; the caller sees to it that none is busy.

    None when it would change nothing: one deep level has all tables, and nothing in them can be dropped or have its seqno zeroed.
    floor: the one it would run with, where known; versions above it stay as they are.
    """
    levels = version.levels.get(tree_id, NO_TABLES)
    filled = [level for level in range(LEVELS) if levels[level]]
    if not filled:
        return None
    output_level = max(1, filled[-1])
    if filled == [output_level] and not any(_can_shrink(table, floor) for table in levels[output_level]):
        return None
    inputs = tuple((level, levels[level]) for level in filled)
    return Compaction(tree_id, inputs, output_level, bottom=True, trivial_move=False)


def target_bytes(level: int, options: Options) -> int:
    """The size at which a level from 1 on is due."""
    return options.level_bytes * options.level_ratio ** (level - 1)


def score(levels: Levels, level: int, options: Options) -> float:
    """How due a level is; 1 and above means that it is. The last level never is."""
    if level >= LAST_LEVEL:
        return 0.0
    if level == 0:
        return len(levels[0]) / options.l0_tables
    return sum(table.size for table in levels[level]) / target_bytes(level, options)


def _level_0_seeds(tables: Sequence[TableRecord]) -> Iterator[tuple[TableRecord, ...]]:
    """The groups of level 0 tables that overlap, directly or through each other, the group with the oldest table first.

    A group goes down whole: a table left behind with an older version of a key would hide the newer one below."""
    left = list(tables)
    while left:
        group = [left.pop()]
        for member in group:  # Grows while it is walked.
            overlapping = [table for table in left if table.overlaps(member.smallest, member.largest)]
            group += overlapping
            left = [table for table in left if table not in overlapping]
        yield tuple(table for table in tables if table in group)


def _deep_seeds(levels: Levels, level: int) -> list[tuple[TableRecord, ...]]:
    """Each table of a level alone, the one first that is cheapest to merge: least bytes overlapped below for its own size, then the oldest."""

    def cost(table: TableRecord) -> tuple[float, int, int]:
        below = sum(other.size for other in _overlapping(levels[level + 1], table.smallest, table.largest))
        return below / table.size, table.max_seqno, table.file_id

    return [(table,) for table in sorted(levels[level], key=cost)]


def _into_next(tree_id: int, levels: Levels, level: int, tables: tuple[TableRecord, ...]) -> Compaction:
    output_level = level + 1
    below = _overlapping(levels[output_level], *_range(tables))
    inputs = ((level, tables), (output_level, below)) if below else ((level, tables),)
    smallest, largest = _range([*tables, *below])
    bottom = not any(_overlapping(deeper, smallest, largest) for deeper in levels[output_level + 1 :])
    # At the bottom its tombstones could go, and nothing else would ever take them away.
    trivial_move = len(tables) == 1 and not below and not (bottom and tables[0].tombstones)
    return Compaction(tree_id, inputs, output_level, bottom, trivial_move)


def _overlapping(level: Sequence[TableRecord], smallest: bytes, largest: bytes) -> tuple[TableRecord, ...]:
    """The tables of a level from 1 on that may hold a key of [smallest, largest]; they are neighbours."""
    first = bisect_left(level, smallest, key=attrgetter("largest"))
    return tuple(level[first : bisect_right(level, largest, lo=first, key=attrgetter("smallest"))])


def _range(tables: Sequence[TableRecord]) -> tuple[bytes, bytes]:
    return min(table.smallest for table in tables), max(table.largest for table in tables)


def _can_shrink(table: TableRecord, floor: int | None) -> bool:
    """Whether rewriting a table at the bottom may drop a version or zero a seqno. One whose seqnos are all 0 has one value for each key."""
    return table.max_seqno > 0 and (floor is None or table.min_seqno <= floor)
