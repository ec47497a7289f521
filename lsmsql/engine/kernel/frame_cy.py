# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Data block frames, compiled: storage/block_frame.py and storage/compression.py define them, frame_cy.pxd gives the C types."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memcpy
from cython.cimports.lsmsql.engine.kernel.block_decode_cy import BLOCK_NO_MEMORY, BLOCK_OK, FRAME_BAD, PAYLOAD_BAD, block_measure
from cython.cimports.lsmsql.engine.kernel.libraries_cy import (
    hash64,
    hash128,
    zstd_compress,
    zstd_compress_behind,
    zstd_compress_learned,
    zstd_content_size,
    zstd_create_compressor,
    zstd_create_decompressor,
    zstd_decompress,
    zstd_decompress_behind,
    zstd_decompress_learned,
    zstd_frame_size,
    zstd_free_compressor,
    zstd_free_decompressor,
    zstd_is_error,
    zstd_learn,
)
from cython.cimports.lsmsql.engine.kernel.native import FRAME_HEADER, SLACK, U32_MAX, Data, Hash128, Room, u8, u16, u32, u64
from cython.cimports.lsmsql.engine.storage.parity_cy import parity_frame

_RATIO_MAX = cython.declare(u64, (128 << 10) // 3 + 1)  # as in storage/compression.py
_RAW_MAX = cython.declare(u32, 1_100_000_000)  # as in storage/block_frame.py
_MAGIC = cython.declare(u16, 0x4D53)
_DATA = cython.declare(u8, 1)
_FLAG_ENCRYPTED = cython.declare(u8, 1)
_FLAG_PARITY = cython.declare(u8, 2)
_NONE = cython.declare(cython.int, 0)
_ZSTD = cython.declare(cython.int, 1)
_ZSTD_DICTIONARY = cython.declare(cython.int, 2)
_ZSTD_LEAD = cython.declare(cython.int, 3)


def frame_room(raw_size):
    # zstd's bound: compressing into less would take its slower, checked path, and make other bytes.
    margin: cython.size_t = ((128 << 10) - raw_size) >> 11 if raw_size < (128 << 10) else 0
    return FRAME_HEADER + raw_size + (raw_size >> 8) + margin + SLACK


def payload_seal(scratch, level, raw, size, out, codec):
    written: cython.size_t
    codec[0] = _NONE
    if level:
        if scratch.compressor == cython.NULL:
            scratch.compressor = zstd_create_compressor()
            if scratch.compressor == cython.NULL:
                return 0
            if scratch.learned != cython.NULL and zstd_is_error(zstd_learn(scratch.compressor, level, scratch.learned)):
                zstd_free_compressor(scratch.compressor)
                scratch.compressor = cython.NULL
                return 0
        room: cython.size_t = frame_room(size) - FRAME_HEADER
        if scratch.behind != cython.NULL:
            written = zstd_compress_behind(scratch.behind, out, room, raw, size, level, scratch.lead.raw, scratch.lead.size)
        elif scratch.learned != cython.NULL:
            written = zstd_compress_learned(scratch.compressor, out, room, raw, size, level, scratch.learned)
        else:
            written = zstd_compress(scratch.compressor, out, room, raw, size, level)
        if zstd_is_error(written):
            return 0  # The room suffices and the level was checked: only memory can have run out.
        if written < size:
            codec[0] = _ZSTD if scratch.learned == cython.NULL else _ZSTD_DICTIONARY
            if scratch.behind != cython.NULL:
                codec[0] = _ZSTD_LEAD
            return written
    memcpy(out, raw, size)
    return size


def frame_seal(scratch, level, parity, raw, size, sealer, out):
    codec: cython.int = 0
    payload: Room = out + FRAME_HEADER + (0 if sealer == cython.NULL else NONCE)
    stored: cython.size_t = payload_seal(scratch, level, raw, size, payload, cython.address(codec))
    length: u32
    epoch: u16 = 0
    piece: Piece
    raw_length: u32 = size
    zero: u64 = 0
    digest: Hash128
    check: u32
    if stored == 0:
        return 0
    memcpy(out, cython.address(_MAGIC), 2)
    memcpy(out + 4, cython.address(zero), 8)  # No dictionary unless it is used.
    out[2] = _DATA
    out[3] = _FLAG_PARITY if parity else 0
    out[4] = codec
    out[5] = parity & 0xFF
    if sealer != cython.NULL:
        piece.key, piece.section, piece.codec, piece.ordinal = sealer.key, _DATA, codec, sealer.ordinal
        piece.dictionary = scratch.dictionary if codec == _ZSTD_DICTIONARY else 0
        if piece_seal(cython.address(scratch.cipher), cython.address(piece), sealer.nonce, payload, stored, out + FRAME_HEADER):
            return 0
        stored += OVERHEAD
        out[3] |= _FLAG_ENCRYPTED
        epoch = sealer.key.epoch
        memcpy(out + 6, cython.address(epoch), 2)
    length = stored
    if codec == _ZSTD_DICTIONARY:
        memcpy(out + 8, cython.address(scratch.dictionary), 4)
    memcpy(out + 12, cython.address(length), 4)
    memcpy(out + 16, cython.address(raw_length), 4)
    digest = hash128(out + FRAME_HEADER, stored)
    memcpy(out + 20, cython.address(digest), 16)
    check = hash64(out, 36) & U32_MAX
    memcpy(out + 36, cython.address(check), 4)
    return FRAME_HEADER + stored


def frame_check(frame, size, parity, dictionary, key, found):
    flags: u8 = (_FLAG_PARITY if parity else 0) | (0 if key == cython.NULL else _FLAG_ENCRYPTED)
    overhead: u32 = 0 if key == cython.NULL else OVERHEAD
    epoch: u16
    magic: u16
    check: u32
    named: u32
    digest: Hash128
    made: Hash128
    if parity:
        size = parity_frame((parity & 31) + 1, ((parity >> 5) & 7) + 1, size)
    if size < FRAME_HEADER:
        return FRAME_BAD
    memcpy(cython.address(magic), frame, 2)
    memcpy(cython.address(named), frame + 8, 4)
    memcpy(cython.address(found.stored), frame + 12, 4)
    memcpy(cython.address(found.raw_length), frame + 16, 4)
    memcpy(cython.address(digest), frame + 20, 16)
    memcpy(cython.address(check), frame + 36, 4)
    found.codec = frame[4]
    if magic != _MAGIC or check != cython.cast(u32, hash64(frame, 36) & U32_MAX):
        return FRAME_BAD
    if frame[2] != _DATA or frame[3] != flags or frame[5] != (parity & 0xFF):
        return FRAME_BAD
    if found.codec > _ZSTD_LEAD or found.raw_length > _RAW_MAX:
        return FRAME_BAD
    if (named == 0 or named != dictionary) if found.codec == _ZSTD_DICTIONARY else named != 0:
        return FRAME_BAD
    if found.stored != size - FRAME_HEADER or found.stored < overhead or (found.codec == _NONE and found.stored - overhead != found.raw_length):
        return FRAME_BAD
    memcpy(cython.address(epoch), frame + 6, 2)
    if key != cython.NULL and epoch != key.epoch:
        return FRAME_BAD
    made = hash128(frame + FRAME_HEADER, found.stored)
    return BLOCK_OK if made.low == digest.low and made.high == digest.high else FRAME_BAD


def frame_open(scratch, key, ordinal, found, dictionary, payload):
    piece: Piece
    code: cython.int
    if scratch.opened_room < found.stored:
        room: cython.size_t = cython.cast(cython.size_t, found.stored) + found.stored // 4 + 4096
        opened: Room = cython.cast(Room, malloc(room + SLACK))
        if opened == cython.NULL:
            return BLOCK_NO_MEMORY
        free(scratch.opened)
        scratch.opened = opened
        scratch.opened_room = room
    piece.key, piece.section, piece.codec, piece.ordinal = key, _DATA, found.codec, ordinal
    piece.dictionary = dictionary if found.codec == _ZSTD_DICTIONARY else 0
    code = piece_open(cython.address(scratch.cipher), cython.address(piece), payload[0], found.stored, scratch.opened)
    if code != CIPHER_OK:
        return BLOCK_NO_MEMORY if code == CIPHER_NO_MEMORY else FRAME_BAD
    found.stored -= OVERHEAD
    payload[0] = scratch.opened
    return BLOCK_OK


def payload_decode(scratch, learned, codec, raw_length, payload, size, layout):
    raw: Room
    written: cython.size_t
    if codec == _NONE:
        return block_measure(payload, size, layout) if size == raw_length else PAYLOAD_BAD
    if codec > _ZSTD_LEAD or (codec == _ZSTD_DICTIONARY and learned == cython.NULL):
        return PAYLOAD_BAD
    if raw_length == 0 or raw_length > _RAW_MAX or raw_length > cython.cast(u64, size) * _RATIO_MAX:
        return PAYLOAD_BAD
    if zstd_content_size(payload, size) != raw_length or zstd_frame_size(payload, size) != size:
        return PAYLOAD_BAD
    if scratch.room < cython.cast(cython.size_t, raw_length) + SLACK:
        raw = cython.cast(Room, malloc(raw_length + raw_length // 4 + 4096))
        if raw == cython.NULL:
            return BLOCK_NO_MEMORY
        free(scratch.raw)
        scratch.raw = raw
        scratch.room = raw_length + raw_length // 4 + 4096
    if scratch.decompressor == cython.NULL:
        scratch.decompressor = zstd_create_decompressor()
        if scratch.decompressor == cython.NULL:
            return BLOCK_NO_MEMORY
    if codec == _ZSTD_LEAD:
        written = zstd_decompress_behind(scratch.decompressor, scratch.raw, raw_length, payload, size, scratch.lead.raw, scratch.lead.size)
    elif codec == _ZSTD_DICTIONARY:
        written = zstd_decompress_learned(scratch.decompressor, scratch.raw, raw_length, payload, size, learned)
    else:
        written = zstd_decompress(scratch.decompressor, scratch.raw, raw_length, payload, size)
    if written != raw_length:
        return PAYLOAD_BAD
    return block_measure(scratch.raw, raw_length, layout)


def scratch_free(scratch):
    if scratch.compressor != cython.NULL:
        zstd_free_compressor(scratch.compressor)
    if scratch.decompressor != cython.NULL:
        zstd_free_decompressor(scratch.decompressor)
    context_free(cython.address(scratch.cipher))
    free(scratch.raw)
    free(scratch.opened)
    scratch.compressor = scratch.decompressor = cython.NULL
    scratch.raw = scratch.opened = cython.NULL
    scratch.room = scratch.opened_room = 0
