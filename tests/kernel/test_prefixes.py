"""Prefixes in filters: what a scan passes over for them, and that it never passes over anything else."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lsmsql.engine.kernel import plain
from lsmsql.engine.kernel.kinds import FilterKind, Kind
from lsmsql.errors import UsageError
from lsmsql.prefix_extractor import PrefixExtractor

from .stream_world import KERNELS, compiled, make_memtable, make_tables, needs_compiled, random_entries

LAST = 1 << 50
FIXED, SLASH = PrefixExtractor.parse("fixed:4"), PrefixExtractor.parse("delimiter:/")


def test_a_text_is_an_extractor() -> None:
    for text, code in (("none", 0), ("fixed:1", 1 << 16 | 1), ("fixed:65535", 0x1FFFF), ("delimiter:/", 2 << 16 | 47), ("delimiter:0x00", 2 << 16)):
        extractor = PrefixExtractor.parse(text)
        assert extractor.code == code and PrefixExtractor.of_code(code) == extractor
    for text in ("", "fixed", "fixed:0", "fixed:65536", "fixed:-1", "delimiter:", "delimiter: ", "delimiter:ab", "delimiter:0x1", "None", 4):
        with pytest.raises(UsageError, match="a prefix is"):
            PrefixExtractor.parse(text)  # type: ignore[arg-type]
    for code in (-1, 1, 1 << 16, 2 << 16 | 256, 3 << 16):
        with pytest.raises(ValueError, match="no prefix extractor"):
            PrefixExtractor.of_code(code)


def test_a_range_lies_in_a_prefix_or_not() -> None:
    inside: list[tuple[PrefixExtractor, bytes | None, bytes | None, bytes | None]] = [
        (FIXED, b"abcd", b"abce", b"abcd"),
        (FIXED, b"abcdx", b"abcdy", b"abcd"),
        (FIXED, b"abcdx", b"abce\0", None),
        (FIXED, b"abcdx", b"abd", None),
        (FIXED, b"abcd", None, None),
        (FIXED, b"abc", b"abcd", None),
        (FIXED, None, b"abcd", None),
        (FIXED, b"abc\xff", b"abd", b"abc\xff"),
        (FIXED, b"abc\xff", b"abc\xff\xff\xff", b"abc\xff"),
        (FIXED, b"\xff\xff\xff\xff", None, b"\xff" * 4),
        (FIXED, b"\xff" * 5, b"\xff" * 9, b"\xff" * 4),
        (SLASH, b"a/", b"a0", b"a/"),
        (SLASH, b"a/b/c", b"a/b/d", b"a/"),
        (SLASH, b"a", b"a/", None),
        (SLASH, b"/", b"0", b"/"),
        (PrefixExtractor(), b"abcd", b"abce", None),
    ]
    for extractor, lower, upper, prefix in inside:
        assert extractor.prefix_of_range(lower, upper) == prefix, (lower, upper)


@needs_compiled
@pytest.mark.parametrize("seed", range(12))
def test_the_twins_build_the_same_filters(seed: int) -> None:
    rng = random.Random(seed)
    entries = random_entries(rng, 200, 60)
    settings: dict[str, Any] = {
        "prefix": rng.choice((FIXED, SLASH, PrefixExtractor.parse("fixed:1"), PrefixExtractor.parse("delimiter:0x00"))).code,
        "partition_bytes": rng.choice((0, 60, 200)),
        "filter_kind": rng.choice((FilterKind.BLOOM, FilterKind.BURR)),
        "full_filter": rng.random() < 0.3,
    }
    made = [make_tables(kernels, [make_memtable(kernels, entries)], **settings) for kernels in (plain, compiled())]
    assert [table.summary for table in made[0]] == [table.summary for table in made[1]]
    assert made[0][0].summary.keys == len({key for key, *_ in entries})


def paths(users: range) -> list[tuple[bytes, bytes]]:
    return [(b"user%04d/file%02d" % (user, file), b"%d" % file) for user in users for file in range(9)]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("settings", [{}, {"partition_bytes": 150}, {"partition_bytes": 150, "full_filter": True}], ids=["full", "cut", "one filter"])
@pytest.mark.parametrize("filter_kind", [FilterKind.BLOOM, FilterKind.BURR, FilterKind.NONE])
@pytest.mark.parametrize("extractor", ["fixed:8", "delimiter:/", "none"])
def test_a_scan_passes_over_tables_without_its_prefix(kernels: Any, settings: dict[str, Any], filter_kind: FilterKind, extractor: str) -> None:
    cache = kernels.BlockCache(1 << 20)
    rows = [paths(range(start, 100, 5)) for start in range(5)]
    code = PrefixExtractor.parse(extractor).code
    tables = [
        make_tables(kernels, [kernels.SortedRows(some)], prefix=code, filter_kind=filter_kind, **settings)[0].open(kernels, cache) for some in rows
    ]
    levels = kernels.Levels([tables[:3], tables[3:4], tables[4:]])
    everything = sorted(row for some in rows for row in some)
    helps = code != 0 and filter_kind != FilterKind.NONE
    read = 0
    for user in range(0, 100, 3):
        lower, upper = b"user%04d/" % user, b"user%04d0" % user
        wanted = [row for row in everything if lower <= row[0] < upper]
        for reverse in (False, True):
            for table in tables:
                table.release()
            before = cache.misses
            assert list(kernels.Scan([], levels, lower, upper, LAST, reverse=reverse)) == (wanted[::-1] if reverse else wanted)
            read += cache.misses - before
    scans = 2 * len(range(0, 100, 3))
    assert (cache.prefix_skips > 3.5 * scans) == helps
    assert (read < 4 * scans) == helps, "blocks for a scan: of the one table that has the prefix, or of all five"
    assert list(kernels.Scan([], levels, None, None, LAST)) == everything


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("code", [FIXED.code, SLASH.code, PrefixExtractor.parse("fixed:6").code])
def test_versions_that_go_on_in_a_partition_without_their_prefix_are_found(kernels: Any, code: int) -> None:
    """The filter of a partition has the prefixes of keys that begin in it; the older versions of the key before have none there."""
    keys = [b"abc/%d" % number for number in range(3)] + [b"abd/%d" % number for number in range(3)] + [b"x", b"x/", b"xyz/1"]
    entries = [(key, 1 + version * 20 + n, int(Kind.VALUE), b"%d" % version) for version in range(30) for n, key in enumerate(keys)]
    (made,) = make_tables(kernels, [make_memtable(kernels, entries)], prefix=code, partition_bytes=60, block_bytes=80)
    levels = kernels.Levels([[made.open(kernels, kernels.BlockCache(1 << 20))]])
    for seqno in (5, 25, 105, 305, 1000):
        for lower, upper in [
            (b"abc/", b"abc0"),
            (b"abc/1", b"abc/2"),
            (b"abd/", b"abd0"),
            (b"x/", b"x0"),
            (b"abd/2", b"abd/3"),
            (b"none/", b"none0"),
        ]:
            newest = {key: value for key, at, _, value in entries if at <= seqno and lower <= key < upper}
            for reverse in (False, True):
                found = list(kernels.Scan([], levels, lower, upper, seqno, reverse=reverse))
                assert found == sorted(newest.items(), reverse=reverse), (seqno, lower)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("seed", range(8))
def test_any_range_has_the_same_rows_with_prefixes_and_without(kernels: Any, seed: int) -> None:
    rng = random.Random(seed)
    alphabet = [b"a", b"b", b"/", b"\xff", b"\0"]
    keys = sorted({b"".join(rng.choices(alphabet, k=rng.randrange(0, 6))) for _ in range(400)})
    some = sorted(rng.sample(keys, len(keys) // 3))
    rows = [(key, b"v" * rng.randrange(20)) for key in some]
    extractor = rng.choice((PrefixExtractor.parse("fixed:2"), SLASH, PrefixExtractor.parse("fixed:3"), PrefixExtractor.parse("delimiter:0xff")))
    settings = {"prefix": extractor.code, "partition_bytes": rng.choice((0, 60)), "block_bytes": 60, "filter_kind": FilterKind.BURR}
    (made,) = make_tables(kernels, [kernels.SortedRows(rows)], **settings)
    table = made.open(kernels, kernels.BlockCache(1 << 20))
    levels = kernels.Levels([[table]])
    for number in range(300):
        lower = rng.choice(keys)
        prefix = extractor.prefix_of(lower)
        stem = prefix.rstrip(b"\xff") if prefix is not None else b""
        upper = stem[:-1] + bytes((stem[-1] + 1,)) if stem and rng.random() < 0.7 else rng.choice([*keys, None])
        wanted = [row for row in rows if row[0] >= lower and (upper is None or row[0] < upper)]
        reverse = number % 2 == 1
        assert list(kernels.Scan([], levels, lower, upper, LAST, reverse=reverse)) == (wanted[::-1] if reverse else wanted)
