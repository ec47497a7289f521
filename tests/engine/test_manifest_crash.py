"""A power loss at every operation of the manifest: what was acknowledged is there, at most one edit in flight beside it, no id is used twice."""

from __future__ import annotations

import pytest

from lsmsql.engine.manifest.current import read_current
from lsmsql.engine.manifest.version import Version
from lsmsql.engine.manifest.version_edit import VersionEdit
from tests.proof.fault_filesystem import FaultFileSystem, Operation, crash_points

from .manifest_world import DIRECTORY, add_table, create, reopen


class Writer:
    """Writes a little history and keeps account: every version that was begun, how many were acknowledged, the ids handed out."""

    def __init__(self, encrypted: bool) -> None:
        self.encrypted = encrypted
        self.versions: list[Version] = []
        self.acknowledged = -1
        self.ids: set[int] = set()

    def __call__(self, fs: FaultFileSystem) -> None:
        self.versions, self.acknowledged, self.ids = [Version()], -1, set()
        manifest = create(fs, self.encrypted, rotate_bytes=300)
        self.acknowledged = 0
        for round_number in range(2):
            for n in range(3):
                self._commit(manifest, VersionEdit(trees_created=((3 * round_number + n + 1, f"tree {n} of {round_number}"),)))
            before = manifest.version
            if manifest._next_id >= before.next_file_id:
                self.versions.append(before.apply(VersionEdit(next_file_id=before.next_file_id + 1000)))
            self.ids.add(manifest.new_file_id())
            self.acknowledged = len(self.versions) - 1
            manifest.close()
            manifest = reopen(fs, self.encrypted, rotate_bytes=300)
        manifest.close()

    def _commit(self, manifest, edit: VersionEdit) -> None:  # type: ignore[no-untyped-def]
        self.versions.append(manifest.version.apply(edit))
        manifest.commit(edit)
        self.acknowledged = len(self.versions) - 1

    def check(self, image: FaultFileSystem) -> None:
        """Whatever the power loss took, the directory opens at a version between acknowledged and begun, and goes on from there."""
        if read_current(image, DIRECTORY) is None:
            assert self.acknowledged == -1, f"the database is gone: {image.description}"
            manifest = create(image, self.encrypted)
        else:
            manifest = reopen(image, self.encrypted)
        allowed = self.versions[max(self.acknowledged, 0) :]
        assert manifest.version in allowed, f"edit {manifest.version.number} found, {self.acknowledged} acknowledged: {image.description}"
        assert manifest.new_file_id() not in self.ids, f"a file id is used twice: {image.description}"
        manifest.commit(VersionEdit(trees_created=((99, "later"),)))
        add_to(manifest)
        assert reopen(image, self.encrypted).version == manifest.version
        assert len([name for name in image.list(DIRECTORY) if name.startswith(("manifest-", "events-"))]) == 2
        manifest.close()
        assert not image.open_files


def add_to(manifest) -> None:  # type: ignore[no-untyped-def]
    manifest.commit(VersionEdit(trees_created=((100, "last"),)))


def start() -> FaultFileSystem:
    return FaultFileSystem(directories=[DIRECTORY])


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_power_loss_at_any_operation(encrypted: bool) -> None:
    writer = Writer(encrypted)
    images = 0
    for fs in crash_points(start, writer):
        for image in fs.images(limit=24, zeros=True):
            writer.check(image)
            images += 1
    assert images > 150


def test_a_power_loss_during_recovery_from_a_power_loss() -> None:
    writer = Writer(False)
    images = 0
    for fs in crash_points(start, writer):
        for image in fs.images(limit=4):
            if read_current(image, DIRECTORY) is None:
                continue

            def again(second: FaultFileSystem) -> None:
                reopen(second).commit(VersionEdit(floor=0))

            files, directories = image.files(), image.directories()
            for second in crash_points(lambda: FaultFileSystem(files, directories), again):  # noqa: B023
                for third in second.images(limit=6):
                    found = reopen(third).version
                    assert found.number >= max(writer.acknowledged, 0), f"{image.description}, then {third.description}"
                    images += 1
    assert images > 500


def syncs_of(writer: Writer) -> list[Operation]:
    fs = start()
    writer(fs)
    return list(fs.syncs)


def breaks_without(writer: Writer, which: int) -> bool:
    """Whether some power loss shows that sync number `which` was left out."""

    def skipping() -> FaultFileSystem:
        fs = start()
        fs.skip_sync(which)
        return fs

    for fs in crash_points(skipping, writer):
        if len(fs.syncs) <= which:
            continue
        for image in fs.images(limit=64):
            try:
                writer.check(image)
            except Exception:
                return True
    return False


def test_no_sync_can_be_left_out() -> None:
    writer = Writer(False)
    syncs = syncs_of(writer)
    needless = [str(sync) for which, sync in enumerate(syncs) if not breaks_without(writer, which)]
    assert not needless
    assert len(syncs) >= 15


def test_an_edit_costs_one_sync_and_a_generation_four() -> None:
    fs = start()
    manifest = create(fs)
    assert [operation.kind for operation in fs.syncs] == ["sync", "sync_directory", "sync", "sync_directory"]
    manifest.commit(VersionEdit(trees_created=((1, "t"),)))
    assert len(fs.syncs) == 5
    add_table(reopen(fs))
    assert len(fs.syncs) == 5 + 4 + 1
