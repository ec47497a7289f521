"""Batch, arena and memtable: both twins encode the same payloads and give the same answers, whatever is done to them."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from typing import Any

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.kinds import BATCH_SEQNO, SEQNO_MAX
from lsmsql.engine.storage import encryption
from lsmsql.engine.storage.encryption import FileCipher
from lsmsql.engine.storage.record_log import LogState, record_header, scan_records, seal_payload

from .twins import KERNELS, compiled, needs_compiled

TREES = (0, 7, 8, 70_000, 1 << 31)


def some_key(rng: random.Random) -> bytes:
    number = rng.randrange(60)
    return b"" if number == 0 else b"shared-by-many-keys/" * (number % 3) + number.to_bytes(1 + number % 12, "big")


def some_value(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 8, 30, 300, 5000)))


def keys_of(memtable: Any) -> list[bytes]:
    return sorted(memtable.versions) if isinstance(memtable, plain.Memtable) else memtable.ordered_keys()


def assert_same_memtable(rng: random.Random, one: Any, other: Any, seqnos: list[int]) -> None:
    assert (one is None) == (other is None)
    if one is None:
        return
    assert keys_of(one) == keys_of(other)
    assert (one.tree, one.entries, len(one), one.limit) == (other.tree, other.entries, len(other), other.limit)
    for key in {some_key(rng) for _ in range(20)}:
        for seqno in rng.sample(seqnos, min(3, len(seqnos))):
            assert one.get(key, seqno) == other.get(key, seqno)


# --- batches


def step_batch(rng: random.Random, batches: list[Any], marks: list[int]) -> None:
    """One random operation, the same on each batch."""
    kind = rng.random()
    tree, key, value = rng.choice(TREES), some_key(rng), some_value(rng)
    if kind < 0.45:
        for batch in batches:
            batch.put(tree, key, value)
    elif kind < 0.6:
        for batch in batches:
            batch.delete(tree, key)
    elif kind < 0.7:
        rows = [(some_key(rng), some_value(rng)) for _ in range(rng.randrange(40))]
        assert len({batch.put_many(tree, iter(rows)) for batch in batches}) == 1
    elif kind < 0.8:
        marks.append(len(batches[0]))
        assert len({batch.mark() for batch in batches}) == 1
    elif kind < 0.95 and marks:
        mark = marks[rng.randrange(len(marks))]
        marks[:] = [other for other in marks if other <= mark]
        for batch in batches:
            batch.rollback(mark)
    elif kind > 0.99:
        marks.clear()
        for batch in batches:
            batch.clear()


@needs_compiled
@pytest.mark.parametrize("seed", range(12))
def test_batches_of_both_twins_stay_alike(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    batches = [plain.Batch(), compiled().Batch()]
    marks: list[int] = []
    for step in range(400):
        step_batch(rng, batches, marks)
        one, other = batches
        assert (len(one), one.size, one.trees()) == (len(other), other.size, other.trees())
        if step % 7 == 0:
            assert one.payload() == other.payload()
            mark = rng.randrange(len(one) + 1)
            tree, key = rng.choice(TREES), some_key(rng)
            assert one.get(tree, key) == other.get(tree, key)
            assert one.get(tree, key, mark) == other.get(tree, key, mark)
            for limit in (None, mark):
                assert_same_memtable(rng, one.memtable(tree, limit), other.memtable(tree, limit), [1, BATCH_SEQNO])


@needs_compiled
def test_a_view_of_a_batch_outlives_clear_and_the_batch() -> None:
    batch = compiled().Batch()
    batch.put_many(7, [(b"k%05d" % n, b"v" * 200) for n in range(20_000)])
    view = batch.memtable(7)
    batch.clear()
    assert batch.size == len(batch) == 0
    batch.put(7, b"other", b"")
    del batch
    gc.collect()
    assert view.get(b"k19999", 0)[2] == b"v" * 200
    assert len(view.ordered_keys()) == 20_000


@pytest.mark.parametrize("kernels", KERNELS)
def test_an_iterable_that_raises_keeps_a_batch_s_rows_and_none_of_an_arena_s(kernels: Any) -> None:
    def rows() -> Iterator[tuple[bytes, bytes]]:
        yield b"a", b"1"
        yield b"b", b"2"
        raise RuntimeError("no more")

    batch, arena = kernels.Batch(), kernels.MemtableArena(1 << 20)
    arena.begin()
    for target in (batch, arena):
        with pytest.raises(RuntimeError):
            target.put_many(7, rows())
    assert len(batch) == 2
    assert batch.get(7, b"b") == (1, b"2")
    arena.abandon()
    arena.begin()
    arena.put(7, b"c", b"3")
    arena.seal(2, 1, 0, 5, 4, 0)
    arena.index(5)
    assert keys_of(arena.memtable(7)) == [b"c"]
    assert arena.entries == 1


@pytest.mark.parametrize("kernels", KERNELS)
def test_put_many_takes_any_iterable_of_pairs(kernels: Any) -> None:
    makers = (
        lambda: ([b"k", b"v"],),
        lambda: {b"k": b"v"}.items(),
        lambda: zip([b"k"], [b"v"], strict=True),
        lambda: ((b"k", b"v"),),
        lambda: [iter((b"k", b"v"))],
    )
    for make in makers:
        for target in (kernels.Batch(), kernels.MemtableArena(1 << 20)):
            assert target.put_many(7, make()) == 1
            assert target.payload()[-2:] == b"kv"


@needs_compiled
@pytest.mark.parametrize("pair", [("k", b"v"), (b"k", "v"), (b"k", None), (b"k", bytearray(b"v")), (memoryview(b"k"), b"v")])
def test_only_bytes_are_keys_and_values(pair: Any) -> None:
    for target in (compiled().Batch(), compiled().MemtableArena(1 << 20)):
        with pytest.raises(TypeError, match="must be bytes, not"):
            target.put(7, *pair)
        with pytest.raises(TypeError, match="must be bytes, not"):
            target.put_many(7, [pair])
        assert target.payload() == b""
    with pytest.raises((TypeError, ValueError)):
        compiled().Batch().put_many(7, [(b"k",)])
    with pytest.raises(TypeError):
        compiled().Batch().put_many(7, [3])


@pytest.mark.parametrize("kernels", KERNELS)
def test_limits(kernels: Any) -> None:
    for target in (kernels.Batch(), kernels.MemtableArena(1 << 20)):
        target.put(7, b"k" * 65_535, b"")
        with pytest.raises(ValueError, match="limit is 65535"):
            target.put(7, b"k" * 65_536, b"")
        assert len(target.payload()) == 16 + 65_535


# --- arenas


def step_arena(rng: random.Random, arenas: list[Any], seqno: int, ordinal: int) -> int:
    """One random commit, the same on each arena; returns the seqno of the last that was indexed."""
    payload = plain.Batch()
    payload.put_many(rng.choice(TREES), [(some_key(rng), some_value(rng)) for _ in range(rng.randrange(30))])
    tree = rng.choice(TREES)
    singles = [(some_key(rng), some_value(rng)) for _ in range(rng.randrange(8))]
    use_batch, fate = rng.random() < 0.4, rng.random()
    records = []
    for arena in arenas:
        arena.begin()
        for key, value in singles:
            arena.put(tree, key, value)
        if use_batch:
            assert arena.append(payload.payload()) == len(payload)
        arena.delete(tree, b"deleted" + bytes([ordinal % 5]))
        arena.put_many(tree + 1, singles)
        payload_bytes = arena.payload()
        records.append(bytes(arena.seal(2, 99, ordinal, seqno + 1, seqno, 123456)))
        assert records[-1][64:] == payload_bytes
        if fate < 0.8:
            arena.index(seqno + 1)
        else:
            arena.abandon()
    assert records[0] == records[-1]
    return seqno + (fate < 0.8)


@needs_compiled
@pytest.mark.parametrize("seed", range(8))
def test_arenas_of_both_twins_stay_alike(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    arenas = [plain.MemtableArena(300_000), compiled().MemtableArena(300_000)]
    seqno = 0
    for ordinal in range(150):
        seqno = step_arena(rng, arenas, seqno, ordinal)
        one, other = arenas
        assert (one.size, one.full, one.entries, one.trees()) == (other.size, other.full, other.entries, other.trees())
        tree = rng.choice(TREES)
        if ordinal % 5 == 0:
            assert_same_memtable(rng, one.memtable(tree), other.memtable(tree), [1, *range(1, seqno + 1), SEQNO_MAX])
            for memtable, twin in ((one.memtable(tree), other.memtable(tree)),):
                if memtable:
                    assert (memtable.min_seqno, memtable.max_seqno, memtable.kind_mask) == (twin.min_seqno, twin.max_seqno, twin.kind_mask)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_memtable_knows_whether_it_has_a_key_in_a_range(kernel: Any) -> None:
    arena = kernel.MemtableArena(1 << 20)
    for seqno, count in ((1, 1), (2, 300), (3, 2)):
        arena.begin()
        for number in range(count):
            arena.delete(7, b"%06d" % (number * 10 + seqno))
        arena.seal(2, 1, 0, seqno, 0, 0)
        arena.index(seqno)
        memtable = arena.memtable(7)
        keys = keys_of(memtable)
        for low in range(0, 3200, 7):
            for width in (0, 1, 9, 40):
                smallest, largest = b"%06d" % low, b"%06d" % (low + width)
                assert memtable.has_key_in(smallest, largest) == any(smallest <= key <= largest for key in keys)
        assert memtable.has_key_in(b"", b"\xff") and not memtable.has_key_in(b"", b"") and not memtable.has_key_in(b"1", b"\xff")


@needs_compiled
def test_a_sealed_record_is_what_the_log_reads() -> None:
    arena = compiled().MemtableArena(1 << 20)
    arena.begin()
    arena.put(7, b"key", b"value")
    record = bytes(arena.seal(2, 99, 0, 5, 4, 123))
    records, end = scan_records("test.wal", record, 99)
    assert end.state is LogState.CLEAN
    assert [(found.kind, found.seqno, found.previous, found.time_us, found.payload) for found in records] == [(2, 5, 4, 123, arena.payload())]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_record_of_one_operation_is_what_adding_and_sealing_it_makes(kernel: Any) -> None:
    arenas = [kernel.MemtableArena(1 << 20), plain.MemtableArena(1 << 20)]
    for ordinal, (kind, value) in enumerate([(1, b"value"), (0, b""), (1, b""), (1, bytes(300_000))]):
        at_once = arenas[0].put_record(7, kind, b"key", value, 2, 99, ordinal, ordinal + 1, ordinal, 123)
        arenas[1].begin()
        arenas[1].add(7, b"key", kind, value)
        assert bytes(at_once) == arenas[1].seal(2, 99, ordinal, ordinal + 1, ordinal, 123)
        for arena in arenas:
            arena.index(ordinal + 1)
    assert arenas[0].entries == 4
    for wrong in ((7, 9, b"key", b""), (7, 1, b"k" * 65_536, b"")):
        with pytest.raises(ValueError):
            arenas[0].put_record(*wrong, 2, 99, 4, 5, 4, 123)
        arenas[0].abandon()
    assert arenas[0].entries == 4


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_encrypted_record_of_one_operation_is_what_the_log_seals(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cipher = FileCipher(bytes(range(32)), bytes(16), 99, 3)
    arena, one = kernel.MemtableArena(1 << 20), plain.MemtableArena(1 << 20)
    for ordinal, (kind, value) in enumerate([(1, b"value"), (0, b""), (1, b""), (1, bytes(300_000)), (1, b"short")]):
        monkeypatch.setattr(encryption, "new_nonce", lambda ordinal=ordinal: ordinal.to_bytes(12, "big"))
        record = bytes(arena.put_sealed(7, kind, b"key", value, 2, cipher, ordinal, ordinal + 1, ordinal, 123))
        one.begin()
        one.add(7, b"key", kind, value)
        stored = seal_payload(2, ordinal, one.payload(), cipher)
        assert record == record_header(2, 1, 99, ordinal, ordinal + 1, ordinal, stored, 3, 123) + stored
        for each in (arena, one):
            each.index(ordinal + 1)
    assert arena.entries == 5
    for wrong in ((7, 9, b"key", b""), (7, 1, b"k" * 65_536, b"")):
        with pytest.raises(ValueError):
            arena.put_sealed(*wrong, 2, cipher, 5, 6, 5, 123)
        arena.abandon()
    assert arena.entries == 5


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [0, 1, 100, 70_000])
def test_a_header_filled_in_where_the_record_lies(kernel: Any, size: int) -> None:
    payload = random.Random(size).randbytes(size)
    record = bytearray(b"?" * 64) + payload
    kernel.fill_record_header(memoryview(record), 2, 1, 99, 5, 6, 4, 3, 123)
    assert bytes(record) == record_header(2, 1, 99, 5, 6, 4, payload, 3, 123) + payload
    with pytest.raises(ValueError):
        kernel.fill_record_header(memoryview(bytearray(63)), 2, 1, 99, 5, 6, 4, 3, 123)


@needs_compiled
def test_a_record_larger_than_the_arena_and_its_chunks() -> None:
    rng = random.Random(5)
    rows = [(rng.randbytes(16), rng.randbytes(100)) for _ in range(60_000)]
    arena = compiled().MemtableArena(1 << 16)
    for seqno in (1, 2):
        arena.begin()
        arena.put_many(7, rows[seqno:])
        arena.put(7, b"big", bytes(5_000_000))
        view = arena.seal(2, 1, 0, seqno, 0, 0)
        assert len(view) == 64 + 8 + (len(rows) - seqno) * 124 + 8 + 3 + 5_000_000
        arena.index(seqno)
    assert arena.full
    memtable = arena.memtable(7)
    assert memtable.entries == 2 * (len(rows) + 1) - 3
    assert memtable.ordered_keys() == sorted({key for key, _ in rows[1:]} | {b"big"})
    assert memtable.get(rows[1][0], 9) == (1, 1, rows[1][1])
    assert memtable.get(rows[2][0], 9) == (2, 1, rows[2][1])
    assert memtable.get(rows[2][0], 1) == (1, 1, rows[2][1])
    assert memtable.get(rows[2][0], 0) is None


@needs_compiled
def test_order_is_kept_up_with_however_many_keys_come_between_scans() -> None:
    rng = random.Random(6)
    arena, keys = compiled().MemtableArena(1 << 24), set()
    for seqno, count in enumerate([1, 700, 3, 40, 5000, 1, 90, 900, 2000, 7, 30_000], 1):
        for style in range(3):
            new = [b"prefix" * style + rng.randbytes(2 + 2 * style) for _ in range(count)]
            arena.begin()
            arena.put_many(7, [(key, b"") for key in new])
            arena.seal(2, 1, 0, seqno, 0, 0)
            arena.index(seqno)
            keys.update(new)
        assert arena.memtable(7).ordered_keys() == sorted(keys)


@needs_compiled
def test_a_batch_rolls_back_under_an_order() -> None:
    rng = random.Random(7)
    batch, twin = compiled().Batch(), plain.Batch()
    for _ in range(30):
        rows = [(b"%06d" % rng.randrange(4000), b"") for _ in range(rng.randrange(900))]
        for target in (batch, twin):
            target.put_many(7, rows)
        if len(twin):
            assert keys_of(batch.memtable(7)) == keys_of(twin.memtable(7))
        mark = rng.randrange(len(twin) // 2, len(twin) + 1)
        for target in (batch, twin):
            target.rollback(mark)
        if len(twin):
            assert keys_of(batch.memtable(7)) == keys_of(twin.memtable(7))
        assert batch.payload() == twin.payload()


# --- hostile payloads


def outcome(kernels: Any, payload: bytes) -> Any:
    arena = kernels.MemtableArena(1 << 16)
    arena.begin()
    try:
        count = arena.append(payload)
    except ValueError as error:
        assert arena.payload() == b""
        return str(error)
    arena.seal(2, 1, 0, 1, 0, 0)
    arena.index(1)
    return count, [(tree, [(key, arena.memtable(tree).get(key, 1)) for key in keys_of(arena.memtable(tree))]) for tree in arena.trees()]


@needs_compiled
def test_both_twins_judge_damaged_payloads_alike() -> None:
    rng = random.Random(8)
    batch = plain.Batch()
    for tree in (7, 8, 7):
        batch.put_many(tree, [(b"key%d" % n, b"v" * n) for n in range(4)])
        batch.delete(tree, b"gone")
    payload = batch.payload()
    variants = [payload[:n] for n in range(len(payload))]
    for position in range(len(payload)):
        for change in (1, 2, 3, 0x80, 0xFF, rng.randrange(1, 256)):
            variants.append(payload[:position] + bytes([payload[position] ^ change]) + payload[position + 1 :])
    refused = 0
    for variant in variants:
        found = outcome(compiled(), variant)
        assert found == outcome(plain, variant), variant.hex()
        refused += isinstance(found, str)
    assert refused > len(variants) // 3
