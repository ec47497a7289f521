"""Scans and streams under what may happen meanwhile: finalizers, threads, re-entry, abandonment. Nothing crashes, leaks or stays pinned."""

from __future__ import annotations

import gc
import random
import resource
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from lsmsql.engine.kernel.kinds import Kind
from lsmsql.errors import UsageError

from .stream_world import KERNELS, OVERHEAD, SETTINGS, TREE, compiled, drain, make_arena, make_memtable, make_tables, make_world, needs_compiled


class Bomb:
    """Garbage in a cycle: the collector runs `action` at some allocation of the kernel's."""

    def __init__(self, action: Any) -> None:
        self.action = action
        self.me = self

    def __del__(self) -> None:
        self.action()


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("reverse", [False, True])
def test_finalizers_may_change_what_a_scan_reads(kernels: ModuleType, reverse: bool) -> None:
    thresholds = gc.get_threshold()
    batch = kernels.Batch()
    for n in range(800):
        batch.put(TREE, b"%04d" % n, b"value%d" % n)
    mark = batch.mark()
    scan = kernels.Scan([batch.memtable(TREE)], kernels.Levels([]), None, None, 0, reverse=reverse)

    def change() -> None:
        batch.rollback(mark)
        for n in range(800):
            batch.put(TREE, b"%04d" % n, b"after" * 30)

    gc.set_threshold(7, 1, 1)
    try:
        found: list[tuple[bytes, bytes]] = []
        while True:
            Bomb(change)
            rows = scan.fill(50)
            if not rows:
                break
            found += rows
    finally:
        gc.set_threshold(*thresholds)
    assert found == sorted(((b"%04d" % n, b"value%d" % n) for n in range(800)), reverse=reverse)


@needs_compiled
def test_finalizers_may_close_the_scan_itself() -> None:
    kernels = compiled()
    thresholds = gc.get_threshold()
    world = make_world(kernels, 12, 200, commits=15)
    closed: list[int] = []
    gc.set_threshold(7, 1, 1)
    try:
        for use in (lambda scan: scan.fill(100), lambda scan: scan.next_block(), list):
            scan = world.scan(on_close=lambda: closed.append(1))
            Bomb(scan.close)
            use(scan)
            gc.collect()
            assert scan.fill(5) == [] and scan.next_block() is None
    finally:
        gc.set_threshold(*thresholds)
    assert len(closed) == 3


@pytest.mark.parametrize("kernels", KERNELS)
def test_scans_go_on_beside_a_writing_thread(kernels: ModuleType) -> None:
    """Readers at a fixed seqno see the same rows however much is written, whatever the cache evicts and whoever orders the memtable."""
    world = make_world(kernels, 31, 300, commits=20, cache_bytes=3000)
    expected = world.rows()
    arena = world.arenas[-1]
    stop = threading.Event()
    failures: list[str] = []

    def write() -> None:
        rng = random.Random(1)
        seqno = world.last
        while not stop.is_set() and seqno < world.last + 3000:
            seqno += 1
            arena.begin()
            for _ in range(5):
                arena.put(TREE, rng.randbytes(rng.randrange(12)), rng.randbytes(100))
            arena.seal(2, 1, seqno, seqno, seqno - 1, 0)
            arena.index(seqno)

    def read(number: int) -> None:
        for turn in range(12):
            reverse = (number + turn) % 2 == 1
            scan = world.scan(reverse=reverse, keep=turn % 3 > 0)
            found = []
            while rows := scan.fill(7):
                found += rows
            if found != (expected[::-1] if reverse else expected):
                failures.append(f"reader {number}, turn {turn}")

    threads = [threading.Thread(target=write), *(threading.Thread(target=read, args=(number,)) for number in range(3))]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    stop.set()
    threads[0].join()
    assert not failures


@needs_compiled
def test_a_scan_or_stream_in_use_refuses_a_second_user() -> None:
    kernels = compiled()
    (made,) = make_tables(kernels, [kernels.SortedRows([(b"%05d" % n, b"x" * 50) for n in range(2000)])])
    refused: list[str] = []

    def enter(call: Any) -> Any:
        def read() -> None:
            try:
                call()
            except ValueError as error:
                refused.append(str(error))

        return read

    table = made.open(kernels, kernels.BlockCache(0))
    scan = kernels.Scan([], kernels.Levels([[table]]), None, None, 1)
    for call in (lambda: scan.fill(1), scan.next_block):
        table.source.on_read = enter(call)
        assert len(scan.fill(300)) == 300
    stream = kernels.TableStream([table], **SETTINGS)
    table.source.on_read = enter(stream.next_chunk)
    assert len(drain(stream)[1]) == 1
    assert set(refused) == {"the scan is already executing", "the stream is already executing"}


