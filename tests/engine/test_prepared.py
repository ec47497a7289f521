"""Prepared commits: durable before they are decided, invisible until then, and decided by the host when the outcome is missing."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from lsmsql import CorruptionError, Database, HistoryError, LockedError, UsageError
from lsmsql.engine.prepared import Host, PreparedCommit
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.engine.storage.record_log import RecordKind
from tests.engine.database_world import INLINE, KEY, memory, open_database


def prepare(engine: Database, **rows: bytes) -> PreparedCommit:
    batch = engine.batch()
    for key, value in rows.items():
        batch.put(engine.tree("kv"), key.encode(), value)
    return engine.prepare(batch)


def crashed(fs: MemoryFileSystem) -> MemoryFileSystem:
    """What a killed process leaves: everything written, and no lock."""
    return MemoryFileSystem(fs.files(), fs.directories())


def content(engine: Database) -> dict[bytes, bytes]:
    return dict(engine.tree("kv").scan())


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_a_prepared_batch_is_seen_once_it_is_committed(key: bytes | None) -> None:
    fs = memory()
    with open_database(fs, key=key) as engine:
        engine.tree("kv").put(b"before", b"1")
        prepared = prepare(engine, a=b"1", b=b"2")
        assert prepared.seqno == 2 and engine.seqno == 1 and content(engine) == {b"before": b"1"}
        prepared.commit()
        prepared.commit()
        assert engine.seqno == engine.host_seqno == 2 and content(engine) == {b"before": b"1", b"a": b"1", b"b": b"2"}
        engine.tree("kv").put(b"after", b"3")
    with open_database(fs, key=key) as engine:
        assert content(engine) == {b"before": b"1", b"a": b"1", b"b": b"2", b"after": b"3"} and engine.host_seqno == 2


def test_an_aborted_batch_is_gone_and_its_seqno_is_not_used_again() -> None:
    fs = memory()
    with open_database(fs) as engine:
        prepare(engine, a=b"1").abort()
        assert content(engine) == {} and engine.seqno == 1 and engine.host_seqno == 0
        engine.tree("kv").put(b"b", b"2")
        assert engine.seqno == 2
    with open_database(fs) as engine:
        assert content(engine) == {b"b": b"2"} and engine.seqno == 2
        prepare(engine, a=b"1").abort()
    with open_database(fs) as engine:
        assert engine.seqno == 3


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize("committed", [True, False])
def test_what_has_no_outcome_is_decided_by_the_host_and_for_good(key: bytes | None, committed: bool) -> None:
    fs = memory()
    engine = open_database(fs, key=key)
    engine.tree("kv").put(b"before", b"1")
    prepared = prepare(engine, a=b"1")
    left = crashed(fs)
    prepared.abort()
    engine.close()
    with pytest.raises(UsageError, match=r"wal.*seqno 2.*lsmsql\.connect"):
        open_database(crashed(left), key=key)
    with open_database(left, key=key, host=Host("app.db", 2 if committed else 0)) as engine:
        expected = {b"before": b"1"} | ({b"a": b"1"} if committed else {})
        assert content(engine) == expected and engine.host_seqno == (2 if committed else 0)
        engine.tree("kv").put(b"later", b"1")
        assert engine.seqno == 3
        again = crashed(left)
    # The WAL that ends in the PREPARE is still there, but the one behind it tells the outcome.
    with open_database(again, key=key) as engine:
        assert content(engine) == expected | {b"later": b"1"} and engine.host_seqno == (2 if committed else 0)


def test_preparing_again_puts_another_batch_in_its_place() -> None:
    fs = memory()
    engine = open_database(fs)
    prepared = prepare(engine, a=b"1")
    batch = engine.batch()
    batch.put(engine.tree("kv"), b"b", b"2")
    prepared.replace(batch.operations.payload(), tuple(batch.operations.trees()))
    left = crashed(fs)
    prepared.commit()
    assert content(engine) == {b"b": b"2"} and engine.seqno == 1
    engine.close()
    for files, host in ((fs, None), (left, Host("app.db", 1))):
        with open_database(files, host=host) as engine:
            assert content(engine) == {b"b": b"2"}


def test_nobody_else_commits_while_a_commit_is_prepared() -> None:
    with open_database(memory(), options=replace(INLINE, lock_timeout=30)) as engine:
        tree = engine.tree("kv")
        prepared = prepare(engine, a=b"1")
        for write in (lambda: tree.put(b"x", b"1"), engine.flush, lambda: tree.put_many([(b"x", b"1")]), lambda: engine.snapshot("s")):
            with pytest.raises(LockedError, match="prepared"):
                write()
        assert tree.get(b"a") is None
        other = threading.Thread(target=tree.put, args=(b"x", b"1"))
        other.start()
        prepared.commit()
        other.join()
        assert content(engine) == {b"a": b"1", b"x": b"1"} and engine.seqno == 2


def test_a_host_that_never_decides_is_not_waited_for_forever() -> None:
    with open_database(memory(), options=replace(INLINE, lock_timeout=0.05)) as engine:
        tree = engine.tree("kv")
        prepared = prepare(engine, a=b"1")
        errors: list[BaseException] = []

        def write() -> None:
            try:
                tree.put(b"x", b"1")
            except LockedError as error:
                errors.append(error)

        other = threading.Thread(target=write)
        other.start()
        other.join()
        assert len(errors) == 1
        prepared.abort()
        tree.put(b"x", b"1")
        assert content(engine) == {b"x": b"1"}


@pytest.mark.parametrize("flushed", [False, True])
def test_host_and_engine_that_have_not_committed_the_same_are_told_apart(flushed: bool) -> None:
    fs = memory()
    with open_database(fs) as engine:
        engine.tree("kv").put(b"plain", b"1")
        prepare(engine, a=b"1").commit()
        engine.tree("kv").put(b"plain", b"2")
        if flushed:
            engine.flush()
    before = fs.files()
    for committed in (0, 1, 3, 7):
        with pytest.raises(HistoryError, match=rf"app\.db is number {committed}, in .* 2\..*lsmsql repair --accept app\.db"):
            open_database(fs, host=Host("app.db", committed))
    assert {path: data for path, data in fs.files().items() if "LOCK" not in path} == {
        path: data for path, data in before.items() if "LOCK" not in path
    }
    open_database(fs, host=Host("app.db", 2)).close()
    with open_database(fs, host=Host("app.db", 7, accept=True)) as engine:
        assert engine.host_seqno == 2


def test_a_commit_whose_outcome_cannot_be_written_is_seen_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = memory()
    engine = open_database(fs)
    prepared = prepare(engine, a=b"1")

    def fails(_: object) -> None:
        raise OSError("no space")

    engine._commits._wal.write = fails
    with pytest.raises(OSError, match="no space"):
        prepared.commit()
    assert content(engine) == {b"a": b"1"}
    with pytest.raises(Exception, match="takes no more writes"):
        engine.tree("kv").put(b"x", b"1")
    engine.close()
    with open_database(fs, host=Host("app.db", 1)) as engine:
        assert content(engine) == {b"a": b"1"}


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_that_its_host_could_not_decide_is_decided_once_somebody_is_held_up(committed: bool) -> None:
    silent = True

    def ask() -> int:
        if silent:
            raise LockedError("the host is busy")
        return prepared.seqno if committed else prepared.seqno - 1

    with open_database(memory()) as engine:
        prepared = prepare(engine, a=b"1")
        prepared.decide(ask)
        with pytest.raises(LockedError, match="the host is busy"):
            engine.tree("kv").put(b"b", b"2")
        with pytest.raises(LockedError, match="the host is busy"):
            engine.flush()
        assert content(engine) == {}
        silent = False
        engine.tree("kv").put(b"b", b"2")
        assert content(engine) == ({b"a": b"1", b"b": b"2"} if committed else {b"b": b"2"})
        assert (engine.seqno, engine.host_seqno) == (2, 1 if committed else 0)


def test_a_view_of_the_host_asks_for_the_outcome_that_is_missing() -> None:
    answers: list[int] = []

    def ask() -> int:
        if not answers:
            raise LockedError("the host is busy")
        return answers.pop()

    with open_database(memory()) as engine:
        prepared = prepare(engine, a=b"1")
        prepared.decide(ask)
        answers.append(prepared.seqno)
        with engine.host_view(prepared.seqno) as view:
            assert view.get(engine.tree("kv"), b"a") == b"1"


def test_closing_leaves_what_is_prepared_to_the_host() -> None:
    fs = memory()
    engine = open_database(fs)
    prepare(engine, a=b"1")
    engine.close()
    with open_database(fs, host=Host("app.db", 1)) as engine:
        assert content(engine) == {b"a": b"1"}


def test_an_outcome_without_its_prepare_is_corruption() -> None:
    fs = memory()
    engine = open_database(fs)
    engine.tree("kv").put(b"a", b"1")
    wal = engine._commits._wal
    wal.append(wal.seal(RecordKind.OUTCOME_COMMIT, b"", wal.ordinal, 2, 1, 0), 1)
    engine.close()
    with pytest.raises(CorruptionError, match="was not prepared"):
        open_database(fs)
