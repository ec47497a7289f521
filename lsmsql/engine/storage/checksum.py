"""XXH3 in the byte order in which files hold it."""

from __future__ import annotations

from xxhash import xxh3_64_intdigest, xxh3_128, xxh3_128_digest

from .filesystem import Bytes

DIGEST_BYTES = 16

checksum64 = xxh3_64_intdigest
"""XXH3-64 of a bytes-like object, as a number; stored as a little-endian u64."""


def checksum32(data: Bytes) -> int:
    """The low 32 bits of XXH3-64: for headers, which are small and have stronger checks behind them."""
    return xxh3_64_intdigest(data) & 0xFFFFFFFF


def checksum128(data: Bytes) -> bytes:
    """The 16 stored bytes of XXH3-128, low 64 bits first, each half little-endian (the library's digest is big-endian)."""
    return xxh3_128_digest(data)[::-1]


class RunningChecksum:
    """The `checksum128` of bytes that come piece by piece."""

    def __init__(self) -> None:
        self._state = xxh3_128()

    def update(self, data: Bytes) -> None:
        self._state.update(data)

    def digest(self) -> bytes:
        return self._state.digest()[::-1]
