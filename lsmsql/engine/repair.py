"""Repair: a manifest made anew from KEYS, SSTables and WALs alone, for a database whose own is lost or damaged (engine rule 19).

What is found decides everything (rebuild.py), so a repair that was cut short is made again from the beginning: only what the next one would not
look at is moved before the new CURRENT is durable. Nothing is deleted.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from ..errors import CorruptionError, KeyUnavailableError, UsageError
from ..options import Options
from .arguments import require_path
from .kernel import BlockCache
from .manifest.current import Current, parse_current
from .manifest.events import decode_edit
from .manifest.manifest import FILE_IDS_PER_RESERVATION, NUMBER_MAX, Manifest
from .manifest.table_record import TableRecord
from .manifest.version import Version
from .manifest.version_edit import VersionEdit
from .rebuild import DROPPED, OBSOLETE, FoundWal, Trees, live_wals, placed, superseded
from .sstable.properties import Properties
from .sstable.reader import close_table, open_table, read_properties
from .storage.checksum import RunningChecksum
from .storage.filenames import FileKind, FileName, file_name, parse_file_name
from .storage.filesystem import FileSystem, OsFileSystem
from .storage.keyring import Keyring
from .storage.record_log import RecordKind, scan_records
from .wal import Catalog

_CHUNK_BYTES = 4 << 20
_LOCK_SECONDS = 5.0
_MOVE = "restore the directory from a backup, or repair it again without the file that is to blame"
_OF_THE_MANIFEST = (FileKind.CURRENT, FileKind.MANIFEST, FileKind.EVENT_LOG)


@dataclass
class RepairReport:
    """What `repair` has found. trees: their names; tables, wals: file ids that the new manifest names; aside: the directory to which files were
    moved, and in `moved` those, each with the reason; unknown: what nothing but the old manifest could have told."""

    path: str
    aside: str = ""
    trees: list[str] = field(default_factory=list)
    tables: list[int] = field(default_factory=list)
    wals: list[int] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.path}: a new manifest names {len(self.tables)} tables and {len(self.wals)} WALs of {len(self.trees)} trees"]
        lines += [f"moved to {self.aside}: {name}: {why}" for name, why in sorted(self.moved.items())]
        return "\n".join(lines + [f"not known: {what}" for what in self.unknown])


def repair(path: str | PurePath, *, key: str | bytes | None = None, filesystem: FileSystem | None = None) -> RepairReport:
    """Make the manifest of an engine directory anew, from its tables and WALs, and keep the old files aside, in a directory in it.

    For one whose CURRENT, snapshot or event log is lost or damaged; the database opens again afterwards, with every row, tree and schema that its
    files hold. Its report says what they do not. Commits in the WALs are judged when it is opened, by `options.recovery`.

    UsageError when there is nothing to make one from, LockedError when it is open, KeyUnavailableError without the key of an encrypted one."""
    require_path(path)
    fs = filesystem or OsFileSystem()
    directory = fs.absolute(str(path))
    names = fs.list(directory) if fs.exists(directory) else []
    if not any((parsed := parse_file_name(name)) and parsed.kind in (FileKind.SSTABLE, FileKind.WAL) for name in names):
        raise UsageError(f"there is no table and no WAL in {path} to make a manifest from")
    lock = fs.lock(fs.join(directory, file_name(FileKind.LOCK)), _LOCK_SECONDS)
    try:
        keyring = _keyring(fs, directory, key)
        return _Repair(fs, directory, keyring, str(path)).run()
    finally:
        lock.release()


def _keyring(fs: FileSystem, directory: str, key: str | bytes | None) -> Keyring | None:
    if fs.exists(fs.join(directory, file_name(FileKind.KEYS))):
        return Keyring.open(fs, directory, key)
    current = _current(fs, directory)
    if current is not None and current.encrypted:
        raise KeyUnavailableError(f"{directory} is encrypted, and KEYS is missing: without it nothing in the database can be read")
    if key is not None:
        raise UsageError(f"a key was given, but there is no KEYS in {directory}")
    return None


def _current(fs: FileSystem, directory: str) -> Current | None:
    """What CURRENT says, if it is there and whole."""
    path = fs.join(directory, file_name(FileKind.CURRENT))
    with suppress(FileNotFoundError, CorruptionError):
        return parse_current(path, fs.read(path))
    return None


class _Repair:
    """One repair, in the order of `run`."""

    def __init__(self, fs: FileSystem, directory: str, keyring: Keyring | None, path: str) -> None:
        self._fs = fs
        self._directory = directory
        self._keyring = keyring
        self._report = RepairReport(path)
        self._tables: dict[int, Properties] = {}
        self._wals: dict[int, FoundWal] = {}
        self._manifest: dict[str, str] = {}  # files that are moved first, with the reason
        self._rest: dict[str, str] = {}  # and last
        self._numbers = [0]  # of every file, and those that these know of
        self._generation = 0

    def run(self) -> RepairReport:
        self._read()
        database_id = self._database_id()
        version = self._version()
        options = self._options()
        self._report.aside = self._aside()
        # In this order: without CURRENT a second repair finds the same, since what is moved here says nothing to it.
        self._move(self._manifest)
        manifest = Manifest.rebuild(self._fs, self._directory, self._keyring, database_id, self._generation + 1, version, options.to_text())
        manifest.close()
        self._move(self._rest)
        self._report.trees = sorted(version.trees.values())
        self._report.tables = sorted(record.file_id for record in version.tables())
        self._report.wals = list(version.wals)
        return self._report

    # What there is

    def _read(self) -> None:
        for name in sorted(self._fs.list(self._directory)):
            parsed = parse_file_name(name)
            if parsed is None:
                continue
            if parsed.kind in _OF_THE_MANIFEST:
                self._manifest[name] = "of the old manifest"
                if parsed.number <= NUMBER_MAX:  # Else no manifest of this database has ever had it.
                    self._generation = max(self._generation, parsed.number)
            elif parsed.kind in (FileKind.SSTABLE, FileKind.WAL):
                try:
                    self._read_file(parsed, self._fs.join(self._directory, name))
                except CorruptionError as error:
                    self._damaged(name, error)

    def _read_file(self, name: FileName, path: str) -> None:
        """Take in a table or WAL, and every file id that it knows of."""
        number = name.number
        _require_id(path, number)
        self._numbers.append(number)
        if name.kind is FileKind.WAL:
            wal = self._read_wal(number)
            known = [predecessor.wal_id for predecessor in wal.catalog.predecessors]
            catalog = wal.catalog
            _require_id(path, *known, catalog.edit)
            trees, schemas = tuple(catalog.trees.items()), tuple(catalog.schemas.items())
            edit = VersionEdit(trees_created=trees, schemas_set=schemas, last_seqno=wal.newest_seqno, host_seqno=catalog.host_seqno)
            _require_possible(path, edit, catalog.next_tree_id)
            self._wals[number] = wal
        else:
            table = read_properties(self._fs, self._directory, number, self._keyring)
            known = [*table.run, *table.replaced, *table.obsolete]
            _require_id(path, *known, table.edit_number)
            schemas = ((table.tree_id, table.schema),) if table.schema else ()
            edit = VersionEdit(trees_created=((table.tree_id, table.tree_name),), schemas_set=schemas, host_seqno=table.host_seqno)
            _require_possible(path, edit)
            self._tables[number] = table
        self._numbers += known

    def _damaged(self, name: str, error: CorruptionError) -> None:
        self._manifest[name] = f"damaged: {error.message}"
        if name.endswith(".wal"):
            self._unknown(f"the commits in {name}, which is damaged at its beginning")
        else:
            self._unknown(f"the rows in {name}, which is damaged; where it has hidden older ones, those may show again")

    def _unknown(self, what: str) -> None:
        self._report.unknown.append(what)

    def _read_wal(self, wal_id: int) -> FoundWal:
        path = self._fs.join(self._directory, file_name(FileKind.WAL, wal_id))
        records, end = scan_records(path, self._fs.read(path), wal_id, self._keyring.cipher(wal_id) if self._keyring else None)
        try:
            if not records or records[0].kind != RecordKind.CATALOG:
                raise ValueError(f"it does not begin with a catalog: {end.reason or 'it is empty'}")
            catalog = Catalog.decode(records[0].payload)
            trees = tuple(decode_edit(record.payload) for record in records if record.kind == RecordKind.TREES)
        except ValueError as error:
            raise CorruptionError(path, 0, str(error)) from None
        last = max((record.seqno for record in records if record.kind in (RecordKind.COMMIT, RecordKind.OUTCOME_COMMIT)), default=0)
        return FoundWal(wal_id, catalog, records[0].seqno, records[0].previous, trees, last)

    def _database_id(self) -> bytes:
        """The id that KEYS says, or CURRENT, or most files; those of another database are no part of this one."""
        if not self._tables and not self._wals:
            raise UsageError(f"no table and no WAL in {self._report.path} can be read: {'; '.join(self._report.unknown)}")
        ids = {file_name(FileKind.SSTABLE, number): found.database_id for number, found in self._tables.items()}
        ids |= {file_name(FileKind.WAL, number): found.catalog.database_id for number, found in self._wals.items()}
        database_id = Counter(ids.values()).most_common(1)[0][0]
        if self._keyring is not None:
            database_id = self._keyring.database_id
        elif (current := _current(self._fs, self._directory)) is not None and current.database_id in ids.values():
            database_id = current.database_id
        for name, other in ids.items():
            if other != database_id:
                self._manifest[name] = "of another database"
        self._tables = {number: found for number, found in self._tables.items() if found.database_id == database_id}
        self._wals = {number: found for number, found in self._wals.items() if found.catalog.database_id == database_id}
        return database_id

    # What counts of it

    def _version(self) -> Version:
        why = superseded(self._tables)
        obsolete = {file_id for properties in self._tables.values() for file_id in properties.obsolete}
        wals = live_wals(self._wals, obsolete)
        newest = self._wals[wals[-1]] if wals else None
        trees = Trees.told_by(newest)
        for file_id, properties in sorted(self._tables.items(), key=lambda item: (item[1].edit_number, item[0]), reverse=True):
            if file_id not in why and not trees.add(properties):
                why[file_id] = DROPPED
        records = self._records(why)
        self._rest = {file_name(FileKind.SSTABLE, file_id): reason for file_id, reason in why.items()}
        self._rest |= {file_name(FileKind.WAL, wal_id): OBSOLETE for wal_id in self._wals if wal_id not in wals}
        found = [self._tables[record.file_id] for record in records]
        host_seqno = max([0, *(each.host_seqno for each in found), *(self._wals[wal_id].catalog.host_seqno for wal_id in wals)])
        # Not of the tables alone: compactions to the bottom have zeroed the seqnos of what they dropped history of.
        last = max([host_seqno, *(each.max_seqno for each in records), *(self._wals[wal_id].newest_seqno for wal_id in wals)])
        self._tell_unknown(newest, records, last)
        of_trees: dict[int, list[TableRecord]] = {}
        for record in records:
            of_trees.setdefault(record.tree_id, []).append(record)
        edit = VersionEdit(
            added=tuple(record for tree_id in of_trees for record in placed(of_trees[tree_id])),
            wals_added=tuple(wals),
            trees_created=tuple(sorted(trees.names.items())),
            schemas_set=tuple(sorted((tree_id, text) for tree_id, text in trees.schemas.items() if tree_id in trees.names)),
            floor=last,
            last_seqno=last,
            next_file_id=self._next_file_id(),
            host_seqno=host_seqno,
        )
        try:
            version = Version().apply(edit)
        except ValueError as error:
            raise CorruptionError(self._directory, None, f"its tables and WALs do not fit together: {error}", _MOVE) from None
        number = max([0, *(each.edit_number for each in self._tables.values()), *(each.catalog.edit for each in self._wals.values())])
        next_tree_id = max([version.next_tree_id, trees.next_id, *(each.tree_id + 1 for each in self._tables.values())])
        return replace(version, number=number + 1, next_tree_id=next_tree_id)

    def _records(self, why: dict[int, str]) -> list[TableRecord]:
        """What the manifest says of the tables that count. One that does not open after all is taken out, and is superseded by nothing."""
        records: list[TableRecord] = []
        for file_id, properties in sorted(self._tables.items()):
            if file_id in why:
                continue
            name = file_name(FileKind.SSTABLE, file_id)
            try:
                record = self._record(properties, self._fs.join(self._directory, name))
                close_table(open_table(self._fs, self._directory, record, self._keyring, BlockCache(0), database_id=properties.database_id))
            except CorruptionError as error:
                self._damaged(name, error)
                continue
            records.append(record)
        return records

    def _record(self, properties: Properties, path: str) -> TableRecord:
        """CorruptionError for a table that no version can name."""
        file = self._fs.open(path)
        try:
            size, checksum = file.size(), RunningChecksum()
            for offset in range(0, size, _CHUNK_BYTES):
                checksum.update(file.read_at(offset, min(_CHUNK_BYTES, size - offset)))
        finally:
            file.close()
        seqno = properties.global_seqno
        record = TableRecord(
            file_id=properties.file_id,
            tree_id=properties.tree_id,
            level=0,
            size=size,
            entries=properties.entries,
            tombstones=properties.tombstones,
            smallest=properties.smallest,
            largest=properties.largest,
            min_seqno=properties.min_seqno + seqno,
            max_seqno=properties.max_seqno + seqno,
            global_seqno=seqno,
            run=properties.run[0],
            checksum=checksum.digest(),
        )
        try:
            record.check()
        except ValueError as error:
            raise CorruptionError(path, None, str(error)) from None
        return record

    def _next_file_id(self) -> int:
        """Above every id that any file has, or knows of, and what had been reserved by then."""
        return max(self._numbers) + 1 + FILE_IDS_PER_RESERVATION

    def _tell_unknown(self, newest: FoundWal | None, records: list[TableRecord], last: int) -> None:
        self._unknown("the names of snapshots; they are gone")
        if last:
            self._unknown(f"how much history was retained: nothing before seqno {last} can be read any more")
        self._unknown("whether a file is missing altogether")
        if newest is None:
            self._unknown("commits that were in no table yet, trees without rows, and which trees were dropped: there is no WAL that can be read")
        elif gone := [before.wal_id for before in newest.catalog.predecessors if before.wal_id not in self._wals]:
            # Where seqnos were zeroed, tables do not tell what they reach to.
            reach = max((record.max_seqno for record in records), default=0)
            if reach < newest.before and all(record.min_seqno for record in records):
                lost = ", ".join(file_name(FileKind.WAL, wal_id) for wal_id in gone)
                self._unknown(f"commits up to seqno {newest.before} that were in {lost}: the tables reach to seqno {reach}")

    def _options(self) -> Options:
        newest = max(self._tables.values(), key=lambda found: (found.edit_number, found.file_id), default=None)
        with suppress(UsageError):
            if newest is not None:
                self._unknown(f"whether options were changed since table {newest.file_id} was written, whose options hold from now on")
                return Options.from_text(newest.options)
        self._unknown("the options: the defaults hold from now on")
        return Options()

    # Moving

    def _aside(self) -> str:
        """A new directory in the database's, and its name."""
        number = 1
        while self._fs.exists(self._fs.join(self._directory, f"aside-{number:06d}")):
            number += 1
        self._fs.make_directory(self._fs.join(self._directory, f"aside-{number:06d}"))
        return f"aside-{number:06d}"

    def _move(self, names: dict[str, str]) -> None:
        aside = self._fs.join(self._directory, self._report.aside)
        for name in sorted(names):
            self._fs.rename(self._fs.join(self._directory, name), self._fs.join(aside, name))
        self._report.moved |= names
        self._fs.sync_directory(aside)  # Before the other: a file must not be in neither.
        self._fs.sync_directory(self._directory)


def _require_id(path: str, *file_ids: int) -> None:
    """CorruptionError for the id of a file, or number of an edit, that no database gets to."""
    if max(file_ids, default=0) > NUMBER_MAX:
        raise CorruptionError(path, None, f"no file or edit can have the number {max(file_ids)}")


def _require_possible(path: str, edit: VersionEdit, next_tree_id: int = 1) -> None:
    """CorruptionError for a file that says what no version can."""
    try:
        version = Version().apply(edit)
        replace(version, next_tree_id=max(version.next_tree_id, next_tree_id)).require_room()
    except ValueError as error:
        raise CorruptionError(path, None, str(error)) from None
