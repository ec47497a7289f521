"""Key bytes in SQLite's order and row bytes there and back, with SQLite as the judge of the order."""

from __future__ import annotations

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsmsql.vtab.key_codec_cy import COLLATION_CODES, KeyCodec, decode_rowid, encode_rowid, encode_value, successor
from lsmsql.vtab.row_codec_cy import RowCodec, RowDecoder

from .test_affinity import integers, reals

texts = st.one_of(st.text("aAbB \0é\x01", max_size=5), st.text(st.characters(exclude_categories=("Cs",)), max_size=5))
values = st.one_of(st.none(), integers, reals, texts, st.binary(max_size=5))
collations = st.sampled_from(sorted(COLLATION_CODES))


@pytest.fixture(scope="module")
def judge() -> apsw.Connection:
    return apsw.Connection(":memory:")


def sqlite_less(judge: apsw.Connection, a: object, b: object, collation: str) -> bool:
    """Whether a comes before b in ORDER BY, and not with it."""
    rows = judge.execute(f"SELECT i FROM (SELECT 0 AS i, ?1 AS v UNION ALL SELECT 1, ?2) ORDER BY v COLLATE {collation}, i DESC", (a, b))
    return rows.fetchall()[0][0] == 0


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(values, values, collations)
def test_keys_order_as_sqlite_orders(judge: apsw.Connection, a: object, b: object, collation: str) -> None:
    code = COLLATION_CODES[collation]
    less = sqlite_less(judge, a, b, collation)
    assert (encode_value(a, code) < encode_value(b, code)) == less
    assert (encode_value(a, code, True) > encode_value(b, code, True)) == less


@settings(max_examples=500, deadline=None, derandomize=True)
@given(values, values, values, st.booleans())
def test_a_prefix_and_its_successor_enclose_its_keys_and_no_others(a: object, b: object, c: object, descending: bool) -> None:
    codec = KeyCodec([(0, descending, False), (0, not descending, False)])
    prefix, key, other = codec.encode([a]), codec.encode([a, b]), codec.encode([c, b])
    assert prefix <= key < successor(prefix)
    assert (prefix <= other < successor(prefix)) == (codec.encode([c]) == prefix)
    assert codec.split(key, 1) == len(prefix) and codec.split(key, 2) == len(key)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.lists(values, min_size=3, max_size=3), collations, st.booleans())
def test_what_a_key_tells_faithfully_comes_back_exactly(row: list[object], collation: str, descending: bool) -> None:
    codec = KeyCodec([(COLLATION_CODES[collation], descending, False)] * 3)
    for index, (value, found) in enumerate(zip(row, codec.decode(codec.encode(row), 3), strict=True)):
        same = type(value) is type(found) and repr(value) == repr(found)
        assert same == codec.is_faithful(index, value)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_rowids_order_as_integers(a: int, b: int) -> None:
    assert decode_rowid(encode_rowid(a)) == a and len(encode_rowid(a)) == 8
    assert (encode_rowid(a) < encode_rowid(b)) == (a < b)


rows = st.lists(st.one_of(values, st.text(max_size=300), st.binary(max_size=300)), min_size=5, max_size=5)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(rows, st.sets(st.integers(0, 7)))
def test_rows_come_back_with_types_and_only_used_columns(row: list[object], used: set[int]) -> None:
    keys = KeyCodec([(1, True, False), (0, False, False)])
    codec = RowCodec(5, (-1, 0, -1, 1, -1), keys, -1)
    key = keys.encode([row[1], row[3]])
    found = RowDecoder(codec, used, [None] * 5, "then").rows([key], [codec.encode(row)], [42])[0]
    expected = [value if i in used else None for i, value in enumerate(row)]
    expected += ["then", 42 if 6 in used else None, key if 7 in used else None, None]
    assert [(type(value), repr(value)) for value in found] == [(type(value), repr(value)) for value in expected]


def test_a_row_written_before_columns_were_added_reads_their_defaults() -> None:
    old, new = RowCodec(2, (-1, -1), None, -1), RowCodec(4, (-1,) * 4, None, -1)
    value = old.encode(["a", 1])
    assert RowDecoder(new, range(4), [None, None, "x", 7]).rows([encode_rowid(9)], [value])[0] == ["a", 1, "x", 7, None, None, None, 9]


def test_wide_rows_have_long_headers() -> None:
    for count in (125, 126, 127, 128, 2000):
        codec = RowCodec(count, (-1,) * count, None, -1)
        row = list(range(count))
        assert RowDecoder(codec, range(count), row).rows([encode_rowid(1)], [codec.encode(row)])[0][:count] == row


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(rows, st.data())
def test_damaged_rows_and_keys_raise_valueerror_or_read_as_something(row: list[object], data: st.DataObject) -> None:
    keys = KeyCodec([(1, True, False), (0, False, False)])
    codec = RowCodec(5, (-1, 0, -1, 1, -1), keys, -1)
    key, value = keys.encode([row[1], row[3]]), bytearray(codec.encode(row))
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(value)))
    key_cut = data.draw(st.integers(0, len(key)))
    for some_key, some_value in ((key, bytes(value)), (key, bytes(value[:cut])), (key[:key_cut], codec.encode(row))):
        try:
            RowDecoder(codec, range(5), [None] * 5).rows([some_key], [some_value])
        except ValueError:
            pass  # UnicodeDecodeError is one too.
