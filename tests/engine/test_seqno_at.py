"""seqno_at: which commit was the newest at a time; never a later one, and at most a second too few while it is recent."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import lsmsql
from lsmsql.engine import commit, ingest, readable, write_line
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem
from lsmsql.errors import HistoryError, UsageError
from lsmsql.options import Options

START = 1_700_000_000
INLINE = Options(background=False)


class Clock:
    """What the engine takes for the time, in seconds since START."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        for module in (commit, readable, write_line):
            monkeypatch.setattr(module, "time_ns", lambda: int((START + self.now) * 1e9))
        monkeypatch.setattr(ingest, "now_us", lambda: int((START + self.now) * 1e6))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def commits(engine: lsmsql.Database, clock: Clock, times: list[float]) -> dict[int, float]:
    """Commits at some times; seqno -> time."""
    made = {}
    for number, time in enumerate(times):
        clock.now = time
        if number % 3 == 2:
            engine.tree("t").put_many([(b"k", b"%d" % number)])
        else:
            engine.tree("t").put(b"k", b"%d" % number)
        made[engine.seqno] = time
    return made


TIMES = [1.0, 1.2, 1.9, 2.5, 2.6, 500.0, 500.1, 500.2, 900.0, 902.0, 904.5, 904.6]


def require_answers(engine: lsmsql.Database | lsmsql.ReadOnlyDatabase, made: dict[int, float], share: float = 0.0) -> None:
    for tenth in range(9200):
        time = tenth / 10
        answer = engine.seqno_at(START + time)
        truth = max([0, *(seqno for seqno, when in made.items() if when <= time)])
        allowed = max([0, *(seqno for seqno, when in made.items() if when <= time - 1 - (920 - time) * share)])
        assert allowed <= answer <= truth, time


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_the_newest_commit_by_then(clock: Clock, durability: str) -> None:
    fs = MemoryFileSystem()
    with lsmsql.open("/db", Options(background=False, durability=durability), filesystem=fs) as engine:
        engine.tree("t")
        assert engine.seqno_at(START - 5) == 0
        clock.now = TIMES[0]
        made = commits(engine, clock, TIMES[:1])
        pinned = engine.read_view()  # Else its history goes with the flush, and what is known of its times.
        made |= commits(engine, clock, TIMES[1:])
        clock.now = 920
        require_answers(engine, made)
        with lsmsql.open("/db", filesystem=fs, read_only=True) as reader:
            require_answers(reader, made)
        engine.flush()
        require_answers(engine, made, 1 / 64)
        made |= commits(engine, clock, [925.0, 925.5])
        made[engine.tree("t").ingest([(b"i", b"n")])] = 925.5
        clock.now = 930
        require_answers(engine, made, 1 / 64)
        assert engine.seqno_at(START + 929) == engine.seqno == max(made)
        pinned.close()


def test_what_is_not_known_is_refused(clock: Clock) -> None:
    fs = MemoryFileSystem()
    with lsmsql.open("/db", INLINE, filesystem=fs) as engine:
        commits(engine, clock, TIMES)
        clock.now = 1000
        with pytest.raises(HistoryError, match="future"):
            engine.seqno_at(START + 1001)
        for wrong in ("now", None, True, 1e300, float("nan"), datetime(2026, 1, 1)):  # noqa: DTZ001
            with pytest.raises(UsageError):
                engine.seqno_at(wrong)  # type: ignore[arg-type]
        assert engine.seqno_at(datetime.fromtimestamp(START + 4, UTC)) == 5
        engine.flush()
        with pytest.raises(HistoryError, match="not known"):
            engine.seqno_at(START + 3)
        assert engine.seqno_at(START + 1000) == engine.seqno


def test_a_clock_that_was_set_back_tells_nothing_new_until_it_has_caught_up(clock: Clock) -> None:
    with lsmsql.open("/db", INLINE, filesystem=MemoryFileSystem()) as engine:
        commits(engine, clock, [10.0, 12.0, 3.0, 4.0, 14.0])
        clock.now = 20
        assert [engine.seqno_at(START + time) for time in (3, 10.5, 12, 13.5, 14, 16)] == [0, 1, 2, 4, 5, 5]
