"""What is compacted next, held by golden texts (tests/engine/data/picker_*.txt) and by rules that every choice obeys.

A golden text is a list of cases: a command with options, the tables as input, a line of dashes, the output. LSMSQL_REWRITE=1 in the environment
writes the outputs anew; then read the diff. A table is `id:smallest-largest`, and optionally `:size` (100), `@max seqno` (the id), `!tombstones` (0).

    pick      one choice          all    the full compaction, floor=n where known
    scores    of every level      drain  choices until nothing is due, each replaced by one table of its range
"""

from __future__ import annotations

import os
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lsmsql.engine.compaction.picker import Compaction, pick, pick_all, score
from lsmsql.engine.manifest.version import LEVELS, NO_TABLES, TableRecord, Version
from lsmsql.engine.manifest.version_edit import VersionEdit
from lsmsql.options import Options

TREE = 1
GOLDEN = sorted((Path(__file__).parent / "data").glob("picker_*.txt"))
TABLE = re.compile(r"(\d+):(\w+)-(\w+)(?::(\d+))?(?:@(\d+))?(?:!(\d+))?")
EMPTY = Version().apply(VersionEdit(trees_created=((TREE, "t"),), next_file_id=1_000_000))


def parse(lines: list[str]) -> Version:
    tables = []
    for line in lines:
        level, _, rest = line.partition(" ")
        for text in rest.split():
            match = TABLE.fullmatch(text)
            assert match, text
            file_id, smallest, largest, size, seqno, tombstones = match.groups()
            tables.append(
                TableRecord(
                    int(file_id),
                    TREE,
                    int(level[1:]),
                    int(size or 100),
                    entries=1000,
                    tombstones=int(tombstones or 0),
                    smallest=smallest.encode(),
                    largest=largest.encode(),
                    min_seqno=0,
                    max_seqno=int(seqno or file_id),
                )
            )
    return EMPTY.apply(VersionEdit(added=tuple(tables)))


def show(compaction: Compaction | None) -> str:
    if compaction is None:
        return "nothing"
    inputs = " + ".join(f"L{level} {' '.join(str(table.file_id) for table in tables)}" for level, tables in compaction.inputs)
    flags = (" bottom" if compaction.bottom else "") + (" move" if compaction.trivial_move else "")
    return f"{inputs} -> L{compaction.output_level}{flags}"


def result(version: Version, compaction: Compaction) -> VersionEdit:
    """An edit as the compaction's job would make it, as if nothing could be dropped but tombstones at the bottom: one table of the whole range."""
    tables = list(compaction.tables())
    if compaction.trivial_move:
        return VersionEdit(added=(replace(tables[0], level=compaction.output_level),), removed=(tables[0].file_id,))
    output = replace(
        tables[0],
        file_id=max(version.file_ids()) + 1,
        level=compaction.output_level,
        size=sum(table.size for table in tables),
        entries=sum(table.entries for table in tables),
        tombstones=0 if compaction.bottom else sum(table.tombstones for table in tables),
        smallest=min(table.smallest for table in tables),
        largest=max(table.largest for table in tables),
        max_seqno=max(table.max_seqno for table in tables),
    )
    return VersionEdit(added=(output,), removed=compaction.file_ids())


def run(command: str, lines: list[str]) -> str:
    name, *settings = command.split()
    values = dict(setting.split("=") for setting in settings)
    busy = frozenset(int(file_id) for file_id in values.pop("busy", "").split(",") if file_id)
    floor = int(values.pop("floor")) if "floor" in values else None
    options = Options(**{"level_bytes": 1000, **{key: int(value) for key, value in values.items()}})
    version = parse(lines)
    if name == "pick":
        return show(pick(version, TREE, options, busy)) + "\n"
    if name == "all":
        return show(pick_all(version, TREE, floor)) + "\n"
    if name == "scores":
        return " ".join(f"L{level}={score(version.levels[TREE], level, options):.3g}" for level in range(LEVELS)) + "\n"
    assert name == "drain", command
    out = ""
    for _ in range(100):
        compaction = pick(version, TREE, options)
        out += show(compaction) + "\n"
        if compaction is None:
            return out
        version = version.apply(result(version, compaction))
    raise AssertionError("compaction never comes to an end")


def cases(text: str) -> list[tuple[str, str, str]]:
    """(comments and command and input, output, command) of every case."""
    found = []
    for case in re.split(r"\n\n+", text.strip()):
        given, _, output = case.partition("----\n")
        command = next(line for line in given.splitlines() if not line.startswith("#"))
        found.append((given, output.strip("\n") + "\n", command))
    return found


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_golden(file: Path) -> None:
    rewritten, wrong = [], []
    for given, expected, command in cases(file.read_text()):
        lines = [line for line in given.splitlines() if not line.startswith("#")][1:]
        output = run(command, lines)
        rewritten.append(f"{given}----\n{output}")
        if output != expected:
            wrong.append(f"{given}----\n{expected}but got:\n{output}")
    if os.environ.get("LSMSQL_REWRITE") == "1":
        file.write_text("\n".join(rewritten))
    assert not wrong, "\n".join(wrong)


