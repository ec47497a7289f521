# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Scan, compiled: the visible rows of a range over all sources, as lists of tuples or decoded blocks; plain/scan.py defines it.

Rows are made in stretches in which no Python code can run (the garbage collector is held off, since its finalizers are Python code): there the
heads may point into memory that a batch or the cache could otherwise take away. Between stretches blocks are loaded, with the cursors asleep.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from itertools import chain

from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memcpy

from .values_apart import RAW_LENGTH_AT, UNREAD_BYTES_MAX, fill_rows, filled_block

_BLOCK_ROWS = cython.declare(u32, 256)
_BLOCK_BYTES = cython.declare(u64, 1 << 16)
_UNLIMITED = cython.declare(i64, 1 << 62)
_FIRST_BATCH = cython.declare(i64, 16)
_UNREAD_MAX = cython.declare(u64, UNREAD_BYTES_MAX)
_LENGTH_AT = cython.declare(u32, RAW_LENGTH_AT)


@cython.cfunc
def _row(key: Data, key_size: u32, value: Data, value_size: u32) -> tuple:
    return (
        PyBytes_FromStringAndSize(cython.cast(cython.p_char, key), key_size),
        PyBytes_FromStringAndSize(cython.cast(cython.p_char, value), value_size),
    )


@cython.cfunc
def _row_apart(head: HeadP, valued: cython.bint) -> tuple:
    """A row whose value is unread, or not asked for."""
    key = PyBytes_FromStringAndSize(cython.cast(cython.p_char, head.key), head.key_size)
    if not valued:
        return (key, b"")
    return (key, (PyBytes_FromStringAndSize(cython.cast(cython.p_char, head.value), head.value_size),))


