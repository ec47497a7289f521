"""Checksums in the stored order; compression that never trusts a length."""

from __future__ import annotations

import random
import threading

import pytest
import xxhash
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lsmsql.engine.storage.checksum import checksum32, checksum64, checksum128
from lsmsql.engine.storage.compression import CODECS, Codec, compress, decompress
from lsmsql.errors import UsageError
from lsmsql.options import COMPRESSIONS

TEXT = b"the quick brown fox jumps over the lazy dog; " * 40


def test_known_checksums() -> None:
    assert checksum64(b"") == 0x2D06800538D394C2  # XXH3-64 of nothing, from its specification.
    assert checksum32(b"") == 0x38D394C2
    assert checksum128(b"") == bytes.fromhex("7f498d4624c30160d8984701d306aa99")  # Its specification prints 99aa..7f, high half first.


@given(st.binary())
def test_the_stored_order_is_little_endian(data: bytes) -> None:
    assert checksum128(data) == xxhash.xxh3_128_intdigest(data).to_bytes(16, "little")
    assert checksum128(memoryview(data)) == checksum128(bytearray(data)) == checksum128(data)


def test_every_compression_option_has_a_codec() -> None:
    assert set(CODECS) == set(COMPRESSIONS)


@given(st.binary(max_size=2000) | st.binary(max_size=20).map(lambda piece: piece * 100), st.sampled_from([Codec.NONE, Codec.ZSTD]), st.integers(1, 5))
def test_round_trip(raw: bytes, codec: Codec, level: int) -> None:
    used, payload = compress(memoryview(raw), codec, level)
    assert len(payload) < len(raw) if used == Codec.ZSTD else bytes(payload) == raw
    assert decompress(payload, used, len(raw)) == raw


def test_the_frame_declares_its_size_and_carries_no_second_checksum() -> None:
    used, payload = compress(TEXT, Codec.ZSTD)
    parameters = zstandard.get_frame_parameters(payload)
    assert (used, parameters.content_size, parameters.has_checksum, parameters.dict_id) == (Codec.ZSTD, len(TEXT), False, 0)


def test_levels_differ_and_are_bounded() -> None:
    words = random.Random(1).choices([b"alpha", b"beta", b"gamma", b"delta"], k=4000)
    assert len(compress(b"".join(words), Codec.ZSTD, 19)[1]) < len(compress(b"".join(words), Codec.ZSTD, 1)[1])
    for level in (0, -1, 23):
        with pytest.raises(UsageError):
            compress(TEXT, Codec.ZSTD, level)
    with pytest.raises(UsageError):
        compress(TEXT, 7)


@pytest.mark.parametrize("codec", [Codec.NONE, Codec.ZSTD])
@pytest.mark.parametrize("wrong", [0, 1, len(TEXT) - 1, len(TEXT) + 1, 1 << 30, (1 << 32) - 1])
def test_a_wrong_length_is_found_before_anything_is_allocated(codec: Codec, wrong: int) -> None:
    used, payload = compress(TEXT, codec)
    assert used == codec
    with pytest.raises(ValueError):
        decompress(payload, used, wrong)


def test_damage_is_a_value_error() -> None:
    _, payload = compress(TEXT, Codec.ZSTD)
    assert decompress(payload, Codec.ZSTD, len(TEXT)) == TEXT
    for cut in range(len(payload)):
        with pytest.raises(ValueError):
            decompress(payload[:cut], Codec.ZSTD, len(TEXT))
    with pytest.raises(ValueError):
        decompress(payload + b"\0", Codec.ZSTD, len(TEXT))
    for at in range(len(payload)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(payload)
            damaged[at] ^= flip
            try:
                assert len(decompress(damaged, Codec.ZSTD, len(TEXT))) == len(TEXT)  # The frame's checksum finds those.
            except ValueError:
                pass
    with pytest.raises(ValueError, match="unknown codec"):
        decompress(b"", 9, 0)


def test_a_frame_that_promises_too_much_is_refused_before_decoding() -> None:
    bomb = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(1 << 20))
    with pytest.raises(ValueError, match="declare"):
        decompress(bomb, Codec.ZSTD, 1000)
    with pytest.raises(ValueError, match="cannot decode"):
        decompress(b"\x28\xb5\x2f\xfd", Codec.ZSTD, 1_000_000_000)


def test_threads_have_contexts_of_their_own() -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(100):
                raw = (b"%d-%d " % (number, i)) * 500
                used, payload = compress(raw, Codec.ZSTD, 1 + number)
                assert decompress(payload, used, len(raw)) == raw
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
