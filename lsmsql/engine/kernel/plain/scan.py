"""Scan: the rows of a key range visible at a seqno, over all sources of one tree, forward or backward."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from ..kinds import Kind
from ..values_apart import UNREAD_BYTES_MAX, fill_rows, filled_block, raw_length
from .decoded_block import Block
from .memtable import Group, Memtable
from .table import Entry, Levels, Table

_BLOCK_ROWS = 256


class Scan:
    """Iterates (key, value) over [lower, upper); a bound of None is open.

    memtables: newest first, a batch's before all. since: only rows whose newest visible version has a larger seqno (0: all). limit: rows at most.
    keep: whether missed blocks enter the cache. on_close is called once, when the scan ends, is closed or is dropped. valued: False leaves values
    that stand apart unread, and gives b"" for them.
    `fill`, `next_block` and iteration advance the same position.
    """

    def __init__(
        self,
        memtables: Sequence[Memtable],
        levels: Levels,
        lower: bytes | None,
        upper: bytes | None,
        seqno: int,
        *,
        reverse: bool = False,
        since: int = 0,
        limit: int | None = None,
        keep: bool = True,
        on_close: Callable[[], None] | None = None,
        valued: bool = True,
    ) -> None:
        self._on_close = on_close
        self._valued = valued
        self._apart = levels.apart
        if lower is not None and upper is not None and lower >= upper:
            upper = lower  # An empty range, whatever the sources make of crossed bounds.
        sources = [memtable.groups(lower, upper, seqno, reverse) for memtable in memtables]
        sources += [table.groups(lower, upper, seqno, reverse, since, keep) for table in (levels.levels[0] if levels.levels else ())]
        sources += [_level_groups(level, lower, upper, seqno, reverse, since, keep) for level in levels.levels[1:] if level]
        self._entries: Iterator[Entry] = islice(_newest(sources, reverse, since), limit)

    def fill(self, rows: int) -> list[tuple[bytes, bytes]]:
        """The next (key, value) pairs, at most `rows`; an empty list at the end."""
        apart = self._apart
        found: list[Any] = [(entry[0], (entry[3],) if entry[2] == Kind.BLOB_POINTER else entry[3]) for entry in self._next(rows)]
        if any(type(value) is tuple for _, value in found):
            try:
                fill_rows(apart, found)
            except BaseException:
                self.close()
                raise
        if not found and rows:
            self.close()
        return found

    def _next(self, rows: int) -> Iterator[Entry]:
        """At most so many entries, fewer where their values that stand apart are large."""
        unread = 0
        for entry in islice(self._entries, rows):
            if entry[2] != Kind.BLOB_POINTER:
                yield entry
            elif not self._valued:
                yield entry[0], entry[1], Kind.VALUE, b""
            else:
                yield entry
                unread += raw_length(entry[3]) + 1
                if unread >= UNREAD_BYTES_MAX:
                    return

    def next_block(self) -> Block | None:
        """The next rows as a decoded block (its size is the kernel's choice), or None at the end."""
        entries = list(self._next(_BLOCK_ROWS))
        if not entries:
            self.close()
            return None
        keys, seqnos, kinds, values = (list(column) for column in zip(*entries, strict=True))
        block = Block(keys, seqnos, kinds, values)
        if Kind.BLOB_POINTER not in kinds:
            return block
        try:
            return filled_block(self._apart, block)  # type: ignore[no-any-return]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._entries = iter(())
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        while rows := self.fill(_BLOCK_ROWS):
            yield from rows

    def __del__(self) -> None:
        self.close()


def _level_groups(
    level: Sequence[Table], lower: bytes | None, upper: bytes | None, seqno: int, reverse: bool, since: int, keep: bool
) -> Iterator[Group]:
    for table in reversed(level) if reverse else level:
        if (upper is None or table.smallest < upper) and (lower is None or table.largest >= lower):
            yield from table.groups(lower, upper, seqno, reverse, since, keep)


def _newest(sources: Sequence[Iterator[Group]], reverse: bool, since: int) -> Iterator[Entry]:
    """The newest version of each key, where it is a value above `since`."""
    merged = heapq.merge(*sources, key=itemgetter(0), reverse=reverse)
    for key, groups in groupby(merged, key=itemgetter(0)):
        seqno, kind, value = max((versions[0] for _, versions in groups), key=itemgetter(0))
        if kind in (Kind.VALUE, Kind.BLOB_POINTER) and (seqno > since or not since):
            yield key, seqno, kind, value
