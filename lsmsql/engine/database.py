"""Database: one directory, one writing process, named trees on one line of commits. The public face: checks and delegates."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import PurePath
from weakref import WeakValueDictionary

from ..errors import ClosedError, ConflictError, HistoryError, UsageError
from ..options import DURABILITIES, Options
from . import statistics
from .arguments import require_batch_of, require_name, require_path, require_tree_of
from .ingest import ingest
from .instance import CLOSED, Instance
from .manifest.version import Version
from .manifest.version_edit import VersionEdit
from .prepared import Deciding, PreparedCommit
from .read_view import View
from .readable import Readable
from .reentry import refuse_reentry
from .snapshot import Snapshot
from .storage.filesystem import FileSystem, OsFileSystem
from .storage.memory_filesystem import MemoryFileSystem
from .tree import Refusal, Tree
from .write_batch import WriteBatch

SQL_PREFIX = "sql:"


class Database(Readable):
    """Made by `lsmsql.open`. Safe to use from several threads. Close it, or use it with `with`.

    path: the directory; options: those in force; database_id: 16 random bytes, for life.
    """

    read_only = False

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._closed = False
        self.path = instance.path
        self._line = instance.line
        self.options = instance.line.options
        self.database_id = instance.line.database_id
        self._published = instance.line.published
        self._pins = instance.pins
        self._upkeep = instance.upkeep
        self._worker = instance.worker
        self._commits = instance.commits
        # Weakly: trees hold the database, and a ring would let it wait for the garbage collector when it is dropped.
        self._trees: WeakValueDictionary[tuple[str, bool], Tree] = WeakValueDictionary()
        self._naming = threading.RLock()

    @classmethod
    def open(
        cls,
        path: str | PurePath,
        options: Options | None = None,
        *,
        key: str | bytes | None = None,
        create: bool = True,
        filesystem: FileSystem | None = None,
        host: Deciding | None = None,
        lock_timeout: float | None = None,
    ) -> Database:
        """See `lsmsql.open`. host: who decides about prepared commits (for the SQL layer); lock_timeout: instead of the option."""
        require_path(path)
        if options is not None and not isinstance(options, Options):
            raise UsageError(f"options are lsmsql.Options, not {type(options).__name__}")
        if filesystem is not None and not hasattr(filesystem, "sync_directory"):
            raise UsageError(f"a filesystem is asked for, or None for the operating system's, not {type(filesystem).__name__}")
        path = str(path)
        if path in ("", ":memory:") and filesystem is None:
            path, filesystem = "/memory", MemoryFileSystem()
        return cls(Instance.open(filesystem or OsFileSystem(), path, options, key, create, host, lock_timeout))

    @classmethod
    def join(
        cls,
        path: str,
        options: Options | None = None,
        *,
        key: str | bytes | None = None,
        filesystem: FileSystem | None = None,
        host: Deciding | None = None,
    ) -> Database | None:
        """As `open`, where this process has the directory open already; None where it has not."""
        instance = Instance.join(filesystem or OsFileSystem(), path, options, key, host)
        return cls(instance) if instance is not None else None

    def refresh(self) -> bool:
        """Nothing to do: what is read is always what is committed. See ReadOnlyDatabase."""
        return False

    def in_place(self) -> bool:
        """Whether the path still leads to the directory that is open."""
        return self.instance.in_place()

    @property
    def _version(self) -> Version:
        return self._line.version

    # Trees.

    def tree(self, name: str, create: bool = True) -> Tree:
        """The tree of a name. Names that start with "sql:" belong to SQL: readable, and UsageError on write. UsageError if there is none."""
        require_name(name)
        sql = name.startswith(SQL_PREFIX)
        return self._tree(name, create and not sql, writable=not sql)

    def sql_tree(self, name: str, create: bool = True, schema: str = "") -> Tree:
        """For the SQL layer: as `tree`, with the right to write to the trees whose names start with "sql:".

        schema: the statement that a new tree's table is made by, which stands in each of its SSTables."""
        require_name(name)
        return self._tree(name, create, writable=True, schema=schema)

    def _tree(self, name: str, create: bool, writable: bool, schema: str = "") -> Tree:
        self._require_open()
        refuse_reentry(self._naming)
        if create and self._tree_id(name) is None:
            self._create_tree(name, schema)
        with self._naming:
            tree = self._trees.get((name, writable))
            if tree is not None:
                return tree
            tree_id = self._tree_id(name)
            if tree_id is None:
                raise UsageError(f"there is no tree {name!r}")
            writer = self._commits if writable else Refusal(f"tree {name!r} belongs to SQL: write to it through its table")
            tree = self._trees[name, writable] = Tree(self, self._published, tree_id, name, writer)
            return tree

    def _create_tree(self, name: str, schema: str) -> None:
        """Make a tree, unless somebody was quicker. Also while a commit is prepared: SQL makes tables in the middle of transactions."""
        with self._commits.held(undecided=True), self._naming:
            self._commits.check()
            if self._tree_id(name) is not None:
                return
            tree_id = self._version.next_tree_id
            edit = VersionEdit(trees_created=((tree_id, name),), schemas_set=((tree_id, schema),) if schema else ())
            self._commits.note_trees(edit)
            self._edit(edit)

    def _edit(self, edit: VersionEdit) -> None:
        try:
            self._line.install(edit)
        except ValueError as error:  # It does not fit the version: nothing has happened.
            raise UsageError(str(error)) from None

    def drop_tree(self, name: str) -> None:
        """Remove a tree and all its history; open views and scans keep what they see. UsageError if there is none."""
        self._require_open()
        with self._commits.held(), self._naming:
            self._commits.check()
            tree_id = self._tree_id(name)
            if tree_id is None:
                raise UsageError(f"there is no tree {name!r}")
            edit = VersionEdit(trees_dropped=(tree_id,))
            self._commits.note_trees(edit)
            # Before the drop is durable: a power loss must not take a commit that has moved the tree's rows elsewhere.
            self._commits.sync()
            for writable in (False, True):
                tree = self._trees.pop((name, writable), None)
                if tree is not None:
                    tree.refuse_writes(f"tree {name!r} was dropped")
            self._edit(edit)

    # Writing.

    def batch(self) -> WriteBatch:
        """An empty write batch. `with engine.batch() as batch:` commits it at a clean end."""
        self._require_open()
        return WriteBatch(self, self.commit)

    def commit(self, batch: WriteBatch, durability: str | None = None) -> int:
        """Commit a batch whole and return its seqno; an empty one writes nothing and returns the last. The batch keeps its operations.

        durability: instead of options.durability. When it raises, nothing of the batch is visible."""
        if durability is not None and durability not in DURABILITIES:
            raise UsageError(f"durability must be one of {', '.join(DURABILITIES)}, not {durability!r}")
        require_batch_of(self, batch)
        self._require_open()
        if not len(batch):
            return self._published.seqno
        return self._commits.commit(batch.operations.payload(), batch.operations.trees(), durability)

    def prepare(self, batch: WriteBatch, adopt: Callable[[PreparedCommit], None] | None = None) -> PreparedCommit:
        """Make a batch that is not empty durable, for a host to decide about; until then nobody else commits. adopt: see CommitLine.prepare."""
        if type(batch) is not WriteBatch or batch.database is not self:
            require_batch_of(self, batch)
        operations = batch.operations
        return self._commits.prepare(operations.payload(), tuple(operations.trees()), None, adopt)

    @property
    def host_seqno(self) -> int:
        """Of the last prepared commit that was committed, 0 for none."""
        return self._commits.host_seqno

    def first(self, task: str) -> bool:
        """Whether nobody has asked this for a task yet: what is to be done once while the directory is open in this process."""
        return self.instance.first(task)

    def host_has(self, path: str) -> bool:
        """Whether there is a file of the host's."""
        return self._line.fs.exists(path)

    def wait_settled(self) -> None:
        """Wait until no commit is prepared. LockedError when that does not come."""
        self._commits.wait_settled()

    def host_view(self, seqno: int) -> View:
        """What a host's transaction reads in which the host's last commit is `seqno`. HistoryError when that is not retained, or unknown."""
        view = self.current_view()
        if view.seqno >= seqno == self._commits.host_seqno:  # Asked after the view was taken, so no later one of the host's is in it.
            return view
        view.close()
        if not self._commits.wait_for_host(seqno):
            raise HistoryError(f"the host's commit {seqno} is not in {self.path}")
        view = self.current_view()
        if self._commits.host_seqno != seqno:  # The host has gone on; commits in between were not the host's.
            view = self.read_view(seqno)
        return view

    def ingest_into(self, tree: Tree, rows: Iterable[tuple[bytes, bytes]]) -> int:
        """See Tree.ingest."""
        self._require_open()
        return ingest(self._line, self._commits, self._upkeep, tree.id, rows)

    def delete_range_of(self, tree: Tree, lower: bytes | None, upper: bytes | None) -> None:
        """See Tree.__delitem__."""
        tree.require_writable()
        with self.batch() as batch:
            for key, _ in self.current_view().scan(tree, lower, upper, valued=False):
                batch.delete(tree, key)

    # Snapshots.

    def snapshot(self, name: str | None = None) -> Snapshot:
        """Keep the history of now readable: while the snapshot is open or, with a name, until `release(name)`, in later processes too.

        ConflictError if the name is taken."""
        self._require_open()
        if name is None:
            return Snapshot(self, self._pins)
        require_name(name)
        with self._commits.held():
            self._commits.check()
            if name in self._version.snapshots:
                raise ConflictError(f"there is a snapshot named {name!r} already")
            # Before the name is durable: a power loss must not take the commits that it promises.
            self._commits.sync()
            snapshot = Snapshot(self, self._pins, name=name)
            try:
                self._edit(VersionEdit(snapshots_set=((name, snapshot.seqno),)))
            except BaseException:
                snapshot.close()
                raise
            return snapshot

    def release(self, name: str) -> None:
        """Give up a named snapshot; its history goes with the next compactions. UsageError if there is none."""
        self._require_open()
        require_name(name)
        self._commits.check()
        if name not in self._version.snapshots:
            raise UsageError(f"there is no snapshot {name!r} to release")
        self._edit(VersionEdit(snapshots_released=(name,)))

    # Upkeep.

    def flush(self) -> None:
        """Move everything committed so far from the WAL into SSTables, and wait until that is done."""
        self._require_open()
        with self._commits.held():
            self._commits.check()
            if self._commits.has_commits:
                self._commits.rotate()
        self._worker.wait_until(lambda: not self._upkeep.sealed())

    def compact(self, tree: Tree | None = None) -> None:
        """Flush, and merge all SSTables of a tree (default: of every tree) into one level, dropping what no reader may ask for."""
        self.flush()
        if tree is not None:
            require_tree_of(self, tree)
        for tree_id in [tree.id] if tree is not None else sorted(self._version.trees):
            self._upkeep.compact_all(tree_id)

    def wait_idle(self) -> None:
        """Wait until no flush or compaction is due."""
        self._require_open()
        self._worker.wait_idle()

    def statistics(self) -> statistics.Statistics:
        """Counters since opening and sizes now; see statistics.py for the names."""
        self._require_open()
        return statistics.gather(self._line, self._commits, self._upkeep, self.instance.pins)

    # The end.

    def close(self) -> None:
        """Sync the WAL, stop the threads, close every file, let go of the directory. Memtables stay in the WAL: opening reads them back.

        Others in this process that have opened the same directory keep it open; the last one closes it. Closing twice is allowed. An OSError
        of the last sync is raised after everything else was done. A database that is dropped without this closes itself, with a
        ResourceWarning; so do those that are open when the interpreter ends."""
        if self._closed or self.instance.closed:
            return
        self.instance.leave()  # It may refuse, and then we stay.
        self._closed = True
        for tree in list(self._trees.values()):
            tree.close(CLOSED)

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError(CLOSED)
        if self.instance.closed:
            self.instance.require_open()

    def __del__(self) -> None:
        if not self._closed and self.instance.users > 1:  # The last one's instance goes with it, and says so itself.
            self._closed = True
            self.instance.leave()
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return f"<lsmsql.Database {self.path!r}{', closed' if self._closed or self.instance.closed else ''}>"
