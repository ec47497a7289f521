"""ManifestReader: follows the manifest of a directory that another process may be writing, and never writes.

What it reads may be gone by then: a rotation removes the files of the generation before. So an error counts only when CURRENT is still the same.
"""

from __future__ import annotations

from ...errors import CorruptionError, KeyUnavailableError, LockedError, UsageError
from ..storage.filenames import FileKind, file_name
from ..storage.filesystem import File, FileSystem
from ..storage.keyring import Keyring
from ..storage.parity import Repairs
from ..storage.record_log import LogState, scan_records
from .advice import REBUILD
from .current import Current, parse_current
from .event_log import after_record
from .snapshot_file import read_snapshot
from .version import Version

_ATTEMPTS = 100


class ManifestReader:
    """version: after the last edit that was read; options_text: as saved with it; current: what CURRENT says. From the first `advance` on.

    keyring: for encrypted databases; repairs: see read_snapshot. One thread at a time."""

    version: Version
    options_text: str
    current: Current

    def __init__(self, fs: FileSystem, directory: str, keyring: Keyring | None, repairs: Repairs | None = None) -> None:
        self._fs = fs
        self._directory = directory
        self._keyring = keyring
        self._repairs = repairs
        self._path = fs.join(directory, file_name(FileKind.CURRENT))
        self._data = b""  # of CURRENT
        self._log: File | None = None
        self._forget_log()

    def _forget_log(self) -> None:
        self._offset = self._ordinal = self._size = 0

    def advance(self) -> bool:
        """Read what is new, and say whether anything was. CorruptionError, with file and offset, for what cannot be; then nothing has changed,
        or some edits were read."""
        for _ in range(_ATTEMPTS):
            data = self._read_current()
            try:
                if data == self._data:
                    return self._read_edits()
                self._load(data)
                return True
            except CorruptionError:
                if self._read_current() == data:
                    raise
        raise LockedError(f"{self._path} changes faster than it can be read; try again")

    def start_over(self) -> None:
        """Let the next `advance` read everything anew."""
        self._data = b""

    def _read_current(self) -> bytes:
        try:
            return self._fs.read(self._path)
        except FileNotFoundError:
            raise CorruptionError(self._path, None, "CURRENT is missing", REBUILD) from None

    def _load(self, data: bytes) -> None:
        """Take over the generation that CURRENT names."""
        fs, directory = self._fs, self._directory
        current = parse_current(self._path, data)
        self._check_owner(current)
        cipher = self._keyring.cipher(current.generation) if self._keyring else None
        version, options_text = read_snapshot(fs, directory, current.generation, current.snapshot, cipher, self._repairs)
        path = fs.join(directory, file_name(FileKind.EVENT_LOG, current.generation))
        try:
            log = fs.open(path)
        except FileNotFoundError:
            raise CorruptionError(path, None, "the event log of the generation in CURRENT is missing", REBUILD) from None
        self.close()
        self._log, self.current, self.version, self.options_text = log, current, version, options_text
        self._forget_log()
        self._data = data
        self._read_edits()

    def _check_owner(self, current: Current) -> None:
        keyring = self._keyring
        if current.encrypted and keyring is None:
            raise KeyUnavailableError(f"{self._path}: the database is encrypted, and no key was given")
        if keyring is not None and not current.encrypted:
            raise UsageError(f"{self._path}: the database is not encrypted, but a key was given")
        if keyring is not None and keyring.database_id != current.database_id:
            raise CorruptionError(self._path, 24, "KEYS belongs to another database")
        if self._log is not None and current.database_id != self.current.database_id:
            raise CorruptionError(self._path, 24, "another database has taken this directory", "open it again")

    def _read_edits(self) -> bool:
        """The edits that were appended since the last look. The last one may be half written yet: then it is left for the next."""
        log = self._log
        assert log is not None
        size = log.size()
        if size == self._size:
            return False
        current, start = self.current, self._offset
        cipher = self._keyring.cipher(current.generation) if self._keyring else None
        records, end = scan_records(log.path, log.read_at(start, size - start), current.generation, cipher, ordinal=self._ordinal)
        for record in records:
            self.version = after_record(log.path, self.version, record._replace(offset=start + record.offset), current)
            self._offset += record.length
            self._ordinal += 1
        if end.state is LogState.CORRUPT:
            raise CorruptionError(log.path, start + end.offset, end.reason, f"edits behind the damage would be lost: {REBUILD}")
        self._size = size
        return bool(records)

    def close(self) -> None:
        """Let go of the event log. Closing twice is allowed."""
        log, self._log = self._log, None
        if log is not None:
            log.close()
