# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A memtable's keys in order: sorted at once for flush, or kept in runs of pairs that scans bring up to date. order_cy.pxd gives the C types."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.libc.stdlib import free, malloc, realloc
from cython.cimports.libc.string import memcmp, memcpy, memmove, memset
from cython.cimports.lsmsql.engine.kernel.native import (
    RUN_PAIRS,
    Pair,
    PairP,
    Run,
    RunP,
    compare_keys,
    op_key,
    op_key_size,
    prefix_of,
    u8,
    u32,
    u64,
)

_FILL = cython.declare(u32, 192)  # pairs in a run when runs are built: some can come before it splits
_RADIX_MIN = cython.declare(cython.size_t, 256)


# --- comparing


def _below(ops, a, b, skip):
    """Whether a's key is below b's; both prefixes were taken behind `skip` bytes that the keys share."""
    x: cython.pointer[u8]
    y: cython.pointer[u8]
    if a.prefix != b.prefix:
        return a.prefix < b.prefix
    x = ops.nodes[a.node].op
    y = ops.nodes[b.node].op
    return compare_keys(op_key(x) + skip, op_key_size(x) - skip, op_key(y) + skip, op_key_size(y) - skip) < 0


def _compare(ops, pair, prefix, key, size):
    op: cython.pointer[u8]
    if pair.prefix != prefix:
        return -1 if pair.prefix < prefix else 1
    op = ops.nodes[pair.node].op
    return compare_keys(op_key(op), op_key_size(op), key, size)


# --- sorting


def _gather(ops, tree, count):
    """The newest `count` key nodes of a tree, in the order of their operations. prefix: the key's."""
    pairs: PairP = cython.cast(PairP, malloc(count * cython.sizeof(Pair)))
    node: u32 = tree.last
    i: cython.size_t = count
    if pairs == cython.NULL:
        return pairs
    while i:
        i -= 1
        pairs[i].node = node
        pairs[i].unused = 0
        pairs[i].prefix = prefix_of(op_key(ops.nodes[node].op), op_key_size(ops.nodes[node].op))
        node = ops.nodes[node].previous
    return pairs


def _common(ops, pairs, count):
    """How many leading bytes all the keys share."""
    first: cython.pointer[u8] = ops.nodes[pairs[0].node].op
    op: cython.pointer[u8]
    common: cython.size_t = op_key_size(first)
    size: cython.size_t
    i: cython.size_t
    n: cython.size_t
    for i in range(1, count):
        op = ops.nodes[pairs[i].node].op
        size = op_key_size(op)
        if size < common:
            common = size
        if memcmp(op_key(op), op_key(first), common) != 0:
            n = 0
            while op_key(op)[n] == op_key(first)[n]:
                n += 1
            common = n
        if common == 0:
            break
    return common


def _radix(pairs, other, count):
    """Sort by prefix, a byte at a time from the last; bytes that are the same everywhere cost nothing. Returns the array that holds the result."""
    counts: u32[2048]
    i: cython.size_t
    byte: cython.int
    shift: cython.int
    digit: cython.int
    at: u32
    n: u32
    swap: PairP
    prefix: u64
    memset(counts, 0, cython.sizeof(counts))
    for i in range(count):
        prefix = pairs[i].prefix
        for byte in range(8):
            counts[byte * 256 + ((prefix >> (8 * byte)) & 255)] += 1
    for byte in range(8):
        shift = 8 * byte
        if counts[byte * 256 + ((pairs[0].prefix >> shift) & 255)] == count:
            continue
        at = 0
        for digit in range(256):
            n = counts[byte * 256 + digit]
            counts[byte * 256 + digit] = at
            at += n
        for i in range(count):
            digit = byte * 256 + ((pairs[i].prefix >> shift) & 255)
            other[counts[digit]] = pairs[i]
            counts[digit] += 1
        swap = pairs
        pairs = other
        other = swap
    return pairs


def _merge_sort(ops, pairs, other, count, skip):
    """Sort in place by prefix and key, `other` being room for as many pairs."""
    half: cython.size_t = count // 2
    i: cython.size_t
    j: cython.size_t
    k: cython.size_t
    pair: Pair
    if count <= 12:
        for i in range(1, count):
            pair = pairs[i]
            j = i
            while j and _below(ops, cython.address(pair), pairs + (j - 1), skip):
                pairs[j] = pairs[j - 1]
                j -= 1
            pairs[j] = pair
        return
    _merge_sort(ops, pairs, other, half, skip)
    _merge_sort(ops, pairs + half, other, count - half, skip)
    if not _below(ops, pairs + half, pairs + (half - 1), skip):
        return
    memcpy(other, pairs, half * cython.sizeof(Pair))
    i, j, k = 0, half, 0
    while i < half and j < count:
        if _below(ops, pairs + j, other + i, skip):
            pairs[k] = pairs[j]
            j += 1
        else:
            pairs[k] = other[i]
            i += 1
        k += 1
    memcpy(pairs + k, other + i, (half - i) * cython.sizeof(Pair))


