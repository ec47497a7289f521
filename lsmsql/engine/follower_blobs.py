"""FollowerBlobs: the blob store as a reader in another process sees it: the slot map of each moment, over the data file that the writer writes.

While the reader holds READERS, the writer neither reuses nor punches what a map has named that may have been read (engine rule 24), so every map that
was ever read stays good; a later one may lack what an older moment still reads. A frame that was written again is found in either place.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ClosedError, CorruptionError
from .blob import ValueStore
from .blob.slot_map_log import SlotMap, read_slot_map
from .blob.slot_map_store import SlotMapStore
from .blobs import ReadBlobs, Shared, require_frames
from .kernel import Table
from .storage.filenames import FileKind, file_name
from .storage.filesystem import File, FileSystem
from .storage.keyring import Keyring
from .storage.parity import Repairs

_ATTEMPTS = 5


class _Moment(ReadBlobs):
    def __init__(self, shared: Shared, store: ValueStore) -> None:
        super().__init__(shared)
        self._store = store

    def store(self) -> ValueStore:
        if self.closed:
            raise ClosedError(self.closed)
        return self._store


class FollowerBlobs:
    """Of a Follower, under whose lock `follow` is called. newest: what reads the values of the newest version that was followed."""

    def __init__(self, fs: FileSystem, directory: str, database_id: bytes, keyring: Keyring | None, repairs: Repairs) -> None:
        self._place = fs, directory, database_id, keyring, repairs
        self._path = fs.join(directory, file_name(FileKind.BLOBS))
        self._file: File | None = None
        self.shared = Shared()
        self.newest = self._moment(SlotMap())

    def follow(self, tables: Iterable[Table]) -> None:
        """Read the slot map anew for a version with these tables. CorruptionError where it lacks a frame, as it does too when the writer has gone on
        meanwhile: then there is a newer version."""
        linked = {link.file_id for table in tables for link in table.source.links}
        if linked:
            found = self._read_map()
            require_frames(self._path, linked, found.records)
            self.newest = self._moment(found)

    def _moment(self, found: SlotMap) -> _Moment:
        fs, _, database_id, keyring, repairs = self._place
        if self._file is None and found.records:
            try:
                self._file = fs.open(self._path)
            except FileNotFoundError:
                raise CorruptionError(self._path, None, "the blob file is missing", "restore the directory from a backup") from None
        return _Moment(self.shared, ValueStore(SlotMapStore(self._path, self._file, found.records), database_id, keyring, repairs=repairs))

    def _read_map(self) -> SlotMap:
        for attempt in range(_ATTEMPTS):
            try:
                return read_slot_map(*self._place)
            except (CorruptionError, FileNotFoundError):  # The writer may just have begun another generation of the map.
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError

    def close(self) -> None:
        self.shared.closed = self.shared.closed or "the database is closed"
        if self._file is not None:
            self._file.close()
