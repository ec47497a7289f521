from .native cimport Data, MemTree, Ops, Pair, Run, u32, u64

# For scans, under the GIL: bring the order up to date, then walk (run, position).
cdef int order_update(Ops* ops, MemTree* tree) noexcept  # -1: no memory; MemTree.changes moves if the order did
cdef void order_seek(const Ops* ops, const MemTree* tree, Data key, size_t size, bint after, u32* run, u32* position) noexcept nogil
# ^ first pair whose key is >= key (> key if after); run == run_count at the end
# For flush, sealed memtables, without the GIL: a sorted array of *count pairs to free(). NULL: no memory, or *count == 0.
cdef Pair* order_sorted(const Ops* ops, const MemTree* tree, size_t* count) noexcept nogil

cdef void order_free(MemTree* tree) noexcept
cdef void order_remove(Ops* ops, MemTree* tree, u32 key_node) noexcept

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

cdef bint _below(const Ops* ops, const Pair* a, const Pair* b, size_t skip) noexcept nogil
cdef int _compare(const Ops* ops, const Pair* pair, u64 prefix, Data key, size_t size) noexcept nogil
cdef Pair* _gather(const Ops* ops, const MemTree* tree, size_t count) noexcept nogil
cdef size_t _common(const Ops* ops, const Pair* pairs, size_t count) noexcept nogil
cdef Pair* _sort(const Ops* ops, Pair* pairs, Pair* other, size_t count, size_t skip) noexcept nogil
cdef Pair* _radix(Pair* pairs, Pair* other, size_t count) noexcept nogil
cdef void _merge_sort(const Ops* ops, Pair* pairs, Pair* other, size_t count, size_t skip) noexcept nogil
cdef Pair* _sorted(const Ops* ops, const MemTree* tree, size_t count) noexcept nogil
cdef int _build(MemTree* tree, const Pair* pairs, size_t count) noexcept nogil
cdef int _reserve_runs(MemTree* tree, size_t count) noexcept nogil
cdef int _merge(Ops* ops, MemTree* tree, const Pair* pairs, size_t count) noexcept
cdef int _insert(const Ops* ops, MemTree* tree, const Pair* pair) noexcept nogil
cdef u32 _run_of(const Ops* ops, const MemTree* tree, u64 prefix, Data key, size_t size) noexcept nogil
cdef u32 _position_in(const Ops* ops, const Run* run, u64 prefix, Data key, size_t size, bint after) noexcept nogil
cdef void _drop_runs(MemTree* tree) noexcept nogil
