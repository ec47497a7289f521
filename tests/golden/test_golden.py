"""Databases that earlier code has written, byte for byte as it left them: they open, say what they said, and are whole.

Where they do not, a format has changed. If that is on purpose, docs/formats.md says so, its version is another one, and `python -m tests.golden.make`
makes them anew (after version 1.0: beside the old ones, which then still have to be read).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lsmsql
from lsmsql.connection import connect
from lsmsql.engine.sstable.reader import TableFile
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.table_dump import open_dump, verify_table
from tests.proof.workload import contents, seen

from .databases import BLOBS, DATABASES, DIRECTORY, FRAGMENTS, ITEMS, KEY, PASSPHRASE, SQL_ROWS, STORY, TABLES, made, stored, told


def restored(name: str) -> MemoryFileSystem:
    return MemoryFileSystem({f"{DIRECTORY}/{file}": data for file, data in stored(name).items()})


def tables(fs: MemoryFileSystem) -> list[str]:
    return [fs.join(DIRECTORY, name) for name in fs.list(DIRECTORY) if name.endswith(".sst")]


@pytest.mark.parametrize("name", DATABASES)
def test_a_golden_database_says_what_it_said(name: str) -> None:
    options, key = DATABASES[name]
    fs = restored(name)
    reader: Any = lsmsql.open(DIRECTORY, key=key, filesystem=fs, read_only=True)
    assert seen(reader) == told()
    reader.close()
    engine = lsmsql.open(DIRECTORY, key=key, filesystem=fs)
    assert engine.options == options and seen(engine) == told()
    engine.flush()
    engine.compact()
    assert seen(engine) == told()
    engine.tree("names").put(b"new", b"row")
    engine.close()
    engine = lsmsql.open(DIRECTORY, key=key, filesystem=fs)
    assert contents(engine, "names") == {**told()["trees"]["names"], b"new": b"row"}
    engine.close()


@pytest.mark.parametrize("name", DATABASES)
def test_every_table_of_a_golden_database_is_whole(name: str) -> None:
    options, key = DATABASES[name]
    fs = restored(name)
    found = tables(fs)
    assert len(found) > 3
    levels = set()
    for path in found:
        dump = open_dump(path, key, fs)
        verified = verify_table(dump)
        assert not verified.problems, verified.problems
        properties = dump.properties()
        assert verified.entries == properties.entries and verified.checked == (verified.entries if options.kv_checksums == "all" else 0)
        assert properties.block_layout == options.block_layout and bool(properties.partitions) == (options.index == "partitioned")
        levels.add(bool(properties.replaced))
        dump.close()
    assert levels == {False, True}, "flushed ones and compacted ones"


@pytest.mark.parametrize("name", DATABASES)
def test_a_golden_database_does_not_open_without_its_key(name: str) -> None:
    key = DATABASES[name][1]
    for wrong in (None, "another passphrase", bytes(32)):
        if wrong == key:
            continue
        with pytest.raises(lsmsql.Error):
            lsmsql.open(DIRECTORY, key=wrong, filesystem=restored(name))


@pytest.mark.parametrize("name", [name for name, (options, key) in DATABASES.items() if key is None and options.compression == "none"])
def test_the_same_story_makes_the_same_blocks(name: str) -> None:
    """Byte for byte, parity included, where no nonce is drawn and no other version of zstd can make other bytes."""
    now = {file: data for file, data in made(name).items() if file.endswith(".sst")}
    then = {file: data for file, data in stored(name).items() if file.endswith(".sst")}
    assert now.keys() == then.keys()
    for file, data in now.items():
        path = f"{DIRECTORY}/{file}"
        size = open_dump(path, filesystem=MemoryFileSystem({path: data})).properties().data_bytes
        assert data[:size] == then[file][:size], f"{name}: blocks are written otherwise than before"


@pytest.mark.parametrize("name", TABLES)
def test_a_golden_table_has_its_sections(name: str) -> None:
    fs = restored(name)
    (path,) = tables(fs)
    dump = open_dump(path, filesystem=fs)
    assert not verify_table(dump).problems
    rows = [(entry.key, entry.value) for entry in dump.entries()]
    assert rows == ([(b"f", b"")] if name == "sentinel" else ITEMS)
    assert dump.range_tombstones() == (() if name == "dictionary" else FRAGMENTS)
    assert dump.blob_files() == (BLOBS if name == "range_tombstones" else ())
    assert (dump.dictionary() is not None) == (name == "dictionary") == bool(dump.properties().dictionary_id)
    source = TableFile(fs.open(path), None)
    assert (source.range_tombstones(), source.blob_files()) == (dump.range_tombstones(), dump.blob_files())


def test_a_golden_database_of_sql_says_what_it_said(tmp_path: Path) -> None:
    for name, data in stored("sql").items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    db = connect(str(tmp_path / "app.db"), key=PASSPHRASE)
    assert db.execute("SELECT group_concat(x) FROM ordinary").get == "1,2"
    assert sorted(db.execute("SELECT * FROM t").fetchall(), key=repr) == sorted(SQL_ROWS, key=repr)
    assert db.execute("SELECT b FROM t WHERE a = 'TEXT' ORDER BY b").fetchall() == [(5,), (6,)]
    assert db.execute("SELECT * FROM r ORDER BY id").fetchall() == [(-1, None), (7, "seven again")]
    db.execute("INSERT INTO r VALUES (8, 'new')")
    db.close()


def test_the_story_tells_something() -> None:
    assert {what for what, *_ in STORY} == {"put", "delete", "flush", "compact", "ingest", "snapshot"} and KEY
    assert set(told()["trees"]) == {"readings", "names", "third tree"} and told()["snapshots"]["monday"]["third tree"] == {}
