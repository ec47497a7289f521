"""Files that the manifest no longer names: removed as soon as no live version holds them."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Callable, Iterable

from .kernel import Table
from .read_state import LiveVersion
from .sstable.reader import close_table
from .storage.filenames import FileKind, parse_file_name
from .storage.filesystem import FileSystem


class ObsoleteFiles:
    """removed: files removed so far. A file that cannot be removed is tried again at every `collect`; after a crash the next opening of
    the database removes it as an orphan.

    departed: file ids of what no version names any more and may still be found, now or after a power loss that undoes its removal. Every table
    written meanwhile names them (Properties.obsolete), so that no rebuilt manifest takes them in. Changed and read in single steps."""

    def __init__(self, fs: FileSystem, closed: Callable[[Table], None] = lambda _: None) -> None:
        """closed: told of each table that nobody can read any more."""
        self._fs = fs
        self._closed = closed
        self.lock = threading.RLock()  # Taken twice by what a signal handler or finalizer does in between.
        self._live: weakref.WeakSet[LiveVersion] = weakref.WeakSet()
        self._tables: dict[int, tuple[str, Table]] = {}
        self._paths: list[str] = []
        self.departed: set[int] = set()
        self._unlinked: set[int] = set()  # of those: removed, but not durably
        self.removed = 0

    def watch(self, live: LiveVersion) -> None:
        with self.lock:
            self._live.add(live)

    def add_tables(self, tables: Iterable[tuple[int, str, Table]]) -> None:
        """(file id, path, open table) that the newest version does not hold any more."""
        with self.lock:
            self._tables.update((file_id, (path, table)) for file_id, path, table in tables)

    def held(self) -> list[LiveVersion]:
        """Every version that anyone may read; they stay as long as the list does."""
        with self.lock:
            return list(self._live)

    def add_path(self, path: str) -> None:
        """A file that nobody reads."""
        with self.lock:
            self._paths.append(path)

    def depart(self, file_ids: Iterable[int]) -> None:
        """Note ids whose files no version names from here on."""
        self.departed.update(file_ids)

    def discarded(self, file_id: int) -> None:
        """Note a file that was given up and removed before any version named it."""
        self.departed.add(file_id)
        self._unlinked.add(file_id)

    def listed(self) -> tuple[int, ...]:
        """What has departed, ascending."""
        return tuple(sorted(self.departed.copy()))

    def sync_directory(self, fs: FileSystem, directory: str) -> None:
        """Sync it, and with it every removal so far."""
        gone = tuple(self._unlinked)
        fs.sync_directory(directory)
        self._unlinked.difference_update(gone)
        self.departed.difference_update(gone)

    @property
    def waiting(self) -> int:
        return len(self._tables) + len(self._paths)

    def collect(self) -> int:
        """Close and remove what no live version needs, and return how much must wait. Never raises for a file that stays."""
        if not self.waiting:
            return 0
        with self.lock:
            live = list(self._live)
            for file_id in [file_id for file_id in self._tables if not any(file_id in version.tables for version in live)]:
                path, table = self._tables.pop(file_id)
                close_table(table)
                self._closed(table)
                self._paths.append(path)
            self._paths = [path for path in self._paths if not self.remove(path)]
            return self.waiting

    def remove(self, path: str) -> bool:
        """False if it stays."""
        try:
            self._fs.remove(path)
        except FileNotFoundError:
            pass
        except OSError:
            return False  # Not fatal: the manifest does not name it, so it costs space only.
        self.removed += 1
        parsed = parse_file_name(re.split(r"[\\/]", path)[-1])
        if parsed is not None and parsed.kind in (FileKind.SSTABLE, FileKind.WAL):
            self.discarded(parsed.number)
        return True

    def close_tables(self) -> None:
        """Close what is still waiting, at the end of the database's life."""
        with self.lock:
            for _, table in self._tables.values():
                close_table(table)
            self._tables.clear()
