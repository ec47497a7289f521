"""SSTables with parity: damage is read through and counted, in data and in metadata; what is beyond it names file and offset."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import accumulate, combinations, pairwise
from typing import Any

import pytest

import lsmsql
from lsmsql.engine.sstable.reader import open_table, read_properties
from lsmsql.engine.sstable.table_of_contents import CONTENTS_BYTES, SectionType
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.storage.parity import METADATA, ParityScheme, Repairs
from lsmsql.errors import CorruptionError, UsageError
from lsmsql.options import Options

from .database_world import INLINE, open_database, table_paths
from .database_world import memory as database_memory
from .database_world import rows as rows_of
from .read_only_world import open_reader
from .sstable_world import DATABASE_ID, DIRECTORY, KEY, SMALL, close, contents, contents_of, lookup, memory, new_keyring, rows, write, write_rows

PATH = f"{DIRECTORY}/000001.sst"
ITEMS = rows(60, width=30)
SCHEMES = ["xor(4)", "rs(4,2)", "rs(3,3)"]
CASES = pytest.mark.parametrize("scheme", SCHEMES)


class Made:
    """A table in a file, and where everything in it lies."""

    def __init__(self, encrypted: bool, compression: str, scheme: str) -> None:
        fs = memory()
        self.keyring = new_keyring(fs) if encrypted else None
        self.options = replace(SMALL, compression=compression, parity=scheme, block_bytes=600)
        (self.record,) = write(fs, [(5, ITEMS)], self.keyring, self.options)
        self.data = fs.read(PATH)
        self.scheme = ParityScheme.parse(scheme)
        self.contents = contents_of(self.data)
        self.repairs = Repairs()
        table = self.opened(self.data)
        index = table.source.index()
        close(table)
        count = int.from_bytes(index[:4], "little")
        self.blocks = list(pairwise(accumulate((int.from_bytes(index[4 + 4 * n : 8 + 4 * n], "little") for n in range(count)), initial=0)))

    def opened(self, data: bytes, cache_bytes: int = 0) -> Any:
        self.repairs = Repairs()
        cache = lsmsql.engine.kernel.BlockCache(cache_bytes)
        fs = MemoryFileSystem({PATH: data})
        return open_table(fs, DIRECTORY, self.record, self.keyring, cache, database_id=DATABASE_ID, repairs=self.repairs)

    def ruined(self, start: int, end: int, scheme: ParityScheme, lost: tuple[int, ...], rng: random.Random) -> bytes:
        """With these shards of the frame at start changed throughout."""
        data = bytearray(self.data)
        length = scheme.frame_length(end - start)
        shard = scheme.shard_length(length)
        for number in lost:
            begin = start + (number * shard if number < scheme.d else length + (number - scheme.d) * shard)
            for at in range(begin, min(begin + shard, start + length if number < scheme.d else end)):
                data[at] ^= rng.randrange(1, 256)
        return bytes(data)


@pytest.fixture(scope="module", params=[(False, "none"), (False, "zstd"), (True, "zstd")], ids=["plain", "zstd", "encrypted"])
def world(request: pytest.FixtureRequest) -> tuple[bool, str]:
    return request.param


@CASES
def test_any_damage_to_p_shards_of_a_data_block_is_read_through_and_counted(world: tuple[bool, str], scheme: str) -> None:
    made = Made(*world, scheme)
    rng = random.Random(1)
    start, end = made.blocks[len(made.blocks) // 2]
    shards = range(made.scheme.d + made.scheme.p)
    for lost in combinations(shards, made.scheme.p):
        table = made.opened(made.ruined(start, end, made.scheme, lost, rng))
        assert contents([table]) == ITEMS, lost
        assert made.repairs.count == (lost[0] < made.scheme.d)
        assert list(made.repairs.places) == ([(PATH, start)] if made.repairs.count else [])
        assert [lookup([table], key) for key, _ in ITEMS[::7]] == [(5, 1, value) for _, value in ITEMS[::7]]
        close(table)


@CASES
def test_damage_beyond_is_corruption_that_names_file_and_offset(world: tuple[bool, str], scheme: str) -> None:
    made = Made(*world, scheme)
    rng = random.Random(2)
    for start, end in made.blocks[:2]:
        for lost in combinations(range(made.scheme.d + made.scheme.p), made.scheme.p + 1):
            table = made.opened(made.ruined(start, end, made.scheme, lost, rng))
            with pytest.raises(CorruptionError) as caught:
                contents([table])
            assert (caught.value.path, caught.value.offset) == (PATH, start)
            assert scheme in caught.value.advice
            assert made.repairs.count == 0
            close(table)


@pytest.mark.parametrize("type", [SectionType.FILTER, SectionType.INDEX, SectionType.PROPERTIES])
def test_damage_to_two_of_six_parts_of_a_section_is_repaired(world: tuple[bool, str], type: SectionType) -> None:
    """Whatever the data blocks have."""
    made = Made(*world, "none")
    rng = random.Random(3)
    section = made.contents.find(type)
    assert section is not None
    start, end = section.offset, section.end
    for lost in combinations(range(6), 2):
        table = made.opened(made.ruined(start, end, METADATA, lost, rng))
        assert contents([table]) == ITEMS
        assert not table.source.filter_lost
        assert list(made.repairs.places) == ([(PATH, start)] if lost[0] < 4 else [])
        close(table)
    for lost in combinations(range(6), 3):
        table = made.opened(made.ruined(start, end, METADATA, lost, rng))
        assert contents([table]) == ITEMS, "read from its mirror, or done without"
        assert table.source.filter_lost == (type is SectionType.FILTER)
        assert list(made.repairs.places) == ([(PATH, start)] if type is not SectionType.FILTER else [])
        close(table)


def test_the_properties_say_the_scheme(world: tuple[bool, str]) -> None:
    for scheme in ("none", "xor(7)", "rs(4,2)"):
        made = Made(*world, scheme)
        found = read_properties(MemoryFileSystem({PATH: made.data}), DIRECTORY, 1, made.keyring)
        assert found.parity == ParityScheme.parse(scheme).code
        assert f"parity = {scheme}\n" in found.options


def test_sizes_in_the_index_and_the_record_include_parity(world: tuple[bool, str]) -> None:
    bare, made = Made(*world, "none"), Made(*world, "rs(4,2)")
    scheme = ParityScheme.parse("rs(4,2)")
    assert [end - start for start, end in made.blocks] == [end - start + scheme.parity_length(end - start) for start, end in bare.blocks]
    assert made.blocks[-1][1] == made.contents.sections[0].size
    assert made.record.size == len(made.data)


def test_many_chunks_are_sealed_with_parity(world: tuple[bool, str]) -> None:
    """More than one chunk of a kernel's, through an ingest."""
    fs = memory()
    keyring = new_keyring(fs) if world[0] else None
    options = Options(compression=world[1], parity="rs(10,4)", table_bytes=1 << 30)
    items = [(b"%06d" % n, random.Random(n).randbytes(200)) for n in range(12_000)]
    (record,) = write_rows(fs, items, keyring, options)
    table = open_table(fs, DIRECTORY, record, keyring, lsmsql.engine.kernel.BlockCache(0), repairs=Repairs())
    assert contents([table]) == items
    assert table.source.repairs.count == 0
    close(table)


