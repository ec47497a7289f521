# The window of a scan's cursor (cursor_cy.pxd): frames of one table, or of one partition of its index, read and not all decoded.
from .block_decode_cy cimport blk_free
from .cursor_cy cimport Cursor, i64
from .frame_cy cimport Scratch
from .mend_cy cimport block_mend
from .native cimport Blk, BlkP, Data, Tab, TabP, u32, u64
from .table_cy cimport Table, table_decode_frame

cdef Blk* window_block(Cursor* cursor, Table table, Scratch* scratch) except NULL  # the block to load, with one pin
cdef void window_close(Cursor* cursor) noexcept

cdef inline bint window_wants(const Cursor* cursor, const Tab* tab, i64 ordinal) noexcept:
    """Whether a block, or a partition, can hold something for the cursor."""
    return tab.min_seqnos[ordinal] <= cursor.seqno and (not cursor.since or tab.max_seqnos[ordinal] > cursor.since)

cdef int _mend(Cursor* cursor, Table table, bytes frame, int code, Scratch* scratch) except -1
cdef int _read_window(Cursor* cursor, Table table) except -1