@cython.cclass
class Scan:
    """Iterates (key, value) over [lower, upper); a bound of None is open. Arguments as plain.scan.Scan's."""

    def __init__(
        self, memtables, levels: Levels, lower, upper, seqno: u64, *, reverse=False, since: u64 = 0, limit=None, keep=True, on_close=None, valued=True
    ):
        if self.cursors != cython.NULL:
            raise ValueError("the scan has begun")
        self.on_close = on_close
        self.descending = reverse
        self.valued = valued
        self.since = since
        self.left = _UNLIMITED
        if limit is not None:
            if limit < 0:
                raise ValueError("limit must not be negative")
            self.left = min(limit, _UNLIMITED)
        self.lower = lower if lower is None or isinstance(lower, bytes) else bytes(lower)
        self.upper = upper if upper is None or isinstance(upper, bytes) else bytes(upper)
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            return
        self.memtables = list(memtables)
        self.levels = levels
        self._open(self.memtables, seqno, keep)

    def _open(self, memtables, seqno, keep):
        level: Level
        n: u32
        i: u32
        memtable: Memtable
        room: cython.size_t = 1 + len(memtables)
        for n in range(self.levels.count):
            room += self.levels.c_levels[n].count if n == 0 else 1
        self.cursors = cython.cast(CursorP, calloc(room, cython.sizeof(Cursor)))
        self.heads = cython.cast(Heads, calloc(room, cython.sizeof(HeadP)))
        if self.cursors == cython.NULL or self.heads == cython.NULL:
            raise MemoryError
        for n in range(room):
            cursor: CursorP = self.cursors + n
            cursor.descending = self.descending
            cursor.keep = keep
            cursor.seqno = seqno
            cursor.since = self.since
            if self.lower is not None:
                cursor.lower = self.lower
                cursor.lower_size = len(self.lower)
            if self.upper is not None:
                cursor.upper = self.upper
                cursor.upper_size = len(self.upper)
        for memtable in memtables:
            if memtable is None:
                raise TypeError("memtables must be Memtable objects, not None")
            cursor_memtable(self.cursors + self.count, memtable)
            self.count += 1
        for n in range(self.levels.count):
            level = self.levels.c_levels[n]
            if n == 0:
                for i in range(level.count):
                    cursor_run(self.cursors + self.count, level.tables + i, 1)
                    self.count += 1
            elif level.count:
                cursor_run(self.cursors + self.count, level.tables, level.count)
                self.count += 1
        return 0

    # -- what the caller sees

    def fill(self, rows: cython.Py_ssize_t) -> list:
        """The next (key, value) pairs, at most `rows`; an empty list at the end."""
        found: list = []
        want: i64 = rows if rows < self.left else self.left
        if rows < 0:
            raise ValueError("rows must not be negative")
        if rows == 0:
            return found
        self._enter()
        try:
            while want > 0 and self.unread < _UNREAD_MAX and self._ready():
                want -= self._rows(found, want)
            self.left -= len(found)
            if self.unread:
                self._read(found)
        except BaseException:
            self._leave(True)
            raise
        self._leave(not found)
        return found

    def next_block(self):
        """The next rows as a decoded block (its size is the kernel's choice), or None at the end."""
        self._enter()
        try:
            found = self._next_block()
        except BaseException:
            self._leave(True)
            raise
        self._leave(found is None)
        return found

    def stretch(self, first, stop):
        """next_block() for compiled callers, without a copy where a block has the next rows: then they are its entries from `first` to `stop`."""
        self._enter()
        try:
            found = self._next_stretch(first, stop)
        except BaseException:
            self._leave(True)
            raise
        self._leave(found is None)
        return found

    def close(self) -> None:
        """Let go of everything and call on_close; inside a call of this scan, at its end."""
        if self.busy:
            self.closing = True
            return
        self._free()
        self.memtables = None
        self.levels = None
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()

    def __iter__(self):
        batches: _Batches = _Batches.__new__(_Batches)
        batches.scan = self
        batches.size = _FIRST_BATCH
        return chain.from_iterable(batches)

    def __del__(self):
        self.close()

    def __dealloc__(self):
        self._free()

    # -- entering and leaving

    def _enter(self):
        if self.busy:
            raise ValueError("the scan is already executing")
        self.busy = True
        return 0

    def _leave(self, ended):
        n: u32
        self.busy = False
        if ended or self.closing:
            self.closing = False
            self.close()
            return 0
        for n in range(self.count):
            cursor_sleep(self.cursors + n)
        return 0

    def _note(self, head):
        """A value was found that is to be read."""
        length: u32 = 0
        if self.valued:
            if head.value_size >= _LENGTH_AT + 4:
                memcpy(cython.address(length), head.value + _LENGTH_AT, 4)
            self.unread += cython.cast(u64, length) + 1

    def _read(self, found):
        """The rows, or the block, with the values that stand apart; cursors sleep meanwhile."""
        n: u32
        for n in range(self.count):
            cursor_sleep(self.cursors + n)
        if isinstance(found, list):
            fill_rows(self.levels.apart, found)
        else:
            found = filled_block(self.levels.apart, found)
        for n in range(self.count):
            cursor_wake(self.cursors + n)
        self.unread = 0
        return found

    def _free(self):
        n: u32
        for n in range(self.count):
            cursor_free(self.cursors + n)
        self.count = self.live = 0
        free(self.cursors)
        free(self.heads)
        self.cursors = cython.NULL
        self.heads = cython.NULL
        scratch_free(cython.address(self.scratch))
        builder_free(cython.address(self.builder))

    def _ready(self):
        """Wake the cursors, load the blocks they want, and gather the live heads. False at the end."""
        n: u32
        wanting: cython.bint = False
        for n in range(self.count):
            cursor_wake(self.cursors + n)
            wanting = wanting or self.cursors[n].head.state == WANT
        if wanting:
            for n in range(self.count):
                cursor_sleep(self.cursors + n)
            for n in range(self.count):
                while self.cursors[n].head.state == WANT:
                    cursor_load(self.cursors + n, cython.address(self.scratch))
            for n in range(self.count):
                cursor_wake(self.cursors + n)
        self.live = 0
        for n in range(self.count):
            if self.cursors[n].head.state == LIVE:
                self.heads[self.live] = cython.address(self.cursors[n].head)
                self.live += 1
        return self.live > 0

    # -- rows

    def _rows(self, found, want):
        """Append up to `want` rows, until a cursor is no longer live. Returns how many."""
        collecting: cython.bint = PyGC_Disable()
        try:
            return self._merged_rows(found, want)
        finally:
            if collecting:
                PyGC_Enable()

    def _merged_rows(self, found, want):
        least: Least
        cursor: CursorP
        head: HeadP
        before: i64 = want
        while want > 0 and self.unread < _UNREAD_MAX:
            merge_least(self.heads, self.live, self.descending, cython.address(least))
            head = least.head
            cursor = cython.cast(CursorP, head)
            if least.alone and not cursor.memory and cursor_plain_block(cursor):
                want -= self._block_rows(found, cursor, want)
                if head.state != LIVE:
                    break
                continue
            while want > 0 and self.unread < _UNREAD_MAX:
                if head.kind == VALUE and (not self.since or head.seqno > self.since):
                    found.append(_row(head.key, head.key_size, head.value, head.value_size))
                    want -= 1
                elif head.kind == BLOB_POINTER and (not self.since or head.seqno > self.since):
                    found.append(_row_apart(head, self.valued))
                    self._note(head)
                    want -= 1
                if least.tied:
                    break
                cursor_next(cursor)
                if head.state != LIVE:
                    return before - want
                if not least.alone and (head.prefix ^ least.flip) >= least.bound:
                    break
            if least.tied and not self._step(cython.address(least)):
                break
        return before - want

    def _step(self, least):
        """Move every cursor past the key of the least head. False if one of them is no longer live."""
        n: u32
        head: HeadP
        live: cython.bint = True
        for n in range(self.live):
            head = self.heads[n]
            if head != least.head and same_key(head.key, head.key_size, least.head.key, least.head.key_size):
                cursor_next(cython.cast(CursorP, head))
                live = live and head.state == LIVE
        cursor_next(cython.cast(CursorP, least.head))
        return live and least.head.state == LIVE

    def _block_rows(self, found, cursor, want):
        """Rows straight off the one source there is, none of which needs a look."""
        blk: BlkP = cursor.blk
        at: i64 = cursor.at
        stop: i64
        if not cursor.descending:
            stop = cursor.end if cursor.end - at < want else at + want
            while at < stop:
                found.append(_row(block_key(blk, at), block_key_size(blk, at), block_value(blk, at), block_value_size(blk, at)))
                at += 1
            want = stop - cursor.at
            cursor_pass(cursor, at)
            return want
        # Descending, the cursor stands one before the head, and the first entry may have newer versions in the block before.
        stop = cursor.end if cursor.end > 0 else 1
        if at - stop + 1 > want - 1:
            stop = at - want + 2
        if cursor.head.kind == VALUE and (not self.since or cursor.head.seqno > self.since):
            found.append(_row(cursor.head.key, cursor.head.key_size, cursor.head.value, cursor.head.value_size))
            want = 1
        elif cursor.head.kind == BLOB_POINTER and (not self.since or cursor.head.seqno > self.since):
            found.append(_row_apart(cython.address(cursor.head), self.valued))
            self._note(cython.address(cursor.head))
            want = 1
        else:
            want = 0
        while at >= stop:
            found.append(_row(block_key(blk, at), block_key_size(blk, at), block_value(blk, at), block_value_size(blk, at)))
            at -= 1
            want += 1
        cursor.at = at
        cursor_next(cursor)
        return want

    # -- blocks

    def _passes(self, least):
        """Whether the whole block that the least head begins is the next stretch of the answer, as it is."""
        cursor: CursorP = cython.cast(CursorP, least.head)
        blk: BlkP = cursor.blk
        if cursor.memory or self.descending or least.tied or cursor.at != 0 or blk == cython.NULL:
            return False
        if cursor.end != blk.count or blk.count > self.left or not cursor_plain_block(cursor):
            return False
        return least.alone or prefix_of(block_key(blk, blk.count - 1), block_key_size(blk, blk.count - 1)) < least.bound

    def _next_stretch(self, first, stop):
        least: Least
        cursor: CursorP
        blk: BlkP
        builder_clear(cython.address(self.builder))
        if self.left > 0 and not self.descending and self._ready():
            merge_least(self.heads, self.live, False, cython.address(least))
            cursor = cython.cast(CursorP, least.head)
            blk = cursor.blk
            if (
                not (cursor.memory or least.tied or blk == cython.NULL)
                and cursor_plain_block(cursor)
                and (least.alone or prefix_of(block_key(blk, cursor.end - 1), block_key_size(blk, cursor.end - 1)) < least.bound)
            ):
                first[0] = cursor.at
                stop[0] = cursor.end if cursor.end - cursor.at < self.left else cursor.at + self.left
                blk.pins += 1
                self.left -= stop[0] - first[0]
                cursor_pass(cursor, stop[0])
                return block_adopt(blk)
        found: Block = self._next_block()
        if found is not None:
            first[0] = 0
            stop[0] = found.blk.count
        return found

    def _next_block(self):
        least: Least
        cursor: CursorP
        blk: BlkP = cython.NULL
        builder_clear(cython.address(self.builder))
        while self.left > self.builder.view.count and self._ready():
            merge_least(self.heads, self.live, self.descending, cython.address(least))
            if self._passes(cython.address(least)):
                if self.builder.view.count:
                    break
                cursor = cython.cast(CursorP, least.head)
                blk = cursor.blk
                blk.pins += 1
                self.left -= blk.count
                cursor_pass(cursor, blk.count)
                return block_adopt(blk)
            if self._build():
                break
        if self.builder.view.count == 0:
            return None
        if blk_copy(cython.address(self.builder.view), cython.address(blk)):
            raise MemoryError
        self.left -= self.builder.view.count
        return self._read(block_adopt(blk)) if self.unread else block_adopt(blk)

    def _build(self):
        """Append rows to the builder until it is large enough (then True), or a cursor has come to a block's end."""
        least: Least
        head: HeadP
        code: cython.int
        kind: u8
        size: u32
        while self.builder.view.count < _BLOCK_ROWS and self.builder.key_bytes + self.builder.value_bytes < _BLOCK_BYTES:
            if self.unread >= _UNREAD_MAX:
                return True
            if self.builder.view.count >= self.left:
                return True
            merge_least(self.heads, self.live, self.descending, cython.address(least))
            head = least.head
            if (head.kind == VALUE or head.kind == BLOB_POINTER) and (not self.since or head.seqno > self.since):
                kind, size = head.kind, head.value_size
                if kind == BLOB_POINTER:
                    self._note(head)
                    if not self.valued:
                        kind, size = VALUE, 0
                code = builder_append(cython.address(self.builder), head.key, head.key_size, head.seqno, kind, head.value, size)
                if code:
                    raise block_error(code)
            if not self._step(cython.address(least)):
                return False
        return True


@cython.cclass
class _Batches:
    """Iterates lists of rows: few at first, since many a scan is left early."""

    def __iter__(self):
        return self

    def __next__(self):
        rows: list = self.scan.fill(self.size)
        if not rows:
            raise StopIteration
        if self.size < 256:
            self.size *= 4
        return rows
