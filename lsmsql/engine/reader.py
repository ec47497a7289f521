"""ReadOnlyDatabase: a directory opened for reading only, also beside a process that writes to it. The public face: checks and delegates."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import NoReturn

from ..errors import ClosedError, UsageError
from ..options import Options
from . import open_directories, statistics
from .arguments import require_name, require_path
from .follower import Follower
from .held_moments import HeldMoments
from .manifest.version import Version
from .prepared import Host, PreparedCommit
from .read_state import Published
from .read_view import View
from .readable import Readable
from .snapshot import Snapshot
from .storage.filenames import FileKind, file_name
from .storage.filesystem import READ_ONLY_ERRORS, FileSystem, Lock, OsFileSystem
from .tree import Refusal, Tree
from .write_batch import WriteBatch

_CLOSED = "the database is closed"


class ReadOnlyDatabase(Readable):
    """Made by `lsmsql.open(path, read_only=True)`. Shows one moment until `refresh()`. Safe to use from several threads. Close it, or use
    it with `with`. What would write raises UsageError.

    It takes no lock that a writer waits for, and writes nothing but an empty file READERS, where it may, whose shared lock says that
    somebody reads here.
    """

    read_only = True

    def __init__(self, path: str, follower: Follower, lock: Lock | None) -> None:
        self.path = path
        self.options = follower.options
        self.database_id = follower.database_id
        self.instance = self._follower = follower
        self._lock = lock
        self._closed = ""
        self._refusal = Refusal(f"{path} is open for reading only")
        open_directories.register((path, "reader", id(self)), self)

    @classmethod
    def open(
        cls,
        path: str | PurePath,
        options: Options | None = None,
        *,
        key: str | bytes | None = None,
        filesystem: FileSystem | None = None,
        host: Host | None = None,
    ) -> ReadOnlyDatabase:
        """See `lsmsql.open`. host: who decides about prepared commits (for the SQL layer)."""
        require_path(path)
        path = str(path)
        if path in ("", ":memory:") and filesystem is None:
            raise UsageError("a database in memory is made when it is opened, so there is nothing to read in it")
        fs = filesystem or OsFileSystem()
        directory = fs.absolute(path)
        try:
            found = fs.exists(directory) and fs.list(directory)
        except NotADirectoryError:
            raise UsageError(f"{path} is a file; give the path of a database's directory") from None
        if not found:
            raise UsageError(f"there is no database at {path}")
        lock = _announce(fs, directory, (options or Options()).lock_timeout) if file_name(FileKind.CURRENT) in found else None
        follower: Follower | None = None
        try:
            follower = Follower.open(fs, directory, options, key, host)
            return cls(path, follower, lock)
        except BaseException:
            if follower is not None:
                follower.close()
            if lock is not None:
                lock.release()
            raise

    def refresh(self) -> bool:
        """Go on to what is committed now; False if that is nothing new. Views, snapshots and scans that are open keep their moment.

        CorruptionError as at opening; then the moment stays the same."""
        self._require_open()
        return self._follower.refresh()

    def in_place(self) -> bool:
        """Whether the path still leads to a directory: what is in it is read by name."""
        return self._follower.fs.exists(self._follower.directory)

    # What the common part asks for.

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError(self._closed)

    @property
    def _published(self) -> Published:  # type: ignore[override]
        return self._follower.published

    @property
    def _pins(self) -> HeldMoments:  # type: ignore[override]
        return self._follower.moments

    @property
    def _version(self) -> Version:
        return self._follower.published.state.version

    # Trees.

    def tree(self, name: str, create: bool = False) -> Tree:
        """The tree of a name. UsageError if there is none, whatever `create` says."""
        require_name(name)
        self._require_open()
        follower = self._follower
        with follower.lock:
            tree = follower.trees.get(name)
            tree_id = self._tree_id(name)
            if tree_id is None:
                raise UsageError(f"there is no tree {name!r}, and the database is open for reading only")
            if tree is None or tree.id != tree_id:  # Dropped, and another made.
                tree = follower.trees[name] = Tree(self, follower.published, tree_id, name, self._refusal)
            return tree

    def sql_tree(self, name: str, create: bool = False, schema: str = "") -> Tree:
        """As `tree`: nothing is made here."""
        return self.tree(name, create)

    # For the SQL layer.

    @property
    def host_seqno(self) -> int:
        """Of the last prepared commit that was committed, 0 for none."""
        return self._follower.host_seqno

    def wait_settled(self) -> None:
        """Nothing is prepared here."""

    def latest(self) -> tuple[int, View]:
        """(host_seqno, what is read now) together, without a refresh."""
        self._require_open()
        host_seqno, published = self._follower.latest()
        return host_seqno, View(self, published)

    def host_view(self, seqno: int) -> View:
        """What a host's transaction reads in which the host's last commit is `seqno`, after a refresh. HistoryError when that is not retained, or
        unknown."""
        self._require_open()
        return View(self, self._follower.host_moment(seqno))

    # Snapshots.

    def snapshot(self, name: str | None = None) -> Snapshot:
        """Keep this moment readable as long as the snapshot is open. UsageError for one with a name: those are durable."""
        self._require_open()
        if name is not None:
            self._refuse()
        return Snapshot(self, self._pins)

    def statistics(self) -> statistics.Statistics:
        """What was read, and sizes now; see statistics.py for the names."""
        self._require_open()
        return statistics.gather_reader(self._follower)

    # What a Database can do, and this cannot.

    def _refuse(self) -> NoReturn:
        self._require_open()
        raise UsageError(f"{self.path} is open for reading only")

    def batch(self) -> NoReturn:
        self._refuse()

    def commit(self, batch: WriteBatch, durability: str | None = None) -> NoReturn:
        self._refuse()

    def prepare(self, batch: WriteBatch, adopt: Callable[[PreparedCommit], None] | None = None) -> NoReturn:
        self._refuse()

    def ingest_into(self, tree: Tree, rows: Iterable[tuple[bytes, bytes]]) -> NoReturn:
        self._refuse()

    def delete_range_of(self, tree: Tree, lower: bytes | None, upper: bytes | None) -> NoReturn:
        self._refuse()

    def drop_tree(self, name: str) -> NoReturn:
        self._refuse()

    def release(self, name: str) -> NoReturn:
        self._refuse()

    def flush(self) -> NoReturn:
        self._refuse()

    def compact(self, tree: Tree | None = None) -> NoReturn:
        self._refuse()

    def wait_idle(self) -> NoReturn:
        self._refuse()

    # The end.

    def close(self) -> None:
        """Close every file. Closing twice is allowed. A database that is dropped without this closes itself, with a ResourceWarning."""
        if self._closed:  # Without the lock: in the child of a fork nobody may be there to release it.
            return
        with self._follower.lock:
            if self._closed:
                return
            self._closed = _CLOSED
            self._follower.shut(_CLOSED)
            try:
                self._follower.close()
            finally:
                open_directories.unregister((self.path, "reader", id(self)), self)
                if self._lock is not None:
                    self._lock.release()

    def forked(self) -> None:
        """In the child of a fork: nothing here may be used any more, and no lock can be waited for."""
        self._closed = "opened before fork"
        self._follower.shut(self._closed)

    def __del__(self) -> None:
        if not getattr(self, "_closed", "never opened"):
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            finally:
                self.close()

    def __repr__(self) -> str:
        return f"<lsmsql.ReadOnlyDatabase {self.path!r}{', closed' if self._closed else ''}>"


def _announce(fs: FileSystem, directory: str, timeout: float) -> Lock | None:
    """Hold READERS with the other readers; None where the file is not there and cannot be made."""
    try:
        return fs.lock(fs.join(directory, file_name(FileKind.READERS)), timeout, shared=True)
    except OSError as error:
        if error.errno in READ_ONLY_ERRORS:
            return None
        raise
