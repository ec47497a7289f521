"""What the SQL tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lsmsql._compiled import bridge_module
from lsmsql.connection import Connection, connect

HOSTS = ["bridge", "apsw"] if bridge_module() is not None else ["apsw"]


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who carries SQLite's calls to the tables of the connections that are opened now: the bridge, where it was built, and APSW."""
    monkeypatch.setenv("LSMSQL_BRIDGE", "1" if request.param == "bridge" else "0")
    return str(request.param)


@pytest.fixture
def db(host: str) -> Iterator[Connection]:
    """A connection to a database in memory, by either host."""
    connection = connect(":memory:")
    yield connection
    connection.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "app.db")
