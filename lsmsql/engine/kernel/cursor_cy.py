# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""A scan's cursor over one source: the newest visible version of one key after another, either way, within bounds.

Everything here runs under the GIL. A block is pinned while the cursor stands in it. The head points into a pinned block or into the memory of
operations; the latter may change hands in a rollback, so whenever Python code may run, the cursor sleeps with a copy of its key, and wakes by
seeking it if anything has moved.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memcpy
from cython.cimports.lsmsql.engine.kernel.window_cy import window_block, window_close, window_wants

_PARTITIONS_ASKED = cython.declare(i64, 2)  # a range with a prefix that touches more has keys in between
_SHORT = cython.declare(i64, 16)  # blocks of a scan that are cached as those of gets are


# --- opening and closing


def cursor_memtable(cursor, memtable):
    """Set up a zeroed cursor, whose bounds and seqno are set, over a memtable."""
    cursor.memory = True
    cursor.ops = memtable.ops
    cursor.tree = memtable.mem
    if memtable.limited:
        cursor.seqno = memtable.limit_seqno
    cursor.head.state = SEEK
    cursor.candidate = -1


def cursor_run(cursor, tables, count):
    """Set up a zeroed cursor, whose bounds and seqno are set, over disjoint ascending tables; nothing is read yet."""
    low: i64 = 0
    high: i64 = count
    bound: Data = cursor.upper if cursor.descending else cursor.lower
    size: cython.size_t = cursor.upper_size if cursor.descending else cursor.lower_size
    cursor.tables = tables
    cursor.table_count = count
    cursor.candidate = -1
    cursor.ahead = 2
    if bound != cython.NULL:
        while low < high:  # The first table whose largest key is not below the bound.
            middle: i64 = (low + high) >> 1
            tab: TabP = tables[middle]
            if compare_keys(last_key(tab, tab.blocks - 1), last_key_size(tab, tab.blocks - 1), bound, size) < 0:
                low = middle + 1
            else:
                high = middle
    elif cursor.descending:
        low = count
    cursor.table = low
    if cursor.descending and low == cython.cast(i64, count):
        cursor.table = low - 1
    _find_block(cursor)


def cursor_free(cursor):
    """Let go of everything; the cursor is at its end."""
    cursor.head.state = DONE
    if cursor.blk != cython.NULL:
        blk_unpin(cursor.blk)
        cursor.blk = cython.NULL
    if cursor.held != cython.NULL:
        blk_unpin(cursor.held)
        cursor.held = cython.NULL
    if cursor.spare != cython.NULL:
        blk_free(cursor.spare)
        cursor.spare = cython.NULL
    part_unpin(cursor.tab)
    part_unpin(cursor.blk_tab)
    cursor.tab = cursor.blk_tab = cython.NULL
    free(cursor.saved)
    lead_free(cython.address(cursor.lead))
    cursor.saved = cython.NULL
    cursor.saved_room = 0
    window_close(cursor)


# --- moving


def cursor_next(cursor):
    """From a live head to the newest visible version of the next key."""
    if cursor.memory:
        if not cursor.descending:
            order_next(cursor.tree, cython.address(cursor.run), cython.address(cursor.position))
        elif not order_previous(cursor.tree, cython.address(cursor.run), cython.address(cursor.position)):
            cursor.head.state = DONE
            return
        _settle_memtable(cursor)
    elif cursor.descending:
        if cursor.held != cython.NULL:
            _release(cursor, cursor.held)
            cursor.held = cython.NULL
        _settle_backward(cursor)
    else:
        at: i64 = cursor.at + 1
        blk: BlkP = cursor.blk
        if blk.duplicates:
            while at < cursor.end and same_key(block_key(blk, at), block_key_size(blk, at), cursor.head.key, cursor.head.key_size):
                at += 1
        cursor_pass(cursor, at)


def cursor_pass(cursor, at):
    """Ascending: every key before entry `at` of the block is done with."""
    cursor.at = at
    if at >= cursor.blk.count:  # The next block may go on with versions of the same key.
        cursor.skip = last_key(cursor.blk_tab, cursor.loaded)
        cursor.skip_size = last_key_size(cursor.blk_tab, cursor.loaded)
    _settle_forward(cursor)


