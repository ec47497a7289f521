# The head of a sorted source, and the choice of the least among several: what scans and table streams share.
from .native cimport (
    Blk, Data, block_key, block_key_size, block_kind, block_seqno, block_value, block_value_size, compare_keys, op_key, op_key_size, op_kind,
    op_value, op_value_size, prefix_of, u8, u32, u64,
)

cdef enum:  # Head.state
    LIVE = 0  # the other fields hold an entry
    DONE = 1  # the source is at its end
    WANT = 2  # the source cannot go on without the GIL: a block or more rows have to be fetched
    SEEK = 3  # a memtable that has not been looked at yet
    FAILED = 4  # a table's block is damaged, or memory ran out

cdef struct Head:
    u64 prefix  # prefix_of the key
    Data key
    Data value
    u64 seqno
    u32 key_size
    u32 value_size
    u8 kind
    u8 state

ctypedef Head* HeadP
ctypedef HeadP* Heads

cdef inline void head_of_block(Head* head, const Blk* blk, u32 i) noexcept nogil:
    head.key = block_key(blk, i)
    head.key_size = block_key_size(blk, i)
    head.prefix = prefix_of(head.key, head.key_size)
    head.value = block_value(blk, i)
    head.value_size = block_value_size(blk, i)
    head.seqno = block_seqno(blk, i)
    head.kind = block_kind(blk, i)
    head.state = LIVE

cdef inline void head_of_operation(Head* head, u8* op, u64 prefix, u64 seqno) noexcept nogil:
    head.key = op_key(op)
    head.key_size = op_key_size(op)
    head.prefix = prefix
    head.value = op_value(op)
    head.value_size = op_value_size(op)
    head.seqno = seqno
    head.kind = op_kind(op)
    head.state = LIVE

cdef struct Least:
    Head* head
    u64 bound  # while (prefix ^ flip) of the head's successors stays below this, they are the least too, and not tied
    u64 flip  # all ones in a descending merge, else 0
    bint alone  # there is no other source: the bound does not matter
    bint tied  # other heads have the same key, at the same seqno or an older one

cdef void merge_least(Heads heads, u32 count, bint descending, Least* least) noexcept nogil

cdef struct Retention:
    u64 floor
    u64* boundaries  # the floor, then the snapshots below it, descending
    u32 count
    bint bottom

cdef bint retained(const Retention* rules, u64 seqno, u64 newer) noexcept nogil