def test_there_are_golden_texts() -> None:
    assert len(GOLDEN) >= 5
    assert sum(len(cases(file.read_text())) for file in GOLDEN) >= 40


# Rules


def random_version(generator: random.Random) -> Version:
    """A tree that grew by flushes and compactions of random tables."""
    options = random_options(generator)
    version = EMPTY
    for n in range(1, generator.randrange(2, 60)):
        low, high = sorted(generator.choices(range(100), k=2))
        smallest, largest = b"%02d" % low, b"%02d" % min(high, low + generator.choice((0, 5, 99)))
        size, tombstones = generator.randrange(1, 400), generator.choice((0, 0, 3))
        file_id = max(version.file_ids(), default=0) + 1
        version = version.apply(VersionEdit(added=(TableRecord(file_id, TREE, 0, size, 10, tombstones, smallest, largest, n, n),)))
        while generator.random() < 0.7 and (compaction := pick(version, TREE, options)):
            version = version.apply(result(version, compaction))
    return version


def random_options(generator: random.Random) -> Options:
    return Options(l0_tables=generator.choice((1, 2, 4)), level_bytes=generator.choice((100, 500)), level_ratio=generator.choice((2, 4)))


def check_rules(version: Version, compaction: Compaction, busy: set[int]) -> None:
    levels = version.levels[TREE]
    inputs = list(compaction.tables())
    ids = set(compaction.file_ids())
    assert inputs
    assert len(ids) == len(inputs)
    assert not ids & busy
    for level, tables in compaction.inputs:
        assert tables == tuple(table for table in levels[level] if table.file_id in ids), "whole records, in the level's order"
        assert level <= compaction.output_level
    smallest, largest = min(table.smallest for table in inputs), max(table.largest for table in inputs)
    outside = [table for table in version.tables() if table.file_id not in ids and table.overlaps(smallest, largest)]
    assert not [table for table in outside if table.level == compaction.output_level], "the outputs would overlap"
    assert compaction.bottom == (not [table for table in outside if table.level > compaction.output_level])
    for table in outside:
        if table.level <= compaction.inputs[0][0]:
            # Nothing left behind above the outputs may be older than what goes below it, so it may not share a key with the upper inputs.
            upper = [other for other in compaction.inputs[0][1] if other.overlaps(table.smallest, table.largest)]
            assert table.level < compaction.inputs[0][0] or not upper
    if compaction.trivial_move:
        assert len(inputs) == 1
        assert not (compaction.bottom and inputs[0].tombstones)


@pytest.mark.parametrize("seed", range(40))
def test_every_choice_obeys_the_rules(seed: int) -> None:
    generator = random.Random(seed)
    version, options = random_version(generator), random_options(generator)
    for _ in range(200):
        compaction = pick(version, TREE, options)
        if compaction is None:
            break
        check_rules(version, compaction, set())
        version = version.apply(result(version, compaction))
    assert pick(version, TREE, options) is None, f"seed {seed}: compaction comes to an end"
    assert len(version.levels[TREE][0]) < options.l0_tables
    full = pick_all(version, TREE)
    if full is not None:
        check_rules(version, full, set())
        assert full.bottom
        assert set(full.file_ids()) == {table.file_id for table in version.tables()}
        assert full.output_level == max([1, *(table.level for table in version.tables())])


def test_compactions_at_the_same_time_never_meet() -> None:
    together = [most_together(seed) for seed in range(60)]
    assert max(together) == 3, "the rule was put to the test"
    assert sum(most > 1 for most in together) > 10


def most_together(seed: int) -> int:
    """Run up to three compactions at a time, ending in any order; how many there were at most."""
    generator = random.Random(seed)
    version, options = random_version(generator), random_options(generator)
    running: list[Compaction] = []
    together = 0
    for _ in range(300):
        busy = {file_id for other in running for file_id in other.file_ids()}
        compaction = pick(version, TREE, options, busy) if len(running) < 3 else None
        if compaction is not None:
            check_rules(version, compaction, busy)
            running.append(compaction)
            together = max(together, len(running))
        elif not running:
            break
        else:
            done = running.pop(generator.randrange(len(running)))
            version = version.apply(result(version, done))  # ValueError if two had met
        if generator.random() < 0.1:
            file_id = max(version.file_ids()) + 1
            version = version.apply(VersionEdit(added=(TableRecord(file_id, TREE, 0, 50, 10, 0, b"00", b"99", 1000, 1000),)))
    return together


def test_an_unknown_tree_has_nothing_to_do() -> None:
    assert pick(EMPTY, 99, Options()) is None
    assert pick_all(EMPTY, 99) is None
    assert score(NO_TABLES, 0, Options()) == 0
