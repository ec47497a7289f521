"""Processes of one database: `write` commits as fast as it can, `read` checks every transaction it sees. Both for some seconds; each prints a line
of JSON at its end.

Transaction n puts the number n everywhere: as the one row of the ordinary table `o`, as the newest row of the lsm tables `a` and `b`, which
keep the last KEPT rows.
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any

import apsw

import lsmsql

KEPT = 50
SMALL = lsmsql.Options(
    durability="normal",
    memtable_bytes=40_000,
    block_bytes=512,
    table_bytes=20_000,
    l0_tables=2,
    level_bytes=60_000,
    level_ratio=3,
    manifest_bytes=4_000,
)
USUAL = lsmsql.Options(durability="normal")


def connect(path: str, options: lsmsql.Options | None = None, **flags: Any) -> lsmsql.Connection:
    connection = lsmsql.connect(path, options=options, **flags)
    connection.set_busy_timeout(5000)
    return connection


def set_up(path: str, options: lsmsql.Options) -> None:
    connection = connect(path, options)
    connection.pragma("synchronous", "normal")
    connection.execute("CREATE TABLE o(n); INSERT INTO o VALUES (0)")
    for table in "ab":
        connection.execute(f"CREATE VIRTUAL TABLE {table} USING lsm(n INTEGER PRIMARY KEY, text)")
        connection.execute(f"INSERT INTO {table} VALUES (0, '')")
    connection.close()


def write(path: str, seconds: float, options: lsmsql.Options) -> dict[str, Any]:
    connection = connect(path, options)
    connection.pragma("synchronous", "normal")
    number = first = connection.execute("SELECT n FROM o").get
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        number += 1
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE o SET n = ?", (number,))
        for table in "ab":
            connection.execute(f"INSERT INTO {table} VALUES (?, ?)", (number, str(number) * 10))
            connection.execute(f"DELETE FROM {table} WHERE n = ?", (number - KEPT,))
        connection.execute("COMMIT")
    rate, processor = (number - first) / (time.monotonic() - began), (time.process_time() - used) / (number - first)
    figures = connection.engine.statistics()
    connection.close()
    return {"rate": rate, "processor": processor, "last": number, "flushes": figures["flushes"], "compactions": figures["compactions"]}


def moment(connection: lsmsql.Connection) -> tuple[Any, ...]:
    found = tuple(connection.execute(f"SELECT max(n), count(*), total(length(text)) FROM {table}").get for table in "ab")
    return (connection.execute("SELECT n FROM o").get, *found)


def expected(number: int) -> tuple[Any, ...]:
    numbers = range(max(0, number - KEPT + 1), number + 1)
    rows = number, len(numbers), float(sum(len(str(each)) * 10 for each in numbers if each))
    return number, rows, rows


def read(path: str, seconds: float, pause: float) -> dict[str, Any]:
    connection = connect(path, flags=apsw.SQLITE_OPEN_READONLY)
    chance = random.Random(seconds)
    seen: set[int] = set()
    transactions = 0
    last = 0
    began = time.monotonic()
    joined = "SELECT o.n, (SELECT max(n) FROM a), (SELECT max(n) FROM b), (SELECT count(*) FROM b) FROM o"
    while time.monotonic() - began < seconds:
        transactions += 1
        if chance.random() < 0.5:
            number, *others = connection.execute(joined).get
            assert others == [number, number, min(number + 1, KEPT)], (number, others)
        else:
            connection.execute("BEGIN")
            first = moment(connection)
            assert first == expected(first[0]), first
            if chance.random() < 0.2:
                time.sleep(chance.random() * 0.2)
            assert moment(connection) == first
            connection.execute("COMMIT")
            number = first[0]
        assert number >= last, (number, last)
        last = number
        seen.add(number)
        time.sleep(pause)
    assert type(connection.engine).__name__ == "ReadOnlyDatabase"
    figures = connection.engine.statistics()
    connection.close()
    return {"transactions": transactions, "moments": len(seen), "last": last, "opened_tables": figures["opened_tables"]}


def main(what: str, path: str, seconds: str, more: str) -> None:
    if what == "read":
        print(json.dumps(read(path, float(seconds), float(more))))
    else:
        print(json.dumps(write(path, float(seconds), SMALL if more == "small" else USUAL)))


if __name__ == "__main__":
    main(*sys.argv[1:])
