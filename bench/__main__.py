"""Comparisons with other runtimes, timed in turn in one process.

    python bench GROUP [--rounds N] [--json FILE]

The result is the ratios: times differ from machine to machine. Runtimes that are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import accuracy
import groups
import report

GROUPS = {
    "tutorial": groups.tutorial,
    "token": groups.token,
    "threads": groups.threads,
    "call": groups.call,
    "accuracy": accuracy.accuracy,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python bench", description=__doc__.splitlines()[0])
    parser.add_argument("group", choices=GROUPS, help="what to compare")
    parser.add_argument("--rounds", type=int, help="turns each program gets (15); for accuracy, random layers (4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()

    machine = report.machine()
    print(report.heading(machine))
    tables = []
    rounds = {"rounds": arguments.rounds} if arguments.rounds else {}
    for table in GROUPS[arguments.group](**rounds):
        print(report.render(table), flush=True)
        tables.append(table)
    if arguments.json:
        found = {"machine": machine, "group": arguments.group, "tables": [report.plain(table) for table in tables]}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
