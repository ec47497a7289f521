"""Blocks compressed with a dictionary, in both twins: the same bytes, read back in every way, or the error that says why not."""

from __future__ import annotations

import gc
import random
import weakref
from types import ModuleType
from typing import Any

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.storage.block_frame import HEADER_BYTES
from lsmsql.engine.storage.checksum import checksum32, checksum128
from lsmsql.engine.storage.compression import Codec
from lsmsql.engine.storage.dictionary import Dictionary
from lsmsql.errors import CorruptionError, UsageError

from ..storage.dictionary_world import json_dictionary, json_rows
from .stream_world import KERNELS, OVERHEAD, PARITIES, SETTINGS, FinishedTable, MemorySource, compiled, drain, make_tables, needs_compiled

LEARNED = json_dictionary(size=4096)
OTHER = json_dictionary(seed=9)
ROWS = json_rows(600)
LAST = 1 << 50


def made_of(kernels: ModuleType, rows: Any = ROWS, **settings: Any) -> FinishedTable:
    (made,) = make_tables(kernels, [kernels.SortedRows(rows)], **{"block_bytes": 1500, "dictionary": LEARNED, **settings})
    return made


@needs_compiled
@pytest.mark.parametrize("overhead", [0, OVERHEAD])
@pytest.mark.parametrize("level", [1, 2, 3, 5, 9, 13, 16, 19])
@pytest.mark.parametrize("dictionary", [LEARNED, json_dictionary(size=60_000)], ids=["4 KiB", "60 KiB"])
def test_both_twins_make_the_same_bytes(overhead: int, level: int, dictionary: Dictionary) -> None:
    source = random.Random(level)
    rows = [*ROWS[:300], *((b"9%04d" % n, source.randbytes(300)) for n in range(30))]
    rows += [(b"a%07d" % size, (b"".join(value for _, value in ROWS) * 8)[:size]) for size in (9000, 40_000, 140_000, 600_000)]
    for block_bytes in (1, 700, 4096, 8192, 17_000):
        settings = {**SETTINGS, "block_bytes": block_bytes, "compression_level": level, "overhead": overhead, "dictionary": dictionary}
        ours, theirs = (drain(twin.TableStream([twin.SortedRows(rows)], **settings)) for twin in (plain, compiled()))
        assert ours == theirs
        assert ours[1][0].summary.dictionary is dictionary


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("parity", PARITIES)
@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("interval", [0, 4])
def test_what_was_compressed_with_a_dictionary_is_read(kernels: ModuleType, parity: int, sealed: bool, interval: int) -> None:
    made = made_of(kernels, overhead=OVERHEAD if sealed else 0, parity=parity, restart_interval=interval)
    assert len(made.frames) < 0.9 * len(made_of(kernels, dictionary=None, parity=parity, restart_interval=interval).frames)
    for cache_bytes in (0, 1 << 20):
        table = made.open(kernels, kernels.BlockCache(cache_bytes))
        assert [table.get(key, LAST)[2] for key, _ in ROWS[::37]] == [value for _, value in ROWS[::37]]
        assert list(kernels.Scan([], kernels.Levels([[table]]), None, None, LAST)) == ROWS
        again = make_tables(kernels, [table], block_bytes=1500, dictionary=OTHER)[0]
        assert list(kernels.Scan([], kernels.Levels([[again.open(kernels, kernels.BlockCache(0))]]), None, None, LAST)) == ROWS
        raws = [table.raw_block(n) for n in range(table.blocks)]
        found = [kernels.decode_block(raw).keys() for raw in raws]
        assert [key for keys in found for key in keys] == [key for key, _ in ROWS]
        with pytest.raises(IndexError):
            table.raw_block(table.blocks)


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_table_of_blocks_that_do_not_shrink_has_no_dictionary(kernels: ModuleType) -> None:
    source = random.Random(5)
    made = made_of(kernels, [(b"%04d" % n, source.randbytes(400)) for n in range(50)])
    assert made.summary.dictionary is None
    table = made.open(kernels, kernels.BlockCache(0))
    assert table.get(b"0007", LAST) is not None


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_dictionary_without_compression_is_refused(kernels: ModuleType) -> None:
    with pytest.raises(UsageError, match="dictionary"):
        kernels.TableStream([], **{**SETTINGS, "compression_level": 0, "dictionary": LEARNED})


