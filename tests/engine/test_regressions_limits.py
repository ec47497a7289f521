"""Numbers at the end of their range, as a hostile or ancient directory may hold them, are told in our own errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lsmsql import CorruptionError, UsageError
from lsmsql.engine.kernel import SEQNO_MAX
from lsmsql.engine.manifest.manifest import Manifest
from lsmsql.engine.storage.memory_filesystem import MemoryFileSystem

from .database_world import DIRECTORY, memory, open_database, rows


def directory_with(**fields: Any) -> MemoryFileSystem:
    """A whole database of one row whose manifest says something else in some fields."""
    fs = memory()
    with open_database(fs) as engine:
        engine.tree("kv").put(b"a", b"1")
        engine.flush()
    manifest = Manifest.open(fs, DIRECTORY, None)
    manifest._start_generation(manifest.generation + 1, replace(manifest.version, **fields))
    manifest.close()
    return fs


@pytest.mark.parametrize("fields", [{"number": (1 << 64) - 1}, {"next_file_id": (1 << 63) - 1}])
def test_a_manifest_that_leaves_no_number_to_go_on_with_is_damaged(fields: dict[str, int]) -> None:
    with pytest.raises(CorruptionError, match="impossible"):
        open_database(directory_with(**fields))


@pytest.mark.parametrize("fields", [{"floor": SEQNO_MAX}, {"last_seqno": SEQNO_MAX}, {"snapshots": {"s": SEQNO_MAX}}])
def test_behind_the_last_seqno_nothing_is_written_but_all_is_read(fields: dict[str, Any]) -> None:
    with open_database(directory_with(**fields)) as engine:
        tree = engine.tree("kv")
        assert rows(tree) == {b"a": b"1"}
        for write in (lambda: tree.put(b"b", b"2"), lambda: tree.put_many([(b"b", b"2")]), lambda: tree.ingest([(b"b", b"2")])):
            with pytest.raises(UsageError, match="limit"):
                write()
        engine.compact()
        assert rows(tree) == {b"a": b"1"}
