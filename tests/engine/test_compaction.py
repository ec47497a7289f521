"""Compaction changes files, never answers: at every seqno that may still be asked for, the outputs say what the inputs said."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from lsmsql.engine.compaction.job import run
from lsmsql.engine.compaction.picker import Compaction, pick, pick_all
from lsmsql.engine.kernel import BlockCache, Levels, Scan, SortedRows, Table, get_entry
from lsmsql.engine.manifest.version import TableRecord, Version
from lsmsql.engine.manifest.version_edit import VersionEdit
from lsmsql.engine.sstable.reader import close_table, open_table, read_properties
from lsmsql.engine.sstable.writer import begin_tables, finish_tables, table_stream
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.errors import CorruptionError
from lsmsql.options import Options
from tests.proof.fault_filesystem import FaultFileSystem

from .sstable_world import DIRECTORY, TREE, Operation, counter, memory, new_keyring, sink, write

OPTIONS = Options(block_bytes=200, table_bytes=1500, l0_tables=2, level_bytes=3000, level_ratio=2, filter_bits=8)
History = dict[int, dict[bytes, bytes]]  # what is visible at each seqno


class Tree:
    """One tree on files: a version, its open tables, and a model that remembers every seqno."""

    def __init__(self, fs: MemoryFileSystem, keyring: Keyring | None = None, options: Options = OPTIONS) -> None:
        self.fs = fs
        self.keyring = keyring
        self.options = options
        self.version = Version().apply(VersionEdit(trees_created=((n, f"tree {n}") for n in range(1, TREE + 1)), next_file_id=1 << 30))
        self.tables: dict[int, Table] = {}
        self.cache = BlockCache(1 << 20)
        self.new_file_id = counter()
        self.seqno = 0
        self.history: History = {0: {}}

    def flush(self, commits: Iterable[list[Operation]]) -> None:
        numbered = []
        for operations in commits:
            state = dict(self.history[self.seqno])
            self.seqno += 1
            for key, value in operations:
                if value is None:
                    state.pop(key, None)
                else:
                    state[key] = value
            self.history[self.seqno] = state
            numbered.append((self.seqno, operations))
        records = write(self.fs, numbered, self.keyring, self.options, new_file_id=self.new_file_id)
        self.apply(VersionEdit(added=tuple(records)))

    def apply(self, edit: VersionEdit) -> None:
        self.version = self.version.apply(edit)
        for record in edit.added:
            if record.file_id not in self.tables:
                self.tables[record.file_id] = open_table(self.fs, DIRECTORY, record, self.keyring, self.cache)
        for file_id in set(edit.removed) - self.version.file_ids():
            close_table(self.tables.pop(file_id))

    def run(self, compaction: Compaction, floor: int, snapshots: tuple[int, ...] = (), **more: Any) -> VersionEdit:
        destination = sink(self.fs, self.keyring, self.options, new_file_id=self.new_file_id, **more)
        return run(compaction, self.tables, destination, floor=floor, snapshots=snapshots)

    def compact(self, compaction: Compaction | None, floor: int, snapshots: tuple[int, ...] = ()) -> VersionEdit:
        assert compaction is not None
        edit = self.run(compaction, floor, snapshots)
        self.apply(edit)
        return edit

    @property
    def levels(self) -> Levels:
        return Levels([[self.tables[record.file_id] for record in level] for level in self.version.levels[TREE]])

    def entries(self) -> list[tuple[bytes, int, int]]:
        """(key, seqno, kind) of everything that is stored."""
        found = []
        for record in self.version.tables():
            table = self.tables[record.file_id]
            for ordinal in range(table.blocks):
                block = table.block(ordinal)
                found += list(zip(block.keys(), block.seqnos(), block.kinds(), strict=True))
        return sorted(found, key=lambda entry: (entry[0], -entry[1]))

    def check(self, seqnos: Iterable[int]) -> None:
        levels = self.levels
        for seqno in seqnos:
            expected = self.history[min(seqno, self.seqno)]
            assert list(Scan([], levels, None, None, seqno)) == sorted(expected.items()), f"scan at {seqno}"
            assert list(Scan([], levels, None, None, seqno, reverse=True)) == sorted(expected.items(), reverse=True)
            for key in {key for state in self.history.values() for key in state}:
                found = get_entry([], levels, key, seqno)
                value = found[2] if found is not None and found[1] == 1 else None
                assert value == expected.get(key), f"{key!r} at {seqno}"

    def close(self) -> None:
        for table in self.tables.values():
            close_table(table)


def full(tree: Tree) -> Compaction | None:
    return pick_all(tree.version, TREE)


def put(*keys: bytes, value: bytes = b"v") -> list[Operation]:
    return [(key, value) for key in keys]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_full_compaction_leaves_one_version_of_each_key(encrypted: bool) -> None:
    fs = memory()
    tree = Tree(fs, new_keyring(fs) if encrypted else None)
    tree.flush([put(b"a", b"b", b"c"), [(b"b", b"new")]])
    tree.flush([[(b"c", None)], put(b"d")])
    edit = tree.compact(full(tree), floor=4)
    assert tree.entries() == [(b"a", 0, 1), (b"b", 0, 1), (b"d", 0, 1)]
    tree.check([4])
    assert (edit.floor, edit.removed) == (4, (2, 1))
    assert [(record.level, record.tombstones, record.max_seqno) for record in edit.added] == [(1, 0, 0)]
    found = read_properties(fs, DIRECTORY, edit.added[0].file_id, tree.keyring)
    assert (found.replaced, found.tree_id, found.tree_name) == ((2, 1), TREE, "readings")
    assert full(tree) is None, "there is nothing left to gain"


def test_versions_above_the_floor_and_at_named_snapshots_stay() -> None:
    tree = Tree(memory())
    tree.flush([[(b"k", b"%d" % n)] for n in range(1, 11)])
    tree.compact(full(tree), floor=7, snapshots=(2, 4))
    assert [entry[1] for entry in tree.entries()] == [10, 9, 8, 7, 4, 0]
    tree.check([2, 4, 7, 8, 9, 10])
    tree.compact(pick_all(tree.version, TREE), floor=9)
    assert [entry[1] for entry in tree.entries()] == [10, 0]
    tree.check([9, 10])


def test_a_tombstone_stays_while_it_hides_something_below() -> None:
    tree = Tree(memory())
    tree.flush([put(b"a", b"k")])
    tree.compact(full(tree), floor=0)
    tree.compact(Compaction(TREE, ((1, tree.version.levels[TREE][1]),), 3, bottom=True, trivial_move=False), floor=0)
    tree.flush([[(b"k", None)]])
    tree.flush([[(b"k", None)]])
    compaction = pick(tree.version, TREE, replace(OPTIONS, level_bytes=1 << 20))
    assert compaction is not None
    assert (compaction.output_level, compaction.bottom) == (1, False)
    tree.compact(compaction, floor=3)
    assert tree.entries() == [(b"a", 1, 1), (b"k", 3, 0), (b"k", 1, 1)]
    tree.check([3])
    tree.compact(full(tree), floor=3)
    assert tree.entries() == [(b"a", 0, 1)]


def test_a_compaction_of_nothing_but_droppable_tombstones_adds_no_table() -> None:
    tree = Tree(memory())
    tree.flush([put(b"k"), [(b"k", None)]])
    edit = tree.compact(full(tree), floor=2)
    assert edit == VersionEdit(removed=(1,), floor=2)
    tree.check([2])


def test_a_move_touches_no_file_and_carries_no_floor() -> None:
    tree = Tree(memory())
    tree.flush([put(b"a", b"b")])
    tree.flush([put(b"c", b"d")])
    before = tree.fs.files()
    compaction = pick(tree.version, TREE, OPTIONS)
    assert compaction is not None
    assert compaction.trivial_move
    edit = tree.compact(compaction, floor=2)
    assert tree.fs.files() == before
    assert edit.floor is None
    assert [(record.file_id, record.level) for record in tree.version.tables()] == [(2, 0), (1, 1)]
    tree.check([0, 1, 2])
    reopened = open_table(tree.fs, DIRECTORY, edit.added[0], None, tree.cache)  # the record of another level still fits the file
    close_table(reopened)


def test_ingested_tables_bring_their_seqno() -> None:
    tree = Tree(memory())
    tree.flush([put(b"a", b"b"), put(b"b", value=b"new")])
    destination = sink(tree.fs, None, OPTIONS, new_file_id=tree.new_file_id)
    stream = table_stream([SortedRows([(b"b", b"ingested"), (b"c", b"ingested")])], OPTIONS, encrypted=False, floor=0)
    tree.apply(VersionEdit(added=tuple(finish_tables(begin_tables(stream, destination), destination, global_seqno=3))))
    tree.seqno = 3
    tree.history[3] = {**tree.history[2], b"b": b"ingested", b"c": b"ingested"}
    tree.check([1, 2, 3])
    tree.compact(full(tree), floor=2)
    tree.check([2, 3])
    assert [(key, seqno) for key, seqno, _ in tree.entries()] == [(b"a", 0), (b"b", 3), (b"b", 0), (b"c", 3)]


def test_a_damaged_input_stops_the_compaction_and_leaves_no_file() -> None:
    fs = memory()
    tree = Tree(fs)
    tree.flush([put(*(b"key %03d" % n for n in range(200)))])
    tree.flush([put(*(b"key %03d" % n for n in range(100, 300)))])
    name = f"{DIRECTORY}/000001.sst"
    data = fs.read(name)
    damaged = MemoryFileSystem({**fs.files(), name: data[:500] + bytes((data[500] ^ 1,)) + data[501:]})
    other = Tree(damaged)
    other.new_file_id = counter(100)
    other.apply(VersionEdit(added=tuple(tree.version.tables())))
    before = damaged.files()
    compaction = full(other)
    assert compaction is not None
    with pytest.raises(CorruptionError) as caught:
        other.run(compaction, floor=0)
    assert caught.value.path == name
    assert caught.value.offset is not None
    assert damaged.files() == before


def test_a_compaction_that_is_told_to_stop_leaves_no_file() -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    tree = Tree(fs)
    tree.flush([put(*(b"key %03d" % n for n in range(300)))])
    tree.flush([put(*(b"key %03d" % n for n in range(300)))])
    before = fs.files()
    compaction = full(tree)
    assert compaction is not None

    def stop(_written: int) -> None:
        raise RuntimeError("closing")

    with pytest.raises(RuntimeError, match="closing"):
        tree.run(compaction, floor=0, pace=stop)
    assert fs.files() == before
    assert len(fs.open_files) == len(tree.tables), "the inputs stay open"
    tree.close()


def random_commit(generator: random.Random, keys: int) -> list[Operation]:
    chosen = {b"key %02d" % generator.randrange(keys): generator.random() for _ in range(generator.randrange(1, 5))}
    return [(key, None if luck < 0.3 else b"%d" % int(luck * 1000) * generator.randrange(1, 8)) for key, luck in chosen.items()]


@pytest.mark.parametrize("seed", range(25))
def test_answers_stay_the_same_whatever_is_compacted(seed: int) -> None:
    """Random flushes and compactions with a rising floor and named snapshots; everything at or above the floor, and each name, is asked."""
    generator = random.Random(seed)
    fs = memory()
    encrypted = seed % 4 == 0
    tree = Tree(fs, new_keyring(fs) if encrypted else None)
    floor, names, moves, merges = 0, set[int](), 0, 0
    for _ in range(30):
        tree.flush([random_commit(generator, keys=60) for _ in range(generator.randrange(1, 8))])
        if generator.random() < 0.2:
            names.add(tree.seqno)
        if generator.random() < 0.1 and names:
            names.remove(generator.choice(sorted(names)))
        floor = generator.choice((floor, floor, tree.seqno, generator.randint(floor, tree.seqno)))
        compaction = pick_all(tree.version, TREE, floor) if generator.random() < 0.1 else pick(tree.version, TREE, OPTIONS)
        if compaction is not None:
            tree.compact(compaction, floor, tuple(names))
            moves += compaction.trivial_move
            merges += not compaction.trivial_move
        asked = sorted({*names, floor, tree.seqno, *generator.choices(range(floor, tree.seqno + 1), k=3)})
        tree.check(asked)
    assert merges > 5, f"seed {seed}"
    assert set(tree.tables) == tree.version.file_ids()
    tree.compact(pick_all(tree.version, TREE), floor=tree.seqno)
    tree.check([tree.seqno])
    assert all(seqno == 0 and kind == 1 for _, seqno, kind in tree.entries()), "one value for each key, and no tombstone"
    assert [key for key, _, _ in tree.entries()] == sorted(tree.history[tree.seqno])
    tree.close()


def test_the_oldest_answer_survives_a_level_0_that_is_compacted_in_groups() -> None:
    tree = Tree(memory())
    tree.flush([put(b"a", b"m", value=b"1")])
    tree.flush([put(b"p", b"z", value=b"2")])
    tree.flush([put(b"b", b"m", value=b"3")])
    compaction = pick(tree.version, TREE, OPTIONS)
    assert compaction is not None
    assert compaction.file_ids() == (3, 1)
    tree.compact(compaction, floor=0)
    tree.check(range(4))


def test_records_describe_the_files() -> None:
    tree = Tree(memory())
    tree.flush([put(*(b"key %03d" % n for n in range(200)))])
    tree.flush([put(*(b"key %03d" % n for n in range(0, 300, 3)), value=b"w" * 40)])
    edit = tree.compact(full(tree), floor=1)
    assert len(edit.added) > 2
    assert all(isinstance(record, TableRecord) and record.size == tree.fs.size(f"{DIRECTORY}/{record.file_id:06d}.sst") for record in edit.added)
    assert sum(record.entries for record in edit.added) == len(tree.entries()) == 67 + 33 + 200
