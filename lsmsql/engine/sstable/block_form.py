"""The form of a data block, by the level of the tree that its table is for."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from ...options import Options

T = TypeVar("T")


class BlockForm(NamedTuple):
    """block_bytes: decoded size at which a block is closed; rows: its layout, else columns; compression_level: of zstd, 0 for none.

    The level decides the window as well: zstd makes it as long as the block, up to 512 KiB at level 1 and 2 MiB or more from level 3 on. Longer
    are only blocks of huge values, or of a huge `block_bytes`, so there is no option for the window."""

    block_bytes: int
    rows: bool
    compression_level: int


def block_form(options: Options, level: int | None) -> BlockForm:
    """As the options have it for a level; None: that is not known yet, but likely a deep one."""
    compressed = _at(options.compression, level) == "zstd"
    return BlockForm(
        block_bytes=_at(options.block_bytes, level),
        rows=_at(options.block_layout, level) == "rows",
        compression_level=_at(options.compression_level, level) if compressed else 0,
    )


def _at(levels: T | tuple[T, ...], level: int | None) -> T:
    if not isinstance(levels, tuple):
        return levels
    return levels[-1] if level is None else levels[min(level, len(levels) - 1)]
