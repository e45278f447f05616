"""Latency of one step against hidden units, every runtime, beside what the machine allows."""

from __future__ import annotations

from pathlib import Path

from report import Comparison, threads

LINES = {"f32": "-", "bf16": "--", "int8": ":"}


def draw(comparisons: list[Comparison], machine: dict, path: Path) -> None:
    """A panel for each cell of the `step` group, over its layers with as many inputs as units."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = [one for one in comparisons if one.group == "step" and one.shape["inputs"] == one.shape["hidden"]]
    if not steps:
        raise SystemExit("--plot needs the group step")
    cells = list(dict.fromkeys(one.shape["cell"] for one in steps))
    figure, panels = pyplot.subplots(1, len(cells), figsize=(5.5 * len(cells), 5), sharey=True, squeeze=False)
    for cell, axes in zip(cells, panels[0]):
        panel(axes, cell, sorted((one for one in steps if one.shape["cell"] == cell), key=hidden))
    panels[0][0].set_ylabel("microseconds a step")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    figure.suptitle(f"One step, batch 1, {threads(steps[0].threads)}, {machine['cpu']}", fontsize="medium")
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    figure.savefig(path, dpi=100)


def panel(axes, cell: str, steps: list[Comparison]) -> None:
    colours: dict[str, str] = {}
    for runtime in dict.fromkeys(row.runtime for one in steps for row in one.rows):
        found = [(hidden(one), row) for one in steps for row in one.rows if row.runtime == runtime]
        sizes, rows = zip(*found)
        family, precision, ours = runtime.split()[0], rows[0].precision, rows[0].ours
        (line,) = axes.plot(
            sizes,
            [row.timing.median for row in rows],
            LINES[precision],
            marker="o",
            markersize=4,
            linewidth=2.5 if ours else 1.2,
            color=colours.get(family),
            label=runtime,
        )
        colours[family] = line.get_color()
        if ours:
            floors = [row.floor for row in rows]
            axes.plot(sizes, floors, LINES[precision], color="0.6", linewidth=1, label=f"bytes over bandwidth, {precision}")
    axes.set(xscale="log", yscale="log", xlabel="hidden units", title=cell)
    axes.set_xticks([hidden(one) for one in steps], [str(hidden(one)) for one in steps])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def hidden(one: Comparison) -> int:
    return one.shape["hidden"]
