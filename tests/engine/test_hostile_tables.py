"""Tables whose checksums are right and whose contents are not: CorruptionError, or answers as if that were meant; nothing else, in little memory."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lsmsql.engine.kernel import BlockCache, Levels, Scan, TableStream, decode_block, get_entry, get_many
from lsmsql.engine.manifest.version import TableRecord
from lsmsql.engine.sstable.properties import parse_properties
from lsmsql.engine.sstable.reader import open_table
from lsmsql.engine.sstable.table_of_contents import Section, SectionType, TableOfContents, mirror_gap, padding
from lsmsql.engine.storage.block_frame import FrameType, frame_payload, open_payload, peek_header
from lsmsql.engine.storage.compression import Codec, decompress
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.storage.parity import METADATA
from lsmsql.engine.table_dump import open_dump, verify_table
from lsmsql.errors import CorruptionError

from ..storage.dictionary_world import trained
from .sstable_world import DATABASE_ID, DIRECTORY, SMALL, close, contents_of, memory, rows, write

LONG = os.environ.get("LSMSQL_LONG") == "1"
PATH = f"{DIRECTORY}/000001.sst"
ITEMS = rows(60, width=30)
KEYS = [key for key, _ in ITEMS]
LAST = 1 << 50
ONCE = (SectionType.DATA, SectionType.FILTER, SectionType.FILTER_PARTITION)
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 20, 1 << 26, 1 << 30)
FORMS: dict[str, dict[str, Any]] = {
    "full": {},
    "dictionary": {},
    "parts": {"block_bytes": 1024, "block_parts": 4},
    "partitioned": {"index": "partitioned", "filter_layout": "partitioned", "partition_bytes": 150, "prefix": "fixed:12"},
    "partitioned parts": {"index": "partitioned", "partition_bytes": 150, "block_bytes": 768, "block_parts": 3},
    "burr": {"filter": "burr"},
    "rows": {"block_layout": "rows", "restart_interval": 3},
    "checksums": {"kv_checksums": "all"},
    "none": {"compression": "none"},
}


@dataclass
class Frame:
    """content: raw; of codecs that need another block to be decoded, the payload. original: what it was, and the payload then."""

    codec: int
    content: bytes
    original: tuple[bytes, bytes]
    raw_length: int
    dictionary: int

    @property
    def opened(self) -> bool:
        return self.codec in (Codec.NONE, Codec.ZSTD)

    def sealed(self, type: FrameType, ordinal: int) -> bytes:
        content, codec, length = self.content, Codec(self.codec), self.raw_length
        if content == self.original[0]:
            content = self.original[1]
        elif self.opened:
            codec, length = Codec.NONE, len(content)
        return frame_payload(type, content, length, codec, None, ordinal, self.dictionary, None if type == FrameType.DATA else METADATA)


@dataclass
class Taken:
    """A table taken apart, to be put together otherwise."""

    contents: TableOfContents
    sections: dict[SectionType, list[Frame]]
    record: TableRecord

    def copy(self) -> Taken:
        return replace(self, sections={type: [replace(frame) for frame in frames] for type, frames in self.sections.items()})

    def together(self) -> tuple[bytes, TableRecord]:
        """The file, and the record that a manifest would have of it. The index knows the sizes of the data frames, where it can."""
        self._tell_sizes()
        data, sections, again = b"", [], []
        for type, frames in self.sections.items():
            sealed = b"".join(frame.sealed(FrameType[type.name], number) for number, frame in enumerate(frames))
            sections.append(Section(type, 0, len(frames), len(data), len(sealed)))
            data += sealed
            again += [] if type in ONCE else [(type, len(frames), sealed)]
        data += bytes(mirror_gap([len(sealed) for _, _, sealed in again]))
        for type, count, sealed in again:
            sections.append(Section(type, 1, count, len(data), len(sealed)))
            data += sealed
        data += bytes(padding(len(data))) + replace(self.contents, sections=tuple(sections)).pack()
        return data, replace(self._record(), size=len(data))

    def _tell_sizes(self) -> None:
        if SectionType.INDEX_PARTITION in self.sections:
            return
        (index,), (properties,) = self.sections[SectionType.INDEX], self.sections[SectionType.PROPERTIES]
        sizes = [len(frame.sealed(FrameType.DATA, 0)) for frame in self.sections[SectionType.DATA]]
        if int.from_bytes(index.content[:4], "little") == len(sizes):
            index.content = index.content[:4] + struct.pack(f"<{len(sizes)}I", *sizes) + index.content[4 + 4 * len(sizes) :]
        try:
            properties.content = replace(parse_properties(properties.content), data_bytes=sum(sizes)).pack()
        except ValueError:
            pass

    def _record(self) -> TableRecord:
        try:
            found = parse_properties(self.sections[SectionType.PROPERTIES][0].content)
        except ValueError:
            return self.record
        names = ("entries", "tombstones", "smallest", "largest", "global_seqno", "tree_id")
        bounds = {name: getattr(found, name) + found.global_seqno for name in ("min_seqno", "max_seqno")}
        return replace(self.record, **{name: getattr(found, name) for name in names}, **bounds)


def taken_apart(form: str) -> Taken:
    fs = memory()
    dictionary = trained([b"".join(row) for row in ITEMS] * 4, 512) if form == "dictionary" else None
    (record,) = write(fs, [(5, ITEMS)], None, replace(SMALL, **FORMS[form]), dictionary)
    data = fs.read(PATH)
    contents = contents_of(data)
    sections: dict[SectionType, list[Frame]] = {}
    for section in contents.sections:
        if section.copy:
            continue
        at, frames = section.offset, sections.setdefault(section.type, [])
        parity = None if section.type == SectionType.DATA else METADATA
        for number in range(section.frames):
            peeked = peek_header(data[at : at + 40])
            assert peeked is not None
            header = peeked[0]
            size = header.frame_length + (parity.parity_length(header.frame_length) if parity else 0)
            stored = data[at : at + size]
            codec, length, payload = open_payload(PATH, at, stored, FrameType[section.type.name], None, number, parity, None, header.dictionary)
            opened = codec in (Codec.NONE, Codec.ZSTD)
            content = decompress(payload, codec, length) if opened else bytes(payload)
            frames.append(Frame(codec, content, (content, bytes(payload)), length, header.dictionary))
            at += size
    return Taken(contents, sections, record)


def outcomes(data: bytes, record: TableRecord) -> set[str]:
    """ "fine" or "corrupt", of every way to read; any other error goes through."""
    fs = MemoryFileSystem({PATH: data})
    found: set[str] = set()

    def ask(question: Callable[[], Any]) -> None:
        try:
            question()
            found.add("fine")
        except CorruptionError as error:
            assert error.path == PATH
            found.add("corrupt")

    for cache_bytes in (0, 1 << 20):
        try:
            table = open_table(fs, DIRECTORY, record, None, BlockCache(cache_bytes), database_id=DATABASE_ID)
        except CorruptionError as error:
            assert error.path == PATH
            found.add("corrupt")
            continue
        levels = Levels([[table]])
        ask(lambda levels=levels: get_many([], levels, [*KEYS[::5], b"", b"\xff" * 30], LAST))  # type: ignore[misc]
        ask(lambda table=table: [get_entry([], Levels([[], [table]]), key, LAST) for key in KEYS[::7]])  # type: ignore[misc]
        ask(lambda levels=levels: list(Scan([], levels, None, None, LAST)))  # type: ignore[misc]
        ask(lambda levels=levels: list(Scan([], levels, KEYS[20], KEYS[40], LAST, reverse=True, keep=False)))  # type: ignore[misc]
        for number in range(min(table.blocks, 40)):
            ask(lambda table=table, number=number: table.block(number).keys())  # type: ignore[misc]
            ask(lambda table=table, number=number: table.raw_block(number))  # type: ignore[misc]
        ask(lambda table=table: drained(table))  # type: ignore[misc]
        close(table)
    dump = open_dump(PATH, None, fs)
    try:
        found.add("corrupt" if verify_table(dump).problems else "fine")
        ask(lambda: list(dump.entries()))
        ask(dump.filter)
    finally:
        dump.close()
    return found


def drained(table: Any) -> None:
    stream = TableStream([table], floor=LAST, bottom=True, block_bytes=300, table_bytes=1 << 20, filter_bits=10, compression_level=1)
    while stream.next_chunk() is not None:
        pass


def changed(raw: bytes, rng: random.Random) -> bytes:
    bad = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(min(len(bad), rng.choice((8, 32, 1 << 20))) or 1)
        how = rng.randrange(7)
        if not bad or how == 0:
            bad[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif how == 1:
            bad[at] ^= 1 << rng.randrange(8)
        elif how == 2:
            bad[at : at + 4] = struct.pack("<I", rng.choice(NUMBERS))[: len(bad) - at]
        elif how == 3:
            bad[at : at + 8] = struct.pack("<Q", rng.choice((*NUMBERS, 1 << 56, 1 << 63, (1 << 64) - 1)))[: len(bad) - at]
        elif how == 4:
            del bad[at : at + rng.randrange(1, 9)]
        elif how == 5:
            number = int.from_bytes(bad[at : at + 4], "little") + rng.choice((-1, 1, 2))
            bad[at : at + 4] = (number % (1 << 32)).to_bytes(4, "little")[: len(bad) - at]
        else:
            bad[at] = rng.randrange(256)
    return bytes(bad)


@pytest.mark.parametrize("form", FORMS)
def test_contents_that_were_changed_before_they_were_sealed(form: str) -> None:
    taken = taken_apart(form)
    assert outcomes(*taken.together()) == {"fine"}
    rng = random.Random(zlib.crc32(form.encode()))
    seen: set[str] = set()
    for _ in range(3000 if LONG else 40):
        bad = taken.copy()
        frame = rng.choice(rng.choice(list(bad.sections.values())))
        frame.content = changed(frame.content, rng)
        if not frame.opened and rng.random() < 0.3:
            frame.raw_length = rng.choice(NUMBERS) % (1 << 30)
        seen |= outcomes(*bad.together())
    assert seen == {"fine", "corrupt"}


def refused(taken: Taken) -> None:
    data, record = taken.together()
    with pytest.raises(CorruptionError):
        open_table(MemoryFileSystem({PATH: data}), DIRECTORY, record, None, BlockCache(0), database_id=DATABASE_ID)


def test_more_blocks_than_their_bytes_can_hold_are_refused_before_they_take_memory() -> None:
    taken = taken_apart("partitioned")
    (top,) = taken.sections[SectionType.INDEX]
    count = int.from_bytes(top.content[:4], "little")
    blocks = struct.unpack_from(f"<{count}I", top.content, 4 + 4 * count)
    many = [(1 << 30) + number for number in blocks[:3]] + list(blocks[3:])
    top.content = top.content[: 4 + 4 * count] + struct.pack(f"<{count}I", *many) + top.content[4 + 8 * count :]
    (properties,) = taken.sections[SectionType.PROPERTIES]
    properties.content = replace(parse_properties(properties.content), blocks=sum(many)).pack()
    data, record = taken.together()
    whole = contents_of(data)
    sections = tuple(replace(one, frames=sum(many)) if one.type == SectionType.DATA else one for one in whole.sections)
    data = data[: -len(whole.pack())] + replace(whole, sections=sections).pack()
    with pytest.raises(CorruptionError, match="blocks"):
        open_table(MemoryFileSystem({PATH: data}), DIRECTORY, record, None, BlockCache(0), database_id=DATABASE_ID)


def test_a_block_whose_keys_would_take_gigabytes_is_refused() -> None:
    """Each key takes two bytes and shares 255 with the one before: a thousand times the block, and a million times its payload."""
    count = 1 << 21
    first = b"k" * 255
    shared = b"\0" + b"\xff" * (count - 1)
    lengths = b"\xff" + b"\0" * (count - 1)
    raw = struct.pack("<IBBBBQII", count, 1, 0, 0, 0, 5, 0, len(first)) + shared + lengths + first
    with pytest.raises(ValueError, match="keys"):
        decode_block(raw)
