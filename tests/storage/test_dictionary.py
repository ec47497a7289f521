"""Dictionaries: what is one, who shares it, and what is compressed with it comes back, or says why not."""

from __future__ import annotations

import gc
import random
import threading

import pytest

from lsmsql.engine.storage.block_frame import FrameType, frame_payload, open_frame, open_payload, seal_frame
from lsmsql.engine.storage.compression import Codec, compress, decompress
from lsmsql.engine.storage.dictionary import DICTIONARY_BYTES_MAX, Dictionary, shared_dictionary
from lsmsql.engine.storage.encryption import FileCipher
from lsmsql.engine.storage.parity import ParityScheme
from lsmsql.errors import CorruptionError, UsageError

from .dictionary_world import json_dictionary, json_row

LEARNED = json_dictionary()
OTHER = json_dictionary(seed=2)
RAW = b"".join(json_row(random.Random(n)) for n in range(10, 30))
DATA = FrameType.DATA


@pytest.mark.parametrize("level", [1, 3, 7, 19])
@pytest.mark.parametrize("size", [1, 100, 1000, 9000, 100_000])
def test_what_a_dictionary_compresses_comes_back(level: int, size: int) -> None:
    raw = (RAW * 50)[:size]
    codec, payload = compress(raw, Codec.ZSTD_DICTIONARY, level, LEARNED)
    assert codec == (Codec.ZSTD_DICTIONARY if len(payload) < size else Codec.NONE)
    assert decompress(payload, codec, size, LEARNED) == raw
    if size >= 1000:
        assert len(payload) < len(compress(raw[:1000], Codec.ZSTD, level)[1]) + size - 1000
        with pytest.raises(ValueError, match="dictionary that the file does not have"):
            decompress(payload, codec, size)


def test_what_does_not_shrink_is_stored_as_it_is() -> None:
    raw = random.Random(1).randbytes(500)
    assert compress(raw, Codec.ZSTD_DICTIONARY, 1, LEARNED) == (Codec.NONE, raw)
    header = seal_frame(DATA, raw, codec=Codec.ZSTD_DICTIONARY, dictionary=LEARNED)[:12]
    assert header[4] == Codec.NONE and header[8:12] == bytes(4)


def test_codec_and_dictionary_come_together() -> None:
    for codec, dictionary in ((Codec.ZSTD, LEARNED), (Codec.ZSTD_DICTIONARY, None)):
        with pytest.raises(UsageError, match="dictionary"):
            compress(RAW, codec, 1, dictionary)


@pytest.mark.parametrize("content", [b"", b"no dictionary", bytes(DICTIONARY_BYTES_MAX + 1), b"\x37\xa4\x30\xec" + bytes(100), LEARNED.content[:99]])
def test_what_is_no_dictionary_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="dictionary"):
        Dictionary(content)


def test_a_changed_dictionary_is_refused_or_another_one() -> None:
    content = LEARNED.content
    source = random.Random(3)
    for offset in range(len(content)):
        try:
            other = Dictionary(content[:offset] + bytes((content[offset] ^ source.randrange(1, 256),)) + content[offset + 1 :])
        except ValueError:
            continue
        assert other.id != LEARNED.id


def test_one_content_is_held_once_and_freed_with_its_last_user() -> None:
    content = json_dictionary(seed=4).content
    first = shared_dictionary(content)
    assert shared_dictionary(bytes(bytearray(content))) is first
    assert shared_dictionary(OTHER.content) is not first
    kept = id(first.content)
    del first
    gc.collect()
    assert id(shared_dictionary(bytes(bytearray(content))).content) != kept or shared_dictionary(content).native is None


@pytest.mark.parametrize("parity", [None, ParityScheme("rs", 4, 2)])
@pytest.mark.parametrize("cipher", [None, FileCipher(b"k" * 32, b"d" * 16, 7, 3)])
def test_a_frame_names_the_dictionary_that_it_needs(parity: ParityScheme | None, cipher: FileCipher | None) -> None:
    frame = seal_frame(DATA, RAW, codec=Codec.ZSTD_DICTIONARY, cipher=cipher, dictionary=LEARNED, parity=parity)
    assert frame[4] == 2 and int.from_bytes(frame[8:12], "little") == LEARNED.id
    assert open_frame("f", 0, frame, DATA, cipher, parity=parity, dictionary=LEARNED) == RAW
    for known in (None, OTHER):
        with pytest.raises(CorruptionError, match=f"needs dictionary {LEARNED.id:#010x}"):
            open_frame("f", 0, frame, DATA, cipher, parity=parity, dictionary=known)


def test_what_needs_no_dictionary_names_none() -> None:
    for codec in (Codec.NONE, Codec.ZSTD):
        frame = seal_frame(DATA, RAW, codec=codec)
        assert open_frame("f", 0, frame, DATA, dictionary=LEARNED) == RAW
        with_id = frame_payload(DATA, RAW, len(RAW), Codec.NONE, dictionary=LEARNED.id)
        assert with_id[8:12] == bytes(4)


def test_the_dictionary_is_part_of_what_the_cipher_authenticates() -> None:
    cipher = FileCipher(b"k" * 32, b"d" * 16, 7, 3)
    _, payload = compress(RAW, Codec.ZSTD_DICTIONARY, 1, LEARNED)
    frame = frame_payload(DATA, payload, len(RAW), Codec.ZSTD_DICTIONARY, cipher, 0, LEARNED.id)
    other = frame_payload(DATA, payload, len(RAW), Codec.ZSTD_DICTIONARY, cipher, 0, OTHER.id)
    assert open_payload("f", 0, frame, DATA, cipher, dictionary=LEARNED.id)[2] == payload
    sealed = cipher.seal(DATA, 0, Codec.ZSTD_DICTIONARY, OTHER.id, payload)
    with pytest.raises(ValueError, match="authentication"):
        cipher.open(DATA, 0, Codec.ZSTD_DICTIONARY, LEARNED.id, sealed)
    assert open_payload("f", 0, other, DATA, cipher, dictionary=OTHER.id)[2] == payload


def test_another_dictionary_with_the_same_id_is_damage_and_no_crash() -> None:
    _, payload = compress(RAW, Codec.ZSTD_DICTIONARY, 1, LEARNED)
    try:
        assert decompress(payload, Codec.ZSTD_DICTIONARY, len(RAW), OTHER) != RAW
    except ValueError as error:
        assert str(error)


def test_threads_share_a_dictionary() -> None:
    wrong: list[object] = []

    def work(seed: int) -> None:
        source = random.Random(seed)
        for _ in range(50):
            raw = b"".join(json_row(source) for _ in range(20))
            codec, payload = compress(raw, Codec.ZSTD_DICTIONARY, source.choice((1, 3)), LEARNED)
            if decompress(payload, codec, len(raw), LEARNED) != raw:
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
