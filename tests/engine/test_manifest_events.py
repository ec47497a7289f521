"""Edits and versions as bytes: what was encoded comes back; damaged bytes are ValueError, never anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmsql.engine.manifest.events import decode_edit, encode_edit, version_from, version_sections
from lsmsql.engine.manifest.tagged_fields import pack_fields, pack_number, pack_numbers, unpack_fields
from lsmsql.engine.manifest.version import TableRecord, Version
from lsmsql.engine.manifest.version_edit import BlobStatistics, VersionEdit

U64 = st.integers(0, (1 << 64) - 1)
U32 = st.integers(0, (1 << 32) - 1)
NAMES = st.text(max_size=20).filter(lambda name: name.isprintable())
KEYS = st.binary(max_size=40)
TABLES = st.builds(TableRecord, U64, U32, st.integers(0, 255), U64, U64, U64, KEYS, KEYS, U64, U64, U64, U64, st.binary(min_size=16, max_size=16))


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
    blobs_set=many(st.builds(BlobStatistics, U64, U64, U64, U64, U64, U64)),
    blobs_removed=many(U64),
    dictionaries_added=many(st.tuples(U32, U32, U32)),
    dictionaries_retired=many(st.tuples(U32, U32)),
    times=many(st.tuples(U64, U64)),
)

SOME = VersionEdit(
    added=(TableRecord(7, 1, 2, 4096, 10, 3, b"apple", b"pear" * 50, 5, 9), TableRecord(8, 2, 0, 1, 1, 0, b"", b"", 6, 6, 6, 7, b"sixteen bytes...")),
    wals_added=(3, 4),
    trees_created=((1, "one"), (2, "zw\u00f6lf")),
    schemas_set=((2, "CREATE VIRTUAL TABLE zw\u00f6lf USING lsm(a)"),),
    snapshots_set=(("monday", 7),),
    floor=4,
    next_file_id=50,
    last_seqno=9,
    wal_synced=(4, 1000),
    blobs_set=(BlobStatistics(9, 10, 5000, 1200, 3, 400),),
    dictionaries_added=((2, 0xABCDEF01, 16384),),
    times=((4, 1_000_000), (9, 9_000_000)),
)
VERSION = replace(Version().apply(SOME), number=12, next_tree_id=9)


@given(EDITS)
def test_an_edit_comes_back(edit: VersionEdit) -> None:
    assert decode_edit(encode_edit(edit)) == edit


def test_a_key_of_the_greatest_length_comes_back() -> None:
    edit = VersionEdit(added=(TableRecord(1, 1, 1, 1, 1, 0, b"a" * 65_535, b"b" * 65_535, 1, 1),))
    assert decode_edit(encode_edit(edit)) == edit


def test_a_version_and_its_options_come_back() -> None:
    assert version_from(version_sections(VERSION, "x = \u00fc\n")) == (VERSION, "x = \u00fc\n")
    assert version_from(version_sections(Version(), "")) == (Version(), "")


def test_the_encoding_stays_what_it_is() -> None:
    edit = VersionEdit(removed=(5,), trees_created=((1, "t"),), snapshots_set=(("s", 2),), snapshots_released=("r",), floor=3)
    expected = "02 02 08000000 0500000000000000 05 05000000 01000000 74 07 09000000 0200000000000000 73 08 01000000 72 09 08000000 0300000000000000"
    assert encode_edit(edit).hex() == expected.replace(" ", "")
    table = TableRecord(0x11, 0x22, 3, 0x44, 0x55, 0x66, b"ab", b"cde", 0x77, 0x88, 0x99, 0xAA, b"sixteen bytes...")
    numbers = "1100000000000000 22000000 03 aa00000000000000 4400000000000000 5500000000000000 6600000000000000 7700000000000000 8800000000000000 "
    content = numbers + "9900000000000000" + b"sixteen bytes...".hex() + "0200 6162 636465"
    assert encode_edit(VersionEdit(added=(table,))).hex() == ("02 01 5c000000" + content).replace(" ", "")
    edit = VersionEdit(times=((1, 2),), dictionaries_added=((1, 2, 3),), dictionaries_retired=((4, 5),), blobs_removed=(6,))
    expected = "02 13 0c000000 010000000200000003000000 14 08000000 0400000005000000 16 08000000 0600000000000000"
    assert encode_edit(edit).hex() == (expected + "12 10000000 0100000000000000 0200000000000000").replace(" ", "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        pack_fields(2, [(15, b"")]),
        pack_fields(2, [(0, b"")]),
        pack_fields(2, [(12, pack_number(1))]),
        pack_fields(2, [(9, pack_number(1))] * 2),
        pack_fields(2, [(9, b"1234567")]),
        pack_fields(2, [(1, b"short")]),
        pack_fields(2, [(1, bytes(61) + b"\xff\xff" + b"key")]),
        pack_fields(2, [(5, b"abc")]),
        pack_fields(2, [(5, b"\1\0\0\0\xff")]),
        pack_fields(2, [(6, b"abcde")]),
        pack_fields(2, [(17, b"abc")]),
        pack_fields(2, [(17, b"\1\0\0\0\xff")]),
        pack_fields(2, [(8, b"\xff")]),
        pack_fields(2, [(18, b"12345678")]),
        pack_fields(2, [(18, b"1234567")]),
        pack_fields(2, [(18, b"")] * 2),
        pack_fields(2, [(19, b"12345678901")]),
        pack_fields(2, [(20, b"123456789")]),
        pack_fields(2, [(21, bytes(47))]),
        pack_fields(2, [(22, b"")]),
        pack_fields(2, [(23, b"")]),
        b"\x02\x09\xff\xff\xff\xff12345678",
        b"\x02\x09\x08\x00",
    ],
)
def test_malformed_edits_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_edit(data)


@pytest.mark.parametrize("missing", [12, 13])
def test_a_version_without_one_of_its_fields_is_refused(missing: int) -> None:
    sections = version_sections(VERSION, "")
    fields = [field for field in unpack_fields(sections["counters"], 2) if field[0] != missing]
    with pytest.raises(ValueError, match="missing"):
        version_from({**sections, "counters": pack_fields(2, fields)})


@pytest.mark.parametrize("name", [*version_sections(VERSION, "")])
def test_a_version_has_exactly_its_sections_and_each_exactly_its_fields(name: str) -> None:
    sections = version_sections(VERSION, "")
    with pytest.raises(ValueError, match="sections are"):
        version_from({other: data for other, data in sections.items() if other != name})
    with pytest.raises(ValueError, match="sections are"):
        version_from({**sections, "more": b""})
    if name != "options":
        with pytest.raises(ValueError, match="unknown"):
            version_from({**sections, name: (sections[name] or b"\2") + pack_fields(2, [(2, pack_number(1))])[1:]})


def test_a_version_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="in use"):
        version_from(version_sections(replace(VERSION, next_tree_id=2), ""))
    with pytest.raises(ValueError, match="reserved"):
        version_from(version_sections(replace(VERSION, next_file_id=8), ""))
    with pytest.raises(ValueError, match="ascend"):
        version_from({**version_sections(VERSION, ""), "times": pack_fields(2, [(18, pack_numbers((4, 9, 4, 10)[:2] * 2))])})


def test_damaged_bytes_are_another_edit_or_refused() -> None:
    refused = 0

    def tried(data: bytes, decode: Callable[[bytes], Any]) -> None:
        nonlocal refused
        damaged = [data[:length] for length in range(len(data))]
        damaged += [data[:n] + bytes((data[n] ^ flip,)) + data[n + 1 :] for n in range(len(data)) for flip in (1, 0x80, 0xFF)]
        for bad in damaged:
            try:
                assert decode(bad) != decode(data)
            except ValueError:
                refused += 1

    tried(encode_edit(SOME), decode_edit)
    assert refused > len(encode_edit(SOME))
    sections = version_sections(VERSION, "text")
    for name, data in sections.items():
        tried(data, lambda damaged, name=name: version_from({**sections, name: damaged}))  # type: ignore[misc]
    assert refused > 2 * len(encode_edit(SOME))
