"""Instance: the parts of one open directory, put together when it is opened and taken apart when its last user leaves.

Nothing in here knows the Database in front of it, and threads hold only parts of this: so it is dropped with its Database, and ends what that began.
"""

from __future__ import annotations

import secrets
import threading
import warnings
from collections.abc import Hashable
from functools import partial
from hashlib import blake2b

from ..errors import ClosedError, LockedError, UsageError
from ..options import Options
from . import open_directories
from .background import Background, Inline
from .commit import CommitLine
from .manifest.current import read_current
from .pins import Pins
from .prepared import Deciding, ask
from .recovery import Recovered, recover
from .reentry import refuse_reentry
from .storage.filenames import FileKind, file_name
from .storage.filesystem import FileSystem, Lock
from .upkeep import Upkeep

CLOSED = "the database is closed"
_SALT = secrets.token_bytes(32)


class Instance:
    """path: as the caller gave it; closed: why nothing can be done any more, "" as long as it is open; users: databases that share it."""

    closed = "the database is not open yet"

    def __init__(self, path: str, recovered: Recovered, lock: Lock, identity: Hashable, digest: bytes, hosted: bool) -> None:
        self.path = path
        self.users = 1
        self._digest = digest
        self._hosted = hosted
        self._done: set[str] = set()
        self.line = line = recovered.line
        self._lock = lock
        self._identity = identity
        self._closing = threading.RLock()
        self.pins = Pins(line.published)
        self.upkeep = Upkeep(line, self.pins)
        self.worker: Background | Inline = Inline(self.upkeep)
        if recovered.damaged:
            # What was cut or skipped must not be judged again, by another mode even: from here on the tables are the truth.
            while self.upkeep.flush_next():
                pass
        if line.options.background:
            self.worker = Background(self.upkeep, line.obsolete.collect)
        try:
            self.worker.start()
            self.worker.wake()  # For the generations that were replayed.
            self.commits = CommitLine(line, self.upkeep, self.worker, recovered.generation, recovered.previous, recovered.host_seqno)
            self.upkeep.on_change = partial(_upkeep_changed, self.commits, self.worker)
            self.commits.update_pressure()
        except BaseException:
            self.worker.stop()
            raise
        self.closed = ""

    @classmethod
    def open(
        cls,
        fs: FileSystem,
        path: str,
        options: Options | None,
        key: str | bytes | None,
        create: bool,
        host: Deciding | None = None,
        lock_timeout: float | None = None,
    ) -> Instance:
        """See `Database.open`. What this process has open already is shared."""
        with open_directories.changing:
            timeout = (options or Options()).lock_timeout if lock_timeout is None else lock_timeout
            return cls._open(fs, path, options, key, create, host, timeout)

    @classmethod
    def join(cls, fs: FileSystem, path: str, options: Options | None, key: str | bytes | None, host: Deciding | None) -> Instance | None:
        """What this process has open at a path, with one user more; None if that is nothing."""
        with open_directories.changing:
            directory = fs.absolute(path)
            shared = open_directories.find(fs.identity(directory)) if fs.exists(directory) else None
            if not isinstance(shared, Instance) or shared.closed:
                return None
            shared._join(options, _digest(key), host)
            return shared

    @classmethod
    def _open(
        cls, fs: FileSystem, path: str, options: Options | None, key: str | bytes | None, create: bool, host: Deciding | None, timeout: float
    ) -> Instance:
        directory = _directory_at(fs, path, create)
        digest = _digest(key)
        try:
            identity = fs.identity(directory)
            shared = cls.join(fs, path, options, key, host)
            if shared is not None:
                return shared
            lock_path = fs.join(directory, file_name(FileKind.LOCK))
            if not create and not fs.exists(lock_path) and read_current(fs, directory) is None:
                raise UsageError(f"there is no database in {directory}")  # Nor does asking leave a file.
            lock = fs.lock(lock_path, timeout)
        except LockedError as error:
            raise LockedError(f"{error}; it can be read meanwhile: open it for reading only (read_only=True; in SQL mode=ro)") from None
        except FileNotFoundError:
            raise UsageError(f"{path} leads nowhere: a link to a directory that is not there, or one removed just now") from None
        except NotADirectoryError:
            raise UsageError(f"{path} is a file; give the path of a database's directory, or of one to be made") from None
        instance: Instance | None = None
        try:
            recovered = recover(fs, directory, options, key, create, ask(host))
            try:
                instance = cls(path, recovered, lock, identity, digest, host is not None)
            except BaseException:
                recovered.line.close_files()
                raise
            open_directories.register(identity, instance)
            return instance
        except BaseException:
            if instance is None:
                lock.release()
            else:
                instance.close()
            raise

    def require_open(self) -> None:
        if self.closed:
            raise ClosedError(self.closed)

    def _join(self, options: Options | None, digest: bytes, deciding: Deciding | None) -> None:
        """One user more. UsageError for other options or another key than it is open with."""
        if options is not None and options != self.line.options:
            raise UsageError(f"{self.path} is open in this process with other options")
        if digest != self._digest:
            raise UsageError(f"{self.path} is open in this process with another key")
        host = ask(deciding)
        if host is not None:
            host.require_its_own(self.path, self.line.database_id)
            if not self._hosted:  # From then on the host commits through here, and may be ahead of what it was when it was asked.
                host.require_agreement(self.path, self.commits.host_seqno)
                self._hosted = True
        self.users += 1

    def leave(self) -> None:
        """One user less; the last one closes."""
        with open_directories.changing:
            if self.users == 1:
                self.close()
            else:
                self.users -= 1

    def in_place(self) -> bool:
        """Whether the path still leads to the directory that is open."""
        line = self.line
        try:
            return line.fs.identity(line.directory) == self._identity
        except (FileNotFoundError, NotADirectoryError):
            return False

    def first(self, task: str) -> bool:
        """Whether nobody has asked this for a task yet: what is to be done once while the directory is open."""
        with open_directories.changing:
            new = task not in self._done
            self._done.add(task)
            return new

    def close(self) -> None:
        """See `Database.close`."""
        if self.closed:  # Without the lock: in the child of a fork nobody may be there to release it.
            return
        self.commits.refuse_reentry()
        self.upkeep.refuse_reentry()
        refuse_reentry(self._closing)
        with self._closing:
            if self.closed:
                return
            self.closed = CLOSED
        try:
            self.worker.stop()
            # A caller's own compaction gives up at its next chunk; files are not closed under it.
            # What is prepared and undecided stays so, for the next opening.
            with self.commits.held(undecided=True), self.upkeep.quiet():
                self.commits.refuse(ClosedError(CLOSED))
                if not self.commits.failed:
                    self.commits.sync()
        finally:  # Whatever happened above, an interrupt too: nobody could try again.
            self.commits.refuse(ClosedError(CLOSED))
            self.line.shut(CLOSED)
            self.upkeep.on_change = _nothing  # Else the parts would hold each other, and the memtables with them, for the garbage collector.
            try:
                self.line.close_files()
            finally:
                open_directories.unregister(self._identity, self)
                self._lock.release()

    def __del__(self) -> None:
        if not self.closed:
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            finally:
                self.abandon()

    def __repr__(self) -> str:
        return f"<lsmsql.Database {self.path!r}{', closed' if self.closed else ''}>"

    def abandon(self) -> None:
        """Close, from a finalizer. That may run anywhere, also in the middle of the work of a thread of ours, which then closes at its end."""
        if self.worker.is_current_thread:
            self.worker.stop_and_then(self.close)
        else:
            self.close()

    def forked(self) -> None:
        """In the child of a fork: nothing here may be used any more, and no lock can be waited for."""
        self.closed = "opened before fork"
        self.line.shut(self.closed)
        self.commits.forked()


def _directory_at(fs: FileSystem, path: str, create: bool) -> str:
    """The absolute path, where there is something now: a directory, or else what `Instance.open` will refuse."""
    directory = fs.absolute(path)
    if not fs.exists(directory):
        if not create:
            raise UsageError(f"there is no database at {path}")
        try:
            fs.make_directory(directory)
        except FileExistsError:
            pass  # Another process was quicker.
        except (FileNotFoundError, NotADirectoryError):
            parent = fs.absolute(fs.join(directory, ".."))
            raise UsageError(f"{path} cannot be made, since there is no directory {parent}: make that first") from None
    return directory


def _digest(key: str | bytes | None) -> bytes:
    """What tells keys apart without keeping them."""
    if key is None:
        return b""
    if not isinstance(key, (str, bytes)):
        raise UsageError(f"a key is a passphrase or 32 bytes, not {type(key).__name__}")
    return blake2b(key if isinstance(key, bytes) else key.encode(), key=_SALT, digest_size=32).digest()


def _nothing() -> None:
    """After the end."""


def _upkeep_changed(commits: CommitLine, worker: Background | Inline) -> None:
    commits.update_pressure()
    worker.notify()  # Who waits for upkeep may wait for what another caller's thread has just done.
