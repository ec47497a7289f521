"""SSTables: what a stream hands out can be read back from the file, the file is the one its record describes, and failures leave nothing behind."""

from __future__ import annotations

import errno
from dataclasses import replace
from itertools import pairwise

import pytest

from lsmsql.engine.kernel import COMPILED, BlockCache, FilterKind, SortedRows
from lsmsql.engine.manifest.version import TableRecord
from lsmsql.engine.sstable.properties import parse_properties
from lsmsql.engine.sstable.reader import open_table, read_properties
from lsmsql.engine.sstable.writer import UnfinishedTable, begin_tables, filter_kind, finish_tables, table_stream, write_tables
from lsmsql.engine.storage.checksum import checksum128
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.errors import ClosedError, CorruptionError, UsageError
from lsmsql.options import Options
from tests.proof.fault_filesystem import FaultFileSystem, fault_points

from .sstable_world import (
    DATABASE_ID,
    DIRECTORY,
    KEY,
    SMALL,
    TREE,
    close,
    contents,
    contents_of,
    counter,
    lookup,
    memory,
    memtable,
    new_keyring,
    opened,
    rows,
    sink,
    with_fields,
    write,
    write_rows,
)


@pytest.fixture(params=["plain", "encrypted"])
def world(request: pytest.FixtureRequest) -> tuple[MemoryFileSystem, Keyring | None]:
    fs = memory()
    return fs, new_keyring(fs) if request.param == "encrypted" else None


World = tuple[MemoryFileSystem, Keyring | None]


@pytest.mark.parametrize("compression", ["zstd", "none"])
@pytest.mark.parametrize("filter_bits", [0, 10])
def test_what_was_written_is_read(world: World, compression: str, filter_bits: int) -> None:
    fs, keyring = world
    options = Options(block_bytes=256, compression=compression, filter_bits=filter_bits)
    items = rows(200)
    (record,) = write(fs, [(5, items)], keyring, options)
    table = opened(fs, record, keyring)
    assert contents([table]) == items
    assert [lookup([table], key) for key, _ in items] == [(5, 1, value) for _, value in items]
    assert lookup([table], b"SECRETKEY-00007x") is None
    assert lookup([table], items[0][0], seqno=4) is None
    assert table.source.filter_lost is False
    assert (table.source.cipher is not None) is (keyring is not None)
    close(table)


