"""Checksums of entries: made alike by both twins, in every layout, held to by paranoid reads, carried from memory to the block."""

from __future__ import annotations

import ctypes
import random
from typing import Any

import pytest
import xxhash

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.kinds import Kind
from lsmsql.engine.kernel.plain.checksums import block_checks, entry_check, with_checks
from lsmsql.engine.storage.block_frame import FrameType, seal_frame
from lsmsql.errors import CorruptionError

from .stream_world import (
    KERNELS,
    OVERHEAD,
    SETTINGS,
    TREE,
    FinishedTable,
    compiled,
    drain,
    make_memtable,
    make_tables,
    needs_compiled,
    random_entries,
)
from .test_block import SAMPLES, block_of, hostile_variants, outcome

LAYOUTS = [{"restart_interval": 0}, {"restart_interval": 4}, {"restart_interval": 1, "hash_ratio": 0.75}]


def raws(kernels: Any, name: str) -> list[bytes]:
    """A sample in its layouts, without checksums."""
    block = block_of(kernels, SAMPLES[name])
    return [kernels.encode_block(block), kernels.encode_rows(block, 2, 0.75)]


def checked(raw: bytes) -> bytes:
    return with_checks(raw, block_checks(plain.decode_block(raw)))


def test_the_checksum_stays_what_it_is() -> None:
    parts = xxhash.xxh3_64_digest(b"key")[::-1] + xxhash.xxh3_64_digest(b"value")[::-1] + bytes((Kind.VALUE, 7, 0, 0, 0, 0, 0, 0))
    assert entry_check(b"key", 7, Kind.VALUE, b"value") == xxhash.xxh3_64_intdigest(parts) & 0xFFFFFFFF == 0x5C32EE93
    others = [(b"kex", 7, 1, b"value"), (b"key", 8, 1, b"value"), (b"key", 7, 0, b"value"), (b"key", 7, 1, b"valuf"), (b"keyv", 7, 1, b"alue")]
    assert len({entry_check(*other) for other in others} | {0x5C32EE93}) == 6


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "wide suffixes"])
def test_checksums_change_nothing_about_what_a_block_holds(kernels: Any, name: str) -> None:
    for raw in raws(kernels, name):
        assert outcome(kernels, checked(raw)) == outcome(plain, raw)
        assert plain.has_checks(checked(raw)) and not plain.has_checks(raw)
        plain.verify_block(checked(raw), plain.decode_block(raw))
        if raw[4] == 2:
            for key, seqno, kind, value in SAMPLES[name]:
                assert kernels.rows_find(checked(raw), key, seqno) == (seqno, kind, value)


@needs_compiled
@pytest.mark.parametrize("name", SAMPLES)
def test_both_twins_judge_damaged_blocks_with_checksums_alike(name: str) -> None:
    for raw in map(checked, raws(plain, name)):
        for variant in hostile_variants(raw, random.Random(3)):
            assert outcome(compiled(), variant) == outcome(plain, variant), variant.hex()


@needs_compiled
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("more", [{}, {"parity": 0x223}, {"overhead": OVERHEAD}, {"compression_level": 0}])
def test_both_twins_write_the_same_bytes(layout: dict[str, Any], more: dict[str, Any]) -> None:
    entries = random_entries(random.Random(5), 300, 60)
    made = [make_tables(kernels, [make_memtable(kernels, entries)], checked=True, **layout, **more) for kernels in (plain, compiled())]
    assert [(table.frames, table.summary) for table in made[0]] == [(table.frames, table.summary) for table in made[1]]
    without = make_tables(plain, [make_memtable(plain, entries)], **layout, **more)
    assert len(made[0][0].frames) > len(without[0].frames)
    again = [
        make_tables(kernels, [made[0][0].open(kernels, kernels.BlockCache(0))], checked=False, **layout, **more) for kernels in (plain, compiled())
    ]
    assert again[0][0].frames == again[1][0].frames == without[0].frames, "compaction takes them off again"


@pytest.mark.parametrize("kernels", KERNELS)
def test_each_table_may_be_asked_for(kernels: Any) -> None:
    entries = random_entries(random.Random(6), 300, 60)
    answers = iter([True, False, True, True, False] * 20)
    asked: list[bool] = []

    def ask() -> bool:
        asked.append(next(answers))
        return asked[-1]

    tables = make_tables(kernels, [make_memtable(kernels, entries)], checked=ask, table_bytes=900, compression_level=0)
    assert len(tables) == len(asked) > 5
    for table, wanted in zip(tables, asked, strict=True):
        length = int.from_bytes(table.frames[12:16], "little")
        assert plain.has_checks(table.frames[40 : 40 + length]) == wanted


