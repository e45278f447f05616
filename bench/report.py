"""What was found, as tables for people and as plain data."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib import metadata

from lstmrt.machine import Limits, cpu_name
from measure import Timing

RUNTIMES = ("lstmrt", "numpy", "onnxruntime", "openvino", "tensorflow", "keras", "torch")
Cell = float | str | None


@dataclass(frozen=True)
class Table:
    """Rows of figures: `rows[name]` has one cell for each of `columns`; `notes` are lines below."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[Cell, ...]]
    notes: list[str] = field(default_factory=list)

    def plain(self) -> dict:
        rows = {name: dict(zip(self.columns, row)) for name, row in self.rows.items()}
        return {"title": self.title, "rows": rows, "notes": self.notes}


@dataclass(frozen=True)
class Row:
    """One runtime at one piece of work. `off` is its largest difference from lstmrt's f32, or, where tokens are made, the
    share of steps with another token. `moved` (bytes) and `floor` (microseconds) are lstmrt's alone."""

    runtime: str
    precision: str
    timing: Timing
    off: float
    moved: float | None = None
    floor: float | None = None

    @property
    def ours(self) -> bool:
        return self.runtime.startswith("lstmrt")


@dataclass(frozen=True)
class Comparison:
    """All runtimes at one piece of work: microseconds a `unit`."""

    group: str
    work: str
    unit: str
    threads: int
    shape: dict
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def best(self, ours: bool, f32: bool) -> Row | None:
        found = [row for row in self.rows if row.ours == ours and (row.precision == "f32") == f32]
        return min(found, key=lambda row: row.timing.median, default=None)

    def table(self) -> Table:
        base = self.rows[0].timing.median
        rows = {
            row.runtime: (
                row.timing.median,
                row.timing.low,
                row.timing.high,
                row.timing.median / base,
                row.off,
                row.moved and row.moved / 1e6,
                row.moved and row.moved / row.timing.median / 1e3,
                row.floor,
                percent(row.floor and row.floor / row.timing.median),
            )
            for row in self.rows
        }
        columns = ("median", "25 %", "75 %", "times lstmrt", "off by", "MB", "GB/s", "floor", "of floor")
        return Table(f"{self.group}: {self.work}, {threads(self.threads)}: us a {self.unit}", columns, rows, self.notes)

    def plain(self) -> dict:
        return asdict(self)


def summary(comparisons: Iterable[Comparison]) -> Iterable[Table]:
    """For each group lstmrt beside the best other runtime, in f32 and with reduced weights."""
    groups: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(comparison.group, []).append(comparison)
    columns = ("lstmrt f32", "best other", "", "ratio", "of floor", "lstmrt reduced", "", "best other", "", "ratio", "of floor")
    for group, found in groups.items():
        rows = {one.work: (*beside(one, f32=True), *beside(one, f32=False)) for one in found}
        yield Table(f"{group}, {threads(found[0].threads)}: us a {found[0].unit}", columns, rows)
        if group == "streams":
            yield from throughput(found)


def throughput(found: list[Comparison]) -> Iterable[Table]:
    """Tokens a second of all streams together, against how many there are: a table for each model."""
    models: dict[str, list[Comparison]] = {}
    for one in found:
        models.setdefault(one.work.partition(" x ")[2], []).append(one)
    for model, several in models.items():
        rows: dict[str, list[Cell]] = {}
        for i, one in enumerate(several):
            for row in one.rows:
                rows.setdefault(row.runtime, [None] * len(several))[i] = one.shape["streams"] * 1e6 / row.timing.median
        columns = tuple(f"{one.shape['streams']} streams" for one in several)
        yield Table(f"streams, {model}: tokens a second", columns, {name: tuple(cells) for name, cells in rows.items()})


def beside(one: Comparison, f32: bool) -> tuple[Cell, ...]:
    ours, other = one.best(True, f32), one.best(False, f32)
    mine = (None, None) if ours is None else (ours.timing.median, ours.runtime)
    theirs = (None, None) if other is None else (other.timing.median, other.runtime)
    ratio = ours and other and other.timing.median / ours.timing.median
    share = percent(ours.floor / ours.timing.median if ours and ours.floor else None)
    return (*(mine[:1] if f32 else mine), *theirs, ratio, share)


def threads(n: int) -> str:
    return f"{n} thread{'s' * (n > 1)}"


def percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.0f} %"


def show(table: Table) -> None:
    """With rich where it is installed and somebody looks on, else in plain columns."""
    cells = [[name, *map(figure, row)] for name, row in table.rows.items()]
    if sys.stdout.isatty():
        try:
            import rich.console
            import rich.table
        except ImportError:
            pass
        else:
            shown = rich.table.Table(title=table.title, title_justify="left", caption="\n".join(table.notes) or None)
            for i, column in enumerate(("", *table.columns)):
                shown.add_column(column, justify="right" if i else "left")
            for row in cells:
                shown.add_row(*row)
            rich.console.Console().print(shown)
            return
    print(plain_columns(table, cells), flush=True)


def plain_columns(table: Table, cells: list[list[str]]) -> str:
    head = ["", *table.columns]
    widths = [max(map(len, column)) for column in zip(head, *cells)]
    lines = [
        "  " + "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
        for row in [head, *cells]
    ]
    return "\n".join(["", table.title, *(line.rstrip() for line in lines), *("  " + note for note in table.notes)])


def markdown(table: Table) -> str:
    lines = [["", *table.columns], ["---"] * (len(table.columns) + 1)]
    lines += [[name, *map(figure, row)] for name, row in table.rows.items()]
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([f"{table.title[:1].upper()}{table.title[1:]}:", "", *rows, "", *table.notes])


def figure(value: Cell) -> str:
    """Three significant digits: plain where that is short, else with an exponent."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if abs(value) >= 1e-3 or value == 0:
        return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:.1e}"


# ---- the machine ----


def machine(limits: Limits) -> dict:
    versions = {name: version for name in RUNTIMES if (version := installed(name))}
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "python": platform.python_version(), **versions,
            "limits": asdict(limits)}


def heading(machine: dict) -> str:
    named = ", ".join(f"{name} {value}" for name, value in machine.items() if name not in ("cpu", "limits"))
    limits = machine["limits"]
    rates = ", ".join(f"{level} {rate / 1e9:.0f} GB/s" for level, rate in limits["rates"].items())
    peaks = ", ".join(f"{precision} {peak / 1e9:.0f} GOP/s" for precision, peak in limits["peaks"].items())
    caches = ", ".join(f"{level} {size / 2**20:g} MiB" for level, size in limits["caches"].items())
    return (
        f"{machine['cpu']}: {named}\n"
        f"{caches}; reads of {threads(limits['threads'])}: {rates}; peaks {peaks}"
    )


def installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
