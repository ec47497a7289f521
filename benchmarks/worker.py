"""One system, one repetition, in a process of its own: `python -m benchmarks.worker TASK`, started by run.py.

TASK is JSON: system, workloads, rows, seed, idle, directory, core (a number, or null for all). One JSON line goes to standard output for
each finished workload: {"workload": name, "figure": number}; the last line is {"peak_rss": bytes}. A wrong result is an exception and exit code 1.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from .adapters import load
from .data import Dataset
from .session import Session
from .workloads import WORKLOADS


def work(task: dict[str, Any]) -> None:
    """Run the task's workloads and report each when it is done."""
    if task["core"] is not None:
        os.sched_setaffinity(0, {task["core"]})
    data = Dataset(task["rows"], task["seed"])
    with tempfile.TemporaryDirectory(dir=task["directory"], prefix=f"{task['system']}-") as directory:
        session = Session(load(task["system"]), Path(directory), data, task["idle"])
        try:
            for name, workload in WORKLOADS.items():
                if name in task["workloads"]:
                    report({"workload": name, "figure": workload(session)})
        finally:
            session.close()
    report({"peak_rss": peak_rss()})


def report(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def peak_rss() -> int:
    """The most memory this process had resident, in bytes. Not getrusage's figure, which a process inherits from the one that started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("the system does not tell a process's peak memory: /proc/self/status has no VmHWM")


if __name__ == "__main__":
    work(json.loads(sys.argv[1]))