def table_with_a_wrong_entry(kernels: Any, layout: dict[str, Any]) -> tuple[FinishedTable, list[tuple[bytes, bytes]]]:
    """A table whose first block says something else than its checksums, in a frame that is whole; and its rows."""
    entries = [(b"key%03d" % n, 9, 1, b"value%03d" % n) for n in range(30)]
    (table,) = make_tables(kernels, [make_memtable(kernels, entries)], checked=True, compression_level=0, **layout)
    length = int.from_bytes(table.frames[12:16], "little")
    raw = table.frames[40 : 40 + length].replace(b"value003", b"valuf003")
    table.frames = seal_frame(FrameType.DATA, raw) + table.frames[40 + length :]
    return table, [(key, value.replace(b"value003", b"valuf003")) for key, _, _, value in entries]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("global_seqno", [0, 100])
def test_paranoid_reads_find_what_the_frame_does_not_tell(kernels: Any, layout: dict[str, Any], global_seqno: int) -> None:
    table, items = table_with_a_wrong_entry(kernels, layout)
    for cache_bytes in (0, 1 << 20):
        trusting = table.open(kernels, kernels.BlockCache(cache_bytes), global_seqno, paranoid=False)
        assert list(kernels.Scan([], kernels.Levels([[trusting]]), None, None, 1 << 40)) == items
        assert trusting.get(b"key003", 1 << 40) == (9 + global_seqno, 1, b"valuf003")
        paranoid = table.open(kernels, kernels.BlockCache(cache_bytes), global_seqno)
        levels = kernels.Levels([[paranoid]])
        for read in (
            lambda levels=levels: list(kernels.Scan([], levels, None, None, 1 << 40)),
            lambda levels=levels: kernels.get([], levels, b"key003", 1 << 40),
            lambda levels=levels: kernels.get_many([], levels, [b"key004"], 1 << 40),
            lambda paranoid=paranoid: make_tables(kernels, [paranoid]),
        ):
            with pytest.raises(CorruptionError, match="entry does not match its checksum") as caught:
                read()
            assert caught.value.offset == 0
        assert kernels.get([], levels, b"key029", 1 << 40) == b"value029", "other blocks are read"


# Carried from memory.


def checked_arena(kernels: Any, commits: int = 40) -> tuple[Any, list[Any]]:
    """An arena with checksums, and a view on the memory of each record."""
    arena, views = kernels.MemtableArena(1 << 14, True), []
    for seqno in range(1, commits + 1):
        arena.begin()
        arena.put(TREE, b"key%03d" % (seqno % 30), b"value%03d" % seqno)
        arena.put(TREE, b"twice", b"first")
        arena.put(TREE, b"twice", b"second")
        arena.delete(TREE, b"gone%03d" % seqno)
        views.append(arena.payload())
        arena.seal(2, 1, seqno, seqno, seqno - 1, 0)
        arena.index(seqno)
    return arena, views


def poke(view: memoryview, offset: int) -> None:
    """Change a byte of memory that Python may only read."""

    class Buffer(ctypes.Structure):
        _fields_ = (("start", ctypes.c_void_p), ("rest", ctypes.c_byte * 200))

    buffer = Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    assert buffer.start is not None
    byte = ctypes.c_ubyte.from_address(buffer.start + offset)
    byte.value ^= 0x10
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


@pytest.mark.parametrize("kernels", KERNELS)
def test_what_memory_holds_unchanged_is_written_as_ever(kernels: Any) -> None:
    arena, _views = checked_arena(kernels)
    for more in ({"floor": 0}, {"floor": 30}, {"floor": 40, "bottom": True}, {"floor": 20, "snapshots": [5, 10]}):
        carried = make_tables(kernels, [arena.memtable(TREE)], checked=True, block_bytes=1, **more)
        made = kernels.TableStream([arena.memtable(TREE)], **{**SETTINGS, "block_bytes": 1, **more}, checked=lambda: True)
        assert b"".join(chunk.frames for chunk in drain(made)[0]) == carried[0].frames
    assert arena.size > kernels.MemtableArena(1 << 14).size


@needs_compiled
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_byte_that_changed_in_memory_is_found_by_the_flush(layout: dict[str, Any]) -> None:
    kernels = compiled()
    for where in (b"value007", b"second"):
        arena, views = checked_arena(kernels)
        poke(views[6], bytes(views[6]).index(where) + len(where) - 1)
        stream = kernels.TableStream([arena.memtable(TREE)], **{**SETTINGS, **layout, "block_bytes": 100}, checked=True)
        with pytest.raises(CorruptionError, match="has changed in memory since its commit") as caught:
            drain(stream)
        assert ("key007" if where != b"second" else "twice") in str(caught.value)
        assert stream.next_chunk() is None
    unchecked = kernels.TableStream([arena.memtable(TREE)], **SETTINGS)
    assert drain(unchecked)[1], "who does not ask is not told"


def test_the_plain_twin_finds_a_changed_entry_too() -> None:
    arena, _ = checked_arena(plain)
    versions = arena.memtable(TREE).versions[b"key007"]
    versions[0] = (*versions[0][:2], b"other")
    with pytest.raises(CorruptionError, match="has changed in memory"):
        drain(plain.TableStream([arena.memtable(TREE)], **SETTINGS, checked=True))


@needs_compiled
def test_both_twins_count_the_memory_of_checksums_alike() -> None:
    assert checked_arena(plain)[0].size == checked_arena(compiled())[0].size
