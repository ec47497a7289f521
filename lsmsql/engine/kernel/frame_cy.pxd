from .aes_gcm_cy cimport CIPHER_NO_MEMORY, CIPHER_OK, NONCE, OVERHEAD, Context, Piece, context_free, piece_open, piece_seal
from .block_decode_cy cimport Layout
from .native cimport Data, FileKeyP, Room, u8, u32, u64

cdef struct Lead:  # the raw lead of the block that was decoded last, by who decodes; zeroed to begin with, freed by lead_free
    u8* raw
    size_t room
    size_t size  # 0: none
    u64 serial  # of its table
    u32 number  # its data block

cdef struct Scratch:  # one thread's working memory; zeroed to begin with, freed by scratch_free
    void* compressor
    void* decompressor
    Context cipher
    u8* raw
    size_t room
    u8* opened  # what was decrypted
    size_t opened_room
    const void* learned  # the dictionary that is compressed with, and its id; NULL: none
    u32 dictionary
    void* behind  # a compressor that a lead was loaded into; NULL: the next block is compressed alone
    Lead* lead  # what blocks are decoded against; its owner's

cdef struct Framed:  # what a header says of its payload
    int codec
    u32 raw_length
    u32 stored

cdef struct Sealer:  # what encrypts a frame, as the key's number `ordinal` in the section of data blocks
    FileKeyP key
    Data nonce  # never used before
    u32 ordinal

ctypedef const Sealer* SealerP

cdef size_t frame_room(size_t raw_size) noexcept nogil  # bytes that frame_seal may write for a raw block
# A whole DATA frame, but for the parity that its header speaks of (code: ParityScheme.code, 0: none); 0: no memory. sealer: NULL, or what encrypts it.
cdef size_t frame_seal(Scratch* scratch, int level, u32 parity, Data raw, size_t size, SealerP sealer, Room out) noexcept nogil
cdef size_t payload_seal(Scratch* scratch, int level, Data raw, size_t size, Room out, int* codec) noexcept nogil  # payload alone; 0: no memory
# FRAME_BAD unless an intact DATA frame and its parity make these `size` bytes; the parity itself is not looked at. dictionary: the id of the only one
# that the frame may name. key: that it must be encrypted with, NULL: it must not be.
cdef int frame_check(Data frame, size_t size, u32 parity, u32 dictionary, FileKeyP key, Framed* found) noexcept nogil
# The payload of an encrypted frame that was checked, into scratch, which is good until the next; found.stored is then its size. FRAME_BAD,
# BLOCK_NO_MEMORY.
cdef int frame_open(Scratch* scratch, FileKeyP key, u32 ordinal, Framed* found, u32 dictionary, Data* payload) noexcept nogil
# learned: the dictionary, or NULL; scratch.lead: that of the block, which the caller has seen to. Decompresses into scratch (or points at the payload)
# and measures; the layout is good until the scratch is used again. A code of block_decode_cy.
cdef int payload_decode(
    Scratch* scratch, const void* learned, int codec, u32 raw_length, Data payload, size_t size, Layout* layout
) noexcept nogil
cdef void scratch_free(Scratch* scratch) noexcept nogil  # but for `behind` and `lead`
