"""Block frames: every byte counts, every check has its own message, and nothing but CorruptionError comes out."""

from __future__ import annotations

import struct

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from lsmsql.engine.storage.block_frame import (
    DATA_RAW_BYTES_MAX,
    HEADER_BYTES,
    RAW_BYTES_MAX,
    FrameType,
    frame_payload,
    open_frame,
    open_payload,
    read_header,
    seal_frame,
    seal_many,
)
from lsmsql.engine.storage.compression import Codec, compress
from lsmsql.engine.storage.encryption import OVERHEAD, FileCipher
from lsmsql.engine.storage.parity import ParityScheme, Repairs, add_parity
from lsmsql.errors import CorruptionError, UsageError

RAW = b"key and value, " * 30
DATA = FrameType.DATA


def cipher_of(file_id: int = 7, key: bytes = b"k" * 32, epoch: int = 3) -> FileCipher:
    return FileCipher(key, b"d" * 16, file_id, epoch)


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def cipher(request: pytest.FixtureRequest) -> FileCipher | None:
    return cipher_of() if request.param else None


def forged(payload: bytes = b"raw", cipher: FileCipher | None = None, **fields: int) -> bytes:
    """A frame whose checks all agree, whatever it says."""
    names = ("magic", "type", "flags", "codec", "parity", "epoch", "dictionary", "stored", "raw")
    values = {"magic": 0x4D53, "type": 1, "stored": len(payload), "raw": len(payload)} | fields
    header = struct.pack("<HBBBBHIII16s", *(values.get(name, 0) for name in names), xxhash.xxh3_128_digest(payload)[::-1])
    return header + struct.pack("<I", xxhash.xxh3_64_intdigest(header) & 0xFFFFFFFF) + payload


def test_the_frame_is_the_documented_one() -> None:
    assert seal_frame(DATA, b"raw") == forged(b"raw")
    assert seal_frame(FrameType.FOOTER, b"") == forged(b"", type=7)
    assert [(kind.name, kind.value) for kind in FrameType] == [
        ("DATA", 1),
        ("INDEX", 2),
        ("FILTER", 3),
        ("PROPERTIES", 4),
        ("MANIFEST", 5),
        ("KEYS", 6),
        ("FOOTER", 7),
        ("RANGE_TOMBSTONES", 8),
        ("BLOB_FILES", 9),
        ("DICTIONARY", 10),
        ("INDEX_PARTITION", 11),
        ("FILTER_PARTITION", 12),
        ("SLOT_MAP", 13),
    ]


