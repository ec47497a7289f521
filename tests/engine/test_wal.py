"""The WAL file: its catalog, its records, what is held, written and synced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.record_log import LogState, RecordKind, scan_records
from lsmsql.engine.wal import HELD_BYTES_MAX, Catalog, Predecessor, Wal
from tests.proof.fault_filesystem import FaultFileSystem

from .database_world import DIRECTORY, KEY

U64 = st.integers(0, 2**64 - 1)
CATALOG = Catalog(b"a database id 16", 7, (Predecessor(3, 1000, 900),), {1: "one", 2: "zwei"})


@given(
    st.binary(min_size=16, max_size=16),
    U64,
    st.lists(st.builds(Predecessor, U64, U64, U64), max_size=3),
    st.dictionaries(st.integers(0, 2**32 - 1), st.text(max_size=20), max_size=5),
)
def test_catalogs_come_back(database_id: bytes, edit: int, predecessors: list[Predecessor], trees: dict[int, str]) -> None:
    catalog = Catalog(database_id, edit, tuple(predecessors), trees)
    assert Catalog.decode(catalog.encode()) == catalog


def test_damaged_catalogs_are_value_errors() -> None:
    good = CATALOG.encode()
    for length in range(len(good)):
        with pytest.raises(ValueError):
            Catalog.decode(good[:length])
    with pytest.raises(ValueError):
        Catalog.decode(good + b"\0")
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 0xFF
        try:
            Catalog.decode(bytes(damaged))
        except ValueError:
            pass


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_new_wal_is_durable_with_its_name_and_catalog(encrypted: bool) -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    keyring = Keyring.create(fs, DIRECTORY, KEY) if encrypted else None
    cipher = keyring.cipher(9) if keyring else None
    wal = Wal.create(fs, DIRECTORY, 9, cipher, CATALOG, 55, 54, 1234)
    for image in fs.images():
        records, end = scan_records("wal", image.read("/db/000009.wal"), 9, cipher)
        assert end.state is LogState.CLEAN
        assert [(record.kind, record.seqno, record.previous, record.time_us) for record in records] == [(RecordKind.CATALOG, 55, 54, 1234)]
        assert Catalog.decode(records[0].payload) == CATALOG
    assert wal.durable == wal.length == fs.size("/db/000009.wal") and wal.ordinal == 1
    wal.close()
    assert not fs.open_files


def test_held_records_are_written_before_later_ones_and_when_many() -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    wal = Wal.create(fs, DIRECTORY, 9, None, CATALOG, 0, 0, 0)
    length = wal.length

    def record(size: int) -> bytes:
        return wal.seal(RecordKind.COMMIT, b"x" * size, wal.ordinal, wal.ordinal, wal.ordinal - 1, 0)

    wal.hold(record(10), 1)
    wal.hold(record(20), 1)
    assert wal.length == fs.size(wal.path) == length
    wal.append(record(30), 1)
    assert wal.length == fs.size(wal.path) == length + 60 + 3 * 64
    wal.hold(record(HELD_BYTES_MAX), 1)
    assert wal.length == fs.size(wal.path) > HELD_BYTES_MAX
    wal.hold(record(5), 1)
    wal.write_held()
    records, end = scan_records("wal", fs.read(wal.path), 9)
    assert end.state is LogState.CLEAN and [len(found.payload) for found in records[1:]] == [10, 20, 30, HELD_BYTES_MAX, 5]
    wal.close()


def test_sync_covers_what_was_written_and_a_closed_wal_has_nothing_left_to_sync() -> None:
    fs = FaultFileSystem(directories=[DIRECTORY])
    wal = Wal.create(fs, DIRECTORY, 9, None, CATALOG, 0, 0, 0)
    wal.append(wal.seal(RecordKind.COMMIT, b"x", 1, 1, 0, 0), 1)
    assert wal.durable < wal.length
    before = len(fs.syncs)
    wal.sync()
    wal.sync()
    assert wal.durable == wal.length and len(fs.syncs) == before + 1
    wal.close()
    wal.close()
    wal.sync()
    assert len(fs.syncs) == before + 1


def test_a_wal_whose_creation_fails_is_closed() -> None:
    for kind in ("append", "sync", "sync_directory"):
        fs = FaultFileSystem(directories=[DIRECTORY])
        fs.fail(kind)
        with pytest.raises(OSError):
            Wal.create(fs, DIRECTORY, 9, None, CATALOG, 0, 0, 0)
        assert not fs.open_files
