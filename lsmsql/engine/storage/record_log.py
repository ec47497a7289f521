"""Checked records one after another in one file: the WAL, the event log and the slot map's log.

Record: a header of 64 bytes, little-endian, then the payload (docs/formats.md, "Record"):

    0 u32 check: low 32 bits of XXH3-64 over header bytes 4..64   4 u16 kind   6 u16 flags (1 encrypted)
    8 u64 log id   16 u64 ordinal in the file, from 0   24 u64 seqno or edit number   32 u64 the previous one
    40 u32 payload length as stored   44 u32 key epoch   48 u64 wall-clock time, microseconds since the Unix epoch
    56 u64 XXH3-64 of the stored payload

A sealed payload is bound to its log id, kind and ordinal.
"""

from __future__ import annotations

import re
import struct
from enum import Enum, IntEnum
from typing import NamedTuple, NoReturn

from ...errors import KeyUnavailableError, UsageError
from .checksum import checksum32, checksum64
from .encryption import FileCipher
from .filesystem import Bytes, File


class RecordKind(IntEnum):
    """What a record holds. On disk: never renumber."""

    CATALOG = 1
    COMMIT = 2
    PREPARE = 3
    OUTCOME_COMMIT = 4
    OUTCOME_ABORT = 5
    EDIT = 6
    LOG_START = 7
    SLOT_CHANGE = 8
    TREES = 9


HEADER_BYTES = 64
FLAG_ENCRYPTED = 1
PAYLOAD_BYTES_MAX = (1 << 32) - 1
RECORDS_MAX = 1 << 32  # The ordinal is 32 bits wide in the associated data.
SECTION_RECORD = 0x80  # Section type of a sealed payload: this plus the record kind; frame types stay below.

_FIELDS = struct.Struct("<HHQQQQIIQQ")
_CHECK = struct.Struct("<I")
_HEADER = struct.Struct("<IHHQQQQIIQQ")
_KINDS = frozenset(RecordKind)
_JOIN_BYTES_MAX = 64 << 10  # Up to here one copy is cheaper than a second write.


def record_header(kind: int, flags: int, log_id: int, ordinal: int, seqno: int, previous: int, stored: Bytes, epoch: int, time_us: int) -> bytes:
    """The 64 bytes before the stored payload `stored`."""
    fields = _FIELDS.pack(kind, flags, log_id, ordinal, seqno, previous, len(stored), epoch, time_us, checksum64(stored))
    return _CHECK.pack(checksum32(fields)) + fields


def seal_payload(kind: int, ordinal: int, payload: Bytes, cipher: FileCipher) -> bytes:
    """The stored form of a payload in an encrypted log; `FileCipher.file_id` is the log id."""
    return cipher.seal(SECTION_RECORD + kind, ordinal, 0, 0, payload)


def open_payload(kind: int, ordinal: int, epoch: int, stored: Bytes, cipher: FileCipher) -> bytes:
    """The inverse of `seal_payload`; ValueError if it is damaged, out of place, or of an epoch that KEYS has not."""
    try:
        return cipher.at(epoch).open(SECTION_RECORD + kind, ordinal, 0, 0, stored)
    except KeyUnavailableError:
        raise ValueError(f"key epoch {epoch} is not in KEYS") from None


class RecordLogWriter:
    """Appends records to one new file. One thread at a time; `sync` may run beside `append`.

    log_id: of the log, in every header; ordinal: of the next record; length: bytes appended;
    durable: bytes known to survive a power loss; error: what poisoned the log, or None.

    After a failed append or sync the end of the file is unknown, so every later one raises OSError: a record behind a
    torn one would never be found, and a second sync would claim what the first one lost.
    """

    __slots__ = ("_file", "cipher", "durable", "error", "length", "log_id", "ordinal")

    def __init__(self, file: File, log_id: int, cipher: FileCipher | None = None) -> None:
        self._file = file
        self.log_id = log_id
        self.cipher = cipher
        self.ordinal = 0
        self.length = 0
        self.durable = 0
        self.error: BaseException | None = None

    @property
    def path(self) -> str:
        return self._file.path

    def append(self, kind: int, payload: Bytes, seqno: int, previous: int, time_us: int) -> int:
        """Write one record, sealed if the log has a cipher. Returns the offset of its header."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise UsageError(f"a record may hold {PAYLOAD_BYTES_MAX} bytes, not {len(payload)}")
        if self.ordinal >= RECORDS_MAX:
            raise UsageError(f"{self.path} holds {RECORDS_MAX} records and takes no more")
        flags = epoch = 0
        cipher = self.cipher
        if cipher is not None:
            flags, epoch = FLAG_ENCRYPTED, cipher.epoch
            payload = seal_payload(kind, self.ordinal, payload, cipher)
        header = record_header(kind, flags, self.log_id, self.ordinal, seqno, previous, payload, epoch, time_us)
        if len(payload) <= _JOIN_BYTES_MAX:
            return self._write(b"".join((header, payload)), b"")
        return self._write(header, payload)

    def append_packed(self, record: Bytes) -> int:
        """Write one record whose header and stored payload stand together already, under this log's id and next ordinal.

        This is how a batch goes from the memtable's arena to the file without a copy."""
        return self._write(record, b"")

    def _write(self, first: Bytes, second: Bytes) -> int:
        if self.error is not None:
            self._refuse()
        offset = self.length
        try:
            self._file.append(first)
            if second:
                self._file.append(second)  # A crash in between leaves a header without its payload: a torn tail.
        except BaseException as error:
            self.error = error
            raise
        self.length = offset + len(first) + len(second)
        self.ordinal += 1
        return offset

    def sync(self) -> None:
        """Make what has been appended before this call durable."""
        if self.error is not None:
            self._refuse()
        length = self.length  # Before the sync: what is appended meanwhile may or may not be covered.
        try:
            self._file.sync()
        except BaseException as error:
            self.error = error
            raise
        self.durable = max(self.durable, length)

    def _refuse(self) -> NoReturn:
        code = self.error.errno if isinstance(self.error, OSError) else None
        raise OSError(code, f"the log takes nothing more since a write failed ({self.error!r})", self.path) from self.error

    def close(self) -> None:
        self._file.close()


