"""Measure lsmsql beside its peers: python -m benchmarks.run -n 200000 --systems lsmsql,sqlite,rocksdb --repeat 3 --markdown out.md"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .adapters import SYSTEMS, encrypted, load
from .report import Figures, notes, number, render
from .targets import TARGETS
from .workloads import WORKLOADS, applies

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 1 when a system failed or none could run, 2 for bad arguments."""
    options = parser().parse_args(arguments)
    systems, skipped = available(with_twins(options.systems) if options.encrypt else options.systems)
    for line in skipped:
        say(line)
    if not systems:
        return 1
    figures: Figures = {system: {} for system in systems}
    failures: list[str] = []
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="lsmsql-benchmark-") as directory:
        for repetition in range(1, options.repeat + 1):
            for system in systems:
                say(f"repetition {repetition}/{options.repeat}: {system}")
                task = {
                    "system": system,
                    "workloads": [name for name in options.workloads if applies(name, load(system))],
                    "rows": options.rows,
                    "seed": options.seed,
                    "idle": options.idle,
                    "directory": directory,
                    "core": options.core,
                }
                failure = run_worker(task, figures[system])
                if failure:
                    failures.append(f"**{system}** failed in repetition {repetition}: {failure}")
                    say(failures[-1])
    text = render(figures, options.workloads, notes(systems, skipped + failures, options.rows, options.repeat, options.core))
    print(text)
    if options.markdown:
        Path(options.markdown).write_text(text, encoding="utf-8")
    return 1 if failures else 0


def run_worker(task: dict[str, Any], figures: dict[str, list[float]]) -> str:
    """Run one worker and add what it measures; what went wrong in one line, empty if nothing."""
    command = [sys.executable, "-m", "benchmarks.worker", json.dumps(task)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            message = json.loads(line)
            if "workload" in message:
                name, figure = message["workload"], message["figure"]
                figures.setdefault(name, []).append(figure)
                say(f"  {TARGETS[name].title}: {number(figure)} {TARGETS[name].unit}")
            else:
                say(f"  peak memory: {message['peak_rss'] >> 20} MiB, of it the data and its copies in the harness")
        code = process.wait()
        errors.seek(0)
        last = errors.read().strip().rpartition("\n")[2]
    return "" if code == 0 else last or f"the worker ended with code {code}"


def available(systems: list[str]) -> tuple[list[str], list[str]]:
    """The systems that can run here, and a line for each that cannot."""
    found, skipped = [], []
    for system in systems:
        try:
            load(system)
        except ImportError as error:
            skipped.append(f"**{system}** skipped: {error}")
        else:
            found.append(system)
    return found, skipped


def with_twins(systems: list[str]) -> list[str]:
    """The systems, each followed by its encrypted twin where it has one."""
    both = [name for system in systems for name in (system, encrypted(system)) if name]
    return list(dict.fromkeys(both))


def parser() -> argparse.ArgumentParser:
    plain = [system for system in SYSTEMS if not system.endswith("-encrypted")]
    result = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    result.add_argument(
        "-n", "--rows", type=at_least(100), default=200_000, help="rows of 16 + 100 bytes (default 200000; targets are meant for 1000000)"
    )
    result.add_argument(
        "--systems", type=names(SYSTEMS), default=plain, help=f"comma-separated, of {', '.join(SYSTEMS)} (default: all that are not encrypted)"
    )
    result.add_argument(
        "--workloads", type=names(WORKLOADS), default=list(WORKLOADS), help=f"comma-separated, of {', '.join(WORKLOADS)} (default: all)"
    )
    result.add_argument("--repeat", type=at_least(1), default=3, help="interleaved repetitions (default 3)")
    result.add_argument("--markdown", metavar="FILE", help="also write the report to FILE")
    result.add_argument("--encrypt", action="store_true", help="add the encrypted twin of every lsmsql system, and what encryption costs")
    result.add_argument("--seed", type=int, default=1, help="of all random data (default 1)")
    result.add_argument("--idle", type=float, default=2.0, help="seconds between reopening and the first read (default 2)")
    result.add_argument("--core", type=int, help="keep every worker, with its threads, on this core")
    result.add_argument("--directory", help="where the databases are made (default: the system's temporary directory)")
    return result


def names(known: dict[str, Any]) -> Callable[[str], list[str]]:
    """An argument type: names of `known` separated by commas."""

    def parse(text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",")]
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return chosen

    return parse


def at_least(smallest: int) -> Callable[[str], int]:
    """An argument type: a whole number not below `smallest`."""

    def parse(text: str) -> int:
        number = int(text)
        if number < smallest:
            raise argparse.ArgumentTypeError(f"{number} is less than {smallest}")
        return number

    return parse


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
