"""Dictionaries are trained from what blocks have in common, and judged by blocks that they were not trained from."""

from __future__ import annotations

import random

import pytest

from lsmsql.engine.sstable.zstd_dictionary import Saving, saving, split, train

from ..storage.dictionary_world import json_row

TABLE = 64 << 20
SIZE = 16 << 10


def json_blocks(count: int, seed: int, block_bytes: int = 4096) -> list[bytes]:
    source = random.Random(seed)
    per_block = max(1, block_bytes // 165)
    return [b"".join(json_row(source) for _ in range(per_block)) for _ in range(count)]


def random_blocks(count: int, seed: int) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(4096) for _ in range(count)]


@pytest.mark.parametrize("level", [1, 3])
def test_it_saves_a_fifth_of_blocks_that_have_much_in_common(level: int) -> None:
    found = train(json_blocks(160, 1), SIZE, level)
    assert found is not None and 0 < found.size <= SIZE
    assert saving(found, json_blocks(50, 2), level).of_blocks > 0.20


def test_it_saves_nothing_where_blocks_have_nothing_in_common() -> None:
    found = train(random_blocks(160, 3), SIZE, 1)
    assert found is None or saving(found, random_blocks(50, 4), 1).of_blocks <= 0


def test_it_saves_little_of_blocks_long_enough_to_learn_from_themselves() -> None:
    found = train(json_blocks(30, 4, 128 << 10), SIZE, 1)
    assert found is not None and saving(found, json_blocks(8, 5, 128 << 10), 1).of_blocks < 0.03


def test_its_own_bytes_count_against_it() -> None:
    blocks = json_blocks(160, 6)
    found = train(blocks, SIZE, 1)
    assert found is not None
    saved = saving(found, blocks, 1)
    assert saved.of_blocks - 0.01 < saved.of_table(TABLE) < saved.of_blocks
    assert saved.of_table(1 << 20) < saved.of_blocks - 0.03
    assert saved.of_table(SIZE) < 0 and saved.of_table(0) < 0
    assert saving(found, [], 1) == Saving(0, 0)


@pytest.mark.parametrize("samples", [[], [b""] * 100, [b"x"] * 31, [b"ab"] * 1000, [b"abcdefgh" * 600] * 5])
def test_too_little_to_learn_from_is_no_dictionary(samples: list[bytes]) -> None:
    assert train(samples, SIZE, 1) is None


def test_few_samples_make_a_small_dictionary() -> None:
    found = train(json_blocks(40, 7, 1000), SIZE, 1)
    assert found is not None and found.size <= 5000


def test_the_same_samples_make_the_same_dictionary() -> None:
    blocks = json_blocks(100, 8)
    first, second = train(blocks, SIZE, 3), train(list(blocks), SIZE, 3)
    assert first is not None and second is not None and first.content == second.content


def test_what_judges_has_not_trained() -> None:
    training, judging = split([b"%d" % number for number in range(11)])
    assert not set(training) & set(judging) and len(training) + len(judging) == 11 and len(judging) == 3
