# AES-256-GCM for kernels: the pieces of one file, sealed and opened without the GIL (storage/encryption.py defines them).
from libc.string cimport memcpy

from .native cimport Data, FileKey, FileKeyP, Room, u8, u32, u64

cdef enum:
    CIPHER_OK = 0
    CIPHER_BAD = 1  # damaged, of another place, or of another key
    CIPHER_NO_MEMORY = 2
    NONCE = 12
    TAG = 16
    OVERHEAD = 28
    PLACE = 38

cdef struct Piece:  # where a piece belongs
    FileKeyP key
    u32 ordinal
    u32 dictionary
    u8 section
    u8 codec

ctypedef const Piece* PieceP

cdef struct Context:  # one thread's at a time; zeroed to begin with, freed by context_free
    void* made  # OpenSSL's
    u64 serial  # of the key that it was set up with last, and whether to seal (twice the number) or to open (one more)

ctypedef Context* ContextP

ctypedef void* (*new_t)() noexcept nogil
ctypedef void (*release_t)(void* context) noexcept nogil
ctypedef const void* (*method_t)() noexcept nogil
ctypedef int (*init_t)(void* context, const void* method, void* engine, Data key, Data nonce) noexcept nogil
ctypedef int (*update_t)(void* context, Room out, int* written, Data data, int size) noexcept nogil
ctypedef int (*final_t)(void* context, Room out, int* written) noexcept nogil
ctypedef int (*control_t)(void* context, int what, int size, void* data) noexcept nogil
ctypedef void (*forget_errors_t)() noexcept nogil
ctypedef int (*seal_t)(Context* context, PieceP piece, Data nonce, Data plain, size_t size, Room out) noexcept nogil
ctypedef int (*open_t)(Context* context, PieceP piece, Data sealed, size_t size, Room out) noexcept nogil

# out: nonce, ciphertext, tag, OVERHEAD bytes longer than `plain`, which may lie at out + NONCE already. CIPHER_NO_MEMORY is the only failure.
cdef int piece_seal(Context* context, PieceP piece, Data nonce, Data plain, size_t size, Room out) noexcept nogil
# size: of `sealed`; out: gets OVERHEAD bytes less, which are nothing to use but after CIPHER_OK.
cdef int piece_open(Context* context, PieceP piece, Data sealed, size_t size, Room out) noexcept nogil
cdef void context_free(Context* context) noexcept nogil

cdef inline void piece_place(PieceP piece, u8* place) noexcept nogil:
    """The associated data (docs/formats.md, "Encryption")."""
    memcpy(place, piece.key.file, 24)
    place[24] = piece.section
    memcpy(place + 25, &piece.ordinal, 4)
    place[29] = piece.codec
    memcpy(place + 30, &piece.dictionary, 4)
    memcpy(place + 34, &piece.key.epoch, 4)

cdef class NativeCipher:
    cdef FileKey key
    cdef object _aead

cdef NativeCipher native_cipher(object cipher)  # the native form of a FileCipher, one for all who use it

cdef Data _context(Context* context, FileKeyP key, u32 opening) noexcept nogil
cdef int _seal_direct(Context* context, PieceP piece, Data nonce, Data plain, size_t size, Room out) noexcept nogil
cdef int _open_direct(Context* context, PieceP piece, Data sealed, size_t size, Room out) noexcept nogil
