"""Column affinity, with SQLite as the judge."""

from __future__ import annotations

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lsmsql.vtab.affinity import Affinity, stored

_TYPES = {Affinity.NUMERIC: "NUMERIC", Affinity.INTEGER: "INTEGER", Affinity.REAL: "REAL", Affinity.TEXT: "TEXT", Affinity.BLOB: "BLOB"}

edges = st.sampled_from([p for k in (15, 31, 51, 52, 53, 54, 62, 63) for p in (2**k - 1, 2**k, 2**k + 1, -(2**k), -(2**k) - 1)])
integers = st.one_of(st.integers(-(2**63), 2**63 - 1), edges.filter(lambda n: -(2**63) <= n < 2**63))
reals = st.one_of(st.floats(allow_nan=False), edges.map(float))
numbers_as_text = st.one_of(
    edges.map(str), edges.map(lambda n: f"{n}.0"), reals.map(repr), st.decimals(allow_nan=False, allow_infinity=False).map(str)
)
digits = st.text("0123456789.eE+-_x \t\n\v\f\r\0", max_size=12)
padded = st.builds(lambda a, b, c: a + b + c, st.text(" \t\n\v\f\r", max_size=2), numbers_as_text, st.text(" \t\n\v\f\r\0x", max_size=2))
texts = st.one_of(numbers_as_text, digits, padded, st.text(st.characters(exclude_categories=("Cs",)), max_size=6))
values = st.one_of(st.none(), integers, reals, texts, st.binary(max_size=6))


@pytest.fixture(scope="module")
def judge() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t(" + ", ".join(f"{name} {name}" for name in _TYPES.values()) + ")")
    return connection


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(values)
@example("0x10")
@example("5\0")
@example("9223372036854775807\0")
@example("9223372036854775808")
@example("1e400")
@example(-0.0)
@example(9223372036854775807.0)
@example(" 5.")
@example("1_000")
@example("\u0665")
def test_a_column_stores_what_sqlites_would(judge: apsw.Connection, value: object) -> None:
    judge.execute("DELETE FROM t")
    judge.execute("INSERT INTO t VALUES (?1, ?1, ?1, ?1, ?1)", (value,))
    expected = judge.execute("SELECT * FROM t").fetchall()[0]
    found = [stored(affinity, value) for affinity in _TYPES]
    assert [(type(x), repr(x)) for x in found] == [(type(x), repr(x)) for x in expected]