# --- the engine


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_an_engine_reads_flushes_and_compacts_through_damage(key: bytes | None) -> None:
    fs = database_memory()
    options = replace(INLINE, parity="rs(4,2)", cache_bytes=0, l0_tables=100, l0_slowdown=200, l0_stop=300)
    expected = {b"key%04d" % n: b"value%04d" % n * 3 for n in range(300)}
    with open_database(fs, options, key=key) as engine:
        tree = engine.tree("a")
        for start in range(0, 300, 100):
            for name, value in list(expected.items())[start : start + 100]:
                tree.put(name, value)
            engine.flush()
        assert engine.statistics()["repaired_blocks"] == 0
    assert len(table_paths(fs)) >= 3
    for path in table_paths(fs):
        data = bytearray(fs.read(path))
        for at in range(0, len(data) - CONTENTS_BYTES, 1009):
            data[at] ^= 0x55
        # One changed byte in a frame of metadata: RS(4,2) corrects that in each column without being told the place.
        fs = MemoryFileSystem({**fs.files(), path: bytes(data)}, fs.directories())
    with open_database(fs, options, key=key) as engine:
        assert rows_of(engine.tree("a")) == expected
        repaired = engine.statistics()["repaired_blocks"]
        assert isinstance(repaired, int) and repaired >= 3
    with open_reader(fs, key=key) as reader:
        assert dict(reader.tree("a").scan()) == expected
        assert reader.statistics()["repaired_blocks"] > 0  # type: ignore[operator]
    with open_database(fs, options, key=key) as engine:
        engine.compact()
        before = engine.statistics()["repaired_blocks"]
        assert before > 0  # type: ignore[operator]
        assert rows_of(engine.tree("a")) == expected
        assert engine.statistics()["repaired_blocks"] == before, "compaction has written what was damaged anew"


def test_tables_of_other_schemes_stay_readable() -> None:
    """The scheme of a table is its own; the option is for those to come."""
    fs = database_memory()
    expected: dict[bytes, bytes] = {}
    for number, scheme in enumerate(("none", "rs(4,2)", "xor(5)", "rs(32,8)", "none")):
        with open_database(fs, replace(INLINE, parity=scheme, l0_tables=100, l0_slowdown=200, l0_stop=300)) as engine:
            tree = engine.tree("a")
            for n in range(number, 100, 3):
                tree.put(b"k%03d" % n, scheme.encode())
                expected[b"k%03d" % n] = scheme.encode()
            engine.flush()
            assert rows_of(tree) == expected
    codes = {read_properties(fs, DIRECTORY, int(path[-10:-4]), None).parity for path in table_paths(fs)}
    assert codes == {0, 0x223, 0x104, 0x2FF}


@pytest.mark.parametrize("value", ["xor", "rs(4)", "rs(40,2)", "rs(1,8)", "rs(2,5)", 4, None])
def test_an_impossible_option_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="option parity"):
        Options(parity=value)


def test_the_option_is_text_and_back() -> None:
    for text in ("none", "xor(4)", "rs(4,2)"):
        options = Options(parity=text)
        assert Options.from_text(options.to_text()) == options
    with pytest.raises(UsageError, match="option parity"):
        Options.from_text("parity = raid")
