"""Every SSTable of an lsm table says enough of itself to make the database anew from it."""

from __future__ import annotations

from pathlib import Path

from lsmsql import Options
from lsmsql.connection import connect
from lsmsql.engine.sstable.properties import Properties
from lsmsql.engine.table_dump import open_dump
from lsmsql.options import Options as ParsedOptions

SCHEMA = """CREATE VIRTUAL TABLE "my table" USING lsm(a TEXT DEFAULT (1 + 1) COLLATE NOCASE, b INTEGER, PRIMARY KEY (a, b DESC))"""


def described(path: str) -> dict[int, Properties]:
    """The properties of every SSTable, by file id."""
    found = {}
    for file in Path(path + "-lsm").glob("*.sst"):
        dump = open_dump(file, "secret")
        found[int(file.stem)] = dump.properties()
        dump.close()
    return found


def test_tables_name_their_tree_schema_options_and_what_they_replaced(path: str) -> None:
    options = Options(l0_tables=2, background=False)
    db = connect(path, key="secret", options=options)
    db.execute(SCHEMA)
    db.execute('INSERT INTO "my table" VALUES (1, 2)')
    db.engine.flush()
    db.execute('ALTER TABLE "my table" RENAME TO other')
    db.execute("CREATE VIRTUAL TABLE plain USING lsm(x)")
    db.execute("INSERT INTO other VALUES (3, 4); INSERT INTO plain VALUES (1)")
    before = described(path)
    assert len(before) == 1
    db.engine.flush()
    db.close()
    db = connect(path, key="secret")  # The schema is read from the manifest again.
    db.engine.compact()
    after = [one for _, one in sorted(described(path).items())]
    first = [one for one in after if one.tree_name.startswith("sql:my table:")][-1]
    second = [one for one in after if one.tree_name.startswith("sql:plain:")][-1]
    assert first.schema == 'CREATE VIRTUAL TABLE "my table" USING lsm(' + SCHEMA.partition("lsm(")[2]
    assert second.schema == 'CREATE VIRTUAL TABLE "plain" USING lsm(x)'
    assert set(before) < set(first.replaced) and len(first.replaced) == 2 and first.tree_id != second.tree_id
    assert ParsedOptions.from_text(first.options) == options
    db.close()
    anew = connect(":memory:")
    for one in (first, second):
        anew.execute(one.schema)
    assert anew.execute('SELECT count(*) FROM "my table", plain').get == 0
    anew.close()
