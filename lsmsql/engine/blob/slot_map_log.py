"""The slot map on disk: slots-N, a snapshot, and slotlog-N, the changes since, one checked record for each sync (docs/formats.md, "Slot map").

The highest N whose snapshot is there counts. A generation begins by its log, made and its name durable, then its snapshot, under a temporary name,
synced, renamed: so a snapshot that is there is whole and has its log. Nothing is appended to the log of an earlier run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from ...errors import CorruptionError
from ..storage.encryption import FileCipher
from ..storage.filenames import FileKind, file_name, parse_file_name, temporary_name
from ..storage.filesystem import FileSystem
from ..storage.keyring import Keyring
from ..storage.parity import Repairs
from ..storage.record_log import LogState, RecordKind, RecordLogWriter, scan_records
from .frame_record import FrameRecord, MapChange, check_places, pack_change, parse_change
from .slot_map_file import pack_snapshot, parse_snapshot

MAP_BYTES = 1 << 20
MAP_RATIO = 4
_KEY_ID = 1 << 63  # Slot map N is encrypted as file 2^63 + N, so under a key of its own.


class SlotMap:
    """What is durable of a slot map. records: by frame id; next_frame_id: above every id in them and ever freed; generation: 0 if there is none."""

    def __init__(self, generation: int = 0, next_frame_id: int = 1, records: dict[int, FrameRecord] | None = None) -> None:
        self.generation = generation
        self.next_frame_id = next_frame_id
        self.records = records if records is not None else {}

    def apply(self, change: MapChange) -> None:
        """ValueError if it frees what is not there or takes back ids."""
        if change.next_frame_id < self.next_frame_id or any(frame_id not in self.records for frame_id in change.freed):
            raise ValueError("it frees a frame that is not there, or gives ids out again")
        self.next_frame_id = change.next_frame_id
        for frame_id in change.freed:
            del self.records[frame_id]
        self.records.update((record.frame_id, record) for record in change.placed)


def read_slot_map(fs: FileSystem, directory: str, database_id: bytes, keyring: Keyring | None, repairs: Repairs | None = None) -> SlotMap:
    """The newest slot map in a directory; nothing is written. CorruptionError where damage would lose frames: all but the torn end of the log."""
    generation = max(_generations(fs, directory), default=0)
    if not generation:
        return SlotMap()
    cipher = _cipher(keyring, generation)
    path = fs.join(directory, file_name(FileKind.SLOT_MAP, generation))
    next_frame_id, records, digest = parse_snapshot(path, fs.read(path), database_id, generation, cipher, repairs)
    found = SlotMap(generation, next_frame_id, {record.frame_id: record for record in records})
    path = fs.join(directory, file_name(FileKind.SLOT_LOG, generation))
    try:
        data = fs.read(path)
    except FileNotFoundError:
        raise CorruptionError(path, None, "the log of the slot map is missing", "restore the directory from a backup") from None
    changes, end = scan_records(path, data, generation, cipher)
    if end.state is LogState.CORRUPT:
        raise CorruptionError(path, end.offset, end.reason, "changes behind the damage would be lost")
    for record in changes:
        try:
            if record.ordinal == 0:
                if record.kind != RecordKind.LOG_START or record.payload != database_id + digest:
                    raise ValueError("the log does not start at the snapshot of its generation")
            elif record.kind != RecordKind.SLOT_CHANGE:
                raise ValueError(f"a record of kind {record.kind}")
            else:
                found.apply(parse_change(record.payload))
        except ValueError as error:
            raise CorruptionError(path, record.offset, f"the change makes no sense: {error}") from None
    try:
        check_places(found.records.values())  # Not between records: that is where a frame may move to what another leaves in the same change.
    except ValueError as error:
        raise CorruptionError(path, None, str(error)) from None
    return found


class SlotMapLog:
    """The slot map of one writer, over the file of a new generation. One thread at a time. After an OSError nothing more can be written.

    durable: the map as it will be found; after an error it may be that or the one after the change that failed.
    """

    def __init__(
        self, fs: FileSystem, directory: str, database_id: bytes, keyring: Keyring | None, durable: SlotMap, map_bytes: int, map_ratio: int
    ) -> None:
        """Begin the generation after `durable`'s. map_bytes, map_ratio: the log is long when it has so many bytes and is so many times as long as its
        snapshot."""
        self._fs = fs
        self._directory = directory
        self._database_id = database_id
        self._keyring = keyring
        self._map_bytes, self._map_ratio = map_bytes, map_ratio
        self._snapshot_bytes = 0
        self._writer: RecordLogWriter | None = None
        self.durable = durable
        try:
            self.begin_generation()
        except BaseException:
            self.close()
            raise

    @property
    def is_long(self) -> bool:
        """Whether it is time for `begin_generation`."""
        assert self._writer is not None
        return self._writer.length >= max(self._map_bytes, self._map_ratio * self._snapshot_bytes)

    def append(self, change: MapChange) -> None:
        """Make a change durable."""
        assert self._writer is not None
        number = self._writer.ordinal
        self._writer.append(RecordKind.SLOT_CHANGE, pack_change(change), number, number - 1, time.time_ns() // 1000)
        self._writer.sync()  # A version edit may name what was placed, and the units of what was freed may be written, as soon as this returns.
        self.durable.apply(change)

    def begin_generation(self) -> None:
        """Write the whole map anew, and go on in an empty log."""
        fs, directory, durable = self._fs, self._directory, self.durable
        generation = durable.generation + 1
        snapshot = file_name(FileKind.SLOT_MAP, generation)
        temporary = fs.join(directory, temporary_name(snapshot))
        log = fs.join(directory, file_name(FileKind.SLOT_LOG, generation))
        for leftover in (temporary, log):  # Of a crash between the lines below: without its snapshot a log says nothing.
            if fs.exists(leftover):
                fs.remove(leftover)
        cipher = _cipher(self._keyring, generation)
        data, digest = pack_snapshot(self._database_id, generation, durable.next_frame_id, list(durable.records.values()), cipher)
        writer = RecordLogWriter(fs.create(log), generation, cipher)
        try:
            writer.append(RecordKind.LOG_START, self._database_id + digest, 0, 0, time.time_ns() // 1000)
            fs.sync_directory(directory)  # The name of the log, and of the data file, before any snapshot that needs them.
            file = fs.create(temporary)
            try:
                file.append(data)
                file.sync()
            finally:
                file.close()
            fs.rename(temporary, fs.join(directory, snapshot))  # A crash here leaves this generation or the one before, which say the same.
            fs.sync_directory(directory)  # Before the first change goes to the new log, and before the old one is removed.
        except BaseException:
            writer.close()
            raise
        self.close()
        self._writer, self._snapshot_bytes = writer, len(data)
        durable.generation = generation
        self._remove_older(generation)

    def _remove_older(self, generation: int) -> None:
        for name in self._fs.list(self._directory):
            parsed = parse_file_name(name)
            if parsed and parsed.kind in (FileKind.SLOT_MAP, FileKind.SLOT_LOG) and parsed.number < generation:
                self._fs.remove(self._fs.join(self._directory, name))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _generations(fs: FileSystem, directory: str) -> Iterator[int]:
    for name in fs.list(directory):
        parsed = parse_file_name(name)
        if parsed and parsed.kind is FileKind.SLOT_MAP:
            yield parsed.number


def _cipher(keyring: Keyring | None, generation: int) -> FileCipher | None:
    return keyring.cipher(_KEY_ID + generation) if keyring else None
