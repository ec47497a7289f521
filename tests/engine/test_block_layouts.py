"""The layout of data blocks is an option: saved, said by each table of itself, and no reader's concern."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lsmsql import Options, UsageError
from lsmsql.engine.sstable.properties import parse_properties
from lsmsql.engine.sstable.reader import read_properties

from .database_world import INLINE, KEY, memory, open_database, rows, table_paths
from .sstable_world import DIRECTORY, SMALL, close, contents, lookup, opened, write, write_rows
from .sstable_world import rows as some_rows

ROWS = replace(SMALL, block_layout="rows", restart_interval=4, hash_ratio=1.0)


def layouts(fs: Any) -> set[int]:
    """The layout bytes of the first block of each table, which are not compressed."""
    return {fs.files()[path][40 + 4] for path in table_paths(fs)}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"block_layout": "row"}, "block_layout must be one of columns, rows"),
        ({"restart_interval": 0}, "restart_interval must be a number from 1 to 255"),
        ({"restart_interval": 256}, "restart_interval must be a number from 1 to 255"),
        ({"restart_interval": 1.5}, "restart_interval must be a number"),
        ({"hash_ratio": -0.1}, "hash_ratio must be a number from 0 to 8"),
        ({"hash_ratio": float("nan")}, "hash_ratio must be a number from 0 to 8"),
        ({"hash_ratio": "0.75"}, "hash_ratio must be a number"),
    ],
)
def test_impossible_layouts_are_usage_errors(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Options(**fields)


def test_options_of_a_layout_survive_as_text_and_older_texts_mean_columns() -> None:
    options = Options(block_layout="rows", restart_interval=7, hash_ratio=1.33)
    assert Options.from_text(options.to_text()) == options
    older = "".join(
        line for line in Options().to_text().splitlines(True) if line.split()[0] not in ("block_layout", "restart_interval", "hash_ratio")
    )
    assert older.count("\n") == Options().to_text().count("\n") - 3
    assert Options.from_text(older) == Options()
    assert Options().block_layout == "columns"


def test_a_table_says_how_its_blocks_are_laid_out() -> None:
    fs = memory()
    (record,) = write(fs, [(5, some_rows(50))], None, ROWS)
    found = read_properties(fs, DIRECTORY, record.file_id, None)
    assert (found.block_layout, found.restart_interval, found.hash_ratio) == ("rows", 4, 1.0)
    assert parse_properties(found.pack()) == found
    (record,) = write(fs, [(5, some_rows(50))], None, replace(SMALL, hash_ratio=0), tree_id=8, new_file_id=lambda: 9)
    found = read_properties(fs, DIRECTORY, 9, None)
    assert (found.block_layout, found.restart_interval, found.hash_ratio) == ("columns", 16, 0.0)
    with pytest.raises(ValueError, match="block layout"):
        parse_properties(replace(found, block_layout="diagonals").pack())


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
@pytest.mark.parametrize("restart_interval", [1, 16, 255])
@pytest.mark.parametrize("hash_ratio", [0.0, 0.75])
def test_tables_of_rows_are_read_like_any_other(cache_bytes: int, restart_interval: int, hash_ratio: float) -> None:
    fs = memory()
    options = replace(ROWS, restart_interval=restart_interval, hash_ratio=hash_ratio)
    items = some_rows(200)
    (record,) = write(fs, [(5, items), (6, [(items[7][0], None)]), (7, [(items[7][0], b"again")])], None, options)
    table = opened(fs, record, cache_bytes=cache_bytes)
    assert contents([table], seqno=5) == items
    assert [lookup([table], key, seqno=5) for key, _ in items] == [(5, 1, value) for _, value in items]
    assert [lookup([table], items[7][0], seqno=seqno) for seqno in (4, 6, 7)] == [None, (6, 0, b""), (7, 1, b"again")]
    assert lookup([table], items[7][0] + b"x") is None
    close(table)


def test_an_ingested_table_of_rows_reads_at_its_seqno() -> None:
    fs = memory()
    (record,) = write_rows(fs, some_rows(100), None, ROWS)
    assert record.entries == 100
    with open_database(memory(), replace(INLINE, block_layout="rows", cache_bytes=0)) as database:
        tree = database.tree("t")
        tree.put(b"before", b"1")
        with database.snapshot() as snapshot:
            tree.ingest(some_rows(100))
            assert dict(tree.scan()) == {b"before": b"1", **dict(some_rows(100))}
            assert tree.get(some_rows(100)[3][0], snapshot=snapshot) is None
            assert tree.get(some_rows(100)[3][0]) == some_rows(100)[3][1]


@pytest.mark.parametrize("key", [None, KEY])
def test_tables_of_both_layouts_lie_in_one_tree(key: bytes | None) -> None:
    fs = memory()
    expected: dict[bytes, bytes] = {}
    for turn, layout in enumerate(("columns", "rows", "columns", "rows")):
        with open_database(
            fs, replace(INLINE, block_layout=layout, compression="none", l0_tables=100, l0_slowdown=100, l0_stop=100), key=key
        ) as found:
            tree = found.tree("t")
            assert rows(tree) == expected
            for number in range(turn, 120, turn + 1):
                expected[b"k%03d" % number] = b"%d in turn %d" % (number, turn)
            tree.put_many([item for item in expected.items() if item[1].endswith(b"%d" % turn)])
            tree.delete(b"k%03d" % turn)
            expected.pop(b"k%03d" % turn, None)
            found.flush()
            assert rows(tree) == expected
    if key is None:
        assert layouts(fs) == {1, 2}
    with open_database(fs, replace(INLINE, block_layout="rows", compression="none"), key=key) as found:
        found.tree("t").put(b"last", b"1")  # A compaction that would change nothing else does not change the layout.
        found.compact()
        expected[b"last"] = b"1"
        assert rows(found.tree("t")) == expected
        if key is None:
            assert layouts(fs) == {2}
    with open_database(fs, None, key=key) as found:  # With the options saved, and so from rows to rows.
        found.tree("t").put(b"more", b"1")
        found.compact()
        assert rows(found.tree("t")) == {**expected, b"more": b"1"}
        if key is None:
            assert layouts(fs) == {2}
