"""Golden plans: what EXPLAIN QUERY PLAN says of each query in data/plans.txt, and that each plan's text reads back as the plan.

LSMSQL_REWRITE=1 writes the file anew; the diff is the review.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lsmsql import UsageError
from lsmsql.connection import Connection
from lsmsql.vtab.plan import Plan
from lsmsql.vtab.planner import Constraint, choose
from lsmsql.vtab.schema import TableSchema

DATA = Path(__file__).parent / "data" / "plans.txt"
SCHEMAS = {
    "readings": "device TEXT, ts INTEGER, value REAL, note TEXT COLLATE NOCASE, PRIMARY KEY (device, ts DESC)",
    "numbers": "id INTEGER PRIMARY KEY, a, b",
    "plain": "a TEXT, b",
    "folded": "name TEXT COLLATE NOCASE PRIMARY KEY, v",
    "mixed": "a INTEGER, b REAL, c TEXT, v, PRIMARY KEY (a, b, c)",
}


def test_plans_are_those_in_the_golden_file(db: Connection) -> None:
    for name, definition in SCHEMAS.items():
        db.execute(f"CREATE VIRTUAL TABLE {name} USING lsm({definition})")
    db.execute("CREATE TABLE ordinary(x INTEGER, y TEXT)")
    lines = []
    for line in DATA.read_text().splitlines():
        if line.startswith("    "):
            continue
        lines.append(line)
        if line and not line.startswith("#"):
            lines += ["    " + row[3] for row in db.execute("EXPLAIN QUERY PLAN " + line, [None] * line.count("?"))]
    text = "\n".join(lines) + "\n"
    if os.environ.get("LSMSQL_REWRITE") == "1":
        DATA.write_text(text)
    assert text == DATA.read_text()
    plans = [line.partition("VIRTUAL TABLE INDEX 0:") for line in lines if "VIRTUAL TABLE INDEX 0:" in line]
    assert len(plans) > 30
    for before, _, text in plans:
        plan = text.removesuffix(" LEFT-JOIN")  # SQLite's own word
        name = {"now": "numbers", "old": "numbers"}.get(before.split()[1], before.split()[1])
        schema = TableSchema.from_arguments("t", _split(SCHEMAS[name]))
        assert Plan.from_text(schema, plan).to_text(schema) == plan


def _split(definition: str) -> list[str]:
    from lsmsql.vtab.tokenizer import split_arguments

    return split_arguments(definition)


def test_odd_column_names_survive_in_a_plan() -> None:
    schema = TableSchema.from_arguments("t", ['"and" TEXT', '"a ; b" INT', "[in]", 'PRIMARY KEY ("and", "a ; b")'])
    choice = choose(schema, [Constraint(0, "=", listed=True), Constraint(1, ">=")], [(0, False)], frozenset(range(3)))
    assert choice is not None
    assert Plan.from_text(schema, choice.plan.to_text(schema)) == choice.plan


READINGS = TableSchema.from_arguments("readings", _split(SCHEMAS["readings"]))
SNAPSHOT, SEQNO = 4, 5


def test_a_collation_other_than_the_keys_is_no_use() -> None:
    choice = choose(READINGS, [Constraint(0, "=", collation="NOCASE")], [], frozenset({0}))
    assert choice is not None and choice.plan.equal == () and not choice.arguments


def test_limit_is_taken_only_when_nothing_else_is_left() -> None:
    numbers = TableSchema.from_arguments("numbers", _split(SCHEMAS["numbers"]))
    limit, offset = Constraint(0, "LIMIT"), Constraint(0, "OFFSET")
    taken = choose(numbers, [Constraint(0, ">"), offset, limit], [(0, True)], frozenset({0}))
    assert taken is not None and taken.plan.limit and taken.plan.offset and taken.plan.order == "reverse"
    assert taken.arguments == [0, 2, 1] and taken.omit == {0, 1, 2}
    for constraints, orders in (
        ([limit, Constraint(1, "=")], []),
        ([limit], [(1, False)]),
        ([limit, Constraint(0, "")], []),
        ([limit, Constraint(0, "=", listed=True)], []),
        ([limit, Constraint(0, ">=")], []),
        ([limit, Constraint(0, "<=")], []),
    ):
        left = choose(numbers, constraints, orders, frozenset({0, 1}))
        assert left is not None and not left.plan.limit


def test_a_text_column_is_always_checked_again_and_so_is_all_behind_it() -> None:
    choice = choose(READINGS, [Constraint(0, "="), Constraint(1, "=")], [], frozenset({0, 1}))
    assert choice is not None and choice.plan.equal == ("=", "=") and not choice.omit and not choice.unique


def test_like_adds_the_blobs_that_its_range_leaves_out() -> None:
    choice = choose(READINGS, [Constraint(0, ">="), Constraint(0, "<"), Constraint(0, "LIKE")], [], frozenset({0}))
    assert choice is not None and choice.plan.blobs


def test_snapshot_must_be_usable_and_used_as_a_constraint() -> None:
    assert choose(READINGS, [Constraint(SNAPSHOT, "=", usable=False)], [], frozenset({0, SNAPSHOT})) is None
    for constraints in ([], [Constraint(SNAPSHOT, ">")], [Constraint(SNAPSHOT, "IS")]):
        with pytest.raises(UsageError, match="_snapshot can only be"):
            choose(READINGS, constraints, [], frozenset({0, SNAPSHOT}))
    with pytest.raises(UsageError, match="the past cannot be changed"):
        choose(READINGS, [Constraint(SNAPSHOT, "=")], [], frozenset(range(64)))


def test_without_push_down_only_the_snapshot_is_used() -> None:
    constraints = [Constraint(0, "="), Constraint(SNAPSHOT, "="), Constraint(SEQNO, ">")]
    choice = choose(READINGS, constraints, [(0, False)], frozenset({0, SNAPSHOT, SEQNO}), push_down=False)
    assert choice is not None and choice.arguments == [1] and choice.plan == Plan(snapshot=True, columns=(0, SNAPSHOT, SEQNO))


def test_in_over_a_subquery_that_finds_nothing(db: Connection) -> None:
    db.execute("CREATE VIRTUAL TABLE r USING lsm(id INTEGER PRIMARY KEY, v); INSERT INTO r VALUES (1, 1), (2, 2), (3, 3)")
    db.execute("CREATE VIRTUAL TABLE t USING lsm(a TEXT, b INTEGER, PRIMARY KEY (a, b)); INSERT INTO t VALUES ('x', 1), ('x', 2), ('y', 1)")
    db.execute("CREATE TABLE empty(z)")
    for push_down in (True, False):
        db.session.push_down = push_down
        for where in ("id IN (SELECT z FROM empty)", "id IN (SELECT id FROM r WHERE id > 5)", "id IN ()"):
            assert db.execute(f"SELECT * FROM r WHERE {where} ORDER BY id LIMIT 2").fetchall() == []
        assert db.execute("SELECT * FROM t WHERE a = 'x' AND b IN (SELECT z FROM empty)").fetchall() == []
        assert db.execute("SELECT * FROM t WHERE a IN (SELECT z FROM empty) AND b IN (1, 2)").fetchall() == []
        assert db.execute("SELECT * FROM t WHERE a IN ('y', 'x') AND b IN (2, 1) ORDER BY a DESC, b LIMIT 2").fetchall() == [("y", 1), ("x", 1)]
        db.execute("DELETE FROM r WHERE id IN (SELECT z FROM empty)")
        assert db.changes() == 0
    db.execute("DELETE FROM r WHERE id IN (SELECT id FROM r ORDER BY id DESC LIMIT 2)")
    assert db.execute("SELECT id FROM r").fetchall() == [(1,)]


def test_in_compares_a_text_key_with_each_value_by_itself(db: Connection) -> None:
    db.execute("CREATE VIRTUAL TABLE t USING lsm(k TEXT PRIMARY KEY, v); CREATE TABLE numbers(x INTEGER, y)")
    db.execute("INSERT INTO t VALUES ('5', 1), ('05', 2), ('5.0', 3), ('a', 4); INSERT INTO numbers VALUES (5, '05'), (7, 'a')")
    assert db.execute("SELECT v FROM t WHERE k IN (5, 5.0, 'a')").fetchall() == [(1,), (3,), (4,)]
    assert db.execute("SELECT v FROM t WHERE k IN (SELECT x FROM numbers)").fetchall() == [(1,)]
    assert db.execute("SELECT v FROM t WHERE k IN (SELECT y FROM numbers)").fetchall() == [(2,), (4,)]


@pytest.mark.parametrize(
    "where", ["(ts, id) > (5, 2)", "(ts, id) >= (5, 3)", "(ts, id) < (5, 4)", "(ts, id) <= (5, 3)", "ts = 5 AND (id, v) > (2, 0)"]
)
@pytest.mark.parametrize("end", ["LIMIT 2", "LIMIT 1 OFFSET 1", "LIMIT -1 OFFSET 1"])
@pytest.mark.parametrize("order", ["", "ORDER BY ts, id", "ORDER BY ts DESC, id DESC"])
def test_pages_that_begin_behind_a_row_value_are_full(db: Connection, where: str, end: str, order: str) -> None:
    definition = "ts INTEGER, id INTEGER, v, PRIMARY KEY (ts, id)"
    db.execute(f"CREATE VIRTUAL TABLE t USING lsm({definition}); CREATE TABLE twin({definition}) WITHOUT ROWID")
    rows = [(ts, number, 0) for ts in (4, 5, 6) for number in range(1, 5)]
    for table in ("t", "twin"):
        db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
    found, expected = (db.execute(f"SELECT * FROM {table} WHERE {where} {order} {end}").fetchall() for table in ("t", "twin"))
    assert found == expected


def test_pages_of_a_rowid_table_that_begin_behind_a_row_value_are_full(db: Connection) -> None:
    db.execute("CREATE VIRTUAL TABLE t USING lsm(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 5), (2, 6), (3, 7)")
    assert db.execute("SELECT id FROM t WHERE (id, v) > (1, 9) ORDER BY id LIMIT 1").fetchall() == [(2,)]
    assert db.execute("SELECT id FROM t WHERE (id, v) < (3, 0) ORDER BY id DESC LIMIT 1").fetchall() == [(2,)]