def cursor_settle(cursor):
    """Bring the head to the cursor's position in its block, after `at` was set."""
    if cursor.descending:
        _settle_backward(cursor)
    else:
        _settle_forward(cursor)


def cursor_plain_block(cursor):
    """Whether what is left of the block can be handed on unread (engine rule 11): all visible, only values, one entry for a key."""
    blk: BlkP = cursor.blk
    if blk == cython.NULL or not cursor.visible or blk.duplicates or blk.kind_mask != 1 << VALUE:
        return False
    return not cursor.since or blk.min_seqno > cursor.since


def _settle_forward(cursor):
    blk: BlkP = cursor.blk
    while cursor.at < cursor.end:
        if cursor.visible or block_seqno(blk, cursor.at) <= cursor.seqno:
            head_of_block(cython.address(cursor.head), blk, cursor.at)
            return
        cursor.at += 1
    _find_block(cursor)


def _settle_backward(cursor):
    """Versions of a key are met oldest first, so the newest visible one is a candidate until another key, or the end, is seen."""
    blk: BlkP = cursor.held
    found: i64 = cursor.candidate
    while True:
        if cursor.at < cursor.end:
            _find_block(cursor)
            if found < 0:
                return
            if cursor.head.state == WANT and _goes_on_before(cursor, blk, found):
                if cursor.held == cython.NULL:
                    cursor.held = cursor.blk
                    cursor.blk = cython.NULL
                cursor.candidate = found
                return
            break
        here: BlkP = cursor.blk
        at: i64 = cursor.at
        if found >= 0 and not same_key(block_key(here, at), block_key_size(here, at), block_key(blk, found), block_key_size(blk, found)):
            break
        cursor.at = at - 1
        if cursor.visible or block_seqno(here, at) <= cursor.seqno:
            if cursor.held != cython.NULL:
                _release(cursor, cursor.held)
                cursor.held = cython.NULL
            blk = here
            found = at
            if at > 0 and not here.duplicates:
                break
    cursor.candidate = -1
    head_of_block(cython.address(cursor.head), blk, found)


def _goes_on_before(cursor, blk, found):
    """Whether the block, or the partition, to load next ends with the candidate's key."""
    tab: TabP = cursor.tab
    ordinal: i64 = cursor.ordinal
    if cursor.root != cursor.blk_tab.root:
        return False
    if tab == cython.NULL:
        tab = cursor.root
        ordinal = cursor.part
    return same_key(last_key(tab, ordinal), last_key_size(tab, ordinal), block_key(blk, found), block_key_size(blk, found))


def _settle_memtable(cursor):
    nodes: NodeP = cursor.ops.nodes
    head: HeadP = cython.address(cursor.head)
    pair: PairP
    node: u32
    head.state = DONE
    while order_valid(cursor.tree, cursor.run):
        pair = cython.address(cursor.tree.runs[cursor.run].pairs[cursor.position])
        node = visible_node(nodes, pair.node, cursor.seqno)
        if node:
            head_of_operation(head, nodes[node].op, pair.prefix, nodes[node].seqno)
            if cursor.descending:
                if cursor.lower != cython.NULL and compare_keys(head.key, head.key_size, cursor.lower, cursor.lower_size) < 0:
                    head.state = DONE
            elif cursor.upper != cython.NULL and compare_keys(head.key, head.key_size, cursor.upper, cursor.upper_size) >= 0:
                head.state = DONE
            return
        if not cursor.descending:
            order_next(cursor.tree, cython.address(cursor.run), cython.address(cursor.position))
        elif not order_previous(cursor.tree, cython.address(cursor.run), cython.address(cursor.position)):
            return


# --- sleeping and waking


def cursor_sleep(cursor):
    """Before Python code may run: keep what finding the position again takes."""
    size: cython.size_t = cursor.head.key_size
    if not cursor.memory or cursor.head.state != LIVE:
        return 0
    if size >= cursor.saved_room:  # Room for the empty key too: no memory would mean no position.
        room: cython.size_t = 2 * size + 64
        memory: Room = cython.cast(Room, realloc(cursor.saved, room))
        if memory == cython.NULL:
            raise MemoryError
        cursor.saved = memory
        cursor.saved_room = room
    memcpy(cursor.saved, cursor.head.key, size)
    cursor.saved_size = size
    return 0