class Record(NamedTuple):
    """One record that passed every check. offset, length: of header and payload in the file; payload: decrypted."""

    offset: int
    length: int
    kind: int
    ordinal: int
    seqno: int
    previous: int
    epoch: int
    time_us: int
    payload: bytes


class LogState(Enum):
    """How a log ends."""

    CLEAN = "clean"  # With a whole record, or empty.
    TORN = "torn"  # With bytes that an interrupted append may leave.
    CORRUPT = "corrupt"  # Something that was whole once is damaged, or is not this log's.


class LogEnd(NamedTuple):
    """Where reading a log ended and why.

    offset: where the good part ends; reason: which check failed there ("" when clean); resume: when a later header of this
    log is valid, (its offset, its ordinal), where `scan_records` can be asked to go on; else None.
    """

    state: LogState
    offset: int
    reason: str = ""
    resume: tuple[int, int] | None = None


def scan_records(
    path: str, data: bytes, log_id: int, cipher: FileCipher | None = None, *, offset: int = 0, ordinal: int = 0
) -> tuple[list[Record], LogEnd]:
    """The records of a whole log file, up to the first that fails a check, and what that failure is.

    path: for messages; data: the file; cipher: of this file, None if the database is not encrypted;
    offset, ordinal: where to start and which ordinal must stand there (see `LogEnd.resume`). Never raises for what is in `data`.
    """
    records: list[Record] = []
    size = len(data)
    while offset < size:
        found = _read_record(path, data, offset, log_id, ordinal, cipher)
        if not isinstance(found, Record):
            resume = _later_header(data, offset, log_id, ordinal)
            state = LogState.CORRUPT if found.state is LogState.CORRUPT or resume else LogState.TORN
            return records, LogEnd(state, offset, found.reason, resume)
        records.append(found)
        offset += found.length
        ordinal += 1
    return records, LogEnd(LogState.CLEAN, offset)


def _read_record(path: str, data: bytes, offset: int, log_id: int, ordinal: int, cipher: FileCipher | None) -> Record | LogEnd:
    """The record at `offset`, or the reason why there is none; CORRUPT where no interrupted append explains it."""
    start = offset + HEADER_BYTES
    if start > len(data):
        return LogEnd(LogState.TORN, offset, f"record header is cut short: {len(data) - offset} of {HEADER_BYTES} bytes")
    check, kind, flags, its_log, its_ordinal, seqno, previous, length, epoch, time_us, digest = _HEADER.unpack_from(data, offset)
    if check != checksum32(data[offset + 4 : start]):
        return LogEnd(LogState.TORN, offset, "record header check does not match")
    if its_log != log_id or its_ordinal != ordinal:
        return LogEnd(LogState.CORRUPT, offset, f"record {its_ordinal} of log {its_log} instead of record {ordinal} of log {log_id}")
    if kind not in _KINDS or flags & ~FLAG_ENCRYPTED:
        return LogEnd(LogState.CORRUPT, offset, f"record kind {kind}, flags {flags:#06x} are unknown")
    if flags & FLAG_ENCRYPTED and cipher is None:
        return LogEnd(LogState.CORRUPT, offset, "record is encrypted, but the database is not")
    if not flags & FLAG_ENCRYPTED and cipher is not None:
        return LogEnd(LogState.CORRUPT, offset, "record is not encrypted, but the database is")
    if length > len(data) - start:
        return LogEnd(LogState.TORN, offset, f"record payload is cut short: {len(data) - start} of {length} bytes")
    payload = data[start : start + length]
    if digest != checksum64(payload):
        return LogEnd(LogState.TORN, offset, "record payload checksum does not match")
    if cipher is not None:
        try:
            payload = open_payload(kind, ordinal, epoch, payload, cipher)
        except ValueError as error:
            return LogEnd(LogState.CORRUPT, offset, f"record {error}")
    return Record(offset, HEADER_BYTES + length, kind, its_ordinal, seqno, previous, epoch, time_us, payload)


def _later_header(data: bytes, offset: int, log_id: int, ordinal: int) -> tuple[int, int] | None:
    """(offset, ordinal) of the first valid header of this log from `offset` on whose ordinal is `ordinal` or above,
    but not of record `ordinal` at `offset` itself: that is the bad one.

    The ordinal keeps out a value that holds an old piece of this very log: it can only hold headers of earlier records."""
    # Kind and flags before the id, so that a payload full of small numbers does not cost a checksum for each of them.
    pattern = re.compile(rb"(?=[\x01-\x09]\x00[\x00\x01]\x00" + re.escape(log_id.to_bytes(8, "little")) + rb")", re.DOTALL)
    for match in pattern.finditer(data, offset + 4):
        start = match.start() - 4
        if start + HEADER_BYTES > len(data):
            break
        check, _, _, _, its_ordinal, *_ = _HEADER.unpack_from(data, start)
        if (start, its_ordinal) == (offset, ordinal) or its_ordinal < ordinal:
            continue
        if check == checksum32(data[start + 4 : start + HEADER_BYTES]):
            return start, its_ordinal
    return None
