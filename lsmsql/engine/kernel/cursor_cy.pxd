# A scan's position in one source: a memtable, or a run of disjoint ascending tables (one table being the shortest run).
from .block_decode_cy cimport blk_free, blk_unpin
from .frame_cy cimport Lead, Scratch
from .lead_cy cimport lead_free
from .memtable_cy cimport Memtable, order_next, order_previous, order_seek, order_update, order_valid
from .mend_cy cimport block_mend
from .merge_cy cimport DONE, LIVE, SEEK, WANT, Head, HeadP, head_of_block, head_of_operation
from .native cimport (
    Blk, BlkP, Data, MemTree, MemTreeP, NodeP, Ops, PairP, Room, Tab, TabP, VALUE, block_key, block_key_size, block_lower, block_seqno,
    compare_keys, last_key, last_key_size, same_key, u8, u32, u64, visible_node,
)
from .filter_cy cimport filter_probe
from .libraries_cy cimport hash64
from .parts_cy cimport part_index, part_may_contain, part_unpin
from .prefix_cy cimport prefix_of_range
from .cache_cy cimport KEEP, KEEP_NOT, KEEP_PASSING
from .table_cy cimport Table, table_block, table_decode_frame, table_decode_payload, table_lower

ctypedef long long i64
ctypedef TabP* Tabs

cdef struct Cursor:
    Head head
    bint descending
    bint memory  # a memtable's
    bint keep  # whether missed blocks enter the cache; if not, they are read ahead into memory of the cursor's own
    u64 seqno  # entries above are not seen
    u64 since  # blocks with nothing above are left out; 0: none are
    Data lower  # NULL: open
    Data upper  # NULL: open
    size_t lower_size
    size_t upper_size
    # -- a memtable's
    Ops* ops
    MemTree* tree
    u32 run
    u32 position
    u64 changes  # of the tree when run and position were taken
    u64 rollbacks  # of the operations then
    u8* saved  # the head's key, while Python code may run
    size_t saved_size
    size_t saved_room
    # -- a run's
    Tabs tables
    i64 table_count
    i64 table  # index of `tab`, or of the table to enter next
    Tab* root  # NULL: none entered
    i64 part  # of a partitioned one: partition to load next
    i64 part_first  # partitions that the range touches
    i64 part_last
    size_t prefix  # bytes of `lower` that all keys in range begin with, if the partitions' filters can be asked; 0: not
    Tab* tab  # root, or the pinned partition of it; NULL: that has to be loaded
    i64 first  # blocks of tab that the range touches
    i64 last
    i64 ordinal  # block to load next
    Tab* blk_tab  # where blk comes from; pinned if it is a partition
    i64 loaded  # its number there
    Blk* blk  # pinned; NULL: none
    i64 at  # next entry of blk
    i64 end  # one behind the last entry in range; descending: the first entry in range
    bint visible  # all of blk is
    Data skip  # a key whose other versions are passed over at the start of the next block; NULL: none
    size_t skip_size
    Blk* held  # descending: the block before blk, in which the head, or a candidate for it, lies; pinned
    i64 candidate  # its entry in held; -1: none
    # -- reading ahead
    void* window_owner  # bytes object, one reference
    Data window
    Tab* window_tab
    i64 window_first  # blocks in the window
    i64 window_last
    i64 ahead  # blocks to read next time
    i64 loads  # blocks so far
    Blk* spare  # memory for the next block
    Lead lead  # what blocks are decoded against

ctypedef Cursor* CursorP
ctypedef Scratch* ScratchP

cdef void cursor_memtable(Cursor* cursor, Memtable memtable) noexcept
cdef void cursor_run(Cursor* cursor, Tabs tables, size_t count) noexcept
cdef void cursor_next(Cursor* cursor) noexcept
cdef void cursor_settle(Cursor* cursor) noexcept
cdef int cursor_load(Cursor* cursor, Scratch* scratch) except -1
cdef int cursor_sleep(Cursor* cursor) except -1
cdef int cursor_wake(Cursor* cursor) except -1
cdef bint cursor_plain_block(const Cursor* cursor) noexcept
cdef void cursor_pass(Cursor* cursor, i64 at) noexcept
cdef void cursor_free(Cursor* cursor) noexcept

cdef void _settle_forward(Cursor* cursor) noexcept
cdef void _settle_backward(Cursor* cursor) noexcept
cdef bint _goes_on_before(Cursor* cursor, Blk* blk, i64 found) noexcept
cdef void _settle_memtable(Cursor* cursor) noexcept
cdef void _find_block(Cursor* cursor) noexcept
cdef int _load_part(Cursor* cursor) except -1
cdef int _keep(const Cursor* cursor) noexcept
cdef bint _excluded(Cursor* cursor, Tab* tab, i64 first, i64 last) noexcept
cdef int _part_excluded(Cursor* cursor, Table table) except -1
cdef void _enter_blocks(Cursor* cursor, i64 first, i64 last) noexcept
cdef bint _enter_table(Cursor* cursor) noexcept
cdef void _release(Cursor* cursor, Blk* blk) noexcept
