"""The header of a WAL record, filled in where the record lies."""

from __future__ import annotations

from ...storage.record_log import HEADER_BYTES, PAYLOAD_BYTES_MAX, record_header


def fill_record_header(
    record: memoryview, kind: int, flags: int, log_id: int, ordinal: int, seqno: int, previous: int, epoch: int, time: int
) -> None:
    """Fill in the 64 bytes at the beginning of a whole record (a writable buffer) whose stored payload stands behind them."""
    if not 0 <= len(record) - HEADER_BYTES <= PAYLOAD_BYTES_MAX:
        raise ValueError(f"{len(record)} bytes are no record")
    record[:HEADER_BYTES] = record_header(kind, flags, log_id, ordinal, seqno, previous, record[HEADER_BYTES:], epoch, time)
