"""Instance: the parts of one open directory, put together when it is opened and taken apart when it is closed.

Nothing in here knows the Database in front of it, and threads hold only parts of this: so it is dropped with its Database, and ends what that began.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Hashable
from functools import partial

from ..errors import ClosedError, UsageError
from ..options import Options
from . import open_directories
from .background import Background, Inline
from .commit import CommitLine
from .pins import Pins
from .prepared import Host
from .recovery import Recovered, recover
from .reentry import refuse_reentry
from .storage.filenames import FileKind, file_name
from .storage.filesystem import FileSystem, Lock
from .upkeep import Upkeep

_CLOSED = "the database is closed"


class Instance:
    """path: as the caller gave it; closed: why nothing can be done any more, "" as long as it is open."""

    closed = "the database is not open yet"

    def __init__(self, path: str, recovered: Recovered, lock: Lock, identity: Hashable) -> None:
        self.path = path
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
    def open(cls, fs: FileSystem, path: str, options: Options | None, key: str | bytes | None, create: bool, host: Host | None = None) -> Instance:
        """See `lsmsql.open`."""
        directory = _directory_at(fs, path, create)
        try:
            identity = fs.identity(directory)
            open_directories.require_unopened(identity, path)
            lock = fs.lock(fs.join(directory, file_name(FileKind.LOCK)), (options or Options()).lock_timeout)
        except NotADirectoryError:
            raise UsageError(f"{path} is a file; give the path of a database's directory, or of one to be made") from None
        instance: Instance | None = None
        try:
            recovered = recover(fs, directory, options, key, create, host)
            try:
                instance = cls(path, recovered, lock, identity)
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
            self.closed = _CLOSED
        try:
            self.worker.stop()
            # A caller's own compaction gives up at its next chunk; files are not closed under it.
            # What is prepared and undecided stays so, for the next opening.
            with self.commits.held(undecided=True), self.upkeep.quiet():
                self.commits.refuse(ClosedError(_CLOSED))
                if not self.commits.failed:
                    self.commits.sync()
        finally:  # Whatever happened above, an interrupt too: nobody could try again.
            self.commits.refuse(ClosedError(_CLOSED))
            self.line.shut(_CLOSED)
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


def _nothing() -> None:
    """After the end."""


def _upkeep_changed(commits: CommitLine, worker: Background | Inline) -> None:
    commits.update_pressure()
    worker.notify()  # Who waits for upkeep may wait for what another caller's thread has just done.
