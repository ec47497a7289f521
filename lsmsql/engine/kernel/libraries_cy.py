# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""zstd and XXH3 as C function pointers, taken from the wheels of zstandard and xxhash, so that kernels call them without the GIL.

Where a wheel does not export them, small functions stand in that take the GIL and call the library's Python interface: the same bytes, slower.
`DIRECT` tells which of the two serve.
"""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

import ctypes

import xxhash
import zstandard
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.libc.string import memcpy
from cython.cimports.lsmsql.engine.kernel.native import (
    Hash128,
    compress2_t,
    compress_behind_t,
    compress_learned_t,
    compress_t,
    content_size_t,
    create_t,
    decompress_behind_t,
    decompress_learned_t,
    decompress_t,
    frame_size_t,
    free_t,
    hash64_t,
    hash128_t,
    is_error_t,
    learn_t,
    load_dictionary_t,
    load_lead_t,
    ref_dictionary_t,
    set_parameter_t,
    u64,
)

from ..storage.compression import Lead

_LEVEL = cython.declare(cython.int, 100)  # zstd's ZSTD_c_compressionLevel and ZSTD_c_dictIDFlag (zstd.h)
_DICTIONARY_FLAG = cython.declare(cython.int, 202)
_compress2 = cython.declare(compress2_t)
_set_parameter = cython.declare(set_parameter_t)
_ref_dictionary = cython.declare(ref_dictionary_t)
_load_dictionary = cython.declare(load_dictionary_t)
_BY_REFERENCE = cython.declare(cython.int, 1)  # ZSTD_dlm_byRef
_RAW_CONTENT = cython.declare(cython.int, 1)  # ZSTD_dct_rawContent

DIRECT = {"xxhash": False, "zstandard": False}
_ERROR = cython.declare(cython.size_t, cython.cast(cython.size_t, -1))


# Stand-ins. A context is any address but NULL; the only error code is the largest number, as zstd's own are the largest ones.


@cython.cfunc
def _bytes(data: cython.pointer[cython.const[cython.void]], size: cython.size_t) -> bytes:
    return PyBytes_FromStringAndSize(cython.cast(cython.p_char, data), size)


@cython.cfunc
def _frame(data: cython.pointer[cython.const[cython.void]], size: cython.size_t, room: cython.size_t) -> bytes:
    """ValueError when it says that its content needs more than `room`."""
    frame: bytes = _bytes(data, size)
    if zstandard.frame_content_size(frame) > room:
        raise ValueError
    return frame


@cython.cfunc
def _put(made: bytes, out: cython.p_void, room: cython.size_t) -> cython.size_t:
    if cython.cast(cython.size_t, PyBytes_GET_SIZE(made)) > room:
        return _ERROR
    memcpy(out, PyBytes_AS_STRING(made), PyBytes_GET_SIZE(made))
    return PyBytes_GET_SIZE(made)


@cython.cfunc
@cython.with_gil
@cython.exceptval(check=False)
def _hash64(data: cython.pointer[cython.const[cython.void]], size: cython.size_t) -> u64:
    try:
        return xxhash.xxh3_64_intdigest(_bytes(data, size))
    except BaseException:
        return 0


@cython.cfunc
@cython.with_gil
@cython.exceptval(check=False)
def _hash128(data: cython.pointer[cython.const[cython.void]], size: cython.size_t) -> Hash128:
    result: Hash128
    result.low = 0
    result.high = 0
    try:
        digest: object = xxhash.xxh3_128_intdigest(_bytes(data, size))
        result.low = digest & 0xFFFFFFFFFFFFFFFF
        result.high = digest >> 64
    except BaseException:
        pass
    return result


@cython.cfunc
@cython.with_gil
@cython.exceptval(check=False)
def _compress(
    context: cython.p_void,
    out: cython.p_void,
    room: cython.size_t,
    data: cython.pointer[cython.const[cython.void]],
    size: cython.size_t,
    level: cython.int,
) -> cython.size_t:
    try:
        compressor = zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False, write_dict_id=False)
        payload: bytes = compressor.compress(_bytes(data, size))
        return _put(payload, out, room)
    except BaseException:
        return _ERROR


@cython.cfunc
@cython.with_gil
@cython.exceptval(check=False)
def _decompress(
    context: cython.p_void, out: cython.p_void, room: cython.size_t, data: cython.pointer[cython.const[cython.void]], size: cython.size_t
) -> cython.size_t:
    try:
        payload: bytes = _frame(data, size, room)
        raw: bytes = zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False)
        return _put(raw, out, room)
    except BaseException:
        return _ERROR


# With a dictionary. A digested one is, for the stand-ins, the address of the Dictionary itself.


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _learn_nothing(context: cython.p_void, level: cython.int, learned: cython.pointer[cython.const[cython.void]]) -> cython.size_t:
    return 0


@cython.cfunc
@cython.with_gil
@cython.exceptval(check=False)
def _compress_learned(
    context: cython.p_void,
    out: cython.p_void,
    room: cython.size_t,
    data: cython.pointer[cython.const[cython.void]],
    size: cython.size_t,
    level: cython.int,
    learned: cython.pointer[cython.const[cython.void]],
) -> cython.size_t:
    try:
        dictionary = cython.cast(object, learned)
        compressor = zstandard.ZstdCompressor(
            level=level, dict_data=dictionary.compressing(level), write_content_size=True, write_checksum=False, write_dict_id=False
        )
        payload: bytes = compressor.compress(_bytes(data, size))
        return _put(payload, out, room)
    except BaseException:
        return _ERROR


@cython.cfunc
@cython.with_gil
@cython.exceptval(check=False)
def _decompress_learned(
    context: cython.p_void,
    out: cython.p_void,
    room: cython.size_t,
    data: cython.pointer[cython.const[cython.void]],
    size: cython.size_t,
    learned: cython.pointer[cython.const[cython.void]],
) -> cython.size_t:
    try:
        payload: bytes = _frame(data, size, room)
        dictionary = cython.cast(object, learned)
        raw: bytes = zstandard.ZstdDecompressor(dict_data=dictionary.decompressing).decompress(payload, allow_extra_data=False)
        return _put(raw, out, room)
    except BaseException:
        return _ERROR


# Against the lead of a block.


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _load_nothing(
    context: cython.p_void, level: cython.int, lead: cython.pointer[cython.const[cython.void]], lead_size: cython.size_t
) -> cython.size_t:
    return 0


@cython.cfunc
@cython.with_gil
@cython.exceptval(check=False)
def _compress_behind(
    context: cython.p_void,
    out: cython.p_void,
    room: cython.size_t,
    data: cython.pointer[cython.const[cython.void]],
    size: cython.size_t,
    level: cython.int,
    lead: cython.pointer[cython.const[cython.void]],
    lead_size: cython.size_t,
) -> cython.size_t:
    try:
        payload: bytes = Lead(_bytes(lead, lead_size)).compress(_bytes(data, size), level)
        return _put(payload, out, room)
    except BaseException:
        return _ERROR


@cython.cfunc
@cython.with_gil
@cython.exceptval(check=False)
def _decompress_behind(
    context: cython.p_void,
    out: cython.p_void,
    room: cython.size_t,
    data: cython.pointer[cython.const[cython.void]],
    size: cython.size_t,
    lead: cython.pointer[cython.const[cython.void]],
    lead_size: cython.size_t,
) -> cython.size_t:
    try:
        payload: bytes = _frame(data, size, room)
        raw: bytes = Lead(_bytes(lead, lead_size)).decompress(payload)
        return _put(raw, out, room)
    except BaseException:
        return _ERROR


# Of the library's own: a compressor is told level and dictionary once, and keeps to them.


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _learn(context: cython.p_void, level: cython.int, learned: cython.pointer[cython.const[cython.void]]) -> cython.size_t:
    code: cython.size_t = _set_parameter(context, _LEVEL, level)
    if not zstd_is_error(code):
        code = _set_parameter(context, _DICTIONARY_FLAG, 0)
    return code if zstd_is_error(code) else _ref_dictionary(context, learned)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _compress_as_told(
    context: cython.p_void,
    out: cython.p_void,
    room: cython.size_t,
    data: cython.pointer[cython.const[cython.void]],
    size: cython.size_t,
    level: cython.int,
    learned: cython.pointer[cython.const[cython.void]],
) -> cython.size_t:
    return _compress2(context, out, room, data, size)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _load(context: cython.p_void, level: cython.int, lead: cython.pointer[cython.const[cython.void]], lead_size: cython.size_t) -> cython.size_t:
    code: cython.size_t = _set_parameter(context, _LEVEL, level)
    return code if zstd_is_error(code) else _load_dictionary(context, lead, lead_size, _BY_REFERENCE, _RAW_CONTENT)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _compress_as_loaded(
    context: cython.p_void,
    out: cython.p_void,
    room: cython.size_t,
    data: cython.pointer[cython.const[cython.void]],
    size: cython.size_t,
    level: cython.int,
    lead: cython.pointer[cython.const[cython.void]],
    lead_size: cython.size_t,
) -> cython.size_t:
    return _compress2(context, out, room, data, size)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _create() -> cython.p_void:
    return cython.cast(cython.p_void, cython.address(_ERROR))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _free(context: cython.p_void) -> cython.size_t:
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_error(code: cython.size_t) -> cython.uint:
    return code == _ERROR


@cython.cfunc
@cython.with_gil
@cython.exceptval(check=False)
def _content_size(data: cython.pointer[cython.const[cython.void]], size: cython.size_t) -> cython.ulonglong:
    try:
        return zstandard.frame_content_size(_bytes(data, size))
    except BaseException:
        return cython.cast(cython.ulonglong, -1)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _frame_size(data: cython.pointer[cython.const[cython.void]], size: cython.size_t) -> cython.size_t:
    return size  # `_decompress` refuses what follows a frame itself.


hash64 = _hash64
hash128 = _hash128
zstd_compress = _compress
zstd_decompress = _decompress
zstd_learn = _learn_nothing
zstd_compress_learned = _compress_learned
zstd_decompress_learned = _decompress_learned
zstd_load_lead = _load_nothing
zstd_compress_behind = _compress_behind
zstd_decompress_behind = _decompress_behind
zstd_create_compressor = _create
zstd_create_decompressor = _create
zstd_free_compressor = _free
zstd_free_decompressor = _free
zstd_is_error = _is_error
zstd_content_size = _content_size
zstd_frame_size = _frame_size


def _address(library: object, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value


def _bind_xxhash() -> bool:
    global hash64, hash128
    from xxhash import _xxhash

    library = ctypes.CDLL(_xxhash.__file__)
    # The dispatching variants choose by the processor at run time; some builds lack them.
    suffix = "_dispatch" if hasattr(library, "XXH3_64bits_dispatch") and hasattr(library, "XXH3_128bits_dispatch") else ""
    short: cython.size_t = _address(library, "XXH3_64bits" + suffix)
    long: cython.size_t = _address(library, "XXH3_128bits" + suffix)
    hash64 = cython.cast(hash64_t, cython.cast(cython.p_void, short))
    hash128 = cython.cast(hash128_t, cython.cast(cython.p_void, long))
    return True


def _bind_zstandard() -> bool:
    global zstd_compress, zstd_decompress, zstd_create_compressor, zstd_create_decompressor, zstd_free_compressor, zstd_free_decompressor
    global zstd_is_error, zstd_content_size, zstd_frame_size
    global zstd_learn, zstd_compress_learned, zstd_decompress_learned, _compress2, _set_parameter, _ref_dictionary
    global zstd_load_lead, zstd_compress_behind, zstd_decompress_behind, _load_dictionary
    from zstandard import _cffi

    names = "compressCCtx decompressDCtx createCCtx createDCtx freeCCtx freeDCtx isError getFrameContentSize findFrameCompressedSize"
    names += " decompress_usingDDict compress2 CCtx_setParameter CCtx_refCDict CCtx_loadDictionary_advanced decompress_usingDict"
    found = [int(_cffi.ffi.cast("uintptr_t", _cffi.ffi.addressof(_cffi.lib, "ZSTD_" + name))) for name in names.split()]
    address: cython.size_t[15]
    i: cython.int
    for i in range(15):
        address[i] = found[i]
    zstd_compress = cython.cast(compress_t, cython.cast(cython.p_void, address[0]))
    zstd_decompress = cython.cast(decompress_t, cython.cast(cython.p_void, address[1]))
    zstd_create_compressor = cython.cast(create_t, cython.cast(cython.p_void, address[2]))
    zstd_create_decompressor = cython.cast(create_t, cython.cast(cython.p_void, address[3]))
    zstd_free_compressor = cython.cast(free_t, cython.cast(cython.p_void, address[4]))
    zstd_free_decompressor = cython.cast(free_t, cython.cast(cython.p_void, address[5]))
    zstd_is_error = cython.cast(is_error_t, cython.cast(cython.p_void, address[6]))
    zstd_content_size = cython.cast(content_size_t, cython.cast(cython.p_void, address[7]))
    zstd_frame_size = cython.cast(frame_size_t, cython.cast(cython.p_void, address[8]))
    zstd_decompress_learned = cython.cast(decompress_learned_t, cython.cast(cython.p_void, address[9]))
    _compress2 = cython.cast(compress2_t, cython.cast(cython.p_void, address[10]))
    _set_parameter = cython.cast(set_parameter_t, cython.cast(cython.p_void, address[11]))
    _ref_dictionary = cython.cast(ref_dictionary_t, cython.cast(cython.p_void, address[12]))
    _load_dictionary = cython.cast(load_dictionary_t, cython.cast(cython.p_void, address[13]))
    zstd_decompress_behind = cython.cast(decompress_behind_t, cython.cast(cython.p_void, address[14]))
    zstd_learn, zstd_compress_learned = _learn, _compress_as_told
    zstd_load_lead, zstd_compress_behind = _load, _compress_as_loaded
    return True


def bind(direct: bool) -> None:
    """Take the libraries' own functions where they can be had, or (for tests) none of them.

    Not while any kernel runs or has contexts or dictionaries."""
    global hash64, hash128, zstd_compress, zstd_decompress, zstd_create_compressor, zstd_create_decompressor
    global zstd_free_compressor, zstd_free_decompressor, zstd_is_error, zstd_content_size, zstd_frame_size
    global zstd_learn, zstd_compress_learned, zstd_decompress_learned, zstd_load_lead, zstd_compress_behind, zstd_decompress_behind
    for name, bind_library in (("xxhash", _bind_xxhash), ("zstandard", _bind_zstandard)):
        try:
            DIRECT[name] = direct and bind_library()
        except Exception:  # Whatever the wheel lacks: the stand-ins do.
            DIRECT[name] = False
    if not DIRECT["xxhash"]:
        hash64, hash128 = _hash64, _hash128
    if not DIRECT["zstandard"]:
        zstd_compress, zstd_decompress = _compress, _decompress
        zstd_create_compressor = zstd_create_decompressor = _create
        zstd_free_compressor = zstd_free_decompressor = _free
        zstd_is_error, zstd_content_size, zstd_frame_size = _is_error, _content_size, _frame_size
        zstd_learn, zstd_compress_learned, zstd_decompress_learned = _learn_nothing, _compress_learned, _decompress_learned
        zstd_load_lead, zstd_compress_behind, zstd_decompress_behind = _load_nothing, _compress_behind, _decompress_behind


bind(True)


def xxh3_64(data: bytes) -> int:
    """XXH3-64 through the pointer (tests)."""
    return hash64(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


def xxh3_128(data: bytes) -> int:
    """XXH3-128 through the pointer (tests)."""
    result: Hash128 = hash128(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return (cython.cast(object, result.high) << 64) | result.low
