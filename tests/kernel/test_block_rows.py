"""The row layout of data blocks: both twins write the same bytes, find the same versions in them undecoded, and refuse damaged ones alike."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.plain.block_rows import CONFLICT, FREE

from .test_block import Entry, block_of, columns, ordered, outcome
from .twins import KERNELS, compiled, needs_compiled

INTERVALS = st.sampled_from((1, 2, 3, 16, 255))
RATIOS = st.sampled_from((0.0, 0.01, 0.75, 1.33, 8.0))
KEYS = st.binary(max_size=3) | st.binary(max_size=12) | st.integers(0, 300).map(lambda n: b"p" * n) | st.just(b"shared" * 50 + b"1")
ENTRIES = st.lists(
    st.tuples(
        KEYS,
        st.integers(0, 9) | st.integers(0, (1 << 56) - 1) | st.just((1 << 64) - 1),
        st.sampled_from((0, 1, 1, 1)),
        st.binary(max_size=40) | st.integers(0, 70_000).map(bytes),
    ),
    min_size=1,
    max_size=40,
)


def as_written(entries: Iterable[Entry]) -> list[Entry]:
    """In order, one for each key and seqno, tombstones without values."""
    found = {(key, seqno): (key, seqno, kind, value if kind else b"") for key, seqno, kind, value in entries}
    return ordered(list(found.values()))


def encoded(kernels: Any, entries: list[Entry], interval: int = 16, ratio: float = 0.75) -> bytes:
    raw: bytes = kernels.encode_rows(block_of(kernels, entries), interval, ratio)
    return raw


def sought(entries: list[Entry], key: bytes, seqno: int) -> tuple[int, int, bytes] | None:
    return next((entry[1:] for entry in entries if entry[0] == key and entry[1] <= seqno), None)


def questions(entries: list[Entry]) -> list[tuple[bytes, int]]:
    """Each key and its neighbours at, below and above each of its seqnos."""
    asked = set()
    for key, seqno, _, _ in entries:
        for other in (key, key + b"\0", key[:-1], key[:-1] + b"\xff", b""):
            asked |= {(other, number) for number in (seqno, max(seqno, 1) - 1, min(seqno + 1, (1 << 64) - 1), 0, (1 << 64) - 1)}
    return sorted(asked)


def trailer(raw: bytes) -> tuple[int, int, int, int]:
    """Count, restarts, end of the entries, buckets."""
    found: tuple[int, int, int, int] = struct.unpack("<IIII", raw[-16:])
    return found


@pytest.mark.parametrize("kernels", KERNELS)
@given(entries=ENTRIES.map(as_written), interval=INTERVALS, ratio=RATIOS)
def test_a_decoded_block_holds_what_was_encoded(kernels: Any, entries: list[Entry], interval: int, ratio: float) -> None:
    raw = encoded(kernels, entries, interval, ratio)
    assert list(zip(*columns(kernels.decode_block(raw)), strict=True)) == entries


@needs_compiled
@given(entries=ENTRIES.map(as_written), interval=INTERVALS, ratio=RATIOS)
def test_both_twins_encode_the_same_bytes(entries: list[Entry], interval: int, ratio: float) -> None:
    raw = encoded(plain, entries, interval, ratio)
    assert encoded(compiled(), entries, interval, ratio) == raw
    assert compiled().encode_rows(compiled().decode_block(raw), interval, ratio) == raw
    # From the decoded block on, nothing tells one layout from the other.
    assert compiled().encode_block(compiled().decode_block(raw)) == plain.encode_block(block_of(plain, entries))


@pytest.mark.parametrize("kernels", KERNELS)
@given(entries=ENTRIES.map(as_written), interval=INTERVALS, ratio=RATIOS)
def test_a_search_finds_what_reading_every_entry_finds(kernels: Any, entries: list[Entry], interval: int, ratio: float) -> None:
    raw = encoded(plain, entries, interval, ratio)
    for key, seqno in questions(entries):
        assert kernels.rows_find(raw, key, seqno) == sought(entries, key, seqno), (key, seqno)


def many_versions() -> list[Entry]:
    return [(b"k%d" % (n // 40), 1000 - n, n % 3 != 2, b"" if n % 3 == 2 else b"%d" % n) for n in range(160)]


def long_keys() -> list[Entry]:
    keys = (
        [b"l" * 65_534 + b"%c" % n for n in range(97, 103)] + [b"l" * 256 + b"%d" % n for n in range(10)] + [b"l" * n for n in (0, 1, 255, 256, 257)]
    )
    return [(key, 7, 1, b"v") for key in keys]


def huge_values() -> list[Entry]:
    return [(b"h%d" % n, 1 << (7 * n), 1, bytes([n]) * (1 << (2 * n))) for n in range(9)]


CASES: dict[str, list[Entry]] = {
    "many versions": many_versions(),
    "long keys": long_keys(),
    "huge values": huge_values(),
    "300 restarts": [(b"%04d" % n, n, 1, b"v") for n in range(300)],
    "64 KiB": [(b"%04d" % n, n, 1, b"v" * 700) for n in range(100)],
}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("interval", [1, 3, 16])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 2.0])
def test_every_key_at_every_seqno(kernels: Any, name: str, interval: int, ratio: float) -> None:
    entries = as_written(CASES[name])
    raw = encoded(kernels, entries, interval, ratio)
    assert raw == encoded(plain, entries, interval, ratio)
    assert list(zip(*columns(kernels.decode_block(raw)), strict=True)) == entries
    asked = questions(entries)
    for key, seqno in asked if len(asked) < 1000 else random.Random(1).sample(asked, 1000):
        assert kernels.rows_find(raw, key, seqno) == sought(entries, key, seqno), (key, seqno)


def test_offsets_are_as_wide_as_they_have_to_be() -> None:
    for size, width in ((65_500, 2), (65_600, 4)):
        raw = encoded(plain, [(b"a", 1, 1, bytes(size)), (b"b", 1, 1, b"")], 1, 0)
        _, restarts, end, _ = trailer(raw)
        assert (len(raw) - 16 - end) == restarts * width


def test_the_hash_index_tells_what_is_not_there_and_is_left_out_where_heads_outnumber_it() -> None:
    entries = as_written(CASES["300 restarts"])
    assert trailer(encoded(plain, entries, 1))[3] == 0
    assert trailer(encoded(plain, entries[:255], 1))[3] == 0
    assert trailer(encoded(plain, entries[:254], 1))[3] == int(254 * 0.75)
    assert trailer(encoded(plain, entries, 2))[3] == int(300 * 0.75)
    assert trailer(encoded(plain, entries[:1], 1, 0.1))[3] == 1
    raw = encoded(plain, entries[:160], 16, 4.0)
    _, _, end, buckets = trailer(raw)
    index = raw[end + 2 * 10 : -16]
    assert len(index) == buckets == 640
    assert set(index) <= {*range(10), FREE, CONFLICT} and index.count(FREE) > 400
    # Versions of one key behind several heads cannot be told by one byte.
    spread = encoded(plain, as_written([(b"k", n, 1, b"") for n in range(10)]), 2, 1.0)
    assert set(spread[trailer(spread)[2] + 2 * 5 : -16]) == {FREE, CONFLICT}


# --- damage


SAMPLES: dict[str, tuple[list[Entry], int, float]] = {
    "one empty": ([(b"", 0, 1, b"")], 16, 0.75),
    "fixed": ([(b"key%04d" % n, 1000 + n * 7, 1, b"value %03d" % n) for n in range(30)], 4, 0.75),
    "no hash index": ([(b"key%04d" % n, 1000 + n * 7, 1, b"value %03d" % n) for n in range(20)], 16, 0.0),
    "versions and tombstones": (as_written((b"k%02d" % (n // 5), 70_000 - n * 900, n % 2, b"x" * (n % 2 * n)) for n in range(30)), 3, 1.33),
    "wide": ([(b"a" * 200 + b"b" * n, 1 << n, 1, b"y" * (n % 4)) for n in range(0, 60, 3)], 5, 0.5),
    "long values": ([(b"k%d" % n, 5, 1, b"v" * (n * 100)) for n in range(5)], 2, 2.0),
}


def answers(kernels: Any, raw: bytes, asked: list[tuple[bytes, int]]) -> list[Any]:
    found: list[Any] = []
    for key, seqno in asked:
        try:
            found.append(kernels.rows_find(raw, key, seqno))
        except ValueError as error:
            found.append(str(error))
    return found


def hostile_variants(raw: bytes, rng: random.Random) -> list[bytes]:
    """The block with each byte changed (those of header and trailer to many values), cut short, and lengthened."""
    variants = [raw[:n] for n in range(0, len(raw), max(1, len(raw) // 97))] + [raw + b"\0", raw + raw]
    for position in range(len(raw)):
        known = position < 8 or position >= len(raw) - 16
        changes = {1, 2, 0x40, 0x80, 0xFF, *(rng.randrange(1, 256) for _ in range(20))} if known else {1, 0x80, rng.randrange(1, 256)}
        variants += [raw[:position] + bytes([raw[position] ^ change]) + raw[position + 1 :] for change in sorted(changes)]
    return variants


@needs_compiled
@pytest.mark.parametrize("name", SAMPLES)
def test_both_twins_judge_damaged_blocks_alike(name: str) -> None:
    """Decoded, and searched without having been decoded first."""
    entries, interval, ratio = SAMPLES[name]
    rng = random.Random(3)
    raw = encoded(plain, entries, interval, ratio)
    asked = questions(entries)
    refused = searched = 0
    for variant in hostile_variants(raw, rng):
        found = outcome(compiled(), variant)
        assert found == outcome(plain, variant), variant.hex()
        refused += isinstance(found, str)
        some = rng.sample(asked, min(len(asked), 5))
        told = answers(compiled(), variant, some)
        assert told == answers(plain, variant, some), variant.hex()
        searched += any(isinstance(answer, str) for answer in told)
    assert refused > 20 and searched > 20


@needs_compiled
def test_both_twins_judge_random_bytes_alike() -> None:
    rng = random.Random(4)
    for _ in range(3000):
        count = rng.randrange(1, 6)
        interval = rng.choice((1, 2, 16))
        body = bytes(rng.choice((0, 0, 1, 1, 2, 3, 128, 255)) for _ in range(rng.randrange(60)))
        restarts = (count + interval - 1) // interval
        offsets = [8, *(rng.randrange(len(body) + 10) for _ in range(restarts - 1))]
        index = bytes(rng.choice((0, 1, FREE, CONFLICT)) for _ in range(rng.randrange(3)))
        raw = struct.pack("<IBBH", count, 2, interval, 0) + body + struct.pack(f"<{restarts}H", *offsets) + index
        raw += struct.pack("<IIII", count, restarts, 8 + len(body), len(index))
        assert outcome(compiled(), raw) == outcome(plain, raw), raw.hex()
        asked = [(key, seqno) for key in (b"", b"\0", b"\1\1", b"\xff") for seqno in (0, 1, 300)]
        assert answers(compiled(), raw, asked) == answers(plain, raw, asked), raw.hex()


def crafted(entries: bytes, *, count: int = 1, interval: int = 16, offsets: tuple[int, ...] = (8,), index: bytes = b"") -> bytes:
    raw = struct.pack("<IBBH", count, 2, interval, 0) + entries + struct.pack(f"<{len(offsets)}H", *offsets) + index
    return raw + struct.pack("<IIII", count, len(offsets), 8 + len(entries), len(index))


WRONG: dict[str, tuple[bytes, str]] = {
    "overlong seqno": (crafted(b"\x01\x80\x00\x01k\x00"), "overlong"),
    "seqno of 2^64": (crafted(b"\x01" + b"\x80" * 9 + b"\x02\x01k\x00"), "overlong"),
    "number without end": (crafted(b"\x01\xff\xff\xff"), "overlong or cut short"),
    "endless number": (crafted(b"\x01" + b"\x81" * 40), "overlong"),
    "key behind the entries": (crafted(b"\x01\x01\x09k\x00"), "runs past the entries"),
    "value behind the entries": (crafted(b"\x01\x01\x01k\x01"), "runs past the entries"),
    "value of 4 GiB": (crafted(b"\x01\x01\x01k\xff\xff\xff\xff\x0f"), "runs past the entries"),
    "key over the limit": (crafted(b"\x01\x01\x80\x80\x04" + bytes(3)), "over the limit"),
    "shares more than the head has": (crafted(b"\x01\x01\x01k\x00\x01\x01\x02\x00\x00", count=2), "restart head"),
    "unknown kind": (crafted(b"\x02\x01\x01k\x00"), "kind"),
    "fewer entries than counted": (crafted(b"\x01\x01\x01k\x00", count=2), "runs past the entries"),
    "more entries than counted": (crafted(b"\x01\x01\x01k\x00\x01\x01\x00\x01l\x00"), "do not fill it"),
    "restart in the middle of an entry": (
        crafted(b"\x01\x01\x01k\x00\x01\x01\x01l\x00", count=2, interval=1, offsets=(8, 12)),
        "not where its offset says",
    ),
    "first restart elsewhere": (crafted(b"\x01\x01\x01k\x00", offsets=(9,)), "not where its offset says"),
    "too few restarts": (crafted(b"\x01\x01\x01k\x00\x01\x01\x01l\x00", count=2, interval=1), "trailer"),
    "bucket of no restart": (crafted(b"\x01\x01\x01k\x00", index=b"\x01\x01"), "hash index"),
    "other count": (crafted(b"\x01\x01\x01k\x00")[:-16] + struct.pack("<IIII", 2, 1, 13, 0), "trailer"),
    "entries that end before they begin": (crafted(b"\x01\x01\x01k\x00")[:-16] + struct.pack("<IIII", 1, 1, 3, 0), "trailer"),
    "no interval": (crafted(b"\x01\x01\x01k\x00", interval=1).replace(b"\x02\x01\x00\x00", b"\x02\x00\x00\x00", 1), "unknown data block layout"),
    "short": (crafted(b"")[:20], "shorter"),
}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(kernels: Any, name: str) -> None:
    raw, said = WRONG[name]
    with pytest.raises(ValueError, match=said):
        kernels.decode_block(raw)


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_wrong_offset_leads_a_search_nowhere_outside_the_entries(kernels: Any) -> None:
    raw = crafted(b"\x01\x01\x01k\x00\x01\x01\x01m\x00", count=2, interval=1, offsets=(8, 13))
    assert kernels.rows_find(raw, b"m", 1) == (1, 1, b"")
    for offset in (0, 7, 18, 19, 40, 65_535):
        with pytest.raises(ValueError, match="runs past the entries"):
            kernels.rows_find(crafted(b"\x01\x01\x01k\x00\x01\x01\x01m\x00", count=2, interval=1, offsets=(8, offset)), b"m", 1)


@pytest.mark.parametrize("kernels", KERNELS)
def test_settings_out_of_range_are_refused(kernels: Any) -> None:
    block = block_of(kernels, [(b"k", 1, 1, b"v")])
    for interval, ratio in ((0, 0.5), (256, 0.5), (16, -0.1), (16, 8.1)):
        with pytest.raises(ValueError, match="restart intervals are from 1 to 255"):
            kernels.encode_rows(block, interval, ratio)
    with pytest.raises(ValueError, match="at least one"):
        kernels.encode_rows(kernels.Block([], [], [], []))
