"""Checksums of entries through the engine: which tables get them, what verifying finds, and what a flush does about memory that has changed."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import lsmsql
from lsmsql import CorruptionError, KeyUnavailableError, Options, UsageError
from lsmsql.checksum_policy import ChecksumPolicy
from lsmsql.engine import version_line
from lsmsql.engine.kernel import COMPILED, BlockCache, MemtableArena
from lsmsql.engine.sstable.reader import open_table
from lsmsql.engine.sstable.verify import verify_table
from lsmsql.engine.storage.block_frame import FrameType, seal_frame
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.table_dump import open_dump

from .sstable_world import DIRECTORY, KEY, SMALL, close, contents, contents_of, memory, new_keyring, opened, rows, write

PATH = f"{DIRECTORY}/000001.sst"
QUIET = {"background": False, "block_bytes": 400}


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("off", [], [(0, 1), (6, 99)]),
        ("all", [(0, 1), (6, 99)], []),
        ("levels(0,1)", [(0, 5), (1, 5)], [(2, 5)]),
        ("levels(6)", [(6, 5)], [(0, 5)]),
        ("tables(10, 12)", [(0, 10), (6, 12)], [(0, 9), (0, 13)]),
    ],
)
def test_a_policy_says_which_tables(text: str, yes: list[tuple[int, int]], no: list[tuple[int, int]]) -> None:
    policy = ChecksumPolicy.parse(text)
    assert all(policy.applies(*table) for table in yes) and not any(policy.applies(*table) for table in no)
    options = Options(kv_checksums=text)
    assert Options.from_text(options.to_text()) == options


@pytest.mark.parametrize("text", ["", "on", "levels()", "levels(7)", "levels(0;1)", "tables(1)", "tables(9,1)", "tables(-1,3)", 1, None])
def test_impossible_policies_are_refused(text: Any) -> None:
    with pytest.raises(UsageError, match="kv_checksums"):
        Options(kv_checksums=text)


def test_what_needs_checksums_is_refused_without_them() -> None:
    for policy in ("off", "levels(1)", "tables(1,9)"):
        with pytest.raises(UsageError, match="level 0"):
            Options(kv_checksums=policy, kv_check_at="insert")
    Options(kv_checksums="levels(0)", kv_check_at="insert")
    with pytest.raises(UsageError, match="kv_check_at"):
        Options(kv_checksums="all", kv_check_at="read")
    with pytest.raises(UsageError, match="paranoid"):
        Options(paranoid=1)  # type: ignore[arg-type]


def tables(path: Path, key: str | None = None) -> list[Any]:
    """The properties of every table, by file id; each table is verified."""
    found = []
    for file in sorted(path.glob("*.sst")):
        dump = open_dump(file, key)
        verified = verify_table(dump)
        assert not verified.problems and verified.entries == dump.properties().entries
        assert verified.checked == (verified.entries if dump.properties().kv_checksums else 0)
        found.append(dump.properties())
        dump.close()
    return found


@pytest.mark.parametrize("key", [None, "secret"])
@pytest.mark.parametrize("layout", ["columns", "rows"])
@pytest.mark.parametrize(("policy", "expected"), [("off", [0, 0, 0]), ("all", [1, 1, 1]), ("levels(0)", [1, 1, 0]), ("levels(1,6)", [0, 0, 1])])
def test_tables_carry_checksums_by_level(tmp_path: Path, policy: str, expected: list[int], layout: str, key: str | None) -> None:
    options = Options(kv_checksums=policy, paranoid=True, block_layout=layout, parity="xor(4)", **QUIET)  # type: ignore[arg-type]
    database = lsmsql.open(tmp_path / "db", options, key=key)
    tree = database.tree("t")
    tree.put_many(rows(50))
    database.flush()
    tree.ingest([(b"z%03d" % n, b"ingested") for n in range(50)])
    before = tables(tmp_path / "db", key)
    database.compact()
    found = [*before, tables(tmp_path / "db", key)[-1]]
    assert [one.kv_checksums for one in found] == expected
    assert list(tree.scan()) == rows(50) + [(b"z%03d" % n, b"ingested") for n in range(50)]
    assert tree.get(b"z004") == b"ingested" and tree.get(b"z9") is None
    database.close()


def test_tables_carry_checksums_by_file_id(tmp_path: Path) -> None:
    database = lsmsql.open(tmp_path / "db", Options(kv_checksums="tables(5,8)", table_bytes=12_000, compression="none", **QUIET))  # type: ignore[arg-type]
    tree = database.tree("t")
    for start in range(3):
        tree.put_many(rows(200)[start::3])
        database.flush()
    database.compact()
    found = tables(tmp_path / "db")
    assert {one.kv_checksums for one in found} == {0, 1} and len(found) > 3
    assert all(one.kv_checksums == (5 <= one.file_id <= 8) for one in found)
    assert list(tree.scan()) == rows(200)
    database.close()


@pytest.mark.parametrize("layout", ["columns", "rows"])
def test_an_entry_that_went_wrong_before_it_was_written_is_found_by_paranoid_reads_and_by_verifying(layout: str) -> None:
    fs = memory()
    options = replace(SMALL, kv_checksums="all", compression="none", block_layout=layout)
    (record,) = write(fs, [(5, rows(40))], options=options)
    data = fs.read(PATH)
    length = int.from_bytes(data[12:16], "little")
    raw = data[40 : 40 + length]
    assert b"SECRETVALUE-1-" in raw
    wrong = seal_frame(FrameType.DATA, raw.replace(b"SECRETVALUE-1-", b"SECRETVALUE-7-"))
    bad = MemoryFileSystem({PATH: wrong + data[40 + length :]})
    table = opened(bad, record)
    assert contents([table])[1][1].startswith(b"SECRETVALUE-7-"), "nobody asked for more"
    close(table)
    table = open_table(bad, DIRECTORY, record, None, BlockCache(0), options=Options(paranoid=True))
    with pytest.raises(CorruptionError, match="does not match its checksum") as caught:
        contents([table])
    assert (caught.value.path, caught.value.offset) == (PATH, 0)
    close(table)
    (problem,) = verify_table(open_dump(PATH, filesystem=bad)).problems
    assert problem.offset == 0 and "does not match its checksum" in problem.message


def test_verifying_finds_any_damaged_byte() -> None:
    fs = memory()
    write(fs, [(5, rows(40))], None, replace(SMALL, kv_checksums="all", parity="xor(3)"))
    data = fs.read(PATH)
    assert not verify_table(open_dump(PATH, filesystem=fs)).problems
    first, *others = contents_of(data).sections
    offsets = [*range(0, first.end, 37), *(one.offset + n for one in others for n in range(0, one.size, 41)), *range(first.end, len(data), 509)]
    for offset in offsets:
        bad = data[:offset] + bytes((data[offset] ^ 1,)) + data[offset + 1 :]
        assert verify_table(open_dump(PATH, filesystem=MemoryFileSystem({PATH: bad}))).problems, f"byte {offset}"


def test_verifying_an_encrypted_table_needs_the_key() -> None:
    fs = memory()
    write(fs, [(5, rows(40))], new_keyring(fs), replace(SMALL, kv_checksums="all"))
    with pytest.raises(KeyUnavailableError):
        verify_table(open_dump(PATH, filesystem=fs))
    found = verify_table(open_dump(PATH, KEY, filesystem=fs))
    assert not found.problems and found.entries == found.checked == 40


# Made as entries enter memory.


class Watched(MemtableArena):  # type: ignore[misc, valid-type]
    """An arena whose records stay in reach."""

    views: ClassVar[list[memoryview]] = []

    def seal(self, *arguments: int) -> Any:
        sealed = super().seal(*arguments)
        Watched.views.append(sealed)
        return sealed


def poke(view: memoryview, place: bytes) -> None:
    """Change a byte of memory that Python may only read."""

    class Buffer(ctypes.Structure):
        _fields_ = (("start", ctypes.c_void_p), ("rest", ctypes.c_byte * 200))

    buffer = Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    assert buffer.start is not None
    ctypes.c_ubyte.from_address(buffer.start + bytes(view).index(place)).value ^= 0x10
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


@pytest.mark.skipif(not COMPILED, reason="the plain arena keeps no bytes of its own")
@pytest.mark.parametrize("check_at", ["insert", "block"])
def test_a_flush_writes_nothing_of_memory_that_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check_at: str) -> None:
    monkeypatch.setattr(version_line, "MemtableArena", Watched)
    Watched.views.clear()
    options = Options(kv_checksums="all", kv_check_at=check_at, **QUIET)  # type: ignore[arg-type]
    database = lsmsql.open(tmp_path / "db", options)
    tree = database.tree("t")
    tree.put(b"before", b"a value")
    tree.put(b"key", b"the value that changes")
    tree.put(b"later", b"a value")
    poke(next(view for view in Watched.views if b"that changes" in bytes(view)), b"that changes")
    if check_at == "block":
        database.flush()
        assert tree.get(b"key") != b"the value that changes", "what memory says is what is written"
        database.close()
        return
    with pytest.raises(CorruptionError, match=r"b'key' has changed in memory since its commit"):
        database.flush()
    assert not list((tmp_path / "db").glob("*.sst")), "nothing was written"
    database.close()
    Watched.views.clear()
    database = lsmsql.open(tmp_path / "db")
    assert list(database.tree("t").scan()) == [(b"before", b"a value"), (b"key", b"the value that changes"), (b"later", b"a value")]
    database.flush()
    assert [one.kv_checksums for one in tables(tmp_path / "db")] == [1]
    database.close()


def test_batches_replace_and_delete_as_ever_with_checksums_from_the_start(tmp_path: Path) -> None:
    database = lsmsql.open(tmp_path / "db", Options(kv_checksums="levels(0)", kv_check_at="insert", memtable_bytes=3000, **QUIET))  # type: ignore[arg-type]
    tree = database.tree("t")
    expected: dict[bytes, bytes] = {}
    for round in range(30):
        with database.batch() as batch:
            for n in range(10):
                key, value = b"k%02d" % ((round * 7 + n * 3) % 40), b"%d of %d" % (n, round)
                batch.put(tree, key, b"first")
                batch.put(tree, key, value)
                expected[key] = value
                if n == 4:
                    batch.delete(tree, key)
                    del expected[key]
    database.flush()
    assert dict(tree.scan()) == expected
    database.close()
    database = lsmsql.open(tmp_path / "db")
    assert dict(database.tree("t").scan()) == expected
    database.close()
