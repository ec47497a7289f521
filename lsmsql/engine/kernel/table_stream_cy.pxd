from .block_encode_cy cimport builder_append
from .checksums_cy cimport entry_check
from .feed_cy cimport Feed, FeedP, RowPuller, feed_check, feed_free, feed_memtable, feed_mend, feed_next, feed_read, feed_refill, feed_rows, feed_run
from .libraries_cy cimport hash64
from .memtable_cy cimport Memtable
from .merge_cy cimport DONE, FAILED, LIVE, HeadP, Heads, Least, Retention, merge_least, retained
from .native cimport BLOB_POINTER, POINTER_BYTES, SLACK, TOMBSTONE, VALUE, Blk, Room, TabP, U32s, U64s, block_key_size, block_value_size, same_key, u8, u32, u64
from .open_table_cy cimport (
    OpenTable, table_add_key, table_carry, table_changed, table_close_block, table_free, table_full, table_index_ends, table_next_chunk, table_out,
    table_lead, table_payloads, table_raw_lengths, table_settle, table_start, table_summary,
)
from .sealing_cy cimport BlockSealer, sealing_learn, sealing_set
from .table_cy cimport Table

ctypedef TabP* Tabs

cdef enum:  # what stops _run
    RUN_END = 0  # everything is out, but for the last table's summary
    RUN_ERROR = 1  # memory ran out, or a block would exceed 4 GiB
    RUN_CHUNK = 2  # enough for a chunk
    RUN_TABLE = 3  # a table is complete
    RUN_WANT = 4  # a feed wants more
    RUN_FAILED = 5  # a feed has met damage
    RUN_APART = 6  # a value is to be put apart

cdef class SortedRows:
    cdef readonly object rows

cdef class TableStream:
    cdef Feed* feeds
    cdef Heads heads
    cdef u32 count
    cdef u32 live
    cdef u32 stopped  # the feed that wants or has failed
    cdef bint stale  # the live heads have to be gathered anew
    cdef Retention rules
    cdef OpenTable table
    cdef u64 chunk_bytes
    # -- values that are put apart
    cdef u64 apart_bytes  # from this length on; 0: none
    cdef object put_apart
    cdef HeadP apart  # of whose value it is time
    cdef bint is_apart  # it was put apart: this is its pointer, and its entry's checksum if those are carried
    cdef u8 pointer[24]
    cdef u32 pointer_check
    # -- the versions of one user key
    cdef bint grouped
    cdef bint begun  # some of them are committed
    cdef u32 in_block  # committed ones in the open block
    cdef u64 newer  # seqno of the version before
    cdef Room key
    cdef u32 key_size
    cdef size_t key_room
    # -- Python objects
    cdef list sources
    cdef list runs  # bytes objects that hold arrays of Tab pointers
    cdef list owners  # per feed, what its window or rows lie in
    cdef list pullers  # per feed, a RowPuller or None
    cdef object filter_kind
    cdef object dictionary  # a Dictionary, and what the kernels made of it; or None
    cdef object native
    cdef bytes lead  # raw, of the block that goes on in the next raw chunk
    cdef object checked  # bool, or what is asked for one before each table
    cdef bint busy
    cdef bint closing
    cdef bint closed
    cdef bint waiting  # for the summary of the table that has ended to be taken
    cdef int _open_dictionary(self, object dictionary, int level) except -1
    cdef int _begin(self, list sources, list boundaries) except -1
    cdef int _add(self, object source) except -1
    cdef int _check_memtables(self) except -1
    cdef bint _carries(self) except? True
    cdef int _fetch(self) except -1
    cdef int _put_apart(self) except -1
    cdef int _append(self, HeadP head) noexcept nogil
    cdef object _next(self)
    cdef object _chunk(self, bint ends)
    cdef int _run(self) noexcept nogil
    cdef int _gather(self) noexcept nogil
    cdef int _begin_group(self, HeadP head) noexcept nogil
    cdef int _end_group(self) noexcept nogil
    cdef int _commit(self, u32 count) noexcept nogil
    cdef u32 _final(self) noexcept nogil
    cdef int _finish(self) noexcept nogil
    cdef void _free(self) noexcept
