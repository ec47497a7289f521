"""The decoded block and its column form: both twins make the same bytes, read them alike, and refuse damaged ones alike."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmsql.engine.kernel import plain

from .twins import KERNELS, compiled, needs_compiled

ENTRIES = st.lists(
    st.tuples(
        st.binary(max_size=12) | st.integers(0, 300).map(lambda n: b"p" * n),
        st.integers(0, 5) | st.integers(0, (1 << 56) - 1) | st.just((1 << 64) - 1),
        st.sampled_from((0, 1, 1, 1)),
        st.binary(max_size=40) | st.integers(0, 70_000).map(bytes),
    ),
    min_size=1,
    max_size=40,
)
Entry = tuple[bytes, int, int, bytes]


def block_of(kernels: Any, entries: list[Entry]) -> Any:
    return kernels.Block(*(list(column) for column in zip(*entries, strict=True)))


def columns(block: Any) -> tuple[list[bytes], list[int], list[int], list[bytes]]:
    return block.keys(), block.seqnos(), block.kinds(), block.values()


def ordered(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry[0], -entry[1]))


@pytest.mark.parametrize("kernels", KERNELS)
@given(entries=ENTRIES.map(ordered))
def test_a_decoded_block_holds_what_was_encoded(kernels: Any, entries: list[Entry]) -> None:
    block = block_of(kernels, entries)
    assert list(zip(*columns(block), strict=True)) == entries
    decoded = kernels.decode_block(kernels.encode_block(block))
    assert list(zip(*columns(decoded), strict=True)) == entries
    assert len(decoded) == len(entries)
    assert decoded.items() == [(entry[0], entry[3]) for entry in entries]


@needs_compiled
@given(entries=ENTRIES.map(ordered))
def test_both_twins_encode_the_same_bytes(entries: list[Entry]) -> None:
    raw = plain.encode_block(block_of(plain, entries))
    assert compiled().encode_block(block_of(compiled(), entries)) == raw
    # A decoded block is lean where a built one is not; encoding does not care.
    assert compiled().encode_block(compiled().decode_block(raw)) == raw


@needs_compiled
@pytest.mark.parametrize("size", [255, 256, 300, 65_535])
def test_long_keys_and_shared_prefixes(size: int) -> None:
    entries = [(b"k" * (size - 1) + bytes([n]), 9 - n, 1, b"v") for n in range(3)]
    entries.insert(1, (entries[0][0], 1, 0, b""))
    raw = plain.encode_block(block_of(plain, entries))
    assert compiled().encode_block(block_of(compiled(), entries)) == raw
    assert list(zip(*columns(compiled().decode_block(raw)), strict=True)) == entries


@needs_compiled
def test_blocks_with_more_than_64_kib_of_keys_and_of_values() -> None:
    rng = random.Random(1)
    entries = ordered([(rng.randbytes(300), n, 1, rng.randbytes(500)) for n in range(400)])
    raw = plain.encode_block(block_of(plain, entries))
    assert compiled().encode_block(block_of(compiled(), entries)) == raw
    assert list(zip(*columns(compiled().decode_block(raw)), strict=True)) == entries


def outcome(kernels: Any, raw: bytes) -> Any:
    try:
        return columns(kernels.decode_block(raw))
    except ValueError as error:
        return str(error)


def hostile_variants(raw: bytes, rng: random.Random) -> list[bytes]:
    """The block with each byte changed (header bytes to many values), cut short, and lengthened."""
    variants = [raw[:n] for n in range(0, len(raw), max(1, len(raw) // 97))] + [raw + b"\0", raw + raw]
    for position in range(len(raw)):
        changes = (
            range(1, 256) if position in range(4, 8) else (1, 2, 0x80, 0xFF, rng.randrange(1, 256)) if position < 24 else (rng.randrange(1, 256),)
        )
        variants += [raw[:position] + bytes([raw[position] ^ change]) + raw[position + 1 :] for change in changes]
    return variants


SAMPLES: dict[str, list[Entry]] = {
    "one empty": [(b"", 0, 1, b"")],
    "fixed": [(b"key%04d" % n, 1000 + n * 7, 1, b"value %03d" % n) for n in range(30)],
    "versions and tombstones": [(b"k%02d" % (n // 3), 70_000 - n * 900, n % 2, b"" if n % 2 == 0 else b"x" * n) for n in range(30)],
    "wide": [(b"a" * 200 + b"b" * n, 1 << n, 1, b"y" * (n % 4)) for n in range(0, 60, 3)],
    "wide suffixes": [(b"%c" % n * 300, (1 << 63) + n, 1, b"z") for n in range(97, 103)],
    "long values": [(b"k%d" % n, 5, 1, b"v" * (n * 100)) for n in range(9)],
}


@needs_compiled
@pytest.mark.parametrize("name", SAMPLES)
def test_both_twins_judge_damaged_blocks_alike(name: str) -> None:
    entries = SAMPLES[name]
    raw = plain.encode_block(block_of(plain, entries))
    refused = 0
    for variant in hostile_variants(raw, random.Random(3)):
        found = outcome(compiled(), variant)
        assert found == outcome(plain, variant), variant.hex()
        refused += isinstance(found, str)
    assert refused > 20


@needs_compiled
def test_both_twins_judge_random_bytes_alike() -> None:
    rng = random.Random(4)
    for _ in range(3000):
        count = rng.randrange(0, 6)
        header = count.to_bytes(4, "little") + bytes((1, rng.randrange(4), rng.randrange(9), rng.randrange(5)))
        header += (
            rng.choice((bytes(8), b"\xff" * 8, rng.randbytes(8))) + rng.randrange(4).to_bytes(4, "little") + rng.randrange(20).to_bytes(4, "little")
        )
        body = bytes(rng.choice((0, 0, 1, 2, 255)) for _ in range(rng.randrange(80)))
        assert outcome(compiled(), header + body) == outcome(plain, header + body), (header + body).hex()


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_key_over_the_limit_is_refused(kernels: Any) -> None:
    raw = (2).to_bytes(4, "little") + bytes((1, 2, 0, 0)) + bytes(12)
    suffixes = 255 + 65_535
    raw += suffixes.to_bytes(4, "little") + bytes((0, 255)) + bytes((255, 255)) + bytes((0, 255)) + bytes(suffixes)
    with pytest.raises(ValueError, match="over the limit"):
        kernels.decode_block(raw)


@needs_compiled
def test_wrong_types_are_type_errors_and_leave_no_half_built_block() -> None:
    make = compiled().Block
    for arguments in ((["k"], [1], [1], [b""]), ([b"k"], [1], [1], ["v"]), ([b"k"], ["1"], [1], [b""]), ([None], [1], [1], [b""])):
        with pytest.raises(TypeError):
            make(*arguments)
    with pytest.raises(ValueError, match="differ in length"):
        make([b"k"], [], [1], [b""])
    with pytest.raises(OverflowError):
        make([b"k"], [-1], [1], [b""])
    with pytest.raises(ValueError, match="at least one"):
        compiled().encode_block(make([], [], [], []))
