"""Deferred streams: blocks handed out raw, sealed elsewhere and settled later make the tables that sealing at once makes."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate, count
from struct import Struct
from typing import Any

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.chunk import RawChunk, SealedBlocks, TableSummary
from lsmsql.engine.sstable.sealing import sealed_ahead, sealed_at_once
from lsmsql.engine.storage import encryption
from lsmsql.engine.storage.encryption import FileCipher
from lsmsql.errors import UsageError
from lsmsql.parity_scheme import ParityScheme

from ..storage.dictionary_world import json_dictionary
from .stream_world import KERNELS, OVERHEAD, SETTINGS, compiled, drain, make_memtable, needs_compiled, random_entries

SMALL = {**SETTINGS, "chunk_bytes": 1500}


def some_memtable(kernels: Any, seed: int = 1, commits: int = 80) -> Any:
    return make_memtable(kernels, random_entries(random.Random(seed), 300, commits))


def drain_raw(stream: Any, lag: int, cipher: FileCipher | None = None) -> list[RawChunk | SealedBlocks | TableSummary]:
    """All that a deferred stream hands out and is told, with `lag` chunks being sealed while it goes on."""
    sealer = stream.sealer()
    said: list[RawChunk | SealedBlocks | TableSummary] = []
    waiting: deque[RawChunk] = deque()
    while True:
        while len(waiting) <= lag and not (waiting and waiting[-1].ends) and (raw := stream.next_raw()) is not None:
            waiting.append(raw)
            said.append(raw)
        if not waiting:
            return said
        oldest = waiting.popleft()
        said.append(sealer.seal(oldest, cipher))
        stream.settle(said[-1])
        if oldest.ends:
            said.append(stream.summary())


def drawn(numbers: Iterator[int]) -> bytes:
    return next(numbers).to_bytes(encryption.NONCE_BYTES, "little")


def frames_of(said: Sequence[Any]) -> list[bytes]:
    """Of each table."""
    tables, frames = [], b""
    for each in said:
        if isinstance(each, SealedBlocks):
            frames += each.frames
        elif isinstance(each, TableSummary):
            assert len(frames) == each.data_bytes
            tables.append(frames)
            frames = b""
    assert not frames
    return tables


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("lag", [0, 1, 5])
def test_one_table_is_the_same_however_late_its_blocks_are_settled(kernels: Any, lag: int) -> None:
    memtable = some_memtable(kernels)
    said = drain_raw(kernels.TableStream([memtable], **SMALL, deferred=True), lag)
    (table,) = drain(kernels.TableStream([memtable], **SMALL))[1]
    assert frames_of(said) == [table.frames]
    assert [each for each in said if isinstance(each, TableSummary)] == [table.summary]
    assert sum(isinstance(each, RawChunk) for each in said) > 5


@needs_compiled
@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"overhead": OVERHEAD},
        {"overhead": OVERHEAD, "parity": ParityScheme.of_data("rs(4,2)").code, "dictionary": json_dictionary()},
        {"parity": ParityScheme.of_data("rs(4,2)").code},
        {"compression_level": 0, "restart_interval": 7, "hash_ratio": 0.5},
        {"checked": True},
        {"block_parts": 3},
        {"block_parts": 50, "overhead": OVERHEAD, "compression_level": 3},
    ],
)
def test_both_twins_hand_out_the_same(settings: dict[str, Any], seed: int, lag: int, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {**SMALL, "table_bytes": random.Random(seed).choice((1, 2000, 9000)), **settings, "deferred": True}
    cipher = FileCipher(bytes(range(32)), bytes(16), 5, 2) if "overhead" in settings else None
    said = []
    for kernels in (plain, compiled()):
        numbers = count()
        draw = partial(drawn, numbers)
        monkeypatch.setattr(encryption, "new_nonce", draw)
        monkeypatch.setattr(encryption, "new_nonces", lambda number, draw=draw: b"".join(draw() for _ in range(number)))
        said.append(drain_raw(kernels.TableStream([some_memtable(kernels, seed)], **arguments), lag, cipher))
    one, other = said
    assert one == other
    assert sum(isinstance(each, TableSummary) for each in one) > 1


@pytest.mark.parametrize("kernels", KERNELS)
def test_tables_end_near_their_size_though_their_last_blocks_are_not_settled(kernels: Any) -> None:
    """The rows compress to a third: raw bytes alone would end them far too early."""
    rows = [(b"%09d" % number, (b"%04d" % (number % 97)) * 20) for number in range(6000)]
    limit = 60_000
    stream = kernels.TableStream([kernels.SortedRows(rows)], **{**SETTINGS, "table_bytes": limit, "chunk_bytes": 4000, "deferred": True})
    sizes = [each.data_bytes for each in drain_raw(stream, 3) if isinstance(each, TableSummary)]
    assert len(sizes) > 2
    assert all(limit * 0.9 <= size <= limit * 1.1 for size in sizes[:-1])


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_deferred_stream_has_an_order_to_be_used_in(kernels: Any) -> None:
    stream = kernels.TableStream([some_memtable(kernels)], **SMALL, deferred=True)
    at_once = kernels.TableStream([some_memtable(kernels)], **SMALL)
    for call in (stream.next_chunk, stream.summary, at_once.next_raw, at_once.summary):
        with pytest.raises(ValueError):
            call()
    raw = stream.next_raw()
    sealed = stream.sealer().seal(raw)
    stream.settle(sealed)
    for wrong in (sealed, sealed._replace(sizes=sealed.sizes[1:]), sealed._replace(codecs=b"")):
        with pytest.raises(ValueError):
            stream.settle(wrong)
    with pytest.raises(ValueError):
        stream.sealer().seal(raw._replace(raw=raw.raw[:-1]))
    while not raw.ends:
        raw = stream.next_raw()
    for call in (stream.next_raw, stream.summary):
        with pytest.raises(ValueError):
            call()
    stream.close()


@pytest.mark.parametrize("kernels", KERNELS)
def test_blocks_are_encrypted_where_there_is_room_for_it_and_a_key(kernels: Any) -> None:
    cipher = FileCipher(bytes(32), bytes(16), 5, 2)
    for overhead, given in ((OVERHEAD, None), (0, cipher)):
        stream = kernels.TableStream([some_memtable(kernels)], **SMALL, overhead=overhead, deferred=True)
        with pytest.raises(ValueError, match="encrypted"):
            stream.sealer().seal(stream.next_raw(), given)
        stream.close()


@pytest.mark.parametrize("kernels", KERNELS)
def test_no_nonce_is_drawn_twice(kernels: Any) -> None:
    cipher = FileCipher(bytes(32), bytes(16), 5, 2)
    nonces: list[bytes] = []
    for _ in range(2):  # Once more for the same file: what an interrupted flush has sealed is under the same key.
        stream = kernels.TableStream([some_memtable(kernels)], **SMALL, overhead=OVERHEAD, deferred=True)
        for said in drain_raw(stream, 1, cipher):
            if isinstance(said, SealedBlocks):
                starts = accumulate(Struct(f"<{len(said.codecs)}I").unpack(said.sizes), initial=0)
                nonces += [said.frames[start + 40 : start + 52] for start in starts][:-1]
    assert len(nonces) == len(set(nonces)) > 10


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_sealer_refuses_what_a_stream_refuses(kernels: Any) -> None:
    for arguments in ({"compression_level": 23}, {"compression_level": -1}):
        with pytest.raises(UsageError):
            kernels.BlockSealer(**arguments)
    with pytest.raises(ValueError):
        kernels.BlockSealer(parity=0xFFFF_FFFF)


class Sheet:
    """A file whose chunks are their frames. threads: those that asked for its cipher, which is before each chunk is sealed."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.fails = False
        self.begun = False

    @property
    def cipher(self) -> None:
        self.threads.add(threading.get_ident())
        if self.fails and self.begun:
            raise OSError("no entropy")
        self.begun = True

    def sealed(self, first_block: int, frames: bytes, payloads: list[tuple[int, int, bytes]], dictionary: int) -> bytes:
        self.threads.add(threading.get_ident())
        return frames


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_pool_seals_in_order(kernels: Any, threads: int) -> None:
    memtable = some_memtable(kernels, 3, 300)
    before = threading.active_count()
    settings = {**SMALL, "table_bytes": 1 << 30}
    ahead = list(sealed_ahead(kernels.TableStream([memtable], **settings, deferred=True), Sheet, threads))
    at_once = list(sealed_at_once(kernels.TableStream([memtable], **settings), Sheet))
    assert b"".join(stretch.data for stretch in ahead) == b"".join(stretch.data for stretch in at_once)
    assert ahead[-1].table == at_once[-1].table
    assert threading.get_ident() not in ahead[0].file.threads
    assert at_once[0].file.threads == {threading.get_ident()}
    assert threading.active_count() == before


