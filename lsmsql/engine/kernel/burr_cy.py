# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The BuRR filter, compiled: plain/burr.py defines it; the probe is in burr_cy.pxd. Building takes 18 bytes a key besides the filter."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

import struct

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.lsmsql.engine.kernel.native import BURR_BUCKET, BURR_LAYERS_MAX, Data, Room, U16s, U32s, U64s, ctz64, parity64, u8, u16, u32, u64

from ...errors import UsageError

_HEADER = cython.declare(cython.size_t, 8)
_VERSION = cython.declare(u8, 2)
_BITS_MAX = cython.declare(u32, 16)
_STASH_KEYS = cython.declare(cython.size_t, 13)
_BLOCKS_MAX = cython.declare(u64, 1 << 26)
_KEYS_MAX = cython.declare(u64, 1 << 31)
_DIGIT_BITS = cython.declare(u32, 11)
_NO_START = cython.declare(u64, 0xFFFFFFFFFFFFFFFF)


def burr_build(hashes, count, bits):
    """The filter over hashes, which may repeat; b"" when there is none."""
    work: Work
    blocks: u64
    keys: cython.size_t = count
    place: Room
    ends: Room
    solved: bytes
    marked: bytes
    if not 1 <= bits <= _BITS_MAX:
        raise ValueError(f"fingerprints have 1 to {_BITS_MAX} bits, not {bits}")
    if keys > _KEYS_MAX:
        raise UsageError(f"a filter over {keys} keys, at most {_KEYS_MAX} are possible: make table_bytes smaller")
    if keys == 0:
        return b""
    sizes: list = []
    words: list = []
    thresholds: list = []
    work.room = keys + 3 * 64  # The first layer has fewer slots than that, and the others have fewer still.
    work.keys = cython.cast(U64s, malloc(work.room * 8))
    work.rows = cython.cast(U64s, malloc(work.room * 8))
    work.results = cython.cast(U16s, malloc(work.room * 2))
    try:
        if work.keys == cython.NULL or work.rows == cython.NULL or work.results == cython.NULL:
            raise MemoryError("no memory for a filter")
        with cython.nogil:
            keys = _prepare(cython.address(work), hashes, keys)
        while keys > _STASH_KEYS and len(sizes) < BURR_LAYERS_MAX:
            blocks = keys * 99 // 6400 + 1
            blocks = blocks if blocks > 2 else 2
            solved = PyBytes_FromStringAndSize(cython.NULL, 8 * bits * blocks)
            marked = PyBytes_FromStringAndSize(cython.NULL, blocks // 2)
            sizes.append(blocks)
            words.append(solved)
            thresholds.append(marked)
            place = cython.cast(Room, PyBytes_AS_STRING(solved))
            ends = cython.cast(Room, PyBytes_AS_STRING(marked))
            with cython.nogil:
                keys = _insert(cython.address(work), keys, blocks, (cython.cast(u32, 1) << bits) - 1, ends)
                _solve(cython.address(work), blocks, bits, place)
                keys = _prepare(cython.address(work), work.keys, keys)
        header: bytes = struct.pack(f"<IBBBB{len(sizes)}I", keys, bits, _VERSION, len(sizes), 0, *sizes)
        stash: bytes = PyBytes_FromStringAndSize(cython.cast(cython.p_char, work.keys), 8 * keys)
        return b"".join((header, *words, stash, *thresholds))
    finally:
        free(work.keys)
        free(work.rows)
        free(work.results)


def _prepare(work, hashes, count):
    """Fill `work.keys` with the hashes, which may lie there, mixed once more, ascending, each once -> how many."""
    i: cython.size_t
    kept: cython.size_t = 0
    for i in range(count):
        work.keys[i] = burr_mix(hashes[i])
    _sort(work, count)
    for i in range(count):
        if kept == 0 or work.keys[i] != work.keys[kept - 1]:
            work.keys[kept] = work.keys[i]
            kept += 1
    return kept


# --- one layer


def _insert(work, count, blocks, mask, thresholds):
    """Gaussian elimination, bucket by bucket -> how many keys were bumped; they stand in front of `work.keys`."""
    positions: u64 = 64 * (blocks - 1)
    bucket: u64
    first: cython.size_t = 0
    end: cython.size_t
    kept: cython.size_t
    bumped: cython.size_t = 0
    memset(work.rows, 0, 64 * blocks * 8)
    memset(thresholds, 0, blocks // 2)
    while first < count:
        bucket = burr_start(work.keys[first], positions) // BURR_BUCKET
        end = first + 1
        while end < count and burr_start(work.keys[end], positions) // BURR_BUCKET == bucket:
            end += 1
        kept = _insert_bucket(work, first, end, positions, mask)
        if kept > first:
            thresholds[bucket] = burr_start(work.keys[kept - 1], positions) % BURR_BUCKET + 1
        while first < kept:
            work.keys[bumped] = work.keys[first]
            bumped += 1
            first += 1
        first = end
    return bumped


def _insert_bucket(work, first, end, positions, mask):
    """From the right, as many of a bucket's keys as fit -> the first that is kept. Keys of one start are all kept, or all bumped."""
    rows: U64s = work.rows
    results: U16s = work.results
    taken: u32[64]  # slots that keys of this start took: no more than their rows have bits
    taken_count: u32 = 0
    start: u64 = _NO_START
    key: cython.size_t = end
    behind: cython.size_t = end  # the keys of this start
    x: u64
    row: u64
    at: u64
    result: u32
    step: cython.int
    while key > first:
        key -= 1
        x = work.keys[key]
        at = burr_start(x, positions)
        if at != start:
            start = at
            behind = key + 1
            taken_count = 0
        row = burr_row(x)
        result = x & mask
        while rows[at]:
            row ^= rows[at]
            result ^= results[at]
            if row == 0:
                break
            step = ctz64(row)
            row >>= step
            at += step
        if row:
            rows[at] = row
            results[at] = result
            taken[taken_count] = at
            taken_count += 1
        elif result:
            while taken_count:
                taken_count -= 1
                rows[taken[taken_count]] = 0
            return behind
    return first


def _solve(work, blocks, bits, words):
    """The slots' values, from the last slot back; free ones are 0."""
    state: u64[16]
    slot: u64 = 64 * blocks
    row: u64
    moved: u64
    result: u32
    j: u32
    memset(state, 0, cython.sizeof(state))
    while slot:
        slot -= 1
        row = work.rows[slot]
        result = work.results[slot] if row else 0
        for j in range(bits):
            moved = state[j] << 1
            state[j] = moved | ((parity64(row & moved) ^ (result >> j)) & 1)
        if slot % 64 == 0:
            memcpy(words + (slot >> 6) * 8 * bits, state, 8 * bits)


# --- sorting


def _sort(work, count):
    """Ascending. Radix by the highest bits, then by insertion; by all bits where keys of one origin made that slow."""
    passes: u32 = 0 if count <= 32 else 1 if count < 256 else 2 if count < 1 << 19 else 3
    shift: u32 = 64 - _DIGIT_BITS * passes
    while shift < 64:
        _distribute(work, count, shift)
        shift += _DIGIT_BITS
    if not _settle(work.keys, count, 4 * count + 1024):
        shift = 0
        while shift < 64:
            _distribute(work, count, shift)
            shift += _DIGIT_BITS


def _distribute(work, count, shift):
    """Sort by one digit, stable. Keys and rows change places."""
    places: u64[2048]
    digits: u32 = 2048
    i: cython.size_t
    place: u64 = 0
    size: u64
    n: u32
    memset(places, 0, cython.sizeof(places))
    for i in range(count):
        places[(work.keys[i] >> shift) & (digits - 1)] += 1
    for n in range(digits):
        size = places[n]
        places[n] = place
        place += size
    for i in range(count):
        n = (work.keys[i] >> shift) & (digits - 1)
        work.rows[places[n]] = work.keys[i]
        places[n] += 1
    work.keys, work.rows = work.rows, work.keys


def _settle(keys, count, moves):
    """Insertion sort, given up (False) after so many moves."""
    i: cython.size_t
    at: cython.size_t
    x: u64
    for i in range(1, count):
        x = keys[i]
        at = i
        while at and keys[at - 1] > x:
            keys[at] = keys[at - 1]
            at -= 1
        keys[at] = x
        if i - at > moves:
            return False
        moves -= i - at
    return True


# --- opening


def burr_open(raw, size, burr):
    """ValueError, saying what, unless the bytes are a filter; `burr` then points into them."""
    blocks: u32[8]
    at: u64
    place: u64
    n: u32
    memset(burr, 0, cython.sizeof(Burr))
    if size < _HEADER:
        raise ValueError("filter shorter than its header")
    if raw[5] != _VERSION or raw[7]:
        raise ValueError("unknown filter version")
    memcpy(cython.address(burr.stashed), raw, 4)
    burr.bits = raw[4]
    burr.layers = raw[6]
    if not 1 <= burr.bits <= _BITS_MAX or burr.layers > BURR_LAYERS_MAX or (burr.layers == 0 and burr.stashed == 0):
        raise ValueError("BuRR filter with impossible fingerprint bits or layers")
    at = _HEADER + 4 * cython.cast(u64, burr.layers)
    if size < at:
        raise ValueError("BuRR filter shorter than its header")
    memcpy(blocks, raw + _HEADER, 4 * burr.layers)
    place = at + 8 * cython.cast(u64, burr.stashed)
    for n in range(burr.layers):
        if not 2 <= blocks[n] <= _BLOCKS_MAX:
            raise ValueError("BuRR filter with an impossible layer")
        place += 8 * cython.cast(u64, burr.bits) * blocks[n]
    at = place
    for n in range(burr.layers):
        at += blocks[n] // 2
    if at != size:
        raise ValueError("BuRR filter of a wrong length")
    for at in range(place, size):
        if raw[at] > BURR_BUCKET:
            raise ValueError("BuRR filter with an impossible threshold")
    at = _HEADER + 4 * cython.cast(u64, burr.layers)
    for n in range(burr.layers):
        burr.layer[n].positions = 64 * (cython.cast(u64, blocks[n]) - 1)
        burr.layer[n].words = raw + at
        burr.layer[n].thresholds = raw + place
        at += 8 * cython.cast(u64, burr.bits) * blocks[n]
        place += blocks[n] // 2
    burr.stash = raw + at
    for n in range(1, burr.stashed):
        if _stashed_at(burr, n - 1) >= _stashed_at(burr, n):
            raise ValueError("BuRR filter with a stash out of order")
    return 0


def burr_stashed(burr, x):
    """Whether the stash holds a key."""
    low: u32 = 0
    high: u32 = burr.stashed
    middle: u32
    while low < high:
        middle = low + ((high - low) >> 1)
        if _stashed_at(burr, middle) < x:
            low = middle + 1
        else:
            high = middle
    return low < burr.stashed and _stashed_at(burr, low) == x
