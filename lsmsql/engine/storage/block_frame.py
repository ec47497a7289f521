"""One block on disk: a checked header and a payload, compressed, then encrypted, then checksummed.

Header, 40 bytes, little-endian (docs/formats.md, "Block frame"):

    0 u16 magic 0x4D53   2 u8 type   3 u8 flags (1 encrypted, 2 parity)   4 u8 codec   5 u8 parity (d, p)   6 u16 key epoch
    8 u32 dictionary id   12 u32 stored payload length   16 u32 raw length   20 16B XXH3-128 of the stored payload
    36 u32 header check: low 32 bits of XXH3-64 over bytes 0..36

Parity covers header and payload and stands behind them. The header says that it is there; which scheme and how many bytes its reader has to know
from elsewhere, as a damaged header says anything.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from enum import IntEnum
from functools import partial
from typing import NamedTuple

from ...errors import CorruptionError, KeyUnavailableError, UsageError
from .checksum import checksum32, checksum128
from .compression import Codec, compress, decompress
from .dictionary import Dictionary
from .encryption import FileCipher
from .filesystem import Bytes
from .parity import ParityScheme, Repairs, add_parity, add_parity_to_all, repair


class FrameType(IntEnum):
    """What a frame holds. On disk: never renumber."""

    DATA = 1
    INDEX = 2
    FILTER = 3
    PROPERTIES = 4
    MANIFEST = 5
    KEYS = 6
    FOOTER = 7
    RANGE_TOMBSTONES = 8
    BLOB_FILES = 9
    DICTIONARY = 10
    INDEX_PARTITION = 11
    FILTER_PARTITION = 12
    SLOT_MAP = 13


HEADER_BYTES = 40
MAGIC = 0x4D53
FLAG_ENCRYPTED = 1
FLAG_PARITY = 2
RAW_BYTES_MAX = 256 << 20
DATA_RAW_BYTES_MAX = 1_100_000_000  # One value may be 10^9 bytes.

_FIELDS = struct.Struct("<HBBBBHIII16s")
_CHECK = struct.Struct("<I")
_HEADER = struct.Struct("<HBBBBHIII16sI")
_CODEC_MAX = int(max(Codec))
_DATA = int(FrameType.DATA)
_ZSTD_DICTIONARY = int(Codec.ZSTD_DICTIONARY)
_ANY = -1
_CHECKED_BYTES = HEADER_BYTES - _CHECK.size


class FrameHeader(NamedTuple):
    """The fields of a header that has passed its own check; see the module's table."""

    type: int
    flags: int
    codec: int
    epoch: int
    dictionary: int
    stored_length: int
    raw_length: int
    digest: bytes

    @property
    def frame_length(self) -> int:
        """Bytes of header and payload together."""
        return HEADER_BYTES + self.stored_length


def raw_bytes_max(type: int) -> int:
    return DATA_RAW_BYTES_MAX if type == FrameType.DATA else RAW_BYTES_MAX


def seal_frame(
    type: int,
    raw: Bytes,
    *,
    codec: int = Codec.NONE,
    level: int = 1,
    cipher: FileCipher | None = None,
    ordinal: int = 0,
    dictionary: Dictionary | None = None,
    parity: ParityScheme | None = None,
) -> bytes:
    """The frame of one raw block, with its parity. codec: what to try; stored uncompressed if that does not make it smaller.

    ordinal: the block's number within its section of the file, part of what the cipher authenticates. dictionary: of codec ZSTD_DICTIONARY."""
    used, payload = compress(raw, codec, level, dictionary)
    return frame_payload(type, payload, len(raw), used, cipher, ordinal, dictionary.id if dictionary else 0, parity)


def frame_payload(
    type: int,
    payload: Bytes,
    raw_length: int,
    codec: int,
    cipher: FileCipher | None = None,
    ordinal: int = 0,
    dictionary: int = 0,
    parity: ParityScheme | None = None,
) -> bytes:
    """The frame, with its parity, of a payload that is compressed with `codec` already; `raw_length` is what it decodes to.

    dictionary: the id of the one that payloads of codec ZSTD_DICTIONARY are compressed with; the headers of others say 0."""
    frame = _frame(type, payload, raw_length, codec, cipher, ordinal, dictionary, parity)
    return add_parity(parity, frame) if parity else frame


