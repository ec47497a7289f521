# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Raw blocks into frames, without the GIL: compressed, encrypted, checksummed, with parity; plain/sealing.py defines BlockSealer."""

from __future__ import annotations

import cython

if not cython.compiled:
    raise ImportError("this kernel works only compiled; kernel/plain stands in for it")

from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memset
from cython.cimports.lsmsql.engine.kernel.native import SLACK

from ...errors import UsageError
from ...parity_scheme import ParityScheme
from ..storage import encryption
from ..storage.compression import LEAD_BYTES_MAX
from .chunk import SealedBlocks
from .native_dictionary import native_dictionary

_LEAD_MAX = cython.declare(cython.size_t, LEAD_BYTES_MAX)


def sealing_set(sealing, level, overhead, parity, span):
    if not 0 <= level <= 22:
        raise UsageError(f"zstd level must be from 0 to 22, not {level}")
    if span < 1 or (span > 1 and not level):
        raise UsageError(f"blocks of {span} parts at zstd level {level}")
    ParityScheme.of_code(parity)
    sealing.span = span
    sealing.level = level
    sealing.overhead = overhead
    sealing.parity_code = parity
    if parity:
        parity_prepare(cython.address(sealing.parity), (parity & 31) + 1, ((parity >> 5) & 7) + 1)
    return 0


def sealing_learn(sealing, native, id):
    address: cython.size_t = native.compressing(sealing.level)
    sealing.scratch.learned = cython.cast(cython.p_void, address)
    sealing.scratch.dictionary = id
    return 0


def _parity_bytes(sealing, frame_size):
    return sealing.parity.p * parity_shard(sealing.parity.d, frame_size) if sealing.parity_code else 0


def sealing_room(sealing, raw_size):
    room: cython.size_t = frame_room(raw_size) + sealing.overhead
    return room + _parity_bytes(sealing, room)


def sealing_lead(sealing, raw, size):
    sealing.lead.size = 0
    if size == 0 or size > _LEAD_MAX:
        return 0
    if sealing.behind == cython.NULL:
        sealing.behind = zstd_create_compressor()
    if sealing.behind == cython.NULL or not lead_keep(cython.address(sealing.lead), 0, 0, raw, size):
        return -1
    return -1 if zstd_is_error(zstd_load_lead(sealing.behind, sealing.level, sealing.lead.raw, size)) else 0


def sealing_block(sealing, number, raw, size, sealer, out, sealed):
    leads: cython.bint = sealing.span > 1 and number % sealing.span == 0
    if leads:
        sealing.lead.size = 0
    sealing.scratch.lead = cython.address(sealing.lead)
    sealing.scratch.behind = sealing.behind if sealing.lead.size else cython.NULL
    if _seal(sealing, raw, size, sealer, out, sealed):
        return -1
    return sealing_lead(sealing, raw, size) if leads else 0


def _seal(sealing, raw, size, sealer, out, sealed):
    stored: cython.size_t
    sealed.codec = 0
    if sealing.overhead and sealer == cython.NULL:
        stored = payload_seal(cython.address(sealing.scratch), sealing.level, raw, size, out, cython.address(sealed.codec))
        if stored == 0:
            return -1
        sealed.payload = sealed.written = stored
        sealed.frame = FRAME_HEADER + stored + sealing.overhead
        sealed.frame += _parity_bytes(sealing, sealed.frame)
        return 0
    stored = frame_seal(cython.address(sealing.scratch), sealing.level, sealing.parity_code, raw, size, sealer, out)
    if stored == 0:
        return -1
    if sealing.parity_code:
        parity_encode(cython.address(sealing.parity), out, stored, out + stored)
    sealed.codec = out[4]
    sealed.payload = stored - FRAME_HEADER - sealing.overhead
    sealed.frame = sealed.written = stored + _parity_bytes(sealing, stored)
    return 0


def sealing_payloads(sealing, out, sizes, raw_lengths, codecs, count):
    """The payloads of `count` blocks, to be encrypted elsewhere: (codec, raw length, bytes)."""
    found: list = []
    n: u32
    for n in range(count):
        frame_size: cython.size_t = parity_frame(sealing.parity.d, sealing.parity.p, sizes[n]) if sealing.parity_code else sizes[n]
        size: cython.Py_ssize_t = frame_size - FRAME_HEADER - sealing.overhead
        found.append((codecs[n], raw_lengths[n], PyBytes_FromStringAndSize(cython.cast(cython.p_char, out), size)))
        out += size
    return found


def sealing_free(sealing):
    scratch_free(cython.address(sealing.scratch))
    lead_free(cython.address(sealing.lead))
    if sealing.behind != cython.NULL:
        zstd_free_compressor(sealing.behind)
        sealing.behind = cython.NULL


