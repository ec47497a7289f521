"""Code that comes in between, as signal handlers and finalizers do, may read; what it writes is committed or refused, and never waits for itself."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import pytest

from lsmsql import Database, Options, UsageError

from .database_world import INLINE, memory, open_database, rows


def call_in_between(event: int, call: Callable[[], Any], between: Callable[[], Any]) -> int:
    """Call, and call `between` where the `event`th call of a C function returns, as a signal handler would be; returns how many there were."""
    seen = 0

    def profile(frame: FrameType, what: str, _: Any) -> None:
        nonlocal seen
        if what == "c_return" and not frame.f_code.co_filename.startswith("<"):
            seen += 1
            if seen == event:
                sys.setprofile(None)
                between()
                sys.setprofile(profile)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return seen


def without_hanging(call: Callable[[], Any]) -> None:
    """Call on a thread of its own, and fail if it does not come back."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it waits for itself"
    if errors:
        raise errors[0]


def calls_of(engine: Database) -> dict[str, Callable[[], Any]]:
    tree = engine.tree("kv")
    batch = engine.batch()
    batch.put(tree, b"key", b"value")
    return {
        "put": partial(tree.put, b"key", b"value"),
        "put_many": partial(tree.put_many, [(b"key", b"value")]),
        "batch": partial(engine.commit, batch),
        "ingest": partial(tree.ingest, [(b"key", b"value")]),
        "flush": engine.flush,
        "compact": engine.compact,
        "tree": partial(engine.tree, "new"),
        "drop": partial(engine.drop_tree, "other"),
        "snapshot": partial(engine.snapshot, "name"),
        "close": engine.close,
    }


EVENTS = 25  # of each call, evenly spread


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("operation", ["put", "put_many", "batch", "ingest", "flush", "compact", "tree", "drop", "snapshot"])
@pytest.mark.parametrize("between", ["put", "batch", "flush", "tree"])
def test_a_signal_handler_that_writes_in_the_middle_of_anything_succeeds_or_is_refused(operation: str, between: str, background: bool) -> None:
    options = replace(INLINE, durability="normal", memtable_bytes=300, background=background, sealed_max=2, l0_stop=100, l0_slowdown=100)

    def run(event: int) -> int:
        outcome: list[bool] = []
        with open_database(memory(), options) as engine:
            tree = engine.tree("kv")
            engine.tree("other").put(b"a", b"1")
            for number in range(3):
                tree.put(b"first %d" % number, b"1" * 100)
            inner = tree_writes(engine)

            def write() -> None:
                try:
                    inner[between]()
                    outcome.append(True)
                except UsageError:
                    outcome.append(False)

            events = call_in_between(event, calls_of(engine)[operation], write)
            tree.put(b"after", b"2")
            expected = {b"first %d" % number: b"1" * 100 for number in range(3)} | {b"after": b"2"}
            if operation in ("put", "put_many", "batch", "ingest"):
                expected[b"key"] = b"value"
            if outcome == [True] and between in ("put", "batch"):
                expected[b"between"] = b"b"
            assert rows(tree) == expected, event
        return events

    def throughout() -> None:
        events = run(0)
        assert events > 3
        for event in sorted({1 + events * number // EVENTS for number in range(EVENTS)}):
            run(event)

    without_hanging(throughout)


def tree_writes(engine: Database) -> dict[str, Callable[[], Any]]:
    tree = engine.tree("kv")
    batch = engine.batch()
    batch.put(tree, b"between", b"b")
    return {
        "put": partial(tree.put, b"between", b"b"),
        "batch": partial(engine.commit, batch),
        "flush": engine.flush,
        "tree": partial(engine.tree, "between"),
    }


def test_what_is_refused_in_the_middle_of_a_commit_is_told() -> None:
    with open_database(memory(), Options()) as engine:
        tree = engine.tree("kv")
        refused: list[str] = []

        def items() -> Iterator[tuple[bytes, bytes]]:
            for write in (lambda: tree.put(b"b", b"2"), lambda: tree.delete(b"b"), engine.flush, engine.close, lambda: tree.put_many([(b"b", b"2")])):
                with pytest.raises(UsageError, match="under way on this thread") as error:
                    write()
                refused.append(str(error.value))
            yield b"a", tree.get(b"a") or b"1"

        without_hanging(lambda: tree.put_many(items()))
        assert len(refused) == 5 and rows(tree) == {b"a": b"1"}
