"""A tree's dictionary: trained in compaction where it pays, shared by its tables, replaced when the data has changed, gone with its last table."""

from __future__ import annotations

import gc
import random
import weakref
from dataclasses import replace
from typing import Any

import pytest

from lsmsql import CorruptionError, Options, UsageError
from lsmsql.engine.database import Database
from lsmsql.engine.reader import ReadOnlyDatabase
from lsmsql.engine.sstable.block_form import block_form
from lsmsql.engine.sstable.table_of_contents import SectionType

from ..storage.dictionary_world import json_rows
from .database_world import DIRECTORY, KEY, memory, open_database, table_paths
from .sstable_world import contents_of

OPTIONS = Options(background=False, durability="off", block_bytes=1024, memtable_bytes=1 << 20, table_bytes=60_000, dictionary_bytes=2048)
ROWS = json_rows(4000)
Rows = list[tuple[bytes, bytes]]


def noise(count: int = 2000, seed: int = 5) -> Rows:
    source = random.Random(seed)
    return [(b"%08d" % number, source.randbytes(160)) for number in range(count)]


def others(count: int = 4000, seed: int = 6) -> Rows:
    """Rows that have much in common with one another, and nothing with json_rows."""
    source = random.Random(seed)
    words = [bytes(source.choices(b"<>/=;:()*#", k=12)) for _ in range(40)]
    return [(b"%08d" % number, b"".join(source.choices(words, k=9)) + b"%d" % source.randrange(10**9)) for number in range(count)]


def fill(engine: Database, rows: Rows, name: str = "tree") -> Any:
    tree = engine.tree(name)
    tree.put_many(rows)
    engine.flush()
    engine.compact(tree)
    return tree


def figures(engine: Database | ReadOnlyDatabase) -> tuple[int, int]:
    """(dictionaries in use, tables that embed one)"""
    found = engine.statistics()
    return int(found["dictionaries"]), int(found["dictionary_tables"])


def ids(engine: Database) -> set[int]:
    """Of the dictionaries of all tables, as their first blocks' headers say."""
    tables = engine.instance.line.published.state.live.tables.values()
    return {int.from_bytes(table.source.file.read_at(8, 4), "little") for table in tables}


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize("layout", [{"block_layout": "columns"}, {"block_layout": "rows"}, {"index": "partitioned", "partition_bytes": 300}], ids=str)
def test_where_it_pays_the_tables_of_a_tree_share_one(key: bytes | None, layout: dict[str, Any]) -> None:
    fs = memory()
    with open_database(fs, replace(OPTIONS, **layout), key=key) as engine:
        tree = fill(engine, ROWS)
        assert figures(engine)[0] == 1 and figures(engine)[1] == engine.statistics()["tables"] > 1
        assert list(tree.scan()) == ROWS
        assert len(ids(engine)) == 1 and 0 not in ids(engine)
        with_it = engine.statistics()["table_bytes"]
    with open_database(fs, None, key=key) as engine:
        tree = engine.tree("tree")
        assert list(tree.scan(reverse=True)) == ROWS[::-1]
        assert tree.get_many([name for name, _ in ROWS[::7]]) == [value for _, value in ROWS[::7]]
    with ReadOnlyDatabase.open(DIRECTORY, None, key=key, filesystem=fs) as reader:
        assert figures(reader)[0] == 1 and list(reader.tree("tree").scan()) == ROWS
    with open_database(memory(), replace(OPTIONS, **layout, dictionary_bytes=0), key=key) as engine:
        fill(engine, ROWS)
        assert figures(engine) == (0, 0)
        assert with_it < 0.85 * int(engine.statistics()["table_bytes"])


def test_rows_of_json_in_blocks_of_4_kib_take_15_percent_less() -> None:
    rows = json_rows(20_000)
    sizes = []
    for dictionary_bytes in (0, 16 << 10):
        with open_database(memory(), Options(background=False, durability="off", block_bytes=4096, dictionary_bytes=dictionary_bytes)) as engine:
            fill(engine, rows)
            sizes.append(int(engine.statistics()["table_bytes"]))
    assert sizes[1] < 0.85 * sizes[0]


