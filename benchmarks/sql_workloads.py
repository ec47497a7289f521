"""The rows of the report that only systems with SQL have, on their table kv(key, value)."""

from __future__ import annotations

from collections import deque

from .data import VALUE_BYTES, random_keys, random_values
from .session import MICRO, OPERATIONS, SAMPLE, Session, Stopwatch, check


def sql_insert(session: Session) -> float:
    connection = session.loaded().connection
    source = session.data.source("sql insert")
    count = min(OPERATIONS, len(session.data.keys))
    rows = list(zip(random_keys(count, source), random_values(count, source), strict=True))
    with Stopwatch() as watch, connection:
        connection.executemany("INSERT INTO kv(key, value) VALUES (?, ?)", rows)
    session.data.inserted += rows
    session.unsettle()
    session.check_content(session.loaded())
    return watch.seconds / count * MICRO


def sql_by_key(session: Session) -> float:
    execute = session.loaded().connection.execute
    indexes = session.data.indexes(session.reads, "sql by key")
    keys = [session.data.keys[index] for index in indexes]
    rows = 0
    with Stopwatch() as watch:
        for key in keys:
            rows += len(execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchall())
    check(rows == len(keys), f"{rows} rows instead of {len(keys)}")
    for index in indexes[:SAMPLE]:
        row = execute("SELECT value FROM kv WHERE key = ?", (session.data.keys[index],)).get
        check(row == session.data.values[index], "a wrong value by key")
    return watch.seconds / len(keys) * MICRO


def sql_count_sum(session: Session) -> float:
    connection = session.loaded().connection
    with Stopwatch() as watch:
        row = connection.execute("SELECT count(*), sum(length(value)) FROM kv").fetchone()
    rows = len(session.data.keys) + len(session.data.inserted)
    check(row == (rows, rows * VALUE_BYTES), f"count and sum are {row}")
    return watch.seconds / rows * MICRO


def sql_all(session: Session) -> float:
    connection = session.loaded().connection
    with Stopwatch() as watch:
        last = deque(connection.execute("SELECT key, value FROM kv"), maxlen=1)
    content = session.data.content()
    check(last.pop() == content[-1], "the last row is wrong")
    check(connection.execute("SELECT key, value FROM kv").fetchall() == content, "SELECT has wrong rows")
    return watch.seconds / len(content) * MICRO