def test_a_table_of_an_older_key_is_read_by_that_key(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = memory()
    keyring, items = new_keyring(fs), rows(200)
    (record,) = write(fs, [(5, items)], keyring)
    newer = keyring.rotate(fs, DIRECTORY, KEY)
    table = opened(fs, record, newer)
    assert (newer.cipher(record.file_id).epoch, table.source.cipher.epoch) == (2, 1)
    if COMPILED:  # Not by the way of damaged blocks.
        monkeypatch.setattr(type(table.source), "open", None)
    assert contents([table]) == items
    assert [lookup([table], key) for key, _ in items] == [(5, 1, value) for _, value in items]
    close(table)


def test_the_record_says_what_is_in_the_file(world: World) -> None:
    fs, keyring = world
    commits = [(5, [(b"b", b"1"), (b"m", b"2")]), (6, [(b"b", None)]), (9, [(b"x", b"3")])]
    (record,) = write(fs, commits, keyring, level=2)
    path = f"{DIRECTORY}/000001.sst"
    assert record == TableRecord(1, TREE, 2, fs.size(path), 4, 1, b"b", b"x", 5, 9, 0, 1, checksum128(fs.read(path)))
    table = opened(fs, record, keyring)
    assert lookup([table], b"b") == (6, 0, b"")
    assert lookup([table], b"b", seqno=5) == (5, 1, b"1")
    assert contents([table], seqno=5) == [(b"b", b"1"), (b"m", b"2")]
    close(table)


def test_the_file_describes_itself(world: World) -> None:
    fs, keyring = world
    (record,) = write(fs, [(5, rows(50)), (6, [(rows(50)[0][0], None)])], keyring, replaced=(8, 9))
    found = read_properties(fs, DIRECTORY, record.file_id, keyring)
    assert (found.database_id, found.file_id, found.tree_id, found.tree_name, found.edit_number) == (DATABASE_ID, 1, TREE, "readings", 3)
    assert (found.entries, found.keys, found.tombstones, found.min_seqno, found.max_seqno, found.global_seqno) == (51, 50, 1, 5, 6, 0)
    assert (found.smallest, found.largest, found.kind_mask) == (record.smallest, record.largest, 0b11)
    assert (found.replaced, found.created_us, found.options) == ((8, 9), 1_000_000, SMALL.to_text())
    assert (found.block_bytes, found.compression_level, found.filter_bits, found.filter_kind) == (256, 1, 10, FilterKind.BLOOM)
    assert found.raw_bytes == sum(len(key) + len(value) for key, value in rows(50)) + len(rows(50)[0][0])
    assert found.blocks > 5
    assert parse_properties(found.pack()) == found


@pytest.mark.parametrize("filter", ["auto", "bloom", "burr", "none"])
def test_the_level_decides_the_filter_where_the_option_does_not(world: World, filter: str) -> None:
    fs, keyring = world
    kinds = {"auto": [1, 1, 2, 2], "bloom": [1] * 4, "burr": [2] * 4, "none": [0] * 4}[filter]
    options = Options(filter=filter)
    source, _arena = memtable([(5, rows(50))])
    for level, kind in zip((0, 1, 2, 6), kinds, strict=True):
        stream = table_stream([source], options, encrypted=keyring is not None, floor=0, level=level)
        (record,) = write_tables(stream, sink(fs, keyring, options, level=level, new_file_id=counter(level + 1)))
        table = opened(fs, record, keyring)
        assert table.source.properties.filter_kind == kind
        assert [lookup([table], key) for key, _ in rows(50)] == [(5, 1, value) for _, value in rows(50)]
        absent = [b"SECRETKEY-%05dx" % n for n in range(49)]
        assert sum(table.may_contain(key) for key in absent) < 10 or not kind
        close(table)
    assert filter_kind(Options(filter=filter, filter_bits=0), 2) == FilterKind.NONE


def test_a_filter_that_makes_no_sense_is_lost(world: World) -> None:
    """Its frame is whole, so only the filter itself can tell."""
    fs, keyring = world
    options = Options(filter="burr", background=False)
    source, _arena = memtable([(5, rows(50))])
    stream = table_stream([source], options, encrypted=keyring is not None, floor=0)
    chunk = stream.next_chunk()
    assert chunk is not None and chunk.table is not None
    for bad in (chunk.table.filter[:-1], chunk.table.filter + b"x", b"x", chunk.table.filter[:5] + b"\3" + chunk.table.filter[6:]):
        destination = sink(fs, keyring, options, new_file_id=counter(40))
        unfinished = UnfinishedTable(destination)
        unfinished.append(unfinished.sealed(chunk.first_block, chunk.frames, chunk.payloads, chunk.dictionary))
        unfinished.end_data(replace(chunk.table, filter=bad))
        (record,) = finish_tables([unfinished], destination)
        table = opened(fs, record, keyring)
        assert table.source.filter_lost
        assert lookup([table], rows(50)[7][0]) == (5, 1, rows(50)[7][1])
        assert table.may_contain(rows(50)[7][0] + b"x")
        close(table)
        fs.remove(table.source.path)


def test_a_long_stream_becomes_several_tables(world: World) -> None:
    fs, keyring = world
    options = Options(block_bytes=512, table_bytes=4000, compression="none")
    items = rows(500, width=60)
    records = write(fs, [(5, items)], keyring, options)
    assert len(records) > 5
    assert [record.file_id for record in records] == list(range(1, len(records) + 1))
    assert all(left.largest < right.smallest for left, right in pairwise(records))
    tables = [opened(fs, record, keyring) for record in records]
    assert contents(tables) == items
    close(*tables)


def test_empty_keys_and_values_and_large_ones(world: World) -> None:
    fs, keyring = world
    items = [(b"", b""), (b"\xff" * 65_535, b"x" * 300_000), (b"k", b"")]
    (record,) = write(fs, [(1, items)], keyring)
    table = opened(fs, record, keyring)
    assert contents([table]) == sorted(items)
    assert (record.smallest, record.largest) == (b"", b"\xff" * 65_535)
    close(table)


def test_an_empty_stream_writes_no_file(world: World) -> None:
    fs, keyring = world
    before = fs.files()
    assert write_rows(fs, [], keyring) == []
    assert fs.files() == before


def test_an_ingested_table_gets_its_seqno_at_the_end(world: World) -> None:
    fs, keyring = world
    options = Options(block_bytes=256, table_bytes=2000, compression="none")
    items = rows(200)
    destination = sink(fs, keyring, options)
    begun = begin_tables(table_stream([SortedRows(items)], options, encrypted=keyring is not None, floor=0), destination)
    assert len(begun) > 2
    records = finish_tables(begun, destination, global_seqno=77)
    assert {(record.min_seqno, record.max_seqno, record.global_seqno) for record in records} == {(77, 77, 77)}
    tables = [opened(fs, record, keyring) for record in records]
    assert contents(tables, seqno=77) == items
    assert contents(tables, seqno=76) == []
    assert lookup(tables, items[3][0]) == (77, 1, items[3][1])
    close(*tables)
    with pytest.raises(CorruptionError, match="seqno"):
        opened(fs, with_fields(records[0], global_seqno=78, min_seqno=78, max_seqno=78), keyring)


def test_an_encrypted_table_shows_nothing_and_costs_what_was_said(world: World) -> None:
    fs, keyring = world
    (record,) = write(fs, [(5, rows(300))], keyring, Options(block_bytes=256, compression="none"))
    data = fs.read(f"{DIRECTORY}/000001.sst")
    assert len(data) == record.size
    if keyring is None:
        assert b"SECRETKEY" in data, "the search would find them"
        assert b"SECRETVALUE" in data
    else:
        for secret in (b"SECRET", b"readings", b"block_bytes"):
            assert secret not in data


def test_a_key_of_another_database_opens_nothing() -> None:
    fs, other = memory(), memory()
    (record,) = write(fs, [(5, rows(10))], new_keyring(fs))
    with pytest.raises(CorruptionError):
        opened(fs, record, new_keyring(other))
    with pytest.raises(CorruptionError, match="encrypted"):
        opened(fs, record, None)


def test_a_plain_table_in_an_encrypted_database_is_refused() -> None:
    fs = memory()
    keyring = new_keyring(fs)
    (record,) = write(fs, [(5, rows(10))], None)
    with pytest.raises(CorruptionError, match="not encrypted"):
        opened(fs, record, keyring)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 999},
        {"tree_id": TREE + 1},
        {"entries": 201},
        {"tombstones": 1},
        {"smallest": b"A"},
        {"largest": b"z"},
        {"min_seqno": 4},
        {"max_seqno": 6},
        {"global_seqno": 1},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_table_that_is_not_what_its_record_says_is_refused(world: World, fields: dict[str, object]) -> None:
    fs, keyring = world
    (record,) = write(fs, [(5, rows(200))], keyring)
    with pytest.raises(CorruptionError) as caught:
        opened(fs, with_fields(record, **fields), keyring)
    assert caught.value.path == f"{DIRECTORY}/000001.sst"
    assert caught.value.offset is not None
    assert b"SECRET".decode() not in str(caught.value)