@cython.cclass
class BlockSealer:
    """Seals the blocks of raw chunks; arguments as plain.sealing.BlockSealer's."""

    def __cinit__(self):
        memset(cython.address(self.sealing), 0, cython.sizeof(Sealing))
        self.out = cython.NULL

    def __init__(self, *, compression_level: cython.int = 0, dictionary=None, overhead: cython.size_t = 0, parity: u32 = 0, block_parts=1) -> None:
        if self.busy or self.dictionary is not None:
            raise ValueError("the sealer is in use")
        sealing_set(cython.address(self.sealing), compression_level, overhead, parity, block_parts)
        if dictionary is not None:
            if not compression_level:
                raise UsageError("a dictionary is of use only to what compresses")
            self.dictionary, self.native = dictionary, native_dictionary(dictionary)
            sealing_learn(cython.address(self.sealing), self.native, dictionary.id)

    def __dealloc__(self):
        sealing_free(cython.address(self.sealing))
        free(self.out)

    def seal(self, raw_chunk, cipher=None):
        """What becomes of a RawChunk's blocks: SealedBlocks. One thread at a time."""
        native: NativeCipher = None
        key: FileKeyP = cython.NULL
        nonces: bytes = b""
        raw: bytes = raw_chunk.raw
        lengths: bytes = raw_chunk.lengths
        count: u32 = PyBytes_GET_SIZE(lengths) // 4
        first: u32 = raw_chunk.first_block
        lead: bytes = raw_chunk.lead
        at: Data = cython.cast(Data, PyBytes_AS_STRING(raw))
        sizes: bytes = PyBytes_FromStringAndSize(cython.NULL, 4 * cython.cast(cython.Py_ssize_t, count))
        codecs: bytes = PyBytes_FromStringAndSize(cython.NULL, count)
        raw_lengths: U32s = cython.cast(U32s, PyBytes_AS_STRING(lengths))
        found: U32s = cython.cast(U32s, PyBytes_AS_STRING(sizes))
        used: cython.pointer[u8] = cython.cast(cython.pointer[u8], PyBytes_AS_STRING(codecs))
        code: cython.int
        total: cython.size_t = 0
        n: u32
        for n in range(count):
            total += raw_lengths[n]
        if total != cython.cast(cython.size_t, PyBytes_GET_SIZE(raw)):
            raise ValueError("the lengths of the blocks are not those of their chunk")
        if self.busy:
            raise ValueError("the sealer is in use")
        if (cipher is None) != (self.sealing.overhead == 0):
            raise ValueError("blocks are encrypted where their overhead was counted, and nowhere else")
        if cipher is not None:
            native = native_cipher(cipher)
            key = cython.address(native.key)
            nonces = encryption.new_nonces(count)
            if len(nonces) != NONCE * cython.cast(cython.Py_ssize_t, count):
                raise ValueError("each block takes a nonce of its own")
        self.busy = True
        if self.sealing.span > 1 and sealing_lead(cython.address(self.sealing), cython.cast(Data, PyBytes_AS_STRING(lead)), PyBytes_GET_SIZE(lead)):
            self.busy = False
            raise MemoryError("no memory to seal blocks")
        fresh: Data = cython.cast(Data, PyBytes_AS_STRING(nonces))
        with cython.nogil:
            code = self._run(at, raw_lengths, count, key, first, fresh, found, used)
        self.busy = False
        if code:
            raise MemoryError("no memory to seal blocks")
        return SealedBlocks(PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.out), self.used), sizes, codecs)

    def _run(self, raw, lengths, count, key, first, nonces, sizes, codecs):
        sealed: Sealed
        sealer: Sealer
        sealer.key = key
        n: u32
        self.used = 0
        for n in range(count):
            need: cython.size_t = self.used + sealing_room(cython.address(self.sealing), lengths[n])
            if need > self.room:
                memory: cython.p_void = realloc(self.out, need + need // 2 + SLACK)
                if memory == cython.NULL:
                    return -1
                self.out = cython.cast(Room, memory)
                self.room = need + need // 2
            sealer.ordinal = first + n
            sealer.nonce = nonces + NONCE * cython.cast(cython.size_t, n)
            if sealing_block(
                cython.address(self.sealing),
                first + n,
                raw,
                lengths[n],
                cython.NULL if key == cython.NULL else cython.address(sealer),
                self.out + self.used,
                cython.address(sealed),
            ):
                return -1
            self.used += sealed.written
            sizes[n] = sealed.frame
            codecs[n] = sealed.codec
            raw += lengths[n]
        return 0
