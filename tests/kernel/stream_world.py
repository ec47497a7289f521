"""A small engine in memory for the tests of the stream kernels: tables made by TableStream, and an oracle that is a dict of versions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, NoReturn

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel._choice import compiled_kernels
from lsmsql.engine.kernel.chunk import Chunk, TableSummary
from lsmsql.engine.kernel.kinds import FilterKind, Kind
from lsmsql.engine.kernel.partitions import Partition
from lsmsql.engine.sstable.top_index import pack_top_index, parse_top_index
from lsmsql.engine.storage.block_frame import FrameType, frame_payload, open_payload
from lsmsql.engine.storage.dictionary import Dictionary
from lsmsql.engine.storage.encryption import _PLACE, NONCE_BYTES, FileCipher
from lsmsql.engine.storage.filesystem import Bytes
from lsmsql.engine.storage.parity import ParityScheme, Repairs
from lsmsql.errors import CorruptionError

TREE = 7
OTHER_TREE = 8
OVERHEAD = 28
PARITIES = 0, 0x103, 0x223  # none, xor(4), rs(4,2)
PREFIXES = 0, 0, 1 << 16 | 2, 1 << 16 | 12, 2 << 16 | ord("/"), 2 << 16  # of fixed length, up to a delimiter
Entry = tuple[bytes, int, int, bytes]  # key, seqno, kind, value


KERNELS = [pytest.param(plain, id="plain")]
if (_compiled := compiled_kernels()) is not None:
    KERNELS.append(pytest.param(_compiled, id="compiled"))
needs_compiled = pytest.mark.skipif(_compiled is None, reason="the compiled kernels are not built")


def compiled() -> ModuleType:
    assert _compiled is not None
    return _compiled


class PlacedCipher(FileCipher):
    """A cipher whose nonces are the ordinals, so that twins make the same bytes. Not for use: a nonce must never come twice."""

    def seal(self, section: int, ordinal: int, codec: int, dictionary: int, plain: Bytes) -> bytes:
        nonce = ordinal.to_bytes(NONCE_BYTES, "little")
        return nonce + self._encrypt(nonce, plain, self._prefix + _PLACE.pack(section, ordinal, codec, dictionary, self.epoch))


CIPHER = PlacedCipher(bytes(range(32)), bytes(range(16)), 9, 3)


class MemorySource:
    """A BlockSource over bytes. sealed: frames were made by `seal`."""

    def __init__(
        self,
        data: bytes,
        sealed: bool = False,
        parity: ParityScheme | None = None,
        dictionary: Dictionary | None = None,
        partitions: Sequence[Partition] = (),
        block_parts: int = 1,
    ) -> None:
        self.data = data
        self.dictionary = dictionary
        self.partitions = partitions
        self.block_parts = block_parts
        self.scheme = parity or ParityScheme()
        self.parity = self.scheme.code
        self.repairs = Repairs()
        self.cipher = CIPHER if sealed else None
        self.paranoid = False
        self.reads = 0
        self.on_read: Any = None

    def read(self, offset: int, size: int) -> bytes:
        self.reads += 1
        if self.on_read is not None:
            self.on_read()
        if offset + size > len(self.data):
            raise CorruptionError("memory", offset, "the file ends before")
        return self.data[offset : offset + size]

    def open(self, ordinal: int, offset: int, frame: bytes) -> tuple[int, int, bytes]:
        known = self.dictionary.id if self.dictionary else 0
        codec, raw_length, payload = open_payload("memory", offset, frame, FrameType.DATA, self.cipher, ordinal, self.scheme, self.repairs, known)
        return codec, raw_length, bytes(payload)

    def index_partition(self, number: int, parse: Callable[[bytes], Any]) -> Any:
        if self.on_read is not None:
            self.on_read()
        try:
            return parse(self.partitions[number].index)
        except ValueError as error:
            raise CorruptionError("memory", number, str(error)) from None

    def filter_partition(self, number: int, parse: Callable[[bytes], Any]) -> Any:
        if self.on_read is not None:
            self.on_read()
        return parse(self.partitions[number].filter)

    def damaged(self, offset: int, message: str) -> NoReturn:
        raise CorruptionError("memory", offset, message)


def seal(ordinal: int, payload: tuple[int, int, bytes], parity: ParityScheme | None = None, dictionary: int = 0) -> bytes:
    """The frame of a chunk's payload as a source with sealed=True opens it."""
    codec, raw_length, data = payload
    return frame_payload(FrameType.DATA, data, raw_length, codec, CIPHER, ordinal, dictionary, parity)


