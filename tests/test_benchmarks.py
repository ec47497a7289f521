"""The benchmark commands at a size where the figures mean nothing: every row is there, and wrong answers are noticed."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from benchmarks import autocommit, blobs, checksums, dictionaries, encryption, filters, memory, parity, report, run
from benchmarks.adapters import SYSTEMS, load
from benchmarks.adapters.sqlite import SQLite
from benchmarks.data import Dataset
from benchmarks.session import Session, WrongResult
from benchmarks.targets import TARGETS
from benchmarks.workloads import WORKLOADS, applies

ROWS = 2000


def importable(system: str) -> bool:
    try:
        load(system)
    except ImportError:
        return False
    return True


needs_engine = pytest.mark.skipif(not importable("lsmsql"), reason="lsmsql's engine cannot be imported")


def table(text: str) -> dict[str, dict[str, str]]:
    """The first table of a report: by workload title, then by column head."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    heads = lines[0]
    rows: dict[str, dict[str, str]] = {}
    for cells in lines[2:]:
        if len(cells) != len(heads):
            break
        rows[cells[0]] = dict(zip(heads, cells, strict=True))
    return rows


def measured(system: str) -> set[str]:
    return {TARGETS[name].title for name in WORKLOADS if applies(name, load(system))}


def is_figure(cell: str) -> bool:
    return re.fullmatch(r"[\d,]+(\.\d+)?", cell) is not None


@needs_engine
def test_report_has_every_row_for_lsmsql_and_sqlite(tmp_path: Path) -> None:
    systems = [system for system in ("lsmsql", "lsmsql-sql", "sqlite") if importable(system)]
    output = tmp_path / "report.md"
    arguments = ["-n", str(ROWS), "--systems", ",".join(systems), "--repeat", "1", "--idle", "0", "--encrypt", "--markdown", str(output)]
    assert run.main([*arguments, "--directory", str(tmp_path)]) == 0, output.read_text()
    rows = table(output.read_text())
    assert list(rows) == [target.title for target in TARGETS.values()]
    for system in run.with_twins(systems):
        assert {title for title, cells in rows.items() if is_figure(cells[system])} == measured(system), system
    assert rows["get, present"]["best peer"].startswith("sqlite ")
    assert is_figure(rows["get, present"]["lsmsql / best peer"])
    assert rows["get, present"]["cost of encryption"].endswith("%")
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"], "databases were left behind"


@needs_engine
def test_memory_of_a_small_load_is_measured_and_within_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memory.main(["-n", str(ROWS), "--directory", str(tmp_path)])  # the peak is this whole test process's, so the verdict says nothing
    printed = capsys.readouterr().out
    assert f"{ROWS:,} rows" in printed
    assert re.search(r"limit: [\d,]+ MB = memtables .* block cache .* 300 MB: (kept|EXCEEDED)", printed)


def test_filters_are_measured_beside_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert filters.main(["-n", "5000", "--probes", "2000", "--repeat", "1"]) == 0
    rows = table(capsys.readouterr().out)
    assert [name.partition(" (")[0] for name in rows][:3] == ["BuRR", "Bloom, same option", "Bloom, equal rate"]
    assert len(rows) == 5
    assert float(rows["BuRR (10)"]["bits/key"]) < 8 < float(rows["Bloom, same option (10)"]["bits/key"])
    assert all(is_figure(row["miss ns"]) for row in rows.values())


@needs_engine
def test_dictionaries_are_measured_where_they_pay_and_where_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dictionaries.main(["-n", "20000", "--repeat", "1", "--directory", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"saves [-\d.]+%", said)) == 2 and "dictionaries used: 1" in said and "dictionaries used: 0" in said


@needs_engine
def test_checksums_are_measured_in_loads_by_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checksums.main(["-n", str(ROWS), "--repeat", "1", "--directory", str(tmp_path)]) in (0, 1)
    said = capsys.readouterr().out
    assert said.count(f"load of {ROWS:,} rows, kv_checksums ") == 3 and "allowed +10%: " in said


@needs_engine
def test_encryption_is_measured_by_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encryption.main(["-n", str(ROWS), "--repeat", "1", "--directory", str(tmp_path)]) in (0, 1)
    said = capsys.readouterr().out
    assert said.count(" processor\n") == 6 and "allowed +10% for loads and scans, 1 us for a put: " in said


@needs_engine
def test_parity_is_measured_compiled_and_plain_and_in_a_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parity.main(["-n", str(ROWS), "--repeat", "1", "--seconds", "0.001", "--directory", str(tmp_path)])
    printed = capsys.readouterr().out
    assert re.search(r"plain rs\(4,2\), frames of 4000 bytes: encode [\d,]+ MB/s, reconstruct 2 lost [\d,]+ MB/s", printed)
    assert re.search(r"rs\(4,2\) takes [+-][\d.]+% time to load; allowed \+25%: (kept|EXCEEDED)", printed)
    assert not list(tmp_path.iterdir())


