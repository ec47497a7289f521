"""The table of contents says nothing that it was not told, whatever happened to its bytes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from lsmsql.engine.sstable.table_of_contents import (
    APART_BYTES,
    CONTENTS_BYTES,
    SECTIONS_MAX,
    SECTOR_BYTES,
    Section,
    SectionType,
    TableOfContents,
    mirror_gap,
    padding,
    parse_sector,
)
from lsmsql.engine.storage.checksum import checksum128

DATABASE = bytes(range(16))
SECTIONS = (
    Section(SectionType.DATA, 0, 7, 0, 50_000),
    Section(SectionType.FILTER, 0, 1, 50_000, 900),
    Section(SectionType.INDEX, 0, 1, 50_900, 300),
    Section(SectionType.PROPERTIES, 0, 1, 51_200, 200),
    Section(SectionType.INDEX, 1, 1, 55_300, 300),
    Section(SectionType.PROPERTIES, 1, 1, 55_600, 200),
)
CONTENTS = TableOfContents(5, DATABASE, SECTIONS)
SIZE = 55_800 + padding(55_800) + CONTENTS_BYTES


def resealed(sector: bytes, offset: int, value: bytes) -> bytes:
    """A sector with a field changed and its checksum right."""
    body = bytearray(sector[:-16])
    body[offset : offset + len(value)] = value
    return bytes(body) + checksum128(bytes(body))


def test_both_sectors_say_the_same() -> None:
    packed = CONTENTS.pack()
    assert len(packed) == CONTENTS_BYTES and packed[:SECTOR_BYTES] == packed[SECTOR_BYTES:]
    assert parse_sector(packed[:SECTOR_BYTES], SIZE) == CONTENTS
    assert CONTENTS.find(SectionType.INDEX, 1) == SECTIONS[4] and CONTENTS.find(SectionType.FILTER, 1) is None
    assert CONTENTS.copies(SectionType.PROPERTIES) == (SECTIONS[3], SECTIONS[5])
    assert TableOfContents(5, DATABASE, ()).find(SectionType.DATA) is None


def test_every_flipped_bit_and_every_length_is_noticed() -> None:
    sector = CONTENTS.pack()[:SECTOR_BYTES]
    for offset in range(SECTOR_BYTES):
        damaged = bytearray(sector)
        damaged[offset] ^= 1 << offset % 8
        with pytest.raises(ValueError, match="checksum"):
            parse_sector(bytes(damaged), SIZE)
    for length in (0, 1, 100, SECTOR_BYTES - 1, SECTOR_BYTES + 1):
        with pytest.raises(ValueError, match="bytes instead of"):
            parse_sector(sector.ljust(length, b"\0")[:length], SIZE)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, b"X", "no SSTable"),
        (8, b"\xfe\0", "version 254 is unknown"),
        (10, b"\7\0", "section of type 0"),
        (10, b"\5\0", r"table of contents of 5 sections"),
        (10, b"\xff\xff", "65535 sections"),
        (12, b"\1", "is unknown"),
        (40, b"\0", "type 0 is unknown"),
        (40, b"\xfe", "type 254 is unknown"),
        (41, b"\2", "makes no sense"),
        (42, b"\1", "makes no sense"),
        (44, b"\0\0\0\0", "makes no sense"),
        (48, b"\1", "not lie in its place"),
        (56, bytes(8), "makes no sense"),
        (56, b"\xff" * 8, "not lie in its place"),
        (40 + 24, b"\1", "twice"),
        (4000, b"\1", "makes no sense"),
    ],
)
def test_what_makes_no_sense_is_refused(offset: int, value: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_sector(resealed(CONTENTS.pack()[:SECTOR_BYTES], offset, value), SIZE)


def test_any_field_may_be_anything() -> None:
    source = random.Random(1)
    sector = CONTENTS.pack()[:SECTOR_BYTES]
    for _ in range(3000):
        forged = resealed(sector, source.randrange(200), source.randbytes(source.randrange(1, 9)))
        try:
            found = parse_sector(forged, SIZE)
        except ValueError:
            continue
        assert all(0 <= section.offset < section.end <= SIZE - CONTENTS_BYTES for section in found.sections)


def test_a_file_of_another_length_is_refused() -> None:
    for size in (0, CONTENTS_BYTES, SIZE - SECTOR_BYTES, SIZE + SECTOR_BYTES, SIZE - 1, SIZE + 1):
        with pytest.raises(ValueError, match=r"place|fill"):
            parse_sector(CONTENTS.pack()[:SECTOR_BYTES], size)


def test_a_table_has_no_more_sections_than_fit() -> None:
    many = [replace(SECTIONS[0], offset=number, size=1) for number in range(SECTIONS_MAX + 1)]
    TableOfContents(1, DATABASE, tuple(many[:-1])).pack()
    with pytest.raises(ValueError, match="at most"):
        TableOfContents(1, DATABASE, tuple(many)).pack()


def test_no_sector_touches_a_section_and_its_mirror() -> None:
    source = random.Random(2)
    for _ in range(500):
        sizes = [source.choice([1, 60, 300, 4096, 9000]) for _ in range(source.randrange(1, 6))]
        gap = mirror_gap(sizes)
        offset = 0
        for size in sizes:
            mirror = offset + sum(sizes) + gap
            assert mirror - (offset + size) >= APART_BYTES
            offset += size
    assert mirror_gap([]) == APART_BYTES and mirror_gap([5000, 5000]) == 0


def test_the_contents_stand_on_sectors() -> None:
    assert [padding(length) for length in (0, 1, 4095, 4096, 4097)] == [0, 4095, 1, 0, 4095]
