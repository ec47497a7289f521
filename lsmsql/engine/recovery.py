"""Recovery: from a directory to an open database. A crash at any step leaves a directory that the next recovery reads as well.

Nothing is written before everything that the manifest names was read and found to fit together; only then is a new WAL begun, and only
after that are files that nothing names removed. An old WAL or event log is never appended to.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import CorruptionError, UsageError
from ..options import Options
from .generation import Generation
from .kernel import BlockCache, Table
from .manifest.advice import REBUILD
from .manifest.current import read_current
from .manifest.manifest import Manifest
from .manifest.version import LEVELS, Version
from .manifest.version_edit import VersionEdit
from .prepared import Host
from .replay import Replayed, catalog_end, replay_wals
from .sstable.reader import close_table
from .storage.filenames import FileKind, file_name, parse_file_name
from .storage.filesystem import FileSystem
from .storage.keyring import Keyring, repair_copies
from .version_line import VersionLine


@dataclass
class Recovered:
    """line: published, with the generations of the old WALs sealed behind the new one. previous: seqno of the last commit record.
    host_seqno: of the last prepared commit that was committed. damaged: the WALs were cut or skipped, so they must be flushed before
    anything else is promised."""

    line: VersionLine
    generation: Generation
    previous: int
    host_seqno: int
    damaged: bool


def recover(fs: FileSystem, directory: str, options: Options | None, key: str | bytes | None, create: bool, host: Host | None = None) -> Recovered:
    """Open a directory whose lock is held. options: None for those saved with the data; host: who decides what was prepared.

    HistoryError when the host and the engine have not committed the same, UsageError when the directory is not the host's.
    CorruptionError names what does not fit; KeyUnavailableError when the key does not open it, before anything else is looked at; UsageError
    when there is no database and `create` is False, or a key was given for one that is not encrypted."""
    current = read_current(fs, directory)
    if current is None:
        if not create:
            raise UsageError(f"there is no database in {directory}")
        options = options or Options()
        fs = _tuned(fs, options)
        keyring, manifest = _create(fs, directory, options, key)
    else:
        # The process that renamed CURRENT may have been killed before it synced that; what follows must not outlive what it stands on.
        fs.sync_directory(directory)
        keyring = open_keyring(fs, directory, current.encrypted, key)
        given = options
        manifest = Manifest.open(fs, directory, keyring, recovery=lambda text: (given or saved_options(fs, directory, text)).recovery)
        options = given or saved_options(fs, directory, manifest.options_text)
        fs = _tuned(fs, options)
        manifest.write_through(fs)
    manifest.rotate_bytes, manifest.mirror = options.manifest_bytes, options.manifest_mirror  # Known only now, if saved.
    line = VersionLine(fs, directory, keyring, manifest, options, BlockCache(options.cache_bytes))
    tables: dict[int, Table] = {}
    try:
        _open_tables(line, tables)
        line.blobs.require_linked(tables.values())
        refuse_lost_wals(fs, directory, line.version, keyring)
        if host is not None:
            host.require_its_own(directory, line.database_id)
            _sync_host(fs, directory, host)
        replayed = replay_wals(fs, directory, line.version, line.database_id, keyring, options, host)
        if host is not None:
            host.require_agreement(directory, replayed.host_seqno)
        # The stricter modes take no damage that a lost edit could be behind.
        doubtful = replayed.damaged and options.recovery in ("point_in_time", "skip_corrupt")
        return _begin(line, tables, replayed, manifest.intact and not doubtful)
    except BaseException:
        for generation in line.published.state.generations if line.begun else ():
            generation.wal.close()
        for table in tables.values():
            close_table(table)
        line.blobs.close()
        manifest.close()
        raise


def _sync_host(fs: FileSystem, directory: str, host: Host) -> None:
    """What the host has said must outlive a power loss: what is decided now stands on it."""
    if not host.files:
        return
    for path in host.files:
        if fs.exists(path):
            file = fs.open(path)
            try:
                file.sync()
            finally:
                file.close()
    fs.sync_directory(fs.absolute(fs.join(directory, "..")))


def _tuned(fs: FileSystem, options: Options) -> FileSystem:
    return fs.tuned(sync_mode=options.sync_mode, copy_on_write=options.copy_on_write, drop_cached=options.cold_level < LEVELS)


def _create(fs: FileSystem, directory: str, options: Options, key: str | bytes | None) -> tuple[Keyring | None, Manifest]:
    # Before anything in it is promised to last; also when it was there already, since who made it may have been killed before this line.
    fs.sync_directory(fs.absolute(fs.join(directory, "..")))
    keys = fs.join(directory, file_name(FileKind.KEYS))
    if fs.exists(keys):
        # No CURRENT, so the creation that made it was interrupted, and nothing was ever encrypted with it.
        fs.remove(keys)
    # KEYS before CURRENT: once CURRENT says "encrypted", its keys are durable.
    keyring = Keyring.create(fs, directory, key) if key is not None else None
    return keyring, Manifest.create(fs, directory, keyring, options.to_text(), mirror=options.manifest_mirror)


def open_keyring(fs: FileSystem, directory: str, encrypted: bool, key: str | bytes | None) -> Keyring | None:
    """None for a database that is not encrypted, for which a key is a UsageError."""
    if encrypted:
        return Keyring.open(fs, directory, key)
    if key is not None:
        raise UsageError(f"the database in {directory} is not encrypted, but a key was given")
    return None


def saved_options(fs: FileSystem, directory: str, text: str) -> Options:
    """The options as the manifest keeps them."""
    try:
        return Options.from_text(text)
    except UsageError as error:
        raise CorruptionError(fs.join(directory, "manifest"), None, f"the saved options cannot be read: {error}") from None


def _open_tables(line: VersionLine, tables: dict[int, Table]) -> None:
    version = line.version
    for record in version.tables():
        table = line.open_table(record)
        tables[record.file_id] = table
        require_known(table, version)


def require_known(table: Table, version: Version) -> None:
    """CorruptionError if the table was written by someone who knew of later edits than the version."""
    if table.source.properties.edit_number > version.number:
        message = f"the SSTable knows of version edit {table.source.properties.edit_number}, but the manifest ends at {version.number}"
        raise CorruptionError(table.source.path, None, message, f"the manifest is older than the SSTable: restore the newer one, or {REBUILD}")


def refuse_lost_wals(fs: FileSystem, directory: str, version: Version, keyring: Keyring | None) -> None:
    """CorruptionError if a WAL is newer than all those that the manifest names and yet holds more than its catalog.

    Commits go into a WAL only after the edit that names it is durable, so that edit must have been damaged. Other WALs that nothing names
    were flushed or discarded, by an edit at which a newer one was live, or their making was interrupted."""
    newest = max(version.wals, default=0)
    for name in fs.list(directory):
        parsed = parse_file_name(name)
        if parsed is None or parsed.kind is not FileKind.WAL or parsed.number <= newest:
            continue
        path = fs.join(directory, name)
        end = catalog_end(fs, path, parsed.number, keyring)
        if end is not None and fs.size(path) > end:
            message = "the WAL holds commits, but the manifest does not name it"
            raise CorruptionError(path, end, message, f"the manifest is older than the WAL: restore the newer one, or {REBUILD}")


def _begin(line: VersionLine, tables: dict[int, Table], replayed: Replayed, intact: bool) -> Recovered:
    version = line.version
    line.begin(tables, tuple(reversed(replayed.generations)), _last_seqno(version, replayed))
    if line.keyring is not None and line.keyring.damaged_copies:
        repair_copies(line.fs, line.directory)  # Not earlier: only now it is known that these keys open the database.
    # One edit: the new WAL continues exactly what was replayed, and what was discarded is gone for good, so that a crash from here on
    # cannot bring a discarded commit back behind a new one with its seqno.
    generation = line.start_generation(replayed.previous, VersionEdit(wals_removed=tuple(replayed.discarded)))
    line.save_options(line.options)
    line.blobs.recover(tables.values(), intact)
    _remove_orphans(line, intact)
    return Recovered(line, generation, replayed.previous, replayed.host_seqno, replayed.damaged)


def _last_seqno(version: Version, replayed: Replayed) -> int:
    """Where the seqno line goes on. Commits may have been lost (durability "normal") after their seqnos were named by a floor, a snapshot or
    an ingested table; those seqnos are not used again."""
    tables = (table.max_seqno for table in version.tables())
    return max(replayed.seqno, replayed.previous, version.last_seqno, version.floor, *version.snapshots.values(), *tables)


def _remove_orphans(line: VersionLine, intact: bool) -> None:
    """Remove what a crash has left and nothing names. The version was read, checked and continued, so whatever it does not name is no one's.

    intact: the event log has ended cleanly, and the WALs fit to it. If not, an edit may have been lost that named some of it, be it that a log cut
    between two edits looks whole: it stays until the next opening."""
    fs, directory = line.fs, line.directory
    live = line.version.file_ids()
    for name in fs.list(directory):
        parsed = parse_file_name(name)
        if parsed is None:
            continue
        of_data = parsed.kind in (FileKind.SSTABLE, FileKind.WAL) and parsed.number not in live
        if of_data:
            line.obsolete.depart((parsed.number,))
        if intact and (of_data or parsed.kind is FileKind.TEMPORARY):
            line.obsolete.add_path(fs.join(directory, name))
    line.obsolete.collect()
