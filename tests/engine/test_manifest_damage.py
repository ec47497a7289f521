"""Every byte of CURRENT, the snapshot and the event log changed, every length cut: the truth, an earlier state of the log, or CorruptionError."""

from __future__ import annotations

import pytest

from lsmsql.engine.manifest.manifest import Manifest
from lsmsql.engine.manifest.version import Version
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.errors import CorruptionError

from .manifest_world import DIRECTORY, KEY, OPTIONS, add_table, create, damaged, grow, memory, reopen

GENERATION = 3


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "encrypted"])
def world(request: pytest.FixtureRequest) -> tuple[MemoryFileSystem, Keyring | None, list[Version]]:
    """A directory whose event log holds edits over a snapshot that holds some too; and the versions that the log goes through."""
    encrypted = request.param
    fs = memory()
    grow(create(fs, encrypted), 1)
    reopen(fs, encrypted).new_file_id()
    manifest = reopen(fs, encrypted)
    manifest.save_options(OPTIONS)
    assert manifest.generation == GENERATION
    versions = [manifest.version]
    manifest.new_file_id()
    versions += [manifest.version, add_table(manifest), add_table(manifest)]
    return fs, Keyring.open(fs, DIRECTORY, KEY) if encrypted else None, versions


def outcomes(world: tuple[MemoryFileSystem, Keyring | None, list[Version]], name: str, flips: tuple[int, ...]) -> dict[str, Version | str]:
    fs, keyring, _ = world
    path = f"{DIRECTORY}/{name}"
    files = fs.files()
    found: dict[str, Version | str] = {}
    for what, data in damaged(files[path], flips):
        try:
            manifest = Manifest.open(MemoryFileSystem({**files, path: data}, fs.directories()), DIRECTORY, keyring)
            assert manifest.options_text == OPTIONS, what
            found[what] = manifest.version
        except CorruptionError as error:
            assert error.path.startswith(DIRECTORY), what
            found[what] = "corrupt"
    return found


def test_current(world: tuple[MemoryFileSystem, Keyring | None, list[Version]]) -> None:
    assert set(outcomes(world, "CURRENT", (0x01, 0x80, 0xFF)).values()) == {"corrupt"}


def test_the_snapshot_survives_any_damage_to_one_copy(world: tuple[MemoryFileSystem, Keyring | None, list[Version]]) -> None:
    found = outcomes(world, f"manifest-{GENERATION:06d}", (0xFF,))
    size = world[0].size(f"{DIRECTORY}/manifest-{GENERATION:06d}")
    assert 4096 < size < 6000
    truth = world[2][-1]
    copy = size - 4096
    for what, outcome in found.items():
        cut = int(what.split()[2]) if what.startswith("cut") else size
        assert outcome == (truth if cut >= copy else "corrupt"), what


def test_the_snapshot_with_both_copies_damaged_is_corrupt(world: tuple[MemoryFileSystem, Keyring | None, list[Version]]) -> None:
    fs, keyring, _ = world
    path = f"{DIRECTORY}/manifest-{GENERATION:06d}"
    files = fs.files()
    size = len(files[path])
    for offset in range(size - 4096):
        data = bytearray(files[path])
        data[offset] ^= 0x10
        data[4096 + offset] ^= 0x10
        with pytest.raises(CorruptionError) as caught:
            Manifest.open(MemoryFileSystem({**files, path: bytes(data)}, fs.directories()), DIRECTORY, keyring)
        assert caught.value.path == path
        assert caught.value.offset is not None
        assert caught.value.offset < 4096, "the first copy's damage is told"


def test_the_event_log_is_the_truth_an_earlier_state_or_corrupt(world: tuple[MemoryFileSystem, Keyring | None, list[Version]]) -> None:
    fs, _, versions = world
    found = outcomes(world, f"events-{GENERATION:06d}", (0x01, 0x80, 0xFF))
    truth = versions[-1]
    size = fs.size(f"{DIRECTORY}/events-{GENERATION:06d}")
    for what, outcome in found.items():
        assert outcome == "corrupt" or outcome in versions, what
        if what.startswith("cut"):
            assert outcome in versions, f"{what}: a torn tail is no corruption"
            assert outcome != truth
        if what == "null bytes behind":
            assert outcome == truth
    last_record = size - 64 - 200  # a change before the last record is followed by a whole one
    for offset in range(last_record):
        assert found[f"byte {offset} ^ 0xff"] == "corrupt", offset
    numbers = {outcome.number for outcome in found.values() if isinstance(outcome, Version)}
    assert len(numbers) >= 3, "cutting the log goes back through its states"
