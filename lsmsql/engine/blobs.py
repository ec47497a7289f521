"""Blobs: the blob store of an open database, as reads and garbage collection see it. It is opened when something first needs it.

What of a frame is alive is what the tables that can still be read link of it: those of the newest version, and of older ones that a view holds. So
a frame is freed when the last of them is closed, which is after the edit that dropped it was durable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from ..errors import ClosedError, CorruptionError
from ..parity_scheme import ParityScheme
from .blob import FrameStore, SlotStore, ValueStore
from .blob.frame_store import FrameStatistics
from .blob.pointer import BlobPointer, parse_pointer
from .blob.slot_map_log import read_slot_map
from .blob.value_frame import ENTRY_BYTES, HEADER_BYTES
from .blob.value_stream import ValueStream
from .kernel import Kind, Table
from .storage.filenames import FileKind, file_name, parse_file_name
from .storage.filesystem import FileSystem
from .storage.keyring import Keyring
from .storage.parity import Repairs

_RELOCATE_BYTES = 16 << 20  # of live values, in one step
_PUNCH_SHARE = 16  # Free space is given back once what was left since then is more than one part in so many of what lives.


class Shared:
    """What all that read one blob store have in common. closed: why nothing is read any more, "" while it is. reads: values that were asked for."""

    def __init__(self) -> None:
        self.closed = ""
        self.reads = 0


class ReadBlobs:
    """The blob store for reading: a `ValueSource` of the kernels."""

    def __init__(self, shared: Shared | None = None) -> None:
        self.shared = shared or Shared()

    @property
    def closed(self) -> str:
        return self.shared.closed

    def store(self) -> ValueStore:
        """Where the values are; ClosedError once it is closed."""
        raise NotImplementedError

    def statistics(self) -> FrameStatistics:
        return self.store().statistics()

    def read(self, key: bytes, pointer: bytes) -> bytes:
        """The value of a key; CorruptionError, naming key, frame and place, if it is damaged beyond repair."""
        self.shared.reads += 1
        try:
            return self.store().read(self._parsed(pointer))
        except CorruptionError as error:
            raise _of_key(key, error) from None

    def read_many(self, keys: Sequence[bytes], pointers: Sequence[bytes]) -> list[bytes]:
        if len(keys) > 1:
            try:
                found = self.store().read_many([self._parsed(pointer) for pointer in pointers])
                self.shared.reads += len(keys)
                return found
            except CorruptionError:
                pass  # One by one, to tell whose value it is.
        return [self.read(key, pointer) for key, pointer in zip(keys, pointers, strict=True)]

    def open(self, key: bytes, pointer: bytes, on_close: Callable[[], None]) -> ValueStream:
        """A value as a file, which reads a stretch at a time. Errors as of `read`."""
        self.shared.reads += 1
        return ValueStream(partial(self._stretch, key), self._parsed(pointer), on_close)

    def _stretch(self, key: bytes, frame_id: int, ordinal: int, raw_length: int) -> bytes:
        try:
            return self.store().read_stretch(frame_id, ordinal, raw_length)
        except CorruptionError as error:
            raise _of_key(key, error) from None

    def _parsed(self, pointer: bytes) -> BlobPointer:
        try:
            return parse_pointer(pointer)
        except ValueError as error:
            raise CorruptionError(self.store().frames.path, None, f"an SSTable points nowhere: {error}") from None


class Blobs(ReadBlobs):
    """Of a database that writes. See the module. relocated_bytes: written by garbage collection."""

    def __init__(self, fs: FileSystem, directory: str, database_id: bytes, keyring: Keyring | None, repairs: Repairs) -> None:
        super().__init__()
        self.path = fs.join(directory, file_name(FileKind.BLOBS))
        self._fs = fs
        self._directory = directory
        self._database_id = database_id
        self._keyring = keyring
        self._repairs = repairs
        self._store: ValueStore | None = None
        self._lock = threading.RLock()
        self._links: dict[int, list[int]] = {}  # frame id -> values and stored bytes that tables which can be read lead to
        self._linking: set[int] = set()  # ids of those tables
        self._settled: dict[int, int] = {}  # frames that were relocated, or cannot be -> live bytes then
        self._freed = 0  # frames since the last sync
        self._left_bytes = 0  # by frames that were freed or relocated, and not given back to the file system
        self._links_changed = 0
        self._quiet = -1  # what that was when no garbage was found
        self.relocated_bytes = 0

    # What there is

    def store(self) -> ValueStore:
        if self.closed:
            raise ClosedError(self.closed)
        return self._store or self.writable()

    @property
    def is_open(self) -> bool:
        """Whether the database has a blob store."""
        return self._store is not None

    def writable(self) -> ValueStore:
        with self._lock:
            if self.closed:
                raise ClosedError(self.closed)
            if self._store is None:
                place = self._fs, self._directory, self._database_id, self._keyring
                self._store = ValueStore(SlotStore(*place, others_read=self._others_read, repairs=self._repairs), *place[2:], repairs=self._repairs)
            return self._store

    def _others_read(self) -> bool:
        """Whether another process, or this one, has the directory open for reading only (engine rule 24)."""
        path = self._fs.join(self._directory, file_name(FileKind.READERS))
        return self._fs.is_locked(path, shared=True)

    def require_linked(self, tables: Iterable[Table]) -> None:
        """CorruptionError unless the slot map has every frame that these tables link. Nothing is written."""
        linked = {link.file_id for table in tables for link in table.source.links}
        if linked:
            known = read_slot_map(self._fs, self._directory, self._database_id, self._keyring, self._repairs)
            require_frames(self.path, linked, known.records)

    def recover(self, tables: Iterable[Table], intact: bool) -> None:
        """Begin with the tables of the recovered version. intact: nothing may name a frame that they do not link, so those are freed."""
        for table in tables:
            self.link(table)
        if self._links or any(_is_map(name) for name in self._fs.list(self._directory)):
            store = self.writable()
            if intact:
                store.keep_only(self._links.keys())

    # Garbage

    def link(self, table: Table) -> None:
        """A table that can be read from now on."""
        links = table.source.links
        if links:
            with self._lock:
                self._linking.add(id(table))
                for frame_id, values, _, stored_bytes in links:
                    live = self._links.setdefault(frame_id, [0, 0])
                    live[0] += values
                    live[1] += stored_bytes

    def unlink(self, table: Table) -> None:
        """A table that was linked, and that nobody can read any more: what only it led to is freed."""
        with self._lock:
            if self.closed or id(table) not in self._linking:
                return
            self._linking.remove(id(table))
            self._links_changed += 1
            dead = []
            for frame_id, values, _, stored_bytes in table.source.links:
                live = self._links[frame_id]
                live[0] -= values
                live[1] -= stored_bytes
                if not live[0]:
                    dead.append(frame_id)
                    self._left_bytes += self.writable().frames.record(frame_id).length
                    del self._links[frame_id]
                    self._settled.pop(frame_id, None)
            if dead:
                self.writable().free(dead)
                self._freed += len(dead)

    def poor_frames(self, live_share: float) -> list[int]:
        """Frames of whose values less than this share is alive, those that give back most first; at most some MiB of live bytes."""
        store = self._store
        if store is None or not live_share:
            return []
        with self._lock:
            poor = []
            for frame_id, (_, live) in self._links.items():
                if self._settled.get(frame_id, 1 << 62) > live:
                    room = _value_bytes(store.frames, frame_id)
                    if live < live_share * room:
                        poor.append((live / room, frame_id, live))
        chosen: list[int] = []
        budget = _RELOCATE_BYTES
        for _, frame_id, live in sorted(poor):
            budget -= live
            if chosen and budget < 0:
                break
            chosen.append(frame_id)
        return chosen

    def garbage_due(self, live_share: float) -> bool:
        """Whether there is something to `relocate`, or freed and not synced."""
        if self._store is None or self._quiet == self._links_changed:
            return False
        if self._freed or self.poor_frames(live_share):
            return True
        self._quiet = self._links_changed
        return False

    def relocate(self, frame_ids: Collection[int], tables: Iterable[Table], pace: Callable[[int], None]) -> None:
        """Write frames again without their dead values. tables: all that can be read, and stay so meanwhile. pace: called after each frame.

        A frame that is damaged stays as it is."""
        live = _live_ordinals(set(frame_ids), tables)
        store = self.store()
        for frame_id in frame_ids:
            with self._lock:
                if frame_id not in self._links:
                    continue
                alive = self._links[frame_id][1]
            try:
                record = store.frames.record(frame_id)
                dead = set(range(record.values)) - live.get(frame_id, set())
                if live.get(frame_id):
                    self.relocated_bytes += store.relocate({frame_id: dead})
                    self._left_bytes += record.length
            except CorruptionError:
                pass  # Whoever reads the value learns of it.
            with self._lock:
                self._settled[frame_id] = alive
            pace(0)

    def sync(self) -> None:
        """Make what was freed and relocated durable, and give back what is free, if that is much."""
        store = self._store
        if store is not None:
            self._freed = 0
            store.sync()
            if self._left_bytes * _PUNCH_SHARE > store.statistics().live_bytes:
                self._left_bytes = 0
                store.frames.punch()

    def statistics(self) -> FrameStatistics:
        return self._store.statistics() if self._store is not None else FrameStatistics()

    def live_value_bytes(self) -> int:
        """Stored bytes of all values that tables lead to."""
        with self._lock:
            return sum(live for _, live in self._links.values())

    def close(self) -> None:
        self.shared.closed = self.closed or "the database is closed"
        if self._store is not None:
            self._store.close()


def require_frames(path: str, linked: Iterable[int], known: Collection[int]) -> None:
    """CorruptionError for the first frame that is linked and not known."""
    missing = sorted(set(linked).difference(known))
    if missing:
        raise CorruptionError(
            path, None, f"frame {missing[0]} is not in the slot map, and an SSTable points into it", "restore the directory from a backup"
        )


def _of_key(key: bytes, error: CorruptionError) -> CorruptionError:
    return CorruptionError(error.path, error.offset, f"the value of key {key[:100]!r}: {error.message}", error.advice)


def _is_map(name: str) -> bool:
    parsed = parse_file_name(name)
    return parsed is not None and parsed.kind in (FileKind.SLOT_MAP, FileKind.BLOBS)


def _value_bytes(frames: FrameStore, frame_id: int) -> int:
    """About what the values of a frame take in it, without its directory and parity; at least 1."""
    record = frames.record(frame_id)
    scheme = ParityScheme.of_code(record.parity)
    body = record.length * scheme.d // (scheme.d + scheme.p) if scheme else record.length
    return max(1, body - HEADER_BYTES - record.values * ENTRY_BYTES)


def _live_ordinals(frame_ids: set[int], tables: Iterable[Table]) -> dict[int, set[int]]:
    """Of frames: which of their values any table leads to."""
    live: dict[int, set[int]] = {}
    for table in tables:
        if frame_ids.isdisjoint(link.file_id for link in table.source.links):
            continue
        for number in range(table.blocks):
            block = table.block(number, False)
            for kind, value in zip(block.kinds(), block.values(), strict=True):
                if kind == Kind.BLOB_POINTER:
                    pointer = parse_pointer(value)
                    for frame_id in pointer.frames:
                        if frame_id in frame_ids:
                            live.setdefault(frame_id, set()).add(pointer.ordinal)
    return live
