from .native cimport Data, MemTree, Ops, Pair, u8, u32, u64

# Owns the memory of a batch or an arena; Memtables keep it alive.
cdef class Operations:
    cdef Ops ops
    cdef bint sealed

cdef class Memtable:
    cdef Operations operations
    cdef Ops* ops
    cdef MemTree* mem
    cdef bint limited  # `limit` replaces the reader's seqno
    cdef u64 limit_seqno

# -- points
cdef u32 ops_find(const Ops* ops, u32 tree_number, u64 hash, Data key, size_t size) noexcept nogil  # key node or 0; hash: XXH3-64 of the key
cdef void ops_prefetch(const Ops* ops, u32 tree_number, u64 hash) noexcept nogil
# -- order, for scans (under the GIL): bring it up to date, then walk (run, position) pairs
cdef int order_update(Ops* ops, MemTree* tree) noexcept  # -1: no memory; MemTree.changes moves if the order did
cdef void order_seek(const Ops* ops, const MemTree* tree, Data key, size_t size, bint after, u32* run, u32* position) noexcept nogil
# ^ first pair whose key is >= key (> key if after); run == run_count at the end
# -- order, for flush (sealed memtables, without the GIL): a sorted array of *count pairs to free(); NULL: no memory, or *count == 0
cdef Pair* order_sorted(const Ops* ops, const MemTree* tree, size_t* count) noexcept nogil

cdef inline bint order_valid(const MemTree* tree, u32 run) noexcept nogil:
    return run < tree.run_count

cdef inline void order_next(const MemTree* tree, u32* run, u32* position) noexcept nogil:
    position[0] += 1
    if position[0] >= tree.runs[run[0]].count:
        run[0] += 1
        position[0] = 0

cdef inline bint order_previous(const MemTree* tree, u32* run, u32* position) noexcept nogil:
    """Step back, also from the end; False at the front."""
    if position[0]:
        position[0] -= 1
        return True
    if run[0] == 0:
        return False
    run[0] -= 1
    position[0] = tree.runs[run[0]].count - 1
    return True
