"""Partitioned indexes, pinning and prefixes as an engine's options: what is written, read, counted and refused."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from lsmsql.engine.kernel import Levels, Scan
from lsmsql.errors import UsageError
from lsmsql.options import Options

from .database_world import INLINE, open_database
from .database_world import memory as database_memory
from .read_only_world import open_reader
from .sstable_world import KEY, close, contents, contents_of, memory, opened, rows, write

CUT = replace(INLINE, index="partitioned", partition_bytes=100, block_bytes=200)
ONE = replace(CUT, table_bytes=1 << 20)
ITEMS = {b"user%03d/%d" % (n // 5, n % 5): b"value-%d" % n * 3 for n in range(600)}


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="needs index = partitioned"):
        Options(filter_layout="partitioned")
    with pytest.raises(UsageError, match="option prefix"):
        Options(prefix="fixed:0")
    for name, value in (("index", "some"), ("filter_layout", "some"), ("pin_index", 8), ("pin_filter", -1), ("partition_bytes", 0)):
        with pytest.raises(UsageError, match=name):
            Options(**{name: value})  # type: ignore[arg-type]
    options = Options(index="partitioned", filter_layout="partitioned", prefix="delimiter:0x2f", pin_index=7, pin_filter=0)
    assert Options.from_text(options.to_text()) == options


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize("filter_layout", ["partitioned", "full"])
def test_an_engine_with_partitions_answers_as_one_without(key: bytes | None, filter_layout: str) -> None:
    fs = database_memory()
    options = replace(CUT, filter_layout=filter_layout, prefix="delimiter:/", table_bytes=8000)
    wanted = dict(ITEMS)
    with open_database(fs, options, key=key) as engine:
        tree = engine.tree("a")
        names = list(ITEMS)
        random.Random(1).shuffle(names)
        for part in range(4):
            for name in names[part::4]:
                tree.put(name, ITEMS[name])
            for name in names[part : part + 8]:
                tree.put(name, b"again")
                wanted[name] = b"again"
            engine.flush()
        engine.compact()
    for options in (CUT, INLINE, replace(CUT, cache_bytes=0, pin_index=7, pin_filter=7), replace(CUT, cache_bytes=0, pin_index=0, pin_filter=0)):
        with open_database(fs, options, key=key) as engine:
            tree = engine.tree("a")
            assert {name: tree.get(name) for name in wanted} == wanted
            assert tree.get(b"user001/x") is None and tree.get_many([b"a", b"user000/0", b"z"])[1] == wanted[b"user000/0"]
            assert dict(tree.scan()) == wanted and list(tree.scan(reverse=True)) == sorted(wanted.items(), reverse=True)
            said = engine.statistics()
            assert said["index_partition_reads"] > 0  # type: ignore[operator]
            assert (said["filter_partition_reads"] > 0) == (filter_layout == "partitioned")  # type: ignore[operator]
            reads = said["index_partition_reads"]
            assert {name: tree.get(name) for name in wanted} == wanted
            assert (engine.statistics()["index_partition_reads"] == reads) == (options.cache_bytes > 0 or options.pin_index == 7)
            before = engine.statistics()["prefix_skips"]
            assert dict(tree.scan(b"user007/", b"user0070")) == {name: value for name, value in wanted.items() if name.startswith(b"user007/")}
            list(tree.scan(b"user007x/", b"user007x0"))
            assert engine.statistics()["prefix_skips"] > before  # type: ignore[operator]
        with open_reader(fs, key=key) as reader:
            assert dict(reader.tree("a").scan()) == wanted and reader.tree("a").get(b"user003/3") == wanted[b"user003/3"]


def test_a_table_says_how_its_index_was_cut() -> None:
    fs = memory()
    for number, options in enumerate((ONE, replace(ONE, index="full"), replace(ONE, index="adaptive"), replace(ONE, prefix="fixed:9")), 1):
        (record,) = write(fs, [(5, rows(200))], None, options, new_file_id=iter([number]).__next__)
        table = opened(fs, record)
        properties = table.source.properties
        assert (properties.partitions, properties.partition_bytes, properties.prefix) == (table.partitions, 100, options.prefix)
        assert bool(table.partitions) == (options.index == "partitioned")
        assert contents([table]) == rows(200)
        close(table)


def test_mirrored_partitions_stand_apart() -> None:
    fs = memory()
    (record,) = write(fs, [(5, rows(900))], None, ONE)
    sections = contents_of(fs.read("/db/000001.sst")).sections
    for one in sections:
        for other in sections:
            if one.type == other.type and one.copy < other.copy:
                assert other.offset - one.end >= 4096 and (one.frames, one.size) == (other.frames, other.size)
    assert all(a.end <= b.offset for a, b in pairwise(sections)) and max(one.frames for one in sections[1:]) > 50
    table = opened(fs, record)
    assert len(list(Scan([], Levels([[table]]), rows(900)[3][0], None, 1 << 50))) == 897
    close(table)


def test_a_table_that_moves_to_another_level_is_pinned_as_that_is() -> None:
    fs = database_memory()
    options = replace(CUT, pin_index=1, pin_filter=1, memtable_bytes=1 << 20, table_bytes=1 << 20, cache_bytes=0, l0_tables=1)
    with open_database(fs, options) as engine:
        tree = engine.tree("a")
        for name, value in ITEMS.items():
            tree.put(name, value)
        engine.flush()
        while engine.statistics()["level_0_tables"]:
            engine.compact()
        assert engine.statistics()["moves"]
        for _ in range(2):
            before = engine.statistics()["index_partition_reads"]
            assert tree.get(b"user001/1") == ITEMS[b"user001/1"]
            assert engine.statistics()["index_partition_reads"] == before + 1  # type: ignore[operator]
