"""Values that stand apart from their table, in the blob store: what the kernels ask of it, and how their answers are filled in.

A kernel finds an entry of kind BLOB_POINTER where it would find one of kind VALUE. Until it is filled in, it is a tuple of one: its pointer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from ...errors import CorruptionError
from .kinds import Kind

UNREAD_BYTES_MAX = 4 << 20  # of values that a scan finds the pointers of before it reads them
RAW_LENGTH_AT = 12  # in a pointer: u32, of the value


class ValueSource(Protocol):
    """Where values lie that stand apart. Errors name the key."""

    def read(self, key: bytes, pointer: bytes) -> bytes: ...
    def read_many(self, keys: Sequence[bytes], pointers: Sequence[bytes]) -> list[bytes]: ...


class NoValues:
    """Of tables that were opened without a blob store."""

    def read(self, key: bytes, pointer: bytes) -> NoReturn:
        raise CorruptionError("BLOBS", None, f"the value of key {key[:100]!r} should be in the blob store, and there is none")

    def read_many(self, keys: Sequence[bytes], pointers: Sequence[bytes]) -> NoReturn:
        self.read(keys[0], pointers[0])


def fill_values(source: ValueSource, keys: Sequence[bytes], found: list[Any]) -> None:
    """Read what is unread of the values of some keys."""
    places = [place for place, value in enumerate(found) if type(value) is tuple]
    if places:
        values = source.read_many([keys[place] for place in places], [found[place][0] for place in places])
        for place, value in zip(places, values, strict=True):
            found[place] = value


def fill_rows(source: ValueSource, rows: list[Any]) -> None:
    """Likewise of (key, value) rows."""
    places = [place for place, (_, value) in enumerate(rows) if type(value) is tuple]
    keys = [rows[place][0] for place in places]
    values = source.read_many(keys, [rows[place][1][0] for place in places])
    for place, key, value in zip(places, keys, values, strict=True):
        rows[place] = key, value


def filled_block(source: ValueSource, block: Any) -> Any:
    """A block with its values in it."""
    keys, kinds = block.keys(), block.kinds()
    values = [(value,) if kind == Kind.BLOB_POINTER else value for kind, value in zip(kinds, block.values(), strict=True)]
    fill_values(source, keys, values)
    return type(block)(keys, block.seqnos(), [int(Kind.VALUE)] * len(keys), values)


def raw_length(pointer: bytes) -> int:
    """Of the value; of a pointer that is cut short, what there is of it."""
    return int.from_bytes(pointer[RAW_LENGTH_AT : RAW_LENGTH_AT + 4], "little")
