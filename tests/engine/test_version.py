"""Versions are values: an edit that fits gives the next one, an edit that does not is refused and changes nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import log

import pytest

from lsmsql.engine.manifest.version import LEVELS, NAME_BYTES_MAX, NO_TABLES, TREES_MAX, TableRecord, Version
from lsmsql.engine.manifest.version_edit import BlobStatistics, VersionEdit

BASE = Version().apply(VersionEdit(trees_created=((1, "one"), (2, "two")), next_file_id=100))


def table(file_id: int, smallest: bytes = b"a", largest: bytes = b"b", **more: int) -> TableRecord:
    fields = {"tree_id": 1, "level": 0, "size": 1000, "entries": 10, "tombstones": 1, "min_seqno": 1, "max_seqno": file_id, **more}
    return TableRecord(file_id, smallest=smallest, largest=largest, **fields)


def test_an_empty_version_has_nothing() -> None:
    version = Version()
    assert (list(version.tables()), version.file_ids(), version.wals, version.number) == ([], set(), (), 0)


def test_each_edit_gets_the_next_number_and_the_old_version_stays() -> None:
    after = BASE.apply(VersionEdit(added=(table(5),), wals_added=(6,), last_seqno=9))
    assert (BASE.number, after.number) == (1, 2)
    assert (list(BASE.tables()), BASE.wals, BASE.last_seqno) == ([], (), 0)
    assert ([t.file_id for t in after.tables()], after.wals, after.last_seqno) == ([5], (6,), 9)
    assert after.file_ids() == {5, 6}


def test_level_0_is_newest_first_and_deeper_levels_ascend() -> None:
    loose = (table(5, max_seqno=7), table(6, max_seqno=9), table(7, max_seqno=7))
    run = (table(8, b"x", b"z", level=3), table(9, b"a", b"b", level=3), table(10, b"c", b"w", level=3))
    levels = BASE.apply(VersionEdit(added=loose + run)).levels[1]
    assert [t.file_id for t in levels[0]] == [6, 7, 5]
    assert [t.file_id for t in levels[3]] == [9, 10, 8]
    assert len(levels) == LEVELS


def test_trees_are_kept_apart() -> None:
    version = BASE.apply(VersionEdit(added=(table(5, level=1), table(6, level=1, tree_id=2))))
    assert [t.file_id for t in version.levels[1][1]] == [5]
    assert [t.file_id for t in version.levels[2][1]] == [6]


def test_a_table_moves_by_being_removed_and_added() -> None:
    version = BASE.apply(VersionEdit(added=(table(5),)))
    moved = version.apply(VersionEdit(removed=(5,), added=(table(5, level=1),)))
    assert [t.level for t in moved.tables()] == [1]


def test_a_dropped_tree_takes_its_tables_with_it_and_its_id_is_not_used_again() -> None:
    version = BASE.apply(VersionEdit(added=(table(5), table(6, tree_id=2))))
    version = version.apply(VersionEdit(trees_dropped=(2,)))
    assert (dict(version.trees), version.file_ids()) == ({1: "one"}, {5})
    assert 2 not in version.levels
    with pytest.raises(ValueError, match="used before"):
        version.apply(VersionEdit(trees_created=((2, "again"),)))
    assert version.apply(VersionEdit(trees_created=((3, "two"),))).levels[3] == NO_TABLES


def test_wals_come_and_go() -> None:
    version = BASE.apply(VersionEdit(wals_added=(9, 7)))
    assert version.wals == (7, 9)
    assert version.apply(VersionEdit(wals_removed=(7,), wals_added=(8,))).wals == (8, 9)


def test_snapshots_are_set_moved_and_released() -> None:
    version = BASE.apply(VersionEdit(snapshots_set=(("s", 5), ("t", 6))))
    version = version.apply(VersionEdit(snapshots_set=(("s", 7),), snapshots_released=("t",)))
    assert dict(version.snapshots) == {"s": 7}
    version = version.apply(VersionEdit(floor=8))
    assert dict(version.snapshots) == {"s": 7}, "a named snapshot stays below the floor"
    assert dict(version.apply(VersionEdit(snapshots_released=("s",))).snapshots) == {}


def test_floor_and_last_seqno_never_go_down() -> None:
    version = BASE.apply(VersionEdit(floor=8, last_seqno=9)).apply(VersionEdit(floor=3, last_seqno=4))
    assert (version.floor, version.last_seqno) == (8, 9)


REFUSED = {
    "file id not reserved": (VersionEdit(added=(table(100),)), "reserved"),
    "file id zero": (VersionEdit(added=(table(0, max_seqno=1),)), "reserved"),
    "WAL id not reserved": (VersionEdit(wals_added=(100,)), "reserved"),
    "file id twice": (VersionEdit(added=(table(7), table(7, tree_id=2))), "not all new"),
    "file id of a table": (VersionEdit(added=(table(5, level=3),)), "not all new"),
    "file id of a WAL": (VersionEdit(added=(table(6, level=3),)), "not all new"),
    "WAL id of a table": (VersionEdit(wals_added=(5,)), "not all new"),
    "WAL id twice": (VersionEdit(wals_added=(7, 7)), "not all new"),
    "next file id goes down": (VersionEdit(next_file_id=99), "cannot go"),
    "next file id too large": (VersionEdit(next_file_id=1 << 63), "cannot go"),
    "no such table": (VersionEdit(removed=(6,)), "no table 6"),
    "table removed twice": (VersionEdit(removed=(5, 5)), "no table 5"),
    "no such tree": (VersionEdit(added=(table(7, tree_id=3),)), "which there is not"),
    "table of a dropped tree": (VersionEdit(added=(table(7),), trees_dropped=(1,)), "which there is not"),
    "overlap in a deep level": (VersionEdit(added=(table(7, b"a", b"c", level=1), table(8, b"c", b"d", level=1))), "overlap"),
    "level too deep": (VersionEdit(added=(table(7, level=7),)), "levels are 0 to 6"),
    "negative level": (VersionEdit(added=(table(7, level=-1),)), "levels are 0 to 6"),
    "no bytes": (VersionEdit(added=(table(7, size=0),)), "cannot have"),
    "no entries": (VersionEdit(added=(table(7, entries=0, tombstones=0),)), "cannot have"),
    "more tombstones than entries": (VersionEdit(added=(table(7, tombstones=11),)), "cannot have"),
    "crossed keys": (VersionEdit(added=(table(7, b"b", b"a"),)), "key bounds"),
    "key too long": (VersionEdit(added=(table(7, b"a", b"b" * 65_536),)), "key bounds"),
    "crossed seqnos": (VersionEdit(added=(table(7, min_seqno=8),)), "seqno bounds"),
    "seqno too large": (VersionEdit(added=(table(7, max_seqno=1 << 56),)), "seqno bounds"),
    "global seqno above": (VersionEdit(added=(table(7, global_seqno=2),)), "seqno bounds"),
    "no such WAL": (VersionEdit(wals_removed=(5,)), "not all live"),
    "WAL removed twice": (VersionEdit(wals_removed=(6, 6)), "not all live"),
    "tree name taken": (VersionEdit(trees_created=((3, "one"),)), "already"),
    "tree id taken": (VersionEdit(trees_created=((1, "three"),)), "used before"),
    "tree id twice": (VersionEdit(trees_created=((3, "x"), (3, "y"))), "used before"),
    "tree id too large": (VersionEdit(trees_created=((1 << 32, "x"),)), "used before"),
    "tree name empty": (VersionEdit(trees_created=((3, ""),)), "bytes in UTF-8"),
    "tree name too long": (VersionEdit(trees_created=((3, "x" * (NAME_BYTES_MAX + 1)),)), "bytes in UTF-8"),
    "tree name not Unicode": (VersionEdit(trees_created=((3, "\ud800"),)), "surrogates"),
    "no tree to drop": (VersionEdit(trees_dropped=(3,)), "no tree 3"),
    "too many trees": (VersionEdit(trees_created=tuple((n, str(n)) for n in range(3, TREES_MAX + 2))), "more than"),
    "snapshot below the floor": (VersionEdit(snapshots_set=(("s", 3),)), "below the floor"),
    "snapshot too large": (VersionEdit(snapshots_set=(("s", 1 << 56),)), "floor"),
    "file id that was never used": (VersionEdit(removed=(100,)), "no table 100"),
    "WAL id that was never used": (VersionEdit(wals_removed=(100,)), "not all live"),
    "blob file not reserved": (VersionEdit(blobs_set=(BlobStatistics(100, 1, 1, 1, 0, 0),)), "not reserved"),
    "more dead values than values": (VersionEdit(blobs_set=(BlobStatistics(9, 1, 1, 1, 2, 0),)), "more is dead"),
    "more dead bytes than bytes": (VersionEdit(blobs_set=(BlobStatistics(9, 1, 9, 1, 1, 2),)), "more is dead"),
    "dictionary of no tree": (VersionEdit(dictionaries_added=((3, 1, 100),)), "cannot be"),
    "dictionary without a number": (VersionEdit(dictionaries_added=((1, 0, 100),)), "cannot be"),
    "time point too far": (VersionEdit(times=((1 << 56, 5),)), "impossible seqnos"),
    "checksum too short": (VersionEdit(added=(replace(table(7), checksum=b"short"),)), "has 5 bytes"),
    "negative floor": (VersionEdit(floor=-1), "impossible seqno"),
    "WAL synced that is not reserved": (VersionEdit(wal_synced=(100, 5)), "not reserved"),
    "last seqno too large": (VersionEdit(last_seqno=1 << 56), "impossible seqno"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_edit_that_does_not_fit_is_refused(name: str) -> None:
    edit, message = REFUSED[name]
    version = BASE.apply(VersionEdit(added=(table(5),), wals_added=(6,), floor=4))
    before = replace(version)
    with pytest.raises(ValueError, match=message):
        version.apply(edit)
    assert version == before


def test_a_tree_keeps_its_schema_until_it_is_dropped() -> None:
    version = Version().apply(VersionEdit(trees_created=((1, "one"), (2, "two")), schemas_set=((2, "CREATE"),)))
    assert version.schemas == {2: "CREATE"}
    assert version.apply(VersionEdit(trees_dropped=(1,))).schemas == {2: "CREATE"}
    assert version.apply(VersionEdit(trees_dropped=(2,))).schemas == {}
    for wrong in ((3, "x"), (1, ""), (1, "x" * ((1 << 20) + 1))):
        with pytest.raises(ValueError):
            version.apply(VersionEdit(schemas_set=(wrong,)))


ONE_AFTER_THE_OTHER = {
    "table added": VersionEdit(added=(table(7),)),
    "table removed": VersionEdit(removed=(5,)),
    "compaction": VersionEdit(removed=(5,), added=(table(7, level=1), table(8, b"c", b"d", level=1)), floor=6),
    "table moved": VersionEdit(removed=(5,), added=(table(5, level=3),)),
    "flush": VersionEdit(wals_removed=(6,), added=(table(7),), last_seqno=9, host_seqno=8, times=((5, 100), (9, 200))),
    "WAL added": VersionEdit(wals_added=(8,), wal_synced=(8, 64)),
    "WAL removed": VersionEdit(wals_removed=(6,)),
    "tree created": VersionEdit(trees_created=((3, "three"),), schemas_set=((3, "CREATE"),)),
    "tree altered": VersionEdit(schemas_set=((1, "CREATE another"),)),
    "tree dropped": VersionEdit(trees_dropped=(2,)),
    "snapshot set": VersionEdit(snapshots_set=(("s", 7),)),
    "snapshot released": VersionEdit(snapshots_released=("old",)),
    "floor": VersionEdit(floor=9),
    "ids reserved": VersionEdit(next_file_id=2000),
    "seqno": VersionEdit(last_seqno=50),
    "blob statistics": VersionEdit(blobs_set=(BlobStatistics(9, 10, 100, 50, 1, 5),)),
    "blob file removed": VersionEdit(blobs_removed=(10,)),
    "dictionary added": VersionEdit(dictionaries_added=((1, 5, 100),), dictionaries_retired=((1, 4),)),
    "dictionary retired": VersionEdit(dictionaries_retired=((1, 4),)),
    "time points": VersionEdit(times=((4, 1_000), (6, 2_000))),
}


@pytest.mark.parametrize("name", ONE_AFTER_THE_OTHER)
def test_an_edit_made_twice_is_the_same_as_made_once(name: str) -> None:
    blob, dictionary = (BlobStatistics(10, 5, 50, 40, 0, 0),), ((1, 4, 200),)
    start = VersionEdit(added=(table(5),), wals_added=(6,), floor=4, snapshots_set=(("old", 4),), blobs_set=blob, dictionaries_added=dictionary)
    version = BASE.apply(start)
    once = version.apply(ONE_AFTER_THE_OTHER[name])
    assert replace(once, number=0) != replace(version, number=0), "the edit says something"
    twice = once.apply(ONE_AFTER_THE_OTHER[name])
    assert replace(twice, number=0) == replace(once, number=0)
    assert twice.number == once.number + 1


def test_dictionaries_go_with_their_tree() -> None:
    version = BASE.apply(VersionEdit(dictionaries_added=((1, 4, 200), (2, 4, 200), (2, 5, 300))))
    assert version.dictionaries == {(1, 4): 200, (2, 4): 200, (2, 5): 300}
    assert version.apply(VersionEdit(trees_dropped=(2,))).dictionaries == {(1, 4): 200}
    assert version.apply(VersionEdit(dictionaries_retired=((2, 4),))).dictionaries == {(1, 4): 200, (2, 5): 300}


def test_blob_statistics_are_replaced_not_added_up() -> None:
    version = BASE.apply(VersionEdit(blobs_set=(BlobStatistics(9, 10, 100, 50, 1, 5),)))
    version = version.apply(VersionEdit(blobs_set=(BlobStatistics(9, 10, 100, 50, 4, 20), BlobStatistics(11, 1, 1, 1, 0, 0))))
    assert version.blobs == {9: BlobStatistics(9, 10, 100, 50, 4, 20), 11: BlobStatistics(11, 1, 1, 1, 0, 0)}
    assert version.apply(VersionEdit(blobs_removed=(9,))).blobs.keys() == {11}


def test_time_points_are_thinned_as_they_age_and_go_with_the_floor() -> None:
    second = 1_000_000
    version = BASE
    for n in range(1, 5001):
        version = version.apply(VersionEdit(times=((n, n * second),)))
    points = version.times
    assert points[0] == (1, second) and points[-1] == (5000, 5000 * second)
    assert points[-60:] == tuple((n, n * second) for n in range(4941, 5001)), "what is new is whole"
    assert len(points) < 64 + 128 * log(5000 / 64)
    for (_, before), (_, after) in pairwise(points):
        assert after - before <= max(second, (5000 * second - after) // 64)
    last = version.apply(VersionEdit(floor=4990)).times
    assert last[0][0] <= 4990 and last[1][0] > 4990, "one point at or below the floor answers for it"
    assert version.apply(VersionEdit(times=((5001, 0),))).times == points, "a clock that was set back says nothing"
    assert version.apply(VersionEdit(times=((5000, 6000 * second),))).times == points, "the first to say it counts"
