# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Erasure coding of frames, compiled; parity_plain.py defines it, parity_cy.pxd gives the C types.

A sum of factor times shard is made by Horner's rule over the bits of the factors: double what is there, add the shards whose factor has the next
bit. Doubling and adding whole runs of bytes are loops that the compiler turns into vector instructions, on any machine.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; parity_plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memcpy, memset

_SHARDS = cython.declare(cython.uint, 32)
_ROWS = cython.declare(cython.uint, 8)
_COLUMNS = cython.declare(cython.size_t, 1024)  # worked on at once: all shards' parts stay in the first cache
_exponents = cython.declare(byte[510])
_logarithms = cython.declare(byte[256])


@cython.cfunc
def _fill_tables() -> cython.void:
    power: cython.uint = 1
    exponent: cython.uint
    for exponent in range(255):
        _exponents[exponent] = _exponents[exponent + 255] = power
        _logarithms[power] = exponent
        power = (power << 1) ^ (0x11D if power & 0x80 else 0)


_fill_tables()


def _multiply(a, b):
    return _exponents[cython.cast(cython.uint, _logarithms[a]) + _logarithms[b]] if a and b else 0


# --- runs of bytes


def _double(out, size):
    i: cython.size_t
    for i in range(size):
        out[i] = cython.cast(byte, out[i] << 1) ^ (0x1D if out[i] & 0x80 else 0)


def _add(out, data, size):
    i: cython.size_t
    for i in range(size):
        out[i] ^= data[i]


def _double_add(out, data, size):
    i: cython.size_t
    for i in range(size):
        out[i] = cython.cast(byte, out[i] << 1) ^ (0x1D if out[i] & 0x80 else 0) ^ data[i]


def _combine_part(factors, shards, sizes, count, out, start, end):
    """Columns start to end of the sum of factor times shard."""
    bit: cython.int
    n: cython.uint
    size: cython.size_t
    owed: cython.bint = False  # a doubling, which the first whole run that is added does along
    zero: cython.bint = True
    memset(out + start, 0, end - start)
    for bit in range(7, -1, -1):
        owed = not zero
        for n in range(count):
            if not (factors[n] >> bit) & 1 or sizes[n] <= start:
                continue
            size = min(sizes[n], end) - start
            if owed and size == end - start:
                _double_add(out + start, shards[n] + start, size)
            else:
                if owed:
                    _double(out + start, end - start)
                _add(out + start, shards[n] + start, size)
            owed = zero = False
        if owed:
            _double(out + start, end - start)


def _combine(factors, shards, sizes, count, out, size):
    start: cython.size_t = 0
    while start < size:
        _combine_part(factors, shards, sizes, count, out, start, min(size, start + _COLUMNS))
        start += _COLUMNS


# --- frames


def parity_shard(d, frame_size):
    return (frame_size + d - 1) // d


def parity_frame(d, p, stored):
    shard: cython.size_t = (stored + d + p - 1) // (d + p)
    size: cython.size_t = stored - p * shard
    return 0 if size == 0 or size > stored or parity_shard(d, size) != shard else size


def parity_prepare(parity, d, p):
    generator: byte[9]
    remainder: byte[8]
    first: byte
    root: cython.uint
    i: cython.uint
    k: cython.int
    parity.d = d
    parity.p = p
    memset(generator, 0, 9)
    generator[0] = 1  # Highest power first.
    for root in range(p):
        for i in range(root + 1, 0, -1):
            generator[i] ^= _multiply(generator[i - 1], _exponents[root])
    memcpy(remainder, generator + 1, p)
    for k in range(cython.cast(cython.int, d) - 1, -1, -1):
        for i in range(p):
            parity.matrix[i * d + k] = remainder[i]
        first = remainder[0]
        for i in range(p):
            remainder[i] = (remainder[i + 1] if i + 1 < p else 0) ^ _multiply(first, generator[i + 1])


def _cut(frame, frame_size, d, shards, sizes):
    """The data shards of a frame, without their padding."""
    size: cython.size_t = parity_shard(d, frame_size)
    start: cython.size_t
    n: cython.uint
    for n in range(d):
        start = min(frame_size, n * size)
        shards[n] = frame + start
        sizes[n] = min(size, frame_size - start)


def parity_encode(parity, frame, size, out):
    shards: ReadBytes[32]
    sizes: cython.size_t[32]
    shard: cython.size_t = parity_shard(parity.d, size)
    row: cython.uint
    _cut(frame, size, parity.d, shards, sizes)
    for row in range(parity.p):
        _combine(parity.matrix + row * parity.d, shards, sizes, parity.d, out + row * shard, shard)


def _invert(matrix, found, size):
    """Gauss and Jordan on a size * size part of the coefficients, which always has an inverse."""
    column: cython.uint
    pivot: cython.uint
    n: cython.uint
    m: cython.uint
    factor: byte
    held: byte
    for n in range(size * size):
        found[n] = 0
    for n in range(size):
        found[n * size + n] = 1
    for column in range(size):
        pivot = column
        while matrix[pivot * size + column] == 0:
            pivot += 1
        factor = _exponents[255 - _logarithms[matrix[pivot * size + column]]]
        for m in range(size):
            held = matrix[pivot * size + m]
            matrix[pivot * size + m] = matrix[column * size + m]
            matrix[column * size + m] = _multiply(factor, held)
            held = found[pivot * size + m]
            found[pivot * size + m] = found[column * size + m]
            found[column * size + m] = _multiply(factor, held)
        for n in range(size):
            factor = matrix[n * size + column]
            if n != column and factor:
                for m in range(size):
                    matrix[n * size + m] ^= _multiply(factor, matrix[column * size + m])
                    found[n * size + m] ^= _multiply(factor, found[column * size + m])


