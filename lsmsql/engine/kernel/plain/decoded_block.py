"""The decoded block: the one form that every read works on, whatever the layout on disk."""

from __future__ import annotations


class Block:
    """A decoded block: parallel sequences of keys, seqnos, kinds and values, in entry order."""

    __slots__ = ("_keys", "_kinds", "_seqnos", "_values")

    def __init__(self, keys: list[bytes], seqnos: list[int], kinds: list[int], values: list[bytes]) -> None:
        self._keys = keys
        self._seqnos = seqnos
        self._kinds = kinds
        self._values = values

    def keys(self) -> list[bytes]:
        return self._keys

    def values(self) -> list[bytes]:
        return self._values

    def seqnos(self) -> list[int]:
        return self._seqnos

    def kinds(self) -> list[int]:
        return self._kinds

    def items(self) -> list[tuple[bytes, bytes]]:
        return list(zip(self._keys, self._values, strict=True))

    def __len__(self) -> int:
        return len(self._keys)
