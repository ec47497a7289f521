# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The merge of sorted sources: which head comes next, and which versions of a key are kept (the twin of `plain.table_stream._retained`).

There are seldom more than a dozen sources, so the least is found by looking at all of them: a comparison of two numbers each, of two keys only
where their first 8 bytes are equal.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")


def merge_least(heads, count, descending, least):
    """Of `count` >= 1 live heads the one that comes first: least key (greatest if descending), then largest seqno, then first of `heads`."""
    flip: u64 = ~cython.cast(u64, 0) if descending else 0
    best: HeadP = heads[0]
    best_prefix: u64 = best.prefix ^ flip
    bound: u64 = ~cython.cast(u64, 0)
    tied: cython.bint = False
    n: u32
    for n in range(1, count):
        head: HeadP = heads[n]
        prefix: u64 = head.prefix ^ flip
        if prefix > best_prefix:
            if prefix < bound:
                bound = prefix
            continue
        bound = best_prefix
        if prefix == best_prefix:
            order: cython.int = compare_keys(head.key, head.key_size, best.key, best.key_size)
            if order == 0:
                tied = True
                if head.seqno > best.seqno:
                    best = head
                continue
            if (order > 0) != descending:
                continue
        best = head
        best_prefix = prefix
        tied = False
    least.head = best
    least.bound = bound
    least.flip = flip
    least.alone = count == 1
    least.tied = tied


def retained(rules, seqno, newer):
    """Whether a version at `seqno` stays, the next newer version of its key being at `newer` (all ones: there is none).

    It stays above the floor, and where it is the newest at or below one of the boundaries."""
    if seqno > rules.floor:
        return True
    n: u32
    for n in range(rules.count):
        if seqno <= rules.boundaries[n]:
            if rules.boundaries[n] < newer:
                return True
        else:
            return False  # The boundaries descend: the rest lies below this version as well.
    return False
