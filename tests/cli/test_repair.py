"""`lsmsql repair`, as a user calls it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lsmsql import HistoryError
from lsmsql.cli.main import main
from lsmsql.connection import connect


@pytest.fixture
def apart(tmp_path: Path) -> str:
    """A database whose app.db was restored from an older copy."""
    path = str(tmp_path / "app.db")
    for number in (1, 2):
        db = connect(path, key="secret")
        db.execute("CREATE TABLE IF NOT EXISTS o(x); CREATE VIRTUAL TABLE IF NOT EXISTS t USING lsm(a INTEGER PRIMARY KEY)")
        db.execute(f"BEGIN; INSERT INTO o VALUES ({number}); INSERT INTO t VALUES ({number}); COMMIT")
        db.close()
        if number == 1:
            shutil.copyfile(path, path + ".old")
    shutil.copyfile(path + ".old", path)
    return path


def test_what_has_come_apart_is_told_and_goes_on_once_it_is_accepted(
    apart: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["repair", apart, "--key", "secret"]) == 1
    assert "is behind" in capsys.readouterr().err
    db = connect(apart, key="secret")
    with pytest.raises(HistoryError):
        db.execute("SELECT * FROM t")
    db.close()
    monkeypatch.setenv("LSMSQL_KEY", "secret")
    assert main(["repair", apart, "--accept"]) == 0
    assert "transaction 2" in capsys.readouterr().out
    assert main(["repair", apart]) == 0
    assert "nothing to repair" in capsys.readouterr().out
    db = connect(apart)
    assert db.execute("SELECT group_concat(a) FROM t").get == "1,2" and db.execute("SELECT group_concat(x) FROM o").get == "1"
    db.execute("INSERT INTO t VALUES (3)")
    db.close()


@pytest.mark.parametrize("accept", [[], ["--accept"]])
def test_what_cannot_be_repaired_is_an_error_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], accept: list[str]) -> None:
    path = str(tmp_path / "app.db")
    assert main(["repair", path, *accept]) == 1
    assert not list(tmp_path.iterdir())
    connect(path).execute("CREATE TABLE o(x)")
    assert main(["repair", path, *accept]) == 1
    assert "no lsm tables" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["repair"])
    assert caught.value.code == 2