def _sort(ops, pairs, other, count, skip):
    """Sort pairs whose prefixes were taken behind `skip` shared bytes. Returns the array that holds the result."""
    i: cython.size_t = 0
    j: cython.size_t
    made: PairP
    if count < _RADIX_MIN:
        _merge_sort(ops, pairs, other, count, skip)
        return pairs
    made = _radix(pairs, other, count)
    other = other if made == pairs else pairs
    while i < count:
        j = i + 1
        while j < count and made[j].prefix == made[i].prefix:
            j += 1
        if j - i > 1:
            _merge_sort(ops, made + i, other, j - i, skip)
        i = j
    return made


def _sorted(ops, tree, count):
    """The newest `count` keys of a tree, sorted, in an array to free(); NULL: no memory."""
    pairs: PairP = _gather(ops, tree, count)
    other: PairP = cython.cast(PairP, malloc(count * cython.sizeof(Pair)))
    made: PairP
    skip: cython.size_t
    shared: u64
    i: cython.size_t
    if pairs == cython.NULL or other == cython.NULL:
        free(pairs)
        free(other)
        return cython.NULL
    skip = _common(ops, pairs, count)
    shared = prefix_of(op_key(ops.nodes[pairs[0].node].op), skip)
    if skip:
        for i in range(count):
            pairs[i].prefix = prefix_of(op_key(ops.nodes[pairs[i].node].op) + skip, op_key_size(ops.nodes[pairs[i].node].op) - skip)
    made = _sort(ops, pairs, other, count, skip)
    free(other if made == pairs else pairs)
    if skip >= 8:
        for i in range(count):
            made[i].prefix = shared
    elif skip:
        for i in range(count):
            made[i].prefix = shared | made[i].prefix >> (8 * skip)
    return made


def order_sorted(ops, tree, count):
    count[0] = tree.keys
    return cython.NULL if tree.keys == 0 else _sorted(ops, tree, tree.keys)


# --- runs


def order_update(ops, tree):
    """Bring the runs up to date with the key nodes made since."""
    count: cython.size_t = 0
    node: u32 = tree.last
    pairs: PairP
    i: cython.size_t
    failed: cython.bint = False
    while node > tree.ordered_through:
        count += 1
        node = ops.nodes[node].previous
    if count == 0:
        return 0
    pairs = _sorted(ops, tree, count)
    if pairs == cython.NULL:
        return -1
    tree.changes += 1
    if tree.run_count == 0:
        failed = _build(tree, pairs, count) != 0
    elif count * 4 > tree.keys:
        failed = _merge(ops, tree, pairs, count) != 0
    else:
        for i in range(count):
            if _insert(ops, tree, pairs + i):
                failed = True
                break
    free(pairs)
    if failed:  # Nothing half done: the next scan builds it all anew.
        _drop_runs(tree)
        tree.ordered_through = 0
        return -1
    tree.ordered_through = tree.last
    return 0


