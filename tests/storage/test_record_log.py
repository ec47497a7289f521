"""The record log: what was written is read, what was torn is cut, what was damaged is told apart from that."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from lsmsql.engine.storage import record_log
from lsmsql.engine.storage.encryption import OVERHEAD, FileCipher
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.storage.record_log import (
    HEADER_BYTES,
    LogEnd,
    LogState,
    Record,
    RecordKind,
    RecordLogWriter,
    open_payload,
    record_header,
    scan_records,
    seal_payload,
)
from lsmsql.errors import UsageError
from tests.proof.fault_filesystem import FaultFileSystem

LOG_ID = 9
PAYLOADS = [b"", b"first", bytes(40), b"\xff" * 30, LOG_ID.to_bytes(8, "little") * 4]


def cipher_of(log_id: int = LOG_ID, key: bytes = b"k" * 32, epoch: int = 1) -> FileCipher:
    return FileCipher(key, b"d" * 16, log_id, epoch)


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def cipher(request: pytest.FixtureRequest) -> FileCipher | None:
    return cipher_of() if request.param else None


def written(payloads: list[bytes], cipher: FileCipher | None, log_id: int = LOG_ID) -> tuple[bytes, list[int]]:
    """(the file, the offset of each record and of the end)."""
    fs = MemoryFileSystem()
    writer = RecordLogWriter(fs.create("log"), log_id, cipher)
    offsets = [writer.append(RecordKind.COMMIT, payload, 10 + i, 9 + i, 1000 + i) for i, payload in enumerate(payloads)]
    return fs.read("log"), [*offsets, writer.length]


def payloads_of(records: list[Record]) -> list[bytes]:
    return [record.payload for record in records]


def test_the_header_is_the_documented_one() -> None:
    header = record_header(RecordKind.COMMIT, 1, 2, 3, 4, 5, b"payload", 6, 7)
    fields = struct.pack("<HHQQQQIIQQ", 2, 1, 2, 3, 4, 5, 7, 6, 7, xxhash.xxh3_64_intdigest(b"payload"))
    assert header == struct.pack("<I", xxhash.xxh3_64_intdigest(fields) & 0xFFFFFFFF) + fields
    assert len(header) == HEADER_BYTES == 64
    assert [(kind.name, kind.value) for kind in RecordKind] == [
        ("CATALOG", 1),
        ("COMMIT", 2),
        ("PREPARE", 3),
        ("OUTCOME_COMMIT", 4),
        ("OUTCOME_ABORT", 5),
        ("EDIT", 6),
        ("LOG_START", 7),
        ("SLOT_CHANGE", 8),
        ("TREES", 9),
    ]


def test_round_trip(cipher: FileCipher | None) -> None:
    data, offsets = written(PAYLOADS, cipher)
    records, end = scan_records("log", data, LOG_ID, cipher)
    assert end == LogEnd(LogState.CLEAN, len(data))
    assert payloads_of(records) == PAYLOADS
    assert [record.offset for record in records] == offsets[:-1]
    for i, record in enumerate(records):
        assert record.length == offsets[i + 1] - offsets[i] == HEADER_BYTES + len(PAYLOADS[i]) + (OVERHEAD if cipher else 0)
        assert (record.kind, record.ordinal, record.seqno, record.previous, record.time_us) == (RecordKind.COMMIT, i, 10 + i, 9 + i, 1000 + i)
        assert record.epoch == (1 if cipher else 0)
    assert scan_records("log", b"", LOG_ID, cipher) == ([], LogEnd(LogState.CLEAN, 0))


@given(st.lists(st.tuples(st.binary(max_size=200), st.integers(0, 2**64 - 1)), max_size=8), st.integers(1, 2**64 - 1), st.booleans())
def test_anything_comes_back(items: list[tuple[bytes, int]], log_id: int, encrypted: bool) -> None:
    cipher = cipher_of(log_id) if encrypted else None
    fs = MemoryFileSystem()
    writer = RecordLogWriter(fs.create("log"), log_id, cipher)
    for payload, number in items:
        writer.append(RecordKind.EDIT, memoryview(payload), number, 2**64 - 1 - number, number)
    records, end = scan_records("log", fs.read("log"), log_id, cipher)
    assert end.state is LogState.CLEAN
    assert [(record.payload, record.seqno, record.previous, record.time_us) for record in records] == [
        (payload, number, 2**64 - 1 - number, number) for payload, number in items
    ]


def test_an_encrypted_log_shows_nothing() -> None:
    data, _ = written([b"secret" * 20], cipher_of())
    assert b"secret" not in data


def test_a_large_payload_is_not_copied_into_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = FaultFileSystem()
    writer = RecordLogWriter(fs.create("log"), LOG_ID)
    large = bytes(1 << 20)
    writer.append(RecordKind.COMMIT, b"small", 1, 0, 0)
    offset = writer.append(RecordKind.COMMIT, large, 2, 1, 0)
    assert [operation.detail for operation in fs.operations if operation.kind == "append"] == ["69", "64", str(1 << 20)]
    assert offset == 69 and writer.length == 69 + 64 + (1 << 20)
    assert payloads_of(scan_records("log", fs.read("log"), LOG_ID)[0]) == [b"small", large]


def test_a_packed_record_is_written_as_it_is() -> None:
    fs = FaultFileSystem()
    writer = RecordLogWriter(fs.create("log"), LOG_ID)
    writer.append(RecordKind.CATALOG, b"trees", 0, 0, 0)
    header = record_header(RecordKind.COMMIT, 0, LOG_ID, writer.ordinal, 1, 0, b"batch", 0, 5)
    assert writer.append_packed(memoryview(header + b"batch")) == 69
    assert (writer.ordinal, writer.length) == (2, 138)
    records, end = scan_records("log", fs.read("log"), LOG_ID)
    assert payloads_of(records) == [b"trees", b"batch"] and end.state is LogState.CLEAN


def test_durable_is_what_was_appended_before_the_sync() -> None:
    fs = FaultFileSystem()
    file = fs.create("log")
    writer = RecordLogWriter(file, LOG_ID)
    writer.append(RecordKind.COMMIT, b"one", 1, 0, 0)
    assert writer.durable == 0
    inner = file.sync

    def append_meanwhile() -> None:
        inner()
        writer.append(RecordKind.COMMIT, b"two", 2, 1, 0)

    file.sync = append_meanwhile  # type: ignore[method-assign]
    writer.sync()
    assert (writer.durable, writer.length) == (67, 134)
    file.sync = inner  # type: ignore[method-assign]
    writer.sync()
    assert writer.durable == 134
    writer.close()
    assert not fs.open_files


@pytest.mark.parametrize("kind", ["append", "sync"])
def test_a_failure_poisons_the_log(kind: str) -> None:
    fs = FaultFileSystem()
    writer = RecordLogWriter(fs.create("log"), LOG_ID)
    writer.append(RecordKind.COMMIT, b"one", 1, 0, 0)
    writer.sync()
    fs.fail(kind, code=errno.ENOSPC)
    with pytest.raises(OSError) as first:
        writer.append(RecordKind.COMMIT, b"two", 2, 1, 0)
        writer.sync()
    assert first.value.errno == errno.ENOSPC and writer.error is first.value
    before = fs.read("log")
    for call in (lambda: writer.append(RecordKind.COMMIT, b"three", 3, 2, 0), lambda: writer.append_packed(b"x" * 64), writer.sync):
        with pytest.raises(OSError, match="takes nothing more") as later:
            call()
        assert later.value.errno == errno.ENOSPC
    assert fs.read("log") == before and writer.durable == 67
    assert payloads_of(scan_records("log", before, LOG_ID)[0])[:1] == [b"one"]


def test_an_interrupt_in_the_middle_of_a_write_poisons_too() -> None:
    fs = FaultFileSystem()
    file = fs.create("log")
    writer = RecordLogWriter(file, LOG_ID)

    def interrupted(_data: object) -> None:
        raise KeyboardInterrupt

    file.append = interrupted  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        writer.append(RecordKind.COMMIT, b"one", 1, 0, 0)
    with pytest.raises(OSError, match="KeyboardInterrupt"):
        writer.append(RecordKind.COMMIT, b"two", 2, 1, 0)


def test_limits_are_usage_errors_and_do_not_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RecordLogWriter(MemoryFileSystem().create("log"), LOG_ID)
    monkeypatch.setattr(record_log, "PAYLOAD_BYTES_MAX", 3)
    with pytest.raises(UsageError, match="3 bytes"):
        writer.append(RecordKind.COMMIT, b"four", 1, 0, 0)
    writer.append(RecordKind.COMMIT, b"one", 1, 0, 0)
    monkeypatch.setattr(record_log, "RECORDS_MAX", 1)
    with pytest.raises(UsageError, match="1 records"):
        writer.append(RecordKind.COMMIT, b"two", 1, 0, 0)
    assert writer.error is None


def test_every_truncation_is_a_torn_tail(cipher: FileCipher | None) -> None:
    data, offsets = written(PAYLOADS, cipher)
    for size in range(len(data) + 1):
        records, end = scan_records("log", data[:size], LOG_ID, cipher)
        whole = sum(offset <= size for offset in offsets[1:])
        assert payloads_of(records) == PAYLOADS[:whole]
        assert end.offset == offsets[whole]
        assert end.state is (LogState.CLEAN if size in offsets else LogState.TORN)
        assert end.resume is None and ("cut short" in end.reason) is (end.state is LogState.TORN)


def test_every_zeroed_tail_is_a_torn_tail(cipher: FileCipher | None) -> None:
    data, offsets = written(PAYLOADS, cipher)
    for size in range(len(data)):
        if data[size:].strip(b"\0") == b"":
            continue  # Zeros over zeros are no damage.
        torn = data[:size].ljust(len(data), b"\0")
        records, end = scan_records("log", torn, LOG_ID, cipher)
        whole = sum(data[:offset] == torn[:offset] for offset in offsets[1:])
        assert (payloads_of(records), end.state, end.offset) == (PAYLOADS[:whole], LogState.TORN, offsets[whole])


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_found(cipher: FileCipher | None, flip: int) -> None:
    data, offsets = written(PAYLOADS, cipher)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= flip
        records, end = scan_records("log", bytes(damaged), LOG_ID, cipher)
        hit = sum(offset <= at for offset in offsets) - 1
        assert payloads_of(records) == PAYLOADS[:hit]
        assert end.offset == offsets[hit]
        last = hit == len(PAYLOADS) - 1
        assert end.state is (LogState.TORN if last else LogState.CORRUPT), f"byte {at}"
        assert end.resume == (None if last else (offsets[hit + 1], hit + 1))


def test_reading_goes_on_behind_damage_when_asked(cipher: FileCipher | None) -> None:
    data, offsets = written(PAYLOADS, cipher)
    damaged = bytearray(data)
    damaged[offsets[1] + 20] ^= 1
    damaged[offsets[3] + HEADER_BYTES] ^= 1
    found: list[bytes] = []
    states = []
    start = (0, 0)
    for _ in range(10):
        records, end = scan_records("log", bytes(damaged), LOG_ID, cipher, offset=start[0], ordinal=start[1])
        found += payloads_of(records)
        states.append(end.state)
        if end.resume is None:
            break
        start = end.resume
    assert found == [PAYLOADS[i] for i in (0, 2, 4)]
    assert states == [LogState.CORRUPT, LogState.CORRUPT, LogState.CLEAN]


def test_a_lost_start_is_corruption_that_can_be_resumed(cipher: FileCipher | None) -> None:
    data, offsets = written(PAYLOADS, cipher)
    records, end = scan_records("log", data[offsets[2] :], LOG_ID, cipher)
    assert (records, end.state, end.offset, end.resume) == ([], LogState.CORRUPT, 0, (0, 2))
    records, end = scan_records("log", data[offsets[2] :], LOG_ID, cipher, offset=0, ordinal=2)
    assert payloads_of(records) == PAYLOADS[2:] and end.state is LogState.CLEAN


def test_a_missing_or_doubled_or_swapped_record_is_corruption(cipher: FileCipher | None) -> None:
    data, offsets = written(PAYLOADS, cipher)
    parts = [data[offsets[i] : offsets[i + 1]] for i in range(len(PAYLOADS))]
    for order, good in {(0, 2, 3): 1, (0, 1, 1, 2): 2, (1, 0): 0, (0, 2, 1): 1, (0, 1, 2, 3, 4, 4): 5}.items():
        records, end = scan_records("log", b"".join(parts[i] for i in order), LOG_ID, cipher)
        assert (len(records), end.state) == (good, LogState.CORRUPT), order


def test_a_log_of_another_id_or_key_is_corruption() -> None:
    data, _ = written(PAYLOADS, cipher_of())
    for log_id, cipher in [(LOG_ID + 1, cipher_of(LOG_ID + 1)), (LOG_ID, cipher_of(key=b"x" * 32)), (LOG_ID, None)]:
        records, end = scan_records("log", data, log_id, cipher)
        assert (records, end.state, end.offset) == ([], LogState.CORRUPT, 0)
    plain, _ = written(PAYLOADS, None)
    assert scan_records("log", plain, LOG_ID, cipher_of())[1].state is LogState.CORRUPT


def forged(payload: bytes = b"p", **fields: int) -> bytes:
    values = {"kind": 2, "flags": 0, "log_id": LOG_ID, "ordinal": 0, "seqno": 1, "previous": 0, "epoch": 0, "time_us": 0} | fields
    order = ("kind", "flags", "log_id", "ordinal", "seqno", "previous")
    return record_header(*(values[name] for name in order), payload, values["epoch"], values["time_us"]) + payload


@pytest.mark.parametrize(
    "fields", [{"kind": 0}, {"kind": 10}, {"kind": 65535}, {"flags": 2}, {"flags": 0x8001}, {"ordinal": 1 << 63}, {"log_id": LOG_ID + 1}]
)
def test_a_valid_header_with_impossible_fields_is_corruption(fields: dict[str, int]) -> None:
    assert scan_records("log", forged(), LOG_ID)[1].state is LogState.CLEAN
    records, end = scan_records("log", forged(**fields), LOG_ID)
    assert (records, end.state) == ([], LogState.CORRUPT)


def test_an_unknown_epoch_is_corruption() -> None:
    sealed = seal_payload(RecordKind.COMMIT, 0, b"x", cipher_of(epoch=2))
    data = forged(sealed, flags=1, epoch=2)
    assert scan_records("log", data, LOG_ID, cipher_of(epoch=2))[1].state is LogState.CLEAN
    end = scan_records("log", data, LOG_ID, cipher_of(epoch=1))[1]
    assert end.state is LogState.CORRUPT and "epoch 2" in end.reason


def test_a_sealed_payload_opens_only_in_its_place() -> None:
    cipher = cipher_of()
    sealed = seal_payload(RecordKind.COMMIT, 3, b"payload", cipher)
    assert open_payload(RecordKind.COMMIT, 3, 1, sealed, cipher) == b"payload"
    for kind, ordinal, other in [(RecordKind.PREPARE, 3, cipher), (RecordKind.COMMIT, 4, cipher), (RecordKind.COMMIT, 3, cipher_of(LOG_ID + 1))]:
        with pytest.raises(ValueError):
            open_payload(kind, ordinal, 1, sealed, other)


def test_a_value_that_holds_an_old_piece_of_the_log_does_not_make_a_tear_corruption() -> None:
    before, _ = written([b"a", b"b"], None)
    data, offsets = written([b"a", b"b", b"x" + before + b"y" * 50], None)
    for size in range(offsets[2], len(data)):
        assert scan_records("log", data[:size], LOG_ID)[1].state in (LogState.TORN, LogState.CLEAN)


def test_a_damaged_header_before_a_payload_full_of_headerlike_numbers_is_read_quickly() -> None:
    for log_id in (1, 1 << 16, 0x0001_0001_0001_0001):
        data, _ = written([log_id.to_bytes(8, "little") * (1 << 17)], None, log_id)
        end = scan_records("log", b"\xff" + data[1:], log_id)[1]
        assert end.state is LogState.TORN


def junk() -> Iterator[bytes]:
    yield from (b"\0" * size for size in (1, 63, 64, 65, 4096))
    yield from (b"\xff" * size for size in (1, 63, 64, 65, 4096))


@pytest.mark.parametrize("tail", list(junk()), ids=len)
def test_junk_behind_the_last_record_is_a_torn_tail(cipher: FileCipher | None, tail: bytes) -> None:
    data, _ = written(PAYLOADS, cipher)
    records, end = scan_records("log", data + tail, LOG_ID, cipher)
    assert (payloads_of(records), end.state, end.offset) == (PAYLOADS, LogState.TORN, len(data))


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_make_reading_raise(data: bytes, encrypted: bool) -> None:
    records, end = scan_records("log", data, LOG_ID, cipher_of() if encrypted else None)
    assert records == [] and end.offset == 0
