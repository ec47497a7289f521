# What pure Python mode cannot say: C structs, function pointers, pointer types, prefetch; and the accessors on them, inlined into every kernel.
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

ctypedef uint8_t u8
ctypedef uint16_t u16
ctypedef uint32_t u32
ctypedef uint64_t u64
ctypedef int32_t i32
ctypedef const u8* Data  # read
ctypedef u8* Room  # write
ctypedef u16* U16s
ctypedef u32* U32s
ctypedef u64* U64s
ctypedef size_t* Sizes

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define lsmsql_prefetch(p) __builtin_prefetch(p)
    #define lsmsql_swap64(x) __builtin_bswap64(x)
    #define lsmsql_clz64(x) __builtin_clzll(x)
    #define lsmsql_ctz64(x) __builtin_ctzll(x)
    #define lsmsql_parity64(x) __builtin_parityll(x)
    #else
    #error "the kernels need GCC or Clang"
    #endif
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "the kernels are for little-endian machines"
    #endif
    #define LSMSQL_BATCH_SEQNO (1ULL << 62)
    #define LSMSQL_U32_MAX 0xFFFFFFFFULL
    #define LSMSQL_TREE_STEP 0x9E3779B1U
    """
    void prefetch "lsmsql_prefetch"(const void* p) noexcept nogil
    u64 swap64 "lsmsql_swap64"(u64 x) noexcept nogil
    int clz64 "lsmsql_clz64"(u64 x) noexcept nogil  # x != 0
    int ctz64 "lsmsql_ctz64"(u64 x) noexcept nogil  # x != 0
    int parity64 "lsmsql_parity64"(u64 x) noexcept nogil
    const u64 BATCH_SEQNO "LSMSQL_BATCH_SEQNO"
    const u64 U32_MAX "LSMSQL_U32_MAX"
    const u32 TREE_STEP "LSMSQL_TREE_STEP"  # odd: gives each tree its own place in a shared hash

cdef enum:
    TOMBSTONE = 0
    VALUE = 1
    BLOB_POINTER = 5
    POINTER_BYTES = 24
    KIND_WRITABLE_MAX = 1
    KINDS_READABLE = 1 << 0 | 1 << 1 | 1 << 5
    SELECT_TREE = 0xFF
    DUPLICATES = 0x80
    OP_HEADER = 8
    FRAME_HEADER = 40
    RECORD_HEADER = 64
    SLACK = 16  # readable and writable bytes behind every buffer that is copied 16 bytes at a time

# --- libraries, by function pointer (libraries_cy fills them in)

ctypedef struct Hash128:
    u64 low
    u64 high

ctypedef u64 (*hash64_t)(const void*, size_t) noexcept nogil
ctypedef Hash128 (*hash128_t)(const void*, size_t) noexcept nogil
ctypedef size_t (*compress_t)(void* context, void* out, size_t room, const void* data, size_t size, int level) noexcept nogil
ctypedef size_t (*decompress_t)(void* context, void* out, size_t room, const void* data, size_t size) noexcept nogil
ctypedef size_t (*learn_t)(void* context, int level, const void* learned) noexcept nogil
ctypedef size_t (*compress_learned_t)(void* context, void* out, size_t room, const void* data, size_t size, int level, const void* learned) noexcept nogil
ctypedef size_t (*decompress_learned_t)(void* context, void* out, size_t room, const void* data, size_t size, const void* learned) noexcept nogil
ctypedef size_t (*compress2_t)(void* context, void* out, size_t room, const void* data, size_t size) noexcept nogil
ctypedef size_t (*set_parameter_t)(void* context, int parameter, int value) noexcept nogil
ctypedef size_t (*ref_dictionary_t)(void* context, const void* learned) noexcept nogil
ctypedef size_t (*load_dictionary_t)(void* context, const void* data, size_t size, int method, int type) noexcept nogil
ctypedef size_t (*load_lead_t)(void* context, int level, const void* lead, size_t lead_size) noexcept nogil
ctypedef size_t (*compress_behind_t)(
    void* context, void* out, size_t room, const void* data, size_t size, int level, const void* lead, size_t lead_size
) noexcept nogil
ctypedef size_t (*decompress_behind_t)(
    void* context, void* out, size_t room, const void* data, size_t size, const void* lead, size_t lead_size
) noexcept nogil
ctypedef void* (*create_t)() noexcept nogil
ctypedef size_t (*free_t)(void* context) noexcept nogil
ctypedef unsigned int (*is_error_t)(size_t code) noexcept nogil
ctypedef unsigned long long (*content_size_t)(const void* data, size_t size) noexcept nogil
ctypedef size_t (*frame_size_t)(const void* data, size_t size) noexcept nogil

# --- the key of an encrypted file (aes_gcm_cy makes it)

cdef struct FileKey:  # of one file and epoch; nothing in it changes
    u8 key[32]
    u8 file[24]  # database id and file id, as associated data has them
    u32 epoch
    u64 serial  # no two keys of this process have the same
    void* aead  # the AESGCM of the cryptography package that stands in; the NativeCipher keeps it

ctypedef const FileKey* FileKeyP

# --- a decoded block: this struct and its arrays are one allocation (but for a builder's, whose arrays are its own)

cdef struct Blk:
    size_t capacity  # of the allocation in bytes, this struct included; 0: not an allocation of its own (a builder's view)
    size_t size  # bytes in use, this struct included: what the cache counts
    u64 base  # added to every seqno delta; a table's global seqno is in it
    u64 min_seqno
    u64 max_seqno
    void* key_offsets  # count + 1, u32 if key_wide else u16, from `keys`
    void* value_offsets  # count + 1, u32 if value_wide else u16, from `values`
    void* seqnos  # deltas of seqno_width bytes (0, 2, 4 or 8)
    u8* kinds  # NULL: all are VALUE
    u8* keys
    u8* values
    Tab* table  # where the cache holds it: a root; NULL: in no cache
    u32 ordinal  # of the block in that table
    u32 ring  # its place in its ring of the cache; U32_MAX: kept for as long as its table
    u32 count
    u32 pins  # changed under the GIL only; a block with pins is neither evicted nor freed
    u8 key_wide
    u8 value_wide
    u8 seqno_width
    u8 kind_mask
    u8 duplicates  # two entries of one user key lie in this block
    u8 referenced  # read since it entered the cache, or since the hand last came by
    u8 proven  # it is in the cache's ring of blocks that were read again

ctypedef Blk* BlkP

# --- a filter, pointing into its block (filter_cy)

cdef enum:
    FILTER_NONE = 0  # kinds.FilterKind
    FILTER_BLOOM = 1
    FILTER_BURR = 2
    BURR_LAYERS_MAX = 8
    BURR_BUCKET = 128

cdef struct BurrLayer:
    u64 positions  # a row starts before
    const u8* words
    const u8* thresholds

cdef struct Burr:
    u32 bits  # of a fingerprint
    u32 layers
    BurrLayer layer[BURR_LAYERS_MAX]
    const u8* stash  # u64, ascending
    u32 stashed

cdef struct Filter:
    u32 kind
    u32 probes  # of Bloom, as the next two
    const u8* lines
    u32 line_count
    Burr burr

# --- an open table

cdef struct Tab:  # an index, whole, top-level or one of its partitions: what the columns are of are data blocks, or partitions (`parts`)
    void* owner  # the Table object, borrowed
    u32 blocks  # in the columns
    u32 first  # number in the table of the first data block
    u32 data_blocks  # of the whole table
    u32 parts  # of a top-level index: partitions, as many as `blocks`; else 0
    u32* part_firsts  # parts + 1: number of each one's first data block
    u64* part_starts  # parts + 1: offset of that in the file
    bint filtered  # each partition has its filter
    u32 prefix_code  # PrefixExtractor.code of what the filter holds beside the keys, 0: nothing
    bint pin_index  # partitions that were read stay
    bint pin_filter
    Blk* part  # of a partition: the cached block that this lies in, which has to be pinned; NULL: this is the table's own
    Tab* root  # the table's own: what the cache knows
    u32 common  # bytes that all last keys share
    u64* prefixes  # of each last key: 8 bytes behind the common ones, see prefix_of
    u64* offsets  # blocks + 1, of the frames in the file
    u32* sizes  # of the frames, parity included
    u32 parity  # ParityScheme.code of the frames, 0: none
    u32 dictionary  # id of the one that frames may name, 0: none
    const void* learned  # that dictionary, as zstd_decompress_learned takes it; the Table keeps it
    FileKeyP key  # of the frames, NULL: not encrypted; the Table keeps it
    u8 paranoid  # entries are held to their checksums
    u32 span  # data blocks from one lead to the next, 1: none is compressed against another
    u64 serial  # of the Table, unlike that of any other of this process
    u32* entries
    u64* min_seqnos  # global seqno included
    u64* max_seqnos
    u8* masks  # kinds, and DUPLICATES
    u32* key_offsets  # blocks + 1, from `keys`
    u8* keys  # last keys
    BlkP* cached  # by data block from `first` on; NULL: not in the cache. The root's go on with the partitions of index and filter
    u32* ghosts  # the root's, as `cached`: when the cache put a block out that was read but once; 0: not, or long ago
    u8* smallest
    u32 smallest_size
    Filter filter
    u64 global_seqno
    u64 min_seqno
    u64 max_seqno
    u64 total  # entries

ctypedef Tab* TabP

# --- operations: batches and arenas. An operation is u32 value size, u16 key size, u8 kind, u8 0, key, value.

cdef struct Node:
    u8* op
    u64 seqno
    u32 older  # the version before, 0: none (then this is the key node: it stands for the key in hash and order)
    u32 peer  # key node: the newest version (may be itself); any other: the key node
    u32 previous  # key node: the key node made before in the same tree, 0: none
    u32 tree  # index in Ops.trees

ctypedef Node* NodeP

cdef struct Pair:
    u64 prefix  # prefix_of the key
    u32 node  # key node
    u32 unused

ctypedef Pair* PairP

cdef enum:
    RUN_PAIRS = 256

cdef struct Run:
    u32 count
    Pair pairs[RUN_PAIRS]

ctypedef Run* RunP

cdef struct MemTree:
    u32 id
    u32 number  # its index in Ops.trees
    u32 chained  # 1 + number of the next tree of the same bucket, 0: none
    u32 last  # newest key node, 0: none
    u32 ordered_through  # key nodes up to this one are in the order
    u64 entries
    u64 keys
    u64 min_seqno
    u64 max_seqno
    u64 changes  # of the order, rollbacks included: a position taken before the last change is void
    RunP* runs  # the keys in ascending order, no run empty
    u32 run_count
    u32 run_room
    u32 kind_mask

ctypedef MemTree* MemTreeP

cdef struct Chunk:
    Chunk* before
    size_t room
    size_t used
    u8 data[1]

ctypedef Chunk* ChunkP

cdef struct Ops:
    Node* nodes  # may move when a write adds nodes: index it anew after the GIL was let go, unless sealed
    u32* checks  # of the entries, by node; NULL unless `checked`
    bint checked  # every entry gets a checksum (checksums_cy) as it is indexed
    u32 node_count  # nodes[0] is none
    u32 node_room
    u64* slots  # hash32 << 32 | key node
    u32 shift  # slot = hash32 >> shift
    u32 keys  # slots in use
    MemTreeP* trees
    u32* buckets  # as many as there is room for trees, in the same allocation: 1 + number of the first tree, 0: none
    u32 tree_count
    u32 tree_room  # a power of two, or 0
    u32 recent  # number of the tree that was found last
    Chunk* chunk  # the newest
    u64 rollbacks  # when it has moved, memory that operations lay in may hold others

ctypedef Ops* OpsP

# --- keys

cdef inline u64 prefix_of(Data key, size_t size) noexcept nogil:
    """The first 8 bytes as a number that orders as they do, zeros where the key is shorter."""
    cdef u64 word = 0
    if size >= 8:
        memcpy(&word, key, 8)
    else:
        memcpy(&word, key, size)
    return swap64(word)

cdef inline int compare_keys(Data a, size_t a_size, Data b, size_t b_size) noexcept nogil:
    """Negative, 0 or positive, as a < b, a == b, a > b."""
    cdef int order = memcmp(a, b, a_size if a_size < b_size else b_size)
    if order:
        return order
    return (a_size > b_size) - (a_size < b_size)

cdef inline bint same_key(Data a, size_t a_size, Data b, size_t b_size) noexcept nogil:
    return a_size == b_size and memcmp(a, b, a_size) == 0

# --- entries of a decoded block

cdef inline u32 key_start(const Blk* b, u32 i) noexcept nogil:
    return (<u32*> b.key_offsets)[i] if b.key_wide else (<u16*> b.key_offsets)[i]

cdef inline u32 value_start(const Blk* b, u32 i) noexcept nogil:
    return (<u32*> b.value_offsets)[i] if b.value_wide else (<u16*> b.value_offsets)[i]

cdef inline u8* block_key(const Blk* b, u32 i) noexcept nogil:
    return b.keys + key_start(b, i)

cdef inline u32 block_key_size(const Blk* b, u32 i) noexcept nogil:
    return key_start(b, i + 1) - key_start(b, i)

cdef inline u8* block_value(const Blk* b, u32 i) noexcept nogil:
    return b.values + value_start(b, i)

cdef inline u32 block_value_size(const Blk* b, u32 i) noexcept nogil:
    return value_start(b, i + 1) - value_start(b, i)

cdef inline u64 block_seqno(const Blk* b, u32 i) noexcept nogil:
    if b.seqno_width == 0:
        return b.base
    if b.seqno_width == 2:
        return b.base + (<u16*> b.seqnos)[i]
    if b.seqno_width == 4:
        return b.base + (<u32*> b.seqnos)[i]
    return b.base + (<u64*> b.seqnos)[i]

cdef inline u8 block_kind(const Blk* b, u32 i) noexcept nogil:
    return VALUE if b.kinds == NULL else b.kinds[i]

cdef inline u32 block_lower(const Blk* b, Data key, size_t size) noexcept nogil:
    """The first entry whose key is not below the key; count if there is none."""
    cdef u32 low = 0, high = b.count, middle
    while low < high:
        middle = (low + high) >> 1
        if compare_keys(block_key(b, middle), block_key_size(b, middle), key, size) < 0:
            low = middle + 1
        else:
            high = middle
    return low

# --- keys of a table's index

cdef inline u8* last_key(const Tab* t, u32 block) noexcept nogil:
    return t.keys + t.key_offsets[block]

cdef inline u32 last_key_size(const Tab* t, u32 block) noexcept nogil:
    return t.key_offsets[block + 1] - t.key_offsets[block]

# --- operations

cdef inline u32 op_value_size(const u8* op) noexcept nogil:
    cdef u32 size
    memcpy(&size, op, 4)
    return size

cdef inline u32 op_key_size(const u8* op) noexcept nogil:
    cdef u16 size
    memcpy(&size, op + 4, 2)
    return size

cdef inline u8 op_kind(const u8* op) noexcept nogil:
    return op[6]

cdef inline u8* op_key(u8* op) noexcept nogil:
    return op + OP_HEADER

cdef inline u8* op_value(u8* op) noexcept nogil:
    return op + OP_HEADER + op_key_size(op)

cdef inline size_t op_size(const u8* op) noexcept nogil:
    return OP_HEADER + <size_t> op_key_size(op) + op_value_size(op)

cdef inline u32 visible_node(const Node* nodes, u32 key_node, u64 seqno) noexcept nogil:
    """The newest version of a key at a seqno, 0 if there is none. Older versions follow by Node.older."""
    cdef u32 node = nodes[key_node].peer
    while node and nodes[node].seqno > seqno:
        node = nodes[node].older
    return node
