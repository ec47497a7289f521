"""ChecksumPolicy: which SSTables carry a checksum of every single entry. A value that options share with the engine."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import UsageError

_TEXT = re.compile(r"off|all|levels\((\d(?:,\s*\d)*)\)|tables\((\d{1,19}),\s*(\d{1,19})\)", re.ASCII)
_LEVELS = 7


@dataclass(frozen=True, slots=True)
class ChecksumPolicy:
    """levels: those whose tables carry checksums. tables: else the file ids, from the first to the last, both inclusive, whose tables do."""

    levels: frozenset[int] = frozenset()
    tables: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> ChecksumPolicy:
        """UsageError for a text that is none of off, all, levels(0,1), tables(10,99)."""
        match = _TEXT.fullmatch(text) if isinstance(text, str) else None
        levels = frozenset(map(int, re.findall(r"\d", match[1]))) if match and match[1] else frozenset()
        tables = (int(match[2]), int(match[3])) if match and match[2] else None
        if match is None or (levels and max(levels) >= _LEVELS) or (tables and tables[0] > tables[1]):
            raise UsageError(f"no policy of checksums {text!r}: it is off, all, levels(0,1) with levels from 0 to 6, or tables(10,99) with file ids")
        return cls(frozenset(range(_LEVELS)) if text == "all" else levels, tables)

    def applies(self, level: int, file_id: int) -> bool:
        """Whether a table written for a level under a file id carries checksums."""
        return level in self.levels if self.tables is None else self.tables[0] <= file_id <= self.tables[1]
