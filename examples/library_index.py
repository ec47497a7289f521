"""Index every file of the running Python's library into an encrypted database, then ask it questions in SQL.

    python examples/library_index.py [DATABASE] [--root DIRECTORY] [--files N]

Shows the main job end to end: loading with a progress bar, key lookups, a key range, totals, reading the table as it was before a change,
closing and reopening, and what it all takes on disk.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lsmsql

KEY = "correct horse battery staple"
TRANSACTION_BYTES = 64 << 20
TABLE = """
CREATE VIRTUAL TABLE files USING lsm(
    path TEXT PRIMARY KEY, package TEXT NOT NULL, suffix TEXT, size INTEGER NOT NULL, mtime REAL, lines INTEGER, content BLOB)
"""
Row = tuple[str, str, str, int, float, int, bytes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", nargs="?", default="demo/library.db", type=Path)
    parser.add_argument("--root", default=sysconfig.get_path("stdlib"), type=Path, help="the directory to index")
    parser.add_argument("--files", type=int, help="stop after so many files")
    arguments = parser.parse_args()
    make_way(arguments.database)
    paths = sorted(path for path in arguments.root.rglob("*") if path.is_file())[: arguments.files]

    db = lsmsql.connect(str(arguments.database), key=KEY)
    db.execute(TABLE)
    load(db, arguments.root, paths)
    questions(db)
    total = time_travel(db)
    db.close()

    db = lsmsql.connect(str(arguments.database), key=KEY)
    assert db.execute("SELECT count(*), sum(size) FROM files").fetchone() == total, "the reopened table differs"
    print(f"\nReopened: {total[0]:,} rows, {megabytes(total[1])} of content, just as before closing.")
    db.execute("SELECT lsm_compact()")
    logical = db.execute("SELECT sum(length(path) + length(package) + length(suffix) + 24 + length(content)) FROM files").get
    db.close()
    stored = sum(file.stat().st_size for file in arguments.database.parent.glob(arguments.database.name + "*/*"))
    print(f"On disk, compressed and encrypted: {megabytes(stored)} for {megabytes(logical)} of rows ({stored / max(logical, 1):.0%}).")
    return 0


def make_way(database: Path) -> None:
    """Start from nothing: remove what an earlier run has left."""
    database.parent.mkdir(parents=True, exist_ok=True)
    for file in database.parent.glob(database.name + "*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()


def load(db: Any, root: Path, paths: list[Path]) -> None:
    """Insert every file, in transactions of about 64 MiB."""
    started = time.perf_counter()
    logical = pending = done = 0
    db.execute("BEGIN")
    for row in rows_of(root, paths):
        db.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        size = len(row[0]) + len(row[1]) + len(row[2]) + 24 + row[3]
        logical += size
        pending += size
        done += 1
        if pending >= TRANSACTION_BYTES:
            db.execute("COMMIT")
            db.execute("BEGIN")
            pending = 0
        progress(done, len(paths), logical)
    db.execute("COMMIT")
    seconds = time.perf_counter() - started
    progress(done, len(paths), logical, last=True)
    print(f"Loaded {done:,} files, {megabytes(logical)}, in {seconds:.1f} s ({logical / seconds / 1e6:.0f} MB/s).")


def rows_of(root: Path, paths: list[Path]) -> Iterator[Row]:
    for path in paths:
        try:
            content, status = path.read_bytes(), path.stat()
        except OSError as error:
            print(f"\nskipped {path}: {error}", file=sys.stderr)
            continue
        name = path.relative_to(root)
        yield (
            name.as_posix().encode(errors="replace").decode(),
            name.parts[0] if len(name.parts) > 1 else "",
            path.suffix,
            len(content),
            status.st_mtime,
            content.count(b"\n"),
            content,
        )


def progress(done: int, total: int, size: int, last: bool = False) -> None:
    if not sys.stdout.isatty() and not last:
        return
    if done % 50 == 0 or last:
        bar = "#" * (30 * done // max(total, 1))
        print(f"\r[{bar:<30}] {done:,} of {total:,} files, {megabytes(size)}", end="\n" if last else "", flush=True)


def questions(db: Any) -> None:
    ask(
        db, "The largest packages", "SELECT package, count(*), sum(size) AS bytes, sum(lines) FROM files GROUP BY package ORDER BY bytes DESC LIMIT 8"
    )
    ask(db, "Files under json/ (a key range)", "SELECT path, size, lines FROM files WHERE path >= 'json/' AND path < 'json0' ORDER BY path LIMIT 8")
    ask(db, "The largest files", "SELECT path, size FROM files ORDER BY size DESC LIMIT 5")
    first = db.execute("SELECT path FROM files WHERE suffix = '.py' AND size BETWEEN 1 AND 100000 ORDER BY path LIMIT 1").fetchone()
    if first:
        ask(db, "One file by its key", "SELECT path, lines, substr(CAST(content AS TEXT), 1, 60) FROM files WHERE path = ?", first)


def time_travel(db: Any) -> tuple[int, int]:
    """Change some rows and read the table as it was. Returns the count and size after the change."""
    db.execute("SELECT lsm_snapshot('before')")
    before = db.execute("SELECT count(*), sum(size) FROM files").fetchone()
    with db:
        db.execute("DELETE FROM files WHERE suffix = '.pyc'")
        db.execute("UPDATE files SET content = upper(CAST(content AS TEXT)), mtime = 0 WHERE path < 'b' AND suffix = '.py'")
    after = db.execute("SELECT count(*), sum(size) FROM files").fetchone()
    ask(db, "The same table as of before the change", "SELECT count(*), sum(size) FROM files WHERE _snapshot = 'before'")
    assert db.execute("SELECT count(*), sum(size) FROM files WHERE _snapshot = 'before'").fetchone() == before, "history was lost"
    print(f"Before: {before[0]:,} rows; now: {after[0]:,} rows.")
    db.execute("SELECT lsm_release('before')")
    return after  # type: ignore[no-any-return]


def ask(db: Any, title: str, sql: str, bindings: tuple[Any, ...] = ()) -> None:
    """Print a question, its plan, its answer and the time it took."""
    print(f"\n{title}\n    {sql}")
    for row in db.execute("EXPLAIN QUERY PLAN " + sql, bindings):
        print(f"    plan: {row[3]}")
    started = time.perf_counter()
    rows = db.execute(sql, bindings).fetchall()
    milliseconds = (time.perf_counter() - started) * 1000
    for row in rows:
        print("   ", "  ".join(f"{value:,}" if isinstance(value, int) else repr(value)[:70] for value in row))
    print(f"    {len(rows)} rows in {milliseconds:.1f} ms")


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