def cursor_wake(cursor):
    """After Python code may have run: find the position again if the memtable's order or memory has changed."""
    tree: MemTreeP = cursor.tree
    if not cursor.memory or (cursor.head.state != LIVE and cursor.head.state != SEEK):
        return 0
    if cursor.head.state == LIVE and tree.changes == cursor.changes and cursor.ops.rollbacks == cursor.rollbacks:
        return 0
    if order_update(cursor.ops, tree) < 0:
        raise MemoryError
    key: Data = cursor.saved
    size: cython.size_t = cursor.saved_size
    after: cython.bint = cursor.descending
    if cursor.head.state == SEEK:
        key = cursor.upper if cursor.descending else cursor.lower
        size = cursor.upper_size if cursor.descending else cursor.lower_size
        after = False
    cursor.changes = tree.changes
    cursor.rollbacks = cursor.ops.rollbacks
    cursor.run = tree.run_count if cursor.descending else 0
    cursor.position = 0
    if key != cython.NULL:
        order_seek(cursor.ops, tree, key, size, after, cython.address(cursor.run), cython.address(cursor.position))
    cursor.head.state = DONE
    if not cursor.descending or order_previous(tree, cython.address(cursor.run), cython.address(cursor.position)):
        _settle_memtable(cursor)
    return 0


# --- blocks


def _find_block(cursor):
    """Stand before the next block, or partition, that can hold something: the head is in want of it, or the cursor done. No block is let go of."""
    step: i64 = -1 if cursor.descending else 1
    while True:
        if cursor.root == cython.NULL:
            if cursor.table < 0 or cursor.table >= cursor.table_count or not _enter_table(cursor):
                cursor.table = -1
                cursor.head.state = DONE
                return
        if cursor.tab != cython.NULL:
            while cursor.first <= cursor.ordinal <= cursor.last:
                if window_wants(cursor, cursor.tab, cursor.ordinal):
                    cursor.head.state = WANT
                    return
                cursor.ordinal += step
            window_close(cursor)
            part_unpin(cursor.tab)
            cursor.tab = cython.NULL
            if cursor.root.parts:
                cursor.part += step
        if cursor.root.parts:
            while cursor.part_first <= cursor.part <= cursor.part_last:
                if window_wants(cursor, cursor.root, cursor.part):
                    cursor.head.state = WANT
                    return
                cursor.part += step
        cursor.root = cython.NULL
        cursor.table += step


def _enter_table(cursor):
    """Which blocks, or partitions, of the table at `cursor.table` the range touches; False if the table lies behind the range."""
    tab: TabP = cursor.tables[cursor.table]
    first: i64 = 0
    last: i64 = cython.cast(i64, tab.blocks) - 1
    if cursor.lower != cython.NULL:
        first = table_lower(tab, cursor.lower, cursor.lower_size)
        if cursor.descending and first > last:
            return False
    if cursor.upper != cython.NULL:
        if compare_keys(tab.smallest, tab.smallest_size, cursor.upper, cursor.upper_size) >= 0:
            if not cursor.descending:
                return False
            last = -1  # Descending the first table tried may lie behind the range; those before it do not.
        else:
            last = min(cython.cast(i64, table_lower(tab, cursor.upper, cursor.upper_size)), last)
    cursor.prefix = 0
    if tab.prefix_code and _excluded(cursor, tab, first, last):
        last = first - 1
    cursor.root = tab
    if tab.parts:
        cursor.part_first = first
        cursor.part_last = last
        cursor.part = last if cursor.descending else first
    else:
        cursor.tab = tab
        _enter_blocks(cursor, first, last)
    return True


def _excluded(cursor, tab, first, last):
    """Whether a table's filter rules out the prefix that all keys in range have; if it is partitioned, note that its partitions are to be asked."""
    if last < first or (tab.parts and last - first >= _PARTITIONS_ASKED):
        return False
    size: cython.size_t = prefix_of_range(tab.prefix_code, cursor.lower, cursor.lower_size, cursor.upper, cursor.upper_size)
    if size == 0:
        return False
    if tab.parts:
        cursor.prefix = size
        return False
    if filter_probe(cython.address(tab.filter), hash64(cursor.lower, size)):
        return False
    cython.cast(Table, tab.owner).cache.prefix_skips += 1
    return True