def test_a_table_under_another_name_is_refused(world: World) -> None:
    fs, keyring = world
    (record,) = write(fs, [(5, rows(20))], keyring)
    fs.rename(f"{DIRECTORY}/000001.sst", f"{DIRECTORY}/000002.sst")
    with pytest.raises(CorruptionError):
        opened(fs, with_fields(record, file_id=2), keyring)
    with pytest.raises(CorruptionError, match="missing"):
        opened(fs, record, keyring)


def test_a_table_of_another_database_is_refused(world: World) -> None:
    fs, keyring = world
    (record,) = write(fs, [(5, rows(20))], keyring)
    with pytest.raises(CorruptionError, match="database"):
        open_table(fs, DIRECTORY, record, keyring, BlockCache(0), database_id=b"another database")


def test_each_file_is_synced_once_and_closed(world: World) -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    keyring = new_keyring(fs) if world[1] else None
    before = len(fs.syncs)
    records = write(fs, [(5, rows(500))], keyring, Options(block_bytes=512, table_bytes=4000, compression="none"))
    assert [operation.path for operation in fs.syncs[before:]] == [f"{DIRECTORY}/{record.file_id:06d}.sst" for record in records]
    assert not fs.open_files
    (image,) = {tuple(sorted(image.files().items())) for image in fs.images() if len(image.files()) == len(fs.files())}
    assert dict(image) == fs.files(), "with their names kept, the files are whole after any power loss"