@needs_compiled
def test_a_stream_closed_from_inside_ends() -> None:
    kernels = compiled()
    stream: Any = None

    def rows() -> Iterator[tuple[bytes, bytes]]:
        for n in range(30_000):
            if n == 20_000:
                stream.close()
            yield b"%06d" % n, b"x" * 100

    stream = kernels.TableStream([kernels.SortedRows(rows())], **SETTINGS)
    while stream.next_chunk() is not None:
        pass
    assert stream.next_chunk() is None


@needs_compiled
def test_a_stream_refuses_a_memtable_that_is_rolled_back_under_it() -> None:
    kernels = compiled()
    batch = kernels.Batch()
    for n in range(100):
        batch.put(TREE, b"%05d" % n, b"x" * 100)
    stream = kernels.TableStream([batch.memtable(TREE)], **{**SETTINGS, "chunk_bytes": 1})
    assert stream.next_chunk() is not None
    batch.rollback(3)
    with pytest.raises(UsageError, match="changed"):
        stream.next_chunk()
    assert stream.next_chunk() is None


@pytest.mark.parametrize("kernels", KERNELS)
def test_abandoned_scans_leave_no_block_pinned(kernels: ModuleType) -> None:
    (made,) = make_tables(kernels, [kernels.SortedRows([(b"%05d" % n, b"x" * 50) for n in range(3000)])], block_bytes=1000)
    cache = kernels.BlockCache(20_000)
    table = made.open(kernels, cache)
    rng = random.Random(3)
    for turn in range(300):
        scan = kernels.Scan([], kernels.Levels([[table]]), b"%05d" % rng.randrange(3000), None, 1, reverse=turn % 2 == 1, keep=turn % 5 > 0)
        scan.fill(rng.randrange(100))
        scan.next_block()
        if turn % 3:
            scan.close()
        del scan
    assert cache.used <= cache.capacity
    before = cache.evictions
    for ordinal in range(40):
        table.block(ordinal)
    assert cache.evictions >= before + 20, "blocks still pinned cannot be evicted"
    assert cache.used <= cache.capacity


@needs_compiled
def test_nothing_leaks() -> None:
    kernels = compiled()
    rng = random.Random(6)
    rows = [(b"%05d" % n, rng.randbytes(60)) for n in range(2000)]
    plain_table, sealed_table = (make_tables(kernels, [kernels.SortedRows(rows)], overhead=overhead)[0] for overhead in (0, OVERHEAD))
    memtable = make_memtable(kernels, [(key, 1 + n % 50, int(Kind.VALUE), value) for n, (key, value) in enumerate(rows)])

    def use(turn: int) -> None:
        cache = kernels.BlockCache(50_000)
        tables = [plain_table.open(kernels, cache, 60), sealed_table.open(kernels, cache, 70)]
        for keep in (False, True):
            for reverse in (False, True):
                scan = kernels.Scan([memtable], kernels.Levels([[tables[0]], [tables[1]]]), b"00100", None, 80, reverse=reverse, keep=keep)
                scan.fill(400)
                scan.next_block()
                list(scan) if turn % 2 else scan.close()
        stream = kernels.TableStream([memtable, tables, kernels.SortedRows(rows)], **{**SETTINGS, "chunk_bytes": 5000, "overhead": turn % 2})
        while stream.next_chunk() is not None:
            if turn % 3 == 0:
                break
        tables[0].source.data = tables[0].source.data[:-1]
        stream = kernels.TableStream([tables[0]], **SETTINGS)
        with pytest.raises(Exception, match="ends before"):
            drain(stream)

    def resident() -> int:
        gc.collect()
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    for turn in range(30):
        use(turn)
    before = resident()
    for turn in range(90):
        use(turn)
    assert resident() - before < 4 << 20  # One set of blocks lost each turn would be 20 MB.


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_memtable_outlives_its_arena_in_a_stream(kernels: ModuleType) -> None:
    arena = make_arena(kernels, [(1, [(b"%04d" % n, int(Kind.VALUE), b"v" * 90) for n in range(2000)])])
    stream = kernels.TableStream([arena.memtable(TREE)], **{**SETTINGS, "chunk_bytes": 2000})
    assert stream.next_chunk() is not None
    del arena
    gc.collect()
    count = 0
    while (chunk := stream.next_chunk()) is not None:
        if chunk.table:
            count = chunk.table.entries
    assert count == 2000
