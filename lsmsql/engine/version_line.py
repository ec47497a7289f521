"""The line of versions: the one place where an edit is made durable and becomes what readers see."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from ..errors import ClosedError
from ..options import Options
from .blobs import Blobs
from .generation import Generation
from .kernel import BlockCache, MemtableArena, Table
from .manifest.manifest import Manifest
from .manifest.version import TableRecord, Version
from .manifest.version_edit import VersionEdit
from .obsolete_files import ObsoleteFiles
from .read_state import LiveVersion, Published, ReadState
from .reentry import refuse_reentry
from .separation import Separation
from .sstable.reader import close_table, open_table
from .sstable.writer import TableSink
from .storage.filenames import FileKind, file_name
from .storage.filesystem import FileSystem
from .storage.keyring import Keyring
from .wal import Catalog, Predecessor, Wal


def now_us() -> int:
    """Wall-clock time, microseconds since the Unix epoch."""
    return time.time_ns() // 1000


class VersionLine:
    """The directory's files as a whole, and the state that is published.

    Two locks: `edits` orders edits and is held while one becomes durable; `swap` only while the published state is replaced.
    """

    def __init__(self, fs: FileSystem, directory: str, keyring: Keyring | None, manifest: Manifest, options: Options, cache: BlockCache) -> None:
        self.fs = fs
        self.directory = directory
        self.keyring = keyring
        self.options = options
        self.cache = cache
        self.repairs = manifest.repairs
        self._manifest = manifest
        self.blobs = Blobs(fs, directory, manifest.database_id, keyring, manifest.repairs)
        self.obsolete = ObsoleteFiles(fs, self.blobs.unlink)
        self.edits = threading.RLock()
        self.swap = threading.RLock()  # Taken twice when a commit comes in between, in a signal handler: see _replace.
        self._states: weakref.WeakSet[ReadState] = weakref.WeakSet()
        self._tables: dict[int, Table] = {}
        self.published: Published  # From `begin` on.
        self.closed = ""

    def begin(self, tables: dict[int, Table], generations: tuple[Generation, ...], seqno: int) -> Published:
        """Publish the first state: the manifest's version with its tables, the recovered generations, the last recovered seqno."""
        self._tables = tables
        live = LiveVersion(self._manifest.version, tables, apart=self.blobs)
        self.obsolete.watch(live)
        state = ReadState(generations, live)
        self._states.add(state)
        self.published = Published(state, seqno)
        return self.published

    @property
    def begun(self) -> bool:
        return hasattr(self, "published")

    @property
    def database_id(self) -> bytes:
        return self._manifest.database_id

    @property
    def version(self) -> Version:
        """The newest version; at least as new as the published state's."""
        return self._manifest.version

    @property
    def table_count(self) -> int:
        return len(self._tables)

    def path(self, kind: FileKind, number: int) -> str:
        return self.fs.join(self.directory, file_name(kind, number))

    def new_file_id(self) -> int:
        refuse_reentry(self.edits)
        with self.edits:
            if self.closed:
                raise ClosedError(self.closed)
            return self._manifest.new_file_id()

    def table_sink(
        self, version: Version, tree_id: int, level: int, pace: Callable[[int], None] | None = None, host_seqno: int | None = None
    ) -> TableSink:
        """Where the tables of one tree go that work on `version` writes. pace, host_seqno (default: the version's): see TableSink."""
        return TableSink(
            fs=self.fs,
            directory=self.directory,
            database_id=self.database_id,
            keyring=self.keyring,
            new_file_id=self.new_file_id,
            options=self.options,
            tree_id=tree_id,
            tree_name=version.trees.get(tree_id, ""),
            schema=version.schemas.get(tree_id, ""),
            level=level,
            edit_number=version.number,
            pace=pace,
            host_seqno=version.host_seqno if host_seqno is None else host_seqno,
            separation=Separation(self.blobs, self.options),
            obsolete=self._obsolete,
            discarded=self.obsolete.discarded,
        )

    def _obsolete(self) -> tuple[int, ...]:
        with self.edits:  # Not between an edit that is durable and the note of what it removes.
            return self.obsolete.listed()

    def sync_directory(self) -> None:
        """Make the names of new files durable, before the edit that names them."""
        self.obsolete.sync_directory(self.fs, self.directory)

    def open_table(self, record: TableRecord) -> Table:
        """One table, opened and checked."""
        return open_table(
            self.fs, self.directory, record, self.keyring, self.cache, database_id=self.database_id, repairs=self.repairs, options=self.options
        )

    def open_tables(self, records: tuple[TableRecord, ...]) -> dict[int, Table]:
        """Tables that an edit is about to add, opened and checked; on an error none stays open."""
        opened: dict[int, Table] = {}
        try:
            for record in records:
                opened[record.file_id] = self.open_table(record)
        except BaseException:
            for table in opened.values():
                close_table(table)
            raise
        return opened

    def install(
        self, edit: VersionEdit, opened: Mapping[int, Table] | None = None, *, retire: Generation | None = None, begin: Generation | None = None
    ) -> Version:
        """Make an edit durable, then visible. opened: the tables it adds; retire: a generation that those tables replace; begin: a generation
        that takes the commits from now on. Tables of trees that were dropped meanwhile are left out and removed.

        Raises as Manifest.commit; then nothing has become visible, and what the edit added stays on disk for recovery to judge."""
        refuse_reentry(self.edits)
        opened = dict(opened or {})
        with self.edits:
            before = self._manifest.version
            wal = (begin or self.published.state.generations[0]).wal
            if (wal.id, wal.durable) != before.wal_synced:
                # So that recovery does not take a WAL that has lost what this edit stands on for one whose last append was cut short.
                edit = replace(edit, wal_synced=(wal.id, wal.durable))
            orphans = [record for record in edit.added if record.tree_id not in before.trees]
            if orphans:
                edit = replace(edit, added=tuple(record for record in edit.added if record.tree_id in before.trees))
            live_ids = {table.file_id for table in before.tables()} if edit.removed else set()
            if not set(edit.removed) <= live_ids:  # A compaction's tree was dropped, and its inputs with it.
                edit = replace(edit, removed=tuple(file_id for file_id in edit.removed if file_id in live_ids))
            try:
                version = self._manifest.commit(edit)  # Durable from here on: a crash now finds the new version, with all its files whole.
            except BaseException:
                for table in opened.values():
                    close_table(table)
                raise
            if edit.removed or edit.wals_removed or edit.trees_dropped:
                self.obsolete.depart(before.file_ids() - version.file_ids())
            self._tables.update(opened)
            for table in opened.values():
                self.blobs.link(table)
            for record in edit.added:  # A table that only moved to another level is open already.
                self._tables[record.file_id].pin(record.level < self.options.pin_index, record.level < self.options.pin_filter)
            kept = {record.file_id for record in version.tables()}
            gone = [(file_id, table) for file_id, table in self._tables.items() if file_id not in kept]
            self._publish(version, retire, begin)
            for file_id, _ in gone:
                del self._tables[file_id]
        # After the publication, so that nothing new starts to read them; after the edit, so that no crash can need them.
        self.obsolete.add_tables((file_id, self.path(FileKind.SSTABLE, file_id), table) for file_id, table in gone)
        self.obsolete.collect()
        return version

    def _publish(self, version: Version, retire: Generation | None, begin: Generation | None) -> None:
        live = LiveVersion(version, self._tables, self.published.state.live, self.blobs)
        self.obsolete.watch(live)

        def with_version(state: ReadState) -> ReadState:
            generations = tuple(generation for generation in state.generations if generation is not retire)
            return ReadState((begin, *generations) if begin else generations, live)

        self._replace(with_version)

    def touch(self) -> None:
        """Publish the same state anew, after a memtable has appeared in it: what was looked up before does not have it."""
        self._replace(lambda state: ReadState(state.generations, state.live))

    def _replace(self, change: Callable[[ReadState], ReadState]) -> None:
        published = self.published
        with self.swap:
            while True:
                before = published.state
                state = change(before)
                if self.closed:
                    raise ClosedError(self.closed)
                self._states.add(state)
                if published.state is before:  # Else a signal handler has committed meanwhile. Between here and the next line none can come.
                    published.state = state
                    return

    def start_generation(self, previous: int, edit: VersionEdit | None = None) -> Generation:
        """A generation with a new, registered WAL, which takes the commits from now on. The caller holds the commit line.

        previous: seqno of the last commit record in the line of WALs; edit: what else the same edit changes."""
        sealed = self.published.state.generations
        wal_id = self.new_file_id()
        version = self.version
        catalog = Catalog(
            self.database_id,
            version.number,
            tuple(Predecessor(generation.wal.id, generation.wal.length, generation.wal.durable) for generation in reversed(sealed)),
            version.trees,
            version.schemas,
            version.next_tree_id,
            max([version.host_seqno, *(generation.host_seqno for generation in sealed)]),
        )
        cipher = self.keyring.cipher(wal_id) if self.keyring else None
        wal = Wal.create(self.fs, self.directory, wal_id, cipher, catalog, self.published.seqno, previous, now_us())
        generation = Generation(MemtableArena(self.options.memtable_bytes, self.options.kv_check_at == "insert"), wal)
        times = [generation.times.last for generation in sealed[:1]] or list(version.times[-1:])
        generation.times.go_on_from(max([(0, 0), *times, *version.times[-1:]]))
        try:
            # Before the first commit into it: a crash before this line leaves a WAL that nothing names and that holds nothing.
            self.install(replace(edit or VersionEdit(), wals_added=(wal_id,)), begin=generation)
        except BaseException:
            wal.close()
            raise
        return generation

    def save_options(self, options: Options) -> None:
        with self.edits:
            if self._manifest.options_text != options.to_text():
                self._manifest.save_options(options.to_text())

    def shut(self, message: str) -> None:
        """Make every state, held by views too, raise ClosedError. Takes no lock: the child of a fork calls it as well."""
        self.closed = self.blobs.shared.closed = message
        for state in list(self._states):
            state.close(message)

    def close_files(self) -> None:
        """Close WALs, tables and the manifest; the first error is raised at the end."""
        errors: list[BaseException] = []
        closers: list[Callable[[], object]] = [generation.wal.close for generation in self.published.state.generations]
        closers += [partial(close_table, table) for table in self._tables.values()]
        for close in [*closers, self.obsolete.close_tables, self.blobs.close, self._manifest.close]:
            try:
                close()
            except OSError as error:
                errors.append(error)
        if errors:
            raise errors[0]
