from lsmsql.engine.kernel.native cimport Data, u8

# Whether bytes are UTF-8 as Python's strict decoder has it: shortest forms only, no surrogates, nothing above U+10FFFF.
cdef bint is_utf8(Data text, size_t size) noexcept nogil

cdef size_t _sequence(Data text, size_t left) noexcept nogil
