"""Comparisons with other runtimes, timed in turn in one process.

    python bench [GROUP ...] [--threads N] [--quick] [--json FILE] [--plot FILE]

The result is the ratios: times differ from machine to machine. Runtimes that are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

GROUPS = ("step", "sequence", "batch", "token", "streams", "tutorial", "decay", "threads", "call", "onnx", "footprint",
          "accuracy")


def main() -> int:
    options = parser().parse_args()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser().error(f"no group: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    os.environ["LSTMRT_NUM_THREADS"] = str(options.threads)  # before anything that reads it is imported

    import report
    from lstmrt.machine import measure

    limits = measure(options.threads)
    machine = report.machine(limits)
    print(report.heading(machine), flush=True)
    found = list(run(options, limits))
    comparisons = [one for one in found if isinstance(one, report.Comparison)]
    summaries = list(report.summary(comparisons))
    for table in summaries:
        report.show(table)
    if options.markdown:
        tables = [*summaries, *(one for one in found if isinstance(one, report.Table))]
        texts = [report.heading(machine).replace("\n", ". ") + ".\n", *map(report.markdown, tables)]
        options.markdown.write_text("\n".join(texts), encoding="utf-8")
    if options.json:
        data = {"machine": machine, "found": [one.plain() for one in found]}
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        import plot

        plot.draw(comparisons, machine, options.plot)
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python bench", description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", default=GROUPS, metavar="GROUP", help=f"of {', '.join(GROUPS)}; without one, all")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="each program gets N threads (1)")
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="turns each program gets (11)")
    parser.add_argument("--quick", action="store_true", help="two shapes of each group")
    parser.add_argument("--runtimes", metavar="A,B", help="only those whose names begin like one of these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the summaries and tables there, as docs have them")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw latency against hidden size, as PNG")
    return parser


def run(options: argparse.Namespace, limits):
    """Everything that the groups find, shown as it comes."""
    import accuracy
    import comparisons
    import onnx_files
    import report
    import tables

    runtimes, missing = open_runtimes(options)
    for note in missing:
        print(note)
    bench = comparisons.Bench(runtimes, limits, options.threads, options.rounds, options.quick)
    for group in options.groups:
        module = next(module for module in (comparisons, onnx_files, tables, accuracy) if hasattr(module, group))
        for one in getattr(module, group)(bench):
            report.show(one.table() if isinstance(one, report.Comparison) else one)
            yield one


def open_runtimes(options: argparse.Namespace) -> tuple[list, list[str]]:
    """Those that are installed and wanted, lstmrt first, and a line for each that is not there."""
    from runtimes import ALL

    wanted = tuple(options.runtimes.split(",")) if options.runtimes else ("",)
    made, missing = [], []
    for runtime in ALL:
        if runtime.name != "lstmrt" and not runtime.name.startswith(wanted):
            continue
        try:
            made.append(runtime(options.threads))
        except ImportError as error:
            missing.append(f"{runtime.name}: not measured ({error})")
    return made, missing


if __name__ == "__main__":
    sys.exit(main())
