"""A damaged byte anywhere, a lost sector anywhere behind the data: read through with the right answers, in every kind of table.

Without parity a damaged byte of a data block is corruption, for what lies in that block alone. LSMSQL_LONG=1 takes every byte and every sector."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from itertools import product

import pytest

from lsmsql.engine.kernel import BlockCache, Levels, Scan, get_many
from lsmsql.engine.sstable.reader import open_table
from lsmsql.engine.sstable.table_of_contents import SECTOR_BYTES, SectionType
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.storage.parity import Repairs
from lsmsql.errors import CorruptionError

from .sstable_world import DATABASE_ID, DIRECTORY, SMALL, close, contents_of, memory, new_keyring, rows, write

LONG = os.environ.get("LSMSQL_LONG") == "1"
PATH = f"{DIRECTORY}/000001.sst"
ITEMS = rows(60, width=30)
KEYS = [key for key, _ in ITEMS]
VALUES = [value for _, value in ITEMS]
ABSENT = [key + b"x" for key in KEYS[::7]]
LAYOUTS = {
    "full": {"index": "full", "filter_layout": "full"},
    "partitioned": {"index": "partitioned", "filter_layout": "partitioned", "partition_bytes": 150, "prefix": "fixed:12"},
}


class Campaign:
    """One table, and what is asked of it after each damage."""

    def __init__(self, compression: str, encrypted: bool, parity: str, layout: str) -> None:
        fs = memory()
        self.keyring = new_keyring(fs) if encrypted else None
        options = replace(SMALL, compression=compression, parity=parity, **LAYOUTS[layout])  # type: ignore[arg-type]
        (self.record,) = write(fs, [(5, ITEMS)], self.keyring, options)
        self.data = fs.read(PATH)
        self.protected = parity != "none"
        found = contents_of(self.data).find(SectionType.DATA)
        assert found is not None
        self.data_end = found.end

    def said(self, data: bytes) -> set[str]:
        """ "right", "wrong" or "corrupt": of gets one by one, of all at once, of scans either way and within a prefix."""
        fs = MemoryFileSystem({PATH: data})
        try:
            table = open_table(fs, DIRECTORY, self.record, self.keyring, BlockCache(0), database_id=DATABASE_ID, repairs=Repairs())
        except CorruptionError:
            return {"corrupt"}
        levels = Levels([[table]])
        last = 1 << 50
        questions = [
            (lambda: get_many([], levels, KEYS[::9], last), VALUES[::9]),
            (lambda: get_many([], levels, ABSENT, last), [None] * len(ABSENT)),
            (lambda: list(Scan([], levels, None, None, last, keep=False)), ITEMS),
            (lambda: list(Scan([], levels, KEYS[20], KEYS[40], last, reverse=True)), ITEMS[20:40][::-1]),
        ]
        said = set()
        for ask, right in questions:
            try:
                said.add("right" if ask() == right else "wrong")
            except CorruptionError:
                said.add("corrupt")
        close(table)
        return said


@pytest.mark.parametrize(
    ("compression", "encrypted", "parity", "layout"), list(product(("zstd", "none"), (False, True), ("none", "xor(4)", "rs(4,2)"), LAYOUTS))
)
def test_damage_is_read_through(compression: str, encrypted: bool, parity: str, layout: str) -> None:
    campaign = Campaign(compression, encrypted, parity, layout)
    data, rng = campaign.data, random.Random(f"{compression}{encrypted}{parity}{layout}")
    assert campaign.said(data) == {"right"}
    used = [offset for offset in range(len(data)) if data[offset] or offset < campaign.data_end]
    for offset in range(len(data)) if LONG else rng.sample(used, 60):
        bad = data[:offset] + bytes((data[offset] ^ rng.randrange(1, 256),)) + data[offset + 1 :]
        said = campaign.said(bad)
        if offset < campaign.data_end and not campaign.protected:
            assert "wrong" not in said and "corrupt" in said, f"byte {offset}"
        else:
            assert said == {"right"}, f"byte {offset}"
    starts = range(campaign.data_end, len(data))
    for start in starts if LONG else [campaign.data_end, *range(0, len(data), SECTOR_BYTES), *rng.sample(starts, 15)]:
        if start >= campaign.data_end and (start % SECTOR_BYTES == 0 or start + SECTOR_BYTES <= len(data) - 2 * SECTOR_BYTES):
            lost = data[:start] + rng.choice((b"\0", b"\xff")) * SECTOR_BYTES + data[start + SECTOR_BYTES :]
            assert campaign.said(lost[: len(data)]) == {"right"}, f"sector at {start}"
