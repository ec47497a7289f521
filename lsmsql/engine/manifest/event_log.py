"""events-N: the edits since the snapshot manifest-N, as a record log whose id is the generation N (docs/formats.md, "Event log").

Record 0 is LOG_START: the edit number of the snapshot, and as payload the database id and the snapshot's digest. Every further record is an
EDIT (events.py) whose number is one above the one before.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import CorruptionError
from ..storage.encryption import FileCipher
from ..storage.filenames import FileKind, file_name
from ..storage.filesystem import FileSystem
from ..storage.record_log import LogState, Record, RecordKind, RecordLogWriter, scan_records
from .advice import REBUILD, RECOVERY
from .current import Current
from .events import decode_edit, encode_edit
from .version import Version
from .version_edit import VersionEdit


class EventLog:
    """The event log of one new generation, for appending. One thread at a time."""

    def __init__(self, fs: FileSystem, directory: str, current: Current, number: int, cipher: FileCipher | None, time_us: int) -> None:
        """Make `events-<generation>` and start it at the edit number of its snapshot. Nothing is durable yet, and need not be: until the first
        edit a log without a whole record says the same, so that edit's sync is the first one needed. The name is the caller's to sync."""
        file = fs.create(fs.join(directory, file_name(FileKind.EVENT_LOG, current.generation)))
        self._writer = RecordLogWriter(file, current.generation, cipher)
        try:
            self._writer.append(RecordKind.LOG_START, _start_payload(current), number, number, time_us)
        except BaseException:
            self._writer.close()
            raise

    @property
    def length(self) -> int:
        """Bytes so far."""
        return self._writer.length

    def append(self, edit: VersionEdit, number: int, time_us: int) -> None:
        """Make an edit durable. After an OSError it is not known whether it is, and the log takes nothing more."""
        self._writer.append(RecordKind.EDIT, encode_edit(edit), number, number - 1, time_us)
        self._writer.sync()  # What the edit names may be deleted or relied on as soon as this returns.

    def close(self) -> None:
        self._writer.close()


class Replayed(NamedTuple):
    """version: after the last edit; whole: the log ends with a whole record, so nothing was left out that may have been there."""

    version: Version
    whole: bool


def replay(
    fs: FileSystem, directory: str, current: Current, snapshot: Version, cipher: FileCipher | None, recovery: str = "tolerate_tail"
) -> Replayed:
    """The version after every edit in the event log of a generation. recovery: options.recovery.

    A torn tail is what an unfinished append leaves: CorruptionError in mode "absolute", left out in the others. Damage before the end is
    CorruptionError in "absolute" and "tolerate_tail"; "point_in_time" and "skip_corrupt" leave out everything from there on, since an edit says
    nothing without those before it. A gap, or an edit that does not fit, is CorruptionError in any."""
    path = fs.join(directory, file_name(FileKind.EVENT_LOG, current.generation))
    try:
        data = fs.read(path)
    except FileNotFoundError:
        raise CorruptionError(path, None, "the event log of the generation in CURRENT is missing", REBUILD) from None
    records, end = scan_records(path, data, current.generation, cipher)
    if end.state is LogState.CORRUPT and recovery in ("absolute", "tolerate_tail"):
        raise CorruptionError(path, end.offset, end.reason, f"edits behind the damage would be lost: {RECOVERY}, or {REBUILD}")
    if end.state is LogState.TORN and recovery == "absolute":
        raise CorruptionError(path, end.offset, end.reason, RECOVERY)
    version = snapshot
    for record in records:
        version = after_record(path, version, record, current)
    return Replayed(version, end.state is LogState.CLEAN)


def after_record(path: str, version: Version, record: Record, current: Current) -> Version:
    """The version after one more record of the event log; CorruptionError when it cannot be the next."""
    if record.ordinal == 0:
        if record.kind != RecordKind.LOG_START or record.seqno != version.number or record.payload != _start_payload(current):
            raise CorruptionError(path, record.offset, "the event log does not start at the manifest snapshot of its generation", REBUILD)
        return version
    if record.kind != RecordKind.EDIT or record.seqno != version.number + 1 or record.previous != version.number:
        raise CorruptionError(path, record.offset, f"record {record.seqno} of kind {record.kind} instead of edit {version.number + 1}", REBUILD)
    try:
        after = version.apply(decode_edit(record.payload))
        after.require_room()
    except ValueError as error:
        raise CorruptionError(path, record.offset, f"edit {record.seqno} makes no sense: {error}", REBUILD) from None
    return after


def _start_payload(current: Current) -> bytes:
    return current.database_id + current.snapshot.digest
