"""Follower: reads what a writing process leaves on disk, moment after moment, and writes nothing (engine rule 24).

A moment is a version of the manifest and what its WALs hold, provided that the manifest was still the same after the WALs were read; else what
is new in it is read first. Files that are gone by the time they are asked for mean the same. What was read stays: of a WAL that grew only the
new records are read, of a version that changed only the new tables opened.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

from ..errors import CorruptionError, Error, HistoryError, LockedError, UsageError
from ..options import Options
from .follower_blobs import FollowerBlobs
from .held_moments import HeldMoments, require_retained
from .kernel import BlockCache, Table
from .manifest.current import Current, read_current
from .manifest.manifest_reader import ManifestReader
from .manifest.version import Version
from .obsolete_files import ObsoleteFiles
from .prepared import Host
from .read_state import LiveVersion, Published, ReadState
from .recovery import open_keyring, refuse_lost_wals, require_known, saved_options
from .reentry import owned
from .replay import Replayed, learn_lengths, open_catalog, undecided
from .sstable.reader import close_table, open_table
from .storage.filenames import FileKind, file_name
from .storage.filesystem import FileSystem
from .storage.keyring import Keyring
from .storage.parity import Repairs
from .storage.record_log import Record
from .wal_tail import WalTail

if TYPE_CHECKING:
    from .tree import Tree

_ATTEMPTS = 200
_RECENT_SECONDS = 1.0  # A host's snapshot may be that much older than what another of its connections has read since.
_RECENT_MAX = 8
_HOST_SECONDS = 1.0  # How long to look for a commit that the host knows of.
_PAUSE = 0.002


class _Position(NamedTuple):
    """Where the follower has been: `until` (monotonic time) it is kept, with its tables and WALs."""

    until: float
    published: Published
    tails: tuple[WalTail, ...]


class UnusedTables(ObsoleteFiles):
    """Tables that the newest version does not hold any more: closed when nobody reads them, and left where they are."""

    def remove(self, path: str) -> bool:
        return True


class Follower:
    """published: the newest moment that was read; host_seqno: of the last prepared commit in it that was committed; moments: what is read at;
    trees: they follow; refreshes: how often there was something new; opened: tables opened so far."""

    published: Published
    moments: HeldMoments

    def __init__(self, fs: FileSystem, directory: str, manifest: ManifestReader, keyring: Keyring | None, options: Options, repairs: Repairs) -> None:
        self.fs = fs
        self.directory = directory
        self.keyring = keyring
        self.options = options
        self.cache = BlockCache(options.cache_bytes)
        self.repairs = repairs
        self.blobs = FollowerBlobs(fs, directory, manifest.current.database_id, keyring, repairs)
        self.lock = threading.RLock()
        self.trees: WeakValueDictionary[str, Tree] = WeakValueDictionary()
        self.host_seqno = self.refreshes = self.opened = 0
        self._manifest = manifest
        self._adopted: Version | None = None  # The version whose tables and WALs are open.
        self._tables: dict[int, Table] = {}
        self._tails: dict[int, WalTail] = {}  # by WAL, ascending
        self._used: tuple[WalTail, ...] = ()  # of those: all but what is behind a torn one
        self._open: set[WalTail] = set()
        self._recent: deque[_Position] = deque()
        self._mark: Any = None  # what was published, to compare
        self._unused = UnusedTables(fs)
        self._states: weakref.WeakSet[ReadState] = weakref.WeakSet()

    @classmethod
    def open(cls, fs: FileSystem, directory: str, options: Options | None, key: str | bytes | None, host: Host | None) -> Follower:
        """Read the first moment. host: says what became of a commit that is prepared; without one that is a UsageError when no writer is there
        to decide it. UsageError when there is no database. Other errors as those of recovery."""
        current = _find_current(fs, directory)
        keyring = open_keyring(fs, directory, current.encrypted, key)
        repairs = Repairs()
        manifest = ManifestReader(fs, directory, keyring, repairs)
        follower: Follower | None = None
        try:
            manifest.advance()
            follower = cls(fs, directory, manifest, keyring, options or saved_options(fs, directory, manifest.options_text), repairs)
            follower._catch_up(first=True)
            if host is None:
                follower._require_decided()
            else:
                follower._require_agreement(host)
            return follower
        except BaseException:
            (follower or manifest).close()
            raise

    @property
    def database_id(self) -> bytes:
        return self._manifest.current.database_id

    def refresh(self) -> bool:
        """Go on to the newest moment; False if nothing has happened. In the middle of another refresh on the same thread (a signal handler)
        nothing is done."""
        if owned(self.lock):
            return False
        with self.lock:
            return self._catch_up()

    def latest(self) -> tuple[int, Published]:
        """What was read last: (host_seqno, the moment) together."""
        with self.lock:
            return self.host_seqno, self.published

    def host_moment(self, seqno: int) -> Published:
        """The moment at which the host's last commit is `seqno`, found by a refresh. HistoryError when that is not retained, or not found for
        a while."""
        if owned(self.lock):
            return self._moment_of(seqno)
        deadline = time.monotonic() + _HOST_SECONDS
        while True:
            with self.lock:
                self._catch_up()
                # The writer has not written the outcome yet, but the host's commit has decided it.
                if self.host_seqno < seqno and self._used and self._used[-1].settle_by_host(seqno):
                    self._publish()
                if self.host_seqno >= seqno:
                    return self._moment_of(seqno)
            if time.monotonic() >= deadline:
                raise HistoryError(f"the host's commit {seqno} is not in {self.directory}, where the last is {self.host_seqno}")
            time.sleep(_PAUSE)

    # From what is on disk to a moment

    def _catch_up(self, first: bool = False) -> bool:
        started_over = False
        for _ in range(_ATTEMPTS):
            problem: CorruptionError | None = None
            try:
                self._follow()
                if first:
                    refuse_lost_wals(self.fs, self.directory, self._manifest.version, self.keyring)
            except CorruptionError as error:
                problem = error
            except FileNotFoundError as error:
                problem = CorruptionError(str(error.filename), None, "the file is gone", "restore it from a backup")
            if self._manifest.advance():
                continue  # Whatever was wrong was so because the manifest had gone on.
            if problem is None:
                return self._publish()
            if started_over:
                raise problem
            started_over = True  # Not to depend on what was remembered: an interrupt may have cut it short.
            self._adopted = None
            self._tails = {}
            self._manifest.start_over()
        raise LockedError(f"{self.directory} changes faster than it can be read; try again")

    def _follow(self) -> None:
        """Open what the version names, and read its WALs as far as they go."""
        version = self._manifest.version
        if version is not self._adopted:
            self._open_tables(version)
            self._open_wals(version)
            self._adopted = version
        tails = list(self._tails.values())
        used: list[WalTail] = []
        for number, tail in enumerate(tails):
            later = tails[number + 1].wal.first.previous if number + 1 < len(tails) else None
            used.append(tail)
            if not tail.follow(version, used[number - 1].result if number else None, later):
                break
        self._used = tuple(used)

    def _open_tables(self, version: Version) -> None:
        for record in version.tables():
            if record.file_id not in self._tables:
                place = self.fs, self.directory, record, self.keyring, self.cache
                table = open_table(*place, database_id=self.database_id, repairs=self.repairs, options=self.options)
                self._tables[record.file_id] = table
                self.opened += 1
                require_known(table, version)
            else:
                self._tables[record.file_id].pin(record.level < self.options.pin_index, record.level < self.options.pin_filter)
        self.blobs.follow(self._tables[record.file_id] for record in version.tables())

    def _open_wals(self, version: Version) -> None:
        tails: dict[int, WalTail] = {}
        for wal_id in version.wals:
            tail = self._tails.get(wal_id)
            if tail is None:
                wal = open_catalog(self.fs, self.directory, wal_id, version, self.database_id, self.keyring)
                tail = self._tails[wal_id] = WalTail(self.fs, wal, version, self.options.memtable_bytes)
                self._open.add(tail)
            tails[wal_id] = tail
        learn_lengths([tail.wal for tail in tails.values()], version)
        self._tails = tails

    def _publish(self) -> bool:
        """Publish what was read; False if that is nothing new."""
        version, tails = self._manifest.version, self._used
        last = tails[-1].result if tails else Replayed()
        mark = version.number, tails, last.seqno, last.previous, last.host_seqno
        if mark == self._mark:
            if self._recent or self._unused.waiting:
                self._let_go()
            return False
        before = self.published if self._mark else None
        live = before.state.live if before else None
        if live is None or live.version is not version:
            live = LiveVersion(version, self._tables, live, self.blobs.newest)
            self._unused.watch(live)
        state = ReadState(tuple(tail.generation for tail in reversed(tails)), live)
        self._states.add(state)
        # Not the floor, nor what snapshots say: commits below it may be on their way into the WAL yet (durability "off").
        published = Published(state, max(last.seqno, version.last_seqno, before.seqno if before else 0))
        if before and before.state.live is not live:
            self._recent.append(_Position(time.monotonic() + _RECENT_SECONDS, before, self._mark[1]))
        self._mark = mark
        self.host_seqno = max(version.host_seqno, last.host_seqno)
        self.published = published
        if before is None:
            self.moments = HeldMoments(published)
        self.moments.newest = published
        for tree in list(self.trees.values()):
            tree.move_to(published)
        self.refreshes += 1
        self._let_go()
        return True

    def _let_go(self) -> None:
        """Close what neither the newest moment nor anyone else needs."""
        recent, now = self._recent, time.monotonic()
        while recent and (recent[0].until < now or len(recent) > _RECENT_MAX):
            recent.popleft()
        self.moments.drain()
        kept = self.published.state.live.tables
        gone = [file_id for file_id in self._tables if file_id not in kept]
        self._unused.add_tables((file_id, "", self._tables.pop(file_id)) for file_id in gone)
        self._unused.collect()
        needed = {*self._tails.values(), *(tail for position in recent for tail in position.tails)}
        for tail in self._open - needed:
            tail.close()
        self._open &= needed

    # Where a host is

    @property
    def _written_to(self) -> bool:
        return self.fs.is_locked(self.fs.join(self.directory, file_name(FileKind.LOCK)))

    def _require_agreement(self, host: Host) -> None:
        """HistoryError unless the host has committed the same, or is just doing so. UsageError if the directory is another host's."""
        host.require_its_own(self.directory, self.database_id)
        if self.host_seqno < host.committed and self._used and self._used[-1].settle_by_host(host.committed):
            self._publish()
        if self.host_seqno != host.committed and not self._written_to:  # Who holds the lock has seen to that.
            self._catch_up()
            host.require_agreement(self.directory, self.host_seqno)

    def _require_decided(self) -> None:
        """UsageError if a commit is prepared that nobody here can decide."""
        if not self._prepared or self._written_to:
            return  # Who holds the lock will.
        self._catch_up()  # It may have done so, and let go, since it was read.
        if self._prepared:
            raise undecided(self._used[-1].wal.path, self._prepared)

    @property
    def _prepared(self) -> Record | None:
        return self._used[-1].prepared if self._used else None

    def _moment_of(self, seqno: int) -> Published:
        """As `host_moment`, of what was read so far."""
        newest = self.published
        if self.host_seqno == seqno:
            return newest
        # The host has gone on since; commits in between were not the host's.
        for position in (_Position(0, newest, self._used), *reversed(self._recent)):
            published = position.published
            if published.state.version.floor <= seqno:
                state = published.state if seqno <= published.seqno else self._extended(position, seqno)
                if state is not None:
                    return Published(state, seqno)
        require_retained(seqno, newest)
        return Published(newest.state, seqno)

    def _extended(self, position: _Position, seqno: int) -> ReadState | None:
        """An older version with the WALs that were written since, up to a seqno; None if one of them is not here any more."""
        chain = list(position.tails)
        later = [tail for tail in self._used if not chain or tail.wal.wal_id > chain[-1].wal.wal_id]
        try:
            for number, tail in enumerate(chain):
                after = chain[number + 1 :] or later
                tail.follow(self._manifest.version, None, after[0].wal.first.previous if after else None)
        except Error:
            return None
        for tail in later:
            if not chain or tail.wal.first.previous != chain[-1].result.previous:
                break
            chain.append(tail)
        if not chain or chain[-1].result.host_seqno < seqno:
            return None
        state = ReadState(tuple(tail.generation for tail in reversed(chain)), position.published.state.live)
        self._states.add(state)
        return state

    # The end

    def shut(self, message: str) -> None:
        """Make every state, held by views too, raise ClosedError. Takes no lock: the child of a fork calls it as well."""
        self.blobs.shared.closed = message
        for state in list(self._states):
            state.close(message)

    def close(self) -> None:
        """Close every file."""
        for tail in self._open:
            tail.close()
        for table in self._tables.values():
            close_table(table)
        self._unused.close_tables()
        self.blobs.close()
        self._manifest.close()


def _find_current(fs: FileSystem, directory: str) -> Current:
    try:
        current = read_current(fs, directory)
    except CorruptionError:
        if not fs.exists(fs.join(directory, file_name(FileKind.CURRENT))):
            raise
        current = read_current(fs, directory)  # It was made, or replaced, while it was looked for.
    if current is None:
        raise UsageError(f"there is no database in {directory}")
    return current
