"""The layout keeps its promises: imports point one way, two files touch `os`, three have threads, rooms stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lsmsql"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room may import from itself and from the rooms listed; everything may import errors, options and the Cython stand-in.
COMMON = {"errors", "options", "parity_scheme", "prefix_extractor", "checksum_policy", "_compiled", "_cython"}
ROOMS: dict[str, set[str]] = {
    "engine/storage": set(),
    "engine/kernel": {"engine/storage"},
    "engine/sstable": {"engine/kernel", "engine/storage", "engine/manifest"},
    "engine/manifest": {"engine/kernel", "engine/storage"},
    "engine/blob": {"engine/storage"},
    "engine/compaction": {"engine/sstable", "engine/manifest", "engine/kernel", "engine/storage"},
    "engine": {"engine/compaction", "engine/blob", "engine/sstable", "engine/manifest", "engine/kernel", "engine/storage"},
    "vtab": {"engine", "engine/kernel"},
    "bridge": {"vtab", "engine/kernel"},
    "connection": {"bridge", "vtab", "engine"},
    "cli": {"connection", "vtab", "engine", "engine/kernel"},
    "__main__": {"cli"},
    "": {"connection", "vtab", "engine", *COMMON},
    **{name: set() for name in COMMON},
}
LINES_MAX = 500
FUNCTION_LINES_MAX = 60


def room_of(module: str) -> str:
    """The room of a module given as a dotted path below the package."""
    parts = module.split(".")
    if parts[0] == "engine" and len(parts) > 1 and "/".join(parts[:2]) in ROOMS:
        return "/".join(parts[:2])
    return parts[0] if parts[0] in ROOMS else ""


def module_name(file: Path) -> str:
    parts = list(file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path, at_run_time: bool = False) -> Iterator[str]:
    """Modules of the package that a file imports, as dotted paths below it; at_run_time leaves out what only the type checker sees."""
    package = ["lsmsql", *file.relative_to(PACKAGE).parent.parts]
    tree = ast.parse(file.read_text())
    if at_run_time:
        tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            is_package = (ROOT / start.replace(".", "/")).is_dir()
            names = [f"{start}.{alias.name}" if is_package else start for alias in node.names]
        else:
            continue
        for name in names:
            if name == "lsmsql" or name.startswith("lsmsql."):
                yield name.removeprefix("lsmsql").removeprefix(".")


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_imports_point_right_only(file: Path) -> None:
    room = room_of(module_name(file))
    allowed = ROOMS[room] | COMMON | {room}
    wrong = sorted({name for name in imports_of(file) if room_of(name) not in allowed})
    assert not wrong, f"{room or 'the top'} may not import {wrong}"


def test_there_is_no_import_cycle() -> None:
    modules = {module_name(file): file for file in FILES}
    edges: dict[str, set[str]] = {}
    for name, file in modules.items():
        targets = set()
        for target in imports_of(file, at_run_time=True):
            while target and target not in modules:
                target = target.rpartition(".")[0]
            if target != name and not name.startswith(target + "."):
                targets.add(target)
        edges[name] = targets - {""}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"import cycle: {' -> '.join([*path, name])}"
        if name not in done:
            for target in edges[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in edges:
        visit(name, ())


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_only_the_filesystem_touches_files(file: Path) -> None:
    of_files = {"engine.storage.filesystem", "engine.storage.random_access"}
    if module_name(file) in of_files | {"engine.storage.encryption", "_compiled", "vtab.session", "cli.sstable"}:
        return  # The last four read os.urandom and os.environ, no file.
    source = file.read_text()
    assert not re.search(r"^\s*(import os\b|from os\b)|(?<![\w.])open\(", _code_only(source), re.M), (
        "files and `os` belong to engine/storage/filesystem.py and random_access.py"
    )


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_only_background_sealing_and_batch_reads_start_threads(file: Path) -> None:
    if module_name(file) not in {"engine.background", "engine.sstable.sealing", "engine.blob.batch_read"}:
        assert not re.search(r"\bThread\(|ThreadPool", _code_only(file.read_text()))


def _code_only(source: str) -> str:
    """The source without docstrings and comments."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = ""
        if isinstance(node, ast.FunctionDef) and node.name == "open":
            node.name = "opened"
    return ast.unparse(tree)


@pytest.mark.parametrize("file", [*FILES, *sorted(PACKAGE.rglob("*.pxd"))], ids=lambda file: str(file.relative_to(PACKAGE)))
def test_rooms_stay_small(file: Path) -> None:
    source = file.read_text()
    assert source.count("\n") <= LINES_MAX
    if file.suffix == ".py":
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, f"{node.name} is too long"


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_every_module_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text())), "no module docstring"


def test_the_list_of_compiled_modules_is_the_files() -> None:
    listed = set(re.findall(r'"(lsmsql[\w.]*_cy)"', (ROOT / "setup.py").read_text()))
    assert listed == {f"lsmsql.{module_name(file)}" for file in FILES if file.stem.endswith("_cy")}
