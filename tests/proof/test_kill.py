"""A writer killed with SIGKILL at random moments: every acknowledged transaction is whole in all tables, nothing else is half there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.proof.judge import LONG
from tests.proof.killed_writer import KEPT, KINDS, expected, key_of, read, set_up

ROOT = Path(__file__).parents[2]
DELAY_MAX = 0.08  # Seconds to the kill: from the fork in every fourth round, else from when the database is open, however long that took.
ROUNDS = dict(zip(KINDS, [1000] * 4 if LONG else [40, 60, 60, 32], strict=True))


@pytest.mark.parametrize("kind", ROUNDS)
def test_a_killed_writer_leaves_every_acknowledged_transaction_whole(kind: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("LSMSQL_SEED", random.randrange(1 << 32)))
    print("seed", seed)
    moments = random.Random(seed)
    set_up(kind, str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = -1
    in_opening = in_flight = acknowledged = 0
    with subprocess.Popen(
        [sys.executable, "-m", "tests.proof.killed_writer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as process:
        try:
            for number in range(ROUNDS[kind]):
                begin = "pid" if number % 4 == 0 else "open"
                lines = killed_round(process, f"{kind} {tmp_path} {found + 1}", begin, moments.random() * DELAY_MAX)
                said = f"seed {seed}, round {number}, from transaction {found + 1}: the writer said {lines[-3:]}"
                assert lines[-1] == f"dead {-signal.SIGKILL}", said
                done = [int(line) for line in lines if line.isdigit()]
                last = done[-1] if done else found
                acknowledged += len(done)
                in_opening += "open" not in lines
                found = check(kind, str(tmp_path), last, said)
                in_flight += found > last
        finally:
            assert process.stdin
            process.stdin.close()
    print(f"{ROUNDS[kind]} rounds, {acknowledged} transactions acknowledged, {in_opening} killed while opening, {in_flight} with one more found")
    assert acknowledged > ROUNDS[kind]
    assert in_opening <= ROUNDS[kind] // 4
    assert found > KEPT


def killed_round(process: subprocess.Popen[str], command: str, begin: str, delay: float) -> list[str]:
    """One life of a writer, killed `delay` seconds after it has said `begin`; what it said."""
    assert process.stdin and process.stdout
    process.stdin.write(command + "\n")
    process.stdin.flush()
    lines: list[str] = []
    timer = None
    pid = 0
    while not lines or not lines[-1].startswith("dead"):
        line = process.stdout.readline().strip()
        assert line, f"the process that forks the writers is gone; it said {lines[-3:]}"
        lines.append(line)
        if line.startswith("pid"):
            pid = int(line.split()[1])
        # The child may be quicker to say that it has opened than its parent to say its number; and 0 would be all of us.
        if timer is None and pid and any(said.startswith(begin) for said in lines):
            timer = threading.Timer(delay, os.kill, (pid, signal.SIGKILL))
            timer.start()
    assert timer
    timer.join()
    return lines


def check(kind: str, directory: str, last: int, said: str) -> int:
    """The number of the transaction that the tables stand at."""
    tables = read(kind, directory)
    marks = {int(tables[table].get(key_of(-1), b"-1")) for table in expected(kind, -1)}
    assert len(marks) == 1, f"{said}: the tables stand at transactions {marks}"
    found = marks.pop()
    assert last <= found <= last + 1, f"{said}: {last} was acknowledged, {found} found"
    due = expected(kind, found)
    assert due.keys() == tables.keys(), f"{said}: at transaction {found} there are tables {sorted(tables)}"
    for table, rows in due.items():
        wrong = {key for key in rows.keys() | tables[table].keys() if rows.get(key) != tables[table].get(key)}
        assert not wrong, f"{said}: table {table} at transaction {found} differs in {sorted(wrong)[:5]}"
    return found
