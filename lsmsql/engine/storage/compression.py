"""zstd or nothing, with the decoded length known before anything is allocated."""

from __future__ import annotations

import threading
from enum import IntEnum

import zstandard

from ...errors import UsageError
from .filesystem import Bytes


class Codec(IntEnum):
    """How a payload is compressed. On disk: never renumber."""

    NONE = 0
    ZSTD = 1


_NONE, _ZSTD = int(Codec.NONE), int(Codec.ZSTD)  # Looking a name up in an enum costs as much as a small checksum.

CODECS = {"none": Codec.NONE, "zstd": Codec.ZSTD}
"""By the name that Options.compression uses."""

LEVEL_MIN, LEVEL_MAX = 1, 22

# A zstd block is at least 3 bytes and at most 128 KiB decoded, so no honest payload decodes to more than this per byte.
_RATIO_MAX = (128 << 10) // 3 + 1


class _Contexts(threading.local):
    """zstd contexts must not be used by two threads at once, and are too dear to make for each block."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def _compressor(level: int) -> zstandard.ZstdCompressor:
    if not LEVEL_MIN <= level <= LEVEL_MAX:
        raise UsageError(f"zstd level must be from {LEVEL_MIN} to {LEVEL_MAX}, not {level!r}")
    made = zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False, write_dict_id=False)
    _contexts.compressors[level] = made
    return made


def compress(raw: Bytes, codec: int, level: int = 1) -> tuple[int, Bytes]:
    """(codec, payload): zstd if that was asked for and is smaller than `raw`, else `raw` itself with Codec.NONE."""
    if codec == _NONE:
        return _NONE, raw
    if codec != _ZSTD:
        raise UsageError(f"no codec {codec}")
    payload = (_contexts.compressors.get(level) or _compressor(level)).compress(raw)
    return (_ZSTD, payload) if len(payload) < len(raw) else (_NONE, raw)


def decompress(payload: Bytes, codec: int, raw_length: int) -> bytes:
    """The inverse of `compress`: exactly `raw_length` bytes, or ValueError saying what is wrong with the payload.

    The caller bounds `raw_length`; here nothing is allocated before the payload has agreed with it."""
    if codec == _NONE:
        if len(payload) != raw_length:
            raise ValueError(f"holds {len(payload)} bytes instead of {raw_length}")
        return bytes(payload)
    if codec != _ZSTD:
        raise ValueError(f"unknown codec {codec}")
    if raw_length > len(payload) * _RATIO_MAX:
        raise ValueError(f"{len(payload)} zstd bytes cannot decode to {raw_length}")
    try:
        # The library allocates the size that the payload declares, so that is compared first; -1 means none declared.
        if zstandard.frame_content_size(payload) != raw_length:
            raise ValueError(f"the zstd frame does not declare {raw_length} bytes")
        if raw_length == 0:
            raise ValueError("an empty block is never compressed")
        raw = _contexts.decompressor.decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd: {error}") from None
    if len(raw) != raw_length:
        raise ValueError(f"decodes to {len(raw)} bytes instead of {raw_length}")
    return raw
