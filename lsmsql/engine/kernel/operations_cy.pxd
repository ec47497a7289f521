from .native cimport Chunk, Data, MemTree, Ops, u8, u32, u64

# Owns the memory of a batch or an arena; Memtables keep it alive.
cdef class Operations:
    cdef Ops ops

cdef u32 ops_hash(u32 tree_number, u64 hash) noexcept nogil
cdef u32 ops_find(const Ops* ops, u32 tree_number, u64 hash, Data key, size_t size) noexcept nogil  # key node or 0; hash: XXH3-64 of the key
cdef void ops_prefetch(const Ops* ops, u32 tree_number, u64 hash) noexcept nogil
cdef int ops_reserve(Ops* ops, size_t more) noexcept nogil  # -1: no memory; else `more` inserts will find room
cdef void ops_insert(Ops* ops, u32 tree_number, u64 hash, u8* op, u64 seqno) noexcept nogil
cdef void ops_insert_record(Ops* ops, u8* at, u8* end, u64 seqno) noexcept nogil  # checked operations; their trees are known
cdef void ops_pop(Ops* ops) noexcept  # undo the last insert, which replaced nothing
cdef int ops_tree(Ops* ops, u32 id) noexcept nogil  # number of a known tree, or -1
cdef int ops_add_tree(Ops* ops, u32 id) except -1  # its number, made if need be
cdef u32* _bucket(Ops* ops, u32 id) noexcept nogil
cdef int _grow_trees(Ops* ops) except -1
cdef Chunk* chunk_take(size_t room)  # from the pool if it has one; NULL: no memory
cdef void chunk_give(Chunk* chunk) noexcept

cdef int _grow_nodes(Ops* ops, size_t need) noexcept nogil
cdef int _grow_slots(Ops* ops, size_t need) noexcept nogil
cdef void _clear_slot(Ops* ops, u32 hash, u32 node) noexcept nogil
