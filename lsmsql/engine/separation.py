"""Separation: at flush, compaction and ingest, who decides which values go to the blob store, and in which order that becomes durable.

Data, then map (`sync`), then the table that has the pointers, then the edit that names it. A crash before the edit leaves frames that nothing links,
which recovery frees.
"""

from __future__ import annotations

from contextlib import suppress

from ..errors import CorruptionError, Error
from ..options import Options, at_level
from ..parity_scheme import ParityScheme
from .blob import ValueStore
from .blob.links import links_of
from .blobs import Blobs
from .sstable.blob_files import LinkedBlobFile
from .storage.compression import Codec


class Separation:
    """Of one flush, compaction or ingest. threshold: bytes from which a value is put apart, 0 for none."""

    def __init__(self, blobs: Blobs, options: Options) -> None:
        self.threshold = options.blob_threshold
        self._blobs = blobs
        self._codec = Codec.NONE if at_level(options.compression, None) == "none" else Codec.ZSTD
        self._parity = ParityScheme.of_data(options.parity)
        self._frames: set[int] = set()
        self._store: ValueStore | None = None

    def put(self, value: bytes) -> bytes:
        """Take a value; returns its pointer. It can be read from `sync` on."""
        if self._store is None:
            self._store = self._blobs.writable()
            self._writer = self._store.writer(codec=self._codec, parity=self._parity)
        pointer = self._writer.add(value)
        self._frames.update(pointer.frames)
        return pointer.pack()

    def sync(self) -> None:
        """Make durable what was taken: before the table that points to it is."""
        if self._store is not None:
            self._writer.flush()
            self._store.sync()

    def links(self, pointers: bytes) -> tuple[LinkedBlobFile, ...]:
        """What the pointers of a table lead into, one that was only moved too. CorruptionError for one that leads nowhere."""
        try:
            return tuple(LinkedBlobFile(*link) for link in links_of(pointers))
        except ValueError as error:
            raise CorruptionError(self._blobs.path, None, f"an SSTable points nowhere: {error}") from None

    def give_up(self) -> None:
        """No table points to what was taken, and none will. What cannot be freed is left to recovery."""
        if self._store is not None:
            written = {record.frame_id for record in self._store.frames.frames()}
            with suppress(Error, OSError):
                self._store.free(self._frames & written)
        self._frames.clear()
