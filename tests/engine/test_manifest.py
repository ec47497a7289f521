"""The manifest keeps the version of a directory: what was committed is found again, and what cannot be trusted is refused."""

from __future__ import annotations

import errno
import random
from dataclasses import replace

import pytest

from lsmsql.engine.manifest.archive_writer import ArchiveWriter
from lsmsql.engine.manifest.current import read_current, write_current
from lsmsql.engine.manifest.events import encode_edit, version_sections
from lsmsql.engine.manifest.manifest import FILE_IDS_PER_RESERVATION, Manifest
from lsmsql.engine.manifest.snapshot_file import SnapshotDigest
from lsmsql.engine.manifest.version import TableRecord, Version
from lsmsql.engine.manifest.version_edit import VersionEdit
from lsmsql.engine.storage.checksum import checksum64
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.storage.record_log import RecordKind, RecordLogWriter, record_header
from lsmsql.errors import CorruptionError, Error, KeyUnavailableError, UsageError
from tests.proof.fault_filesystem import FaultFileSystem, fault_points

from .manifest_world import DIRECTORY, KEY, OPTIONS, add_table, create, grow, memory, reopen, with_file

both = pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])


def manifest_files(fs: MemoryFileSystem) -> list[str]:
    return [name for name in fs.list(DIRECTORY) if name.startswith(("manifest-", "events-"))]


@both
def test_a_new_manifest_is_empty_and_found_again(encrypted: bool) -> None:
    fs = memory()
    manifest = create(fs, encrypted)
    assert (manifest.version, manifest.options_text, manifest.generation) == (Version(), OPTIONS, 1)
    manifest.close()
    again = reopen(fs, encrypted)
    assert (again.version, again.options_text, again.generation) == (Version(), OPTIONS, 1)
    assert again.database_id == manifest.database_id
    assert len(manifest.database_id) == 16


@both
@pytest.mark.parametrize("rotate_bytes", [0, 1, 1000, 1 << 20])
def test_every_edit_is_found_again(encrypted: bool, rotate_bytes: int) -> None:
    fs = memory()
    manifest = create(fs, encrypted, rotate_bytes)
    for version in grow(manifest, 12):
        found = reopen(MemoryFileSystem(fs.files(), fs.directories()), encrypted)
        assert found.version.number >= version.number
    assert found.version == manifest.version == version
    assert len(manifest_files(fs)) == 2, "old generations are removed"


def test_the_event_log_grows_to_its_limit_and_then_a_new_generation_begins() -> None:
    fs = memory()
    manifest = create(fs, rotate_bytes=2000)
    generations, sizes = set(), []
    grow(manifest, 1)
    for _ in range(60):
        add_table(manifest)
        generations.add(manifest.generation)
        sizes.append(fs.size(f"{DIRECTORY}/events-{manifest.generation:06d}"))
    assert 3 <= len(generations) <= 15
    assert 2000 <= max(sizes) < 2300


def test_opening_changes_nothing_and_the_first_edit_opens_a_new_generation() -> None:
    fs = memory()
    grow(create(fs), 2)
    before = fs.files()
    manifest = reopen(fs)
    assert fs.files() == before
    add_table(manifest)
    assert manifest.generation == 2
    assert manifest_files(fs) == ["events-000002", "manifest-000002"]
    assert reopen(fs).version == manifest.version


def test_generation_numbers_of_an_interrupted_rotation_are_not_used_again() -> None:
    fs = memory()
    create(fs)
    fs.create(f"{DIRECTORY}/events-000007").append(b"left over")
    manifest = reopen(fs)
    manifest.new_file_id()
    assert manifest_files(fs) == ["events-000008", "manifest-000008"]


def test_old_files_that_cannot_be_removed_do_no_harm() -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    manifest = create(fs, rotate_bytes=0)
    fault = fs.fail("remove", persistent=True)
    grow(manifest, 3)
    assert fault.hits > 3
    fs.heal()
    assert len(manifest_files(fs)) > 2
    again = reopen(fs)
    assert again.version == manifest.version
    add_table(again)
    assert len(manifest_files(fs)) == 2


