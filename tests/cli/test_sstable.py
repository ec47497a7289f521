"""`lsmsql sstable`, as a user calls it: on whole, damaged and encrypted tables."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lsmsql
from lsmsql import Options
from lsmsql.cli.main import main
from lsmsql.cli.sstable import SHOWS
from lsmsql.engine.sstable.table_of_contents import SECTOR_BYTES, SectionType, parse_sector

CUT: dict[str, Any] = {"index": "partitioned", "partition_bytes": 100}
ROWS = [(b"key-%03d" % n, (b"value-%03d-" % n) * 9) for n in range(80)]
NEEDS_NO_KEY = {"contents", "blocks", "hex"}
Said = tuple[int, str, str]  # exit code, stdout, stderr
Ask = Callable[..., Said]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.delenv("LSMSQL_KEY", raising=False)

    def asked(show: str, path: Path, *arguments: str) -> Said:
        numbers = ("1",) if show == "hex" and not arguments[:1] else arguments
        code = main(["sstable", show, str(path), *numbers])
        said = capsys.readouterr()
        return code, said.out, said.err

    return asked


def table(directory: Path, key: str | None = None, **options: object) -> Path:
    """The one table of a new database of ROWS, one of them deleted."""
    database = lsmsql.open(directory / "db", Options(block_bytes=600, **options), key=key)  # type: ignore[arg-type]
    tree = database.tree("readings")
    for name, value in ROWS:
        tree.put(name, value)
    tree.delete(ROWS[7][0])
    database.flush()
    database.close()
    (found,) = (directory / "db").glob("*.sst")
    return found


def table_with_a_dictionary(directory: Path, key: str | None) -> Path:
    """The one table of a new database whose rows have much in common, which `entries` shows one a line."""
    with lsmsql.open(directory / "db", Options(block_bytes=600, background=False, dictionary_bytes=1024), key=key) as database:
        tree = database.tree("readings")
        tree.put_many((b"%04d" % n, b'{"name": "sensor %d", "unit": "kelvin", "value": %d}' % (n * 7919 % 1000, n * n)) for n in range(1500))
        database.flush()
        database.compact(tree)
        tree.put(b"another", b"row")
        database.flush()  # Its edit finds that nobody reads the file that the one before has replaced.
    learned = [path for path in (directory / "db").glob("*.sst") if sections(path, SectionType.DICTIONARY)]
    assert len(learned) == 1
    return learned[0]


def change(path: Path, *offsets: int) -> None:
    data = bytearray(path.read_bytes())
    for offset in offsets:
        data[offset] ^= 0xFF
    path.write_bytes(data)


def sections(path: Path, type: SectionType) -> list[int]:
    data = path.read_bytes()
    return [section.offset for section in parse_sector(data[-SECTOR_BYTES:], len(data)).copies(type)]


@pytest.mark.parametrize(
    "options", [{}, {"block_layout": "rows", "filter": "burr"}, {"parity": "rs(4,2)"}, CUT], ids=["plain", "rows", "parity", "cut"]
)
@pytest.mark.parametrize("key", [None, "secret"])
def test_a_whole_table_is_shown_whole(tmp_path: Path, ask: Ask, key: str | None, options: dict[str, Any]) -> None:
    path = table(tmp_path, key, **options)
    more = ["--key", key] if key else []
    said = {show: ask(show, path, *((["1"] if show == "hex" else []) + more)) for show in SHOWS}
    assert {(code, err) for code, _, err in said.values()} == {(0, "")}
    assert "tree_name: readings\n" in said["properties"][1] and "\n    block_bytes = 600\n" in said["properties"][1]
    assert said["contents"][1].count("  whole\n") == (7 if options == CUT else 5) and "data 0" in said["contents"][1]
    blocks = said["blocks"][1].splitlines()
    assert len(blocks) == len(said["index"][1].splitlines()) > 5 and all(line.endswith("  whole") for line in blocks)
    entries = said["entries"][1].splitlines()
    assert len(entries) == 80 and sum(" tombstone " in line for line in entries) == 1
    assert "b'key-079' 80 value b'value-079-" in entries[-1] and "and 30 bytes more" in entries[-1]
    assert re.search(r"(bloom|burr) filter over 80 keys", said["filter"][1]) and "false positives" in said["filter"][1]
    assert ("partitions" in said["filter"][1]) == (options == CUT)
    assert "stored_length" in said["hex"][1] and "53 4d 01" in said["hex"][1]
    assert ("value-" in said["hex"][1]) <= (not key)
    assert len(ask("entries", path, "--block", "0", "--limit", "2", "--whole", *more)[1].splitlines()) == 2


@pytest.mark.parametrize("key", [None, "secret"])
def test_blocks_compressed_with_a_dictionary_are_shown(tmp_path: Path, ask: Ask, key: str | None) -> None:
    path = table_with_a_dictionary(tmp_path, key)
    more = ["--key", key] if key else []
    assert "dictionary 0             at" in ask("contents", path, *more)[1]
    blocks = ask("blocks", path)[1]
    (learned,) = set(re.findall(r" dictionary (0x\w{8}) ", blocks))
    assert f"dictionary_id: {int(learned, 16)}\n" in ask("properties", path, *more)[1]
    code, out, err = ask("entries", path, *more)
    assert (code, err) == (0, "") and len(out.splitlines()) == 1500 and '"unit": "kelvin", "value": 2247001}' in out
    change(path, *range(sections(path, SectionType.DICTIONARY)[0], sections(path, SectionType.DICTIONARY)[0] + 300))
    code, out, err = ask("entries", path, *more)
    assert code == 1 and len(out.splitlines()) == 1500 and "read by its" in err


def test_without_the_key_it_shows_what_is_not_encrypted_and_says_what_is(tmp_path: Path, ask: Ask) -> None:
    path = table(tmp_path, "secret", parity="xor(3)")
    for show in set(SHOWS) - {"ranges", "blobs"}:
        code, out, err = ask(show, path, *(["1"] if show == "hex" else []))
        if show in NEEDS_NO_KEY:
            assert (code, err) == (0, "") and out
            assert "key-0" not in out and "value-" not in out
        else:
            assert (code, out) == (1, "") and "no key was given" in err and "can be shown" in err
    assert ask("blocks", path)[1] == ask("blocks", path, "--key", "secret")[1], "found by their own headers as by the index"
    code, out, err = ask("properties", path, "--key", "wrong")
    assert (code, out) == (1, "") and "does not open" in err
    (path.parent / "KEYS").unlink()
    assert "KEYS is not beside it" in ask("properties", path, "--key", "secret")[2]


@pytest.mark.parametrize("key", [None, "secret"])
def test_a_damaged_block_is_named_and_the_others_are_shown(tmp_path: Path, ask: Ask, key: str | None) -> None:
    path = table(tmp_path, key)
    more = ["--key", key] if key else []
    offset = int(ask("blocks", path, *more)[1].splitlines()[2].split()[2])
    change(path, offset + 50)
    for show in ("blocks", "entries"):
        code, out, err = ask(show, path, *more)
        assert code == 1 and f"at byte {offset}: frame payload checksum does not match" in err
    assert len(out.splitlines()) > 60 and "b'key-000'" in out and "b'key-079'" in out
    code, out, err = ask("hex", path, "2", *more)
    assert code == 1 and "checksum does not match" in out and f"{offset:08x}" in out


def test_blocks_are_found_where_neither_index_nor_some_headers_can_be_read(tmp_path: Path, ask: Ask) -> None:
    path = table(tmp_path)
    before = ask("blocks", path)[1].splitlines()
    offset = int(before[2].split()[2])
    change(path, offset, *(place + n for place in sections(path, SectionType.INDEX) for n in range(0, 150, 3)))
    code, out, err = ask("blocks", path)
    after = out.splitlines()
    assert code == 1 and "index" not in err.splitlines()[0].split(":")[0] and "no block begins here" in err
    assert after[:2] == before[:2] and after[2].split()[0] == "?" and len(after) == len(before)
    assert [line.split()[2] for line in after] == [line.split()[2] for line in before]
    code, out, err = ask("entries", path)
    assert (code, out) == (1, "")


def test_what_was_repaired_is_shown_and_said(tmp_path: Path, ask: Ask) -> None:
    path = table(tmp_path, parity="rs(4,2)")
    change(path, 60, sections(path, SectionType.PROPERTIES)[0] + 60)
    code, out, err = ask("entries", path)
    assert code == 1 and len(out.splitlines()) == 80 and "at byte 0: damaged, and read by its parity" in err
    assert "repaired" in ask("blocks", path)[1].splitlines()[0]
    assert sum(line.endswith("repaired") for line in ask("contents", path)[1].splitlines()) == 1
    data = path.read_bytes()
    path.write_bytes(data[:-SECTOR_BYTES] + bytes(SECTOR_BYTES))
    assert ask("contents", path)[0] == 1
    path.write_bytes(data[: -2 * SECTOR_BYTES] + bytes(2 * SECTOR_BYTES))
    code, out, err = ask("contents", path)
    assert (code, out) == (1, "") and "table of contents does not match its checksum" in err


def test_no_damaged_byte_makes_it_fail_in_any_other_way(tmp_path: Path, ask: Ask) -> None:
    path = table(tmp_path)
    data = path.read_bytes()
    used = [place for type in SectionType for place in sections(path, type)]
    offsets = {*range(0, 300, 29), *(place + n for place in used for n in range(0, 64, 7)), *range(len(data) - SECTOR_BYTES, len(data) - 3900, 31)}
    for offset in sorted(offsets):
        change(path, offset)
        for show in ("properties", "contents", "blocks", "entries", "filter"):
            assert ask(show, path)[0] in (0, 1)
        path.write_bytes(data)
    for length in (0, 1, 4096, 8191, 8192, 8193, len(data) - 4096):
        path.write_bytes(data[:length])
        for show in SHOWS:
            code, _, err = ask(show, path)
            assert code == 1 and "lsmsql sstable: " in err, (length, show)
        path.write_bytes(data)


def test_what_is_no_table_is_refused(tmp_path: Path, ask: Ask) -> None:
    path = table(tmp_path)
    assert "named like an SSTable" in ask("contents", path.parent / "CURRENT")[2]
    assert "there is no SSTable" in ask("contents", path.with_name("000099.sst"))[2]
    for arguments in (["hex", str(path), "999"], ["entries", str(path), "--block", "-1"]):
        assert main(["sstable", *arguments]) == 1
    with pytest.raises(SystemExit) as caught:
        main(["sstable"])
    assert caught.value.code == 2


def test_the_package_is_the_command(tmp_path: Path) -> None:
    path = table(tmp_path)
    done = subprocess.run([sys.executable, "-m", "lsmsql", "sstable", "contents", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "properties 1" in done.stdout
