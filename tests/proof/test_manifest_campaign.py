"""Damage to the manifest of a whole database: the right contents, an earlier whole state that nothing later depends on, or CorruptionError saying
what may help; and never a table removed on the way. Sampled; LSMSQL_LONG=1 takes every byte and every length.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

import lsmsql
from lsmsql.engine.storage.filenames import parse_file_name
from lsmsql.engine.storage.keyring import Keyring
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.storage.record_log import scan_records
from lsmsql.errors import CorruptionError, UsageError
from lsmsql.options import RECOVERY_MODES, Options
from tests.proof.judge import LONG
from tests.proof.workload import KEY, seen

DIRECTORY = "/db"
SMALL = Options(background=False, block_bytes=300, memtable_bytes=1 << 14, l0_tables=3, manifest_bytes=1500)
ADVICE = "repair --rebuild", "options.recovery"


@dataclass(frozen=True)
class Closed:
    """A database at rest. earlier: what else stood under each of its names, or those of its kind; states: what was visible, oldest first."""

    key: bytes | None
    files: dict[str, bytes]
    earlier: dict[str, list[bytes]]
    states: list[Any]

    def path(self, prefix: str) -> str:
        return next(path for path in self.files if path.rpartition("/")[2].startswith(prefix))


@lru_cache
def at_rest(encrypted: bool) -> Closed:
    key = KEY if encrypted else None
    fs = MemoryFileSystem()
    states: list[Any] = []
    earlier: dict[str, list[bytes]] = {}

    def moment() -> None:
        states.append(seen(engine))
        for path, data in fs.files().items():
            kind = path.rpartition("/")[2].partition("-")[0]
            if kind in ("CURRENT", "manifest", "events"):
                earlier.setdefault(kind, []).append(data)

    with lsmsql.open(DIRECTORY, SMALL, key=key, filesystem=fs) as engine:
        for number in range(7):
            tree = engine.tree("ab"[number % 2])
            moment()
            tree.put_many([(b"%02d" % n, b"%d" % number * 9) for n in range(number, 30)])
            moment()
            if number == 2:
                engine.snapshot("name").close()
                moment()
            engine.flush()
        tree.delete(b"20")
        moment()
        engine.tree("c")
        moment()
        engine.tree("c").ingest([(b"i", b"n")])
        moment()
        tree.put(b"21", b"in the WAL")
        moment()
    files = {path: data for path, data in fs.files().items() if not path.endswith("LOCK")}
    return Closed(key, files, earlier, states)


def judged(database: Closed, files: dict[str, bytes], said: str, mode: str = "tolerate_tail") -> str:
    """Open, and say how that went."""
    fs = MemoryFileSystem(files, [DIRECTORY])
    tables = {path for path in files if path.endswith(".sst")}
    try:
        with lsmsql.open(DIRECTORY, replace(SMALL, recovery=mode), key=database.key, filesystem=fs) as engine:
            found = seen(engine)
    except CorruptionError as error:
        assert any(advice in str(error) for advice in ADVICE), f"{said}: no word of what may help: {error}"
        assert {path: fs.files().get(path) for path in files} == files, f"{said}: something was changed"
        return "corrupt"
    assert tables <= set(fs.files()), f"{said}: a table was removed"
    states = database.states
    if mode == "skip_corrupt":  # What the WAL holds is kept, also behind an ingest that was lost.
        states = states + [{**state, "trees": {**state["trees"], "a": {**state["trees"]["a"], b"21": b"in the WAL"}}} for state in states]
    assert found in states, f"{said}: never was"
    return "right" if found == database.states[-1] else "earlier"


both = pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])


@both
@pytest.mark.parametrize("prefix", ["CURRENT", "manifest-", "events-"])
def test_every_byte_changed_and_every_length_cut(encrypted: bool, prefix: str) -> None:
    database = at_rest(encrypted)
    path = database.path(prefix)
    data = database.files[path]
    outcomes: Counter[str] = Counter()
    step = 1 if LONG or prefix == "CURRENT" else 37
    for offset in range(0, len(data), step):
        damaged = data[:offset] + bytes((data[offset] ^ (1 << offset % 8),)) + data[offset + 1 :]
        outcome = judged(database, {**database.files, path: damaged}, f"{path} byte {offset}")
        assert prefix != "manifest-" or outcome == "right", f"byte {offset} of the snapshot, which stands twice, with parity"
        outcomes[outcome] += 1
        outcomes[judged(database, {**database.files, path: data[:offset]}, f"{path} cut to {offset}")] += 1
    print(prefix, dict(outcomes))
    assert outcomes["corrupt"] > 3


@both
def test_every_sector_of_the_snapshot_can_be_lost(encrypted: bool) -> None:
    database = at_rest(encrypted)
    path = database.path("manifest-")
    data = database.files[path]
    for start in range(0, len(data), 4096):
        for junk in (bytes(4096), b"\xff" * 4096):
            damaged = (data[:start] + junk + data[start + 4096 :])[: len(data)]
            assert judged(database, {**database.files, path: damaged}, f"sector at {start}") == "right"


@both
def test_every_file_removed_or_of_an_earlier_generation(encrypted: bool) -> None:
    database = at_rest(encrypted)
    outcomes: Counter[str] = Counter()
    for kind, contents in database.earlier.items():
        path = database.path(kind)
        missing = {other: data for other, data in database.files.items() if other != path}
        assert judged(database, missing, f"without {path}") == "corrupt"
        for number, data in enumerate(dict.fromkeys(contents)):
            outcome = judged(database, {**database.files, path: data}, f"{path} as of moment {number}")
            assert outcome == "right" if data == database.files[path] else outcome != "right", (path, number)
            outcomes[outcome] += 1
    manifest = {path for path in database.files if path.rpartition("/")[2].startswith(("CURRENT", "manifest-", "events-"))}
    bare = {path: data for path, data in database.files.items() if path not in manifest}
    assert judged(database, bare, "without any of the manifest") == "corrupt", "never a fresh database"
    with pytest.raises((CorruptionError, UsageError)):
        lsmsql.open(DIRECTORY, key=database.key, filesystem=MemoryFileSystem(bare, [DIRECTORY]), create=False)
    print(dict(outcomes))
    assert outcomes["right"] >= 1 and outcomes["corrupt"] > 5


@both
@pytest.mark.parametrize("mode", RECOVERY_MODES)
def test_what_a_damaged_event_log_means_is_chosen_by_the_recovery_mode(encrypted: bool, mode: str) -> None:
    """absolute: only a whole log. tolerate_tail: a torn end is left out. point_in_time, skip_corrupt: everything from the damage on is, provided
    that nothing later depends on it."""
    database = at_rest(encrypted)
    path = database.path("events-")
    data = database.files[path]
    flips: Counter[str] = Counter()
    cuts: Counter[str] = Counter()
    for offset in range(0, len(data), 1 if LONG else 29):
        damaged = data[:offset] + bytes((data[offset] ^ 0xFF,)) + data[offset + 1 :]
        flips[judged(database, {**database.files, path: damaged}, f"{mode}, byte {offset}", mode)] += 1
    for offset in sorted({*range(0, len(data), 1 if LONG else 29), *record_ends(database, path)}):  # Cut between two records it looks whole.
        cuts[judged(database, {**database.files, path: data[:offset]}, f"{mode}, cut to {offset}", mode)] += 1
    print(mode, dict(flips), dict(cuts))
    assert flips["right"] == 0
    if mode == "absolute":
        assert flips["earlier"] == 0
    torn = {**database.files, path: data + data[:40]}
    assert judged(database, torn, "a torn append", mode) == ("corrupt" if mode == "absolute" else "right")


def record_ends(database: Closed, path: str) -> list[int]:
    """The offsets between the records of a log."""
    parsed = parse_file_name(path.rpartition("/")[2])
    assert parsed is not None
    keyring = Keyring.open(MemoryFileSystem(database.files, [DIRECTORY]), DIRECTORY, database.key) if database.key else None
    records, _ = scan_records(path, database.files[path], parsed.number, keyring.cipher(parsed.number) if keyring else None)
    assert len(records) > 3
    return [record.offset for record in records]


def test_after_a_torn_event_log_orphans_stay_until_the_next_opening() -> None:
    database = at_rest(False)
    path = database.path("events-")
    orphan = f"{DIRECTORY}/000099.sst"
    files = {**database.files, path: database.files[path] + b"torn", orphan: b"whose edit may be what was torn"}
    fs = MemoryFileSystem(files, [DIRECTORY])
    lsmsql.open(DIRECTORY, filesystem=fs).close()
    assert fs.exists(orphan)
    lsmsql.open(DIRECTORY, filesystem=fs).close()
    assert not fs.exists(orphan)
    fs = MemoryFileSystem({**database.files, orphan: b"left over"}, [DIRECTORY])
    lsmsql.open(DIRECTORY, filesystem=fs).close()
    assert not fs.exists(orphan)


@pytest.mark.parametrize("stray", ["", "18446744073709551615.sst"])
def test_ids_whose_reservation_was_cut_off_with_the_event_log_are_not_used_again(monkeypatch: pytest.MonkeyPatch, stray: str) -> None:
    from lsmsql.engine.manifest import manifest

    monkeypatch.setattr(manifest, "FILE_IDS_PER_RESERVATION", 10)
    fs = MemoryFileSystem()
    with lsmsql.open(DIRECTORY, replace(SMALL, manifest_bytes=1 << 20), filesystem=fs) as engine:
        tree = engine.tree("t")
        for number in range(30):
            tree.ingest([(b"%02d" % number, b"row")])
    (log,) = (path for path in fs.files() if "/events-" in path)
    data = fs.files()[log]
    middle = len(data) // 3
    files = {**fs.files(), log: data[:middle] + bytes((data[middle] ^ 0xFF,)) + data[middle + 1 :]}
    if stray:
        files[f"{DIRECTORY}/{stray}"] = b"nothing of ours"
    before = {path for path in files if path.endswith(".sst")}
    fs = MemoryFileSystem(files, [DIRECTORY])
    with lsmsql.open(DIRECTORY, replace(SMALL, recovery="point_in_time"), filesystem=fs) as engine:
        kept = seen(engine)["trees"]["t"]
        assert 0 < len(kept) < 30 and before <= set(fs.files())
        for number in range(40, 60):
            engine.tree("t").ingest([(b"%02d" % number, b"row")])
    with lsmsql.open(DIRECTORY, filesystem=fs) as engine:
        assert len(seen(engine)["trees"]["t"]) == len(kept) + 20


@pytest.mark.parametrize("key", [None, "a passphrase"], ids=["plain", "encrypted"])
def test_a_directory_copied_elsewhere_opens(tmp_path: Path, key: str | None) -> None:
    with lsmsql.open(tmp_path / "one", SMALL, key=key) as engine:
        engine.tree("t").put_many([(b"%03d" % n, b"row") for n in range(200)])
        engine.flush()
        engine.tree("t").put(b"in the WAL", b"row")
        before = seen(engine)
    shutil.copytree(tmp_path / "one", tmp_path / "elsewhere" / "two")
    shutil.rmtree(tmp_path / "one")
    for _ in range(2):
        with lsmsql.open(tmp_path / "elsewhere" / "two", key=key) as engine:
            assert seen(engine) == before
            engine.tree("t").put(b"more", b"row")
            before = seen(engine)


def test_many_edits_cost_one_append_and_one_sync_each_and_reopening_reads_what_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    from lsmsql.engine.manifest import event_log
    from lsmsql.engine.manifest.manifest import Manifest
    from lsmsql.engine.manifest.table_record import TableRecord
    from lsmsql.engine.manifest.version_edit import VersionEdit
    from lsmsql.engine.storage.memory_filesystem import MemoryFile

    calls: Counter[str] = Counter()
    for name in ("append", "sync"):
        real = getattr(MemoryFile, name)
        monkeypatch.setattr(MemoryFile, name, lambda self, *data, real=real, name=name: (calls.update((name,)), real(self, *data))[1])
    fs = MemoryFileSystem(directories=[DIRECTORY])
    rotate = 64 << 10
    manifest = Manifest.create(fs, DIRECTORY, None, "", rotate_bytes=rotate)
    manifest.commit(VersionEdit(trees_created=((1, "t"),)))
    edits, live, rotations, longest = 100_000 if LONG else 20_000, [], 0, 0
    for number in range(1, edits + 1):
        file_id = manifest.new_file_id()
        live.append(file_id)
        removed = (live.pop(0),) if len(live) > 5 else ()
        table = TableRecord(file_id, 1, 0, 1000, 10, 1, b"a", b"z", number, number)
        before, generation = Counter(calls), manifest.generation
        manifest.commit(VersionEdit(added=(table,), removed=removed, last_seqno=number, times=((number, number * 1_000_000),)))
        if manifest.generation == generation:
            assert calls - before == {"append": 1, "sync": 1}
        else:
            rotations += 1
        longest = max(longest, fs.size(f"{DIRECTORY}/events-{manifest.generation:06d}"))
    assert rotations >= edits * 150 // rotate - 2
    snapshot = fs.size(f"{DIRECTORY}/manifest-{manifest.generation:06d}")
    assert longest < rotate + 400, "one record beyond its rotation size at most"
    assert snapshot < 80_000 and len(fs.files()) == 3
    manifest.close()
    read: list[int] = []
    real_scan = event_log.scan_records
    monkeypatch.setattr(event_log, "scan_records", lambda *given, **more: (found := real_scan(*given, **more), read.append(len(found[0])))[0])
    again = Manifest.open(fs, DIRECTORY, None)
    assert again.version == manifest.version and len(list(again.version.tables())) == 5
    assert read[0] <= rotate // 100, "edits since the last snapshot, whatever came before"
