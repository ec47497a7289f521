"""One list of operations under every kind of options: how the data is kept may not show in what is seen."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lsmsql import Options
from lsmsql.engine import kernel
from tests.proof.history import generated, history
from tests.proof.judge import LONG
from tests.proof.workload import KEY

ROOT = Path(__file__).parents[2]
COUNT = 250
SEEDS = range(40) if LONG else range(3)
PLAIN = Options(background=False, durability="off", l0_slowdown=1000, l0_stop=1000)

EXTREMES: dict[str, Options] = {
    "memtable_bytes=1": replace(PLAIN, memtable_bytes=1),
    "block_bytes=1": replace(PLAIN, memtable_bytes=800, block_bytes=1),
    "table_bytes=1": replace(PLAIN, memtable_bytes=800, table_bytes=1),
    "cache_bytes=0": replace(PLAIN, memtable_bytes=800, cache_bytes=0, block_bytes=64),
    "filter_bits=0": replace(PLAIN, memtable_bytes=800, filter_bits=0),
    "filter_bits=1": replace(PLAIN, memtable_bytes=800, filter_bits=1),
    "filter=burr": replace(PLAIN, memtable_bytes=800, filter="burr"),
    "filter=burr, filter_bits=1": replace(PLAIN, memtable_bytes=300, filter="burr", filter_bits=1, l0_tables=2, level_bytes=300, table_bytes=200),
    "filter=none": replace(PLAIN, memtable_bytes=800, filter="none"),
    "compression=none": replace(PLAIN, memtable_bytes=800, compression="none"),
    "rows": replace(PLAIN, memtable_bytes=800, block_layout="rows", restart_interval=3),
    "rows, every key whole, no hash index": replace(PLAIN, memtable_bytes=800, block_layout="rows", restart_interval=1, hash_ratio=0),
    "rows, cache_bytes=0": replace(PLAIN, memtable_bytes=800, block_layout="rows", restart_interval=255, hash_ratio=4, cache_bytes=0),
    "parity": replace(PLAIN, memtable_bytes=300, block_bytes=64, table_bytes=400, l0_tables=2, parity="rs(3,2)"),
    "compression by level": replace(
        PLAIN, memtable_bytes=300, block_bytes=50, l0_tables=2, level_bytes=2000, compression_level=(1, 5, 19), dictionary_bytes=256
    ),
    "kv_checksums": replace(PLAIN, memtable_bytes=300, block_bytes=64, l0_tables=2, kv_checksums="all", kv_check_at="insert", paranoid=True),
    "l0_tables=1": replace(PLAIN, memtable_bytes=800, l0_tables=1, level_bytes=400, level_ratio=2, table_bytes=300),
    "l0_tables=100": replace(PLAIN, memtable_bytes=800, l0_tables=100),
    "manifest_bytes=0": replace(PLAIN, memtable_bytes=800, manifest_bytes=0, durability="full"),
    "levels": replace(PLAIN, memtable_bytes=300, block_bytes=64, table_bytes=200, l0_tables=2, level_bytes=300, level_ratio=2),
    "values apart": replace(PLAIN, memtable_bytes=300, block_bytes=64, table_bytes=200, l0_tables=2, level_bytes=300, blob_threshold=1),
    "some values apart": replace(
        PLAIN, memtable_bytes=800, l0_tables=2, blob_threshold=20, blob_live_share=1.0, parity="rs(3,2)", kv_checksums="all", kv_check_at="insert"
    ),
    "values apart, rows": replace(PLAIN, memtable_bytes=800, block_layout="rows", restart_interval=3, blob_threshold=64, blob_live_share=0.0),
    "values apart, threads": replace(PLAIN, background=True, memtable_bytes=300, l0_tables=1, level_bytes=400, level_ratio=2, blob_threshold=5),
    "all at once": replace(
        PLAIN, memtable_bytes=1, block_bytes=1, table_bytes=1, cache_bytes=0, filter_bits=0, l0_tables=1, level_bytes=1, manifest_bytes=0
    ),
    "threads": replace(PLAIN, background=True, durability="normal", memtable_bytes=800, table_bytes=300, l0_tables=1, level_bytes=400, level_ratio=2),
    "threads, slow": replace(PLAIN, background=True, memtable_bytes=1, sealed_max=1, l0_tables=1, l0_slowdown=1, l0_stop=1),
}

_truths: dict[int, list[str]] = {}


def truth(seed: int) -> list[str]:
    """The history where nothing ever leaves the memtable."""
    if seed not in _truths:
        _truths[seed] = history(PLAIN, None, "", seed, COUNT)
    return _truths[seed]


def compare(seed: int, found: list[str], options: Options, more: str = "") -> None:
    operations = [*generated(seed, COUNT), *["the end"] * 4]
    for number, (expected, now) in enumerate(zip(truth(seed), found, strict=True)):
        assert now == expected, (
            f"seed {seed}, operation {number} of {COUNT}, {operations[number]!r}: {now}\nexpected {expected}\n{more} under\n{options.to_text()}"
        )


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_option_shows(name: str, seed: int) -> None:
    compare(seed, history(EXTREMES[name], None, "", seed, COUNT), EXTREMES[name])


@pytest.mark.parametrize("after", ["flush", "compact", "reopen"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("secret", [None, KEY], ids=["plain", "encrypted"])
def test_nothing_done_in_between_shows(after: str, seed: int, secret: bytes | None) -> None:
    options = replace(PLAIN, table_bytes=300, block_bytes=64, level_bytes=400, level_ratio=2, l0_tables=3)
    compare(seed, history(options, secret, after, seed, COUNT), options, f"{after} after each, {'encrypted' if secret else 'plain'}")


@pytest.mark.parametrize("seed", range(200 if LONG else 12))
def test_random_options_do_not_show(seed: int) -> None:
    dice = random.Random(seed)
    options = Options(
        background=dice.random() < 0.3,
        durability=dice.choice(("full", "normal", "off")),
        memtable_bytes=dice.choice((1, 100, 1000, 5000)),
        sealed_max=dice.choice((1, 2, 5)),
        cache_bytes=dice.choice((0, 300, 1 << 20)),
        compression=dice.choice(("zstd", "none")),
        sync_mode=dice.choice(("data", "all")),
        copy_on_write=dice.random() < 0.5,
        cold_level=dice.choice((0, 1, 7)),
        kv_checksums=(checksums := dice.choice(("off", "all", "levels(0,6)", "levels(1)", "tables(3,20)"))),
        kv_check_at="insert" if checksums in ("all", "levels(0,6)") and dice.random() < 0.5 else "block",
        paranoid=dice.random() < 0.5,
        parity=dice.choice(("none", "none", "xor(4)", "rs(4,2)", "rs(32,8)")),
        block_bytes=dice.choice((1, 50, 300, 8192)),
        block_layout=dice.choice(("columns", "rows")),
        restart_interval=dice.choice((1, 2, 16, 255)),
        hash_ratio=dice.choice((0, 0.75, 2.0)),
        table_bytes=dice.choice((1, 300, 2000)),
        filter_bits=dice.choice((0, 1, 10, 64)),
        l0_tables=dice.choice((1, 2, 4)),
        l0_slowdown=dice.choice((4, 1000)),
        l0_stop=1000,
        level_bytes=dice.choice((1, 500, 3000)),
        level_ratio=dice.choice((2, 10)),
        manifest_bytes=dice.choice((0, 300, 100_000)),
        filter=dice.choice(("auto", "bloom", "burr", "none")),
        index=dice.choice(("adaptive", "full", "partitioned")),
        index_spill_bytes=dice.choice((0, 200, 1 << 22)),
        partition_bytes=dice.choice((1, 100, 4096)),
        filter_layout=dice.choice(("adaptive", "full")),
        prefix=dice.choice(("none", "fixed:1", "fixed:3", "delimiter:0x00", "delimiter:a")),
        pin_index=dice.choice((0, 1, 7)),
        pin_filter=dice.choice((0, 1, 7)),
        compression_level=dice.choice((1, 3, (1, 2), (1, 1, 9))),
        dictionary_bytes=dice.choice((0, 256, 16_384)),
    )
    secret = dice.choice((None, KEY))
    compare(seed % len(SEEDS), history(options, secret, dice.choice(("", "", "flush")), seed % len(SEEDS), COUNT), options)


@pytest.mark.parametrize("name", ["levels", "block_bytes=1", "memtable_bytes=1", "filter=burr", "rows", "parity", "kv_checksums"])
def test_the_other_kernels_see_the_same(name: str) -> None:
    """Compiled here and plain in another process, or the other way round; where nothing is compiled, plain twice."""
    options = EXTREMES[name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LSMSQL_PURE": "1" if kernel.COMPILED else "0"}
    asked = {"options": options.to_text(), "seed": 0, "count": COUNT, "after": ""}
    answer = subprocess.run(
        [sys.executable, "-m", "tests.proof.history"], input=json.dumps(asked), capture_output=True, text=True, env=environment, cwd=ROOT, check=True
    )
    told = json.loads(answer.stdout)
    assert not (told["compiled"] and kernel.COMPILED)
    compare(0, told["history"], options, "compiled" if told["compiled"] else "plain")


def test_the_histories_tell_something() -> None:
    for seed in SEEDS:
        told = truth(seed)
        assert len(set(told)) > COUNT // 3
        assert {"UsageError"} <= set(told)
        assert sum(entry.count("(b'") for entry in told[-4:]) > 5
