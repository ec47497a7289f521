# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""AES-256-GCM by C function pointers, taken from the OpenSSL that the interpreter's own hashlib has loaded, so that kernels call it without the GIL.

Where there is none to be had, it is too old, or it does not give the known answer, small functions stand in that take the GIL and call the
cryptography package: the same bytes, slower. `direct()` tells which of the two serve. A context belongs to a thread of work, and is given another key
when a piece of another file comes.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

import ctypes
import itertools

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.libc.string import memcpy, memset

_GET_TAG = cython.declare(cython.int, 0x10)  # OpenSSL's EVP_CTRL_AEAD_GET_TAG and EVP_CTRL_AEAD_SET_TAG (openssl/evp.h)
_SET_TAG = cython.declare(cython.int, 0x11)
_SIZE_MAX = cython.declare(cython.size_t, (1 << 31) - 1)
_VERSION_MIN = 0x1010100F  # 1.1.1
_NAMES = (
    "EVP_CIPHER_CTX_new EVP_CIPHER_CTX_free EVP_aes_256_gcm EVP_EncryptInit_ex EVP_EncryptUpdate EVP_EncryptFinal_ex EVP_DecryptInit_ex"
    " EVP_DecryptUpdate EVP_DecryptFinal_ex EVP_CIPHER_CTX_ctrl ERR_clear_error"
)

_new = cython.declare(new_t)
_release = cython.declare(release_t)
_method = cython.declare(method_t)
_encrypt_init = cython.declare(init_t)
_encrypt = cython.declare(update_t)
_encrypt_final = cython.declare(final_t)
_decrypt_init = cython.declare(init_t)
_decrypt = cython.declare(update_t)
_decrypt_final = cython.declare(final_t)
_control = cython.declare(control_t)
_forget_errors = cython.declare(forget_errors_t)
_seal = cython.declare(seal_t)
_open = cython.declare(open_t)
_direct = cython.declare(cython.bint, False)
_serials = itertools.count(1)


# --- stand-ins, under the GIL


@cython.cfunc
@cython.with_gil
@cython.exceptval(check=False)
def _seal_stand_in(context: ContextP, piece: PieceP, nonce: Data, plain: Data, size: cython.size_t, out: Room) -> cython.int:
    place: u8[PLACE]
    try:
        piece_place(piece, place)
        sealed: bytes = cython.cast(object, piece.key.aead).encrypt(
            PyBytes_FromStringAndSize(cython.cast(cython.p_char, nonce), NONCE),
            PyBytes_FromStringAndSize(cython.cast(cython.p_char, plain), size),
            PyBytes_FromStringAndSize(cython.cast(cython.p_char, place), PLACE),
        )
        memcpy(out, nonce, NONCE)
        memcpy(out + NONCE, PyBytes_AS_STRING(sealed), PyBytes_GET_SIZE(sealed))
        return CIPHER_OK
    except BaseException:
        return CIPHER_NO_MEMORY


@cython.cfunc
@cython.with_gil
@cython.exceptval(check=False)
def _open_stand_in(context: ContextP, piece: PieceP, sealed: Data, size: cython.size_t, out: Room) -> cython.int:
    place: u8[PLACE]
    try:
        piece_place(piece, place)
        plain: bytes = cython.cast(object, piece.key.aead).decrypt(
            PyBytes_FromStringAndSize(cython.cast(cython.p_char, sealed), NONCE),
            PyBytes_FromStringAndSize(cython.cast(cython.p_char, sealed) + NONCE, size - NONCE),
            PyBytes_FromStringAndSize(cython.cast(cython.p_char, place), PLACE),
        )
        memcpy(out, PyBytes_AS_STRING(plain), PyBytes_GET_SIZE(plain))
        return CIPHER_OK
    except MemoryError:
        return CIPHER_NO_MEMORY
    except BaseException:
        return CIPHER_BAD


# --- OpenSSL's own


def _context(context, key, opening):
    """Make the context if there is none. Returns the key if it has to be set up with it, NULL if that was done; context.made is NULL: no memory."""
    serial: u64 = 2 * key.serial + opening
    made: cython.p_void
    if context.serial == serial:
        return cython.NULL
    if context.made == cython.NULL:
        made = _new()
        if made == cython.NULL or _encrypt_init(made, _method(), cython.NULL, cython.NULL, cython.NULL) != 1:
            _release(made)
            _forget_errors()
            return cython.NULL
        context.made = made
    context.serial = serial
    return key.key


