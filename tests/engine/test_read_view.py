"""Read views and snapshots: one moment over all trees, kept through flush and compaction; history that is gone is an error."""

from __future__ import annotations

import gc

import pytest

from lsmsql import ClosedError, ConflictError, Database, HistoryError, UsageError
from lsmsql.engine.tree import Tree
from lsmsql.engine.write_batch import MISSING

from .database_world import KEY, memory, open_database, rows


def fill(tree: Tree, value: bytes, count: int = 60) -> dict[bytes, bytes]:
    items = {b"%03d" % i: value for i in range(count)}
    tree.put_many(items.items())
    return items


def churn(engine: Database, tree: Tree, rounds: int = 4) -> None:
    """Overwrite everything a few times, and compact what can be compacted."""
    for number in range(rounds):
        fill(tree, b"churn %d" % number)
        engine.flush()
    engine.compact()


def test_a_view_sees_its_moment_whatever_happens_after() -> None:
    with open_database(memory()) as engine:
        one, two = engine.tree("one"), engine.tree("two")
        expected = fill(one, b"old")
        view = engine.read_view()
        two.put(b"k", b"v")
        one.delete(b"000")
        churn(engine, one)
        assert view.seqno == 1
        assert dict(view.scan(one)) == expected and list(view.scan(two)) == []
        assert view.get(one, b"000") == b"old" and view.get(two, b"k") is None
        assert view.get_many(one, [b"000", b"nothing"]) == [b"old", None]
        assert dict(one.scan(snapshot=view)) == expected
        view.close()


def test_open_snapshots_keep_their_history_without_holding_files() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        expected, snapshots = [], []
        for number in range(4):
            expected.append(fill(tree, b"state %d" % number, 20 + number))
            snapshots.append(engine.snapshot())
            churn(engine, tree, 1)
        churn(engine, tree)
        for state, snapshot in zip(expected, snapshots, strict=True):
            assert {key: value for key, value in rows(tree, snapshot=snapshot).items() if key in state} == state
            assert tree.get(b"005", snapshot=snapshot) == state[b"005"]
            assert tree.get_many([b"005"], snapshot=snapshot.seqno) == [state[b"005"]]
            with snapshot.read_view() as view:
                assert view.get(tree, b"005") == state[b"005"]
        for snapshot in snapshots:
            snapshot.close()
        churn(engine, tree)
        with pytest.raises(HistoryError):
            tree.get(b"005", snapshot=snapshots[0].seqno)


def test_the_future_and_what_is_not_retained_are_history_errors() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        fill(tree, b"1")
        for seqno in (-1, 2, 1 << 60):
            with pytest.raises(HistoryError):
                engine.read_view(seqno)
        fill(tree, b"2")
        assert set(rows(tree, snapshot=1).values()) == {b"1"}
        churn(engine, tree)
        with pytest.raises(HistoryError):
            engine.read_view(1)
        with pytest.raises(HistoryError):
            tree.scan(snapshot="no such name")
        engine.read_view(engine.seqno).close()


def test_a_view_at_an_old_seqno_keeps_it_readable_for_others() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        fill(tree, b"1")
        fill(tree, b"2")
        view = engine.read_view(1)
        churn(engine, tree)
        assert tree.get(b"000", snapshot=1) == b"1" == view.get(tree, b"000")
        view.close()
        churn(engine, tree)
        with pytest.raises(HistoryError):
            tree.get(b"000", snapshot=1)


def test_a_view_that_is_dropped_lets_go_of_its_history() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        fill(tree, b"1")
        view = engine.read_view()
        scan = tree.scan()
        scan.fill(1)
        assert engine.statistics()["pins"] == 2
        del view, scan
        gc.collect()
        assert engine.statistics()["pins"] == 0
        for _ in tree.scan():
            assert engine.statistics()["pins"] == 1
        assert engine.statistics()["pins"] == 0


def test_a_current_view_keeps_what_it_sees_without_a_pin() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        expected = fill(tree, b"1")
        view = engine.current_view()
        assert engine.statistics()["pins"] == 0
        churn(engine, tree)
        assert dict(view.scan(tree)) == expected
        assert view.get_many(tree, list(expected)) == list(expected.values())
        with pytest.raises(HistoryError):
            engine.read_view(view.seqno)
        view.close()
        with pytest.raises(ClosedError):
            view.get(tree, b"000")