def test_sqlite_alone_fills_its_rows(tmp_path: Path) -> None:
    figures: dict[str, list[float]] = {}
    workloads = [name for name in WORKLOADS if applies(name, SQLite)]
    task = {"system": "sqlite", "workloads": workloads, "rows": ROWS, "seed": 1, "idle": 0, "directory": str(tmp_path), "core": None}
    assert run.run_worker(task, figures) == ""
    assert list(figures) == workloads
    assert all(figure > 0 for values in figures.values() for figure in values)


class Forgetful(SQLite):
    """Loses the last row of each batch."""

    def put_many(self, rows: list[tuple[bytes, bytes]]) -> None:
        super().put_many(rows[:-1])


class Stale(SQLite):
    """Never overwrites."""

    def put_many(self, rows: list[tuple[bytes, bytes]]) -> None:
        with self.connection:
            self.connection.executemany("INSERT OR IGNORE INTO kv(key, value) VALUES (?, ?)", rows)


@pytest.mark.parametrize(("adapter", "workload"), [(Forgetful, "load_random"), (Forgetful, "load_sorted"), (Stale, "scan_overwritten")])
def test_wrong_answers_are_an_error(tmp_path: Path, adapter: type[SQLite], workload: str) -> None:
    session = Session(adapter, tmp_path, Dataset(ROWS, seed=1), idle=0)
    try:
        with pytest.raises(WrongResult):
            WORKLOADS[workload](session)
    finally:
        session.close()


@needs_engine
@pytest.mark.parametrize("rows", ["0", str(ROWS)])
def test_single_inserts_are_compared_by_both_clocks(tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str) -> None:
    assert autocommit.main(["-n", rows, "--inserts", "20", "--rounds", "3", "--directory", str(tmp_path)]) in (0, 1)
    assert re.findall(r"^  (\w+): lsm .* ordinary .* ratio \d+\.\d\d ", capsys.readouterr().out, re.M) == ["wall", "thread"]


def test_single_inserts_that_are_lost_are_an_error(tmp_path: Path) -> None:
    system = SQLite(tmp_path)
    autocommit.measure([system], 3, random.Random(1))
    autocommit.check([system], 3)
    with pytest.raises(WrongResult):
        autocommit.check([system], 4)
    system.close()


def test_a_worker_that_fails_is_reported(tmp_path: Path) -> None:
    task = {"system": "sqlite", "workloads": ["no such"], "rows": 0, "seed": 1, "idle": 0, "directory": str(tmp_path / "missing"), "core": None}
    assert "missing" in run.run_worker(task, {})


def test_missing_packages_are_skipped_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SYSTEMS, "lmdb", ("not_there", "LMDB"))
    found, skipped = run.available(["sqlite", "lmdb"])
    assert found == ["sqlite"]
    assert len(skipped) == 1
    assert "lmdb" in skipped[0]


def test_every_workload_has_a_row_and_every_row_a_workload() -> None:
    assert sorted(WORKLOADS) == sorted(TARGETS)


def test_verdicts_compare_medians_with_the_best_peer_and_the_targets() -> None:
    figures: report.Figures = {
        "lsmsql": {"get_present": [9.0, 2.0, 2.0], "get_many": [0.5], "scan_all": [0.9]},
        "lsmsql-encrypted": {"get_present": [2.2]},
        "sqlite": {"get_present": [4.0], "get_many": [5.0], "scan_all": [0.3]},
        "lmdb": {"get_present": [5.0]},
    }
    rows = table(report.render(figures, ["scan_all", "get_present", "get_many"], []))
    present = rows["get, present"]
    assert [present[head] for head in ("lsmsql", "best peer", "lsmsql / best peer", "reached", "cost of encryption")] == [
        "2.00",
        "sqlite 4.00",
        "0.500",
        "first",
        "+10 %",
    ]
    assert rows["get_many(100)"]["reached"] == "goal"
    assert rows["full scan"]["reached"] == "no"
    assert rows["full scan"]["lmdb"] == "–"


def test_the_blob_benchmark_reads_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = ["lsmsql", "lsmsql rs(4,2)", "lsmsql encrypted", "sqlite 4 KiB"]
    assert blobs.main(["--megabytes", "1", "--repeat", "1", "--directory", str(tmp_path), "--stores", *stores]) in (0, 1)
    out = capsys.readouterr().out
    assert all(out.count(f"  {name:24}") == 3 for name in stores)