def _part_excluded(cursor, table):
    """Whether the partition to load has no key with the prefix: none that begins in it, and none that goes on from the one before."""
    root: TabP = cursor.root
    number: i64 = cursor.part
    size: cython.size_t = cursor.prefix
    if size == 0:
        return 0
    if number and last_key_size(root, number - 1) >= size and same_key(last_key(root, number - 1), size, cursor.lower, size):
        return 0
    hash: u64 = hash64(cursor.lower, size)
    if root.filtered:
        if part_may_contain(root, table.source, table.cache, number, hash):
            return 0
    elif filter_probe(cython.address(root.filter), hash):
        return 0
    table.cache.prefix_skips += 1
    return 1


def _enter_blocks(cursor, first, last):
    cursor.first = first
    cursor.last = last
    cursor.ordinal = last if cursor.descending else first


def _keep(cursor):
    if not cursor.keep:
        return KEEP_NOT
    return KEEP if cursor.loads <= _SHORT else KEEP_PASSING


def _load_part(cursor):
    """Fetch the partition that a cursor in want stands before, and stand before a block of it, or behind it."""
    table: Table = cython.cast(Table, cursor.root.owner)
    tab: TabP
    first: i64 = 0
    last: i64
    if _part_excluded(cursor, table):
        cursor.part += -1 if cursor.descending else 1
    else:
        tab = part_index(cursor.root, table.source, table.cache, cython.cast(u32, cursor.part), _keep(cursor))
        last = cython.cast(i64, tab.blocks) - 1
        cursor.tab = tab
        if cursor.lower != cython.NULL:
            first = table_lower(tab, cursor.lower, cursor.lower_size)
        if cursor.upper != cython.NULL:
            last = min(cython.cast(i64, table_lower(tab, cursor.upper, cursor.upper_size)), last)
        _enter_blocks(cursor, first, last)
    if cursor.descending:
        cursor.at = -1  # Behind everything that is loaded: what may be left is a candidate.
        cursor.end = 0
        _settle_backward(cursor)
    else:
        _find_block(cursor)
    return 0


def cursor_load(cursor, scratch):
    """Fetch the block that a cursor in want stands before, and settle. Python code may run: other cursors must be asleep."""
    if cursor.tab == cython.NULL:
        return _load_part(cursor)
    table: Table = cython.cast(Table, cursor.tab.owner)
    before: TabP = cursor.blk_tab
    if cursor.blk != cython.NULL:
        _release(cursor, cursor.blk)
        cursor.blk = cython.NULL
    blk: BlkP
    if cursor.keep or cursor.tab.cached[cursor.ordinal] != cython.NULL:
        cursor.loads += 1
        blk = table_block(table, cursor.tab, cython.cast(u32, cursor.ordinal), _keep(cursor))
    else:
        blk = window_block(cursor, table, scratch)
    cursor.blk = blk
    cursor.blk_tab = cursor.tab
    if cursor.tab.part != cython.NULL:
        cursor.tab.part.pins += 1
    cursor.loaded = cursor.ordinal
    cursor.visible = blk.max_seqno <= cursor.seqno
    first: i64 = 0
    behind: i64 = blk.count
    if cursor.lower != cython.NULL and cursor.ordinal == cursor.first:
        first = block_lower(blk, cursor.lower, cursor.lower_size)
    if cursor.upper != cython.NULL and cursor.ordinal == cursor.last:
        behind = block_lower(blk, cursor.upper, cursor.upper_size)
    if cursor.descending:
        cursor.at = behind - 1
        cursor.end = first
        cursor.ordinal -= 1
    else:
        if cursor.skip != cython.NULL:
            while first < behind and same_key(block_key(blk, first), block_key_size(blk, first), cursor.skip, cursor.skip_size):
                first += 1
            if first < behind:
                cursor.skip = cython.NULL
            else:  # What it pointed to may go with its partition.
                cursor.skip = last_key(cursor.blk_tab, cursor.loaded)
        cursor.at = first
        cursor.end = behind
        cursor.ordinal += 1
    part_unpin(before)
    cursor_settle(cursor)
    return 0


def _release(cursor, blk):
    """Unpin, or keep a private block's memory for the next."""
    if blk.table == cython.NULL and blk.pins == 1 and cursor.spare == cython.NULL and not cursor.keep:
        cursor.spare = blk
    else:
        blk_unpin(blk)
