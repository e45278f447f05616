"""What a comparison found, as a table for people and as plain data."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from importlib import metadata

RUNTIMES = ("lstmrt", "numpy", "onnxruntime", "tensorflow", "keras", "torch")


@dataclass(frozen=True)
class Table:
    """Rows of figures: `rows[name]` has one figure for each of `columns`; `notes` are lines below."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    notes: list[str] = field(default_factory=list)


def render(table: Table) -> str:
    head = ["", *table.columns]
    body = [[name, *map(figure, row)] for name, row in table.rows.items()]
    widths = [max(map(len, column)) for column in zip(head, *body)]
    lines = [
        "  " + "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
        for row in [head, *body]
    ]
    return "\n".join(["", table.title, *lines, *("  " + note for note in table.notes)])


def figure(value: float) -> str:
    """Three significant digits: plain where that is short, else with an exponent."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:.2e}"


def plain(table: Table) -> dict:
    rows = {name: dict(zip(table.columns, row)) for name, row in table.rows.items()}
    return {"title": table.title, "rows": rows, "notes": table.notes}


def machine() -> dict[str, str]:
    versions = {name: version for name in RUNTIMES if (version := installed(name))}
    return {"cpu": cpu(), "cores": str(os.cpu_count()), "python": platform.python_version(), **versions}


def heading(machine: dict[str, str]) -> str:
    return ", ".join(value if name == "cpu" else f"{name} {value}" for name, value in machine.items())


def installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cpu() -> str:
    """The processor's own name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
