"""Every example runs, and says what it promises; so does the README's code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = {
    "library_index.py": (["{tmp}/library.db", "--files", "300"], ["Loaded 300 files", "in key order", "Before: 300 rows", "Reopened:", "On disk"]),
}


def test_every_example_is_run() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_runs(example: str, tmp_path: Path) -> None:
    arguments, promises = EXAMPLES[example]
    command = [sys.executable, str(ROOT / "examples" / example), *(argument.format(tmp=tmp_path) for argument in arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for promise in promises:
        assert promise in done.stdout


def test_the_readme_tells_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block runs, in order, and each print gives what the comment behind it says."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    for block in blocks:
        printed: list[str] = []
        exec(block, {"print": lambda *values, printed=printed: printed.append(" ".join(map(str, values)))})
        assert printed == re.findall(r"print\(.*\)\s+# (.*)", block)
