"""Edits and versions as bytes: what was encoded comes back; damaged bytes are ValueError, never anything else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmsql.engine.manifest.events import decode_edit, decode_version, encode_edit, encode_version
from lsmsql.engine.manifest.tagged_fields import pack_fields, pack_number
from lsmsql.engine.manifest.version import TableRecord, Version
from lsmsql.engine.manifest.version_edit import VersionEdit

U64 = st.integers(0, (1 << 64) - 1)
U32 = st.integers(0, (1 << 32) - 1)
NAMES = st.text(max_size=20).filter(lambda name: name.isprintable())
TABLES = st.builds(TableRecord, U64, U32, st.integers(0, 255), U64, U64, U64, st.binary(max_size=40), st.binary(max_size=40), U64, U64, U64)


def many(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(values, max_size=4).map(tuple)


EDITS = st.builds(
    VersionEdit,
    added=many(TABLES),
    removed=many(U64),
    wals_added=many(U64),
    wals_removed=many(U64),
    trees_created=many(st.tuples(U32, NAMES)),
    schemas_set=many(st.tuples(U32, NAMES)),
    trees_dropped=many(U32),
    snapshots_set=many(st.tuples(NAMES, U64)),
    snapshots_released=many(NAMES),
    floor=st.none() | U64,
    next_file_id=st.none() | U64,
    last_seqno=st.none() | U64,
    wal_synced=st.none() | st.tuples(U64, U64),
    host_seqno=st.none() | U64,
)

SOME = VersionEdit(
    added=(TableRecord(7, 1, 2, 4096, 10, 3, b"apple", b"pear" * 50, 5, 9), TableRecord(8, 2, 0, 1, 1, 0, b"", b"", 6, 6, 6)),
    wals_added=(3, 4),
    trees_created=((1, "one"), (2, "zw\u00f6lf")),
    schemas_set=((2, "CREATE VIRTUAL TABLE zw\u00f6lf USING lsm(a)"),),
    snapshots_set=(("monday", 7),),
    floor=4,
    next_file_id=50,
    last_seqno=9,
    wal_synced=(4, 1000),
)
VERSION = replace(Version().apply(SOME), number=12, next_tree_id=9)


@given(EDITS)
def test_an_edit_comes_back(edit: VersionEdit) -> None:
    assert decode_edit(encode_edit(edit)) == edit


def test_a_key_of_the_greatest_length_comes_back() -> None:
    edit = VersionEdit(added=(TableRecord(1, 1, 1, 1, 1, 0, b"a" * 65_535, b"b" * 65_535, 1, 1),))
    assert decode_edit(encode_edit(edit)) == edit


def test_a_version_and_its_options_come_back() -> None:
    assert decode_version(encode_version(VERSION, "x = \u00fc\n")) == (VERSION, "x = \u00fc\n")
    assert decode_version(encode_version(Version(), "")) == (Version(), "")


def test_the_encoding_stays_what_it_is() -> None:
    edit = VersionEdit(removed=(5,), trees_created=((1, "t"),), snapshots_set=(("s", 2),), snapshots_released=("r",), floor=3)
    expected = "01 02 08000000 0500000000000000 05 05000000 01000000 74 07 09000000 0200000000000000 73 08 01000000 72 09 08000000 0300000000000000"
    assert encode_edit(edit).hex() == expected.replace(" ", "")
    table = TableRecord(0x11, 0x22, 3, 0x44, 0x55, 0x66, b"ab", b"cde", 0x77, 0x88, 0x99)
    numbers = "1100000000000000 22000000 03 4400000000000000 5500000000000000 6600000000000000 7700000000000000 8800000000000000 9900000000000000"
    assert encode_edit(VersionEdit(added=(table,))).hex() == ("01 01 44000000" + numbers + "0200 6162 636465").replace(" ", "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02",
        pack_fields(1, [(15, b"")]),
        pack_fields(1, [(0, b"")]),
        pack_fields(1, [(12, pack_number(1))]),
        pack_fields(1, [(9, pack_number(1))] * 2),
        pack_fields(1, [(9, b"1234567")]),
        pack_fields(1, [(1, b"short")]),
        pack_fields(1, [(1, bytes(61) + b"\xff\xff" + b"key")]),
        pack_fields(1, [(5, b"abc")]),
        pack_fields(1, [(5, b"\1\0\0\0\xff")]),
        pack_fields(1, [(6, b"abcde")]),
        pack_fields(1, [(17, b"abc")]),
        pack_fields(1, [(17, b"\1\0\0\0\xff")]),
        pack_fields(1, [(8, b"\xff")]),
        b"\x01\x09\xff\xff\xff\xff12345678",
        b"\x01\x09\x08\x00",
    ],
)
def test_malformed_edits_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_edit(data)


@pytest.mark.parametrize("missing", [12, 13, 14])
def test_a_version_without_one_of_its_fields_is_refused(missing: int) -> None:
    fields = {12: pack_number(9), 13: pack_number(1), 14: b""}
    with pytest.raises(ValueError, match="missing"):
        decode_version(pack_fields(1, [(tag, content) for tag, content in fields.items() if tag != missing]))


def test_a_version_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="in use"):
        decode_version(encode_version(replace(VERSION, next_tree_id=2), ""))
    with pytest.raises(ValueError, match="reserved"):
        decode_version(encode_version(replace(VERSION, next_file_id=8), ""))


def test_damaged_bytes_are_another_edit_or_refused() -> None:
    edit, version = encode_edit(SOME), encode_version(VERSION, "text")
    refused = 0
    for data, decode in ((edit, decode_edit), (version, decode_version)):
        damaged = [data[:length] for length in range(len(data))]
        damaged += [data[:n] + bytes((data[n] ^ flip,)) + data[n + 1 :] for n in range(len(data)) for flip in (1, 0x80, 0xFF)]
        for bad in damaged:
            try:
                assert decode(bad) != decode(data)
            except ValueError:
                refused += 1
    assert refused > len(edit) + len(version)
