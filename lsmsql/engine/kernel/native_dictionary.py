"""Dictionaries as the compiled kernels take them: digested by the library that zstandard brings along."""

from __future__ import annotations

from typing import Any

from ..storage.dictionary import Dictionary
from .libraries_cy import DIRECT


class NativeDictionary:
    """A dictionary as the kernels take it; it is there as long as this object. decompressing: an address.

    Digested as the zstandard package does it, so that the plain twin makes the same bytes."""

    def __init__(self, dictionary: Dictionary) -> None:
        """MemoryError if the library has none. The content is held once, in the Dictionary, and only referred to here."""
        self._content = dictionary.content
        self._found: dict[int, tuple[object, int]] = {}
        self._stand_in = None if DIRECT["zstandard"] else id(dictionary)
        if self._stand_in is not None:
            self.decompressing = self._stand_in
            return
        from zstandard import _cffi  # type: ignore[attr-defined]

        library = _cffi.lib
        made = library.ZSTD_createDDict_byReference(_cffi.ffi.from_buffer(self._content), len(self._content))
        self._digested, self.decompressing = _own(made, library.ZSTD_freeDDict)

    def compressing(self, level: int) -> int:
        """The address of what is compressed with at a level."""
        if self._stand_in is not None:
            return self._stand_in
        if level not in self._found:
            from zstandard import _cffi  # type: ignore[attr-defined]

            library, size = _cffi.lib, len(self._content)
            made = library.ZSTD_createCDict_advanced(
                _cffi.ffi.from_buffer(self._content),
                size,
                library.ZSTD_dlm_byRef,
                library.ZSTD_dct_fullDict,
                library.ZSTD_getCParams(level, 0, size),
                library.ZSTD_defaultCMem,
            )
            self._found[level] = _own(made, library.ZSTD_freeCDict)
        return self._found[level][1]


def _own(made: Any, free: Any) -> tuple[object, int]:
    """(what frees a digested dictionary when it goes, the address)"""
    from zstandard import _cffi  # type: ignore[attr-defined]

    if made == _cffi.ffi.NULL:
        raise MemoryError("no memory for a dictionary")
    return _cffi.ffi.gc(made, free), int(_cffi.ffi.cast("uintptr_t", made))


def native_dictionary(dictionary: Dictionary) -> NativeDictionary:
    """The native form of a dictionary, one for all who use it."""
    found = dictionary.native
    if not isinstance(found, NativeDictionary):
        found = dictionary.native = NativeDictionary(dictionary)
    return found
