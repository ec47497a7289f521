"""`lsmsql manifest dump` and `lsmsql repair --rebuild`, as a user calls them."""

from __future__ import annotations

from pathlib import Path

import pytest

import lsmsql
from lsmsql.cli.main import main
from lsmsql.connection import connect
from lsmsql.engine.manifest.version_edit import BlobStatistics, VersionEdit


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = str(tmp_path / "app.db")
    db = connect(path, key="secret")
    db.execute("CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY, b)")
    db.executemany("INSERT INTO t VALUES (?, ?)", [(n, f"row {n}") for n in range(100)])
    db.engine.flush()
    db.execute("SELECT lsm_snapshot('monday')")
    db.execute("INSERT INTO t VALUES (1000, 'in the WAL')")
    db.close()
    return path


def files(app: str, *prefixes: str) -> list[Path]:
    return sorted(file for file in Path(app + "-lsm").iterdir() if file.name.startswith(prefixes))


def test_the_dump_shows_what_there_is(app: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["manifest", "dump", app]) == 1
    assert "no key was given" in capsys.readouterr().err
    monkeypatch.setenv("LSMSQL_KEY", "secret")
    before = {file.name: file.read_bytes() for file in files(app, "")}
    for path in (app, app + "-lsm"):
        assert main(["manifest", "dump", path, "--check"]) == 0
        text = capsys.readouterr().out
        for part in ("generation ", "encrypted", "USING lsm", "snapshot 'monday' at seqno", "level 0", "edit ", "durability = ", ": whole"):
            assert part in text, part
    assert {file.name: file.read_bytes() for file in files(app, "")} == before
    (table,) = [file for file in files(app, "0") if file.suffix == ".sst"]
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    assert main(["manifest", "dump", app, "--check"]) == 1
    assert "another checksum" in capsys.readouterr().err
    table.unlink()
    assert main(["manifest", "dump", app, "--check"]) == 1
    assert "missing" in capsys.readouterr().err


def test_damage_is_told(app: str, capsys: pytest.CaptureFixture[str]) -> None:
    (snapshot,), (log,) = files(app, "manifest-"), files(app, "events-")
    data = snapshot.read_bytes()
    snapshot.write_bytes(data[:4150] + b"\0" * 20 + data[4170:])
    assert main(["manifest", "dump", app, "--key", "secret"]) == 1
    assert "read by its parity or its mirror" in capsys.readouterr().err
    snapshot.write_bytes(data)
    log.write_bytes(log.read_bytes()[:-5])
    assert main(["manifest", "dump", app, "--key", "secret"]) == 1
    assert "cut short" in capsys.readouterr().err
    (Path(app + "-lsm") / "CURRENT").write_bytes(b"nonsense")
    assert main(["manifest", "dump", app, "--key", "secret"]) == 1
    assert "repair --rebuild" in capsys.readouterr().err
    assert main(["manifest", "dump", str(Path(app).parent / "other.db")]) == 1
    assert "no database" in capsys.readouterr().err


def test_events_that_nothing_makes_yet_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "db"
    with lsmsql.open(path) as engine:
        engine.tree("t")
        blob = BlobStatistics(engine._line.new_file_id(), 10, 1000, 500, 2, 100)
        engine._line.install(VersionEdit(blobs_set=(blob,), dictionaries_added=((1, 0xABC, 2000),)))
    assert main(["manifest", "dump", str(path)]) == 0
    text = capsys.readouterr().out
    assert "10 values, 1000 bytes, 500 stored, 2 values and 100 bytes dead" in text and "dictionary 0x00000abc of tree 1, 2000 bytes" in text
    with lsmsql.open(path) as engine:
        assert engine._line.version.blobs == {blob.file_id: blob} and engine._line.version.dictionaries == {(1, 0xABC): 2000}


def test_times_beyond_every_calendar_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "db"
    with lsmsql.open(path) as engine:
        engine.tree("t")
        engine._line.install(VersionEdit(times=((1, (1 << 64) - 1),)))
    assert main(["manifest", "dump", str(path)]) == 0
    assert f"seqno 1 by {(1 << 64) - 1} microseconds" in capsys.readouterr().out


def test_a_database_without_its_manifest_is_rebuilt(app: str, capsys: pytest.CaptureFixture[str]) -> None:
    for file in files(app, "CURRENT", "manifest-", "events-"):
        file.unlink()
    assert main(["repair", app, "--key", "secret"]) == 1
    assert "repair --rebuild" in capsys.readouterr().err
    assert main(["repair", app, "--rebuild", "--key", "secret"]) == 0
    text = capsys.readouterr().out
    assert "a new manifest names" in text and "not known: the names of snapshots" in text and "nothing to repair" in text
    db = connect(app, key="secret")
    assert db.execute("SELECT count(*), max(a) FROM t").fetchall() == [(101, 1000)]
    db.close()
    assert main(["repair", app + "-lsm", "--rebuild", "--key", "secret"]) == 0
