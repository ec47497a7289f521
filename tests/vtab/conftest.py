"""What the SQL tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lsmsql.connection import Connection, connect


@pytest.fixture
def db() -> Iterator[Connection]:
    """A connection to a database in memory."""
    connection = connect(":memory:")
    yield connection
    connection.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "app.db")
