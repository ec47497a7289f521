"""Large values beside the tables: when they go there, how they are read, and what becomes of them."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lsmsql
from lsmsql import Database, Options
from lsmsql.engine.blob.frame_record import SLOT_BYTES
from lsmsql.engine.blob.preallocation import STEP_SLOTS
from lsmsql.engine.storage.filenames import FileKind, parse_file_name
from lsmsql.errors import ClosedError, CorruptionError, UsageError
from tests.engine.database_world import DIRECTORY, INLINE, KEY, memory, open_database

APART = replace(INLINE, blob_threshold=100)
LARGE = bytes(range(256)) * 2


def blob_files(fs: Any) -> list[str]:
    kinds = (FileKind.BLOBS, FileKind.SLOT_MAP, FileKind.SLOT_LOG)
    return [name for name in fs.list(DIRECTORY) if (parsed := parse_file_name(name)) is not None and parsed.kind in kinds]


def filled(options: Options = APART, count: int = 40, **more: Any) -> tuple[Any, Database]:
    fs = memory()
    engine = open_database(fs, options, **more)
    tree = engine.tree("t")
    for number in range(count):
        tree.put(b"k%03d" % number, b"%03d" % number * (1 + number % 2 * 100))
    engine.flush()
    return fs, engine


def expected(count: int = 40) -> list[tuple[bytes, bytes]]:
    return [(b"k%03d" % number, b"%03d" % number * (1 + number % 2 * 100)) for number in range(count)]


def test_values_of_at_least_the_threshold_leave_the_tables() -> None:
    fs, engine = filled()
    with engine:
        assert engine.statistics()["blob_value_bytes"] and engine.statistics()["table_bytes"]
        assert list(engine.tree("t").scan()) == expected()
        assert engine.tree("t").get(b"k001") == b"001" * 101
        assert engine.statistics()["blob_reads"] == 21
        engine.compact()
        assert list(engine.tree("t").scan(reverse=True)) == expected()[::-1]
    with open_database(fs, None) as engine:
        assert engine.options.blob_threshold == 100
        assert engine.tree("t").get_many([key for key, _ in expected()]) == [value for _, value in expected()]


def test_without_the_option_there_is_no_blob_file() -> None:
    fs, engine = filled(INLINE)
    engine.compact()
    assert engine.statistics()["blob_file_bytes"] == 0
    engine.close()
    assert not blob_files(fs)


@pytest.mark.parametrize("value", [-1, 1_000_000_001, "1", True])
def test_a_threshold_that_cannot_be_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="blob_threshold"):
        Options(blob_threshold=value)


def test_compaction_moves_pointers_and_reads_no_value() -> None:
    _, engine = filled()
    with engine:
        for number in range(0, 40, 4):
            engine.tree("t").put(b"k%03d" % number, b"new")
        engine.compact()
        engine.compact()
        assert engine.statistics()["blob_reads"] == 0
        assert engine.statistics()["compactions"]
        assert engine.tree("t")[b"k000"] == b"new" and engine.tree("t")[b"k001"] == b"001" * 101


def test_turned_on_later_compaction_separates_and_turned_off_reads_go_on() -> None:
    fs, engine = filled(INLINE)
    engine.close()
    with open_database(fs, APART) as engine:
        engine.tree("t").put(b"k", b"small")
        engine.compact()
        assert engine.statistics()["blob_frames"] == 1
        assert list(engine.tree("t").scan()) == [(b"k", b"small"), *expected()]
    with open_database(fs, INLINE) as engine:
        engine.tree("t").put(b"l", LARGE)
        engine.compact()
        assert engine.statistics()["blob_frames"] == 1
        assert list(engine.tree("t").scan()) == [(b"k", b"small"), *expected(), (b"l", LARGE)]


def test_ingested_values_are_separated() -> None:
    with open_database(memory(), APART) as engine:
        rows = [(b"%03d" % number, LARGE + b"%d" % number) for number in range(9)]
        engine.tree("t").ingest(rows)
        assert engine.statistics()["blob_frames"] == 1 and list(engine.tree("t").scan()) == rows
        with pytest.raises(UsageError, match="ascend"):
            engine.tree("t").ingest([(b"b", LARGE), (b"a", LARGE)])
        assert engine.statistics()["blob_frames"] == 1


def test_what_asks_for_keys_alone_reads_no_value() -> None:
    _, engine = filled()
    with engine:
        assert list(engine.tree("t")) == [key for key, _ in expected()]
        del engine.tree("t")[b"k010":b"k020"]  # type: ignore[misc]
        assert engine.statistics()["blob_reads"] == 0
        assert len(list(engine.tree("t").scan())) == 30


def test_a_value_as_a_file() -> None:
    data = random.Random(1).randbytes(1_300_000)
    with open_database(memory(), APART) as engine:
        tree = engine.tree("t")
        tree.put(b"small", b"inline")
        tree.put(b"k", data)
        for _ in range(2):
            with tree.open_blob(b"k") as file, tree.open_blob(b"small") as small:
                assert file.seekable() and file.seek(600_000) == 600_000
                assert file.read(100) == data[600_000:600_100]
                assert file.seek(-10, os.SEEK_END) and file.read() == data[-10:]
                assert small.read() == b"inline"
            engine.flush()
        with engine.read_view() as view:
            tree.delete(b"k")
            engine.compact()
            with pytest.raises(KeyError):
                tree.open_blob(b"k")
            file = tree.open_blob(b"k", view)
        engine.compact()
        assert file.read() == data  # The file keeps what it reads.
        file.close()
        file = tree.open_blob(b"small")
    held = open_database(memory(), APART)
    held.tree("t").put(b"k", data)
    held.flush()
    file = held.tree("t").open_blob(b"k")
    held.close()
    with pytest.raises(ClosedError):
        file.read()


def test_old_views_and_named_snapshots_keep_their_values() -> None:
    fs, engine = filled()
    engine.snapshot("then")
    view = engine.read_view()
    scan = engine.tree("t").scan()
    for number in range(40):
        engine.tree("t").put(b"k%03d" % number, b"other" * 50)
    engine.compact()
    assert list(view.scan(engine.tree("t"))) == list(scan) == expected()
    view.close()
    engine.compact()
    engine.close()
    with open_database(fs, None) as engine:
        assert list(engine.tree("t").scan(snapshot="then")) == expected()
        engine.release("then")
        before = engine.statistics()["blob_value_bytes"]
        engine.tree("t").put(b"k", b"k")
        engine.compact()
        assert int(engine.statistics()["blob_value_bytes"]) < int(before)
        assert [value for _, value in engine.tree("t").scan()][1:] == [b"other" * 50] * 40


def test_frames_that_nothing_links_are_freed() -> None:
    fs, engine = filled()
    assert int(engine.statistics()["blob_frames"]) > 1
    engine.drop_tree("t")
    engine.tree("u").put(b"k", LARGE)
    engine.flush()
    assert engine.statistics()["blob_frames"] == 1
    engine.drop_tree("u")
    engine.close()
    with open_database(fs, None) as engine:
        assert engine.statistics()["blob_frames"] == 0


def test_overwriting_at_random_settles_and_compaction_writes_a_tenth(tmp_path: Path) -> None:
    written = {}
    for threshold in (0, 1000):
        options = Options(
            background=False, durability="off", memtable_bytes=1 << 20, level_bytes=2 << 20, table_bytes=1 << 20, blob_threshold=threshold
        )
        rng = random.Random(2)
        with lsmsql.open(tmp_path / str(threshold), options) as engine:
            tree = engine.tree("t")
            contents = {b"%05d" % number: rng.randbytes(rng.randrange(4000, 16_000)) for number in range(500)}
            for key, value in contents.items():
                tree.put(key, value)
            for _ in range(3 * 500):
                key = b"%05d" % rng.randrange(500)
                contents[key] = rng.randbytes(rng.randrange(4000, 16_000))
                tree.put(key, contents[key])
            engine.compact()
            written[threshold] = int(engine.statistics()["compacted_bytes_written"])
            assert dict(tree.scan()) == contents
            if threshold:
                live = sum(map(len, contents.values()))
                assert int(engine.statistics()["blob_live_bytes"]) <= 1.4 * live
                room = os.stat(tmp_path / str(threshold) / "BLOBS").st_blocks * 512
                assert room <= 1.4 * live + STEP_SLOTS * SLOT_BYTES, "more than what lives, and what is preallocated"
    assert written[1000] * 10 <= written[0]


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_damage_beyond_repair_names_key_frame_and_place_and_spares_the_others(key: bytes | None) -> None:
    fs, engine = filled(replace(APART, compression="none"), key=key)
    engine.close()
    path = f"{DIRECTORY}/BLOBS"
    data = fs.read(path)
    if key is None:
        place = data.index(b"007" * 101)
        file = fs.open_random(path)
        file.write_at(place, [b"x" * 50])
    else:
        file = fs.open_random(path)
        file.write_at(1000, [b"x" * 50])
    with open_database(fs, None, key=key) as engine:
        tree = engine.tree("t")
        broken = []
        for name, value in expected():
            try:
                assert tree[name] == value
            except CorruptionError as error:
                broken.append(name)
                assert repr(name) in str(error) and "frame 1" in str(error) and error.offset is not None and error.path.endswith("BLOBS")
        assert broken == [b"k007"] if key is None else 1 <= len(broken) <= 2
        with pytest.raises(CorruptionError, match=repr(broken[0])):
            tree.get_many([name for name, _ in expected()])
        with pytest.raises(CorruptionError, match=repr(broken[0])):
            list(tree.scan())
        engine.compact()
        assert len(list(tree)) == 40


def test_a_lost_blob_file_or_slot_map_is_damage_at_opening() -> None:
    fs, engine = filled()
    engine.close()
    for names in ([name for name in blob_files(fs) if name != "BLOBS"], ["BLOBS"]):
        saved = {name: fs.read(f"{DIRECTORY}/{name}") for name in names}
        for name in names:
            fs.remove(f"{DIRECTORY}/{name}")
        with pytest.raises(CorruptionError, match=r"frame 1 is not in the slot map|the blob file is missing"):
            open_database(fs, None)
        for name, data in saved.items():
            file = fs.create(f"{DIRECTORY}/{name}")
            file.append(data)
            file.close()
    with open_database(fs, None) as engine:
        assert list(engine.tree("t").scan()) == expected()


def test_blob_files_without_current_are_no_empty_directory() -> None:
    fs, engine = filled()
    engine.close()
    for name in fs.list(DIRECTORY):
        if name not in blob_files(fs):
            fs.remove(f"{DIRECTORY}/{name}")
    with pytest.raises(CorruptionError, match="CURRENT is missing"):
        open_database(fs, APART)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_a_reader_beside_the_writer_sees_the_values_of_its_moment(tmp_path: Path, key: bytes | None) -> None:
    options = Options(background=False, memtable_bytes=20_000, l0_tables=2, level_bytes=20_000, blob_threshold=100)
    rng = random.Random(3)
    contents: dict[bytes, bytes] = {}
    with lsmsql.open(tmp_path / "db", options, key=key) as engine:
        tree = engine.tree("t")
        tree.put(b"begin", LARGE)
        contents[b"begin"] = LARGE
        with lsmsql.open(tmp_path / "db", key=key, read_only=True) as reader:
            held = []
            for turn in range(6):
                for _ in range(60):
                    name = b"%02d" % rng.randrange(40)
                    contents[name] = rng.randbytes(rng.choice((10, 500, 3000)))
                    tree.put(name, contents[name])
                engine.compact()
                reader.refresh()
                held.append((reader.read_view(), dict(contents)))
                assert dict(reader.tree("t").scan()) == contents
                for view, then in held:
                    assert dict(view.scan(reader.tree("t"))) == then, turn
            assert engine.statistics()["blob_waiting_bytes"], "what a reader may read was given back"
            assert reader.statistics()["blob_reads"]
            for view, _ in held:
                view.close()
        tree.put(b"end", LARGE)
        engine.compact()
        engine.compact()
        assert not engine.statistics()["blob_waiting_bytes"]


def test_a_scan_that_outlives_its_database_says_so() -> None:
    _, engine = filled()
    scan = engine.tree("t").scan()
    engine.close()
    with pytest.raises(ClosedError):
        list(scan)