@dataclass
class FinishedTable:
    """What a stream made of one table: its frames, one after another, and its summary."""

    frames: bytes
    summary: TableSummary
    sealed: bool = False
    parity: ParityScheme = field(default_factory=ParityScheme)
    prefix: int = 0

    def open(self, kernels: Any, cache: Any, global_seqno: int = 0, paranoid: bool = True, **pins: Any) -> Any:
        parts = self.summary.partitions
        source = MemorySource(self.frames, self.sealed, self.parity, self.summary.dictionary, parts, self.summary.block_parts)
        source.paranoid = paranoid
        pins.setdefault("prefix", self.prefix)
        if not parts:
            return kernels.Table(source, self.summary.index, self.summary.filter, self.summary.smallest, cache, global_seqno, None, **pins)
        filters = [len(part.filter) or 1 for part in parts] if any(part.filter for part in parts) else []
        top = parse_top_index(pack_top_index(parts, [len(part.index) for part in parts], filters))
        return kernels.Table(source, top.index, self.summary.filter, self.summary.smallest, cache, global_seqno, top.partitions, **pins)


def drain(stream: Any, parity: int = 0) -> tuple[list[Chunk], list[FinishedTable]]:
    """Every chunk of a stream, and the tables that they make up. parity: the code that the stream was given."""
    scheme = ParityScheme.of_code(parity)
    chunks: list[Chunk] = []
    tables: list[FinishedTable] = []
    frames, blocks, sealed = b"", 0, False
    while (chunk := stream.next_chunk()) is not None:
        chunks.append(chunk)
        assert chunk.first_block == blocks
        sealed = sealed or bool(chunk.payloads)
        own = [seal(blocks + n, payload, scheme, chunk.dictionary) for n, payload in enumerate(chunk.payloads)]
        frames += chunk.frames + b"".join(own)
        blocks += len(own) if own else count_frames(chunk.frames, scheme)
        if chunk.table is not None:
            assert blocks == chunk.table.blocks
            assert len(frames) == chunk.table.data_bytes
            tables.append(FinishedTable(frames, chunk.table, sealed, scheme))
            frames, blocks, sealed = b"", 0, False
    assert not frames, "the last table has no summary"
    assert stream.next_chunk() is None
    return chunks, tables


def count_frames(frames: bytes, parity: ParityScheme) -> int:
    position = count = 0
    while position < len(frames):
        length = 40 + int.from_bytes(frames[position + 12 : position + 16], "little")
        position += length + parity.parity_length(length)
        count += 1
    assert position == len(frames)
    return count


SETTINGS: dict[str, Any] = {"floor": 0, "block_bytes": 300, "table_bytes": 1 << 30, "filter_bits": 10, "compression_level": 1}


def make_tables(kernels: Any, sources: Sequence[Any], **settings: Any) -> list[FinishedTable]:
    made = drain(kernels.TableStream(sources, **{**SETTINGS, **settings}), settings.get("parity", 0))[1]
    return [replace(table, prefix=settings.get("prefix", 0)) for table in made]