def test_file_ids_are_never_handed_out_twice() -> None:
    fs = memory()
    seen: set[int] = set()
    for _ in range(3):
        manifest = create(fs) if not seen else reopen(fs)
        ids = [manifest.new_file_id() for _ in range(FILE_IDS_PER_RESERVATION + 10)]
        assert seen.isdisjoint(ids)
        assert len(set(ids)) == len(ids)
        assert max(ids) < reopen(fs).version.next_file_id, "every id is reserved durably before it is used"
        seen.update(ids)  # and no close: the process died


def test_an_id_costs_an_edit_only_once_in_a_thousand() -> None:
    manifest = create(memory())
    for _ in range(FILE_IDS_PER_RESERVATION):
        manifest.new_file_id()
    assert manifest.version.number == 1
    manifest.new_file_id()
    assert manifest.version.number == 2


def test_an_edit_that_does_not_fit_does_nothing() -> None:
    fs = memory()
    manifest = create(fs)
    before = fs.files()
    with pytest.raises(ValueError, match="no table 5"):
        manifest.commit(VersionEdit(removed=(5,)))
    assert fs.files() == before
    add = manifest.commit(VersionEdit(trees_created=((1, "t"),)))
    assert reopen(fs).version == add


def test_a_large_snapshot_is_not_rewritten_for_every_few_edits() -> None:
    fs = memory()
    manifest = create(fs, rotate_bytes=200)
    generator = random.Random(1)
    names = tuple((n, generator.randbytes(200).hex()) for n in range(1, 101))
    manifest.commit(VersionEdit(trees_created=names))
    manifest.save_options(OPTIONS)
    assert fs.size(f"{DIRECTORY}/manifest-{manifest.generation:06d}") > 30_000
    before = manifest.generation
    for floor in range(100):
        manifest.commit(VersionEdit(floor=floor))
    assert manifest.generation == before, "100 edits of about 80 bytes are less than the snapshot"


@pytest.mark.parametrize("rotate_bytes", [0, 1 << 20], ids=["rotating", "appending"])
def test_every_call_that_fails_leaves_the_old_state_or_the_new_one(rotate_bytes: int) -> None:
    """Each file operation of an edit or of new options fails in turn."""
    begun: list[Manifest] = []

    def start() -> FaultFileSystem:
        fs = FaultFileSystem(directories=[DIRECTORY])
        manifest = create(fs, rotate_bytes=rotate_bytes)
        grow(manifest, 1)
        begun[:] = [manifest]
        return fs

    def edit(_fs: FaultFileSystem) -> None:
        begun[0].commit(VersionEdit(floor=9))

    def options(_fs: FaultFileSystem) -> None:
        begun[0].save_options("new")

    for run in (edit, options):
        failures = 0
        for fs, raised in fault_points(start, run):
            manifest = begun[0]
            fs.heal()
            found = reopen(fs)
            old, new = (manifest.version.floor, manifest.options_text) == (0, OPTIONS), (found.version.floor, found.options_text)
            if raised is None:
                assert not old
            else:
                assert isinstance(raised, OSError)
                assert old, "what failed is not shown as done"
                failures += 1
            assert new in ((0, OPTIONS), (9, OPTIONS) if run is edit else (0, "new"))
            manifest.close()
            assert not fs.open_files
        assert failures >= (2 if run is edit and rotate_bytes else 8)


def test_options_can_be_saved_anew() -> None:
    fs = memory()
    manifest = create(fs)
    grow(manifest, 1)
    manifest.save_options("other = 1\n")
    assert reopen(fs).options_text == "other = 1\n"
    assert reopen(fs).version == manifest.version


def test_a_closed_manifest_takes_nothing() -> None:
    manifest = create(memory())
    manifest.close()
    manifest.close()
    with pytest.raises(UsageError):
        manifest.commit(VersionEdit(floor=1))


