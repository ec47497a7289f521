"""Options by level of the tree: what a table's blocks are like is decided by the level that it was written for."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

import lsmsql
from lsmsql import Options, UsageError
from lsmsql.engine.database import Database
from lsmsql.engine.sstable.block_form import BlockForm, block_form
from lsmsql.engine.sstable.properties import parse_properties
from lsmsql.engine.storage.compression import Codec
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.table_dump import open_dump, verify_table

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


# Blocks in parts

PARTED = Options(
    background=False,
    block_bytes=(400, 6000),
    block_parts=(1, 8),
    compression_level=(1, 3),
    l0_tables=9,
    l0_slowdown=9,
    index="partitioned",
    partition_bytes=200,
)


def json_like(count: int, seed: int) -> dict[bytes, bytes]:
    rng = random.Random(seed)
    words = [bytes(rng.choices(b"abcdefghij", k=7)) for _ in range(300)]
    return {b"%06d" % n: b" ".join(rng.choices(words, k=20)) for n in rng.sample(range(10**6), count)}


def properties_of(engine: Database) -> list[Any]:
    state = engine.instance.line.published.state
    return [state.live.tables[table.file_id].source.properties for table in engine.instance.line.version.tables()]


@pytest.mark.parametrize("key", [None, bytes(range(32))], ids=["plain", "encrypted"])
def test_a_level_s_blocks_are_stored_in_parts_and_read(key: bytes | None) -> None:
    rows = json_like(1500, 1)
    fs = MemoryFileSystem()
    with Database.open("/db", PARTED, key=key, filesystem=fs) as engine:
        tree = engine.tree("kv")
        tree.put_many(rows.items())
        engine.flush()
        assert [(found.block_bytes, found.block_parts) for found in properties_of(engine)] == [(400, 1)]
        engine.compact()
        assert [(found.block_bytes, found.block_parts, found.dictionary_id) for found in properties_of(engine)] == [(750, 8, 0)]
        parted = properties_of(engine)[0].data_bytes
    with Database.open("/db", key=key, filesystem=fs) as engine:
        tree = engine.tree("kv")
        assert engine.options == PARTED
        assert {name: tree.get(name) for name in rows} == rows and dict(tree.scan()) == rows
        (path,) = [f"/db/{name}" for name in fs.list("/db") if name.endswith(".sst")]
        dump = open_dump(path, key, fs)
        assert not verify_table(dump).problems and dump.properties().block_parts == 8
        assert {line.header.codec for line in dump.blocks() if line.header and line.number % 8} == {Codec.ZSTD_LEAD}
        assert [entry.key for number in (9, 3, 20, 16) for entry in dump.block(number)]
        dump.close()
    alone = replace(PARTED, block_bytes=(400, 750), block_parts=1, dictionary_bytes=0)
    with Database.open("/db", alone, key=key, filesystem=MemoryFileSystem()) as engine:
        engine.tree("kv").put_many(rows.items())
        engine.flush()
        engine.compact()
        assert parted < 0.95 * properties_of(engine)[0].data_bytes


def test_parts_that_cannot_be_are_refused() -> None:
    for options in (
        {"block_parts": 0},
        {"block_parts": 257},
        {"block_parts": "2"},
        {"block_parts": (1, 2, 0)},
        {"block_parts": 9, "block_bytes": 8},
        {"block_parts": (1, 9), "block_bytes": (100, 8)},
        {"block_parts": 2, "compression": "none"},
        {"block_parts": 2, "compression": ("none", "zstd")},
    ):
        with pytest.raises(UsageError, match="block_parts"):
            Options(**options)  # type: ignore[arg-type]
    options = Options(compression=("none", "zstd"), block_parts=(1, 16), block_bytes=(8192, 1 << 18))
    assert Options.from_text(options.to_text()) == options
    assert block_form(options, 1) == BlockForm(1 << 14, False, 1, 16) and block_form(options, 0) == BlockForm(8192, False, 0, 1)


def test_properties_say_of_parts_only_where_there_are_any() -> None:
    with Database.open("/db", replace(PARTED, block_parts=1), filesystem=MemoryFileSystem()) as engine:
        engine.tree("kv").put(b"k", b"v")
        engine.flush()
        (alone,) = properties_of(engine)
    assert alone.block_parts == 1
    packed = replace(alone, block_parts=5).pack()
    assert len(packed) == len(alone.pack()) + 5 + 8 and packed.startswith(alone.pack())
    assert parse_properties(packed).block_parts == 5 and parse_properties(alone.pack()) == alone
    for impossible in ({"block_parts": 0}, {"block_parts": 257}, {"block_parts": 1 << 40}, {"block_parts": 2, "dictionary_id": 7}):
        with pytest.raises(ValueError, match="parts"):
            parse_properties(replace(alone, **impossible).pack())  # type: ignore[arg-type]
