"""Range tombstones and linked blob files in SSTables: written, mirrored, read back, and damage told."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmsql.engine.kernel import BlockCache, Kind, SortedRows
from lsmsql.engine.manifest.version import TableRecord
from lsmsql.engine.sstable.blob_files import LinkedBlobFile, pack_blob_files, parse_blob_files
from lsmsql.engine.sstable.dump import TableDump
from lsmsql.engine.sstable.range_tombstones import Fragment, RangeTombstone, fragment, pack_fragments, parse_fragments
from lsmsql.engine.sstable.reader import TableFile, open_table
from lsmsql.engine.sstable.sentinel import begin_sentinel
from lsmsql.engine.sstable.table_of_contents import SECTOR_BYTES, SectionType
from lsmsql.engine.sstable.writer import begin_tables, discard_tables, finish_tables, table_stream
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.storage.parity import Repairs
from lsmsql.errors import CorruptionError, UsageError

from .sstable_world import DATABASE_ID, DIRECTORY, SMALL, close, contents, contents_of, memory, memtable, new_keyring, opened, rows, sink

PATH = f"{DIRECTORY}/000001.sst"
KEYS = st.binary(max_size=3)
TOMBSTONES = st.lists(st.builds(RangeTombstone, KEYS, KEYS, st.integers(1, 9)), max_size=8)
FRAGMENTS = fragment([RangeTombstone(b"SECRETKEY-a", b"SECRETKEY-m", 9), RangeTombstone(b"SECRETKEY-f", b"SECRETKEY-z", 4)])
BLOBS = (LinkedBlobFile(3, 10, 5000, 1200), LinkedBlobFile(9, 1, 1 << 33, 1 << 32))


@pytest.fixture(params=["plain", "encrypted"])
def world(request: pytest.FixtureRequest) -> tuple[MemoryFileSystem, Keyring | None]:
    fs = memory()
    return fs, new_keyring(fs) if request.param == "encrypted" else None


def write(fs: MemoryFileSystem, keyring: Keyring | None, sentinel: bool = False, **attached: Any) -> TableRecord:
    where = sink(fs, keyring)
    if sentinel:
        begun = begin_sentinel(attached.get("range_tombstones", FRAGMENTS), where)
    else:
        source, _arena = memtable([(5, rows(60))])
        begun = begin_tables(table_stream([source], SMALL, encrypted=keyring is not None, floor=0), where)
        begun[0].attach(**attached)
    (record,) = finish_tables(begun, where)
    return record


def read(fs: MemoryFileSystem, keyring: Keyring | None, repairs: Repairs | None = None) -> TableFile:
    return TableFile(fs.open(PATH), keyring.cipher(1) if keyring else None, repairs)


def hidden(tombstones: Sequence[RangeTombstone], key: bytes, seqno: int) -> set[int]:
    return {tombstone.seqno for tombstone in tombstones if tombstone.start <= key < tombstone.end and seqno < tombstone.seqno}


@given(TOMBSTONES)
def test_fragments_say_what_the_tombstones_say(tombstones: list[RangeTombstone]) -> None:
    fragments = fragment(tombstones)
    for key in {bound for tombstone in tombstones for bound in (*tombstone[:2], tombstone.start + b"\0", tombstone.end[:-1])}:
        of_fragments = [RangeTombstone(start, end, seqno) for start, end, seqnos in fragments for seqno in seqnos]
        assert hidden(of_fragments, key, 0) == hidden(tombstones, key, 0)
    assert all(a.end < b.start or (a.end == b.start and a.seqnos != b.seqnos) for a, b in pairwise(fragments))
    if fragments:
        assert parse_fragments(pack_fragments(fragments)) == fragments
    else:
        with pytest.raises(ValueError):
            pack_fragments(fragments)


@pytest.mark.parametrize(
    "fragments",
    [
        (),
        (Fragment(b"b", b"a", (1,)),),
        (Fragment(b"a", b"a", (1,)),),
        (Fragment(b"a", b"b", ()),),
        (Fragment(b"a", b"b", (1, 2)),),
        (Fragment(b"a", b"b", (2, 2)),),
        (Fragment(b"a", b"b", (1, 0)),),
        (Fragment(b"a", b"b", (1 << 56,)),),
        (Fragment(b"a", b"c", (1,)), Fragment(b"b", b"d", (1,))),
        (Fragment(b"c", b"d", (1,)), Fragment(b"a", b"b", (1,))),
        (Fragment(b"a", b"b" * 65_536, (1,)),),
    ],
)
def test_impossible_range_tombstones_are_neither_written_nor_read(fragments: tuple[Fragment, ...]) -> None:
    with pytest.raises(ValueError):
        pack_fragments(fragments)
    seqnos = [seqno for one in fragments for seqno in one.seqnos]
    n = len(fragments)
    lengths = [min(65_535, len(one[side])) for side in (0, 1) for one in fragments]
    counts = [len(one.seqnos) for one in fragments]
    keys = b"".join(one[side] for side in (0, 1) for one in fragments)
    with pytest.raises(ValueError):
        parse_fragments(struct.pack(f"<II{2 * n}H{n}I{len(seqnos)}Q", n, len(seqnos), *lengths, *counts, *seqnos) + keys)


def test_the_encoding_of_range_tombstones_stays_what_it_is() -> None:
    raw = pack_fragments((Fragment(b"", b"b", (9, 2)), Fragment(b"b", b"cc", (5,))))
    columns = "02000000 03000000 0000 0100 0100 0200 02000000 01000000"
    assert raw.hex() == (columns + "0900000000000000 0200000000000000 0500000000000000 62 62 6363").replace(" ", "")


def test_damaged_sections_are_other_sections_or_refused() -> None:
    for data, parse in ((pack_fragments(FRAGMENTS), parse_fragments), (pack_blob_files(BLOBS), parse_blob_files)):
        found = parse(data)  # type: ignore[operator]
        damaged = [data[:length] for length in range(len(data))] + [data + b"\0"]
        damaged += [data[:n] + bytes((data[n] ^ flip,)) + data[n + 1 :] for n in range(len(data)) for flip in (1, 0x80, 0xFF)]
        for bad in damaged:
            try:
                assert parse(bad) != found  # type: ignore[operator]
            except ValueError:
                pass


@pytest.mark.parametrize(
    "files",
    [(), (BLOBS[1], BLOBS[0]), (BLOBS[0], BLOBS[0]), (LinkedBlobFile(0, 1, 1, 1),), (LinkedBlobFile(1, 0, 0, 0),), (LinkedBlobFile(1, 1, -1, 0),)],
)
def test_impossible_blob_files_are_not_written(files: tuple[LinkedBlobFile, ...]) -> None:
    with pytest.raises(ValueError):
        pack_blob_files(files)


def test_linked_blob_files_come_back_and_the_table_answers(world: tuple[MemoryFileSystem, Keyring | None]) -> None:
    fs, keyring = world
    record = write(fs, keyring, blob_files=BLOBS)
    table = opened(fs, record, keyring)
    assert table.source.blob_files() == BLOBS and table.source.properties.blob_files == 2 and table.source.range_tombstones() == ()
    assert contents([table]) == rows(60)
    close(table)


def test_range_tombstones_come_back_and_widen_the_bounds(world: tuple[MemoryFileSystem, Keyring | None]) -> None:
    fs, keyring = world
    record = write(fs, keyring, range_tombstones=FRAGMENTS, blob_files=BLOBS)
    source = read(fs, keyring)
    assert source.range_tombstones() == FRAGMENTS and source.blob_files() == BLOBS
    assert (record.smallest, record.largest, record.min_seqno, record.max_seqno) == (rows(1)[0][0], b"SECRETKEY-z", 4, 9)
    properties = source.properties
    assert (properties.range_tombstones, properties.sentinel, properties.entries) == (len(FRAGMENTS), 0, 60)
    assert (properties.smallest, properties.largest, properties.min_seqno, properties.max_seqno) == (rows(1)[0][0], b"SECRETKEY-z", 4, 9)
    source.close()
    dump = TableDump(fs.open(PATH), keyring.cipher(1) if keyring else None)
    assert dump.range_tombstones() == FRAGMENTS and dump.blob_files() == BLOBS
    assert {state for _, state in dump.sections()} == {"whole"}
    assert (b"SECRETKEY-m" in fs.read(PATH)) <= (keyring is None)


def test_a_table_with_range_tombstones_is_not_opened_by_what_would_ignore_them(world: tuple[MemoryFileSystem, Keyring | None]) -> None:
    fs, keyring = world
    record = write(fs, keyring, range_tombstones=FRAGMENTS)
    with pytest.raises(CorruptionError, match="range tombstones, which this version cannot apply") as caught:
        open_table(fs, DIRECTORY, record, keyring, BlockCache(0), database_id=DATABASE_ID)
    assert caught.value.path == PATH and caught.value.offset


def test_a_table_of_nothing_but_range_tombstones_has_bounds_and_a_sentinel(world: tuple[MemoryFileSystem, Keyring | None]) -> None:
    fs, keyring = world
    record = write(fs, keyring, sentinel=True)
    assert (record.smallest, record.largest, record.entries, record.tombstones) == (b"SECRETKEY-a", b"SECRETKEY-z", 1, 1)
    assert (record.min_seqno, record.max_seqno) == (4, 9)
    record.check()
    assert record.overlaps(b"SECRETKEY-p", b"SECRETKEY-q") and not record.overlaps(b"", b"SECRETKEY")
    dump = TableDump(fs.open(PATH), keyring.cipher(1) if keyring else None)
    ((_, key, seqno, kind, value),) = dump.entries()
    assert (key, seqno, kind, value) == (b"SECRETKEY-f", 4, Kind.TOMBSTONE, b""), "of the lowest tombstone, which implies it"
    properties = dump.properties()
    assert (properties.sentinel, properties.entries, properties.range_tombstones) == (1, 1, 3) and dump.range_tombstones() == FRAGMENTS


def test_one_lost_copy_of_either_is_read_through_and_two_are_corruption(world: tuple[MemoryFileSystem, Keyring | None]) -> None:
    fs, keyring = world
    write(fs, keyring, range_tombstones=FRAGMENTS, blob_files=BLOBS)
    data = fs.read(PATH)
    for type in (SectionType.RANGE_TOMBSTONES, SectionType.BLOB_FILES):
        first, second = contents_of(data).copies(type)
        assert second.offset - first.end >= SECTOR_BYTES
        for lost, fine in (((first,), True), ((second,), True), ((first, second), False)):
            bad = bytearray(data)
            for section in lost:
                bad[section.offset : section.end] = bytes(section.size)
            repairs = Repairs()
            source = read(MemoryFileSystem({PATH: bytes(bad)}), keyring, repairs)
            ask = source.range_tombstones if type is SectionType.RANGE_TOMBSTONES else source.blob_files
            if fine:
                assert ask() == (FRAGMENTS if type is SectionType.RANGE_TOMBSTONES else BLOBS)
                assert repairs.count == (first in lost)
            else:
                with pytest.raises(CorruptionError):
                    ask()


def test_sections_that_contradict_the_properties_are_corruption(world: tuple[MemoryFileSystem, Keyring | None]) -> None:
    fs, keyring = world
    write(fs, keyring, range_tombstones=FRAGMENTS, blob_files=BLOBS)
    whole = read(fs, keyring)

    def refuse(message: str, **changed: object) -> None:
        source = read(fs, keyring)
        source.properties = replace(whole.properties, **changed)  # type: ignore[arg-type]
        with pytest.raises(CorruptionError, match=message):
            source.blob_files()
            source.range_tombstones()

    refuse("blob_files section has 2 parts, but the properties say 1", blob_files=1)
    refuse("say 0", range_tombstones=0)
    refuse("beyond the table's bounds", largest=b"SECRETKEY-y")
    refuse("beyond the table's bounds", smallest=b"SECRETKEY-b")
    refuse("beyond the table's bounds", max_seqno=8)
    refuse("beyond the table's bounds", min_seqno=5)
    without = memory()
    write(without, None)
    source = read(without, None)
    source.properties = replace(source.properties, blob_files=1)
    with pytest.raises(CorruptionError, match="say 1"):
        source.blob_files()


def test_a_tables_configuration_is_frozen_at_its_first_key() -> None:
    fs = memory()
    where = sink(fs)
    for other in (
        replace(where, options=replace(SMALL, parity="xor(2)")),
        replace(where, tree_id=8),
        replace(where, tree_name="other"),
        replace(where, schema="other"),
        replace(where, database_id=bytes(16)),
        replace(where, keyring=new_keyring(fs)),
    ):
        begun = begin_tables(table_stream([SortedRows(rows(3))], SMALL, encrypted=False, floor=0), where)
        with pytest.raises(UsageError, match="frozen"):
            finish_tables(begun, other)
        assert fs.list(DIRECTORY) in ([], ["KEYS"]), "nothing is left of it"
    begun = begin_tables(table_stream([SortedRows(rows(3))], SMALL, encrypted=False, floor=0), where)
    assert begun[0].summary is not None
    with pytest.raises(UsageError, match="ended already"):
        begun[0].end_data(begun[0].summary)
    begun[0].attach(range_tombstones=FRAGMENTS)
    with pytest.raises(UsageError, match="ingested"):
        finish_tables(begun, where, 7)
    begun = begin_tables(table_stream([SortedRows(rows(3))], SMALL, encrypted=False, floor=0), where)
    begun[0].attach(range_tombstones=[Fragment(b"b", b"a", (1,))])
    with pytest.raises(ValueError):
        finish_tables(begun, where)
    assert fs.list(DIRECTORY) == ["KEYS"]
    discard_tables(begun, fs)