@pytest.mark.parametrize("rotate_bytes", [0, 1 << 20], ids=["rotating", "appending"])
@pytest.mark.parametrize("kind", ["append", "sync", "sync_directory", "create", "rename"])
def test_a_failed_write_poisons_and_nothing_acknowledged_is_lost(kind: str, rotate_bytes: int) -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    manifest = create(fs, rotate_bytes=rotate_bytes)
    kept = grow(manifest, 2)[-1]
    fault = fs.fail(kind, 1, errno.ENOSPC)
    if rotate_bytes and kind not in ("append", "sync"):
        add_table(manifest)
        assert not fault.calls, "an appended edit needs nothing but one append and one sync"
        return
    with pytest.raises(OSError, match="injected"):
        add_table(manifest)
    assert manifest.version.number in (kept.number, kept.number + 1)
    fs.heal()
    for attempt in (lambda: add_table(manifest), lambda: manifest.save_options(""), manifest.new_file_id):
        with pytest.raises(Error, match="since a write failed"):
            attempt()
    manifest.close()
    assert not fs.open_files
    found = reopen(fs)
    assert found.version.number - kept.number in (0, 1)
    add_table(found)


def test_each_call_that_fails_while_opening_is_an_oserror_or_named_error() -> None:
    start = FaultFileSystem(directories=[DIRECTORY])
    grow(create(start), 2)
    for kind in ("read", "open", "list"):
        fs = FaultFileSystem(start.files(), start.directories())
        fault = fs.fail(kind, 1)
        if kind == "read":
            with pytest.raises(OSError, match="injected"):
                reopen(fs)
        assert not fs.open_files
        assert fault.calls == (1 if kind == "read" else 0)


# Keys


def test_without_the_key_there_is_no_way_in() -> None:
    fs = memory()
    create(fs, encrypted=True)
    current = read_current(fs, DIRECTORY)
    assert current is not None
    assert current.encrypted
    with pytest.raises(KeyUnavailableError):
        Manifest.open(fs, DIRECTORY, None)


def test_a_key_for_a_plain_database_is_a_mistake() -> None:
    plain, encrypted = memory(), memory()
    create(plain)
    create(encrypted, encrypted=True)
    with pytest.raises(UsageError):
        Manifest.open(plain, DIRECTORY, Keyring.open(encrypted, DIRECTORY, KEY))


def test_keys_of_another_database_are_refused() -> None:
    one, other = memory(), memory()
    create(one, encrypted=True)
    create(other, encrypted=True)
    fs = with_file(one, f"{DIRECTORY}/KEYS", other.read(f"{DIRECTORY}/KEYS"))
    with pytest.raises(CorruptionError, match="another database"):
        reopen(fs, encrypted=True)


def test_an_encrypted_directory_shows_no_names_and_no_keys() -> None:
    fs = memory()
    manifest = create(fs, encrypted=True, rotate_bytes=1500)
    grow(manifest, 20)
    for path, data in fs.files().items():
        assert b"SECRET" not in data, path
        assert b"durability" not in data, path
    plain = memory()
    grow(create(plain, rotate_bytes=1500), 20)
    assert any(b"SECRET" in data for data in plain.files().values()), "the search would find them"


# Missing files


def test_a_directory_without_a_database_has_no_current() -> None:
    fs = memory()
    assert read_current(fs, DIRECTORY) is None
    fs.create(f"{DIRECTORY}/LOCK")
    fs.create(f"{DIRECTORY}/notes.txt")
    assert read_current(fs, DIRECTORY) is None
    with pytest.raises(CorruptionError, match="no database here"):
        Manifest.open(fs, DIRECTORY, None)


def test_a_second_creation_is_refused() -> None:
    fs = memory()
    create(fs)
    with pytest.raises(UsageError):
        create(fs)


@both
def test_what_an_interrupted_creation_leaves_is_no_database_and_is_replaced(encrypted: bool) -> None:
    fs = memory()
    create(fs, encrypted)
    fs.remove(f"{DIRECTORY}/CURRENT")
    fs.create(f"{DIRECTORY}/CURRENT.tmp").append(b"torn")
    assert read_current(fs, DIRECTORY) is None
    manifest = create(fs, encrypted)
    grow(manifest, 1)
    assert reopen(fs, encrypted).version == manifest.version


