"""A power loss between any two operations of a transaction over ordinary and lsm tables: both are at the same transaction, and that is the
acknowledged one or the one in flight. Below durability "full" or synchronous=FULL it may be an earlier one, or a HistoryError.

SQLite's file operations and the engine's are one sequence; each crash point gives many images, of which some take a further transaction, and
some are crashed again in their recovery. At some crash points only the process dies, and the machine during or after the recovery.
LSMSQL_LONG=1 takes more images, every one of them further, and a second crash of each tenth. The mutations show that the campaign can fail.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lsmsql.engine import recovery
from lsmsql.engine.prepared import Host
from lsmsql.engine.replay import _Replay
from lsmsql.vtab.transaction import Transaction
from tests.proof.both_stores import Settings, SqlLife, first_life, full_life, lived
from tests.proof.judge import LONG
from tests.proof.recorded_disk import recording
from tests.proof.workload import KEY

EVERY_SETTING = {
    "wal": Settings(),
    "delete": Settings("delete"),
    "delete-extra": Settings("delete", "extra"),
    "wal-normal": Settings("wal", "normal"),
    "delete-normal": Settings("delete", "normal"),
    "wal, engine normal": Settings(durability="normal"),
    "delete, engine normal": Settings("delete", durability="normal"),
    "encrypted": Settings(key=KEY),
}
SAMPLED = ("wal", "delete", "wal-normal", "wal, engine normal", "delete, engine normal", "encrypted")
LESS = {"limit": 3, "further": 40, "deep": 240, "deep_limit": 3, "kill": 90, "every": 14}
MORE = {"limit": 40, "further": 1, "deep": 10, "deep_limit": 8, "kill": 1, "every": 1}


@pytest.fixture(autouse=True)
def _recorded() -> Iterator[None]:
    with recording():
        yield


@pytest.mark.parametrize("name", EVERY_SETTING if LONG else SAMPLED)
def test_a_power_loss_at_any_operation_leaves_both_halves_or_neither(name: str) -> None:
    settings = EVERY_SETTING[name]
    judge = lived(settings, full_life, **(MORE if LONG else LESS))
    print(name, judge)
    assert judge.opened > 200 and judge.further_images > 10 and judge.deep_points > 20
    assert bool(judge.histories) == (settings.durability == "normal" or name == "wal-normal")


@pytest.mark.parametrize("name", EVERY_SETTING)
def test_a_power_loss_in_the_first_transaction_leaves_both_halves_or_neither(name: str) -> None:
    judge = lived(EVERY_SETTING[name], first_life, **(MORE if LONG else {"limit": 6, "further": 4, "deep": 60, "kill": 8, "every": 2}))
    print(name, judge)
    assert judge.opened > 50 and judge.deep_points > 50


def unsynced_prepare(patch: pytest.MonkeyPatch, life: SqlLife) -> None:
    def prepares(_operation: object) -> bool:
        frame: Any = sys._getframe(1)
        while frame is not None and frame.f_code.co_name != "_write_prepare":
            frame = frame.f_back
        return frame is not None

    life.disk.fs.skip_sync(prepares)


def unwritten_number(patch: pytest.MonkeyPatch, _life: SqlLife) -> None:
    patch.setattr(Transaction, "_write_number", lambda *_: None)


def unsynced_app_db(patch: pytest.MonkeyPatch, life: SqlLife) -> None:
    life.disk.skip = lambda kind, name: kind == "sync" and name == "app.db-wal"


def unwaited_removal(patch: pytest.MonkeyPatch, _life: SqlLife) -> None:
    patch.setattr(Transaction, "_journal", lambda *_: "")


def commit_at_once(patch: pytest.MonkeyPatch, _life: SqlLife) -> None:
    original = Transaction.sync

    def sync(self: Transaction, table: Any) -> None:
        original(self, table)
        if self._prepared is not None:
            self._prepared.commit()

    patch.setattr(Transaction, "sync", sync)


def decided(committed: bool) -> Callable[[pytest.MonkeyPatch, SqlLife], None]:
    def mutate(patch: pytest.MonkeyPatch, _life: SqlLife) -> None:
        patch.setattr(_Replay, "_decide", lambda self: self.prepared and self.settle(committed))

    return mutate


def unchecked_agreement(patch: pytest.MonkeyPatch, _life: SqlLife) -> None:
    patch.setattr(Host, "require_agreement", lambda *_: None)


def unsynced_host(patch: pytest.MonkeyPatch, _life: SqlLife) -> None:
    patch.setattr(recovery, "_sync_host", lambda *_: None)


def forgotten_tree(patch: pytest.MonkeyPatch, _life: SqlLife) -> None:
    """A DROP that is not committed yet takes the rows at once."""
    original = Transaction.drop

    def drop(self: Transaction, table: Any) -> None:
        original(self, table)
        self.engine.drop_tree(table.tree.name)

    patch.setattr(Transaction, "drop", drop)


def brief_life(life: SqlLife) -> None:
    first_life(life, close=False)
    life.reopen()
    life.run("BEGIN; INSERT INTO o VALUES (3, 'three'); INSERT INTO t VALUES (3, 'three'); COMMIT")
    life.run("CREATE VIRTUAL TABLE u USING lsm(n, v)")
    life.run("BEGIN; DROP TABLE u; INSERT INTO o VALUES (4, 'four'); COMMIT")
    life.run("BEGIN; INSERT INTO o VALUES (5, 'five'); INSERT INTO t VALUES (5, 'five'); COMMIT")
    life.close()


MUTATIONS: dict[str, tuple[Callable[[pytest.MonkeyPatch, SqlLife], None], str, str]] = {
    "the PREPARE is not synced": (unsynced_prepare, "wal", "HistoryError"),
    "the number is not written": (unwritten_number, "wal", "HistoryError|never was"),
    "app.db is not synced": (unsynced_app_db, "wal", "HistoryError|was durable"),
    "the removal of the journal is not waited for": (unwaited_removal, "delete", "HistoryError|was durable"),
    "COMMIT comes before app.db's": (commit_at_once, "wal", "HistoryError"),
    "what is undecided is always committed": (decided(True), "wal", "HistoryError|never was"),
    "what is undecided is always dropped": (decided(False), "wal", "HistoryError|never was"),
    "nobody asks whether the two agree": (unchecked_agreement, "wal, engine normal", "never was|cannot be read: BusyError"),
    "what a killed process has not synced is relied on": (unsynced_host, "wal", "HistoryError|had been read"),
    "what a killed process has not synced is relied on, with a journal": (unsynced_host, "delete", "HistoryError|had been read"),
    "a DROP takes the rows at once": (forgotten_tree, "delete", "rows of table"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_campaign_sees_that(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, settings, message = MUTATIONS[name]

    def live(life: SqlLife) -> None:
        mutate(monkeypatch, life)
        brief_life(life)

    with pytest.raises(AssertionError, match=message) as caught:
        lived(EVERY_SETTING[settings], live, limit=8, further=1000, kill=1 if mutate is unsynced_host else 0)
    print(str(caught.value)[:300])


def test_without_a_mutation_that_life_passes() -> None:
    for settings in ("wal", "delete"):
        lived(EVERY_SETTING[settings], brief_life, limit=4, further=20, kill=40, deep_limit=3, every=5)