@pytest.mark.parametrize("kernels", KERNELS)
def test_several_tables_come_whole_one_after_the_other_from_a_pool(kernels: Any) -> None:
    memtable = some_memtable(kernels, 4, 300)
    stretches = list(sealed_ahead(kernels.TableStream([memtable], **{**SMALL, "table_bytes": 6000}, deferred=True), Sheet, 2))
    again = list(sealed_ahead(kernels.TableStream([memtable], **{**SMALL, "table_bytes": 6000}, deferred=True), Sheet, 2))
    assert [stretch.data for stretch in stretches] == [stretch.data for stretch in again]
    size = tables = 0
    file = stretches[0].file
    for stretch in stretches:
        assert stretch.file is file or not size
        file = stretch.file
        size += len(stretch.data)
        if stretch.table is not None:
            assert size == stretch.table.data_bytes
            size, tables = 0, tables + 1
    assert not size and tables > 2


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_failing_seal_is_raised_and_leaves_no_thread(kernels: Any) -> None:
    before = threading.active_count()
    sheet = Sheet()
    sheet.fails = True
    with pytest.raises(OSError, match="no entropy"):
        list(sealed_ahead(kernels.TableStream([some_memtable(kernels)], **SMALL, deferred=True), lambda: sheet, 2))
    assert threading.active_count() == before


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_pool_that_is_given_up_leaves_no_thread(kernels: Any) -> None:
    before = threading.active_count()
    stretches = sealed_ahead(kernels.TableStream([some_memtable(kernels)], **SMALL, deferred=True), Sheet, 2)
    next(stretches)
    stretches.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("kernels", KERNELS)
def test_one_chunk_alone_starts_no_thread(kernels: Any) -> None:
    (stretch,) = sealed_ahead(kernels.TableStream([kernels.SortedRows([(b"k", b"v")])], **SETTINGS, deferred=True), Sheet, 1)
    assert stretch.file.threads == {threading.get_ident()}