def test_where_it_does_not_pay_there_is_none_and_training_becomes_rare() -> None:
    fs = memory()
    with open_database(fs, OPTIONS) as engine:
        for turn in range(20):
            fill(engine, noise(700, turn))
        assert figures(engine) == (0, 0) and ids(engine) == {0}
        assert engine.statistics()["adopted_dictionaries"] == 0
        assert int(engine.statistics()["trained_dictionaries"]) <= 6


def test_short_trees_have_none() -> None:
    with open_database(memory(), OPTIONS) as engine:
        fill(engine, ROWS[:20])
        assert engine.statistics()["trained_dictionaries"] == 0 and figures(engine) == (0, 0)


def test_it_stays_while_it_pays_also_over_a_restart() -> None:
    fs = memory()
    with open_database(fs, OPTIONS) as engine:
        fill(engine, ROWS)
        (first,) = ids(engine)
        for seed in (2, 3):
            fill(engine, json_rows(4000, seed))
        assert ids(engine) == {first} and engine.statistics()["trained_dictionaries"] == 1
    with open_database(fs, OPTIONS) as engine:
        tree = fill(engine, json_rows(4000, 4))
        assert ids(engine) == {first} and engine.statistics()["trained_dictionaries"] == 0
        assert list(tree.scan()) == json_rows(4000, 4)


def test_small_tables_do_without_it_and_the_tree_keeps_it() -> None:
    fs = memory()
    with open_database(fs, replace(OPTIONS, l0_tables=2)) as engine:
        tree = fill(engine, ROWS)
        (learned,) = ids(engine)
        for seed in (2, 3):  # Two tables in level 0, with nothing below: they are merged by themselves.
            tree.put_many([(b"9" + key, value) for key, value in json_rows(100, seed)])
            engine.flush()
        assert engine.statistics()["compactions"] == 2 and ids(engine) == {learned, 0}
        fill(engine, json_rows(4000, 4))
        assert ids(engine) == {learned} and engine.statistics()["trained_dictionaries"] == 1


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_another_kind_of_data_gets_another_one_and_the_first_is_retired(key: bytes | None) -> None:
    fs = memory()
    with open_database(fs, OPTIONS, key=key) as engine:
        tree = fill(engine, ROWS)
        (first,) = ids(engine)
        held = {weakref.ref(table.source.dictionary) for table in engine.instance.line.published.state.live.tables.values()}
        assert len(held) == 1 and None not in {ref() for ref in held}
        fill(engine, others())
        fill(engine, others())  # Its edit finds that nobody reads the files that the one before has replaced.
        assert first not in ids(engine) and figures(engine)[0] == 1
        assert list(tree.scan()) == others()
        gc.collect()
        assert {ref() for ref in held} == {None}
        fill(engine, noise(4000))
        assert figures(engine) == (0, 0) and ids(engine) == {0}
        assert list(tree.scan()) == noise(4000)


def test_trees_have_each_their_own_and_dropped_ones_are_forgotten() -> None:
    fs = memory()
    with open_database(fs, OPTIONS) as engine:
        fill(engine, ROWS, "a")
        fill(engine, others(), "b")
        assert figures(engine)[0] == 2 and len(ids(engine)) == 2
        engine.drop_tree("a")
        gc.collect()
        tree = fill(engine, others(seed=7), "b")
        assert figures(engine)[0] == 1 and len(engine.instance.upkeep.dictionaries._trees) == 1
        assert list(tree.scan()) == others(seed=7)