def seal_many(
    type: int,
    payloads: Iterable[tuple[Bytes, int, int]],
    first_ordinal: int,
    cipher: FileCipher | None = None,
    dictionary: int = 0,
    parity: ParityScheme | None = None,
) -> list[bytes]:
    """The frames, each with its parity, of many (payload, raw length, codec), numbered from `first_ordinal`: what a kernel compressed in one go.

    dictionary: as of `frame_payload`."""
    frames = [
        _frame(type, payload, raw_length, codec, cipher, ordinal, dictionary, parity)
        for ordinal, (payload, raw_length, codec) in enumerate(payloads, first_ordinal)
    ]
    return add_parity_to_all(parity, frames) if parity else frames


def _frame(
    type: int,
    payload: Bytes,
    raw_length: int,
    codec: int,
    cipher: FileCipher | None,
    ordinal: int,
    dictionary: int,
    parity: ParityScheme | None,
) -> bytes:
    """Header and payload, still without the parity that the header speaks of."""
    if raw_length > RAW_BYTES_MAX and raw_length > raw_bytes_max(type):
        raise UsageError(f"a block of type {type} may hold {raw_bytes_max(type)} bytes, not {raw_length}")
    flags = epoch = scheme = 0
    if codec != _ZSTD_DICTIONARY:
        dictionary = 0
    if cipher is not None:
        flags, epoch = FLAG_ENCRYPTED, cipher.epoch
        payload = cipher.seal(type, ordinal, codec, dictionary, payload)
    if parity:
        flags, scheme = flags | FLAG_PARITY, parity.byte
    fields = _FIELDS.pack(MAGIC, type, flags, codec, scheme, epoch, dictionary, len(payload), raw_length, checksum128(payload))
    return b"".join((fields, _CHECK.pack(checksum32(fields)), payload))


def read_header(path: str, offset: int, data: Bytes, type: int) -> FrameHeader:
    """Check the header at the start of `data`, which lies at `offset` in the file `path`, alone: its payload need not be there.

    CorruptionError says which check failed. Afterwards `frame_length` is what the writer wrote, and bounded."""
    flags, codec, epoch, dictionary, stored, raw, digest = _checked_header(path, offset, data, type)
    return FrameHeader(type, flags, codec, epoch, dictionary, stored, raw, digest)


def peek_header(data: Bytes) -> tuple[FrameHeader, ParityScheme] | None:
    """The header at the start of `data`, whatever kind of frame it is of, and the parity that it speaks of; None where its own check fails.

    For those who look at a frame of which they know nothing else. xor(d) is told as rs(d,1), whose bytes are the same."""
    if len(data) < HEADER_BYTES:
        return None
    magic, kind, flags, codec, parity, epoch, dictionary, stored, raw, digest, check = _HEADER.unpack_from(data)
    if magic != MAGIC or check != checksum32(data[:_CHECKED_BYTES]):
        return None
    scheme = ParityScheme("rs", (parity & 31) + 1, (parity >> 5) + 1) if flags & FLAG_PARITY else ParityScheme()
    return FrameHeader(kind, flags, codec, epoch, dictionary, stored, raw, digest), scheme


def check_frame(path: str, offset: int, stored: Bytes, type: int, parity: ParityScheme, repairs: Repairs | None = None) -> None:
    """Everything about a frame that can be checked without the key: as `open_payload`, but for decryption, and whatever dictionary it names."""
    if parity:
        _verified_or_repaired(path, offset, stored, type, parity, repairs, _ANY)
    else:
        _verified(path, offset, stored, type, 0, _ANY, FLAG_ENCRYPTED)


