"""One function per row of the report. Each returns one figure in the unit of targets.py and has checked what it read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from .adapters.base import Adapter
from .data import BATCH, KEY_BYTES, VALUE_BYTES, random_keys, random_values
from .pauses import get_pause, get_pause_longest, put_pause_longest
from .session import MICRO, OPERATIONS, SAMPLE, Session, Stopwatch, check
from .sql_workloads import sql_all, sql_by_key, sql_count_sum, sql_insert

Workload = Callable[[Session], float]
SCANS = 20_000


def load_random(session: Session) -> float:
    return session.load() / len(session.data.keys) * MICRO


def load_ingest(session: Session) -> float:
    rows = session.data.laid_out()
    with session.fresh() as database:
        with Stopwatch() as watch:
            database.ingest(rows)
            database.flush()
        session.check_content(database)
    return watch.seconds / len(rows) * MICRO


def load_sorted(session: Session) -> float:
    rows = session.data.laid_out()
    with session.fresh() as database:
        with Stopwatch() as watch:
            for start in range(0, len(rows), BATCH):
                database.put_many(rows[start : start + BATCH])
            database.flush()
        session.check_content(database)
    return watch.seconds / len(rows) * MICRO


def put(session: Session) -> float:
    rows = session.data.rows()[:OPERATIONS]
    with session.fresh() as database:
        with Stopwatch() as watch:
            call = database.put
            for key, value in rows:
                call(key, value)
        check(list(database.scan_all()) == sorted(rows), "a full scan differs from what was put")
    return watch.seconds / len(rows) * MICRO


def get_present(session: Session) -> float:
    database = session.loaded()
    keys = [session.data.keys[index] for index in session.data.indexes(session.reads, "get present")]
    missing = 0
    with Stopwatch() as watch:
        get = database.get
        for key in keys:
            if get(key) is None:
                missing += 1
    check(missing == 0, f"{missing} keys are missing")
    session.check_sample(database, "get")
    return watch.seconds / len(keys) * MICRO


def get_many(session: Session) -> float:
    database = session.loaded()
    indexes = session.data.indexes(session.reads, "get many")
    portions = [[session.data.keys[index] for index in indexes[start : start + 100]] for start in range(0, len(indexes), 100)]
    values: list[bytes | None] = []
    with Stopwatch() as watch:
        call = database.get_many
        for portion in portions:
            values = call(portion)
    check(values == [session.data.values[index] for index in indexes[-100:]], "the last get_many has wrong values")
    value_of = dict(zip(session.data.keys, session.data.values, strict=True))
    for portion in portions[: SAMPLE // 100]:
        check(call([*portion, b"none"]) == [*map(value_of.get, portion), None], "get_many has wrong values")
    return watch.seconds / len(indexes) * MICRO


def get_absent(session: Session) -> float:
    database = session.loaded()
    keys = random_keys(session.reads, session.data.source("get absent"))
    found = 0
    with Stopwatch() as watch:
        get = database.get
        for key in keys:
            if get(key) is not None:
                found += 1
    check(found == 0, f"{found} absent keys have values")
    return watch.seconds / len(keys) * MICRO


def scan_100(session: Session) -> float:
    database = session.loaded()
    content = session.data.content()
    length = min(100, len(content))
    source = session.data.source("scan 100")
    starts = [int(source.random() * (len(content) - length + 1)) for _ in range(min(SCANS, len(content)))]
    keys = [content[start][0] for start in starts]
    rows = 0
    with Stopwatch() as watch:
        scan = database.scan
        for key in keys:
            rows += len(scan(key, length))
    check(rows == length * len(keys), f"{rows} rows instead of {length * len(keys)}")
    for start in starts[:SAMPLE]:
        check(scan(content[start][0], length) == content[start : start + length], "a short scan has wrong rows")
    return watch.seconds / len(keys) * MICRO


def scan_all(session: Session) -> float:
    return _scan(session, session.loaded())


def overwrite(session: Session) -> float:
    return session.overwrite() / (len(session.data.keys) // 2) * MICRO


def scan_overwritten(session: Session) -> float:
    return _scan(session, session.overwritten())


def _scan(session: Session, database: Adapter) -> float:
    with Stopwatch() as watch:
        last = deque(database.scan_all(), maxlen=1)
    content = session.data.content()
    check(last.pop() == content[-1], "the last row is wrong")
    session.check_content(database)
    return watch.seconds / len(content) * MICRO


def mixed(session: Session) -> float:
    database = session.loaded()
    source = session.data.source("mixed")
    indexes = session.data.zipf_indexes(min(OPERATIONS, len(session.data.keys)), "mixed indexes")
    new = random_values(len(indexes), source)
    operations = [(session.data.keys[index], value if source.random() < 0.5 else None) for index, value in zip(indexes, new, strict=True)]
    with Stopwatch() as watch:
        get, put = database.get, database.put
        for key, value in operations:
            if value is None:
                get(key)
            else:
                put(key, value)
    for index, (_, value) in zip(indexes, operations, strict=True):
        if value is not None:
            session.data.values[index] = value
    session.unsettle()
    session.check_content(database)
    return watch.seconds / len(operations) * MICRO


def space(session: Session) -> float:
    database = session.loaded()
    database.flush()
    database.compact()
    session.check_content(database)
    session.unsettle()
    session.loaded()  # opening removes the files that closing leaves behind
    session.close()
    rows = len(session.data.keys) + len(session.data.inserted)
    return disk_bytes(session.path) / (rows * (KEY_BYTES + VALUE_BYTES))


def disk_bytes(path: Path) -> int:
    """Bytes of all files under a directory, by their blocks: a sparse file counts as what it takes."""
    return sum(min(file.stat().st_size, file.stat().st_blocks * 512) for file in path.rglob("*") if file.is_file())


WORKLOADS: dict[str, Workload] = {
    "load_random": load_random,
    "load_ingest": load_ingest,
    "load_sorted": load_sorted,
    "put": put,
    "get_present": get_present,
    "get_many": get_many,
    "get_absent": get_absent,
    "scan_100": scan_100,
    "scan_all": scan_all,
    "sql_by_key": sql_by_key,
    "sql_count_sum": sql_count_sum,
    "sql_all": sql_all,
    "overwrite": overwrite,
    "scan_overwritten": scan_overwritten,
    "mixed": mixed,
    "sql_insert": sql_insert,
    "get_pause": get_pause,
    "get_pause_longest": get_pause_longest,
    "put_pause_longest": put_pause_longest,
    "space": space,
}
"""In the order in which a worker runs them: reads of the loaded database before anything changes it."""


def applies(name: str, adapter: type[Adapter]) -> bool:
    """Whether a system has what the workload measures: SQL, compaction behind the caller's back."""
    if name.startswith("sql_"):
        return adapter.sql
    if "_pause" in name:
        return adapter.background_compaction
    return True