def test_without_the_option_tables_are_rewritten_without_one() -> None:
    fs = memory()
    with open_database(fs, OPTIONS) as engine:
        fill(engine, ROWS)
    for without in ({"dictionary_bytes": 0}, {"compression": "none"}):
        with open_database(fs, replace(OPTIONS, **without)) as engine:  # type: ignore[arg-type]
            tree = engine.tree("tree")
            assert list(tree.scan()) == ROWS
            fill(engine, ROWS)
            assert figures(engine) == (0, 0) and ids(engine) == {0}
        with open_database(fs, OPTIONS) as engine:
            fill(engine, ROWS)
            fill(engine, ROWS)
            assert figures(engine)[0] == 1


def lost(data: bytes, *copies: int) -> bytes:
    for copy in copies:
        section = contents_of(data).find(SectionType.DICTIONARY, copy)
        assert section is not None
        data = data[: section.offset] + bytes(section.size) + data[section.end :]
    return data


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_a_lost_dictionary_is_read_from_its_mirror_and_two_lost_ones_are_corruption(key: bytes | None) -> None:
    fs = memory()
    with open_database(fs, OPTIONS, key=key) as engine:
        fill(engine, ROWS)
    path = table_paths(fs)[-1]
    whole = fs.files()[path]
    for copies in ((0,), (1,), (0, 1)):
        fs.remove(path)
        file = fs.create(path)
        file.append(lost(whole, *copies))
        file.close()
        if len(copies) == 2:
            with pytest.raises(CorruptionError) as caught:
                open_database(fs, None, key=key)
            assert caught.value.path == path and caught.value.offset is not None
            continue
        with open_database(fs, None, key=key) as engine:
            assert list(engine.tree("tree").scan()) == ROWS
            assert engine.statistics()["repaired_blocks"] == (copies == (0,))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dictionary_bytes": -1}, "dictionary_bytes must be a number from 0 to 131072"),
        ({"dictionary_bytes": 255}, "dictionary_bytes must be 0 or at least 256"),
        ({"dictionary_bytes": 131_073}, "dictionary_bytes must be a number"),
        ({"dictionary_bytes": "auto"}, "dictionary_bytes must be a number"),
        ({"compression_level": 0}, "compression_level must be a number from 1 to 19, or a tuple"),
        ({"compression_level": ()}, "compression_level must be a number"),
        ({"compression_level": (1,) * 8}, "compression_level must be a number"),
        ({"compression_level": (1, 20)}, "compression_level must be a number"),
        ({"compression_level": (1, True)}, "compression_level must be a number"),
        ({"compression_level": [1, 3]}, "compression_level must be a number"),
        ({"compression_level": "3"}, "compression_level must be a number"),
    ],
)
def test_impossible_options_are_usage_errors(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Options(**fields)


@pytest.mark.parametrize("level", [1, 7, (3,), (1, 1, 3)])
def test_options_survive_as_text(level: int | tuple[int, ...]) -> None:
    options = Options(compression_level=level, dictionary_bytes=0)
    assert Options.from_text(options.to_text()) == options
    for bad in ("(1, 3", "1, 3", "(a)", "3.5", ""):
        with pytest.raises(UsageError):
            Options.from_text(f"compression_level = {bad}\n")


def test_the_compression_level_follows_the_level_of_the_tree() -> None:
    options = replace(OPTIONS, compression_level=(1, 3, 7))
    assert [block_form(options, level).compression_level for level in range(7)] == [1, 3, 7, 7, 7, 7, 7]
    assert block_form(options, None).compression_level == 7 and block_form(OPTIONS, 5).compression_level == 1
    assert block_form(replace(options, compression="none"), 2).compression_level == 0
    with open_database(memory(), options) as engine:
        tree = engine.tree("tree")

        def levels() -> set[int]:
            return {table.source.properties.compression_level for table in engine.instance.line.published.state.live.tables.values()}

        tree.put_many(ROWS)
        engine.flush()
        assert levels() == {1}
        engine.compact(tree)
        assert levels() == {3}
        assert list(tree.scan()) == ROWS
        engine.tree("other").ingest(ROWS)
        assert levels() == {3, 7}