@pytest.mark.parametrize("key", [None, KEY])
def test_named_snapshots_outlive_the_process(key: bytes | None) -> None:
    fs = memory()
    with open_database(fs, key=key) as engine:
        tree = engine.tree("kv")
        expected = fill(tree, b"named")
        snapshot = engine.snapshot("before")
        assert (snapshot.name, snapshot.seqno) == ("before", 1)
        snapshot.close()
        churn(engine, tree)
        with pytest.raises(ConflictError):
            engine.snapshot("before")
    with open_database(fs, key=key) as engine:
        tree = engine.tree("kv")
        churn(engine, tree)
        assert engine.snapshots() == {"before": 1}
        assert rows(tree, snapshot="before") == expected
        assert tree.get(b"001", snapshot=1) == b"named"
        with pytest.raises(HistoryError):
            engine.read_view(2)
        engine.release("before")
        with pytest.raises(UsageError):
            engine.release("before")
        churn(engine, tree)
        with pytest.raises(HistoryError):
            engine.read_view(1)
    with open_database(fs, key=key) as engine:
        assert engine.snapshots() == {}


def test_a_released_name_stays_readable_while_its_snapshot_is_open() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        expected = fill(tree, b"named")
        with engine.snapshot("name") as snapshot:
            engine.release("name")
            churn(engine, tree)
            assert rows(tree, snapshot=snapshot) == expected


def test_tombstones_do_not_bring_old_values_back() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        fill(tree, b"old")
        engine.flush()
        with engine.snapshot() as snapshot:
            for i in range(60):
                tree.delete(b"%03d" % i)
            engine.compact()
            assert rows(tree) == {} and len(rows(tree, snapshot=snapshot)) == 60
        tree.put(b"x", b"y")
        engine.compact()
        assert rows(tree) == {b"x": b"y"}
        assert engine.statistics()["table_tombstones"] == 0


def test_since_finds_what_changed_and_refuses_what_it_cannot_know() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        fill(tree, b"1")
        with engine.snapshot() as snapshot:
            tree.put(b"005", b"2")
            tree.delete(b"006")
            engine.flush()
            tree.put(b"007", b"3")
            with engine.read_view() as view:
                assert list(view.scan(tree, since=snapshot.seqno)) == [(b"005", b"2"), (b"007", b"3")]
                assert len(list(view.scan(tree))) == 59
        churn(engine, tree)
        with engine.read_view() as view:
            with pytest.raises(HistoryError):
                view.scan(tree, since=1)
            assert len(list(view.scan(tree, since=0))) == 60


def test_a_batch_is_read_before_everything_up_to_its_mark() -> None:
    with open_database(memory()) as engine:
        tree = engine.tree("kv")
        tree.put_many([(b"a", b"1"), (b"b", b"1"), (b"c", b"1")])
        batch = engine.batch()
        batch.put(tree, b"b", b"2")
        mark = batch.mark()
        batch.delete(tree, b"a")
        batch.put(tree, b"d", b"2")
        assert (batch.get(tree, b"a"), batch.get(tree, b"b"), batch.get(tree, b"c")) == (None, b"2", MISSING)
        with engine.read_view() as view:
            assert list(view.scan(tree, batch=batch)) == [(b"b", b"2"), (b"c", b"1"), (b"d", b"2")]
            assert list(view.scan(tree, batch=batch, mark=mark, reverse=True)) == [(b"c", b"1"), (b"b", b"2"), (b"a", b"1")]
            assert view.get(tree, b"a", batch) is None and view.get(tree, b"a", batch, mark) == b"1"
            assert view.get(tree, b"c", batch) == b"1" and view.get(tree, b"d", batch, mark) is None
            batch.rollback(mark)
            assert len(batch) == 1 and list(view.scan(tree, batch=batch))[1] == (b"b", b"2")
            with pytest.raises(UsageError):
                batch.rollback(5)
        assert rows(tree) == {b"a": b"1", b"b": b"1", b"c": b"1"}
        engine.commit(batch)
        assert tree[b"b"] == b"2"


def test_a_tree_made_after_a_view_is_empty_in_it() -> None:
    with open_database(memory()) as engine:
        engine.tree("one").put(b"k", b"v")
        view = engine.read_view()
        two = engine.tree("two")
        two.put(b"k", b"v")
        assert view.get(two, b"k") is None and list(view.scan(two)) == []
        assert two[b"k"] == b"v"
        view.close()
