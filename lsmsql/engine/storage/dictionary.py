"""zstd dictionaries: what the blocks of a tree have in common, which a block of a few KiB is too short to show by itself."""

from __future__ import annotations

import threading
import weakref

import zstandard

from .checksum import checksum64

DICTIONARY_BYTES_MAX = 128 << 10


class Dictionary:
    """content: as zstd's trainer made it (RFC 8878, 5); id: what a block's header says, never 0, told from the content; size: bytes.

    Immutable, and used by any number of threads and tables at once; `shared_dictionary` finds the one that is there already."""

    __slots__ = ("__weakref__", "_compressing", "content", "decompressing", "id", "native")

    def __init__(self, content: bytes) -> None:
        """ValueError for content that is empty, over DICTIONARY_BYTES_MAX, or none of zstd's."""
        if not 0 < len(content) <= DICTIONARY_BYTES_MAX:
            raise ValueError(f"a dictionary has 1 to {DICTIONARY_BYTES_MAX} bytes, not {len(content)}")
        self.content = content
        self.id = checksum64(content) & 0xFFFF_FFFF or 1
        self.decompressing = zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_FULLDICT)
        self.native: object = None  # What the kernels made of it (kernel/libraries_cy.py).
        self._compressing: dict[int, zstandard.ZstdCompressionDict] = {}
        try:
            zstandard.ZstdDecompressor(dict_data=self.decompressing).decompress(_EMPTY)  # Which is when zstd parses the dictionary.
        except (zstandard.ZstdError, ValueError) as error:
            raise ValueError(f"not a zstd dictionary: {error}") from None

    def compressing(self, level: int) -> zstandard.ZstdCompressionDict:
        """The dictionary as digested for a level of zstd, made once."""
        found = self._compressing.get(level)
        if found is None:
            found = zstandard.ZstdCompressionDict(self.content, dict_type=zstandard.DICT_TYPE_FULLDICT)
            found.precompute_compress(level=level)
            self._compressing[level] = found
        return found

    @property
    def size(self) -> int:
        return len(self.content)

    def __repr__(self) -> str:
        return f"<Dictionary {self.id:#010x} of {self.size} bytes>"


_EMPTY = zstandard.ZstdCompressor(level=1, write_checksum=False).compress(b"")
_shared: weakref.WeakValueDictionary[int, Dictionary] = weakref.WeakValueDictionary()
_sharing = threading.RLock()  # RLock: a finalizer on the same thread may open a table.


def shared_dictionary(content: bytes) -> Dictionary:
    """The dictionary with this content, the same for all who hold it, gone with the last of them. Errors as Dictionary's."""
    made = Dictionary(content)
    with _sharing:
        found = _shared.get(made.id)
        if found is not None and found.content == content:
            return found
        _shared[made.id] = made  # Two contents of one id are kept apart; the newer one is found from now on.
        return made