@given(
    st.binary(max_size=2000) | st.binary(max_size=10).map(lambda piece: piece * 200),
    st.sampled_from(FrameType),
    st.sampled_from([Codec.NONE, Codec.ZSTD]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_round_trip(raw: bytes, type: FrameType, codec: Codec, encrypted: bool, ordinal: int) -> None:
    cipher = cipher_of() if encrypted else None
    frame = seal_frame(type, memoryview(raw), codec=codec, cipher=cipher, ordinal=ordinal)
    assert open_frame("f", 0, frame, type, cipher, ordinal) == raw
    assert open_frame("f", 0, memoryview(frame), type, cipher, ordinal) == raw
    header = read_header("f", 0, frame, type)
    assert header.frame_length == len(frame) and header.raw_length == len(raw)
    assert (header.epoch, header.flags) == ((3, 1) if encrypted else (0, 0))
    used, payload = compress(raw, codec)
    assert header.codec == used
    got = open_payload("f", 0, frame, type, cipher, ordinal)
    assert (got[0], got[1], bytes(got[2])) == (used, len(raw), bytes(payload))
    assert len(frame) == HEADER_BYTES + len(payload) + (OVERHEAD if encrypted else 0)


def test_an_incompressible_block_is_stored_as_it_is() -> None:
    frame = seal_frame(DATA, bytes(range(256)), codec=Codec.ZSTD)
    assert read_header("f", 0, frame, DATA).codec == Codec.NONE and len(frame) == HEADER_BYTES + 256
    assert read_header("f", 0, seal_frame(DATA, RAW, codec=Codec.ZSTD), DATA).codec == Codec.ZSTD


def test_many_frames_are_numbered_one_after_another(cipher: FileCipher | None) -> None:
    raws = [b"a" * 500, b"", bytes(range(200))]
    payloads = []
    for raw in raws:
        codec, payload = compress(raw, Codec.ZSTD)
        payloads.append((memoryview(payload), len(raw), codec))
    frames = seal_many(DATA, payloads, 5, cipher)
    assert [open_frame("f", 0, frame, DATA, cipher, 5 + i) for i, frame in enumerate(frames)] == raws
    if cipher is None:
        assert frames == [frame_payload(DATA, *payload) for payload in payloads]


@pytest.mark.parametrize("codec", [Codec.NONE, Codec.ZSTD])
@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_corruption(cipher: FileCipher | None, codec: Codec, flip: int) -> None:
    frame = seal_frame(DATA, RAW, codec=codec, cipher=cipher, ordinal=2)
    for at in range(len(frame)):
        damaged = bytearray(frame)
        damaged[at] ^= flip
        with pytest.raises(CorruptionError) as info:
            open_frame("000007.sst", 4096, damaged, DATA, cipher, 2)
        assert (info.value.path, info.value.offset) == ("000007.sst", 4096)


def test_every_truncation_and_any_junk_is_corruption(cipher: FileCipher | None) -> None:
    frame = seal_frame(DATA, RAW, codec=Codec.ZSTD, cipher=cipher)
    for size in range(len(frame)):
        with pytest.raises(CorruptionError):
            open_frame("f", 0, frame[:size], DATA, cipher)
    for junk in (b"\0", b"\0" * 100, frame):
        with pytest.raises(CorruptionError, match="payload bytes instead of"):
            open_frame("f", 0, frame + junk, DATA, cipher)


@pytest.mark.parametrize(
    ("frame", "check"),
    [
        (b"", "cut short: 0 of 40"),
        (forged()[:39], "cut short: 39 of 40"),
        (forged(magic=0x4D54), "magic is 0x4d54 instead of 0x4d53"),
        (forged()[:36] + b"\0\0\0\0raw", "header check"),
        (forged(type=2), "type is 2 instead of 1"),
        (forged(flags=2), "flags 0x02"),
        (forged(flags=4), "flags 0x04"),
        (forged(flags=0x80), "flags 0x80"),
        (forged(parity=1), "parity scheme 1"),
        (forged(codec=2), "codec 2"),
        (forged(dictionary=5), "dictionary 5"),
        (forged(raw=DATA_RAW_BYTES_MAX + 1), "over the limit"),
        (forged(type=2, raw=RAW_BYTES_MAX + 1), "type is 2"),
        (forged(stored=4), "holds 3 payload bytes instead of 4"),
        (forged(stored=2**32 - 1), "holds 3 payload bytes"),
        (forged()[:-1] + b"x", "payload checksum"),
        (forged(raw=4), "raw length is 4, but 3"),
        (forged(raw=0), "raw length is 0, but 3"),
        (forged(codec=1), "payload zstd|declare"),
        (forged(codec=1, raw=DATA_RAW_BYTES_MAX), "cannot decode"),
        (forged(compress(RAW, Codec.ZSTD)[1], codec=1, raw=len(RAW) + 1), "declare"),  # type: ignore[arg-type]
        (forged(flags=1), "is encrypted, but the database is not"),
    ],
)
def test_each_check_has_its_message(frame: bytes, check: str) -> None:
    assert open_frame("f", 0, forged(), DATA) == b"raw"
    with pytest.raises(CorruptionError, match=check):
        open_frame("f", 0, frame, DATA)


@pytest.mark.parametrize("fields", [{"codec": 2}, {"codec": 255}, {"flags": 8}, {"dictionary": 1}])
def test_what_is_unknown_does_not_get_past_the_header(fields: dict[str, int]) -> None:
    for call in (open_payload, read_header):
        with pytest.raises(CorruptionError, match="is unknown"):
            call("f", 0, forged(**fields), DATA)


def test_only_data_blocks_may_be_huge() -> None:
    with pytest.raises(CorruptionError, match="over the limit"):
        open_frame("f", 0, forged(type=2, raw=RAW_BYTES_MAX + 1), FrameType.INDEX)
    with pytest.raises(UsageError):
        frame_payload(FrameType.INDEX, b"", RAW_BYTES_MAX + 1, Codec.ZSTD)
    with pytest.raises(UsageError):
        frame_payload(DATA, b"", DATA_RAW_BYTES_MAX + 1, Codec.ZSTD)


def test_whether_a_frame_is_encrypted_is_not_the_frames_to_say() -> None:
    plain, sealed = seal_frame(DATA, RAW), seal_frame(DATA, RAW, cipher=cipher_of())
    with pytest.raises(CorruptionError, match="is not encrypted, but the database is"):
        open_frame("f", 0, plain, DATA, cipher_of())
    with pytest.raises(CorruptionError, match="is encrypted, but the database is not"):
        open_frame("f", 0, sealed, DATA)
    assert b"value" in plain and b"value" not in sealed


def test_a_sealed_frame_opens_only_in_its_place() -> None:
    frame = seal_frame(DATA, RAW, codec=Codec.ZSTD, cipher=cipher_of(), ordinal=4)
    assert open_frame("f", 0, frame, DATA, cipher_of(), 4) == RAW
    for cipher, ordinal in [(cipher_of(), 5), (cipher_of(file_id=8), 4), (cipher_of(key=b"x" * 32), 4)]:
        with pytest.raises(CorruptionError, match="authentication tag"):
            open_frame("f", 0, frame, DATA, cipher, ordinal)
    with pytest.raises(CorruptionError, match="key epoch 3 is not in KEYS"):
        open_frame("f", 0, frame, DATA, cipher_of(epoch=4), 4)


def test_a_forged_header_does_not_authenticate() -> None:
    payload = seal_frame(DATA, RAW, cipher=cipher_of())[HEADER_BYTES:]
    right = {"flags": 1, "epoch": 3, "raw": len(RAW)}
    assert open_frame("f", 0, forged(payload, **right), DATA, cipher_of()) == RAW
    with pytest.raises(CorruptionError, match="authentication tag"):
        open_frame("f", 0, forged(payload, **right | {"codec": 1}), DATA, cipher_of())
    with pytest.raises(CorruptionError, match="authentication tag"):
        open_frame("f", 0, forged(payload, **right | {"type": 2}), FrameType.INDEX, cipher_of())
    for short in (b"", b"x" * (OVERHEAD - 1)):
        with pytest.raises(CorruptionError, match="cannot be a sealed piece"):
            open_frame("f", 0, forged(short, **right), DATA, cipher_of())


@given(st.binary(max_size=200))
def test_no_bytes_open(data: bytes) -> None:
    with pytest.raises(CorruptionError):
        open_frame("f", 0, data, DATA)


# --- parity

RS42 = ParityScheme.parse("rs(4,2)")
SCHEMES = [ParityScheme.parse(text) for text in ("xor(4)", "rs(4,2)", "rs(10,3)", "rs(1,2)")]
PARITIES = pytest.mark.parametrize("scheme", SCHEMES, ids=str)
CODECS = pytest.mark.parametrize("codec", [Codec.NONE, Codec.ZSTD])


@PARITIES
@CODECS
def test_parity_stands_behind_a_frame_that_says_so(cipher: FileCipher | None, scheme: ParityScheme, codec: Codec) -> None:
    stored = seal_frame(DATA, RAW, codec=codec, cipher=cipher, ordinal=4, parity=scheme)
    length = scheme.frame_length(len(stored))
    frame = stored[:length]
    assert stored == add_parity(scheme, frame)
    assert frame[3] == (3 if cipher else 2) and frame[5] == scheme.byte
    if cipher is None:
        bare = seal_frame(DATA, RAW, codec=codec)
        assert (frame[:3], frame[4:5], frame[6:36], frame[40:]) == (bare[:3], bare[4:5], bare[6:36], bare[40:])
        assert seal_frame(DATA, RAW, codec=codec, parity=ParityScheme()) == bare
    repairs = Repairs()
    assert open_frame("f", 0, stored, DATA, cipher, 4, scheme, repairs) == RAW
    assert open_frame("f", 0, memoryview(stored), DATA, cipher, 4, scheme) == RAW
    assert repairs.count == 0


@PARITIES
def test_many_frames_have_their_parity_each(cipher: FileCipher | None, scheme: ParityScheme) -> None:
    payloads = [(raw, len(raw), 0) for raw in (b"a" * 500, b"", bytes(range(200)))]
    stored = seal_many(DATA, payloads, 5, cipher, 0, scheme)
    assert [open_frame("f", 0, each, DATA, cipher, 5 + n, scheme) for n, each in enumerate(stored)] == [payload[0] for payload in payloads]
    if cipher is None:
        assert stored == [frame_payload(DATA, *payload, parity=scheme) for payload in payloads]


@PARITIES
@CODECS
def test_every_flipped_byte_is_repaired_or_in_the_parity(cipher: FileCipher | None, scheme: ParityScheme, codec: Codec) -> None:
    stored = seal_frame(DATA, RAW, codec=codec, cipher=cipher, ordinal=2, parity=scheme)
    length = scheme.frame_length(len(stored))
    repairs = Repairs()
    for at in range(len(stored)):
        damaged = bytearray(stored)
        damaged[at] ^= 0x81
        before = repairs.count
        assert open_frame("f", at, damaged, DATA, cipher, 2, scheme, repairs) == RAW
        assert repairs.count - before == (at < length)
        assert at >= length or ("f", at) in repairs.places


@CODECS
def test_a_lost_header_is_repaired(cipher: FileCipher | None, codec: Codec) -> None:
    raw = bytes(range(256)) * 4
    stored = seal_frame(DATA, raw, codec=codec, cipher=cipher, parity=RS42)
    for junk in (bytes(HEADER_BYTES), seal_frame(FrameType.INDEX, b"x" * 9)[:HEADER_BYTES], b"\xff" * HEADER_BYTES):
        assert open_frame("f", 0, junk + stored[HEADER_BYTES:], DATA, cipher, 0, RS42) == raw


def test_damage_beyond_the_parity_is_corruption_with_its_place(cipher: FileCipher | None) -> None:
    stored = bytearray(seal_frame(DATA, RAW, cipher=cipher, parity=RS42))
    shard = RS42.shard_length(RS42.frame_length(len(stored)))
    for number in range(3):
        stored[number * shard : (number + 1) * shard - 5] = bytes(shard - 5)
    with pytest.raises(CorruptionError, match=r"000007.sst at byte 512: frame magic is 0x0000 instead of 0x4d53 \(parity rs\(4,2\) could not"):
        open_frame("000007.sst", 512, stored, DATA, cipher, 0, RS42)


def test_every_truncation_of_a_frame_with_parity_is_corruption(cipher: FileCipher | None) -> None:
    stored = seal_frame(DATA, RAW, codec=Codec.ZSTD, cipher=cipher, parity=RS42)
    for size in range(len(stored)):
        with pytest.raises(CorruptionError):
            open_frame("f", 0, stored[:size], DATA, cipher, 0, RS42)
    for junk in (b"\0", stored):
        with pytest.raises(CorruptionError):
            open_frame("f", 0, stored + junk, DATA, cipher, 0, RS42)


def test_the_scheme_comes_from_the_reader() -> None:
    """A frame whose checks agree but that was sealed with another scheme, or none, is not what should be here."""
    bare, with_parity = seal_frame(DATA, RAW), seal_frame(DATA, RAW, parity=RS42)
    with pytest.raises(CorruptionError, match="parity scheme 35"):
        open_frame("f", 0, with_parity[: RS42.frame_length(len(with_parity))], DATA)
    with pytest.raises(CorruptionError, match="could not repair"):
        open_frame("f", 0, add_parity(RS42, bare), DATA, parity=RS42)
    with pytest.raises(CorruptionError, match="could not repair"):
        open_frame("f", 0, add_parity(RS42, seal_frame(DATA, RAW, parity=ParityScheme("rs", 2, 1))[: 40 + len(RAW)]), DATA, parity=RS42)
    for call in (open_payload, read_header):
        with pytest.raises(CorruptionError, match="parity scheme 35"):
            call("f", 0, with_parity, DATA)


def test_what_a_wrong_key_or_place_finds_is_not_repaired() -> None:
    repairs = Repairs()
    stored = seal_frame(DATA, RAW, cipher=cipher_of(), ordinal=4, parity=RS42)
    for cipher, ordinal in ((cipher_of(file_id=8), 4), (cipher_of(), 5)):
        with pytest.raises(CorruptionError, match="authentication tag"):
            open_frame("f", 0, stored, DATA, cipher, ordinal, RS42, repairs)
    assert repairs.count == 0


@given(st.binary(max_size=300), st.sampled_from(SCHEMES))
def test_random_bytes_with_parity_are_corruption(data: bytes, scheme: ParityScheme) -> None:
    with pytest.raises(CorruptionError):
        open_frame("f", 0, data, DATA, None, 0, scheme)
