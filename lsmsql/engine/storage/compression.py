"""zstd, with a dictionary or without, or nothing, with the decoded length known before anything is allocated."""

from __future__ import annotations

import threading
from enum import IntEnum
from weakref import WeakKeyDictionary

import zstandard
from zstandard import frame_content_size

from ...errors import UsageError
from .dictionary import Dictionary
from .filesystem import Bytes


class Codec(IntEnum):
    """How a payload is compressed. On disk: never renumber."""

    NONE = 0
    ZSTD = 1
    ZSTD_DICTIONARY = 2
    ZSTD_LEAD = 3


_NONE, _ZSTD, _ZSTD_DICTIONARY, _ZSTD_LEAD = map(int, Codec)  # Looking a name up in an enum costs as much as a small checksum.

CODECS = {"none": Codec.NONE, "zstd": Codec.ZSTD}
"""By the name that Options.compression uses."""

LEVEL_MIN, LEVEL_MAX = 1, 22

# A zstd block is at least 3 bytes and at most 128 KiB decoded, so no honest payload decodes to more than this per byte.
_RATIO_MAX = (128 << 10) // 3 + 1


LEAD_BYTES_MAX = 1 << 20
"""A longer lead is not compressed against: every read of another part decodes it."""


class Lead:
    """The first part, raw, of a block that is stored in parts: what the others are compressed against, as if they stood right behind it. For one
    thread at a time.

    The compiled kernels decode by a function that takes what begins with the magic number of zstd's dictionaries (0xEC30A437) for one of them. A data
    block begins with its number of entries, which is never that."""

    def __init__(self, raw: bytes) -> None:
        self._content = zstandard.ZstdCompressionDict(raw, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        self._compressors: dict[int, zstandard.ZstdCompressor] = {}

    def compress(self, raw: Bytes, level: int) -> bytes:
        if level not in self._compressors:
            self._compressors[level] = zstandard.ZstdCompressor(
                level=level, dict_data=self._content, write_content_size=True, write_checksum=False, write_dict_id=False
            )
        return self._compressors[level].compress(raw)

    def decompress(self, payload: Bytes) -> bytes:
        """ZstdError for what does not decode; the caller has checked the length that the payload declares."""
        return zstandard.ZstdDecompressor(dict_data=self._content).decompress(payload, allow_extra_data=False)


class _Contexts(threading.local):
    """zstd contexts must not be used by two threads at once, and are too dear to make for each block."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()
        self.learned: WeakKeyDictionary[Dictionary, dict[int, zstandard.ZstdCompressor]] = WeakKeyDictionary()
        self.learned_decompressors: WeakKeyDictionary[Dictionary, zstandard.ZstdDecompressor] = WeakKeyDictionary()


_contexts = _Contexts()


def _compressor(level: int, dictionary: Dictionary | None) -> zstandard.ZstdCompressor:
    compressors = _contexts.compressors if dictionary is None else _contexts.learned.setdefault(dictionary, {})
    if level not in compressors:
        if not LEVEL_MIN <= level <= LEVEL_MAX:
            raise UsageError(f"zstd level must be from {LEVEL_MIN} to {LEVEL_MAX}, not {level!r}")
        learned = None if dictionary is None else dictionary.compressing(level)
        compressors[level] = zstandard.ZstdCompressor(
            level=level, dict_data=learned, write_content_size=True, write_checksum=False, write_dict_id=False
        )
    return compressors[level]


def _decompressor(dictionary: Dictionary) -> zstandard.ZstdDecompressor:
    found = _contexts.learned_decompressors.get(dictionary)
    if found is None:
        found = _contexts.learned_decompressors[dictionary] = zstandard.ZstdDecompressor(dict_data=dictionary.decompressing)
    return found


def compress(raw: Bytes, codec: int, level: int = 1, dictionary: Dictionary | Lead | None = None) -> tuple[int, Bytes]:
    """(codec, payload): as asked for if that is smaller than `raw`, else `raw` itself with Codec.NONE.

    dictionary: what ZSTD_DICTIONARY compresses with, or the lead that ZSTD_LEAD compresses against."""
    if codec == _NONE:
        return _NONE, raw
    if codec not in (_ZSTD, _ZSTD_DICTIONARY, _ZSTD_LEAD):
        raise UsageError(f"no codec {codec}")
    if (codec == _ZSTD_DICTIONARY) != isinstance(dictionary, Dictionary) or (codec == _ZSTD_LEAD) != isinstance(dictionary, Lead):
        raise UsageError(f"codec {codec} with dictionary {dictionary!r}")
    if isinstance(dictionary, Lead):
        payload = dictionary.compress(raw, level)
        return (codec, payload) if len(payload) < len(raw) else (_NONE, raw)
    compressor = (_contexts.compressors.get(level) if codec == _ZSTD else None) or _compressor(level, dictionary)
    payload = compressor.compress(raw)
    return (codec, payload) if len(payload) < len(raw) else (_NONE, raw)


def quick_decompress(payload: Bytes, raw_length: int) -> bytes | None:
    """As `decompress` with Codec.ZSTD, for who has held the payload to its checksum; None where that says what is wrong."""
    try:
        if frame_content_size(payload) == raw_length and 0 < raw_length <= len(payload) * _RATIO_MAX:
            raw: bytes = _contexts.decompressor.decompress(payload, allow_extra_data=False)
            return raw if len(raw) == raw_length else None
    except zstandard.ZstdError:
        pass
    return None


def decompress(payload: Bytes, codec: int, raw_length: int, dictionary: Dictionary | Lead | None = None) -> bytes:
    """The inverse of `compress`: exactly `raw_length` bytes, or ValueError saying what is wrong with the payload.

    The caller bounds `raw_length`; here nothing is allocated before the payload has agreed with it."""
    if codec == _NONE:
        if len(payload) != raw_length:
            raise ValueError(f"holds {len(payload)} bytes instead of {raw_length}")
        return bytes(payload)
    if codec not in (_ZSTD, _ZSTD_DICTIONARY, _ZSTD_LEAD):
        raise ValueError(f"unknown codec {codec}")
    if raw_length > len(payload) * _RATIO_MAX:
        raise ValueError(f"{len(payload)} zstd bytes cannot decode to {raw_length}")
    if codec == _ZSTD_DICTIONARY and not isinstance(dictionary, Dictionary):
        raise ValueError("is compressed with a dictionary that the file does not have")
    if codec == _ZSTD_LEAD and not isinstance(dictionary, Lead):
        raise ValueError("is compressed against the lead of a block, which it does not belong to")
    try:
        # The library allocates the size that the payload declares, so that is compared first; -1 means none declared.
        if zstandard.frame_content_size(payload) != raw_length:
            raise ValueError(f"the zstd frame does not declare {raw_length} bytes")
        if raw_length == 0:
            raise ValueError("an empty block is never compressed")
        if isinstance(dictionary, Lead) and codec == _ZSTD_LEAD:
            raw = dictionary.decompress(payload)
        elif isinstance(dictionary, Dictionary) and codec == _ZSTD_DICTIONARY:
            raw = _decompressor(dictionary).decompress(payload, allow_extra_data=False)
        else:
            raw = _contexts.decompressor.decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd: {error}") from None
    if len(raw) != raw_length:
        raise ValueError(f"decodes to {len(raw)} bytes instead of {raw_length}")
    return raw
