"""BuRR filters: both twins build the same bytes, no key is ever denied, and no bytes make a filter that harms."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import xxhash

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.kinds import FilterKind
from lsmsql.engine.kernel.plain.burr import STASH_KEYS, build_burr
from lsmsql.engine.kernel.plain.filters import fingerprint_bits
from lsmsql.errors import UsageError

from .stream_world import KERNELS, compiled, needs_compiled

WORD = (1 << 64) - 1


def packed(hashes: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(hashes)}Q", *hashes)


def burr(kernels: Any, hashes: Sequence[int], filter_bits: int = 10) -> bytes:
    made: bytes = kernels.build_filter(hashes, filter_bits, FilterKind.BURR)
    return made


def some_hashes(count: int, seed: int = 0) -> list[int]:
    rng = random.Random(f"{seed} {count}")
    return [rng.getrandbits(64) for _ in range(count)]


_INVERSES = [pow(factor, -1, 1 << 64) for factor in (0x94D049BB133111EB, 0xBF58476D1CE4E5B9)]


def unmixed(x: int) -> int:
    """The hash that the first layer sees as x."""
    x ^= x >> 31 ^ x >> 62
    x = x * _INVERSES[0] & WORD
    x ^= x >> 27 ^ x >> 54
    x = x * _INVERSES[1] & WORD
    x ^= x >> 30 ^ x >> 60
    return x - 0x9E3779B97F4A7C15 & WORD


HOSTILE = {
    "counted": range(3000),
    "one bit each": [1 << n for n in range(64)],
    "all equal": [7] * 3000,
    "each twice": some_hashes(500) * 2,
    "multiples": [n << 40 for n in range(3000)],
    "ends": [0, WORD, *range(WORD - 40, WORD), *range(40)],
    "one start": [unmixed(5 << 40 | n) for n in range(3000)],
    "one start, falling": [unmixed(5 << 40 | n) for n in range(3000, 0, -1)],
    "the last start": [unmixed(0xFFFFFFFF << 32 | n * 0x3779B97F & 0xFFFFFFFF) for n in range(3000)],
    "two starts": [unmixed((n & 1) << 63 | n << 20) for n in range(3000)],
}


@needs_compiled
@pytest.mark.parametrize("part", range(4))
def test_both_twins_build_the_same_bytes_for_every_small_number_of_keys(part: int) -> None:
    for count in range(part, 301, 4):
        hashes = some_hashes(count)
        bits = (1, 3, 10, 64)[(count // 4) % 4]
        made = burr(compiled(), hashes, bits)
        assert made == burr(plain, hashes, bits), (count, bits)
        assert made == burr(compiled(), sorted(hashes), bits), "the order of the keys does not matter"
        assert compiled().count_maybe(made, packed(hashes)) == count


@pytest.mark.parametrize("kernels", KERNELS)
def test_the_format_stays_what_it_was(kernels: ModuleType) -> None:
    hashes = [xxhash.xxh3_64_intdigest(b"key %d" % n) for n in range(5000)]
    one = "0100000007020000b83e801932c40fba"
    small = "000000000202010002000000daf240a42101d003304900847c4000240000000000000000000000000000000000"
    assert burr(kernels, hashes[:1]).hex() == one
    assert burr(kernels, hashes[:40], 2).hex() == small
    assert xxhash.xxh3_128_hexdigest(burr(kernels, hashes)) == "12cae0e85dfdbfdfcc5f468902d9c52b", "two layers"


@pytest.mark.parametrize("kernels", KERNELS)
def test_no_key_is_denied(kernels: ModuleType) -> None:
    for count in [*range(301), 1000, 4000]:
        hashes = some_hashes(count, 1)
        made = burr(kernels, hashes)
        assert kernels.count_maybe(made, packed(hashes)) == count, count
        assert (made == b"") == (count == 0)


@needs_compiled
@pytest.mark.parametrize("count", [6400, 20_000, 300_000])
def test_no_key_is_denied_by_a_large_filter(count: int) -> None:
    hashes = some_hashes(count, 2)
    made = burr(compiled(), hashes)
    assert compiled().count_maybe(made, packed(hashes)) == count
    assert plain.count_maybe(made, packed(hashes[:300])) == 300
    if count <= 20_000:
        assert made == burr(plain, hashes)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_hashes_are_never_denied(name: str) -> None:
    hashes = list(HOSTILE[name])
    made = burr(plain, hashes)
    assert plain.count_maybe(made, packed(hashes)) == len(hashes)
    for kernels in [param.values[0] for param in KERNELS]:
        assert burr(kernels, hashes) == made
        assert kernels.count_maybe(made, packed(hashes)) == len(hashes)
        assert kernels.count_maybe(made, packed(some_hashes(2000))) < 60, "others are"


@needs_compiled
def test_many_keys_of_one_start_do_not_take_long() -> None:
    """Sorting by insertion alone would take hours."""
    hashes = [unmixed(5 << 40 | n) for n in range(200_000, 0, -1)]
    made = burr(compiled(), hashes)
    assert compiled().count_maybe(made, packed(hashes)) == len(hashes)


@pytest.mark.parametrize("kernels", KERNELS)
def test_what_was_never_added_is_seldom_found(kernels: ModuleType) -> None:
    keys, asked = (2000, 4000) if kernels is plain else (50_000, 400_000)
    strangers = packed(some_hashes(asked, 4))
    for filter_bits in (3, 10, 14):
        made = burr(kernels, some_hashes(keys, 3), filter_bits)
        expected = asked / 2 ** fingerprint_bits(filter_bits)
        found = kernels.count_maybe(made, strangers)
        assert abs(found - expected) < 5 * expected**0.5 + 1, (filter_bits, found / asked)


@needs_compiled
def test_it_never_errs_more_often_than_the_bloom_filter_it_stands_for_and_takes_less_room() -> None:
    hashes, strangers = some_hashes(50_000, 5), packed(some_hashes(400_000, 6))
    for bits in range(1, 17):
        bloom = compiled().build_filter(hashes, bits)
        made = burr(compiled(), hashes, bits)
        allowed = compiled().count_maybe(bloom, strangers)
        assert compiled().count_maybe(made, strangers) < allowed + 3 * allowed**0.5 + 1, bits
        assert len(made) * 8 / len(hashes) < 1.03 * fingerprint_bits(bits) + 0.1, bits
    assert [fingerprint_bits(bits) for bits in (1, 2, 3, 9, 10, 14, 23, 24, 64)] == [1, 2, 3, 7, 7, 10, 16, 16, 16]


def test_a_bit_rate_within_two_percent_of_the_bound() -> None:
    kernels = KERNELS[-1].values[0]
    count = 4000 if kernels is plain else 200_000
    assert len(burr(kernels, some_hashes(count, 7))) * 8 / count < (7.3 if kernels is plain else 7.12)


def test_impossible_requests_are_refused() -> None:
    for bits in (0, 17, -1):
        with pytest.raises(ValueError, match="1 to 16 bits"):
            build_burr([1], bits)

    class Endless(list[int]):
        def __len__(self) -> int:
            return (1 << 31) + 1

    with pytest.raises(UsageError, match="at most 2147483648"):
        build_burr(Endless(), 7)
    for kernels in [param.values[0] for param in KERNELS]:
        assert kernels.build_filter([1, 2], 0, FilterKind.BURR) == b""
        assert kernels.build_filter([1, 2], 10, FilterKind.NONE) == b""
        with pytest.raises(ValueError):
            kernels.build_filter([1, 2], 10, 3)
        with pytest.raises(ValueError):
            kernels.count_maybe(b"", b"1234567")


# --- damage


def outcome(kernels: Any, data: bytes, hashes: bytes) -> Any:
    """How many of the hashes a filter lets through, or why it is refused."""
    try:
        return kernels.count_maybe(data, hashes)
    except ValueError as error:
        return str(error)


def judged_alike(data: bytes, hashes: bytes) -> Any:
    found = [outcome(param.values[0], data, hashes) for param in KERNELS]
    assert found == found[:1] * len(found), data[:64].hex()
    return found[0]


EDGES = packed([unmixed(x) for x in (0, 1, WORD, WORD ^ 1, 0xFFFFFFFF << 32, 1 << 63)])


@pytest.mark.parametrize("count", [1, 5, 40, 220])
def test_every_damaged_byte_is_refused_or_harmless(count: int) -> None:
    hashes = some_hashes(count, 8)
    made = burr(plain, hashes, 3)
    asked = packed(hashes[:20]) + EDGES
    refused = set()
    for position in range(len(made)):
        for change in range(1, 256) if position < 12 else (1, 0x80, 0xFF):
            found = judged_alike(made[:position] + bytes([made[position] ^ change]) + made[position + 1 :], asked)
            refused |= {found} if isinstance(found, str) else set()
    assert {"BuRR filter of a wrong length", "BuRR filter with impossible fingerprint bits or layers"} <= refused
    for length in range(1, len(made)):
        assert isinstance(judged_alike(made[:length], asked), str), f"cut to {length} bytes"
    assert isinstance(judged_alike(made + b"\0", asked), str)


def test_random_bytes_are_refused_or_harmless() -> None:
    """Headers that promise anything, with a length that fits or nearly does."""
    rng = random.Random(9)
    opened = 0
    for _ in range(3000):
        bits, layers, stashed = rng.choice((0, 1, 7, 16, 17, 255)), rng.choice((0, 1, 2, 8, 9, 255)), rng.choice((0, 1, 3, 1 << 31, WORD >> 32))
        blocks = [rng.choice((0, 1, 2, 3, 5, 5, 1 << 26, WORD >> 32)) for _ in range(layers)]
        header = struct.pack(f"<IBBBB{layers}I", stashed, bits, 2, layers, 0, *blocks)
        size = 8 * bits * sum(blocks) + 8 * stashed + sum(count // 2 for count in blocks) + rng.choice((0, 0, 0, -1, 1))
        body = bytes(min(max(size, 0), 5000)) if rng.random() < 0.3 else rng.randbytes(min(max(size, 0), 5000))
        opened += isinstance(judged_alike(header + body, EDGES), int)
        judged_alike(rng.randbytes(5) + b"\2" + rng.randbytes(rng.randrange(60)), EDGES)
    assert opened > 20, "some pass, and were asked"


def test_a_layer_is_read_to_its_end_and_not_beyond() -> None:
    """The last start of the last layer reads the last word; what no layer has goes to the stash."""
    made = bytearray(burr(plain, some_hashes(300, 10), 1))
    blocks = struct.unpack_from("<I", made, 8)[0]
    assert made[6] == 1
    hashes = packed([unmixed(0xFFFFFFFF << 32 | n) for n in range(500)])
    some = judged_alike(bytes(made), hashes)
    assert 0 < some < 500
    made[-(blocks // 2) :] = b"\x80" * (blocks // 2)
    assert judged_alike(bytes(made), hashes) == 0, "every bucket bumps everything"


def test_a_stash_is_searched_and_has_to_be_in_order() -> None:
    hashes = some_hashes(STASH_KEYS, 11)
    made = burr(plain, hashes)
    assert made[6] == 0, "few keys need no layer"
    assert judged_alike(made, packed(hashes)) == STASH_KEYS
    assert judged_alike(made, packed(some_hashes(1000))) == 0
    big = struct.pack("<IBBBB", 1000, 7, 2, 0, 0)
    stash = sorted(some_hashes(1000, 12))
    asked = packed([unmixed(x) for x in stash])
    assert judged_alike(big + packed(stash), asked) == 1000
    assert judged_alike(big + packed(stash[::-1]), asked) == "BuRR filter with a stash out of order"
    assert judged_alike(struct.pack("<IBBBB", 0, 7, 2, 0, 0), asked) == "BuRR filter with impossible fingerprint bits or layers"
