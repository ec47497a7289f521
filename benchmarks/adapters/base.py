"""What the workloads need from a system."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from ..data import BATCH, Row

CACHE_BYTES = 128 << 20
"""Block or page cache of lsmsql and of the tuned peers."""


class Adapter(ABC):
    """One open database of one system. Nobody syncs per write; keys and values are bytes.

    about: the settings, for the report.  distribution: the package that brings it, for its version.
    sql: `connection` is an apsw.Connection with the rows in a table kv(key, value).
    background_compaction: merges files while the caller reads and writes.
    A subclass may set put, get and scan on the instance, to spare the call of a wrapper.
    """

    about: ClassVar[str]
    distribution: ClassVar[str]
    sql: ClassVar[bool] = False
    background_compaction: ClassVar[bool] = False
    connection: Any = None

    @abstractmethod
    def __init__(self, path: Path) -> None:
        """Open the database in directory `path`, which exists; creates it when the directory is empty."""

    @abstractmethod
    def put(self, key: bytes, value: bytes) -> Any:
        """Write one row in a transaction of its own."""

    @abstractmethod
    def put_many(self, rows: list[Row]) -> Any:
        """Write the rows in one transaction."""

    def ingest(self, rows: list[Row]) -> None:
        """Write many rows in key order, greater than every key present, in the fastest way the system has."""
        for start in range(0, len(rows), BATCH):
            self.put_many(rows[start : start + BATCH])

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None when absent."""

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The values of the keys, in their order."""
        return [self.get(key) for key in keys]

    @abstractmethod
    def scan_all(self) -> Iterator[Row]:
        """Every row in key order."""

    @abstractmethod
    def scan_from(self, key: bytes) -> Iterator[Row]:
        """The rows from the first whose key is not less than `key`, in key order."""

    def scan(self, key: bytes, limit: int) -> list[Row]:
        """The first `limit` rows of `scan_from(key)`."""
        return list(itertools.islice(self.scan_from(key), limit))

    @abstractmethod
    def flush(self) -> Any:
        """Bring what was written from memory and log to the data files."""

    @abstractmethod
    def compact(self) -> Any:
        """Make the files as small as the system can."""

    @abstractmethod
    def close(self) -> Any:
        """Release the files."""
