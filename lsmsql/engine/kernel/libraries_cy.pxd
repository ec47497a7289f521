from .native cimport (
    compress_behind_t, compress_learned_t, compress_t, content_size_t, create_t, decompress_behind_t, decompress_learned_t, decompress_t,
    frame_size_t, free_t, hash64_t, hash128_t, is_error_t, learn_t, load_lead_t,
)

cdef hash64_t hash64  # XXH3-64
cdef hash128_t hash128  # XXH3-128
cdef compress_t zstd_compress
cdef decompress_t zstd_decompress
# With a dictionary: zstd_learn once for each compressor, which from then on works with that level and dictionary only.
cdef learn_t zstd_learn
cdef compress_learned_t zstd_compress_learned
cdef decompress_learned_t zstd_decompress_learned
# Against the lead of a block (storage/compression.py): zstd_load_lead for each, which has to stay where it is, into a compressor for nothing else.
cdef load_lead_t zstd_load_lead
cdef compress_behind_t zstd_compress_behind
cdef decompress_behind_t zstd_decompress_behind
cdef create_t zstd_create_compressor
cdef create_t zstd_create_decompressor
cdef free_t zstd_free_compressor
cdef free_t zstd_free_decompressor
cdef is_error_t zstd_is_error
cdef content_size_t zstd_content_size
cdef frame_size_t zstd_frame_size
