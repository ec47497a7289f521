# Parity of frames as the kernels add it, without the GIL. Padding is never written down: a shard that ends early counts as zeros from there on.
from libc.stdint cimport uint8_t

ctypedef uint8_t byte
ctypedef byte* Bytes
ctypedef const byte* ReadBytes

cdef struct Parity:
    unsigned int d  # data shards; 0: there is no parity
    unsigned int p  # parity shards
    byte matrix[256]  # p rows of d coefficients

cdef void parity_prepare(Parity* parity, unsigned int d, unsigned int p) noexcept nogil
cdef size_t parity_shard(unsigned int d, size_t frame_size) noexcept nogil  # bytes of one shard
cdef size_t parity_frame(unsigned int d, unsigned int p, size_t stored) noexcept nogil  # of `stored` bytes the frame's; 0 if no frame makes so many
cdef void parity_encode(const Parity* parity, ReadBytes frame, size_t size, Bytes out) noexcept nogil  # writes p * parity_shard bytes

cdef byte _multiply(byte a, byte b) noexcept nogil
cdef void _double(Bytes out, size_t size) noexcept nogil
cdef void _add(Bytes out, ReadBytes data, size_t size) noexcept nogil
cdef void _double_add(Bytes out, ReadBytes data, size_t size) noexcept nogil
cdef void _combine(const byte* factors, ReadBytes* shards, const size_t* sizes, unsigned int count, Bytes out, size_t size) noexcept nogil
cdef void _combine_part(
    const byte* factors, ReadBytes* shards, const size_t* sizes, unsigned int count, Bytes out, size_t start, size_t end
) noexcept nogil
cdef void _cut(ReadBytes frame, size_t frame_size, unsigned int d, ReadBytes* shards, size_t* sizes) noexcept nogil
cdef void _invert(byte* matrix, byte* found, unsigned int size) noexcept nogil
cdef void _solve(
    const Parity* parity, const unsigned int* missing, const unsigned int* rows, unsigned int count, ReadBytes stored, size_t frame_size, Bytes out
) noexcept nogil
