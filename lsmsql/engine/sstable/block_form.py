"""The form of a data block, by the level of the tree that its table is for."""

from __future__ import annotations

from typing import NamedTuple

from ...options import Options, at_level


class BlockForm(NamedTuple):
    """block_bytes: decoded size at which a data block, or a part of one, is closed; rows: its layout, else columns; compression_level: of zstd, 0 for
    none; block_parts: how many parts a block is stored in.

    The level decides the window as well: zstd makes it as long as the block, up to 512 KiB at level 1 and 2 MiB or more from level 3 on. Longer
    are only blocks of huge values, or of a huge `block_bytes`, so there is no option for the window."""

    block_bytes: int
    rows: bool
    compression_level: int
    block_parts: int = 1


def block_form(options: Options, level: int | None) -> BlockForm:
    """As the options have it for a level; None: that is not known yet, but likely a deep one."""
    parts = at_level(options.block_parts, level)
    compressed = at_level(options.compression, level) == "zstd"
    return BlockForm(
        block_bytes=at_level(options.block_bytes, level) // parts,
        rows=at_level(options.block_layout, level) == "rows",
        compression_level=at_level(options.compression_level, level) if compressed else 0,
        block_parts=parts,
    )