def make_arena(kernels: Any, commits: Iterable[tuple[int, Sequence[tuple[bytes, int, bytes]]]], tree: int = TREE) -> Any:
    """An arena holding commits: (seqno, operations of (key, kind, value)). Some noise goes to another tree."""
    arena = kernels.MemtableArena(1 << 14)
    for ordinal, (seqno, operations) in enumerate(commits):
        arena.begin()
        for number, (key, kind, value) in enumerate(operations):
            if number % 5 == 3:
                arena.put(OTHER_TREE, key + b"!", value)
            if kind == Kind.TOMBSTONE:
                arena.delete(tree, key)
            else:
                arena.put(tree, key, value)
        arena.seal(2, 1, ordinal, seqno, max(0, seqno - 1), 0)
        arena.index(seqno)
    return arena


def make_memtable(kernels: Any, entries: Iterable[Entry]) -> Any:
    """A memtable holding these entries, each at its own seqno."""
    by_seqno: dict[int, list[tuple[bytes, int, bytes]]] = {}
    for key, seqno, kind, value in entries:
        by_seqno.setdefault(seqno, []).append((key, kind, value))
    arena = make_arena(kernels, sorted(by_seqno.items()))
    memtable = arena.memtable(TREE)
    assert memtable is not None
    return memtable


def random_key(rng: random.Random, space: int) -> bytes:
    """Keys with shared prefixes, of many lengths, the empty one among them; `space` bounds how many there are."""
    number = rng.randrange(space)
    style = number % 7
    if style == 0:
        return b"a" * (number % 23)
    if style == 1:
        return b"prefix-shared-by-many/" + number.to_bytes(3, "big")
    if style == 2:
        return b"k" * 8 + bytes(number % 5) + b"%d" % number
    if style == 3:
        return b"L" * 270 + number.to_bytes(2, "big")
    return number.to_bytes(2 + number % 3, "big") + b"x" * (number % 11)


def random_value(rng: random.Random) -> bytes:
    length = rng.choice((0, 1, 10, 10, 10, 40, 300))
    return rng.randbytes(length) if rng.random() < 0.5 else bytes([rng.randrange(256)]) * length


def random_operations(rng: random.Random, space: int, count: int, tombstones: float) -> list[tuple[bytes, int, bytes]]:
    operations = []
    for _ in range(count):
        if rng.random() < tombstones:
            operations.append((random_key(rng, space), int(Kind.TOMBSTONE), b""))
        else:
            operations.append((random_key(rng, space), int(Kind.VALUE), random_value(rng)))
    return operations


def random_entries(rng: random.Random, space: int, commits: int, first_seqno: int = 1, tombstones: float = 0.25) -> list[Entry]:
    """Entries of successive commits, at most one per key and seqno."""
    found: dict[tuple[bytes, int], Entry] = {}
    for seqno in range(first_seqno, first_seqno + commits):
        for key, kind, value in random_operations(rng, space, rng.randrange(1, 12), tombstones):
            found[key, seqno] = (key, seqno, kind, value)
    return list(found.values())


@dataclass
class World:
    """The same history in a kernel's sources and in a dict: key -> [(seqno, kind, value)], oldest first."""

    kernels: Any
    cache: Any
    memtables: list[Any] = field(default_factory=list)
    levels: list[list[Any]] = field(default_factory=lambda: [[], [], []])
    versions: dict[bytes, list[tuple[int, int, bytes]]] = field(default_factory=dict)
    last: int = 0
    arenas: list[Any] = field(default_factory=list)

    def scan(self, lower: bytes | None = None, upper: bytes | None = None, seqno: int | None = None, **options: Any) -> Any:
        levels = self.kernels.Levels(self.levels)
        return self.kernels.Scan(self.memtables, levels, lower, upper, self.last if seqno is None else seqno, **options)

    def entries(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        seqno: int | None = None,
        *,
        reverse: bool = False,
        since: int = 0,
        limit: int | None = None,
    ) -> list[Entry]:
        """What a scan has to find, straight from the dict."""
        at = self.last if seqno is None else seqno
        found: list[Entry] = []
        for key in sorted(self.versions, reverse=reverse):
            if (lower is not None and key < lower) or (upper is not None and key >= upper):
                continue
            visible = [version for version in self.versions[key] if version[0] <= at]
            if visible and visible[-1][1] == Kind.VALUE and visible[-1][0] > since:
                found.append((key, *visible[-1]))
        return found[:limit]

    def rows(self, *arguments: Any, **options: Any) -> list[tuple[bytes, bytes]]:
        return [(entry[0], entry[3]) for entry in self.entries(*arguments, **options)]


