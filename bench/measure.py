"""Timing several programs in turn in one process, so that whatever the machine does to one it does to all."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np

SLOT = 40_000_000  # nanoseconds that one turn of one program should take


@dataclass(frozen=True)
class Timing:
    """Microseconds a unit of work over the rounds: the median and the quartiles around it."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Program:
    """`run(n)` does `n` units of work; `most` is the largest n that one call of it may be asked for."""

    run: Callable[[int], object]
    most: int = 1


def in_turn(programs: Mapping[str, Program], rounds: int) -> dict[str, Timing]:
    """Each program's time a unit. Every round runs all of them, each for about one slot, from another one on."""
    plans = {name: plan(program) for name, program in programs.items()}
    names = list(programs)
    times: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            start = turn % len(names)
            for name in names[start:] + names[:start]:
                units, calls = plans[name]
                times[name].append(clock(programs[name].run, units, calls) / (units * calls) / 1e3)
    finally:
        gc.enable()
    return {name: Timing(*np.percentile(taken, [50, 25, 75])) for name, taken in times.items()}


def plan(program: Program) -> tuple[int, int]:
    """Units a call and calls a turn that fill a slot; one unit is never cut. Warms the program up."""
    units = 1
    program.run(units)
    while (taken := clock(program.run, units, 1)) < SLOT / 2 and units < program.most:
        units = min(program.most, units * max(2, int(SLOT / 2 / max(taken, 1))))
    return units, max(1, round(SLOT / taken))


def clock(run: Callable[[int], object], units: int, calls: int) -> int:
    """Nanoseconds that `calls` calls take."""
    start = perf_counter_ns()
    for _ in range(calls):
        run(units)
    return perf_counter_ns() - start
