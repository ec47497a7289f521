"""Every byte of CURRENT, the snapshot and the event log changed, every length cut: the truth, an earlier state of the log, or CorruptionError."""

from __future__ import annotations

import pytest

from lsmsql.engine.manifest.archive_footer import HEAD_BYTES
from lsmsql.engine.manifest.current import read_current
from lsmsql.engine.manifest.manifest import Manifest
from lsmsql.engine.manifest.version import Version
from lsmsql.engine.manifest.version_edit import VersionEdit
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.errors import CorruptionError
from tests.proof.judge import LONG

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


def outcomes(
    world: tuple[MemoryFileSystem, Keyring | None, list[Version]], name: str, flips: tuple[int, ...], step: int = 1
) -> dict[str, Version | str]:
    fs, keyring, _ = world
    path = f"{DIRECTORY}/{name}"
    files = fs.files()
    found: dict[str, Version | str] = {}
    for what, data in damaged(files[path], flips, step):
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


def snapshot_of(world: tuple[MemoryFileSystem, Keyring | None, list[Version]]) -> tuple[str, bytes, int, int]:
    """(path, content, length of one copy, where the second begins)."""
    path = f"{DIRECTORY}/manifest-{GENERATION:06d}"
    current = read_current(world[0], DIRECTORY)
    assert current is not None
    length = current.snapshot.length
    return path, world[0].read(path), length, -(-length // 4096) * 4096


def opened(world: tuple[MemoryFileSystem, Keyring | None, list[Version]], path: str, data: bytes) -> Manifest:
    fs, keyring, _ = world
    return Manifest.open(MemoryFileSystem({**fs.files(), path: data}, fs.directories()), DIRECTORY, keyring)


def test_the_snapshot_survives_any_damage_to_one_copy(world: tuple[MemoryFileSystem, Keyring | None, list[Version]]) -> None:
    step = 1 if LONG else 11
    found = outcomes(world, f"manifest-{GENERATION:06d}", (0xFF,), step)
    _, data, length, second = snapshot_of(world)
    assert len(data) == second + length and length > HEAD_BYTES
    truth = world[2][-1]
    for what, outcome in found.items():
        cut = int(what.split()[2]) if what.startswith("cut") else len(data)
        if cut < HEAD_BYTES:
            assert outcome == "corrupt", what
        elif outcome != truth:  # Of the first copy alone nothing but the footer may be lost, which is in its head as well.
            assert outcome == "corrupt" and cut < length, what
    assert sum(outcome == truth for outcome in found.values()) >= (len(data) + len(data) - length) // step


@pytest.mark.parametrize("more", [1, 40, 4096])
def test_the_snapshot_survives_the_loss_of_any_stretch_up_to_a_sector(
    world: tuple[MemoryFileSystem, Keyring | None, list[Version]], more: int
) -> None:
    path, data, _, _ = snapshot_of(world)
    truth = world[2][-1]
    repaired = 0
    for start in range(0, len(data), more if more == 4096 or LONG else 13):
        for junk in (bytes(more), b"\xa5" * more):
            damaged = data[:start] + junk[: len(data) - start] + data[start + more :]
            manifest = opened(world, path, damaged)
            assert manifest.version == truth, start
            repaired += manifest.repairs.count
    assert repaired > 2


def test_the_snapshot_survives_the_same_damage_to_both_copies_by_its_parity(
    world: tuple[MemoryFileSystem, Keyring | None, list[Version]],
) -> None:
    path, data, length, second = snapshot_of(world)
    for offset in range(0, length, 1 if LONG else 3):
        damaged = bytearray(data)
        damaged[offset] ^= 0x10
        damaged[second + offset] ^= 0x10
        assert opened(world, path, bytes(damaged)).version == world[2][-1], offset


def test_the_snapshot_with_both_copies_lost_beyond_parity_is_corrupt(world: tuple[MemoryFileSystem, Keyring | None, list[Version]]) -> None:
    path, data, length, second = snapshot_of(world)
    for offset in (*range(HEAD_BYTES, length, 61), 0):
        damaged = bytearray(data)
        for start in (offset, second + offset):
            stretch = 4096 if not offset else min(61, length - offset)
            damaged[start : start + stretch] = bytes(stretch)
        if not offset:  # Both heads: the tails are there.
            assert opened(world, path, bytes(damaged)).version == world[2][-1]
            continue
        try:
            assert opened(world, path, bytes(damaged)).version == world[2][-1], "61 bytes of a large frame"
        except CorruptionError as error:
            assert error.path == path and "repair --rebuild" in error.advice
            assert error.offset is not None and error.offset < second, "the first copy's damage is told"
    for copies in (0, second):
        data = data[: copies + HEAD_BYTES] + bytes(length - HEAD_BYTES) + data[copies + length :]
    with pytest.raises(CorruptionError, match="magic"):
        opened(world, path, data)


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


@pytest.mark.parametrize(
    "edit", [VersionEdit(next_file_id=(1 << 62) + 1), VersionEdit(next_file_id=(1 << 63) - 1), VersionEdit(trees_created=(((1 << 32) - 1, "last"),))]
)
def test_an_edit_that_leaves_no_ids_is_corrupt(edit: VersionEdit) -> None:
    """A snapshot with it would be, too: the next generation could not be opened any more."""
    fs = memory()
    manifest = create(fs)
    manifest.commit(edit)
    with pytest.raises(CorruptionError, match=r"events-.*at byte.*impossible .*next (file|tree) id.*repair --rebuild"):
        Manifest.open(fs, DIRECTORY, None)