@pytest.mark.parametrize("kind", ["create", "append", "sync"])
def test_a_failing_write_leaves_no_file(world: World, kind: str) -> None:
    keyring = world[1]
    failures = 0

    def run(fs: FaultFileSystem) -> None:
        write(fs, [(5, rows(300))], keyring, Options(block_bytes=512, table_bytes=4000, compression="none"))

    for fs, raised in fault_points(lambda: FaultFileSystem(directories=[DIRECTORY]), run, kind, errno.ENOSPC):
        assert not fs.open_files
        if raised is None:
            assert fs.list(DIRECTORY)
        else:
            assert isinstance(raised, OSError)
            assert raised.errno == errno.ENOSPC
            assert not fs.list(DIRECTORY)
            failures += 1
    assert failures >= 3


def test_a_failing_open_lets_go_of_the_file(world: World) -> None:
    fs, keyring = world
    (record,) = write(fs, [(5, rows(20))], keyring)
    failures = 0

    def run(other: FaultFileSystem) -> None:
        close(opened(other, record, keyring))

    for other, raised in fault_points(lambda: FaultFileSystem(fs.files()), run):
        assert not other.open_files
        if raised is not None:
            assert isinstance(raised, OSError)
            failures += 1
    assert failures >= 5


def test_a_source_that_fails_leaves_no_file(world: World) -> None:
    fs, keyring = world
    before = fs.files()
    items = rows(100)
    with pytest.raises(UsageError, match="ascend"):
        write_rows(fs, [*items, items[0]], keyring, Options(block_bytes=256, table_bytes=2000))
    assert fs.files() == before


def test_pacing_hears_of_every_byte_and_may_stop(world: World) -> None:
    fs, keyring = world
    before = fs.files()
    items = rows(2000, width=100)
    options = Options(block_bytes=4096, table_bytes=40_000, compression="none")

    class Stop(BaseException):
        pass

    heard: list[int] = []

    def stop(written: int) -> None:
        heard.append(written)
        if len(heard) == 3:
            raise Stop

    def stream():  # type: ignore[no-untyped-def]
        return table_stream([SortedRows(items)], options, encrypted=keyring is not None, floor=0)

    with pytest.raises(Stop):
        write_tables(stream(), sink(fs, keyring, options, pace=stop))
    assert fs.files() == before
    heard.clear()
    records = write_tables(stream(), sink(fs, keyring, options, pace=heard.append, new_file_id=counter(100)))
    assert len(records) >= len(heard) / 2 > 2
    data = sum(contents_of(fs.read(f"{DIRECTORY}/{r.file_id:06d}.sst")).sections[0].size for r in records)
    assert sum(heard) == data


def test_a_table_keeps_its_file_open_until_it_is_closed(world: World) -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    keyring = new_keyring(fs) if world[1] else None
    (record,) = write(fs, [(5, rows(20))], keyring)
    table = opened(fs, record, keyring, cache_bytes=0)
    fs.remove(f"{DIRECTORY}/000001.sst")
    assert contents([table]) == rows(20), "a removed file is read until its last reader is gone"
    assert len(fs.open_files) == 1
    close(table)
    assert not fs.open_files


def test_a_closed_table_says_so(world: World) -> None:
    fs, keyring = world
    (record,) = write(fs, [(5, rows(20))], keyring)
    table = opened(fs, record, keyring)
    close(table)
    with pytest.raises(ClosedError):
        contents([table])
