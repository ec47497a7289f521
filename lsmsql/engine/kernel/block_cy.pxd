from .block_decode_cy cimport (
    BLOCK_BUCKET, BLOCK_CHECK, BLOCK_COLUMNS, BLOCK_ENTRY, BLOCK_HEAD, BLOCK_HUGE, BLOCK_KEY, BLOCK_KINDS, BLOCK_LAYOUT, BLOCK_NO_MEMORY, BLOCK_NUMBER, BLOCK_OK,
    BLOCK_OTHER, BLOCK_PARTS, BLOCK_RESTART, BLOCK_SHARED, BLOCK_SHORT, BLOCK_TRAILER, FRAME_BAD, PAYLOAD_BAD, Layout, blk_allocate, blk_free, blk_reserve, blk_unpin, block_decode, block_fill, block_measure,
)
from .block_encode_cy cimport (
    Builder, blk_copy, block_encode, block_encode_bound, builder_append, builder_clear, builder_free,
)
from .block_rows_cy cimport ROW_FOUND, Row, rows_search
from .block_rows_encode_cy cimport rows_encode, rows_encode_bound
from .frame_cy cimport Scratch, frame_check, frame_room, frame_seal, payload_decode, payload_seal, scratch_free
from .libraries_cy cimport hash64
from .native cimport Blk, u32, u64

cdef class Block:
    cdef Blk* blk
    cdef bytes _key(self, u32 i)
    cdef bytes _value(self, u32 i)

cdef Block block_adopt(Blk* blk)  # a Block that takes over one pin of the caller's
cdef object block_error(int code)  # the ValueError (or MemoryError) of a code, to be raised