def make_world(kernels: Any, seed: int, space: int = 400, commits: int = 60, cache_bytes: int = 1 << 22, **settings: Any) -> World:
    """A history spread at random over levels, L0 tables, an ingested table, a sealed memtable and a live one. All of it is kept.

    Tables have blocks of columns and of rows, and an index that is partitioned or not, if the settings do not say which."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    world = World(kernels, kernels.BlockCache(cache_bytes))
    settings = {"block_bytes": rng.choice((1, 200, 600)), "table_bytes": rng.choice((700, 3000, 1 << 30)), **settings}
    settings.setdefault("overhead", rng.choice((0, OVERHEAD)))
    settings.setdefault("filter_kind", FilterKind(seed % 3))
    layouts, partitions = random.Random(seed + 1), random.Random(seed + 2)
    settings.setdefault("parity", rng.choice(PARITIES))
    settings.setdefault("checked", layouts.choice((False, True)))
    settings.setdefault("block_parts", random.Random(seed + 3).choice((1, 2, 7)) if settings.get("compression_level", 1) else 1)
    for part in range(5):
        history = []
        for _ in range(commits):
            world.last += 1
            operations = random_operations(rng, space, rng.randrange(1, 12), 0.3)
            history.append((world.last, operations))
            for key, kind, value in {operation[0]: operation for operation in operations}.values():
                world.versions.setdefault(key, []).append((world.last, kind, value))
        arena = make_arena(kernels, history)
        world.arenas.append(arena)
        memtable = arena.memtable(TREE)
        if part >= 3:
            world.memtables.insert(0, memtable)
            continue
        layout = {"restart_interval": layouts.choice((0, 1, 4, 16)), "hash_ratio": layouts.choice((0.0, 0.75)), **settings}
        cut = {
            "partition_bytes": partitions.choice((0, 1, 60, 200)),
            "full_filter": partitions.random() < 0.3,
            "spill_bytes": partitions.choice((0, 80)),
        }
        layout = {**cut, **layout}
        made = make_tables(kernels, [memtable], **layout)
        if part < 2:
            made = make_tables(kernels, [*(table.open(kernels, world.cache) for table in made), *world.levels[2 - part]], **layout)
            world.levels[2 - part] = [table.open(kernels, world.cache) for table in made]
        else:
            world.levels[0] = [table.open(kernels, world.cache) for table in reversed(made)]
            _ingest(world, rng, space)
    return world


def _ingest(world: World, rng: random.Random, space: int) -> None:
    world.last += 1
    rows = {random_key(rng, space): random_value(rng) for _ in range(space // 4)}
    made = make_tables(world.kernels, [world.kernels.SortedRows(sorted(rows.items()))], restart_interval=world.last % 3)
    world.levels[0].insert(0, made[0].open(world.kernels, world.cache, world.last))
    for key, value in rows.items():
        world.versions.setdefault(key, []).append((world.last, int(Kind.VALUE), value))


def some_bounds(rng: random.Random, space: int) -> tuple[bytes | None, bytes | None]:
    """Random bounds: open, crossed, equal, on a key or beside one."""
    bounds = [None if rng.random() < 0.25 else random_key(rng, space) + rng.choice((b"", b"", b"\0")) for _ in range(2)]
    if None not in bounds and rng.random() < 0.8:
        bounds.sort()  # type: ignore[type-var]
    return bounds[0], bounds[1]
