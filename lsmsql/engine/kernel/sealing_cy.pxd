# How raw blocks become frames, or payloads that are sealed elsewhere: the last step before the file, on any thread.
from ..storage.parity_cy cimport Parity, parity_encode, parity_frame, parity_prepare, parity_shard
from .frame_cy cimport Scratch, frame_room, frame_seal, payload_seal, scratch_free
from .native cimport FRAME_HEADER, Data, Room, U32s, u8, u32

cdef struct Sealing:
    int level
    size_t overhead  # that sealing elsewhere adds to each payload; 0: frames are made
    u32 parity_code  # ParityScheme.code, 0: none
    Parity parity
    Scratch scratch

cdef struct Sealed:
    size_t payload
    size_t frame  # as it will lie in the file, parity included
    size_t written  # of what `out` got: the frame, or the payload alone
    int codec

cdef int sealing_set(Sealing* sealing, int level, size_t overhead, u32 parity) except -1  # ValueError for a parity that is none
cdef int sealing_learn(Sealing* sealing, object native, u32 id) except -1  # compress with a dictionary, which the caller keeps
cdef size_t sealing_room(const Sealing* sealing, size_t raw_size) noexcept nogil  # bytes that sealing_block may write
cdef int sealing_block(Sealing* sealing, Data raw, size_t size, Room out, Sealed* sealed) noexcept nogil  # -1: no memory
cdef list sealing_payloads(const Sealing* sealing, Data out, const u32* sizes, const u32* raw_lengths, const u8* codecs, u32 count)
cdef void sealing_free(Sealing* sealing) noexcept nogil

cdef size_t _parity_bytes(const Sealing* sealing, size_t frame_size) noexcept nogil

cdef class BlockSealer:
    cdef Sealing sealing
    cdef object dictionary  # a Dictionary, and what the kernels made of it; or None
    cdef object native
    cdef Room out
    cdef size_t room
    cdef size_t used
    cdef bint busy
    cdef int _run(self, Data raw, const u32* lengths, u32 count, U32s sizes, u8* codecs) noexcept nogil
