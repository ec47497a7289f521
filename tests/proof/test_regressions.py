"""What the campaigns have found, each as the smallest run that shows it."""

from __future__ import annotations

from dataclasses import replace

import lsmsql
from tests.proof.fault_filesystem import FaultFileSystem, Operation
from tests.proof.workload import TINY, open_database

LAZY = replace(TINY, durability="normal", memtable_bytes=1 << 16)


def test_a_seqno_is_not_given_again_when_the_tree_it_was_ingested_into_is_gone() -> None:
    fs = FaultFileSystem()
    engine = open_database(fs, TINY)
    engine.tree("a").ingest([(b"k", b"v")])
    engine.drop_tree("a")
    seqno = engine.seqno
    engine.close()
    with open_database(fs, TINY) as engine:
        assert engine.seqno == seqno == 1


def test_dropping_a_tree_makes_durable_where_its_rows_went() -> None:
    fs = FaultFileSystem()
    engine = open_database(fs, LAZY)
    old, new = engine.tree("old"), engine.tree("new")
    old.put(b"k", b"v")
    engine.flush()
    with engine.batch() as batch:
        batch.put(new, b"k", b"v")
        batch.delete(old, b"k")
    engine.drop_tree("old")
    for image in fs.images():
        with open_database(image, LAZY) as left:
            assert left.tree("new").get(b"k") == b"v"
    engine.close()


def test_a_directory_whose_maker_was_killed_is_made_durable_by_who_finds_it() -> None:
    fs = FaultFileSystem()
    fs.make_directory("db")  # And killed before the sync.
    engine = open_database(fs, TINY)
    engine.tree("a").put(b"k", b"v")
    for image in fs.images():
        with open_database(image, TINY) as left:
            assert left.tree("a").get(b"k") == b"v"
    engine.close()


def test_a_database_whose_maker_was_killed_survives_a_power_loss_in_the_next_opening() -> None:
    fs = FaultFileSystem()
    disks: list[FaultFileSystem] = []

    def before_the_last_sync(operation: Operation) -> None:
        if operation.kind == "sync_directory" and fs.exists("db/CURRENT") and not disks:
            disks.append(fs.copy())

    fs.watch = before_the_last_sync
    open_database(fs, TINY).close()
    (disk,) = disks
    second = crashes_of_opening(disk)
    assert len(second) > 20


def crashes_of_opening(disk: FaultFileSystem) -> list[FaultFileSystem]:
    """Every image of every crash point of opening a disk; each can be opened."""
    images: list[FaultFileSystem] = []
    disk.watch = lambda _: images.extend(disk.images())
    open_database(disk, TINY).close()
    for image in images:
        with open_database(image, TINY) as engine:
            assert engine.tree_names() == []
    return images


def test_a_backward_scan_goes_on_at_the_empty_key_when_the_memtable_has_changed() -> None:
    with lsmsql.open(":memory:", TINY) as engine:
        tree = engine.tree("a")
        tree.put_many([(b"", b"1"), (b"b", b"2")])
        scan = tree.scan(reverse=True)
        assert scan.fill(1) == [(b"b", b"2")]
        tree.put(b"a", b"3")
        assert list(scan) == [(b"", b"1")]