def _seal_direct(context, piece, nonce, plain, size, out):
    place: u8[PLACE]
    written: cython.int = 0
    if size > _SIZE_MAX:
        return CIPHER_NO_MEMORY
    key: Data = _context(context, piece.key, 0)
    made: cython.p_void = context.made
    if made == cython.NULL:
        return CIPHER_NO_MEMORY
    piece_place(piece, place)
    memcpy(out, nonce, NONCE)
    if (
        _encrypt_init(made, cython.NULL, cython.NULL, key, nonce) == 1
        and _encrypt(made, cython.NULL, cython.address(written), place, PLACE) == 1
        and (size == 0 or _encrypt(made, out + NONCE, cython.address(written), plain, size) == 1)
        and _encrypt_final(made, out + NONCE + size, cython.address(written)) == 1
        and _control(made, _GET_TAG, TAG, out + NONCE + size) == 1
    ):
        return CIPHER_OK
    context.serial = 0  # Whether it took the key is not known.
    _forget_errors()
    return CIPHER_NO_MEMORY


def _open_direct(context, piece, sealed, size, out):
    place: u8[PLACE]
    tag: u8[TAG]
    written: cython.int = 0
    key: Data = _context(context, piece.key, 1)
    made: cython.p_void = context.made
    if made == cython.NULL:
        return CIPHER_NO_MEMORY
    size -= OVERHEAD
    piece_place(piece, place)
    memcpy(tag, sealed + NONCE + size, TAG)
    if (
        _decrypt_init(made, cython.NULL, cython.NULL, key, sealed) == 1
        and _decrypt(made, cython.NULL, cython.address(written), place, PLACE) == 1
        and (size == 0 or _decrypt(made, out, cython.address(written), sealed + NONCE, size) == 1)
        and _control(made, _SET_TAG, TAG, tag) == 1
        and _decrypt_final(made, out + size, cython.address(written)) == 1
    ):
        return CIPHER_OK
    context.serial = 0
    _forget_errors()  # Of this thread: the interpreter's ssl module would take them for its own.
    return CIPHER_BAD


# --- what kernels call


def piece_seal(context, piece, nonce, plain, size, out):
    return _seal(context, piece, nonce, plain, size, out)


def piece_open(context, piece, sealed, size, out):
    if size < OVERHEAD or size > _SIZE_MAX:
        return CIPHER_BAD
    return _open(context, piece, sealed, size, out)


def context_free(context):
    if context.made != cython.NULL:
        _release(context.made)
        context.made = cython.NULL
    context.serial = 0


@cython.cclass
class NativeCipher:
    """The key of a FileCipher as kernels take it."""

    def __init__(self, key: bytes, database_id: bytes, file_id: u64, epoch: u32) -> None:
        if len(key) != 32 or len(database_id) != 16:
            raise ValueError("a key has 32 bytes, and a database id 16")
        memcpy(self.key.key, PyBytes_AS_STRING(key), 32)
        memcpy(self.key.file, PyBytes_AS_STRING(database_id), 16)
        memcpy(self.key.file + 16, cython.address(file_id), 8)
        self.key.epoch = epoch
        self.key.serial = next(_serials)
        self._aead = AESGCM(key)
        self.key.aead = cython.cast(cython.p_void, self._aead)

    def __dealloc__(self):
        memset(cython.address(self.key), 0, cython.sizeof(FileKey))

    def seal(self, nonce: bytes, section: u8, ordinal: u32, codec: u8, dictionary: u32, plain: bytes) -> bytes:
        """FileCipher.seal with a nonce that is given: for the self-test, and for tests, as a nonce is never used twice."""
        context: Context
        piece: Piece
        size: cython.size_t = PyBytes_GET_SIZE(plain)
        memset(cython.address(context), 0, cython.sizeof(Context))
        sealed: bytes = PyBytes_FromStringAndSize(cython.NULL, size + OVERHEAD)
        if len(nonce) != NONCE:
            raise ValueError("a nonce has 12 bytes")
        piece.key = cython.address(self.key)
        piece.section, piece.ordinal, piece.codec, piece.dictionary = section, ordinal, codec, dictionary
        code: cython.int = piece_seal(
            cython.address(context),
            cython.address(piece),
            cython.cast(Data, PyBytes_AS_STRING(nonce)),
            cython.cast(Data, PyBytes_AS_STRING(plain)),
            size,
            cython.cast(Room, PyBytes_AS_STRING(sealed)),
        )
        context_free(cython.address(context))
        if code:
            raise MemoryError("no memory to seal a piece")
        return sealed

    def open(self, section: u8, ordinal: u32, codec: u8, dictionary: u32, sealed: bytes) -> bytes:
        """FileCipher.open; ValueError."""
        context: Context
        piece: Piece
        size: cython.size_t = PyBytes_GET_SIZE(sealed)
        memset(cython.address(context), 0, cython.sizeof(Context))
        plain: bytes = PyBytes_FromStringAndSize(cython.NULL, size - OVERHEAD if size > OVERHEAD else 0)
        piece.key = cython.address(self.key)
        piece.section, piece.ordinal, piece.codec, piece.dictionary = section, ordinal, codec, dictionary
        code: cython.int = piece_open(
            cython.address(context),
            cython.address(piece),
            cython.cast(Data, PyBytes_AS_STRING(sealed)),
            size,
            cython.cast(Room, PyBytes_AS_STRING(plain)),
        )
        context_free(cython.address(context))
        if code == CIPHER_NO_MEMORY:
            raise MemoryError("no memory to open a piece")
        if code:
            raise ValueError("authentication tag does not match")
        return plain