def _checked_header(
    path: str, offset: int, data: Bytes, type: int, flags_max: int = FLAG_ENCRYPTED, scheme: int = 0, known: int = 0
) -> tuple[int, int, int, int, int, int, bytes]:
    """(flags, codec, epoch, dictionary, stored length, raw length, digest) of a header that passes; on the path of every missed
    block, so all checks are one expression, and telling them apart is left to the failure. flags_max: every flag but `encrypted` must be as in it;
    known: the file's dictionary, 0 for none, _ANY for those who have not looked."""
    if len(data) < HEADER_BYTES:
        raise CorruptionError(path, offset, f"frame header is cut short: {len(data)} of {HEADER_BYTES} bytes")
    magic, kind, flags, codec, parity, epoch, dictionary, stored, raw, digest, check = _HEADER.unpack_from(data)
    if (
        magic == MAGIC
        and check == checksum32(data[:_CHECKED_BYTES])
        and kind == type
        and flags | FLAG_ENCRYPTED == flags_max
        and codec <= _CODEC_MAX
        and parity == scheme
        and (not dictionary if codec != _ZSTD_DICTIONARY else dictionary and known in (dictionary, _ANY))
        and (raw <= RAW_BYTES_MAX or (type == _DATA and raw <= DATA_RAW_BYTES_MAX))
    ):
        return flags, codec, epoch, dictionary, stored, raw, digest
    if magic != MAGIC:
        raise CorruptionError(path, offset, f"frame magic is {magic:#06x} instead of {MAGIC:#06x}")
    if check != checksum32(data[:_CHECKED_BYTES]):
        raise CorruptionError(path, offset, "frame header check does not match")
    if kind != type:
        raise CorruptionError(path, offset, f"frame type is {kind} instead of {int(type)}")
    if raw > raw_bytes_max(type):
        raise CorruptionError(path, offset, f"frame raw length {raw} is over the limit of {raw_bytes_max(type)}")
    if codec == _ZSTD_DICTIONARY and dictionary != known:
        has = f"{known:#010x}" if known else "none"
        raise CorruptionError(path, offset, f"frame needs dictionary {dictionary:#010x}, the file has {has}")
    what = f"frame flags {flags:#04x}, codec {codec}, parity scheme {parity} or dictionary {dictionary} is unknown or not what it should be"
    raise CorruptionError(path, offset, what, "a newer version may have written it")


def open_payload(
    path: str,
    offset: int,
    frame: Bytes,
    type: int,
    cipher: FileCipher | None = None,
    ordinal: int = 0,
    parity: ParityScheme | None = None,
    repairs: Repairs | None = None,
    dictionary: int = 0,
) -> tuple[int, int, Bytes]:
    """(codec, raw length, payload): everything checked and decrypted, not decompressed.

    frame: exactly the bytes of the frame and its parity, found at `offset` of the file `path`; cipher: None for a database that is not
    encrypted (whether it is comes from KEYS, so a frame that says otherwise is damaged). parity: the scheme that the frame was sealed with, by
    which a damaged one is repaired; repairs: where that is counted. dictionary: the id of the only one that the frame may name, 0 for none.
    CorruptionError says which check failed.
    """
    if parity:
        flags, codec, epoch, raw, payload = _verified_or_repaired(path, offset, frame, type, parity, repairs, dictionary)
    else:  # As `_verified`, without the call: a missed block of an encrypted table comes through here.
        flags, codec, epoch, _, stored, raw, digest = _checked_header(path, offset, frame, type, known=dictionary)
        if stored != len(frame) - HEADER_BYTES:
            raise CorruptionError(path, offset, f"frame holds {len(frame) - HEADER_BYTES} payload bytes instead of {stored}")
        payload = frame[HEADER_BYTES:]
        if checksum128(payload) != digest:
            raise CorruptionError(path, offset, "frame payload checksum does not match")
    if flags & FLAG_ENCRYPTED:
        if cipher is None:
            raise CorruptionError(path, offset, "frame is encrypted, but the database is not")
        payload = _decrypt(path, offset, cipher, epoch, (type, ordinal, codec, dictionary if codec == _ZSTD_DICTIONARY else 0), payload)
    elif cipher is not None:
        raise CorruptionError(path, offset, "frame is not encrypted, but the database is")
    if not codec and len(payload) != raw:
        raise CorruptionError(path, offset, f"frame raw length is {raw}, but {len(payload)} bytes are there")
    return codec, raw, payload


