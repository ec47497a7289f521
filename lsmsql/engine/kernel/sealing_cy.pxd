# How raw blocks become frames, or payloads that are encrypted elsewhere: the last step before the file, on any thread.
from ..storage.parity_cy cimport Parity, parity_encode, parity_frame, parity_prepare, parity_shard
from .aes_gcm_cy cimport NONCE, NativeCipher, native_cipher
from .frame_cy cimport Lead, Scratch, Sealer, SealerP, frame_room, frame_seal, payload_seal, scratch_free
from .lead_cy cimport lead_free, lead_keep
from .libraries_cy cimport zstd_create_compressor, zstd_free_compressor, zstd_is_error, zstd_load_lead
from .native cimport FRAME_HEADER, Data, FileKeyP, Room, U32s, u8, u32

cdef struct Sealing:
    int level
    size_t overhead  # that encryption adds to each payload; 0: there is none
    u32 parity_code  # ParityScheme.code, 0: none
    Parity parity
    u32 span  # data blocks from one lead to the next, 1: each is compressed alone
    Lead lead  # of the block that is open
    void* behind  # a compressor that it was loaded into; NULL: none was made
    Scratch scratch

cdef struct Sealed:
    size_t payload
    size_t frame  # as it will lie in the file, parity included
    size_t written  # of what `out` got: the frame, or the payload alone
    int codec

# ValueError for a parity that is none, UsageError for a level or a span
cdef int sealing_set(Sealing* sealing, int level, size_t overhead, u32 parity, long long span) except -1
cdef int sealing_learn(Sealing* sealing, object native, u32 id) except -1  # compress with a dictionary, which the caller keeps
cdef size_t sealing_room(const Sealing* sealing, size_t raw_size) noexcept nogil  # bytes that sealing_block may write
cdef int sealing_lead(Sealing* sealing, Data raw, size_t size) noexcept nogil  # compress the parts that follow against this one; -1: no memory
# The frame of a data block, each coming behind the one before, or the payload alone where there is overhead and no sealer; -1: no memory
cdef int sealing_block(Sealing* sealing, u32 number, Data raw, size_t size, SealerP sealer, Room out, Sealed* sealed) noexcept nogil
cdef list sealing_payloads(const Sealing* sealing, Data out, const u32* sizes, const u32* raw_lengths, const u8* codecs, u32 count)
cdef void sealing_free(Sealing* sealing) noexcept nogil

cdef int _seal(Sealing* sealing, Data raw, size_t size, SealerP sealer, Room out, Sealed* sealed) noexcept nogil
cdef size_t _parity_bytes(const Sealing* sealing, size_t frame_size) noexcept nogil

cdef class BlockSealer:
    cdef Sealing sealing
    cdef object dictionary  # a Dictionary, and what the kernels made of it; or None
    cdef object native
    cdef Room out
    cdef size_t room
    cdef size_t used
    cdef bint busy
    cdef int _run(self, Data raw, const u32* lengths, u32 count, FileKeyP key, u32 first, Data nonces, U32s sizes, u8* codecs) noexcept nogil
