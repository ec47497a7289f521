"""KEYS with one damaged copy is made whole by the next opening: the other copy must not stay the only one."""

from __future__ import annotations

import pytest

from lsmsql import CorruptionError
from lsmsql.engine.storage.keyring import SECTOR_BYTES, Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from tests.proof.fault_filesystem import FaultFileSystem, crash_points

from .database_world import DIRECTORY, KEY, memory, open_database, rows

KEYS = f"{DIRECTORY}/KEYS"


def damaged_files(copy: int) -> dict[str, bytes]:
    fs = memory()
    with open_database(fs, key=KEY) as engine:
        engine.tree("kv").put(b"a", b"1")
    files = fs.files()
    keys = bytearray(files[KEYS])
    keys[copy * SECTOR_BYTES + 1000] ^= 1
    return {**files, KEYS: bytes(keys)}


@pytest.mark.parametrize("copy", [0, 1])
def test_a_damaged_copy_of_the_keys_is_rewritten_when_the_database_is_opened(copy: int) -> None:
    fs = MemoryFileSystem(damaged_files(copy))
    with open_database(fs, key=KEY) as engine:
        assert rows(engine.tree("kv")) == {b"a": b"1"}
    data = fs.read(KEYS)
    assert len(data) == 2 * SECTOR_BYTES and data[:SECTOR_BYTES] == data[SECTOR_BYTES:]
    assert Keyring.open(fs, DIRECTORY, KEY).damaged_copies == ()
    other = bytearray(data)
    other[(1 - copy) * SECTOR_BYTES + 1000] ^= 1
    with open_database(MemoryFileSystem({**fs.files(), KEYS: bytes(other)}), key=KEY) as engine:
        assert rows(engine.tree("kv")) == {b"a": b"1"}


@pytest.mark.parametrize("copy", [0, 1])
def test_no_power_loss_while_the_keys_are_rewritten_loses_them(copy: int) -> None:
    files = damaged_files(copy)
    images = 0
    for crashed in crash_points(lambda: FaultFileSystem(files), lambda fs: open_database(fs, key=KEY).close()):
        for image in crashed.images(limit=8):
            images += 1
            with open_database(image, key=KEY) as engine:
                assert rows(engine.tree("kv")) == {b"a": b"1"}
            assert Keyring.open(image, DIRECTORY, KEY).damaged_copies == ()
    assert images > 20


def test_a_failed_opening_does_not_touch_the_keys() -> None:
    files = damaged_files(0)
    files[f"{DIRECTORY}/CURRENT"] = b"no such thing"
    fs = MemoryFileSystem(files)
    with pytest.raises(CorruptionError):
        open_database(fs, key=KEY)
    assert fs.read(KEYS) == files[KEYS]
