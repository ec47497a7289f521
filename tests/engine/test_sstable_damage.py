"""Every byte of a small SSTable changed, every length cut: the right answers or CorruptionError with file and offset, nothing else."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from lsmsql.engine.kernel import BlockCache, Table
from lsmsql.engine.manifest.version import TableRecord
from lsmsql.engine.sstable.properties import parse_properties
from lsmsql.engine.sstable.reader import open_table, read_properties
from lsmsql.engine.sstable.table_of_contents import (
    CONTENTS_BYTES,
    SECTOR_BYTES,
    Section,
    SectionType,
    TableOfContents,
    mirror_gap,
    padding,
)
from lsmsql.engine.storage.block_frame import FrameType, seal_frame
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.storage.parity import METADATA, Repairs
from lsmsql.errors import CorruptionError

from ..storage.dictionary_world import json_dictionary, trained
from .manifest_world import damaged
from .sstable_world import DATABASE_ID, DIRECTORY, SMALL, close, contents, contents_of, lookup, memory, new_keyring, opened, rows, write

ITEMS = rows(60, width=30)
PATH = f"{DIRECTORY}/000001.sst"
Made = tuple[bytes, TableRecord, Keyring | None, TableOfContents]


PARTITIONED = replace(SMALL, index="partitioned", partition_bytes=150)
WHOLE = ["plain", "encrypted", "plain with a dictionary", "encrypted with a dictionary"]


@pytest.fixture(scope="module", params=[*WHOLE, "partitioned", "partitioned encrypted", "partitioned with a dictionary"])
def any_made(request: pytest.FixtureRequest) -> Made:
    return make(request.param)


@pytest.fixture(scope="module", params=WHOLE)
def made(request: pytest.FixtureRequest) -> Made:
    return make(request.param)


@pytest.fixture(scope="module", params=["partitioned", "partitioned encrypted"])
def cut(request: pytest.FixtureRequest) -> Made:
    return make(request.param)


def make(what: str) -> Made:
    fs = memory()
    keyring = new_keyring(fs) if "encrypted" in what else None
    dictionary = trained([b"".join(row) for row in ITEMS] * 4, 512) if "dictionary" in what else None
    (record,) = write(fs, [(5, ITEMS)], keyring, PARTITIONED if "partitioned" in what else SMALL, dictionary=dictionary)
    data = fs.read(PATH)
    return data, record, keyring, contents_of(data)


def answers(data: bytes, record: TableRecord, keyring: Keyring | None) -> tuple[list[str], Table | None]:
    """What a scan and some gets say: "right", "wrong" or "corrupt" each; and the table, if it opens."""
    fs = MemoryFileSystem({PATH: data})
    try:
        table = open_table(fs, DIRECTORY, record, keyring, BlockCache(0), database_id=DATABASE_ID, repairs=Repairs())
    except CorruptionError as error:
        assert error.path == PATH
        assert error.offset is not None
        return ["corrupt"], None
    said = []
    questions = [(lambda: contents([table]), ITEMS)]
    questions += [(lambda key=key: lookup([table], key), (5, 1, value)) for key, value in ITEMS[::20]]  # type: ignore[misc]
    questions += [(lambda: lookup([table], b"SECRETKEY-00003x"), None)]
    for ask, right in questions:
        try:
            said.append("right" if ask() == right else "wrong")
        except CorruptionError as error:
            assert error.path == PATH
            assert error.offset is not None
            said.append("corrupt")
    close(table)
    return said, table


def section(made: Made, type: SectionType, copy: int = 0) -> Section:
    found = made[3].find(type, copy)
    assert found is not None
    return found


def test_the_undamaged_file_answers(any_made: Made) -> None:
    data, record, keyring, _ = any_made
    said, table = answers(data, record, keyring)
    assert set(said) == {"right"}
    assert section(any_made, SectionType.DATA).size > 1000, "several blocks"
    assert table is not None and not table.source.repairs.count


def places_of_padding(made: Made) -> set[int]:
    """Offsets of zero bytes between sections and in the sectors that say nothing: all but every 97th."""
    data, _, _, sections = made
    padded = {offset for offset in range(len(data)) if offset % 97}
    for one in sections.sections:
        padded -= set(range(one.offset, one.end))
    for sector in (len(data) - CONTENTS_BYTES, len(data) - SECTOR_BYTES):
        padded -= {*range(sector, sector + 250), *range(sector + SECTOR_BYTES - 16, sector + SECTOR_BYTES)}
    return padded


def test_any_damaged_byte_is_noticed_or_read_through(any_made: Made) -> None:
    data, record, keyring, contents_ = any_made
    blocks = section(any_made, SectionType.DATA)
    first = [one for one in contents_.sections if one.frames == 1 and one.copy == 0 and one.type is not SectionType.DATA]
    frames = {offset for one in first for offset in range(one.offset, one.offset + METADATA.frame_length(one.size))}
    pieces = {offset for one in contents_.sections if one.frames > 1 for offset in range(one.offset, one.end)}  # Their frames lie at any place.
    padded = places_of_padding(any_made)
    for offset in range(len(data)):
        if offset in padded:
            continue
        said, table = answers(changed(data, offset), record, keyring)
        what = f"byte {offset}"
        if offset < blocks.end:
            assert said[0] == "corrupt", f"{what}: a damaged block is noticed by the scan that reads it"
            assert "right" in said and "wrong" not in said, f"{what}: other blocks are still read"
            continue
        assert set(said) == {"right"}, f"{what}: metadata is repaired"
        assert table is not None
        assert not table.source.filter_lost, f"{what}: parity repairs it"
        read = offset in frames or offset >= len(data) - SECTOR_BYTES  # Damage to parity alone is not noticed.
        assert bool(table.source.repairs.count) == read or offset in pieces, what


def test_any_lost_sector_behind_the_data_is_read_through(any_made: Made) -> None:
    data, record, keyring, _ = any_made
    end = section(any_made, SectionType.DATA).end
    for start in range(end, len(data)):
        stop = min(len(data), start + SECTOR_BYTES)
        if start % SECTOR_BYTES == 0 or (start % 100 == 0 and stop <= len(data) - CONTENTS_BYTES) or start == end:
            for filling in (b"\0", b"\xff"):
                said, _ = answers(data[:start] + filling * (stop - start) + data[stop:], record, keyring)
                assert set(said) == {"right"}, f"bytes {start} to {stop} lost"


def test_two_lost_copies_are_corruption(made: Made) -> None:
    data, record, keyring, _ = made
    mirrored = {one.type for one in made[3].sections if one.copy}
    assert mirrored >= {SectionType.INDEX, SectionType.PROPERTIES}
    for type in mirrored:
        first, second = (section(made, type, copy) for copy in (0, 1))
        bad = data[: first.offset] + bytes(first.size) + data[first.end :]
        said, table = answers(bad, record, keyring)
        assert set(said) == {"right"} and table is not None and table.source.repairs.places == {(PATH, first.offset): None}
        bad = bad[: second.offset] + bytes(second.size) + bad[second.end :]
        assert answers(bad, record, keyring)[0] == ["corrupt"]
    bad = changed(changed(data, len(data) - 1), len(data) - CONTENTS_BYTES)
    assert answers(bad, record, keyring)[0] == ["corrupt"]


def test_a_partition_lost_twice_is_corruption_for_its_keys_alone(cut: Made) -> None:
    data, record, keyring, _ = cut
    first, second = (section(cut, SectionType.INDEX_PARTITION, copy) for copy in (0, 1))
    size = opened(MemoryFileSystem({PATH: data}), record, keyring).source.top.places[0][1]
    bad = data[: first.offset] + bytes(size) + data[first.offset + size :]
    said, table = answers(bad, record, keyring)
    assert set(said) == {"right"} and table is not None and (PATH, first.offset) in table.source.repairs.places
    bad = bad[: second.offset] + bytes(size) + bad[second.offset + size :]
    said, _ = answers(bad, record, keyring)
    assert set(said) == {"right", "corrupt"}
    assert said[:2] == ["corrupt", "corrupt"] and said[-2] == "right"


def test_a_lost_partition_of_the_filter_answers_maybe(cut: Made) -> None:
    data, record, keyring, _ = cut
    filters = section(cut, SectionType.FILTER_PARTITION)
    bad = data[: filters.offset] + bytes(filters.size) + data[filters.end :]
    said, table = answers(bad, record, keyring)
    assert set(said) == {"right"} and table is not None and table.source.filter_lost


def test_partitions_that_changed_places_are_noticed(cut: Made) -> None:
    data, record, keyring, _ = cut
    places = opened(MemoryFileSystem({PATH: data}), record, keyring).source.top.places
    (first, size), (second, other) = next((a, b) for a, b in pairwise(places) if a[1] == b[1])
    assert size == other
    bad = bytearray(data)
    for copy in (0, 1):
        start = section(cut, SectionType.INDEX_PARTITION, copy).offset
        bad[start + first : start + first + size] = data[start + second : start + second + size]
        bad[start + second : start + second + size] = data[start + first : start + first + size]
    said, _ = answers(bytes(bad), record, keyring)
    assert said[0] == "corrupt" and "wrong" not in said


@pytest.mark.parametrize("seed", range(40))
def test_a_top_level_index_that_makes_no_sense_is_refused(cut: Made, seed: int) -> None:
    """Whole by its checksum: every field that is another one is noticed as the table opens, or when a partition is read."""
    data, record, keyring, _ = cut
    source = opened(MemoryFileSystem({PATH: data}), record, keyring).source
    index = next(one for one in cut[3].copies(SectionType.INDEX))
    raw = source._open_section(FrameType.INDEX, index.offset, index.size)
    rng = random.Random(seed)
    bad = bytearray(raw)
    bad[rng.randrange(len(raw)) if seed else 0] ^= 1 << rng.randrange(8)
    whole = forged(cut, index=bytes(bad) if seed < 38 else raw[: seed - 38])
    said, _ = answers(whole, replace(record, size=len(whole)), keyring)
    assert "wrong" not in said
    assert "corrupt" in said


def test_a_file_of_another_length_is_corrupt(any_made: Made) -> None:
    data, record, keyring, _ = any_made
    for what, bad in damaged(data, ()):
        if not what.startswith("cut") or len(bad) % 7 == 0 or len(bad) % SECTOR_BYTES < 2:
            assert answers(bad, record, keyring)[0] == ["corrupt"], what


def changed(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes((data[offset] ^ 0xFF,)) + data[offset + 1 :]


def test_blocks_that_changed_places_are_noticed(made: Made) -> None:
    """Each is whole, so only the index (and, encrypted, the cipher) can tell."""
    data, record, keyring, _ = made
    index = index_of(made)
    count = int.from_bytes(index[:4], "little")
    sizes = [int.from_bytes(index[4 + 4 * n : 8 + 4 * n], "little") for n in range(count)]
    pairs = [n for n in range(count - 1) if sizes[n] == sizes[n + 1]]
    assert pairs, "two neighbours of one size"
    start = sum(sizes[: pairs[0]])
    middle, end = start + sizes[pairs[0]], start + 2 * sizes[pairs[0]]
    said, _ = answers(data[:start] + data[middle:end] + data[start:middle] + data[end:], record, keyring)
    assert said[0] == "corrupt"
    assert "wrong" not in said


def test_the_properties_of_a_damaged_file_are_whole_or_refused(any_made: Made) -> None:
    data, record, keyring, _ = any_made
    whole = read_properties(MemoryFileSystem({PATH: data}), DIRECTORY, record.file_id, keyring)
    padded = places_of_padding(any_made)
    for offset in range(len(data)):
        if offset not in padded:
            found = read_properties(MemoryFileSystem({PATH: changed(data, offset)}), DIRECTORY, record.file_id, keyring)
            assert found == whole, offset
    for length in range(0, len(data), 61):
        with pytest.raises(CorruptionError):
            read_properties(MemoryFileSystem({PATH: data[:length]}), DIRECTORY, record.file_id, keyring)


def test_damaged_property_bytes_are_other_properties_or_refused(made: Made) -> None:
    data, record, keyring, _ = made
    packed = read_properties(MemoryFileSystem({PATH: data}), DIRECTORY, record.file_id, keyring).pack()
    refused = 0
    for _, bad in damaged(packed, (0x01, 0x80, 0xFF)):
        try:
            parse_properties(bad)
        except ValueError:
            refused += 1
    assert refused > len(packed)


# Files that are whole by their checksums, and yet make no sense


def forged(made: Made, index: bytes | None = None, dictionary: bytes | None = None, **properties: object) -> bytes:
    """The file with another index, dictionary (b"": none), or other properties, and everything else as it should be."""
    data, record, keyring, sections = made
    fs = MemoryFileSystem({PATH: data})
    table = opened(fs, record, keyring)
    source = table.source
    cipher = source.cipher
    raw_index = source.index() if index is None else index
    if dictionary is None:
        dictionary = source.dictionary.content if source.dictionary else b""
    raw_properties = replace(source.properties, **properties).pack()  # type: ignore[arg-type]
    close(table)
    frames = {
        SectionType.INDEX: seal_frame(FrameType.INDEX, raw_index, cipher=cipher, parity=METADATA),
        SectionType.DICTIONARY: seal_frame(FrameType.DICTIONARY, dictionary, cipher=cipher, parity=METADATA),
        SectionType.PROPERTIES: seal_frame(FrameType.PROPERTIES, raw_properties, cipher=cipher, parity=METADATA),
    }
    if not dictionary:
        del frames[SectionType.DICTIONARY]
    whole = data[: section(made, SectionType.INDEX).offset]
    written = [one for one in sections.sections if one.end <= len(whole)]
    for copy in (0, 1):
        for type, frame in frames.items():
            written.append(Section(type, copy, 1, len(whole), len(frame)))
            whole += frame
        if copy == 0:
            whole += bytes(mirror_gap([len(frame) for frame in frames.values()]))
    return whole + bytes(padding(len(whole))) + replace(sections, sections=tuple(written)).pack()


def index_of(made: Made) -> bytes:
    data, record, keyring, _ = made
    table = opened(MemoryFileSystem({PATH: data}), record, keyring)
    index: bytes = table.source.index()
    close(table)
    return index


def refuse(made: Made, data: bytes, message: str) -> None:
    record = replace(made[1], size=len(data))
    with pytest.raises(CorruptionError, match=message) as caught:
        opened(MemoryFileSystem({PATH: data}), record, made[2])
    assert caught.value.offset is not None


def test_a_forged_file_is_otherwise_right(made: Made) -> None:
    data = forged(made)
    said, _ = answers(data, replace(made[1], size=len(data)), made[2])
    assert set(said) == {"right"}


def test_an_index_that_makes_no_sense_is_refused(made: Made) -> None:
    index = index_of(made)
    count = int.from_bytes(index[:4], "little")
    refuse(made, forged(made, index=b""), "of 0 blocks")
    refuse(made, forged(made, index=b"\xff\xff\xff\xff"), "of 4294967295 blocks")
    refuse(made, forged(made, index=index[:4]), "blocks, but")
    refuse(made, forged(made, index=index[:100]), "index")
    refuse(made, forged(made, index=(count - 1).to_bytes(4, "little") + index[4:]), "blocks, but")
    refuse(made, forged(made, index=index[:4] + bytes((index[4] ^ 1,)) + index[5:]), "data section")
    refuse(made, forged(made, index=index[:-1] + b"\xff"), "not describe the table")
    entries = 4 + 4 * count
    refuse(made, forged(made, index=index[:entries] + bytes((index[entries] ^ 1,)) + index[entries + 1 :]), "not describe the table")
    swapped = index[:4] + index[8:12] + index[4:8] + index[12:]
    if swapped != index:
        data = forged(made, index=swapped)
        said, _ = answers(data, replace(made[1], size=len(data)), made[2])
        assert "wrong" not in said
        assert "corrupt" in said


def test_properties_that_contradict_the_file_are_refused(made: Made) -> None:
    whole = made[1].entries
    refuse(made, forged(made, entries=whole + 1), "entries")
    refuse(made, forged(made, data_bytes=1), "data section")
    refuse(made, forged(made, blocks=1), "blocks, but")
    refuse(made, forged(made, file_id=2, run=(2,)), "not 1")
    refuse(made, forged(made, run=(2, 3)), "own run")
    refuse(made, forged(made, min_seqno=4, global_seqno=1, max_seqno=4), "global seqno")
    refuse(made, forged(made, min_seqno=6), "seqno bounds")


def test_a_dictionary_that_is_not_the_one_is_refused(made: Made) -> None:
    with_one = made[3].find(SectionType.DICTIONARY) is not None
    learned = json_dictionary()
    if with_one:
        refuse(made, forged(made, dictionary=b""), "no dictionary section")
        refuse(made, forged(made, dictionary=b"no dictionary"), "dictionary section makes no sense: not a zstd dictionary")
        refuse(made, forged(made, dictionary=learned.content), f"it is dictionary {learned.id:#010x} instead of")
        data = forged(made, dictionary=learned.content, dictionary_id=learned.id)
    else:
        refuse(made, forged(made, dictionary_id=5), "no dictionary section")
        data = forged(made, dictionary=learned.content, dictionary_id=learned.id)
    said, _ = answers(data, replace(made[1], size=len(data)), made[2])
    assert said[0] == ("corrupt" if with_one else "right") and "wrong" not in said


def test_a_table_of_contents_that_contradicts_the_file_is_refused(made: Made) -> None:
    data, _, _, sections = made

    def with_contents(contents: TableOfContents) -> bytes:
        return data[:-CONTENTS_BYTES] + contents.pack()

    first, *others = sections.sections
    refuse(made, with_contents(replace(sections, file_id=2)), "this is table 2, not 1")
    refuse(made, with_contents(replace(sections, database_id=bytes(16))), "another database")
    refuse(made, with_contents(replace(sections, sections=(replace(first, frames=first.frames + 1), *others))), "frames")
    refuse(made, with_contents(replace(sections, sections=(replace(first, size=first.size - 1), *others))), "data section")
    refuse(made, with_contents(replace(sections, sections=(replace(first, offset=1, size=first.size - 1), *others))), "begin with its data")
    refuse(made, with_contents(replace(sections, sections=tuple(others))), "begin with its data")