def renamed(frame: bytes, codec: int, dictionary: int) -> bytes:
    """The frame with another codec and dictionary in its header, whose check agrees."""
    fields = frame[:4] + bytes((codec,)) + frame[5:8] + dictionary.to_bytes(4, "little") + frame[12 : HEADER_BYTES - 4]
    return fields + checksum32(fields).to_bytes(4, "little") + frame[HEADER_BYTES:]


def refusals(kernels: ModuleType, made: FinishedTable, source: MemorySource) -> list[str]:
    """What every way of reading says."""
    summary = made.summary
    said = []
    for cache_bytes in (0, 1 << 20):
        table = kernels.Table(source, summary.index, summary.filter, summary.smallest, kernels.BlockCache(cache_bytes), 0)
        ways = [
            lambda table=table: table.get(ROWS[0][0], LAST),
            lambda table=table: list(kernels.Scan([], kernels.Levels([[table]]), None, None, LAST)),
            lambda table=table: drain(kernels.TableStream([table], **SETTINGS)),
            lambda table=table: table.raw_block(0),
        ]
        for way in ways:
            with pytest.raises(CorruptionError) as caught:
                way()
            said.append(str(caught.value))
    return said


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("interval", [0, 4])
def test_a_frame_that_names_another_dictionary_is_damaged(kernels: ModuleType, interval: int) -> None:
    made = made_of(kernels, restart_interval=interval)
    wrong = {
        "another": renamed(made.frames, Codec.ZSTD_DICTIONARY, OTHER.id),
        "none": renamed(made.frames, Codec.ZSTD_DICTIONARY, 0),
        "none but zstd": renamed(made.frames, Codec.ZSTD, 0),
        "zstd with one": renamed(made.frames, Codec.ZSTD, LEARNED.id),
        "a lead": renamed(made.frames, Codec.ZSTD_LEAD, LEARNED.id),
        "unknown codec": renamed(made.frames, 4, LEARNED.id),
    }
    for frames in wrong.values():
        refusals(kernels, made, MemorySource(frames, dictionary=LEARNED))
    for known in (None, OTHER):
        assert all("dictionary" in said for said in refusals(kernels, made, MemorySource(made.frames, dictionary=known)))


@pytest.mark.parametrize("kernels", KERNELS)
def test_payloads_that_the_dictionary_does_not_fit_are_damage(kernels: ModuleType) -> None:
    """Another content under the same id, and payloads changed where the checks agree: never more than CorruptionError."""
    made = made_of(kernels, ROWS[:60], block_bytes=100_000)
    impostor = Dictionary(OTHER.content)
    impostor.id = LEARNED.id
    summary = made.summary
    source = random.Random(6)
    cases = [MemorySource(made.frames, dictionary=impostor)]
    for _ in range(300):
        frame = bytearray(made.frames)
        for _ in range(source.randrange(1, 4)):
            frame[source.randrange(HEADER_BYTES, len(frame))] ^= source.randrange(1, 256)
        frame[20:36] = checksum128(bytes(frame[HEADER_BYTES:]))
        cases.append(MemorySource(renamed(bytes(frame), Codec.ZSTD_DICTIONARY, LEARNED.id), dictionary=LEARNED))
    for case in cases:
        table = kernels.Table(case, summary.index, summary.filter, summary.smallest, kernels.BlockCache(0), 0)
        try:
            table.block(0)
        except CorruptionError:
            continue


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_dictionary_lives_as_long_as_its_last_table(kernels: ModuleType) -> None:
    own = Dictionary(json_dictionary(seed=11).content)
    made = made_of(kernels, dictionary=own)
    tables = [made.open(kernels, kernels.BlockCache(0)) for _ in range(2)]
    gone = weakref.ref(own)
    made.summary.dictionary = None
    del own
    gc.collect()
    assert tables.pop().get(ROWS[5][0], LAST)[2] == ROWS[5][1]
    gc.collect()
    assert gone() is not None and tables[0].get(ROWS[7][0], LAST)[2] == ROWS[7][1]
    tables.clear()
    gc.collect()
    assert gone() is None
