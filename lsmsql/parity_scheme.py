"""ParityScheme: which parity stands behind a frame. A value that options, tables and frames share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import UsageError

SHARDS_MAX = 32
PARITY_MAX = 8

_KINDS = ("none", "xor", "rs")  # The place is the number on disk.
_TEXT = re.compile(r"none|xor\((\d{1,2})\)|rs\((\d{1,2}),\s*(\d)\)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ParityScheme:
    """kind: "none", "xor" (one parity shard, the XOR of all) or "rs" (Reed-Solomon); d: shards that a frame is cut into, 1 to 32; p: parity
    shards behind it, 1 to 8. Any p of the d + p shards may be lost. rs(d,1) makes the bytes that xor(d) makes. False if there is no parity.

    A frame of n bytes is cut into d shards of s = ceil(n / d) bytes, the last ones short or empty, and followed by p * s bytes of parity.
    """

    kind: str = "none"
    d: int = 0
    p: int = 0

    def __post_init__(self) -> None:
        numbers = all(isinstance(number, int) and not isinstance(number, bool) for number in (self.d, self.p))
        if self.kind == "none":
            possible = numbers and self.d == self.p == 0
        else:
            possible = self.kind in _KINDS and numbers and 1 <= self.d <= SHARDS_MAX and 1 <= self.p <= (1 if self.kind == "xor" else PARITY_MAX)
        if not possible:
            raise UsageError(f"no parity scheme {self.kind}({self.d},{self.p}): it is none, xor(d) or rs(d,p) with d from 1 to 32 and p from 1 to 8")

    def __bool__(self) -> bool:
        return self.d > 0

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return {"none": "none", "xor": f"xor({self.d})", "rs": f"rs({self.d},{self.p})"}[self.kind]

    @classmethod
    def parse(cls, text: str) -> ParityScheme:
        """The scheme of a text: "none", "xor(4)", "rs(4,2)"; UsageError for any other."""
        found = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if not found:
            raise UsageError(f"no parity scheme {text!r}: it is none, xor(d) or rs(d,p) with d from 1 to 32 and p from 1 to 8")
        if found[1]:
            return cls("xor", int(found[1]), 1)
        return cls("rs", int(found[2]), int(found[3])) if found[2] else cls()

    @classmethod
    def of_data(cls, text: str) -> ParityScheme:
        """As `parse`, for data blocks, which hold up to a value of 10^9 bytes, and with their parity less than 4 GiB."""
        scheme = cls.parse(text)
        if scheme.p > 2 * scheme.d:
            raise UsageError(f"parity {scheme} is too much for data blocks: p may be at most twice d")
        return scheme

    @property
    def code(self) -> int:
        """Two bytes that say all: kind << 8 | (p - 1) << 5 | (d - 1); 0 is none."""
        return _KINDS.index(self.kind) << 8 | self.byte

    @property
    def byte(self) -> int:
        """d and p, as a frame's header says them: the low byte of `code`."""
        return (self.p - 1) << 5 | (self.d - 1) if self else 0

    @classmethod
    def of_code(cls, code: int) -> ParityScheme:
        """The inverse of `code`; ValueError for a number that is none."""
        kind, byte = code >> 8, code & 0xFF
        if code == 0:
            return cls()
        try:
            scheme = cls(_KINDS[kind], (byte & 31) + 1, (byte >> 5) + 1) if 1 <= kind < len(_KINDS) else None
        except UsageError:
            scheme = None
        if scheme is None:
            raise ValueError(f"no parity scheme has the code {code}")
        return scheme

    def shard_length(self, frame_length: int) -> int:
        """Bytes of each shard of a frame; 0 without parity."""
        return -(-frame_length // self.d) if self else 0

    def parity_length(self, frame_length: int) -> int:
        """Bytes of parity behind a frame."""
        return self.p * self.shard_length(frame_length)

    def frame_length(self, stored_length: int) -> int:
        """Bytes of the frame in that many bytes of frame and parity; ValueError where no frame makes so many."""
        if not self:
            return stored_length
        shard = -(-stored_length // (self.d + self.p))
        length = stored_length - self.p * shard
        if length < 1 or self.shard_length(length) != shard:
            raise ValueError(f"no frame makes {stored_length} bytes with parity {self}")
        return length
