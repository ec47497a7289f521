"""Verifying an SSTable: every checksum, and everything that its parts say of each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ...errors import CorruptionError
from ...parity_scheme import ParityScheme
from ..kernel import Kind, decode_block, has_checks, may_contain, verify_block
from ..kernel.kinds import DUPLICATES
from ..storage.parity import METADATA, add_parity
from .dump import Entry, IndexEntry, TableDump
from .properties import Properties
from .table_of_contents import CONTENTS_BYTES, SECTOR_BYTES


@dataclass
class Verified:
    """What verifying has read. checked: entries that were held to checksums of their own. problems: in the order in which they were found, what is
    damaged, repairable or not, each with the place."""

    blocks: int = 0
    entries: int = 0
    checked: int = 0
    problems: list[CorruptionError] = field(default_factory=list)


@dataclass
class _Totals:
    """What the entries amount to, in the terms of the properties."""

    entries: int = 0
    keys: int = 0
    tombstones: int = 0
    raw_bytes: int = 0
    min_seqno: int = 1 << 64
    max_seqno: int = 0
    kind_mask: int = 0
    smallest: bytes = b""
    last: Entry | None = None

    def add(self, entry: Entry) -> None:
        self.smallest = entry.key if self.last is None else self.smallest
        self.keys += self.last is None or entry.key != self.last.key
        self.entries += 1
        self.tombstones += entry.kind == Kind.TOMBSTONE
        self.raw_bytes += len(entry.key) + len(entry.value)
        self.min_seqno, self.max_seqno = min(self.min_seqno, entry.seqno), max(self.max_seqno, entry.seqno)
        self.kind_mask |= 1 << entry.kind
        self.last = entry


def verify_table(dump: TableDump) -> Verified:
    """Read all of a table and hold it against itself. Nothing is raised for damage; KeyUnavailableError where the key is needed and missing."""
    found = Verified()
    note = found.problems.append
    try:
        contents = dump.contents()
        list(dump.sections())
        list(dump.blocks())
        properties = dump.properties()
        index = dump.index()
        fragments, blobs = dump.range_tombstones(), dump.blob_files()
        every = dump.filters()
        dictionary = dump.dictionary()
    except CorruptionError as error:
        dump.note(error)
        found.problems += dump.damage
        return found
    if contents.database_id != properties.database_id or contents.file_id != properties.file_id:
        note(CorruptionError(dump.path, None, "table of contents and properties are of different files"))
    if (len(fragments), len(blobs)) != (properties.range_tombstones, properties.blob_files):
        note(CorruptionError(dump.path, None, "range tombstones or linked blob files are not as many as the properties say"))
    if properties.dictionary_id != (dictionary.id if dictionary else 0):
        note(CorruptionError(dump.path, None, "the dictionary is not the one that the properties name"))
    totals, filters = _Totals(), (raw for raw, blocks in every for _ in range(blocks))  # One by one: `blocks` may be anything.
    for number, place in enumerate(index):
        try:
            _verify_block(dump, found, totals, number, place, next(filters, b""))
        except CorruptionError as error:
            dump.note(error)
    found.problems[:0] = dump.damage
    found.problems += [CorruptionError(path, offset, "damaged, and read by its parity or its mirror") for path, offset in dump.repairs.places]
    found.problems += _damaged_parity(dump, index, properties)
    found.problems += _differing_mirrors(dump)
    if not found.problems:
        found.problems += _contradictions(dump, totals, index, properties)
    return found


def _verify_block(dump: TableDump, found: Verified, totals: _Totals, number: int, place: IndexEntry, raw_filter: bytes) -> None:
    """One block against its checksums, the index and the filter; CorruptionError for the first thing wrong."""

    def require(fine: bool, message: str) -> None:
        if not fine:
            raise CorruptionError(dump.path, place.offset, message)

    raw = dump.raw(number)
    try:
        block = decode_block(raw)
        verify_block(raw, block)
    except ValueError as error:
        raise CorruptionError(dump.path, place.offset, str(error)) from None
    entries = [Entry(number, *entry) for entry in zip(block.keys(), block.seqnos(), block.kinds(), block.values(), strict=True)]
    found.blocks += 1
    found.entries += len(entries)
    require(has_checks(raw) == bool(dump.properties().kv_checksums), "checksums of the entries are there or not, but the properties say otherwise")
    found.checked += len(entries) if has_checks(raw) else 0
    seqnos = [entry.seqno for entry in entries]
    mask = 0
    before = totals.last
    for entry in entries:
        if before is not None:
            require((before.key, -before.seqno) < (entry.key, -entry.seqno), f"entry of key {entry.key[:100]!r} out of order")
            if before.key == entry.key:
                mask |= DUPLICATES
        mask |= 1 << entry.kind
        if before is None or before.key != entry.key:  # A key is in the filter of the partition in which it begins.
            try:
                fits = may_contain(raw_filter, entry.key)
            except ValueError as error:
                raise CorruptionError(dump.path, None, f"filter makes no sense: {error}") from None
            require(fits, f"the filter denies key {entry.key[:100]!r}")
        totals.add(entry)
        before = entry
    described = len(entries), min(seqnos), max(seqnos), entries[-1].key
    require(described == (place.entries, place.min_seqno, place.max_seqno, place.last_key), "data block is not the one the index describes")
    require(mask & ~place.kind_mask == 0 and place.kind_mask & ~(mask | DUPLICATES) == 0, "data block has other kinds than the index says")


def _damaged_parity(dump: TableDump, index: list[IndexEntry], properties: Properties) -> Iterator[CorruptionError]:
    """Parity that does not belong to its frame, where the frame itself is whole: no read notices it."""
    scheme = ParityScheme.of_code(properties.parity)
    frames = [(offset, size, METADATA) for offset, size in dump.metadata_frames()]
    frames += [(place.offset, place.size, scheme) for place in index if scheme]
    known = {error.offset for error in dump.damage} | {offset for _, offset in dump.repairs.places}
    for offset, size, parity in sorted(frames, key=lambda frame: frame[0]):
        stored = dump.file.read_at(offset, size)
        if offset not in known and add_parity(parity, stored[: parity.frame_length(size)]) != stored:
            yield CorruptionError(dump.path, offset, "the parity behind a frame that is whole is damaged")


def _differing_mirrors(dump: TableDump) -> Iterator[CorruptionError]:
    """What no read looks at while the other copy is whole: the first of the last two sectors, and zeros that are none."""
    start = dump.size - CONTENTS_BYTES
    sectors = dump.file.read_at(start, CONTENTS_BYTES)
    if sectors[:SECTOR_BYTES] != sectors[SECTOR_BYTES:] and not any(offset >= start for _, offset in dump.repairs.places):
        yield CorruptionError(dump.path, start, "the two tables of contents differ")
    end = 0
    for section in dump.contents().sections:
        if any(dump.file.read_at(end, section.offset - end)):
            yield CorruptionError(dump.path, end, "what should be zeros is not")
        end = section.end
    if any(dump.file.read_at(end, start - end)):
        yield CorruptionError(dump.path, end, "what should be zeros is not")


def _contradictions(dump: TableDump, totals: _Totals, index: list[IndexEntry], properties: Properties) -> Iterator[CorruptionError]:
    """Where the properties are not what the entries amount to."""
    fragments = dump.range_tombstones()
    assert totals.last is not None
    seqnos = [totals.min_seqno, totals.max_seqno, *(seqno for fragment in fragments for seqno in fragment.seqnos)]
    pairs = {
        "blocks": (properties.blocks, len(index)),
        "data bytes": (properties.data_bytes, sum(place.size for place in index)),
        "entries": (properties.entries, totals.entries),
        "keys": (properties.keys, totals.keys),
        "tombstones": (properties.tombstones, totals.tombstones),
        "raw bytes": (properties.raw_bytes, totals.raw_bytes),
        "kinds": (properties.kind_mask, totals.kind_mask),
        "smallest seqno": (properties.min_seqno, min(seqnos)),
        "largest seqno": (properties.max_seqno, max(seqnos)),
        "smallest key": (properties.smallest, min([totals.smallest, *(fragment.start for fragment in fragments)])),
        "largest key": (properties.largest, max([totals.last.key, *(fragment.end for fragment in fragments)])),
    }
    for name, (said, is_so) in pairs.items():
        if said != is_so:
            yield CorruptionError(dump.path, None, f"{name}: the properties say {said!r}, but it is {is_so!r}")