def native_cipher(cipher):
    if cipher.native is None:
        cipher.native = NativeCipher(cipher.key, cipher.database_id, cipher.file_id, cipher.epoch)
    return cipher.native


# --- which of the two serve


def _bind_openssl() -> None:
    """Take the functions out of what hashlib is linked to. Whatever is raised: they are not to be had."""
    global _new, _release, _method, _encrypt_init, _encrypt, _encrypt_final, _decrypt_init, _decrypt, _decrypt_final, _control, _forget_errors
    import _hashlib

    library = ctypes.CDLL(_hashlib.__file__)  # Symbols are looked for in what it depends on, too.
    library.OpenSSL_version_num.restype = ctypes.c_ulong
    if library.OpenSSL_version_num() < _VERSION_MIN:
        raise OSError("OpenSSL is too old")
    found = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _NAMES.split()]
    address: cython.size_t[11]
    i: cython.int
    for i in range(11):
        address[i] = found[i]
    _new = cython.cast(new_t, cython.cast(cython.p_void, address[0]))
    _release = cython.cast(release_t, cython.cast(cython.p_void, address[1]))
    _method = cython.cast(method_t, cython.cast(cython.p_void, address[2]))
    _encrypt_init = cython.cast(init_t, cython.cast(cython.p_void, address[3]))
    _encrypt = cython.cast(update_t, cython.cast(cython.p_void, address[4]))
    _encrypt_final = cython.cast(final_t, cython.cast(cython.p_void, address[5]))
    _decrypt_init = cython.cast(init_t, cython.cast(cython.p_void, address[6]))
    _decrypt = cython.cast(update_t, cython.cast(cython.p_void, address[7]))
    _decrypt_final = cython.cast(final_t, cython.cast(cython.p_void, address[8]))
    _control = cython.cast(control_t, cython.cast(cython.p_void, address[9]))
    _forget_errors = cython.cast(forget_errors_t, cython.cast(cython.p_void, address[10]))


def _known_answers() -> None:
    """Hold one context, sealing and opening by turns under two keys, to the cryptography package; RuntimeError where the two differ."""
    context: Context
    piece: Piece
    room: u8[128]
    opened: u8[128]
    ok: cython.bint = True
    n: cython.int
    plain: bytes = bytes(range(61))
    memset(cython.address(context), 0, cython.sizeof(Context))
    ciphers: list = [NativeCipher(bytes([n]) * 32, bytes(range(100, 116)), 7, 3) for n in range(2)]
    for n in range(32):  # Of each eight: open, open, fail, seal, seal; and again, so that each comes after each.
        cipher: NativeCipher = ciphers[n >> 3 & 1]
        nonce: bytes = bytes(range(n, n + NONCE))
        piece.key = cython.address(cipher.key)
        piece.section, piece.ordinal, piece.codec, piece.dictionary = 1, n, 2, 0x12345678
        place: bytes = PyBytes_FromStringAndSize(cython.NULL, PLACE)
        piece_place(cython.address(piece), cython.cast(Room, PyBytes_AS_STRING(place)))
        expected: bytes = nonce + cipher._aead.encrypt(nonce, plain, place)
        if n & 2:
            memcpy(cython.address(room[NONCE]), PyBytes_AS_STRING(plain), 61)
            code: cython.int = _seal_direct(
                cython.address(context), cython.address(piece), cython.cast(Data, PyBytes_AS_STRING(nonce)), cython.address(room[NONCE]), 61, room
            )
            ok = ok and code == CIPHER_OK and cython.cast(cython.p_char, room)[: 61 + OVERHEAD] == expected
        else:
            memcpy(room, PyBytes_AS_STRING(expected), 61 + OVERHEAD)
            code = _open_direct(cython.address(context), cython.address(piece), room, 61 + OVERHEAD, opened)
            ok = ok and code == CIPHER_OK and cython.cast(cython.p_char, opened)[:61] == plain
        if n & 3 == 1:
            room[NONCE + n] ^= 1
            ok = ok and _open_direct(cython.address(context), cython.address(piece), room, 61 + OVERHEAD, opened) == CIPHER_BAD
    context_free(cython.address(context))
    if not ok:
        raise RuntimeError("OpenSSL does not give the known answers")


def bind(wanted: bool) -> None:
    """Take OpenSSL's own functions where they can be had, or (for tests) let the others stand in. Not while any kernel runs or has contexts."""
    global _seal, _open, _direct
    _direct = False
    if wanted:
        try:
            _bind_openssl()
            _known_answers()
            _direct = True
        except Exception:  # Whatever is amiss with it: the stand-ins do.
            pass
    if _direct:
        _seal = _seal_direct
        _open = _open_direct
    else:
        _seal = _seal_stand_in
        _open = _open_stand_in


def direct() -> bool:
    """Whether OpenSSL's own functions serve."""
    return _direct


bind(True)
