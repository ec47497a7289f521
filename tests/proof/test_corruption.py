"""Damage to files at rest: the right answer, repaired where parity covers it; CorruptionError with the file and the place; or an earlier whole
state that nothing later depends on.

Never another exception, a wrong answer, a hang, or a loss of more than was damaged. By default what stands twice, is covered by parity or is
padding is sampled; LSMSQL_LONG=1 flips every byte of every file in two ways.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import pytest

import lsmsql
from lsmsql.engine.sstable.table_of_contents import SECTOR_BYTES, parse_sector
from lsmsql.engine.storage.filenames import FileKind, parse_file_name
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from tests.proof.judge import LONG
from tests.proof.small_databases import OPTIONS, SECRETS, AtRest, closed, cut_short, ingested, rows, with_parity
from tests.proof.workload import KEY, open_database, seen

SECONDS_MAX = 5.0
MAKERS = {"closed": closed, "cut short": cut_short, "ingested": ingested, "rows": rows, "with parity": with_parity}


@lru_cache
def at_rest(name: str, encrypted: bool) -> AtRest:
    return MAKERS[name](KEY if encrypted else None)


@dataclass(frozen=True)
class Verdict:
    """state: how many changes short of the final state was found, or None; error: what was raised instead."""

    state: int | None
    error: lsmsql.CorruptionError | lsmsql.KeyUnavailableError | None = None


def verdict(database: AtRest, files: dict[str, bytes], said: str) -> Verdict:
    """Open, read everything, close. AssertionError for what may never happen."""
    began = time.monotonic()
    engine = None
    try:
        _, engine = database.opened(files)
        now = seen(engine)
    except (lsmsql.CorruptionError, lsmsql.KeyUnavailableError) as error:
        found = Verdict(None, error)
    except Exception as error:
        raise AssertionError(f"{said}: {error!r}") from error
    else:
        states = [number for number, state in enumerate(database.states) if state == now]
        assert states, f"{said}: a wrong answer: {now}"
        found = Verdict(len(database.states) - 1 - states[-1])
    finally:
        if engine is not None:
            engine.close()
    assert time.monotonic() - began < SECONDS_MAX, f"{said}: took too long"
    return found


def kind_of(path: str) -> FileKind:
    parsed = parse_file_name(path.rpartition("/")[2])
    assert parsed is not None
    return parsed.kind


def stride(database: AtRest, path: str, offset: int) -> int:
    """How many bytes from one that is tried to the next."""
    if LONG:
        return 1
    kind = kind_of(path)
    if kind in (FileKind.WAL, FileKind.EVENT_LOG):
        return 1 if database.key is None else 4
    if kind is FileKind.SSTABLE and read_through(database, path, offset):
        # What parity covers, and what stands twice; most of it is zero.
        return 29 if any(database.files[path][offset : offset + 509]) else 509
    if database.name in ("ingested", "with parity"):
        return 11 if kind is FileKind.SSTABLE else 71
    if kind is FileKind.CURRENT:
        return 1
    if kind in (FileKind.KEYS, FileKind.MANIFEST):
        return 3 if offset % 4096 < 200 else 61
    return 1 if database.name == "closed" and database.key is None else 7


def read_through(database: AtRest, path: str, offset: int) -> bool:
    """Whether this byte of an SSTable is covered by parity, stands twice, or says nothing."""
    data = database.files[path]
    return database.name == "with parity" or offset >= parse_sector(data[-SECTOR_BYTES:], len(data)).sections[0].end


def places(database: AtRest) -> Iterator[tuple[str, int]]:
    for path, data in sorted(database.files.items()):
        if path.endswith("LOCK"):
            continue
        offset = 0
        while offset < len(data):
            yield path, offset
            offset += stride(database, path, offset)


CASES = pytest.mark.parametrize(("name", "encrypted"), [(name, encrypted) for name in MAKERS for encrypted in (False, True)])


@CASES
def test_a_database_at_rest_is_what_it_was(name: str, encrypted: bool) -> None:
    database = at_rest(name, encrypted)
    assert verdict(database, database.files, name) == Verdict(0)
    kinds = {kind_of(path) for path in database.files if not path.endswith("LOCK")}
    assert kinds >= {FileKind.CURRENT, FileKind.MANIFEST, FileKind.EVENT_LOG, FileKind.WAL, FileKind.SSTABLE}


@CASES
def test_no_flipped_byte_goes_unnoticed(name: str, encrypted: bool) -> None:
    database = at_rest(name, encrypted)
    outcomes: Counter[str] = Counter()
    for number, (path, offset) in enumerate(places(database)):
        for mask in (1 << offset * 5 % 8, 0xFF) if LONG else (1 << offset * 5 % 8,):
            damaged = bytearray(database.files[path])
            damaged[offset] ^= mask
            files = {**database.files, path: bytes(damaged)}
            said = f"{name}, {path}, byte {offset} of {len(damaged)} ^ {mask}"
            found = verdict(database, files, said)
            outcomes[f"{kind_of(path).name} {found.state if found.error is None else type(found.error).__name__}"] += 1
            check_flip(database, path, offset, found, said)
            if number % 41 == 0:
                assert_nothing_more_is_lost(database, path, files, said)
    print(name, encrypted, dict(outcomes))
    assert outcomes["SSTABLE 0"] > 100 if name == "with parity" else outcomes["SSTABLE CorruptionError"] > 30


def check_flip(database: AtRest, path: str, offset: int, found: Verdict, said: str) -> None:
    kind = kind_of(path)
    if kind is FileKind.SSTABLE and read_through(database, path, offset):
        assert found == Verdict(0), f"{said}: not repaired: {found}"
    if found.error is None:
        earlier = kind is FileKind.WAL and path == newest_wal(database) and offset >= last_record(database, path)
        # The last record of the newest WAL looks as if its append had never ended. Anything else is told from that.
        assert found.state == 0 or (earlier and found.state == 1), f"{said}: {found.state} changes are lost"
        return
    assert isinstance(found.error, lsmsql.CorruptionError), f"{said}: {found.error!r}"
    assert found.error.path == path or kind is FileKind.EVENT_LOG, f"{said}: blames {found.error}"
    if found.error.path == path:
        assert found.error.offset is not None and 0 <= found.error.offset <= offset, f"{said}: blames {found.error}"
    assert str(found.error.offset or "") in str(found.error) and found.error.message


def newest_wal(database: AtRest) -> str:
    return max(path for path in database.files if path.endswith(".wal"))


def records(data: bytes) -> list[int]:
    """Where each record of a log begins, and the end."""
    starts = [0]
    while starts[-1] < len(data):
        starts.append(starts[-1] + 64 + int.from_bytes(data[starts[-1] + 40 : starts[-1] + 44], "little"))
    assert starts[-1] == len(data)
    return starts


def last_record(database: AtRest, path: str) -> int:
    return records(database.files[path])[-2]


def assert_nothing_more_is_lost(database: AtRest, path: str, files: dict[str, bytes], said: str) -> None:
    """A failed attempt to open and read changes nothing that the undamaged file would not make good."""
    fs, engine = None, None
    fs = MemoryFileSystem(files, ["db"])
    try:
        engine = open_database(fs, None, database.key)
        seen(engine)
    except lsmsql.Error:
        left = fs.files()
        if path in left or path not in files:
            left[path] = database.files[path]
            assert verdict(database, left, f"{said}, then healed") == Verdict(0), f"{said}: healing the file does not heal the database"
    finally:
        if engine is not None:
            engine.close()


@CASES
def test_no_truncation_goes_unnoticed(name: str, encrypted: bool) -> None:
    database = at_rest(name, encrypted)
    outcomes: Counter[str] = Counter()
    for path, length in places(database):
        said = f"{name}, {path} cut to {length} of {len(database.files[path])} bytes"
        found = verdict(database, {**database.files, path: database.files[path][:length]}, said)
        outcomes[f"{kind_of(path).name} {found.state if found.error is None else type(found.error).__name__}"] += 1
        if found.error is None and found.state:
            assert path == newest_wal(database), f"{said}: {found.state} changes are lost"
            whole = [start for start in records(database.files[path])[1:] if start <= length]
            assert found.state == len(records(database.files[path])) - 1 - len(whole), f"{said}: {found.state} changes are lost"
    print(name, encrypted, dict(outcomes))
    assert outcomes["SSTABLE CorruptionError"] > 30


@CASES
def test_a_missing_file_is_noticed(name: str, encrypted: bool) -> None:
    database = at_rest(name, encrypted)
    for path in database.files:
        found = verdict(database, {other: data for other, data in database.files.items() if other != path}, f"{name} without {path}")
        if path.endswith("LOCK") or path in orphans(database):
            assert found == Verdict(0), path
        elif path.endswith("KEYS"):
            assert isinstance(found.error, lsmsql.KeyUnavailableError)
        elif kind_of(path) is FileKind.CURRENT:
            assert isinstance(found.error, lsmsql.CorruptionError) and found.error.path == path
        else:
            assert isinstance(found.error, lsmsql.CorruptionError) and found.error.path == path and "missing" in found.error.message


def orphans(database: AtRest) -> set[str]:
    """Files that opening removes."""
    fs, engine = database.opened()
    named = {record.file_id for record in engine._line.version.tables()}
    engine.close()
    gone = {path for path in database.files if path not in fs.files()}
    del named
    return {path for path in gone if path.endswith(".sst")} if database.name == "cut short" else set()


@CASES
def test_junk_behind_a_file_is_noticed_or_left_out(name: str, encrypted: bool) -> None:
    database = at_rest(name, encrypted)
    for path, data in database.files.items():
        if path.endswith("LOCK"):
            continue
        for junk in (b"\0", b"\0" * 5000, b"junk" * 100, data, data[-70:], data[:200]):
            said = f"{name}, {path} and {len(junk)} bytes of junk"
            found = verdict(database, {**database.files, path: data + junk}, said)
            assert found.error is not None or found.state == 0, f"{said}: {found.state} changes are lost"


@CASES
def test_files_in_each_other_s_place_are_noticed(name: str, encrypted: bool) -> None:
    database = at_rest(name, encrypted)
    others = at_rest(name, encrypted), MAKERS[name](KEY if encrypted else None)
    paths = [path for path in sorted(database.files) if not path.endswith("LOCK")]
    for first in paths:
        for second in paths:
            if first < second:
                files = {**database.files, first: database.files[second], second: database.files[first]}
                found = verdict(database, files, f"{name}, {first} and {second} swapped")
                assert found.error is not None, f"{name}, {first} and {second} swapped: unnoticed"
        # The file of that name of another database, made in the same way with the same key. Without encryption a snapshot may be the same.
        other = others[1].files.get(first)
        if other not in (None, database.files[first]) and first not in orphans(database):
            found = verdict(database, {**database.files, first: other}, f"{name}, {first} of another database")
            assert found.error is not None or (found.state == 0 and kind_of(first) is FileKind.KEYS), (
                f"{name}, {first} of another database: unnoticed"
            )


def test_an_older_file_in_the_place_of_a_newer_one_is_noticed_or_an_earlier_state() -> None:
    """Every file of every moment of a life, put back into the database at its end."""
    from tests.proof.fault_filesystem import FaultFileSystem
    from tests.proof.small_databases import _grow
    from tests.proof.workload import Life

    life = Life(FaultFileSystem(), OPTIONS)
    moments: list[dict[str, bytes]] = []
    life.fs.watch = lambda operation: moments.append(life.fs.files()) if operation.kind in ("sync", "sync_directory", "rename") else None
    base = _grow(life)
    life.close()
    final = {path: data for path, data in life.fs.files().items() if not path.endswith("LOCK")}
    database = AtRest("older", None, final, tuple(state.visible() for state in life.states), base)
    tried: set[tuple[str, bytes]] = set(final.items())
    outcomes: Counter[Any] = Counter()
    for files in moments:
        for path, data in files.items():
            if (path, data) in tried or path.endswith("LOCK"):
                continue
            tried.add((path, data))
            said = f"an older {path} of {len(data)} bytes"
            found = verdict(database, {**final, path: data}, said)
            outcomes[path in final, found.state, type(found.error).__name__] += 1
            if path not in final:  # It was rightly removed: to find it again changes nothing.
                assert found == Verdict(0), f"{said}: {found}"
            elif found.error is None and found.state:
                assert path == newest_wal(database), f"{said}: {found.state} changes are lost"
    print(outcomes)
    assert len(tried) > 30


@pytest.mark.parametrize("mode", ["absolute", "point_in_time", "skip_corrupt"])
@pytest.mark.parametrize(("name", "encrypted"), [("closed", False), ("cut short", True)])
def test_what_a_damaged_wal_means_is_chosen_by_the_recovery_mode(name: str, encrypted: bool, mode: str) -> None:
    """absolute: an error. point_in_time: an earlier whole state. skip_corrupt: every commit whole or gone. And so it is from then on."""
    database = at_rest(name, encrypted)
    options = replace(OPTIONS, recovery=mode)
    subsets = without_some(database)
    outcomes: Counter[str] = Counter()
    for path in sorted(path for path in database.files if path.endswith(".wal")):
        starts = records(database.files[path])
        for offset in range(0, len(database.files[path]), 1 if LONG else 3):
            said = f"{mode}, {name}, {path}, byte {offset}"
            damaged = bytearray(database.files[path])
            damaged[offset] ^= 1 << offset % 8
            fs = MemoryFileSystem({**database.files, path: bytes(damaged)}, ["db"])
            try:
                engine = open_database(fs, options, database.key)
            except lsmsql.CorruptionError as error:
                assert error.path == path, said
                # The catalog was durable before anything named the file: no mode does without it.
                assert mode == "absolute" or offset < starts[1], f"{said}: {error}"
                outcomes["error"] += 1
                continue
            now = seen(engine)
            engine.close()
            with open_database(fs, replace(OPTIONS, recovery="tolerate_tail"), database.key) as engine:
                assert seen(engine) == now, f"{said}: what was found once is not found again"
            assert mode != "absolute", f"{said}: unnoticed"
            if mode == "point_in_time":
                assert now in database.states, f"{said}: never was: {now}"
                outcomes["earlier" if now != database.final else "final"] += 1
            else:
                assert now in subsets, f"{said}: a commit is half there: {now}"
                outcomes["subset"] += 1
    print(outcomes)
    assert sum(outcomes.values()) > 100


def without_some(database: AtRest) -> list[Any]:
    """Every state that leaving out one or more of the last commits gives."""
    last = len(database.states) - 1 - database.base
    found = []
    for picks in product((False, True), repeat=last):
        trees = {name: dict(rows) for name, rows in database.states[database.base]["trees"].items()}
        for number, pick in enumerate(picks):
            if pick:
                before, after = (database.states[database.base + number + more]["trees"] for more in (0, 1))
                for name in trees:
                    for key in before[name].keys() | after[name].keys():
                        if before[name].get(key) != after[name].get(key):
                            trees[name].pop(key, None)
                            trees[name].update({key: after[name][key]} if key in after[name] else {})
        found.append({**database.final, "trees": trees})
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_of_an_encrypted_database_can_be_read(name: str) -> None:
    plain, database = at_rest(name, False), at_rest(name, True)
    for secret in SECRETS:
        assert any(secret in data for path, data in plain.files.items()) or secret == SECRETS[2], "the search itself finds what is there"
        for path, data in database.files.items():
            assert secret not in data and secret not in path.encode(), f"{secret!r} stands in {path}"


def test_a_wrong_key_opens_nothing_and_changes_nothing() -> None:
    database = at_rest("closed", True)
    for key, error in ((bytes(32), lsmsql.KeyUnavailableError), (None, lsmsql.KeyUnavailableError), ("passphrase", lsmsql.KeyUnavailableError)):
        fs = MemoryFileSystem(database.files, ["db"])
        with pytest.raises(error):
            open_database(fs, None, key)
        assert {path: data for path, data in fs.files().items() if path in database.files} == database.files
        with open_database(fs, None, KEY) as engine:
            assert seen(engine) == database.final
    with pytest.raises(lsmsql.UsageError):
        open_database(MemoryFileSystem(at_rest("closed", False).files, ["db"]), None, KEY)
