"""Erasure coding of frames in Python: Reed-Solomon over GF(256), systematic, column by column over the shards of a frame.

The field is GF(2)[x] / 0x11d with generator 2; the code's generator polynomial has the roots 2^0 to 2^(p-1), so that a column of d + p bytes, one
from each shard, is what `reedsolo.RSCodec(p)` makes of its d data bytes (I. S. Reed, G. Solomon, "Polynomial codes over certain finite fields",
1960). parity_cy.py does the same on machine words.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

_POLYNOMIAL = 0x11D


def _powers() -> tuple[list[int], list[int]]:
    exponents, logarithms = [0] * 510, [0] * 256
    power = 1
    for exponent in range(255):
        exponents[exponent] = exponents[exponent + 255] = power
        logarithms[power] = exponent
        power = power << 1 ^ (_POLYNOMIAL if power & 0x80 else 0)
    return exponents, logarithms


_EXPONENTS, _LOGARITHMS = _powers()


def multiply(a: int, b: int) -> int:
    """The product of two elements of the field."""
    return _EXPONENTS[_LOGARITHMS[a] + _LOGARITHMS[b]] if a and b else 0


def inverse(a: int) -> int:
    """The multiplicative inverse of an element that is not 0."""
    return _EXPONENTS[255 - _LOGARITHMS[a]]


@lru_cache(256)
def _table(factor: int) -> bytes:
    """For bytes.translate: every byte times the factor."""
    return bytes(multiply(factor, byte) for byte in range(256))


@lru_cache(64)
def coefficients(d: int, p: int) -> tuple[bytes, ...]:
    """p rows of d: parity shard i is the sum of row[i][k] times data shard k."""
    generator = [1]  # Highest power first.
    for root in range(p):
        shifted, scaled = [*generator, 0], [0, *(multiply(factor, _EXPONENTS[root]) for factor in generator)]
        generator = [a ^ b for a, b in zip(shifted, scaled, strict=True)]
    tail = generator[1:]
    remainder, columns = tail, [tail]  # Of x^p, then of each further power.
    for _ in range(d - 1):
        remainder = [a ^ multiply(remainder[0], b) for a, b in zip([*remainder[1:], 0], tail, strict=True)]
        columns.append(remainder)
    return tuple(map(bytes, zip(*columns[::-1], strict=True)))


def encode_many(frames: Sequence[bytes], d: int, p: int) -> list[bytes]:
    """Each frame with its p parity shards behind it. A frame has at least one byte."""
    rows = coefficients(d, p)
    return [b"".join((frame, *(_combine(row, _shards(frame, len(frame), d), -(-len(frame) // d)) for row in rows))) for frame in frames]


def reconstruct(stored: bytes, frame_length: int, d: int, p: int, lost: Sequence[int]) -> bytes:
    """The frame in `stored` (frame and parity) without use of the `lost` shards: at most p distinct numbers, parity shards from d on.

    ValueError unless there are at most p of them, and that many bytes."""
    size = -(-frame_length // d)
    if len(stored) != frame_length + p * size or len(set(lost)) != len(lost) or len(lost) > p or not all(0 <= shard < d + p for shard in lost):
        raise ValueError(f"{len(stored)} bytes without shards {list(lost)} are no frame of {frame_length} bytes")
    missing = sorted(shard for shard in lost if shard < d)
    rows = [row for row in range(p) if d + row not in lost][: len(missing)]
    shards = [*_shards(stored, frame_length, d), *(stored[frame_length + row * size :][:size] for row in rows)]
    matrix = coefficients(d, p)
    solved = _inverted([[matrix[row][shard] for shard in missing] for row in rows])
    found = {}
    for shard, factors in zip(missing, solved, strict=True):
        mixed = [0] * d if missing else []
        for row, factor in zip(rows, factors, strict=True):
            mixed = [a ^ multiply(factor, b) for a, b in zip(mixed, matrix[row], strict=True)]
        for other in missing:
            mixed[other] = 0
        found[shard] = _combine([*mixed, *factors], shards, size)
    for shard, content in found.items():
        shards[shard] = content[: len(shards[shard])]
    return b"".join(shards[:d])


def _shards(data: bytes, frame_length: int, d: int) -> list[bytes]:
    """The data shards of a frame without their padding: the last ones may be short or empty."""
    size = -(-frame_length // d)
    return [data[min(n * size, frame_length) : min((n + 1) * size, frame_length)] for n in range(d)]


def _combine(factors: Sequence[int], shards: Sequence[bytes], size: int) -> bytes:
    """The sum of factor times shard, as `size` bytes; short shards end in zeros."""
    total = 0
    for factor, shard in zip(factors, shards, strict=True):
        if factor:
            total ^= int.from_bytes(shard.translate(_table(factor)), "little")
    return total.to_bytes(size, "little")


def _inverted(matrix: list[list[int]]) -> list[list[int]]:
    """The inverse of a square part of the coefficients, which always has one, by Gauss and Jordan."""
    size = len(matrix)
    rows = [[*row, *(int(n == m) for m in range(size))] for n, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(n for n in range(column, size) if rows[n][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = inverse(rows[column][column])
        rows[column] = [multiply(scale, value) for value in rows[column]]
        for n in range(size):
            if n != column and (factor := rows[n][column]):
                rows[n] = [a ^ multiply(factor, b) for a, b in zip(rows[n], rows[column], strict=True)]
    return [row[size:] for row in rows]
