from lsmsql.engine.kernel.block_cy cimport Block

from .structs cimport Cur, drop

# Begin a scan, by vtab's Cursor; `scan_block` then goes to its first row, and from the end of a block to the next one's.
cdef int scan_open(Cur* own, object text, object values) except -1
cdef int scan_block(Cur* own) except -1
cdef int scan_free(Cur* own) except -1  # the Cursor too

cdef Block _block_of(object rows)
cdef bint _take(Cur* own, Block block, unsigned int first, unsigned int stop) except -1
