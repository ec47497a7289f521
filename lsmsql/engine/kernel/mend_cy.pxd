from .frame_cy cimport Scratch
from .native cimport Blk, Tab, u32
from .table_cy cimport Table

# What table_decode_frame and table_decode_payload could not do (code) with a frame: its block after repair in *blk, as they give it, or the error.
cdef int block_mend(Table table, const Tab* tab, u32 ordinal, bytes frame, int code, Scratch* scratch, Blk** blk) except -1
