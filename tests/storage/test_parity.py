"""Parity of frames: what `reedsolo` computes column by column, in both twins; every loss it promises to bear; repair that never lingers."""

from __future__ import annotations

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from types import ModuleType
from typing import Any

import pytest
import reedsolo
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from lsmsql._compiled import compiled_module
from lsmsql.engine.storage import parity as parity_module
from lsmsql.engine.storage import parity_plain
from lsmsql.engine.storage.parity import ParityScheme, Repairs, add_parity, add_parity_to_all, parity_length, repair
from lsmsql.errors import UsageError

_compiled = compiled_module("lsmsql.engine.storage.parity_cy")
TWINS = [pytest.param(parity_plain, id="plain"), *([pytest.param(_compiled, id="compiled")] if _compiled else [])]
twins = pytest.mark.parametrize("code", TWINS)
SHAPES = [(1, 1), (4, 1), (32, 1), (1, 2), (4, 2), (3, 3), (10, 4), (1, 8), (32, 8)]


def with_oracle(frame: bytes, d: int, p: int) -> bytes:
    """The frame and the parity that `reedsolo` gives each column of its shards."""
    size = -(-len(frame) // d)
    padded = frame.ljust(size * d, b"\0")
    codec = reedsolo.RSCodec(p, fcr=0, prim=0x11D, generator=2)
    columns = [bytes(codec.encode(padded[column::size]))[d:] for column in range(size)]
    return frame + b"".join(bytes(column[row] for column in columns) for row in range(p))


def spans(d: int, p: int, length: int) -> list[tuple[int, int]]:
    """Where each shard lies in frame and parity; the last data shards may be short or empty."""
    size = -(-length // d)
    data = [(min(length, n * size), min(length, (n + 1) * size)) for n in range(d)]
    return data + [(length + n * size, length + (n + 1) * size) for n in range(p)]


def ruined(rng: random.Random, stored: bytes, places: Any) -> bytes:
    """With every byte of these spans changed."""
    damaged = bytearray(stored)
    for start, end in places:
        for at in range(start, end):
            damaged[at] ^= rng.randrange(1, 256)
    return bytes(damaged)


class Judge:
    def __init__(self, frame: bytes) -> None:
        self.digest = xxhash.xxh3_128_digest(frame)
        self.asked = 0

    def __call__(self, frame: bytes) -> bool:
        self.asked += 1
        return xxhash.xxh3_128_digest(frame) == self.digest


# --- the code


@twins
@pytest.mark.parametrize(("d", "p"), SHAPES)
def test_parity_is_what_reedsolo_computes_column_by_column(code: ModuleType, d: int, p: int) -> None:
    rng = random.Random(d * 100 + p)
    frames = [rng.randbytes(length) for length in (1, 2, d, d + 1, 40, 41, 333, 33 * d, 33 * d - 1)]
    assert code.encode_many(frames, d, p) == [with_oracle(frame, d, p) for frame in frames]
    assert code.encode_many([], d, p) == []


@pytest.mark.parametrize(("d", "p"), [(d, p) for d in range(1, 33) for p in range(1, 9)])
def test_every_shape_is_reedsolo_s(d: int, p: int) -> None:
    frame = random.Random(d * p).randbytes(2 * d)
    for param in TWINS:
        assert param.values[0].encode_many([frame], d, p) == [with_oracle(frame, d, p)]  # type: ignore[attr-defined]


@pytest.mark.skipif(_compiled is None, reason="the compiled kernels are not built")
@given(st.binary(min_size=1, max_size=9000), st.integers(1, 32), st.integers(1, 8), st.randoms(use_true_random=False))
def test_the_twins_agree(frame: bytes, d: int, p: int, rng: random.Random) -> None:
    """Also where the columns are worked on in several parts."""
    (stored,) = parity_plain.encode_many([frame], d, p)
    assert _compiled.encode_many([frame], d, p) == [stored]
    lost = rng.sample(range(d + p), rng.randrange(p + 1))
    damaged = ruined(rng, stored, [spans(d, p, len(frame))[shard] for shard in lost])
    for param in TWINS:
        assert param.values[0].reconstruct(damaged, len(frame), d, p, lost) == frame  # type: ignore[attr-defined]


@twins
def test_long_shards_are_whole(code: ModuleType) -> None:
    frame = random.Random(1).randbytes(4 * 5000 - 3)
    (stored,) = code.encode_many([frame], 4, 2)
    assert stored == parity_plain.encode_many([frame], 4, 2)[0]
    places = spans(4, 2, len(frame))
    assert code.reconstruct(ruined(random.Random(2), stored, [places[0], places[3]]), len(frame), 4, 2, [3, 0]) == frame


@twins
@pytest.mark.parametrize(("d", "p"), [(1, 1), (4, 1), (4, 2), (3, 3), (5, 4)])
@pytest.mark.parametrize("length", [1, 5, 40, 99])
def test_any_p_shards_may_be_lost(code: ModuleType, d: int, p: int, length: int) -> None:
    rng = random.Random(length)
    frame = rng.randbytes(length)
    (stored,) = code.encode_many([frame], d, p)
    places = spans(d, p, length)
    for count in range(p + 1):
        for lost in combinations(range(d + p), count):
            damaged = ruined(rng, stored, [places[shard] for shard in lost])
            assert code.reconstruct(damaged, length, d, p, lost) == frame, lost


@twins
def test_a_frame_of_one_byte_changes_no_other_object(code: ModuleType) -> None:
    """Interpreters share one object for each single byte."""
    for value in range(256):
        frame = bytes((value,))
        (stored,) = code.encode_many([frame], 1, 1)
        code.reconstruct(b"\x55" + stored[1:], 1, 1, 1, [0])
        assert [bytes((n,))[0] for n in range(256)] == list(range(256))


@twins
@pytest.mark.parametrize(
    ("length", "frame_length", "lost"), [(59, 40, []), (61, 40, []), (60, 40, [0, 1, 2]), (60, 40, [6]), (60, 40, [-1]), (60, 40, [1, 1])]
)
def test_what_cannot_be_reconstructed_is_refused(code: ModuleType, length: int, frame_length: int, lost: list[int]) -> None:
    with pytest.raises(ValueError, match="no frame of"):
        code.reconstruct(bytes(length), frame_length, 4, 2, lost)


# --- schemes


@pytest.mark.parametrize(
    ("text", "code"),
    [("none", 0), ("xor(1)", 0x100), ("xor(4)", 0x103), ("xor(32)", 0x11F), ("rs(4,2)", 0x223), ("rs(32,8)", 0x2FF), ("rs(1,1)", 0x200)],
)
def test_a_scheme_is_text_and_two_bytes(text: str, code: int) -> None:
    scheme = ParityScheme.parse(text)
    assert (str(scheme), scheme.code, scheme.byte) == (text, code, code & 0xFF)
    assert ParityScheme.of_code(code) == scheme
    assert bool(scheme) == (text != "none")


def test_every_code_is_one_scheme_or_none() -> None:
    known = 0
    for code in range(-1, 1 << 16):
        try:
            scheme = ParityScheme.of_code(code)
        except ValueError:
            continue
        known += 1
        assert scheme.code == code and ParityScheme.parse(str(scheme)) == scheme
    assert known == 1 + 32 + 256


@pytest.mark.parametrize(
    "text", ["", "xor", "xor(0)", "xor(33)", "xor(4,1)", "rs(4)", "rs(0,2)", "rs(33,2)", "rs(4,0)", "rs(4,9)", "RS(4,2)", "rs(4,2) ", 5]
)
def test_an_impossible_scheme_is_refused(text: Any) -> None:
    with pytest.raises(UsageError, match="no parity scheme"):
        ParityScheme.parse(text)


@pytest.mark.parametrize("fields", [("rs", 4, 9), ("rs", 4, 0), ("xor", 4, 2), ("none", 1, 1), ("other", 4, 2), ("rs", 4.0, 2), ("rs", True, 1)])
def test_an_impossible_scheme_cannot_be_made(fields: tuple[Any, Any, Any]) -> None:
    with pytest.raises(UsageError, match="no parity scheme"):
        ParityScheme(*fields)


@pytest.mark.parametrize("text", ["none", "xor(4)", "xor(32)", "rs(4,2)", "rs(1,8)", "rs(32,8)"])
def test_the_frame_s_length_follows_from_what_is_stored(text: str) -> None:
    scheme = ParityScheme.parse(text)
    lengths = {length + parity_length(scheme, length): length for length in range(1, 400)}
    assert len(lengths) == 399
    for stored in range(1, 400):
        if stored in lengths:
            assert scheme.frame_length(stored) == lengths[stored]
        else:
            with pytest.raises(ValueError, match="no frame makes"):
                scheme.frame_length(stored)


def test_frames_get_their_parity_one_by_one_or_all_at_once() -> None:
    frames = [b"abc", b"d" * 100, b"e"]
    scheme = ParityScheme.parse("rs(4,2)")
    assert add_parity_to_all(scheme, frames) == [add_parity(scheme, frame) for frame in frames] == [with_oracle(frame, 4, 2) for frame in frames]
    assert add_parity_to_all(ParityScheme(), frames) == frames


# --- repair


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity_module, "_code", request.param)


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("text", ["xor(4)", "xor(1)", "rs(4,1)", "rs(4,2)", "rs(1,2)", "rs(3,3)", "rs(5,4)"])
@pytest.mark.parametrize("length", [1, 41, 700])
def test_damage_to_any_p_shards_is_repaired(text: str, length: int) -> None:
    scheme = ParityScheme.parse(text)
    rng = random.Random(length)
    frame = rng.randbytes(length)
    stored, judge = add_parity(scheme, frame), Judge(frame)
    places = spans(scheme.d, scheme.p, length)
    for lost in combinations(range(scheme.d + scheme.p), scheme.p):
        assert repair(scheme, ruined(rng, stored, [places[shard] for shard in lost]), length, judge) == frame, lost
        zeroed = bytearray(stored)
        for shard in lost:
            zeroed[slice(*places[shard])] = bytes(places[shard][1] - places[shard][0])
        assert repair(scheme, memoryview(zeroed), length, judge) == frame, lost


@pytest.mark.usefixtures("twin")
def test_damaged_shards_are_found_by_the_parity_itself() -> None:
    """So that a large frame of many shards takes one trial."""
    rng = random.Random(3)
    frame = rng.randbytes(100_000)
    for text in ("rs(4,2)", "rs(32,8)", "rs(32,2)"):
        scheme = ParityScheme.parse(text)
        stored = add_parity(scheme, frame)
        for start in (0, 5000, 50_000, 99_990, len(stored) - 20):
            judge = Judge(frame)
            assert repair(scheme, ruined(rng, stored, [(start, min(len(stored), start + 1500))]), len(frame), judge) == frame
            assert judge.asked == 1, (text, start)


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("text", ["rs(4,2)", "rs(4,5)", "rs(10,4)", "rs(32,8)"])
def test_errors_at_unknown_places_are_corrected(text: str) -> None:
    """p // 2 in each column, in more shards than the code could do without."""
    scheme = ParityScheme.parse(text)
    rng = random.Random(4)
    frame = rng.randbytes(900)
    stored, judge = add_parity(scheme, frame), Judge(frame)
    places = spans(scheme.d, scheme.p, len(frame))
    damaged = bytearray(stored)
    for column in range(scheme.shard_length(len(frame))):
        for shard in rng.sample(range(scheme.d + scheme.p), scheme.p // 2):
            if places[shard][0] + column < places[shard][1]:
                damaged[places[shard][0] + column] ^= rng.randrange(1, 256)
    assert repair(scheme, damaged, len(frame), judge) == frame


def test_errors_at_unknown_places_are_corrected_on_several_threads_at_once() -> None:
    """The library keeps its tables in globals and makes them anew each time."""
    scheme = ParityScheme.parse("rs(4,2)")

    def repaired(seed: int) -> bool:
        rng = random.Random(seed)
        frame = rng.randbytes(200)
        damaged = bytearray(add_parity(scheme, frame))
        for column in range(50):
            damaged[rng.randrange(4) * 50 + column] ^= 7
        return repair(scheme, damaged, len(frame), Judge(frame)) == frame

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(repaired, range(200)))
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.usefixtures("twin")
@pytest.mark.parametrize("text", ["xor(4)", "rs(4,2)", "rs(10,4)", "rs(32,8)"])
def test_what_is_beyond_repair_is_given_up_after_a_bounded_number_of_trials(text: str) -> None:
    scheme = ParityScheme.parse(text)
    rng = random.Random(5)
    frame = rng.randbytes(2000)
    stored, judge = add_parity(scheme, frame), Judge(frame)
    places = spans(scheme.d, scheme.p, len(frame))
    for _ in range(3):
        judge.asked = 0
        lost = rng.sample(range(scheme.d + scheme.p), scheme.p + 1)
        assert repair(scheme, ruined(rng, stored, [places[shard] for shard in lost]), len(frame), judge) is None
        assert judge.asked <= parity_module.TRIALS_MAX + 1


def test_the_work_on_a_large_frame_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity_module, "WORK_BYTES_MAX", 10_000)
    scheme = ParityScheme.parse("rs(4,2)")
    frame = bytes(range(250)) * 10
    judge = Judge(frame)
    assert repair(scheme, bytes(len(add_parity(scheme, frame)) - 1) + b"\1", len(frame), judge) is None
    assert judge.asked <= 10_000 // len(frame) + 1


@pytest.mark.parametrize(("scheme", "size", "length"), [("none", 40, 40), ("rs(4,2)", 59, 40), ("rs(4,2)", 0, 0), ("rs(4,2)", 60, -1)])
def test_bytes_of_another_size_are_not_repaired(scheme: str, size: int, length: int) -> None:
    assert repair(ParityScheme.parse(scheme), bytes(size), length, lambda frame: True) is None


def test_repairs_are_counted_and_the_last_places_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Repairs, "PLACES_MAX", 3)
    repairs = Repairs()
    for offset in (1, 2, 2, 3, 4):
        repairs.add("f", offset)
    assert repairs.count == 5
    assert list(repairs.places) == [("f", 2), ("f", 3), ("f", 4)]
