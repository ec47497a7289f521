"""Two processes read beside one that writes, flushes and compacts: each of their transactions shows one transaction of the writer, whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.proof.reading_process import SMALL, set_up

SECONDS = 60 if os.environ.get("LSMSQL_LONG") == "1" else 4


def start(*arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.proof.reading_process", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=SECONDS + 60)
    assert process.returncode == 0, err
    return json.loads(out)  # type: ignore[no-any-return]


def test_readers_beside_a_writer_see_whole_transactions(tmp_path: Path) -> None:
    path = str(tmp_path / "app.db")
    set_up(path, SMALL)
    writer = start("write", path, SECONDS, "small")
    # One as fast as it can, one that comes back only after the writer has gone through several memtables.
    readers = [start("read", path, SECONDS - 1, pause) for pause in (0, 0.5)]
    found = [result(reader) for reader in readers]
    written = result(writer)
    assert written["flushes"] >= 2 and written["compactions"] >= 1
    for reader in found:
        assert reader["moments"] >= 3 and 0 < reader["last"] <= written["last"]
        assert reader["opened_tables"] >= 2