@both
@pytest.mark.parametrize("name", ["000001.sst", "000001.wal", "manifest-000002", "events-000003"])
def test_a_missing_current_beside_data_is_corruption(encrypted: bool, name: str) -> None:
    fs = memory()
    create(fs, encrypted)
    fs.remove(f"{DIRECTORY}/CURRENT")
    assert read_current(fs, DIRECTORY) is None
    fs.create(f"{DIRECTORY}/{name}")
    with pytest.raises(CorruptionError, match="CURRENT is missing"):
        read_current(fs, DIRECTORY)
    with pytest.raises(CorruptionError):
        create(fs, encrypted)


@both
def test_a_missing_current_after_the_first_edit_is_corruption(encrypted: bool) -> None:
    fs = memory()
    create(fs, encrypted).commit(VersionEdit())
    fs.remove(f"{DIRECTORY}/CURRENT")
    with pytest.raises(CorruptionError, match="CURRENT is missing"):
        read_current(fs, DIRECTORY)


@pytest.mark.parametrize("name", ["manifest-000001", "events-000001"])
def test_a_missing_file_of_the_live_generation_is_corruption(name: str) -> None:
    fs = memory()
    grow(create(fs), 1)
    with pytest.raises(CorruptionError, match=name):
        reopen(with_file(fs, f"{DIRECTORY}/{name}", None))


# What belongs together


def forge_current(fs: MemoryFileSystem, **values: int) -> None:
    """CURRENT with other values in the fields given by their offset (`at8=...`), and a check that fits."""
    path = f"{DIRECTORY}/CURRENT"
    data = bytearray(fs.read(path)[:64])
    for place, value in values.items():
        data[int(place[2:])] = value
    fs.remove(path)
    fs.create(path).append(bytes(data) + checksum64(data).to_bytes(8, "little"))


@pytest.mark.parametrize("place", ["at8", "at10", "at11", "at12"])
def test_a_current_of_another_format_is_refused(place: str) -> None:
    fs = memory()
    create(fs)
    forge_current(fs, at8=2)
    reopen(fs)
    forge_current(fs, **{place: 3 if place == "at8" else 2})
    with pytest.raises(CorruptionError, match="unknown") as caught:
        reopen(fs)
    assert caught.value.offset == 8


def forge_snapshot(fs: MemoryFileSystem, sections: dict[str, bytes]) -> None:
    """A first generation whose snapshot is one copy of these sections, and CURRENT bound to it."""
    current = read_current(fs, DIRECTORY)
    assert current is not None
    archive = ArchiveWriter(None)
    for name, content in sections.items():
        archive.start(name)
        archive.write(content)
    copy, footer = archive.finish()
    path = f"{DIRECTORY}/manifest-000001"
    fs.remove(path)
    fs.create(path).append(copy)
    write_current(fs, DIRECTORY, replace(current, snapshot=SnapshotDigest(len(copy), footer.digest(1))))


def test_a_snapshot_that_makes_no_sense_is_refused() -> None:
    good = version_sections(Version(), OPTIONS)
    cases = {
        "unknown": {**good, "tables": b"\x09"},
        "sections are": {name: content for name, content in good.items() if name != "trees"},
        "sections are ": {**good, "another": b""},
        "utf-8": {**good, "options": b"\xff"},
    }
    for message, sections in cases.items():
        fs = memory()
        create(fs)
        forge_snapshot(fs, sections)
        with pytest.raises(CorruptionError, match="makes no sense: .*" + message.strip()):
            reopen(fs)
    fs = memory()
    create(fs)
    fs.remove(f"{DIRECTORY}/events-000001")
    fs.create(f"{DIRECTORY}/events-000001")
    forge_snapshot(fs, good)
    assert reopen(fs).version == Version(), "the forgery is otherwise right"


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([(RecordKind.LOG_START, 0, 0), (RecordKind.EDIT, 1, 0)], ""),
        ([(RecordKind.LOG_START, 1, 0)], "does not start"),
        ([(RecordKind.EDIT, 1, 0)], "does not start"),
        ([(RecordKind.LOG_START, 0, 0), (RecordKind.EDIT, 2, 1)], "instead of edit 1"),
        ([(RecordKind.LOG_START, 0, 0), (RecordKind.EDIT, 1, 1)], "instead of edit 1"),
        ([(RecordKind.LOG_START, 0, 0), (RecordKind.EDIT, 1, 0), (RecordKind.EDIT, 1, 0)], "instead of edit 2"),
        ([(RecordKind.LOG_START, 0, 0), (RecordKind.COMMIT, 1, 0)], "instead of edit 1"),
        ([(RecordKind.LOG_START, 0, 0), (RecordKind.LOG_START, 0, 0)], "instead of edit 1"),
    ],
)
def test_an_event_log_whose_records_do_not_follow_each_other_is_refused(records: list[tuple[int, int, int]], message: str) -> None:
    fs = memory()
    create(fs)
    current = read_current(fs, DIRECTORY)
    assert current is not None
    path = f"{DIRECTORY}/events-000001"
    fs.remove(path)
    writer = RecordLogWriter(fs.create(path), 1)
    for kind, number, previous in records:
        payload = current.database_id + current.snapshot.digest if kind == RecordKind.LOG_START else encode_edit(VersionEdit(floor=5))
        writer.append(kind, payload, number, previous, 0)
    if not message:
        assert reopen(fs).version.floor == 5
        return
    with pytest.raises(CorruptionError, match=message) as caught:
        reopen(fs)
    assert caught.value.path == path
    assert caught.value.offset is not None


