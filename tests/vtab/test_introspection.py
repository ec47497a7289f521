"""lsm_sstables, lsm_levels and lsm_wal: what the engine is made of, as tables."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from lsmsql.connection import connect
from lsmsql.errors import UsageError
from lsmsql.options import Options

SMALL = Options(background=False, l0_tables=3)


def test_tables_levels_and_wals_are_rows(tmp_path: Path) -> None:
    db = connect(str(tmp_path / "app.db"), options=SMALL)
    db.execute("CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY, b)")
    for number in range(4):
        db.executemany("INSERT INTO t VALUES (?, ?)", [(number * 100 + n, "text") for n in range(100)])
        db.execute("DELETE FROM t WHERE a = ?", (number * 100,))
        db.engine.flush()
    db.execute("INSERT INTO t VALUES (-1, 'in the WAL')")
    version = db.engine._line.version
    rows = db.execute("SELECT tree, level, file, run, size, entries, tombstones, max_seqno, checksum, name FROM lsm_sstables").fetchall()
    assert len(rows) == len(list(version.tables())) >= 2
    for row, table in zip(rows, version.tables(), strict=True):
        assert row[:2] == (version.trees[table.tree_id], table.level)
        assert row[2:8] == (table.file_id, table.run, table.size, table.entries, table.tombstones, table.max_seqno)
        assert row[8] == table.checksum.hex() and (tmp_path / "app.db-lsm" / row[9]).stat().st_size == table.size
    assert any(table.checksum != bytes(16) and table.run for table in version.tables())
    sums = "SELECT tree, level, count(*), sum(size), sum(entries), sum(tombstones), min(smallest), max(largest) FROM lsm_sstables GROUP BY 1, 2"
    assert db.execute("SELECT * FROM lsm_levels ORDER BY 1, 2").fetchall() == db.execute(sums + " ORDER BY 1, 2").fetchall()
    (wal,) = db.execute("SELECT file, state, size, synced, entries, name FROM lsm_wal").fetchall()
    assert wal[0] == version.wals[-1] and wal[1] == "active" and wal[4] == 1
    assert (tmp_path / "app.db-lsm" / wal[5]).stat().st_size == wal[2] >= wal[3] > 0
    reader = connect(str(tmp_path / "app.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert reader.execute("SELECT count(*) FROM lsm_sstables").get == len(rows)
    reader.close()
    db.close()


def test_the_schema_is_chosen_and_what_cannot_be_is_refused(tmp_path: Path) -> None:
    db = connect(str(tmp_path / "app.db"))
    db.execute("ATTACH ? AS aux", (str(tmp_path / "aux.db"),))
    db.execute("CREATE VIRTUAL TABLE aux.t USING lsm(a); INSERT INTO t VALUES (1)")
    for name in ("lsm_sstables", "lsm_levels", "lsm_wal"):
        assert db.execute(f"SELECT count(*) FROM {name}('aux')").get == (1 if name == "lsm_wal" else 0)
        assert db.execute(f"SELECT count(*) FROM {name} WHERE schema = 'aux'").get == (1 if name == "lsm_wal" else 0)
        with pytest.raises(UsageError):
            db.execute(f"SELECT * FROM {name}").fetchall()
        with pytest.raises(UsageError, match=name):
            db.execute(f"SELECT * FROM {name}(5)").fetchall()
        with pytest.raises(apsw.SQLError):
            db.execute(f"CREATE VIRTUAL TABLE x USING {name}")
    db.close()
