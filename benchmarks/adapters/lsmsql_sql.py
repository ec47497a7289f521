"""lsmsql through SQL: the same statements as SQLite's adapter, on a table USING lsm."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import apsw

from lsmsql import connect as connect_database

from .lsmsql_engine import PASSPHRASE, options
from .sqlite import SQLite


class LsmsqlSQL(SQLite):
    about = "APSW, CREATE VIRTUAL TABLE ... USING lsm, options of lsmsql, app.db in WAL with synchronous=NORMAL"
    distribution = "lsmsql"
    create = "CREATE VIRTUAL TABLE kv USING lsm(key BLOB PRIMARY KEY, value BLOB)"
    background_compaction = True
    key: ClassVar[str | None] = None

    def connect(self, path: Path) -> apsw.Connection:
        connection = connect_database(str(path / "app.db"), options=options, key=self.key)
        connection.pragma("synchronous", "normal")
        return connection

    def flush(self) -> None:
        self.connection.execute("SELECT lsm_flush()")

    def compact(self) -> None:
        self.connection.execute("SELECT lsm_compact()")


class LsmsqlSQLEncrypted(LsmsqlSQL):
    about = "as lsmsql-sql, with encryption on"
    key = PASSPHRASE
