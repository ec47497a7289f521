"""PrefixExtractor: which beginnings of keys a table's filter holds beside the keys. A value that options, tables and kernels share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import UsageError

_KINDS = ("none", "fixed", "delimiter")  # The place is the kind's number in the code.
_TEXT = re.compile(r"none|fixed:(\d{1,5})|delimiter:(0x[0-9a-fA-F]{2}|[!-~])", re.ASCII)


@dataclass(frozen=True, slots=True)
class PrefixExtractor:
    """kind: "none"; "fixed", the first `argument` bytes of each key that has so many, 1 to 65535; or "delimiter", all up to the first byte
    `argument`, that byte included, of each key that has one. Keys with one prefix stand together in the order of keys."""

    kind: str = "none"
    argument: int = 0

    @classmethod
    def parse(cls, text: str) -> PrefixExtractor:
        """none, fixed:N, delimiter:X with a printable character, or delimiter:0xHH; UsageError for anything else."""
        found = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if found is None or (found[1] is not None and not 1 <= int(found[1]) <= 65_535):
            raise UsageError(f"a prefix is none, fixed:N with N from 1 to 65535, delimiter:X with a character or delimiter:0xHH, not {text!r}")
        if found[1] is not None:
            return cls("fixed", int(found[1]))
        if found[2] is not None:
            return cls("delimiter", int(found[2], 16) if len(found[2]) > 1 else ord(found[2]))
        return cls()

    @property
    def code(self) -> int:
        """What the kernels take: kind << 16 | argument, 0 for none."""
        return _KINDS.index(self.kind) << 16 | self.argument

    @classmethod
    def of_code(cls, code: int) -> PrefixExtractor:
        kind, argument = code >> 16, code & 0xFFFF
        if kind > 2 or code < 0 or (not argument if kind == 1 else argument > 255 if kind == 2 else argument):
            raise ValueError(f"no prefix extractor has code {code}")
        return cls(_KINDS[kind], argument)

    def prefix_of(self, key: bytes) -> bytes | None:
        """The prefix of a key, None if it has none."""
        if self.kind == "fixed":
            return key[: self.argument] if len(key) >= self.argument else None
        end = key.find(self.argument) + 1 if self.kind == "delimiter" else 0
        return key[:end] if end else None

    def prefix_of_range(self, lower: bytes | None, upper: bytes | None) -> bytes | None:
        """The prefix that every key has that lower <= key < upper holds for; None if there is none."""
        prefix = self.prefix_of(lower) if lower is not None else None
        if prefix is None or (upper is not None and upper[: len(prefix)] == prefix):
            return prefix
        stem = prefix.rstrip(b"\xff")
        behind = stem[:-1] + bytes((stem[-1] + 1,)) if stem else None  # the first key that is above all keys with the prefix
        return prefix if behind is None or upper == behind else None
