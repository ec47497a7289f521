# The table that a stream is writing: its open block, its finished blocks, and the bytes not yet handed out.
from .block_encode_cy cimport Builder, block_encode, block_encode_bound, builder_append, builder_clear, builder_free
from .checksums_cy cimport checks_append
from .filter_cy cimport filter_build
from .block_rows_encode_cy cimport rows_encode, rows_encode_bound
from .libraries_cy cimport hash64
from .prefix_cy cimport prefix_length
from .sealing_cy cimport Sealed, Sealing, sealing_block, sealing_free, sealing_payloads, sealing_room
from .native cimport (
    BLOB_POINTER, DUPLICATES, FRAME_HEADER, POINTER_BYTES, SLACK, TOMBSTONE, Blk, Data, Room, U32s, U64s, block_key, block_key_size, block_kind, block_seqno, block_value,
    block_value_size, key_start, same_key, u8, u16, u32, u64, value_start,
)

cdef struct OpenTable:
    # -- settings
    u64 block_bytes
    u64 table_bytes
    u64 index_limit
    u64 filter_limit
    u64 partition_bytes  # 0: no partitions
    u64 spill_bytes
    bint full_filter
    u32 prefix_code  # PrefixExtractor.code, 0: none
    u32 filter_bits
    u32 restart_interval  # of rows; 0: columns
    double hash_ratio
    bint checked  # blocks carry checksums of their entries
    bint carrying  # those are the ones that the memtable has had since the commit
    Sealing sealing
    bint deferred  # blocks are handed out raw, and sealed elsewhere
    # -- the open block: entries before `committed` are in it, later ones may yet be dropped
    Builder builder
    Builder spare
    u32 committed
    U32s carried  # checksums of the builder's entries, if carrying
    size_t carried_room
    bint changed  # entry `changed_at` of the builder is not what was committed
    u32 changed_at
    u64 size  # of the committed entries, as block_bytes counts
    bint duplicates  # two committed entries have the same key
    Room raw
    size_t raw_room
    # -- the finished blocks
    u32 blocks
    u32 block_room
    U32s sizes
    U32s entries
    U32s raw_lengths
    U64s minima
    U64s maxima
    u8* masks
    u8* codecs
    U32s last_ends  # of the last keys, from `last_keys`
    Room last_keys
    size_t last_room
    u32 settled  # of them, whose frames are known
    u64 settled_raw  # bytes of those, raw
    u64 unsettled_raw  # and of the others
    # -- the finished partitions, and the open one
    U64s ends  # blocks, then hashes, before the end of each
    size_t ends_room
    u32 parts
    u64 open_bytes
    u64 open_entries
    u64 top_bytes  # of the partitions and their last keys
    # -- the table
    U64s hashes  # of the keys, and of their prefixes
    size_t hash_count
    size_t keys
    Room prefix  # of the last key that had one
    size_t prefix_size  # 0: none in the open partition
    size_t prefix_room
    size_t hash_room
    Room smallest
    u32 smallest_size
    u64 total
    u64 tombstones
    u64 raw_bytes
    u64 data_bytes
    u64 index_bytes  # of the blocks and their last keys
    Room pointers  # of the entries that have them
    size_t pointers_size
    size_t pointers_room
    # -- the chunk
    Room out
    size_t out_size
    size_t out_room
    u32 first_block
    u64 payload_bytes

cdef int table_carry(OpenTable* table, u32 check) noexcept nogil  # of the builder's last entry
cdef object table_changed(OpenTable* table)  # the error for an entry that is not what was committed; None if there is none
cdef int table_add_key(OpenTable* table, Data key, u32 size) noexcept nogil
cdef int table_close_block(OpenTable* table, u32 count) noexcept nogil
cdef bint table_index_ends(const OpenTable* table) noexcept nogil  # its index is as long as it may be
cdef bint table_full(const OpenTable* table) noexcept nogil  # its frames, its index or its filter are
cdef bytes table_out(OpenTable* table)
cdef bytes table_raw_lengths(OpenTable* table)
cdef int table_settle(OpenTable* table, bytes sizes, bytes codecs) except -1
cdef bytes table_lead(OpenTable* table, bytes before)  # raw, of the block that goes on behind the chunk; before: likewise of the chunk before
cdef list table_payloads(OpenTable* table)
cdef object table_summary(OpenTable* table, object filter_kind, object dictionary)
cdef void table_next_chunk(OpenTable* table) noexcept nogil
cdef void table_start(OpenTable* table) noexcept nogil
cdef void table_free(OpenTable* table) noexcept nogil

cdef size_t _bound(const OpenTable* table, const Blk* blk) noexcept nogil
cdef size_t _encode(OpenTable* table, const Blk* blk, Room out) noexcept nogil
cdef int _defer_block(OpenTable* table, const Blk* blk) noexcept nogil
cdef u64 _frame_bytes(const OpenTable* table) noexcept nogil
cdef int _append_index(OpenTable* table, const Blk* blk, size_t raw_size, size_t frame_size, int codec) noexcept nogil
cdef int _keep_pointers(OpenTable* table, const Blk* blk) noexcept nogil
cdef int _keep_rest(OpenTable* table, u32 first) noexcept nogil
cdef int _grow_blocks(OpenTable* table) noexcept nogil
cdef bint _reserve(void** memory, size_t* room, size_t need, size_t width) noexcept nogil
cdef bint _resize(void** memory, size_t size) noexcept nogil
cdef bytes _index(OpenTable* table, u32 first, u32 end)
cdef int _add_hash(OpenTable* table, Data key, size_t size) noexcept nogil
cdef int _add_prefix(OpenTable* table, Data key, size_t size) noexcept nogil
cdef u64 _filter_bytes(const OpenTable* table) noexcept nogil
cdef bint _spills(const OpenTable* table) noexcept nogil
cdef int _end_block(OpenTable* table, u32 key_size) noexcept nogil
cdef int _end_partition(OpenTable* table, u32 key_size) noexcept nogil
cdef tuple _partitions(OpenTable* table, int kind)
