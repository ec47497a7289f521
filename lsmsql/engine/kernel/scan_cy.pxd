from .block_cy cimport Block, block_adopt, block_error
from .block_encode_cy cimport Builder, blk_copy, builder_append, builder_clear, builder_free
from .cursor_cy cimport (
    Cursor, CursorP, cursor_free, cursor_load, cursor_memtable, cursor_next, cursor_pass, cursor_plain_block, cursor_run, cursor_sleep, cursor_wake,
    i64,
)
from .frame_cy cimport Scratch, scratch_free
from .memtable_cy cimport Memtable
from .merge_cy cimport LIVE, WANT, Head, HeadP, Heads, Least, merge_least
from .native cimport BLOB_POINTER, VALUE, BlkP, Data, block_key, block_key_size, block_value, block_value_size, prefix_of, same_key, u8, u32, u64
from .levels_cy cimport Level, Levels

cdef extern from "Python.h":
    int PyGC_Disable()
    int PyGC_Enable()

cdef class Scan:
    cdef Cursor* cursors
    cdef Heads heads  # the live ones, after _ready
    cdef u32 count
    cdef u32 live
    cdef bint descending
    cdef bint busy  # a call is under way
    cdef bint closing  # close() was called meanwhile
    cdef u64 since
    cdef i64 left  # rows that may still come
    cdef bint valued  # values that stand apart are read
    cdef u64 unread  # bytes of those that the call under way has found and not read yet, and one for each
    cdef Scratch scratch
    cdef Builder builder
    cdef object on_close
    cdef object memtables
    cdef Levels levels
    cdef bytes lower
    cdef bytes upper
    cdef int _open(self, object memtables, u64 seqno, bint keep) except -1
    cdef int _enter(self) except -1
    cdef int _leave(self, bint ended) except -1
    cdef object _read(self, object found)
    cdef void _note(self, const Head* head) noexcept
    cdef int _ready(self) except -1
    cdef i64 _rows(self, list found, i64 want) except -1
    cdef i64 _merged_rows(self, list found, i64 want) except -1
    cdef i64 _block_rows(self, list found, Cursor* cursor, i64 want) except -1
    cdef int _step(self, Least* least) noexcept
    cdef bint _passes(self, const Least* least) noexcept
    cdef int _build(self) except -1
    cdef object _next_block(self)
    cdef Block stretch(self, u32* first, u32* stop)
    cdef Block _next_stretch(self, u32* first, u32* stop)
    cdef void _free(self) noexcept

cdef class _Batches:
    cdef Scan scan
    cdef i64 size
