"""Measure the blob store: python -m benchmarks.blobs --megabytes 256

Values of 4, 64 and 512 KiB, half of each random and half of it zeros, written in batches of 4 MiB with one sync at the end, and read at random, each
by its key, and in batches of 32: this store, alone and with parity or encryption, SQLite and RocksDB in one run, on the same values, by turns.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from lsmsql.engine.blob import BlobPointer, SlotStore, StoreOptions, ValueStore
from lsmsql.engine.storage.filesystem import OsFileSystem
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.parity_scheme import ParityScheme

DATABASE = bytes(16)
SIZES = (4 << 10, 64 << 10, 512 << 10)
BATCH_BYTES = 4 << 20
READ_BATCH = 32


class Store(Protocol):
    """What is measured."""

    def write(self, first: int, values: list[bytes]) -> None: ...
    def sync(self) -> None: ...
    def read(self, key: int) -> bytes: ...
    def read_many(self, keys: list[int]) -> list[bytes]: ...
    def close(self) -> None: ...


class Slots:
    """This store."""

    def __init__(self, path: Path, parity: str = "none", encrypted: bool = False, direct: bool = False) -> None:
        keyring = Keyring(DATABASE, {1: bytes(32)}) if encrypted else None
        self.values = ValueStore(SlotStore(OsFileSystem(), str(path), DATABASE, keyring, StoreOptions(direct=direct)), DATABASE, keyring)
        self.parity = ParityScheme.parse(parity)
        self.pointers: list[BlobPointer] = []

    def write(self, first: int, values: list[bytes]) -> None:
        self.pointers += self.values.write(values, parity=self.parity)

    def sync(self) -> None:
        self.values.sync()

    def read(self, key: int) -> bytes:
        return self.values.read(self.pointers[key])

    def read_many(self, keys: list[int]) -> list[bytes]:
        return self.values.read_many([self.pointers[key] for key in keys])

    def close(self) -> None:
        self.values.close()


class SQLite:
    """Rows (id INTEGER PRIMARY KEY, value BLOB); WAL, synchronous NORMAL, mapped memory, a checkpoint at the end."""

    def __init__(self, path: Path, page_size: int) -> None:
        self.database = sqlite3.connect(path / "values.db", isolation_level=None)
        for pragma in (f"page_size={page_size}", "journal_mode=WAL", "synchronous=NORMAL", f"mmap_size={4 << 30}", f"cache_size=-{128 << 10}"):
            self.database.execute("PRAGMA " + pragma)
        self.database.execute("CREATE TABLE v(id INTEGER PRIMARY KEY, value BLOB)")

    def write(self, first: int, values: list[bytes]) -> None:
        self.database.execute("BEGIN")
        self.database.executemany("INSERT INTO v VALUES (?, ?)", enumerate(values, first))
        self.database.execute("COMMIT")

    def sync(self) -> None:
        self.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def read(self, key: int) -> bytes:
        value: bytes = self.database.execute("SELECT value FROM v WHERE id = ?", (key,)).fetchone()[0]
        return value

    def read_many(self, keys: list[int]) -> list[bytes]:
        marks = ",".join("?" * len(keys))
        found = dict(self.database.execute(f"SELECT id, value FROM v WHERE id IN ({marks})", keys))
        return [found[key] for key in keys]

    def close(self) -> None:
        self.database.close()


class RocksDB:
    """Raw mode; blobs: values apart from the keys, in blob files with zstd; else in the tables."""

    def __init__(self, path: Path, blobs: bool) -> None:
        from rocksdict import DBCompressionType, Options, Rdict

        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(64 << 20)
        if blobs:
            options.set_enable_blob_files(True)
            options.set_min_blob_size(1024)
            options.set_blob_compression_type(DBCompressionType.zstd())
        self.database = Rdict(str(path / "values"), options=options, column_families={"default": options})

    def write(self, first: int, values: list[bytes]) -> None:
        from rocksdict import WriteBatch

        batch = WriteBatch(raw_mode=True)
        for key, value in enumerate(values, first):
            batch.put(b"%08d" % key, value)
        self.database.write(batch)

    def sync(self) -> None:
        self.database.flush()

    def read(self, key: int) -> bytes:
        value: bytes = self.database.get(b"%08d" % key)
        return value

    def read_many(self, keys: list[int]) -> list[bytes]:
        found: list[bytes] = self.database.get([b"%08d" % key for key in keys])
        return found

    def close(self) -> None:
        self.database.close()


STORES: dict[str, Callable[[Path], Store]] = {
    "lsmsql": Slots,
    "lsmsql rs(4,2)": lambda path: Slots(path, "rs(4,2)"),
    "lsmsql encrypted": lambda path: Slots(path, encrypted=True),
    "lsmsql O_DIRECT": lambda path: Slots(path, direct=True),
    "sqlite 4 KiB": lambda path: SQLite(path, 4096),
    "sqlite 64 KiB": lambda path: SQLite(path, 65536),
    "rocksdb blobs": lambda path: RocksDB(path, True),
    "rocksdb": lambda path: RocksDB(path, False),
}
PEERS = ("sqlite 4 KiB", "sqlite 64 KiB", "rocksdb blobs", "rocksdb")


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Exit code 1 where this store writes or reads slower than the best peer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blobs", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256, help="of values for each size")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--stores", nargs="*", default=list(STORES))
    parser.add_argument("--incompressible", action="store_true", help="random values")
    parser.add_argument("--directory")
    given = parser.parse_args(arguments)
    behind = 0
    for size in SIZES:
        values = make_values(size, (given.megabytes << 20) // size, given.incompressible)
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in given.stores}
        for _ in range(given.repeat):
            for name in given.stores:
                with tempfile.TemporaryDirectory(dir=given.directory, prefix="lsmsql-blobs-") as directory:
                    found[name].append(measure(STORES[name](Path(directory)), values))
        medians = {name: tuple(map(statistics.median, zip(*runs, strict=True))) for name, runs in found.items()}
        print(f"values of {size >> 10} KiB, MB/s        write    read   read {READ_BATCH} at once")
        for name, speeds in medians.items():
            print(f"  {name:24}" + "".join(f"{speed:10,.0f}" for speed in speeds))
        peers = [medians[name] for name in PEERS if name in medians]
        if peers and "lsmsql" in medians:
            best = [max(speeds) for speeds in zip(*peers, strict=True)]
            behind += sum(mine < peer for mine, peer in zip(medians["lsmsql"], best, strict=True))
    return 1 if behind else 0


def make_values(size: int, count: int, incompressible: bool) -> list[bytes]:
    dice = random.Random(size)
    noise = dice.randbytes(size * 4)

    def value() -> bytes:
        start = dice.randrange(size * 2)
        return noise[start : start + size] if incompressible else noise[start : start + size // 2] + bytes(size - size // 2)

    return [value() for _ in range(count)]


def batches(values: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    step = max(1, BATCH_BYTES // len(values[0]))
    for first in range(0, len(values), step):
        yield first, values[first : first + step]


def measure(store: Store, values: list[bytes]) -> tuple[float, ...]:
    """MB/s of writing, reading one by one, and reading many at once."""
    total = sum(map(len, values)) / 1e6
    start = time.perf_counter()
    for first, batch in batches(values):
        store.write(first, batch)
    store.sync()
    wrote = time.perf_counter() - start
    keys = list(range(len(values)))
    random.Random(1).shuffle(keys)
    start = time.perf_counter()
    for key in keys:
        assert len(store.read(key)) == len(values[key])
    read = time.perf_counter() - start
    start = time.perf_counter()
    for first in range(0, len(keys), READ_BATCH):
        store.read_many(keys[first : first + READ_BATCH])
    many = time.perf_counter() - start
    assert store.read(keys[0]) == values[keys[0]]
    store.close()
    return total / wrote, total / read, total / many


if __name__ == "__main__":
    sys.exit(main())
