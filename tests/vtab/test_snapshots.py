"""Which moment a statement outside of BEGIN reads lsm tables at: that of SQLite's own snapshot."""

from __future__ import annotations

import pytest

from lsmsql import Options
from lsmsql.connection import connect

QUIET = Options(background=False)
BOTH = "BEGIN; INSERT INTO o VALUES ({0}); INSERT INTO t VALUES ({0}); COMMIT"


@pytest.mark.parametrize("unfinished", ["SELECT x FROM o", "SELECT x, CASE x WHEN 1 THEN 2 ELSE (SELECT count(*) FROM t) END FROM o ORDER BY rowid"])
def test_both_kinds_of_table_show_the_moment_at_which_an_unfinished_select_began(path: str, unfinished: str) -> None:
    db, other = connect(path, options=QUIET), connect(path, options=QUIET)
    db.execute("CREATE TABLE o(x); CREATE VIRTUAL TABLE t USING lsm(a INTEGER PRIMARY KEY)")
    for number in (1, 2):
        db.execute(BOTH.format(number))
    cursor = db.execute(unfinished)
    first = next(cursor)
    other.execute(BOTH.format(3))
    assert db.execute("SELECT (SELECT count(*) FROM o), (SELECT count(*) FROM t)").get == (2, 2)
    rest = cursor.fetchall()
    assert [first, *rest] == ([(1,), (2,)] if "CASE" not in unfinished else [(1, 2), (2, 2)])
    assert db.execute("SELECT (SELECT count(*) FROM o), (SELECT count(*) FROM t)").get == (3, 3)
    db.close()
    other.close()
