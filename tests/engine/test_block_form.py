"""Options by level of the tree: what a table's blocks are like is decided by the level that it was written for."""

from __future__ import annotations

import random
from typing import Any

import pytest

import lsmsql
from lsmsql import Options, UsageError
from lsmsql.engine.database import Database
from lsmsql.engine.sstable.block_form import BlockForm, block_form
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem

BY_LEVEL = Options(
    background=False,
    compression=("none", "zstd"),
    compression_level=(1, 2, 5),
    block_bytes=(500, 2000),
    block_layout=("rows", "columns"),
    dictionary_bytes=0,
)


def test_the_last_of_the_levels_holds_for_all_deeper_ones() -> None:
    assert [block_form(BY_LEVEL, level) for level in (0, 1, 2, 6, None)] == [
        BlockForm(500, True, 0),
        BlockForm(2000, False, 2),
        BlockForm(2000, False, 5),
        BlockForm(2000, False, 5),
        BlockForm(2000, False, 5),
    ]
    assert block_form(Options(), 3) == BlockForm(8192, False, 1)


def forms(engine: Database) -> set[tuple[int, int, str, int]]:
    """(level, block_bytes, layout, compression level) of every table, as its own properties say."""
    found = set()
    for table in engine.instance.line.version.tables():
        properties = engine.instance.line.published.state.live.tables[table.file_id].source.properties
        found.add((table.level, properties.block_bytes, properties.block_layout, properties.compression_level))
    return found


def test_tables_are_written_as_their_level_says() -> None:
    rng = random.Random(1)
    rows = {rng.randbytes(8): rng.randbytes(20) * 3 for _ in range(2000)}
    with Database.open("/db", BY_LEVEL, filesystem=MemoryFileSystem()) as engine:
        tree = engine.tree("kv")
        tree.put_many(rows.items())
        engine.flush()
        assert forms(engine) == {(0, 500, "rows", 0)}
        engine.compact()
        ((level, *form),) = forms(engine)
        assert level > 0 and form == [2000, "columns", 2 if level == 1 else 5]
        tree.put(b"k", b"v")
        engine.flush()
        assert len(forms(engine)) == 2
        assert dict(tree.scan()) == {**rows, b"k": b"v"}
        ingested = engine.tree("ingested")
        ingested.ingest(sorted(rows.items()))
        assert forms(engine) >= {(6, 2000, "columns", 5)}
        assert dict(ingested.scan()) == rows


def test_options_by_level_are_saved_with_the_data(tmp_path: Any) -> None:
    assert Options.from_text(BY_LEVEL.to_text()) == BY_LEVEL
    assert "block_layout = (rows, columns)\n" in BY_LEVEL.to_text()
    lsmsql.open(tmp_path / "db", BY_LEVEL).close()
    with lsmsql.open(tmp_path / "db") as engine:
        assert engine.options == BY_LEVEL


@pytest.mark.parametrize(
    "wrong",
    [
        {"block_bytes": ()},
        {"block_bytes": (0, 1)},
        {"block_bytes": (4096,) * 8},
        {"block_bytes": [4096]},
        {"block_bytes": "4096"},
        {"block_layout": ("rows", "cells")},
        {"block_layout": ()},
        {"compression": ("zstd", "lz4")},
        {"compression": ["zstd"]},
    ],
)
def test_what_is_no_option_of_a_level_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Options(**wrong)


@pytest.mark.parametrize(
    "value", ["block_bytes = (1, x)", "block_bytes = (1", "compression = (zstd", "block_layout = ()", "compression = (zstd, lz)"]
)
def test_unreadable_levels_are_refused(value: str) -> None:
    with pytest.raises(UsageError):
        Options.from_text(value)