def mend_frame(path: str, offset: int, stored: bytes, type: int, parity: ParityScheme, repairs: Repairs | None = None) -> bytes:
    """A frame and its parity as they were written, without decryption: repaired, and counted, where it does not match its checks.

    Arguments and errors as of `check_frame`."""
    try:
        _verified(path, offset, stored[: parity.frame_length(len(stored))], type, parity.byte, _ANY)
        return stored
    except ValueError as error:
        raise CorruptionError(path, offset, str(error)) from None
    except CorruptionError as error:
        verified = partial(_verified, path, offset, type=type, scheme=parity.byte, known=_ANY)
        return add_parity(parity, _repaired(path, offset, stored, parity, verified, error, repairs))


def _verified(
    path: str, offset: int, frame: Bytes, type: int, scheme: int, known: int, flags_max: int = FLAG_ENCRYPTED | FLAG_PARITY
) -> tuple[int, int, int, int, Bytes]:
    """(flags, codec, epoch, raw length, payload as stored) of a frame, without its parity, whose header and payload match their checks."""
    flags, codec, epoch, _, stored, raw, digest = _checked_header(path, offset, frame, type, flags_max, scheme, known)
    if stored != len(frame) - HEADER_BYTES:
        raise CorruptionError(path, offset, f"frame holds {len(frame) - HEADER_BYTES} payload bytes instead of {stored}")
    payload: Bytes = frame[HEADER_BYTES:]
    if checksum128(payload) != digest:
        raise CorruptionError(path, offset, "frame payload checksum does not match")
    return flags, codec, epoch, raw, payload


def _verified_or_repaired(
    path: str, offset: int, stored: Bytes, type: int, parity: ParityScheme, repairs: Repairs | None, known: int
) -> tuple[int, int, int, int, Bytes]:
    """As `_verified`, of a frame with its parity; one that does not match is repaired and counted."""
    try:
        length = parity.frame_length(len(stored))
    except ValueError as error:
        raise CorruptionError(path, offset, str(error)) from None
    verified = partial(_verified, path, offset, type=type, scheme=parity.byte, known=known)
    try:
        return verified(frame=stored[:length])
    except CorruptionError as error:
        return verified(frame=_repaired(path, offset, stored, parity, verified, error, repairs))


def _repaired(
    path: str, offset: int, stored: Bytes, parity: ParityScheme, verified: Callable[..., object], error: CorruptionError, repairs: Repairs | None
) -> bytes:
    """The frame that was written, counted; CorruptionError where parity cannot tell."""
    found = repair(parity, stored, parity.frame_length(len(stored)), partial(_passes, verified))
    if found is None:
        raise CorruptionError(path, offset, error.message, f"parity {parity} could not repair it") from None
    if repairs is not None:
        repairs.add(path, offset)
    return found


def _passes(verified: Callable[..., object], frame: bytes) -> bool:
    try:
        verified(frame=frame)
    except CorruptionError:
        return False
    return True


def _decrypt(path: str, offset: int, cipher: FileCipher, epoch: int, place: tuple[int, int, int, int], sealed: Bytes) -> bytes:
    try:
        return cipher.at(epoch).open(*place, sealed)
    except KeyUnavailableError:
        raise CorruptionError(path, offset, f"frame key epoch {epoch} is not in KEYS", "KEYS may be older than this file") from None
    except ValueError as error:
        raise CorruptionError(path, offset, f"frame {error}", "it may belong to another file or place") from None


def open_frame(
    path: str,
    offset: int,
    frame: Bytes,
    type: int,
    cipher: FileCipher | None = None,
    ordinal: int = 0,
    parity: ParityScheme | None = None,
    repairs: Repairs | None = None,
    dictionary: Dictionary | None = None,
) -> bytes:
    """The raw block. Arguments and errors as `open_payload`, but that it takes the dictionary itself; a payload that does not
    decode to the raw length is damage too."""
    codec, raw_length, payload = open_payload(path, offset, frame, type, cipher, ordinal, parity, repairs, dictionary.id if dictionary else 0)
    try:
        return decompress(payload, codec, raw_length, dictionary)
    except ValueError as error:
        raise CorruptionError(path, offset, f"frame payload {error}") from None
