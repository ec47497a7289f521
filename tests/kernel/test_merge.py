"""The merge under keys made to be mistaken for each other: equal in their first 8 bytes, prefixes of one another, padded with zeros."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from lsmsql.engine.kernel.kinds import Kind

from .stream_world import KERNELS, Entry, drain, make_memtable, make_tables

KEYS = st.one_of(
    st.sampled_from([b"", b"\0", b"\0\0", b"a", b"a\0", b"a" * 8, b"a" * 8 + b"\0", b"a" * 9, b"a" * 7, b"\xff" * 8, b"\xff" * 9, b"\xff" * 7]),
    st.binary(max_size=3).map(lambda tail: b"aaaaaaaa" + tail),
    st.binary(max_size=10),
)
ENTRIES = st.dictionaries(
    st.tuples(KEYS, st.integers(1, 12)), st.tuples(st.sampled_from([Kind.VALUE, Kind.VALUE, Kind.TOMBSTONE]), st.integers(0, 9)), max_size=40
)
WAYS = st.lists(st.sampled_from(["memtable", "table", "run"]), min_size=12, max_size=12)
BOUNDS = st.one_of(st.none(), KEYS)


def entries_from(drawn: dict[tuple[bytes, int], tuple[Kind, int]]) -> list[Entry]:
    return [(key, seqno, int(kind), b"%d" % number if kind == Kind.VALUE else b"") for (key, seqno), (kind, number) in drawn.items()]


def deal(entries: list[Entry], places: int) -> list[list[Entry]]:
    """The entries in `places` hands, a version's hand being decided by its seqno, so that no two hands hold the same (key, seqno)."""
    hands: list[list[Entry]] = [[] for _ in range(places)]
    for entry in entries:
        hands[entry[1] % places].append(entry)
    return [hand for hand in hands if hand]


def expected_rows(entries: list[Entry], lower: bytes | None, upper: bytes | None, seqno: int, since: int) -> list[tuple[bytes, bytes]]:
    newest: dict[bytes, Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry[1]):
        if entry[1] <= seqno:
            newest[entry[0]] = entry
    return [
        (key, entry[3])
        for key, entry in sorted(newest.items())
        if entry[2] == Kind.VALUE and entry[1] > since and (lower is None or key >= lower) and (upper is None or key < upper)
    ]


@pytest.mark.parametrize("kernels", KERNELS)
@hypothesis.settings(max_examples=250)
@hypothesis.given(ENTRIES, WAYS, st.integers(1, 6), BOUNDS, BOUNDS, st.integers(0, 13), st.integers(0, 6), st.booleans(), st.integers(1, 60))
def test_scans_merge_any_sources(
    kernels: ModuleType,
    drawn: dict[tuple[bytes, int], tuple[Kind, int]],
    ways: list[str],
    places: int,
    lower: bytes | None,
    upper: bytes | None,
    seqno: int,
    since: int,
    reverse: bool,
    block_bytes: int,
) -> None:
    entries = entries_from(drawn)
    cache = kernels.BlockCache(2000)
    memtables: list[Any] = []
    tables: list[Any] = []
    runs: list[list[Any]] = []
    for hand, way in zip(deal(entries, places), ways, strict=False):
        memtable = make_memtable(kernels, hand)
        if way == "memtable":
            memtables.append(memtable)
            continue
        made = make_tables(kernels, [memtable], block_bytes=block_bytes, table_bytes=1 if way == "run" else 1 << 30)
        opened = [table.open(kernels, cache) for table in made]
        if way == "run":
            runs.append(opened)
        else:
            tables.extend(opened)
    levels = kernels.Levels([tables, *runs])
    scan = kernels.Scan(memtables, levels, lower, upper, seqno, reverse=reverse, since=since, keep=block_bytes % 2 == 0)
    found: list[tuple[bytes, bytes]] = []
    while rows := scan.fill(3):
        found += rows
    expected = expected_rows(entries, lower, upper, seqno, since)
    assert found == (expected[::-1] if reverse else expected)


@pytest.mark.parametrize("kernels", KERNELS)
@hypothesis.settings(max_examples=150)
@hypothesis.given(ENTRIES, WAYS, st.integers(1, 6), st.integers(1, 60))
def test_streams_merge_any_sources(
    kernels: ModuleType, drawn: dict[tuple[bytes, int], tuple[Kind, int]], ways: list[str], places: int, block_bytes: int
) -> None:
    """Merging what was dealt into several sources makes the same tables as streaming it from one."""
    entries = entries_from(drawn)
    if not entries:
        return
    cache = kernels.BlockCache(0)
    sources: list[Any] = []
    for hand, way in zip(deal(entries, places), ways, strict=False):
        memtable = make_memtable(kernels, hand)
        if way == "memtable":
            sources.append(memtable)
            continue
        made = make_tables(kernels, [memtable], block_bytes=block_bytes, table_bytes=1 if way == "run" else 1 << 30)
        opened = [table.open(kernels, cache) for table in made]
        sources += [opened] if way == "run" else opened
    settings: dict[str, Any] = {"floor": 4, "snapshots": [2], "bottom": places % 2 == 0, "filter_bits": 8, "compression_level": 0}
    settings |= {"block_bytes": block_bytes, "table_bytes": 200}
    merged = drain(kernels.TableStream(sources, **settings))
    assert merged == drain(kernels.TableStream([make_memtable(kernels, entries)], **settings))
