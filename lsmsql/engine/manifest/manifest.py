"""Manifest: the version of a directory, and the one place where an edit becomes durable.

A **generation** N is a snapshot (manifest-N), the edits since (events-N), and CURRENT naming N. An edit is appended to the event log; when that
has grown, or nothing was written yet since opening, the edit opens the next generation instead: its snapshot holds the edit already.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace

from ...errors import CorruptionError, Error, KeyUnavailableError, UsageError
from ..storage.encryption import FileCipher
from ..storage.filenames import FileKind, FileName, file_name, parse_file_name
from ..storage.filesystem import FileSystem
from ..storage.keyring import Keyring
from ..storage.parity import Repairs
from .advice import REBUILD
from .archive_footer import HEAD_BYTES
from .current import DATABASE_ID_BYTES, FIRST_GENERATION, Current, read_current, write_current
from .event_log import EventLog, replay
from .snapshot_file import SnapshotDigest, read_snapshot, write_snapshot
from .version import FILE_ID_MAX, Version
from .version_edit import VersionEdit

ROTATE_BYTES = 1 << 20
FILE_IDS_PER_RESERVATION = 1000
NUMBER_MAX = FILE_ID_MAX // 2 - FILE_IDS_PER_RESERVATION - 1  # Of a file or generation: a version leaves room to go on counting.


class Manifest:
    """The version of one directory. One thread at a time (the caller's lock); the properties may be read by any.

    database_id: 16 bytes; version: after the last durable edit, whose number is `version.number`; options_text: as last saved;
    generation: the one that CURRENT names; rotate_bytes: size of event log at which an edit opens the next one, and mirror: whether a snapshot's
    footer stands in its head as well (the saved options, known only now, may say). intact: the event log was read to a clean end, so what the
    version does not name is no one's. repairs: of what was read of the snapshot.
    """

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        keyring: Keyring | None,
        current: Current,
        version: Version,
        options_text: str,
        *,
        rotate_bytes: int = ROTATE_BYTES,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Use `create` or `open`. rotate_bytes: options.manifest_bytes; clock: wall-clock time in microseconds."""
        self._fs = fs
        self._directory = directory
        self._keyring = keyring
        self._current = current
        self.rotate_bytes = rotate_bytes
        self._clock = clock or _now_us
        self.mirror = True
        self.intact = True
        self.repairs = Repairs()
        self._log: EventLog | None = None
        self._failure: BaseException | None = None
        self._closed = False
        self._next_id = version.next_file_id  # Ids below were reserved by an earlier process, which may have used them.
        self.version = version
        self.options_text = options_text

    def write_through(self, fs: FileSystem) -> None:
        """Make what comes in another way; what is open stays as it is."""
        self._fs = fs

    @classmethod
    def create(
        cls,
        fs: FileSystem,
        directory: str,
        keyring: Keyring | None,
        options_text: str,
        *,
        rotate_bytes: int = ROTATE_BYTES,
        mirror: bool = True,
        clock: Callable[[], int] | None = None,
    ) -> Manifest:
        """A new, empty database in an existing directory, durable when this returns. keyring: None for one without encryption; its KEYS is durable.

        UsageError if there is a database; what an interrupted creation left is replaced."""
        if read_current(fs, directory) is not None:
            raise UsageError(f"there is a database in {directory} already")
        for kind in (FileKind.MANIFEST, FileKind.EVENT_LOG):
            path = fs.join(directory, file_name(kind, FIRST_GENERATION))
            if fs.exists(path):
                fs.remove(path)
        database_id = keyring.database_id if keyring else secrets.token_bytes(DATABASE_ID_BYTES)
        nothing = Current(FIRST_GENERATION - 1, keyring is not None, database_id, SnapshotDigest(0, b""))
        manifest = cls(fs, directory, keyring, nothing, Version(), options_text, rotate_bytes=rotate_bytes, clock=clock)
        manifest.mirror = mirror
        manifest._start_generation(FIRST_GENERATION, manifest.version)
        return manifest

    @classmethod
    def rebuild(
        cls, fs: FileSystem, directory: str, keyring: Keyring | None, database_id: bytes, generation: int, version: Version, options_text: str
    ) -> Manifest:
        """The manifest of a directory whose own is lost, durable when this returns. generation: one that no file there has."""
        nothing = Current(generation - 1, keyring is not None, database_id, SnapshotDigest(0, b""))
        manifest = cls(fs, directory, keyring, nothing, version, options_text)
        manifest._start_generation(generation, version)
        return manifest

    @classmethod
    def open(
        cls,
        fs: FileSystem,
        directory: str,
        keyring: Keyring | None,
        *,
        rotate_bytes: int = ROTATE_BYTES,
        recovery: Callable[[str], str] = lambda _: "tolerate_tail",
        clock: Callable[[], int] | None = None,
    ) -> Manifest:
        """Read the version of an existing directory, and change nothing: the first edit opens a new generation, so an old event log, whose tail
        may be torn, is never appended to, and recovery can still refuse what it finds. recovery: what the options text means for a damaged
        event log; see `replay`.

        CorruptionError names the file and offset; KeyUnavailableError when the database is encrypted and there is no keyring."""
        current = read_current(fs, directory)
        path = fs.join(directory, file_name(FileKind.CURRENT))
        if current is None:
            raise CorruptionError(path, None, "CURRENT is missing: there is no database here", REBUILD)
        if current.encrypted and keyring is None:
            raise KeyUnavailableError(f"{path}: the database is encrypted, and no key was given")
        if keyring is not None and not current.encrypted:
            raise UsageError(f"{path}: the database is not encrypted, but a key was given")
        if keyring is not None and keyring.database_id != current.database_id:
            raise CorruptionError(path, 24, "KEYS belongs to another database")
        cipher = keyring.cipher(current.generation) if keyring else None
        repairs = Repairs()
        snapshot, options_text = read_snapshot(fs, directory, current.generation, current.snapshot, cipher, repairs)
        version, whole = replay(fs, directory, current, snapshot, cipher, recovery(options_text))
        manifest = cls(fs, directory, keyring, current, version, options_text, rotate_bytes=rotate_bytes, clock=clock)
        manifest.intact, manifest.repairs = whole, repairs
        if not whole:
            manifest._next_id = max(version.next_file_id, _behind_all_files(fs, directory))
        return manifest

    @property
    def database_id(self) -> bytes:
        return self._current.database_id

    @property
    def generation(self) -> int:
        return self._current.generation

    def commit(self, edit: VersionEdit) -> Version:
        """Make an edit durable, and return the version after it. The files it adds must be durable, names included.

        ValueError when it does not fit the version: nothing has happened. After any other exception it is not known whether it is durable,
        and every later commit raises Error: the next process finds out."""
        self._require_usable()
        version = self.version.apply(edit)
        try:
            if self._log is None or self._log.length >= self._rotate_at():
                self._start_generation(self._unused_generation(), version)
            else:
                self._log.append(edit, version.number, self._clock())
        except BaseException as error:
            self._failure = error
            raise
        self.version = version
        return version

    def save_options(self, options_text: str) -> None:
        """Make other options durable, by a new generation. Raises as `commit`."""
        self._require_usable()
        before, self.options_text = self.options_text, options_text
        try:
            self._start_generation(self._unused_generation(), self.version)
        except BaseException as error:
            self.options_text = before
            self._failure = error
            raise

    def new_file_id(self) -> int:
        """A number that no file of this database has or ever had. Raises as `commit`, of which it makes one for every 1000 ids."""
        self._require_usable()
        if self._next_id >= self.version.next_file_id:
            # Durable before the first of them is used: else a crash would hand one out again, to another file under the same cipher key.
            self.commit(VersionEdit(next_file_id=self._next_id + FILE_IDS_PER_RESERVATION))
        self._next_id += 1
        return self._next_id - 1

    def close(self) -> None:
        """Let go of the event log; every edit is durable already. Closing twice is allowed."""
        self._closed = True
        if self._log is not None:
            self._log.close()

    def _require_usable(self) -> None:
        if self._closed:
            raise UsageError("the manifest is closed")
        if self._failure is not None:
            raise Error(f"the manifest takes no more edits since a write failed: {self._failure!r}") from self._failure

    def _rotate_at(self) -> int:
        """The size of event log at which an edit opens a new generation; not below that of the snapshot's content, so that rewriting it stays
        cheap per edit."""
        return max(self.rotate_bytes, self._current.snapshot.length - HEAD_BYTES) if self.rotate_bytes else 0

    def _unused_generation(self) -> int:
        """One above every generation that left a file here: an interrupted rotation's names are not used again."""
        found = [parsed.number for name in self._fs.list(self._directory) if (parsed := _of_manifest(name))]
        return max([self._current.generation, *found]) + 1

    def _cipher(self, generation: int) -> FileCipher | None:
        return self._keyring.cipher(generation) if self._keyring else None

    def _start_generation(self, generation: int, version: Version) -> None:
        """Write `version` as a snapshot with an empty event log, and make that the truth."""
        fs, directory, cipher = self._fs, self._directory, self._cipher(generation)
        # A crash anywhere up to CURRENT's rename leaves the old generation the truth, and two files that nothing names.
        digest = write_snapshot(fs, directory, generation, version, self.options_text, cipher, mirror=self.mirror)
        current = replace(self._current, generation=generation, snapshot=digest)
        log = EventLog(fs, directory, current, version.number, cipher, self._clock())
        try:
            fs.sync_directory(directory)  # Both names, before CURRENT promises them: its rename may survive a crash that they do not.
            write_current(fs, directory, current)  # Its rename is the moment; its own sync makes it last.
        except BaseException:
            log.close()
            raise
        if self._log is not None:
            self._log.close()
        self._log, self._current = log, current
        self._sweep()  # After CURRENT is durable, so nothing can need the old files; a crash leaves them for the next sweep.

    def _sweep(self) -> None:
        """Remove the files of every other generation. What fails is tried again by the next one: it costs room, not truth."""
        try:
            for name in self._fs.list(self._directory):
                parsed = _of_manifest(name)
                if parsed and parsed.number != self._current.generation:
                    self._fs.remove(self._fs.join(self._directory, name))
        except OSError:
            pass


def _of_manifest(name: str) -> FileName | None:
    """The parsed name of a snapshot or event log, None for other files."""
    parsed = parse_file_name(name)
    return parsed if parsed and parsed.kind in (FileKind.MANIFEST, FileKind.EVENT_LOG) else None


def _behind_all_files(fs: FileSystem, directory: str) -> int:
    """The first id above those of the tables and WALs that are there: the edit that reserved them may be what the event log has lost."""
    found = [parsed.number for name in fs.list(directory) if (parsed := parse_file_name(name)) and parsed.kind in (FileKind.SSTABLE, FileKind.WAL)]
    return max((number for number in found if number <= NUMBER_MAX), default=0) + 1


def _now_us() -> int:
    return time.time_ns() // 1000
