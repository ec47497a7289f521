"""KEYS and the ciphers that come from it: the right key opens, a wrong one says so, damage is neither."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmsql.engine.storage import encryption
from lsmsql.engine.storage.block_frame import FrameType, open_frame, seal_frame
from lsmsql.engine.storage.encryption import NONCE_BYTES, OVERHEAD, FileCipher, new_nonce
from lsmsql.engine.storage.keyring import SECTOR_BYTES, Key, Keyring, ScryptCost
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.errors import CorruptionError, KeyUnavailableError, UsageError
from tests.proof.fault_filesystem import FaultFileSystem, crash_points, fault_points

CHEAP = ScryptCost(n=2, r=1)
RAW_KEY = bytes(range(32))
PATH = "db/KEYS"
FIXED_REST = b"d" * 16 + b"s" * 32  # Database id and salt.


def made(key: Key = RAW_KEY) -> tuple[MemoryFileSystem, Keyring]:
    fs = MemoryFileSystem(directories=["db"])
    return fs, Keyring.create(fs, "db", key, cost=CHEAP)


def with_keys(data: bytes) -> MemoryFileSystem:
    return MemoryFileSystem({PATH: data})


def opens_what(keyring: Keyring, sealed: bytes) -> bytes:
    return keyring.cipher(5).open(1, 0, 0, 0, sealed)


@pytest.mark.parametrize("key", ["correct horse", "pässwörd \N{KEY}", RAW_KEY, bytearray(RAW_KEY)])
def test_what_one_process_seals_another_opens(key: Key) -> None:
    fs, keyring = made(key)
    sealed = keyring.cipher(5).seal(1, 0, 0, 0, b"secret")
    again = Keyring.open(fs, "db", key)
    assert opens_what(again, sealed) == b"secret"
    assert (again.database_id, again.epoch, again.damaged_copies) == (keyring.database_id, 1, ())
    assert len(again.database_id) == 16


@pytest.mark.parametrize(("right", "wrong"), [("right", "wrong"), ("right", RAW_KEY), (RAW_KEY, bytes(32)), (RAW_KEY, "right"), ("right", "right ")])
def test_a_wrong_key_is_told(right: Key, wrong: Key) -> None:
    fs, _ = made(right)
    with pytest.raises(KeyUnavailableError):
        Keyring.open(fs, "db", wrong)
    Keyring.open(fs, "db", right)


def test_no_key_or_no_file_is_told() -> None:
    fs, _ = made()
    with pytest.raises(KeyUnavailableError, match="no key was given"):
        Keyring.open(fs, "db", None)
    with pytest.raises(KeyUnavailableError, match="missing"):
        Keyring.open(MemoryFileSystem(directories=["db"]), "db", RAW_KEY)


@pytest.mark.parametrize("key", ["", b"", b"short", bytes(31), bytes(33), "\ud800", 5, None])
def test_impossible_keys_are_usage_errors(key: Key) -> None:
    with pytest.raises(UsageError):
        made(key)
    if key is not None:
        fs, _ = made()
        with pytest.raises(UsageError):
            Keyring.open(fs, "db", key)


def test_keys_are_never_overwritten_by_creation() -> None:
    fs, _ = made()
    before = fs.read(PATH)
    with pytest.raises(UsageError, match="exists"):
        Keyring.create(fs, "db", RAW_KEY)
    assert fs.read(PATH) == before


def test_two_databases_of_one_key_share_nothing() -> None:
    (fs1, one), (fs2, two) = made("same"), made("same")
    assert one.database_id != two.database_id
    sealed = one.cipher(5).seal(1, 0, 0, 0, b"secret")
    with pytest.raises(ValueError):
        opens_what(two, sealed)
    assert not any(fs1.read(PATH)[i : i + 16] in fs2.read(PATH) for i in range(56, 152))  # Id, salt and wrapped key.


def test_the_database_id_can_be_given() -> None:
    fs = MemoryFileSystem(directories=["db"])
    assert Keyring.create(fs, "db", RAW_KEY, database_id=b"i" * 16).database_id == b"i" * 16
    assert Keyring.open(fs, "db", RAW_KEY).database_id == b"i" * 16
    with pytest.raises(UsageError):
        Keyring.create(MemoryFileSystem(directories=["db"]), "db", RAW_KEY, database_id=b"i")


def test_the_file_is_two_equal_sectors_without_the_key_in_them() -> None:
    fs, _ = made("a passphrase")
    data = fs.read(PATH)
    assert len(data) == 2 * SECTOR_BYTES and data[:SECTOR_BYTES] == data[SECTOR_BYTES:]
    assert b"passphrase" not in data
    raw = open_frame(PATH, 0, data[:SECTOR_BYTES], FrameType.KEYS)
    assert struct.unpack_from("<HBBIII", raw) == (1, 1, 1, 1, 1, 1)
    assert fs.list("db") == ["KEYS"]


def test_the_default_cost_is_the_documented_one() -> None:
    fs = MemoryFileSystem(directories=["db"])
    Keyring.create(fs, "db", "passphrase")
    assert struct.unpack_from("<HBBIII", fs.read(PATH), 40) == (1, 1, 15, 8, 1, 1)
    Keyring.open(fs, "db", "passphrase")


@pytest.mark.parametrize("flip", [0x01, 0xFF])
def test_every_flipped_byte_is_survived_and_told(flip: int) -> None:
    fs, keyring = made()
    sealed = keyring.cipher(5).seal(1, 0, 0, 0, b"secret")
    data = fs.read(PATH)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= flip
        opened = Keyring.open(with_keys(damaged), "db", RAW_KEY)
        assert opened.damaged_copies == (at // SECTOR_BYTES,)
        if at % 64 == 0:
            assert opens_what(opened, sealed) == b"secret"


def test_damage_in_both_copies_is_corruption() -> None:
    fs, _ = made()
    data = fs.read(PATH)
    for at in range(0, SECTOR_BYTES, 7):
        damaged = bytearray(data)
        damaged[at] ^= 0xFF
        damaged[SECTOR_BYTES + (at * 13) % SECTOR_BYTES] ^= 0xFF
        with pytest.raises(CorruptionError, match="KEYS"):
            Keyring.open(with_keys(damaged), "db", RAW_KEY)


def test_every_truncation_leaves_the_first_copy_or_is_corruption() -> None:
    fs, _ = made()
    data = fs.read(PATH)
    for size in range(len(data)):
        if size >= SECTOR_BYTES:
            assert Keyring.open(with_keys(data[:size]), "db", RAW_KEY).damaged_copies == (1,)
        else:
            with pytest.raises(CorruptionError):
                Keyring.open(with_keys(data[:size]), "db", RAW_KEY)
    assert Keyring.open(with_keys(data + b"junk"), "db", RAW_KEY).damaged_copies == ()


def test_copies_of_different_moments_are_corruption() -> None:
    one, two = made()[0].read(PATH), made()[0].read(PATH)
    with pytest.raises(CorruptionError, match="different moments"):
        Keyring.open(with_keys(one[:SECTOR_BYTES] + two[:SECTOR_BYTES]), "db", RAW_KEY)


def forged(offset: int, value: bytes, keys: bytes | None = None) -> bytes:
    """KEYS (new ones by default) with a field changed and every checksum right."""
    keys = keys or made("p")[0].read(PATH)
    raw = bytearray(open_frame(PATH, 0, keys[:SECTOR_BYTES], FrameType.KEYS))
    raw[offset : offset + len(value)] = value
    return seal_frame(FrameType.KEYS, raw) * 2


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, b"\2\0"),  # version
        (2, b"\2"),  # derivation
        (3, b"\0"),  # n = 1
        (3, b"\x16"),  # n = 2^22
        (3, b"\xff"),
        (4, b"\0\0\0\0"),  # r
        (4, b"\xff\xff\xff\xff"),
        (8, b"\0\0\0\0"),  # p
        (8, b"\x11\0\0\0"),
        (12, b"\0\0\0\0"),  # epochs
        (12, b"\2\0\0\0"),
        (12, b"\xff\xff\xff\xff"),
        (64, b"\0\0\0\0"),  # epoch 0
        (64, b"\0\0\1\0"),  # epoch 65536
        (4000, b"\1"),  # in the zeros
        (12, bytes(4) + FIXED_REST + bytes(64)),  # no epoch at all
        (12, b"\2\0\0\0" + FIXED_REST + b"\1\0\0\0".ljust(64, b"k") * 2),  # one epoch twice
    ],
)
def test_impossible_fields_are_bounded_before_use(offset: int, value: bytes) -> None:
    with pytest.raises(CorruptionError):
        Keyring.open(with_keys(forged(offset, value)), "db", "p")


@pytest.mark.parametrize("offset", [2, 16, 32, 64, 68, 80, 127])
def test_forged_fields_do_not_unwrap(offset: int) -> None:
    right = forged(3, b"\1")
    assert Keyring.open(with_keys(right), "db", "p").epoch == 1
    value = b"\0" if offset == 2 else bytes([right[40 + offset] ^ 1 or 2])
    with pytest.raises(KeyUnavailableError):
        Keyring.open(with_keys(forged(offset, value, right)), "db", "p")


@pytest.mark.parametrize("cost", [{"n": 1}, {"n": 3}, {"n": 1 << 22}, {"r": 0}, {"p": 0}, {"p": 17}, {"n": 1 << 20, "r": 8}])
def test_impossible_costs_are_usage_errors(cost: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        ScryptCost(**cost)


def test_rotation_keeps_old_files_readable_and_needs_the_new_key() -> None:
    fs, old = made("old")
    sealed = old.cipher(5).seal(1, 0, 0, 0, b"before")
    frame = seal_frame(FrameType.DATA, b"before", cipher=old.cipher(6))
    new = old.rotate(fs, "db", RAW_KEY, cost=CHEAP)
    with pytest.raises(KeyUnavailableError):
        Keyring.open(fs, "db", "old")
    for keyring in (new, Keyring.open(fs, "db", RAW_KEY)):
        assert (keyring.epoch, keyring.database_id) == (2, old.database_id)
        assert keyring.cipher(5).epoch == 2 and keyring.cipher(5, 1).open(1, 0, 0, 0, sealed) == b"before"
        with pytest.raises(ValueError):
            keyring.cipher(5).open(1, 0, 0, 0, sealed)
        cipher = keyring.cipher(5)
        assert cipher.at(1).open(1, 0, 0, 0, sealed) == b"before"
        assert cipher.at(1) is cipher.at(1) and cipher.at(2) is cipher and cipher.at(1).at(2).epoch == 2
        assert open_frame("f", 0, frame, FrameType.DATA, keyring.cipher(6)) == b"before"
        with pytest.raises(KeyUnavailableError, match="epoch 3"):
            keyring.cipher(5, 3)
    assert old.epoch == 1


def test_rotation_ends_when_the_sector_is_full() -> None:
    fs, keyring = made()
    with pytest.raises(UsageError, match="takes no more"):
        for _ in range(100):
            keyring = keyring.rotate(fs, "db", RAW_KEY)
    assert keyring.epoch == Keyring.open(fs, "db", RAW_KEY).epoch == 62


def test_a_crash_while_rotating_leaves_the_old_key_or_the_new() -> None:
    start_fs, _ = made("old")
    files = start_fs.files()

    def rotate(fs: FaultFileSystem) -> None:
        Keyring.open(fs, "db", "old").rotate(fs, "db", "new", cost=CHEAP)

    outcomes = set()
    for fs in crash_points(lambda: FaultFileSystem(files), rotate):
        for image in fs.images():
            for key, epoch in (("old", 1), ("new", 2)):
                try:
                    keyring = Keyring.open(image, "db", key)
                except KeyUnavailableError:
                    continue
                assert (keyring.epoch, keyring.damaged_copies) == (epoch, ())
                outcomes.add((key, fs.crashed))
                break
            else:
                pytest.fail(image.description)
        assert not fs.open_files
    assert outcomes == {("old", True), ("new", True), ("new", False)}


def test_a_failing_disk_leaves_keys_that_open() -> None:
    files = made("old")[0].files()
    failures = 0
    for persistent in (False, True):
        for fs, error in fault_points(
            lambda: FaultFileSystem(files),
            lambda fs: Keyring.open(fs, "db", "old").rotate(fs, "db", "new", cost=CHEAP),
            persistent=persistent,
        ):
            assert error is None or isinstance(error, OSError)
            failures += error is not None
            assert not fs.open_files
            fs.heal()
            for key in ("old", "new"):
                try:
                    Keyring.open(fs, "db", key)
                    break
                except KeyUnavailableError:
                    continue
            else:
                pytest.fail(str(error))
    assert failures >= 10


# The cipher of one file

PLACE = {"section": 1, "ordinal": 2, "codec": 1, "dictionary": 0}


@given(st.binary(max_size=300), st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_sealing_round_trips(plain: bytes, section: int, ordinal: int, codec: int, dictionary: int) -> None:
    cipher = FileCipher(RAW_KEY, b"d" * 16, 7, 1)
    sealed = cipher.seal(section, ordinal, codec, dictionary, memoryview(plain))
    assert len(sealed) == len(plain) + OVERHEAD
    assert cipher.open(section, ordinal, codec, dictionary, memoryview(sealed)) == plain


def test_the_sealed_form_is_the_documented_one() -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    sealed = FileCipher(RAW_KEY, b"d" * 16, 7, 3).seal(1, 2, 1, 0, b"plain")
    associated = struct.pack("<16sQBIBII", b"d" * 16, 7, 1, 2, 1, 0, 3)
    assert AESGCM(RAW_KEY).decrypt(sealed[:12], sealed[12:], associated) == b"plain"


@pytest.mark.parametrize("changed", [{"section": 2}, {"ordinal": 3}, {"codec": 0}, {"dictionary": 1}])
def test_a_sealed_piece_is_bound_to_its_place(changed: dict[str, int]) -> None:
    cipher = FileCipher(RAW_KEY, b"d" * 16, 7, 1)
    sealed = cipher.seal(*PLACE.values(), b"plain")
    assert cipher.open(*PLACE.values(), sealed) == b"plain"
    with pytest.raises(ValueError):
        cipher.open(*(PLACE | changed).values(), sealed)


@pytest.mark.parametrize("other", [(bytes(32), b"d" * 16, 7, 1), (RAW_KEY, b"e" * 16, 7, 1), (RAW_KEY, b"d" * 16, 8, 1), (RAW_KEY, b"d" * 16, 7, 2)])
def test_a_sealed_piece_is_bound_to_its_file(other: tuple[bytes, bytes, int, int]) -> None:
    sealed = FileCipher(RAW_KEY, b"d" * 16, 7, 1).seal(*PLACE.values(), b"plain")
    with pytest.raises(ValueError):
        FileCipher(*other).open(*PLACE.values(), sealed)


def test_every_flip_and_cut_of_a_sealed_piece_is_found() -> None:
    cipher = FileCipher(RAW_KEY, b"d" * 16, 7, 1)
    sealed = cipher.seal(*PLACE.values(), b"plain text")
    for at in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[at] ^= 1
        for piece in (bytes(damaged), sealed[:at]):
            with pytest.raises(ValueError):
                cipher.open(*PLACE.values(), piece)


def test_what_is_too_long_for_one_piece_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "SEALED_BYTES_MAX", OVERHEAD + 4)
    cipher = FileCipher(RAW_KEY, b"d" * 16, 7, 1)
    assert cipher.open(*PLACE.values(), cipher.seal(*PLACE.values(), b"four")) == b"four"
    with pytest.raises(UsageError):
        cipher.seal(*PLACE.values(), b"fiver")


def test_files_have_keys_of_their_own() -> None:
    _, keyring = made()
    ciphers = [keyring.cipher(1), keyring.cipher(2)]
    assert [cipher.file_id for cipher in ciphers] == [1, 2]
    nonce = bytes(12)
    assert ciphers[0]._encrypt(nonce, b"same", b"") != ciphers[1]._encrypt(nonce, b"same", b"")


def test_nonces_are_not_repeated() -> None:
    nonces = [new_nonce() for _ in range(2000)]
    assert len(set(nonces)) == 2000 and {len(nonce) for nonce in nonces} == {NONCE_BYTES}


def test_a_forked_child_does_not_repeat_its_parents_nonces() -> None:
    new_nonce()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, b"".join(new_nonce() for _ in range(300)))
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    data = b""
    while part := os.read(reading, 1 << 16):
        data += part
    os.close(reading)
    child = {data[i : i + NONCE_BYTES] for i in range(0, len(data), NONCE_BYTES)}
    assert len(child) == 300
    assert not child & {new_nonce() for _ in range(300)}
