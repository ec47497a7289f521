# Checksums of single entries, behind a raw data block.
from .native cimport Blk, Data, Room, u8, u32, u64

cdef u32 entry_check(u64 key_hash, Data value, size_t value_size, u64 seqno, u8 kind) noexcept nogil  # key_hash: XXH3-64; seqno: as in the file
# Append the checksums of a block's entries to its raw form of either layout, which has room for them, and say so in its header. carried: NULL, or what
# they have to be. The number of the first entry whose checksum is another; Blk.count if there is none.
cdef u32 checks_append(const Blk* blk, const u32* carried, Room raw, size_t size) noexcept nogil
cdef bint checks_match(const Blk* blk, Data checks, u64 global_seqno) noexcept nogil  # of a decoded block, to whose seqnos global_seqno was added

cdef u32 _check_of(const Blk* blk, u32 i, u64 global_seqno) noexcept nogil
