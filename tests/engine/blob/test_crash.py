"""A power loss at every file operation of a store's life, with sectors torn: every linked value is whole, no unit used twice, none lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lsmsql import CorruptionError
from lsmsql.engine.blob import StoreOptions
from tests.proof.fault_filesystem import FaultFileSystem, Operation, crash_points
from tests.proof.judge import LONG

from .blob_world import DIRECTORY, SMALL, Life, shadow_oracle, value

PREALLOCATING = StoreOptions(map_bytes=1, map_ratio=0, read_threads=1)


def full_life(life: Life) -> None:
    """Write, overwrite, free, relocate, replace the map, punch, open again."""
    life.open()
    life.put(a=value(5000, 1), b=value(3000, 2), c=b"c" * 9000)
    life.put(a=value(6000, 3), large=value(700_000, 4))
    life.relocate()
    life.sync()
    life.delete("b")
    life.relocate()
    life.put(d=value(4000, 5), e=value(100, 6))
    life.delete("large")
    life.sync()
    life.put(f=value(20_000, 7))
    life.store.frames.punch()  # type: ignore[union-attr]
    life.close()
    life.open()
    life.put(g=value(9000, 8))
    life.relocate()
    life.sync()
    life.delete("a", "f")
    life.sync()
    life.close()


def short_life(life: Life) -> None:
    life.open()
    life.put(a=value(5000, 1), b=value(3000, 2))
    life.put(a=value(6000, 3))
    life.relocate()
    life.sync()
    life.delete("a")
    life.sync()
    life.put(c=value(9000, 4))
    life.close()


def lives(
    run: Callable[[Life], None], encrypted: bool = False, options: StoreOptions = SMALL, parity: str = "none", skip: int | None = None
) -> Iterator[Life]:
    """The life stopped at every operation in turn."""
    current: list[Life] = []

    def start() -> FaultFileSystem:
        fs = FaultFileSystem(directories=[DIRECTORY])
        if skip is not None:
            fs.skip_sync(skip)
        return fs

    def one(fs: FaultFileSystem) -> None:
        current[:] = [Life(fs, encrypted, options, parity)]
        run(current[0])

    for _ in crash_points(start, one):
        yield current[0]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_power_loss_at_any_operation(encrypted: bool) -> None:
    images = points = 0
    for life in lives(full_life, encrypted, parity="rs(4,2)" if encrypted else "none"):
        points += 1
        for image in life.fs.images(limit=200 if LONG else 6, zeros=True):
            life.check(image)
            images += 1
    print(points, images)
    assert points > 80 and images > 500


def test_a_power_loss_at_any_operation_with_room_made_ahead() -> None:
    images = 0
    for life in lives(short_life, options=PREALLOCATING):
        for image in life.fs.images(limit=50 if LONG else 4):
            life.check(image)
            images += 1
    assert images > 60


def test_a_killed_process_leaves_what_it_wrote() -> None:
    for life in lives(full_life):
        life.check(life.fs.copy())


def test_a_power_loss_during_recovery_from_a_power_loss() -> None:
    images = 0
    for number, life in enumerate(lives(short_life)):
        if number % (1 if LONG else 9):
            continue
        for image in life.fs.images(limit=1):
            files, directories = image.files(), image.directories()

            def again(second: FaultFileSystem) -> None:
                life.fs = second  # noqa: B023
                life.open().close()  # noqa: B023

            for second in crash_points(lambda: FaultFileSystem(files, directories), again):  # noqa: B023
                for third in second.images(limit=20 if LONG else 1):
                    life.check(third)
                    images += 1
    assert images > 60


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_no_unit_that_a_durable_map_references_is_written(encrypted: bool) -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    shadow_oracle(fs, encrypted)
    full_life(Life(fs, encrypted))
    assert sum(operation.kind == "write_at" for operation in fs.operations) >= 9
    assert any(operation.kind == "punch" for operation in fs.operations)


def test_the_oracle_sees_a_unit_that_is_written_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were freed units given out before the change is durable, the test above would fail."""
    from lsmsql.engine.blob import slot_store

    leave = slot_store.SlotStore._leave

    def too_early(self, record) -> None:  # type: ignore[no-untyped-def]
        leave(self, record)
        self._retirement.add([self._left.pop()])

    monkeypatch.setattr(slot_store.SlotStore, "_leave", too_early)
    fs = FaultFileSystem(directories=[DIRECTORY])
    shadow_oracle(fs, False)
    with pytest.raises(AssertionError, match="would write over"):
        full_life(Life(fs))


def breaks_without(which: int) -> str:
    """What a power loss then leads to, or ""."""
    for life in lives(full_life, skip=which):
        if len(life.fs.syncs) > which:
            for image in life.fs.images(limit=40):
                try:
                    life.check(image)
                except (AssertionError, CorruptionError) as error:
                    return f"{image.description}: {error}"
    return ""


def test_no_sync_can_be_left_out() -> None:
    """But of the log's those behind which the whole map is written anew, or whose change only frees, and nothing goes there before the next."""
    fs = FaultFileSystem(directories=[DIRECTORY])
    full_life(Life(fs))
    syncs: list[Operation] = list(fs.syncs)
    first_of_kind: dict[tuple[str, str], int] = {}
    for which, sync in enumerate(syncs):
        first_of_kind.setdefault((sync.kind, sync.path.rstrip("0123456789.tmp")), which)
    chosen = range(len(syncs)) if LONG else sorted(first_of_kind.values())
    found = {str(syncs[which]): breaks_without(which) for which in chosen}
    print(found)
    for which in chosen:
        frees_only = "slotlog" in syncs[which].path and not syncs[which - 1].path.endswith("BLOBS")
        anew = "slotlog" in syncs[which].path and which + 1 < len(syncs) and syncs[which + 1].kind == "sync_directory"
        assert found[str(syncs[which])] or frees_only or anew, syncs[which]
