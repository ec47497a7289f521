from .block_decode_cy cimport Layout
from .native cimport Blk, Data, u8, u32, u64

cdef struct Rows:  # the parts of a raw block whose header and trailer fit together
    Data raw
    Data end  # of the entries; behind it are the restart offsets, then the buckets
    Data buckets
    Data checks  # of the entries, behind the trailer; NULL: none
    u32 count
    u32 interval
    u32 restarts
    u32 bucket_count
    bint wide  # restart offsets are u32, else u16

cdef struct Row:
    u64 seqno
    Data key  # what does not come from the restart head's key
    Data value
    u32 shared
    u32 key_size
    u32 value_size
    u8 kind

cdef enum:  # what rows_search found out
    ROW_ABSENT = 0  # neither this block nor a later one has a visible version of the key
    ROW_FOUND = 1
    ROW_BEYOND = 2  # the versions of the key may go on in the next block

cdef size_t common_bytes(Data a, size_t a_size, Data b, size_t b_size) noexcept nogil  # leading bytes that two keys share

# Called by block_measure and block_fill, which check the layout and place the block.
cdef int rows_measure(Data raw, size_t size, Layout* layout) noexcept nogil
cdef void rows_fill(const Layout* layout, Blk* blk) noexcept nogil

# The newest version of a key at a seqno in a raw block: a code of block_decode_cy, and in `outcome` what was found out. hash: XXH3-64 of the key.
# `row` points into the raw block.
cdef int rows_search(Data raw, size_t size, Data key, size_t key_size, u64 hash, u64 seqno, Row* row, int* outcome) noexcept nogil

# A varint of at most `limit`, in as few bytes as it can stand in; `at` moves behind it. A code of block_decode_cy.
cdef inline int take_number(Data* at, Data end, u64 limit, u64* number) noexcept nogil:
    if at[0] < end and at[0][0] < 128:
        number[0] = at[0][0]
        at[0] += 1
        return 0
    return _long_number(at, end, limit, number)

# The same where it has been checked.
cdef inline u64 pass_number(Data* at) noexcept nogil:
    cdef u64 byte = at[0][0], number = byte & 127
    cdef int shift = 7
    at[0] += 1
    while byte > 127:
        byte = at[0][0]
        number |= (byte & 127) << shift
        shift += 7
        at[0] += 1
    return number

# Whether the last entry of a checked block has this key.
cdef bint rows_last(Data raw, size_t size, Data key, size_t key_size) noexcept nogil

cdef int _open(Data raw, size_t size, Rows* rows) noexcept nogil
cdef u32 _offset(const Rows* rows, u32 restart) noexcept nogil
cdef int _long_number(Data* at, Data end, u64 limit, u64* number) noexcept nogil
cdef int _read(const Rows* rows, Data* at, bint at_head, u32 head_size, Row* row) noexcept nogil
cdef int _restart(const Rows* rows, Data key, size_t size, u64 seqno, u32* restart) noexcept nogil
cdef int _walk(const Rows* rows, u32 restart, bint alone, Data key, size_t key_size, u64 seqno, Row* row, int* outcome) noexcept nogil
cdef void _fill_offsets(Blk* blk, u32 i, size_t key, size_t value) noexcept nogil
