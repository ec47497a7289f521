# One source of a table stream, read from end to end: a memtable, a run of tables, or rows to ingest.
from .block_decode_cy cimport BLOCK_NO_MEMORY, blk_free
from .frame_cy cimport Lead, Scratch
from .lead_cy cimport lead_free
from .memtable_cy cimport Memtable, order_sorted
from .mend_cy cimport block_mend
from .merge_cy cimport DONE, FAILED, LIVE, SEEK, WANT, Head, head_of_block, head_of_operation
from .native cimport VALUE, Blk, Data, MemTree, NodeP, Ops, Pair, PairP, Tab, TabP, compare_keys, prefetch, prefix_of, u32, u64, visible_node
from .parts_cy cimport part_index, part_unpin
from .table_cy cimport Table, table_decode_frame

ctypedef long long i64
ctypedef TabP* Tabs

cdef struct Row:
    Data key
    Data value
    u32 key_size
    u32 value_size

ctypedef Row* Rows

cdef struct Feed:
    Head head
    int code  # of block_decode_cy, when FAILED
    bint memory
    # -- a memtable's: pairs in order of keys, and the chain of versions of the key at `at`
    Ops* ops
    MemTree* tree
    u64 limit  # entries above are not there
    u64 rollbacks  # of the operations when the feed began
    Pair* pairs
    size_t pair_count
    size_t at
    u32 node
    # -- a run's
    Tabs tables
    size_t table_count
    size_t table
    u32 part  # of a partitioned table
    Tab* tab  # the table's index, or the partition of it, pinned; NULL: to be fetched
    Tab* spent  # a partition that was read through, still pinned; NULL: none
    u32 ordinal  # block to decode next
    u32 i  # entry of blk
    Blk* blk
    Data window  # frames read and not all decoded; NULL: none
    u32 window_first
    u32 window_last
    Lead lead  # what blocks are decoded against
    # -- rows
    Rows rows
    size_t row_count

ctypedef Feed* FeedP

cdef void feed_memtable(Feed* feed, Memtable memtable) noexcept
cdef void feed_run(Feed* feed, Tabs tables, size_t count) noexcept
cdef int feed_rows(Feed* feed) except -1
cdef void feed_next(Feed* feed) noexcept nogil
cdef inline u32 feed_check(const Feed* feed) noexcept nogil:
    """The checksum that a live memtable's head has had since its commit."""
    return feed.ops.checks[feed.node]
cdef void feed_refill(Feed* feed, Scratch* scratch) noexcept nogil
cdef list feed_read(Feed* feed)
cdef int feed_mend(Feed* feed, Scratch* scratch) except -1
cdef void feed_free(Feed* feed) noexcept

cdef void _settle_pairs(Feed* feed) noexcept nogil
cdef void _sort(Feed* feed) noexcept nogil
cdef void _begin_block(Feed* feed) noexcept nogil
cdef int _fetch_index(Feed* feed) except -1

cdef class RowPuller:
    cdef object rows
    cdef object before
    cdef u64 number
    cdef list pull(self, Feed* feed)
    cdef int check(self, object key, object value) except -1
