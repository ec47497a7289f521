"""File names: what is built parses back, and nothing else parses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmsql.engine.storage.filenames import FILE_NUMBER_MAX, FileKind, FileName, file_name, parse_file_name, temporary_name
from lsmsql.errors import UsageError

KNOWN = {
    "LOCK": (FileKind.LOCK, 0),
    "READERS": (FileKind.READERS, 0),
    "KEYS": (FileKind.KEYS, 0),
    "CURRENT": (FileKind.CURRENT, 0),
    "OPTIONS": (FileKind.OPTIONS, 0),
    "manifest-000001": (FileKind.MANIFEST, 1),
    "events-000001": (FileKind.EVENT_LOG, 1),
    "000012.wal": (FileKind.WAL, 12),
    "000000.wal": (FileKind.WAL, 0),
    "1234567.sst": (FileKind.SSTABLE, 1234567),
    "18446744073709551615.sst": (FileKind.SSTABLE, FILE_NUMBER_MAX),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_names(name: str) -> None:
    kind, number = KNOWN[name]
    assert parse_file_name(name) == FileName(kind, number)
    assert file_name(kind, number) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "lock", "LOCK ", "LOCK2", "12.wal", "0000012.wal", "000012.WAL", "000012.sst.old", "x000012.sst", "000012"),
        *("manifest-", "manifest-1", "manifest-000001.wal", "events-0x0001", "-00012.wal", "٠٠٠٠١٢.wal", "000012.wal\n"),
        *(".tmp", "18446744073709551616.sst", "9" * 5000 + ".sst"),
    ],
)
def test_unknown_names(name: str) -> None:
    assert parse_file_name(name) is None


def test_temporary_names() -> None:
    assert temporary_name("CURRENT") == "CURRENT.tmp"
    assert parse_file_name("CURRENT.tmp") == parse_file_name("000012.sst.tmp") == FileName(FileKind.TEMPORARY, 0)


@pytest.mark.parametrize(("kind", "number"), [(FileKind.LOCK, 1), (FileKind.WAL, -1), (FileKind.WAL, 1 << 64), (FileKind.TEMPORARY, 0)])
def test_impossible_names(kind: FileKind, number: int) -> None:
    with pytest.raises(UsageError):
        file_name(kind, number)


@given(st.sampled_from([kind for kind in FileKind if kind.numbered and kind is not FileKind.TEMPORARY]), st.integers(0, FILE_NUMBER_MAX))
def test_every_number_comes_back(kind: FileKind, number: int) -> None:
    assert parse_file_name(file_name(kind, number)) == (kind, number)


@given(st.text(alphabet="0129.-walstmpnievLOCK", max_size=24))
def test_what_parses_is_what_would_be_built(name: str) -> None:
    parsed = parse_file_name(name)
    if parsed and parsed.kind is not FileKind.TEMPORARY:
        assert file_name(*parsed) == name
