"""Every byte of a small SSTable changed, every length cut: the right answers or CorruptionError with file and offset, nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lsmsql.engine.kernel import Table
from lsmsql.engine.manifest.version import TableRecord
from lsmsql.engine.sstable.format import FOOTER_BYTES, Footer, parse_footer
from lsmsql.engine.sstable.properties import parse_properties
from lsmsql.engine.sstable.reader import read_properties
from lsmsql.engine.storage.block_frame import FrameType, seal_frame
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.storage.parity import METADATA
from lsmsql.errors import CorruptionError

from .manifest_world import damaged
from .sstable_world import DIRECTORY, close, contents, lookup, memory, new_keyring, opened, rows, write

ITEMS = rows(60, width=30)
PATH = f"{DIRECTORY}/000001.sst"
Made = tuple[bytes, TableRecord, Keyring | None, Footer]


@pytest.fixture(scope="module", params=["plain", "encrypted"])
def made(request: pytest.FixtureRequest) -> Made:
    fs = memory()
    keyring = new_keyring(fs) if request.param == "encrypted" else None
    (record,) = write(fs, [(5, ITEMS)], keyring)
    data = fs.read(PATH)
    return data, record, keyring, parse_footer(data[-FOOTER_BYTES:], len(data))


def answers(data: bytes, record: TableRecord, keyring: Keyring | None) -> tuple[list[str], Table | None]:
    """What a scan and some gets say: "right", "wrong" or "corrupt" each; and the table, if it opens."""
    fs = MemoryFileSystem({PATH: data})
    try:
        table = opened(fs, record, keyring, cache_bytes=0)
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


def test_the_undamaged_file_answers(made: Made) -> None:
    data, record, keyring, footer = made
    said, _ = answers(data, record, keyring)
    assert set(said) == {"right"}
    assert footer.filter_offset > 1000, "several blocks"


def test_any_damage_is_noticed(made: Made) -> None:
    data, record, keyring, footer = made
    for what, bad in damaged(data, (0xFF,)):
        said, table = answers(bad, record, keyring)
        assert "wrong" not in said, what
        if what.startswith("byte"):
            offset = int(what.split()[1])
            if offset < footer.filter_offset:
                assert said[0] == "corrupt", f"{what}: a damaged block is noticed by the scan that reads it"
                assert "right" in said, f"{what}: other blocks are still read"
            elif offset < len(data) - FOOTER_BYTES:
                assert set(said) == {"right"}, f"{what}: a section with one damaged shard is repaired"
                assert table is not None
                assert not table.source.filter_lost
            else:
                assert said == ["corrupt"], what
        else:
            assert said == ["corrupt"], what


def test_single_bits_of_the_metadata(made: Made) -> None:
    data, record, keyring, footer = made
    for offset in range(footer.index_offset, len(data)):
        bad = data[:offset] + bytes((data[offset] ^ 1 << offset % 8,)) + data[offset + 1 :]
        said = {"corrupt"} if offset >= len(data) - FOOTER_BYTES else {"right"}
        assert set(answers(bad, record, keyring)[0]) == said, f"bit {offset % 8} of byte {offset}"


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


def test_the_properties_of_a_damaged_file_are_whole_or_refused(made: Made) -> None:
    data, record, keyring, _ = made
    whole = read_properties(MemoryFileSystem({PATH: data}), DIRECTORY, record.file_id, keyring)
    for what, bad in damaged(data, (0xFF,)):
        try:
            assert read_properties(MemoryFileSystem({PATH: bad}), DIRECTORY, record.file_id, keyring) == whole, what
        except CorruptionError as error:
            assert error.path == PATH


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


def forged(made: Made, index: bytes | None = None, **properties: object) -> bytes:
    """The file with another index, or other properties, and everything else as it should be."""
    data, record, keyring, footer = made
    fs = MemoryFileSystem({PATH: data})
    table = opened(fs, record, keyring)
    source = table.source
    cipher = source.cipher
    raw_index = source.index() if index is None else index
    raw_properties = replace(source.properties, **properties).pack()  # type: ignore[arg-type]
    close(table)
    index_frame = seal_frame(FrameType.INDEX, raw_index, cipher=cipher, parity=METADATA)
    properties_frame = seal_frame(FrameType.PROPERTIES, raw_properties, cipher=cipher, parity=METADATA)
    place = footer.index_offset + len(index_frame)
    end = replace(footer, index_size=len(index_frame), properties_offset=place, properties_size=len(properties_frame))
    return data[: footer.index_offset] + index_frame + properties_frame + end.pack()


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
    refuse(made, forged(made, index=b""), "index of 0 blocks")
    refuse(made, forged(made, index=b"\xff\xff\xff\xff"), "index of 4294967295 blocks")
    refuse(made, forged(made, index=index[:4]), "index of")
    refuse(made, forged(made, index=index[:100]), "index")
    refuse(made, forged(made, index=(count - 1).to_bytes(4, "little") + index[4:]), "index of")
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
    refuse(made, forged(made, blocks=1), "index of")
    refuse(made, forged(made, file_id=2), "not 1")
    refuse(made, forged(made, min_seqno=4, global_seqno=1, max_seqno=4), "global seqno")
    refuse(made, forged(made, min_seqno=6), "seqno bounds")