def test_an_edit_in_the_event_log_that_does_not_fit_is_corruption() -> None:
    fs = memory()
    create(fs)
    path = f"{DIRECTORY}/events-000001"
    start = fs.read(path)
    record = record_header(RecordKind.EDIT, 0, 1, 1, 1, 0, encode_edit(VersionEdit(removed=(5,))), 0, 0) + encode_edit(VersionEdit(removed=(5,)))
    with pytest.raises(CorruptionError, match="no table 5") as caught:
        reopen(with_file(fs, path, start + record))
    assert caught.value.offset == len(start)


def test_an_event_log_of_another_database_is_refused() -> None:
    one, other = memory(), memory()
    grow(create(one), 2)
    grow(create(other), 2)
    name = f"{DIRECTORY}/events-000001"
    with pytest.raises(CorruptionError, match="does not start at"):
        reopen(with_file(one, name, other.read(name)))


def test_a_snapshot_of_another_state_is_refused() -> None:
    one, other = memory(), memory()
    for floor, fs in enumerate((one, other), 150):
        manifest = create(fs)
        manifest.commit(VersionEdit(floor=floor))
        manifest.save_options(OPTIONS)
        manifest.save_options(OPTIONS)
    name, stranger = f"{DIRECTORY}/manifest-000003", other.read(f"{DIRECTORY}/manifest-000003")
    assert len(stranger) == one.size(name), "of the same length, and whole"
    with pytest.raises(CorruptionError, match="not the one that CURRENT names"):
        reopen(with_file(one, name, stranger))


def test_a_gap_between_edits_is_corruption() -> None:
    fs = memory()
    manifest = create(fs)
    sizes = []
    for n in range(4):
        sizes.append(fs.size(f"{DIRECTORY}/events-000001"))
        manifest.commit(VersionEdit(trees_created=((n + 1, f"tree {n}"),)))
    path = f"{DIRECTORY}/events-000001"
    data = fs.read(path)
    with pytest.raises(CorruptionError) as caught:
        reopen(with_file(fs, path, data[: sizes[1]] + data[sizes[2] :]))
    assert (caught.value.path, caught.value.offset) == (path, sizes[1])


@both
def test_a_version_with_long_keys_takes_several_frames(encrypted: bool) -> None:
    fs = memory()
    manifest = create(fs, encrypted)
    keys = [bytes((65 + n,)) + bytes(65_000) for n in range(50)]
    manifest.commit(VersionEdit(trees_created=((1, "t"),)))
    first = manifest.new_file_id()
    tables = tuple(TableRecord(first + n, 1, 1, 1, 1, 0, key, key + b"z", 1, 1) for n, key in enumerate(keys))
    manifest.commit(VersionEdit(added=tables))
    manifest.save_options("")  # a new snapshot, of 6 MiB before compression
    assert reopen(fs, encrypted).version == manifest.version
