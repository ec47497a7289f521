"""The systems by name, in the order of the report's columns. Each is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module

from .base import Adapter

SYSTEMS: dict[str, tuple[str, str]] = {
    "lsmsql": ("lsmsql_engine", "LsmsqlEngine"),
    "lsmsql-encrypted": ("lsmsql_engine", "LsmsqlEngineEncrypted"),
    "lsmsql-sql": ("lsmsql_sql", "LsmsqlSQL"),
    "lsmsql-sql-encrypted": ("lsmsql_sql", "LsmsqlSQLEncrypted"),
    "sqlite": ("sqlite", "SQLite"),
    "sqlite-tuned": ("sqlite", "SQLiteTuned"),
    "rocksdb": ("rocksdb", "RocksDB"),
    "rocksdb-tuned": ("rocksdb", "RocksDBTuned"),
    "leveldb": ("leveldb", "LevelDB"),
    "lmdb": ("lmdb_", "LMDB"),
    "lsm-db": ("lsm_db", "LSMDB"),
}

OURS = "lsmsql"
"""Systems whose name starts with this are lsmsql, the others are peers."""


def load(system: str) -> type[Adapter]:
    """The adapter class of a system; ImportError when its package is missing."""
    module, name = SYSTEMS[system]
    adapter: type[Adapter] = getattr(import_module(f".{module}", __name__), name)
    return adapter


def encrypted(system: str) -> str | None:
    """The name of a system's encrypted twin, None when it has none or is one."""
    twin = f"{system}-encrypted"
    return twin if twin in SYSTEMS else None