def _reserve_runs(tree, count):
    if count <= tree.run_room:
        return 0
    runs = cython.cast(cython.pointer[RunP], realloc(tree.runs, (count + count // 2 + 8) * cython.sizeof(RunP)))
    if runs == cython.NULL:
        return -1
    tree.runs = runs
    tree.run_room = count + count // 2 + 8
    return 0


def _build(tree, pairs, count):
    """Runs from sorted pairs, where there are none."""
    i: cython.size_t = 0
    n: cython.size_t
    run: RunP
    if _reserve_runs(tree, (count + _FILL - 1) // _FILL):
        return -1
    while i < count:
        n = count - i if count - i < _FILL else _FILL
        run = cython.cast(RunP, malloc(cython.sizeof(Run)))
        if run == cython.NULL:
            return -1
        run.count = n
        memcpy(run.pairs, pairs + i, n * cython.sizeof(Pair))
        tree.runs[tree.run_count] = run
        tree.run_count += 1
        i += n
    return 0


def _merge(ops, tree, pairs, count):
    """Runs built anew from what they hold and many more sorted pairs."""
    total: cython.size_t = count
    run: u32 = 0
    position: u32 = 0
    i: cython.size_t = 0
    k: cython.size_t = 0
    result: cython.int
    for run in range(tree.run_count):
        total += tree.runs[run].count
    merged: PairP = cython.cast(PairP, malloc(total * cython.sizeof(Pair)))
    if merged == cython.NULL:
        return -1
    run = 0
    while run < tree.run_count:
        if i < count and _below(ops, pairs + i, tree.runs[run].pairs + position, 0):
            merged[k] = pairs[i]
            i += 1
        else:
            merged[k] = tree.runs[run].pairs[position]
            order_next(tree, cython.address(run), cython.address(position))
        k += 1
    memcpy(merged + k, pairs + i, (count - i) * cython.sizeof(Pair))
    _drop_runs(tree)
    result = _build(tree, merged, total)
    free(merged)
    return result


def _run_of(ops, tree, prefix, key, size):
    """The last run whose first key is not above the key; the first run if there is none."""
    low: u32 = 0
    high: u32 = tree.run_count
    middle: u32
    while high - low > 1:
        middle = (low + high) >> 1
        if _compare(ops, tree.runs[middle].pairs, prefix, key, size) <= 0:
            low = middle
        else:
            high = middle
    return low


def _position_in(ops, run, prefix, key, size, after):
    """The first pair of a run whose key is not below the key (above it, if `after`)."""
    low: u32 = 0
    high: u32 = run.count
    middle: u32
    order: cython.int
    while low < high:
        middle = (low + high) >> 1
        order = _compare(ops, run.pairs + middle, prefix, key, size)
        if order < 0 or (after and order == 0):
            low = middle + 1
        else:
            high = middle
    return low


def _insert(ops, tree, pair):
    """Put one pair where it belongs; a full run splits in two."""
    op: cython.pointer[u8] = ops.nodes[pair.node].op
    at: u32 = _run_of(ops, tree, pair.prefix, op_key(op), op_key_size(op))
    run: RunP = tree.runs[at]
    half: u32 = RUN_PAIRS // 2
    made: RunP
    position: u32
    if run.count == RUN_PAIRS:
        if _reserve_runs(tree, tree.run_count + 1):
            return -1
        made = cython.cast(RunP, malloc(cython.sizeof(Run)))
        if made == cython.NULL:
            return -1
        memcpy(made.pairs, run.pairs + half, half * cython.sizeof(Pair))
        made.count = run.count = half
        memmove(tree.runs + at + 2, tree.runs + at + 1, (tree.run_count - at - 1) * cython.sizeof(RunP))
        tree.runs[at + 1] = made
        tree.run_count += 1
        if _compare(ops, made.pairs, pair.prefix, op_key(op), op_key_size(op)) < 0:
            run = made
    position = _position_in(ops, run, pair.prefix, op_key(op), op_key_size(op), False)
    memmove(run.pairs + position + 1, run.pairs + position, (run.count - position) * cython.sizeof(Pair))
    run.pairs[position] = pair[0]
    run.count += 1
    return 0


def order_seek(ops, tree, key, size, after, run, position):
    prefix: u64 = prefix_of(key, size)
    run[0] = 0
    position[0] = 0
    if tree.run_count == 0:
        return
    run[0] = _run_of(ops, tree, prefix, key, size)
    position[0] = _position_in(ops, tree.runs[run[0]], prefix, key, size, after)
    if position[0] == tree.runs[run[0]].count:
        run[0] += 1
        position[0] = 0


def order_remove(ops, tree, key_node):
    """Take a key out of the runs (a batch that rolls back)."""
    run: u32 = 0
    position: u32 = 0
    found: RunP
    op: cython.pointer[u8] = ops.nodes[key_node].op
    order_seek(ops, tree, op_key(op), op_key_size(op), False, cython.address(run), cython.address(position))
    if run == tree.run_count or tree.runs[run].pairs[position].node != key_node:
        return
    found = tree.runs[run]
    found.count -= 1
    memmove(found.pairs + position, found.pairs + position + 1, (found.count - position) * cython.sizeof(Pair))
    if found.count == 0:
        free(found)
        tree.run_count -= 1
        memmove(tree.runs + run, tree.runs + run + 1, (tree.run_count - run) * cython.sizeof(RunP))


def _drop_runs(tree):
    i: u32
    for i in range(tree.run_count):
        free(tree.runs[i])
    tree.run_count = 0


def order_free(tree):
    _drop_runs(tree)
    free(tree.runs)
    tree.runs = cython.NULL
