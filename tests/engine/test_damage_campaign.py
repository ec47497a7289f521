"""A damaged byte anywhere, a lost sector anywhere behind the data: read through with the right answers, in every kind of table.

Without parity a damaged byte of a data block is corruption, for what lies in that block alone, and in the parts that are compressed against it.
LSMSQL_LONG=1 takes every byte that the intact table's answers were read from (no answer depends on another), but of the zeros in the tables of
contents only some; and a sector lost at every place where it meets other sections than one a byte before."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from lsmsql.engine.kernel import BlockCache, Levels, Scan, get_many
from lsmsql.engine.sstable.reader import open_table
from lsmsql.engine.sstable.table_of_contents import SECTOR_BYTES, SectionType
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.storage.parity import Repairs
from lsmsql.errors import CorruptionError

from ..storage.dictionary_world import trained
from .sstable_world import DATABASE_ID, DIRECTORY, SMALL, close, contents_of, memory, new_keyring, rows, write

LONG = os.environ.get("LSMSQL_LONG") == "1"
PATH = f"{DIRECTORY}/000001.sst"
ITEMS = rows(60, width=30)
KEYS = [key for key, _ in ITEMS]
VALUES = [value for _, value in ITEMS]
ABSENT = [key + b"x" for key in KEYS[::7]]
FORMS = {
    "zstd": {"compression": "zstd"},
    "dictionary": {"compression": "zstd"},
    "parts": {"compression": "zstd", "block_bytes": 1024, "block_parts": 4},
    "none": {"compression": "none"},
}
LAYOUTS = {
    "full": {"index": "full", "filter_layout": "full"},
    "partitioned": {"index": "partitioned", "filter_layout": "partitioned", "partition_bytes": 150, "prefix": "fixed:12"},
}


class Watched(MemoryFileSystem):
    """One file, and which of its bytes were read."""

    def __init__(self, data: bytes) -> None:
        super().__init__({PATH: data})
        self.read_bytes: set[int] = set()

    def open(self, path: str) -> Any:
        file = super().open(path)
        read_at = file.read_at

        def watched(offset: int, size: int) -> bytes:
            self.read_bytes.update(range(offset, offset + size))
            return bytes(read_at(offset, size))

        return SimpleNamespace(path=file.path, size=file.size, read_at=watched, close=file.close)


class Campaign:
    """One table, and what is asked of it after each damage."""

    def __init__(self, form: str, encrypted: bool, parity: str, layout: str) -> None:
        fs = memory()
        self.keyring = new_keyring(fs) if encrypted else None
        options = replace(SMALL, parity=parity, **FORMS[form], **LAYOUTS[layout])  # type: ignore[arg-type]
        dictionary = trained([b"".join(row) for row in ITEMS] * 4, 512) if form == "dictionary" else None
        (self.record,) = write(fs, [(5, ITEMS)], self.keyring, options, dictionary)
        self.data = fs.read(PATH)
        self.protected = parity != "none"
        self.contents = contents_of(self.data)
        found = self.contents.find(SectionType.DATA)
        assert found is not None and found.frames > 4
        assert (self.contents.find(SectionType.DICTIONARY) is not None) == (form == "dictionary")
        self.data_end = found.end
        self.watched = Watched(self.data)
        assert self.asked(self.watched) == {"right"}

    def bytes_to_damage(self) -> list[int]:
        """Every byte that an answer depends on, but of zeros behind the data one in 61."""
        return [offset for offset in sorted(self.watched.read_bytes) if self.data[offset] or offset < self.data_end or offset % 61 == 0]

    def sectors_to_lose(self) -> list[int]:
        """Where a lost sector may begin: on a multiple of its length, and wherever it begins to meet a section, or meets one no more."""
        size = len(self.data)
        edges = {edge for section in self.contents.sections for edge in (section.offset, section.end)}
        starts = {edge + more for edge in edges for more in (-SECTOR_BYTES - 1, -SECTOR_BYTES, 1 - SECTOR_BYTES, -1, 0, 1)}
        behind = {start for start in starts if self.data_end <= start <= size - 3 * SECTOR_BYTES}
        return sorted(behind | {start for start in range(0, size, SECTOR_BYTES) if start >= self.data_end})

    def said(self, data: bytes) -> set[str]:
        """ "right", "wrong" or "corrupt": of gets, of scans either way and within a prefix."""
        return self.asked(MemoryFileSystem({PATH: data}))

    def asked(self, fs: MemoryFileSystem) -> set[str]:
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


@pytest.mark.parametrize(("form", "encrypted", "parity", "layout"), list(product(FORMS, (False, True), ("none", "xor(4)", "rs(4,2)"), LAYOUTS)))
def test_damage_is_read_through(form: str, encrypted: bool, parity: str, layout: str) -> None:
    campaign = Campaign(form, encrypted, parity, layout)
    data, rng = campaign.data, random.Random(f"{form}{encrypted}{parity}{layout}")
    offsets = campaign.bytes_to_damage()
    for offset in offsets if LONG else rng.sample(offsets, 40):
        bad = data[:offset] + bytes((data[offset] ^ rng.randrange(1, 256),)) + data[offset + 1 :]
        said = campaign.said(bad)
        if offset < campaign.data_end and not campaign.protected:
            assert "wrong" not in said and "corrupt" in said, f"byte {offset}"
        else:
            assert said == {"right"}, f"byte {offset}"
    starts = campaign.sectors_to_lose()
    for start in starts if LONG else rng.sample(starts, 12):
        lost = data[:start] + rng.choice((b"\0", b"\xff")) * SECTOR_BYTES + data[start + SECTOR_BYTES :]
        assert campaign.said(lost[: len(data)]) == {"right"}, f"sector at {start}"
