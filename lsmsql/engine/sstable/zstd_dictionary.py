"""zstd dictionaries: trained from a tree's own blocks, and judged by what they save of other ones.

Training is zstd's "fast cover" (facebook/zstd, lib/dictBuilder) with parameters fixed: the search for better ones takes thirty times as long and,
on rows of JSON, finds no better. A dictionary is judged by blocks that it was not trained from, at the level that will be used, and by the
bytes that each table takes to embed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import zstandard

from ..storage.block_frame import HEADER_BYTES
from ..storage.compression import Codec, compress
from ..storage.dictionary import Dictionary
from ..storage.parity import METADATA

DICTIONARY_BYTES_MIN = 256  # ZDICT_DICTSIZE_MIN
SAMPLES_MIN = 32
SAMPLES_PER_BYTE = 40
"""How many bytes of sampled blocks are worth reading for each byte of a dictionary; beyond that it gets no better."""

_JUDGED = 5  # One sample in so many judges, the others train.
_TRAINED_PER_BYTE = 8  # At least: a larger dictionary would only remember its samples.
_SEGMENT_BYTES, _WORD_BYTES = 1024, 8  # k and d of the cover algorithm
_COPIES = 2


@dataclass(frozen=True, slots=True)
class Saving:
    """of_blocks: the share of the blocks' bytes on disk that a dictionary saves, below 0 where it costs. price: what it takes itself, being embedded
    twice, with parity, in the same measure and multiplied by the bytes of raw blocks of the table that embeds it."""

    of_blocks: float
    price: float

    def of_table(self, raw_bytes: int) -> float:
        """The share that is saved of a table with so many bytes of raw blocks."""
        return self.of_blocks - self.price / max(raw_bytes, 1)


def train(samples: Sequence[bytes], size: int, level: int) -> Dictionary | None:
    """A dictionary of at most `size` bytes, smaller where the samples are few; None where there is nothing in common to learn.

    samples: raw blocks, spread over the tree, without those that are to judge (`split`); level: zstd's."""
    size = min(size, sum(map(len, samples)) // _TRAINED_PER_BYTE)
    if size < DICTIONARY_BYTES_MIN or len(samples) < SAMPLES_MIN - SAMPLES_MIN // _JUDGED - 1:
        return None
    segment = min(_SEGMENT_BYTES, size // 4)
    try:
        return Dictionary(zstandard.train_dictionary(size, cast(Any, list(samples)), k=segment, d=_WORD_BYTES, level=level).as_bytes())
    except (zstandard.ZstdError, ValueError):
        return None


def saving(dictionary: Dictionary, samples: Sequence[bytes], level: int) -> Saving:
    """What a dictionary saves of blocks like these."""
    plain = _stored(samples, level, None)
    if not plain:
        return Saving(0.0, 0.0)
    section = HEADER_BYTES + len(compress(dictionary.content, Codec.ZSTD)[1])
    embedded = _COPIES * (section + METADATA.parity_length(section))
    return Saving(1 - _stored(samples, level, dictionary) / plain, embedded * sum(map(len, samples)) / plain)


def split(samples: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """(those that train, those that judge)"""
    return [sample for number, sample in enumerate(samples) if number % _JUDGED], list(samples[::_JUDGED])


def _stored(samples: Sequence[bytes], level: int, dictionary: Dictionary | None) -> int:
    """Bytes on disk: each block with its header, and as it is where it does not shrink."""
    codec = Codec.ZSTD if dictionary is None else Codec.ZSTD_DICTIONARY
    return sum(HEADER_BYTES + len(compress(sample, codec, level, dictionary)[1]) for sample in samples)
