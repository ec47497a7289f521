"""Arguments of CREATE VIRTUAL TABLE: what they mean, how they print, what is refused and in which words."""

from __future__ import annotations

import pytest

from lsmsql import UsageError
from lsmsql.vtab.affinity import Affinity, affinity_of
from lsmsql.vtab.schema import TableSchema
from lsmsql.vtab.tokenizer import split_arguments, tokenize

GOOD = [
    ["a"],
    ["a TEXT", "b INTEGER PRIMARY KEY"],
    ['"a b" VARCHAR(10, 2) COLLATE nocase NOT NULL', "[c d] DOUBLE PRECISION", "PRIMARY KEY ([c d] DESC, `a b` COLLATE RTRIM)"],
    ["a DEFAULT -5", "b DEFAULT +1.5e3", "c DEFAULT 'it''s'", "d DEFAULT x'00ff'", "e DEFAULT NULL", "f DEFAULT (abs(-3) || 'x')", "g DEFAULT foo"],
    ["a DEFAULT CURRENT_TIMESTAMP", "b CONSTRAINT nn NOT NULL CONSTRAINT d DEFAULT TRUE", "c NULL"],
    ["a INT", "b ANY", "PRIMARY KEY (a)", "strict = on"],
    ["id INTEGER PRIMARY KEY DESC", "v"],
    ["id INTEGER", "v", "CONSTRAINT pk PRIMARY KEY (id DESC)"],
    ["a /* what, it is */ TEXT -- and why"],
    ["'quoted' TEXT", "PRIMARY KEY ('quoted')"],
    ['"PRIMARY" TEXT', "strict TEXT"],
]


@pytest.mark.parametrize("arguments", GOOD, ids=lambda arguments: arguments[0])
def test_a_definition_survives_printing_and_reading(arguments: list[str]) -> None:
    schema = TableSchema.from_arguments("t", arguments)
    assert TableSchema.from_text("t", schema.to_text()) == schema
    assert TableSchema.from_text("t", schema.to_text()).to_text() == schema.to_text()


def test_the_three_kinds_of_primary_key() -> None:
    alias = TableSchema.from_arguments("t", ["id INTEGER PRIMARY KEY", "v"])
    assert (alias.rowid_column, alias.key) == (0, ()) and "WITHOUT ROWID" not in alias.declaration()
    implicit = TableSchema.from_arguments("t", ["v"])
    assert implicit.rowid_column is None and implicit.has_rowid
    keyed = TableSchema.from_arguments("t", ["a TEXT COLLATE NOCASE", "b INT", "PRIMARY KEY (b DESC, a)"])
    assert [(part.index, part.collation, part.descending) for part in keyed.key] == [(1, "BINARY", True), (0, "NOCASE", False)]
    assert keyed.declaration().endswith("_key BLOB HIDDEN NOT NULL PRIMARY KEY) WITHOUT ROWID")


def test_an_inline_descending_integer_key_is_no_alias_and_a_table_constraint_is() -> None:
    assert TableSchema.from_arguments("t", ["id INTEGER PRIMARY KEY DESC"]).rowid_column is None
    assert TableSchema.from_arguments("t", ["id INTEGER", "PRIMARY KEY (id DESC)"]).rowid_column == 0
    assert TableSchema.from_arguments("t", ["id INT PRIMARY KEY"]).rowid_column is None


BAD = [
    (["a CHECK (a > 0)"], "CHECK constraints are not available"),
    (["a", "CHECK (a > 0)"], "CHECK constraints are not available"),
    (["a UNIQUE"], "UNIQUE constraints are not available"),
    (["a", "CONSTRAINT u UNIQUE (a)"], "UNIQUE constraints are not available"),
    (["a", "INDEX by_a (a)"], "secondary indexes are not available"),
    (["a REFERENCES b"], "foreign keys are not available"),
    (["a", "FOREIGN KEY (a) REFERENCES b"], "foreign keys are not available"),
    (["a AS (1)"], "make a view"),
    (["a INT GENERATED ALWAYS AS (1)"], "make a view"),
    (["a INTEGER PRIMARY KEY AUTOINCREMENT"], "AUTOINCREMENT is not available"),
    (["a PRIMARY KEY ON CONFLICT REPLACE"], "ON CONFLICT belongs into the statement"),
    (["a", "PRIMARY KEY (a) ON CONFLICT IGNORE"], "ON CONFLICT belongs into the statement"),
    (["a DEFAULT (random())"], "non-deterministic functions prohibited in DEFAULT"),
    (["a DEFAULT (datetime('now'))"], "non-deterministic use of datetime() in DEFAULT"),
    (["a DEFAULT ((SELECT 1))"], "subqueries prohibited in DEFAULT"),
    (["a DEFAULT (?)"], "parameters prohibited in DEFAULT"),
    (["a DEFAULT (b)", "b"], "no such column: b"),
    (["a DEFAULT"], "a default expected at the end"),
    (["a", "compression=zstd"], "unknown option compression, there is strict"),
    (["a", "strickt=1"], "unknown option strickt, there is strict"),
    (["a", "strict=maybe"], "option strict is on or off"),
    (["strict=1", "a"], "options come after the columns"),
    (["a", "A TEXT"], "duplicate column name A"),
    (["a", "_Key"], "belongs to a hidden column"),
    (["a PRIMARY KEY", "PRIMARY KEY (a)"], "more than one primary key"),
    (["a", "PRIMARY KEY (b)"], "unknown column b in the primary key"),
    (["a", "PRIMARY KEY (a, a)"], "stands twice in the primary key"),
    (["a COLLATE frisian"], "no collation FRISIAN"),
    (["a FANCY", "strict=1"], "unknown datatype for t.a"),
    (["a", "strict=1"], "missing datatype"),
    (["a TEXT HIDDEN"], "columns cannot be hidden"),
    (["a )"], "not understood from ) on"),
    (["a 'open"], "unrecognized token"),
    ([""], "empty argument"),
    ([], "at least one column"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda value: ", ".join(value) if isinstance(value, list) else None)
def test_what_is_not_understood_is_refused_with_the_argument(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        TableSchema.from_arguments("t", arguments)
    text = str(caught.value)
    assert text.startswith("lsm: ") and message in text
    assert not arguments or any(argument.split(" ")[0] in text for argument in arguments)


def test_arguments_split_at_top_level_commas_only() -> None:
    assert split_arguments("a DECIMAL(1,2), b DEFAULT ',', \"c,d\"") == ["a DECIMAL(1,2)", "b DEFAULT ','", '"c,d"']
    assert [token.name for token in tokenize("a \"b\"\"c\" [d] `e` 'f''g' x'00'")] == ["a", 'b"c', "d", "e", "f'g", "x'00'"]


def test_affinities_follow_sqlites_substring_rules() -> None:
    names = {"CHARINT": Affinity.INTEGER, "POINT": Affinity.INTEGER, "CLOBBER": Affinity.TEXT, "": Affinity.BLOB, "BLOBREAL": Affinity.BLOB}
    names |= {"FLOATING": Affinity.REAL, "DECIMAL(1,2)": Affinity.NUMERIC, "STRING": Affinity.NUMERIC, "DOUBLE PRECISION": Affinity.REAL}
    assert {name: affinity_of(name) for name in names} == names
