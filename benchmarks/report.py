"""The Markdown of a run: figures, the best peer, our ratio to it, the targets, and how far repetitions were apart."""

from __future__ import annotations

import os
import platform
import statistics
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .adapters import OURS, encrypted, load
from .targets import ROWS, TARGETS, Target

Figures = dict[str, dict[str, list[float]]]
"""By system, then by workload: one figure per repetition."""


def render(figures: Figures, workloads: list[str], notes: list[str]) -> str:
    """The whole report. Workloads appear in the order of TARGETS; a dash where a system has none, `failed` never hides: it is in the notes."""
    rows = [name for name in TARGETS if name in workloads]
    systems = list(figures)
    medians = {system: {name: statistics.median(values) for name, values in of.items()} for system, of in figures.items()}
    heads = ["workload", "unit", *systems, "best peer", "lsmsql / best peer", "first", "goal", "reached"]
    if any(encrypted(system) in systems for system in systems):
        heads.append("cost of encryption")
    lines = [_row(heads), _row(["---", "---", *["---:"] * (len(heads) - 2)])]
    for name in rows:
        target = TARGETS[name]
        lines.append(_row([target.title, target.unit, *_cells(name, systems, medians), *_verdict(name, target, medians)][: len(heads)]))
    return "\n".join([*notes, "", *lines, "", *_spread(figures, rows), ""])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(name: str, systems: list[str], medians: dict[str, dict[str, float]]) -> list[str]:
    return [number(medians[system].get(name)) for system in systems]


def _verdict(name: str, target: Target, medians: dict[str, dict[str, float]]) -> list[str]:
    """best peer, ratio, first, goal, reached, cost of encryption"""
    ours = "lsmsql-sql" if name.startswith("sql_") else "lsmsql"
    our = medians.get(ours, {}).get(name)
    peers = [(of[name], system) for system, of in medians.items() if name in of and not system.startswith(OURS)]
    best = min(peers, default=None)
    twin = medians.get(f"{ours}-encrypted", {}).get(name)
    return [
        f"{best[1]} {number(best[0])}" if best else "–",
        number(our / best[0]) if best and our is not None else "–",
        number(target.first),
        number(target.goal),
        _reached(our, target),
        f"{(twin / our - 1) * 100:+.0f} %" if our and twin is not None else "–",
    ]


def _reached(figure: float | None, target: Target) -> str:
    if figure is None or target.goal is None:
        return "–"
    if figure <= target.goal:
        return "goal"
    if target.first is None:
        return "no"
    return "first" if figure <= target.first else "no"


def number(figure: float | None) -> str:
    """Three significant digits, without exponent."""
    if figure is None:
        return "–"
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:#.3g}".rstrip(".")


def _spread(figures: Figures, rows: list[str]) -> list[str]:
    """The same table with (largest - smallest) / median of the repetitions."""
    systems = list(figures)
    repetitions = max((len(values) for of in figures.values() for values in of.values()), default=0)
    if repetitions < 2:
        return ["One repetition: no spread."]
    lines = [
        f"Spread of {repetitions} repetitions, (largest - smallest) / median:",
        "",
        _row(["workload", *systems]),
        _row(["---", *["---:"] * len(systems)]),
    ]
    for name in rows:
        lines.append(_row([TARGETS[name].title, *(_percent(figures[system].get(name)) for system in systems)]))
    return lines


def _percent(values: list[float] | None) -> str:
    middle = statistics.median(values) if values else 0
    return f"{(max(values) - min(values)) / middle * 100:.0f} %" if values and middle else "–"


def notes(systems: list[str], skipped: list[str], rows: int, repeat: int, core: int | None) -> list[str]:
    """What a reader has to know before the figures."""
    where = f"on core {core} only, background threads too" if core is not None else f"on {os.cpu_count()} cores"
    lines = [
        f"# lsmsql beside its peers, {rows:,} rows of 16 + 100 bytes",
        "",
        f"Medians of {repeat} interleaved repetitions, each system and repetition in a process of its own, {where}. Smaller is better in every row.",
        "Nobody syncs per write. Loads and overwriting include the flush to data files; reads come after close, reopening and idling.",
        f"{_processor()}, {platform.system()} {platform.release()}, Python {platform.python_version()}.",
    ]
    if rows != ROWS:
        lines.append(f"The targets `first` and `goal` are meant for {ROWS:,} rows.")
    lines.append("")
    lines += [f"- **{system}**: {load(system).about} ({_version(load(system).distribution)})" for system in systems]
    return [*lines, *(f"- {line}" for line in skipped)]


def _processor() -> str:
    try:
        names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def _version(distribution: str) -> str:
    if distribution == OURS:
        from lsmsql.engine import kernel

        return "compiled kernels" if kernel.COMPILED else "plain kernels"
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return distribution