def _solve(parity, missing, rows, count, stored, frame_size, out):
    """Write the `missing` data shards into the frame `out` from the others and as many parity `rows`."""
    shards: ReadBytes[40]
    sizes: cython.size_t[40]
    factors: byte[40]
    part: byte[64]
    solved: byte[64]
    d: cython.uint = parity.d
    shard: cython.size_t = parity_shard(d, frame_size)
    n: cython.uint
    m: cython.uint
    k: cython.uint
    _cut(stored, frame_size, d, shards, sizes)
    for n in range(count):
        shards[d + n] = stored + frame_size + rows[n] * shard
        sizes[d + n] = shard
        for m in range(count):
            part[n * count + m] = parity.matrix[rows[n] * d + missing[m]]
    _invert(part, solved, count)
    for n in range(count):
        memset(factors, 0, 40)
        for m in range(count):
            factors[d + m] = solved[n * count + m]
            for k in range(d):
                factors[k] ^= _multiply(solved[n * count + m], parity.matrix[rows[m] * d + k])
        for m in range(count):
            factors[missing[m]] = 0
        _combine(factors, shards, sizes, d + count, out + (shards[missing[n]] - stored), sizes[missing[n]])


# --- what Python sees


def _check_shards(d: cython.int, p: cython.int):
    if not (1 <= d <= cython.cast(cython.int, _SHARDS) and 1 <= p <= cython.cast(cython.int, _ROWS)):
        raise ValueError(f"no parity of {p} shards over {d}")


def encode_many(frames, d: cython.int, p: cython.int) -> list:
    """As `parity_plain.encode_many`; the whole batch is one stretch without the GIL."""
    held: list = list(frames)
    count: cython.Py_ssize_t = len(held)
    n: cython.Py_ssize_t
    size: cython.size_t
    parity: Parity
    frame: bytes
    stored: bytes
    _check_shards(d, p)
    parity_prepare(cython.address(parity), d, p)
    outs: cython.pointer[Bytes] = cython.cast(cython.pointer[Bytes], malloc((count + 1) * cython.sizeof(Bytes)))
    sizes: cython.p_size_t = cython.cast(cython.p_size_t, malloc((count + 1) * cython.sizeof(cython.size_t)))
    found: list = []
    try:
        if outs == cython.NULL or sizes == cython.NULL:
            raise MemoryError("no memory for parity")
        for n in range(count):
            frame = held[n]
            if not frame:
                raise ValueError("a frame has at least one byte")
            size = PyBytes_GET_SIZE(frame)
            stored = PyBytes_FromStringAndSize(cython.NULL, size + p * parity_shard(d, size))
            outs[n] = cython.cast(Bytes, PyBytes_AS_STRING(stored))
            sizes[n] = size
            memcpy(outs[n], PyBytes_AS_STRING(frame), size)
            found.append(stored)
        with cython.nogil:
            for n in range(count):
                parity_encode(cython.address(parity), outs[n], sizes[n], outs[n] + sizes[n])
    finally:
        free(outs)
        free(sizes)
    return found


def reconstruct(stored: bytes, frame_length: cython.Py_ssize_t, d: cython.int, p: cython.int, lost) -> bytes:
    """As `parity_plain.reconstruct`."""
    gone: set = set(lost)
    missing: cython.uint[8]
    rows: cython.uint[8]
    count: cython.uint = 0
    free_row: cython.uint = 0
    parity: Parity
    shard: cython.int
    _check_shards(d, p)
    if (
        frame_length < 1
        or cython.cast(cython.size_t, PyBytes_GET_SIZE(stored)) != frame_length + p * parity_shard(d, frame_length)
        or len(gone) != len(lost)
        or len(gone) > p
        or not all(0 <= number < d + p for number in gone)
    ):
        raise ValueError(f"{len(stored)} bytes without shards {list(lost)} are no frame of {frame_length} bytes")
    for shard in sorted(gone):
        if shard < d:
            while cython.cast(cython.int, d + free_row) in gone:
                free_row += 1
            missing[count] = shard
            rows[count] = free_row
            free_row += 1
            count += 1
    # Made empty, then filled: CPython shares one object for each single byte that is made from a buffer.
    found: bytes = PyBytes_FromStringAndSize(cython.NULL, frame_length)
    data: ReadBytes = cython.cast(ReadBytes, PyBytes_AS_STRING(stored))
    out: Bytes = cython.cast(Bytes, PyBytes_AS_STRING(found))
    memcpy(out, data, frame_length)
    parity_prepare(cython.address(parity), d, p)
    with cython.nogil:
        _solve(cython.address(parity), missing, rows, count, data, frame_length, out)
    return found
