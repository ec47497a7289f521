"""lsmsql manifest: what the manifest of a database says: its version, and the edits that led there."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..engine.manifest_dump import ManifestDump, dump_manifest
from ..vtab.engines import SUFFIX
from .sstable import key_given

_END_US = 253_402_300_800 * 1_000_000  # The year 10000, of which datetime knows nothing.


def add_to(commands: Any) -> None:
    """Add the command."""
    group = commands.add_parser("manifest", help="look into the manifest of a database", description=__doc__)
    shows = group.add_subparsers(dest="show", required=True, metavar="WHAT")
    dump = shows.add_parser("dump", help="the version, and the edits since its snapshot", description="Takes no lock, and changes nothing.")
    dump.add_argument("database", help="the SQLite database, app.db, or the directory beside it, app.db-lsm")
    dump.add_argument("--key", help="passphrase (default: the environment's LSMSQL_KEY)")
    dump.add_argument("--check", action="store_true", help="read every SSTable, and hold it against its checksum")
    dump.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when what was read is whole, 1 when something of it is damaged or had to be repaired."""
    dump = dump_manifest(directory_of(options.database), key_given(options))
    problems = [dump.end] if dump.end else []
    problems += [f"{path} at byte {offset}: damaged, and read by its parity or its mirror" for path, offset in dump.repairs.places]
    show(dump)
    if options.check:
        for record, wrong in dump.check_tables():
            print(f"table {record.file_id}: {wrong or 'whole'}")
            problems += [f"table {record.file_id}: {wrong}"] if wrong else []
    for problem in problems:
        print(f"lsmsql manifest: {problem}", file=sys.stderr)
    return 1 if problems else 0


def directory_of(database: str) -> str:
    """The engine directory of a database, or the path itself where it is one."""
    return database if Path(database).is_dir() else database + SUFFIX


def show(dump: ManifestDump) -> None:
    current, version = dump.current, dump.version
    print(f"database {current.database_id.hex()}{', encrypted' if current.encrypted else ''}")
    print(f"generation {current.generation}, snapshot of edit {dump.start.number}, {current.snapshot.length} bytes, {current.snapshot.digest.hex()}")
    for name in ("number", "floor", "last_seqno", "host_seqno", "next_file_id", "next_tree_id"):
        print(f"{name.replace('_', ' ')}: {getattr(version, name)}")
    print(f"WALs: {', '.join(map(str, version.wals))}; {version.wal_synced[1]} bytes of {version.wal_synced[0]} were synced")
    for tree_id, name in sorted(version.trees.items()):
        print(f"tree {tree_id}: {name}{''.join(f'{chr(10)}    {line}' for line in version.schemas.get(tree_id, '').splitlines())}")
    for table in version.tables():
        place = f"table {table.file_id} of tree {table.tree_id}, level {table.level}, run {table.run}: {table.size} bytes"
        about = f"{table.entries} entries, {table.tombstones} tombstones, seqnos {table.min_seqno} to {table.max_seqno}"
        print(f"{place}, {about}, {table.smallest!r} to {table.largest!r}, {table.checksum.hex()}")
    for name, seqno in sorted(version.snapshots.items()):
        print(f"snapshot {name!r} at seqno {seqno}")
    for (tree_id, dictionary_id), size in sorted(version.dictionaries.items()):
        print(f"dictionary {dictionary_id:#010x} of tree {tree_id}, {size} bytes")
    for blob in version.blobs.values():
        dead = f"{blob.dead_values} values and {blob.dead_bytes} bytes dead"
        print(f"blob file {blob.file_id}: {blob.values} values, {blob.raw_bytes} bytes, {blob.stored_bytes} stored, {dead}")
    for seqno, time_us in version.times:
        print(f"seqno {seqno} by {_time(time_us)}")
    for edit in dump.edits:
        changes = ", ".join(f"{field.name} {value!r}" for field in fields(edit.edit) if (value := getattr(edit.edit, field.name)) not in ((), None))
        print(f"edit {edit.number} at byte {edit.offset}, {edit.size} bytes, {_time(edit.time_us)}: {changes}")
    print("options:")
    for line in dump.options_text.splitlines():
        print(f"    {line}")


def _time(time_us: int) -> str:
    if time_us >= _END_US:
        return f"{time_us} microseconds since the Unix epoch"
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(sep=" ", timespec="milliseconds")
