"""Timing several programs in turn in one process, so that whatever the machine does to one it does to all."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TypeVar

import numpy as np

SLOT = 20_000_000  # nanoseconds that one turn of one program should take
TRIAL = 5_000_000

Key = TypeVar("Key")


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


def in_turn(programs: Mapping[Key, Program], rounds: int) -> dict[Key, Timing]:
    """Each program's time a unit. Every round runs all of them, each for about one slot, from another one on."""
    plans = {name: plan(program) for name, program in programs.items()}
    names = list(programs)
    times: dict[Key, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            start = turn % len(names)
            for name in names[start:] + names[:start]:
                units, calls = plans[name]
                programs[name].run(max(1, units // 8))  # its weights are where they would be, and no other's threads spin
                times[name].append(clock(programs[name].run, units, calls) / (units * calls) / 1e3)
    finally:
        gc.enable()
    return {name: Timing(*map(float, np.percentile(taken, [50, 25, 75]))) for name, taken in times.items()}


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


def quickest(candidates: Mapping[Key, Callable[[], object]]) -> Key:
    """The one whose best run of a few takes least."""

    def best(run: Callable[[], object]) -> int:
        run()
        spent, least = 0, None
        while spent < TRIAL or least is None:
            taken = clock(lambda _: run(), 1, 1)
            spent, least = spent + taken, taken if least is None else min(least, taken)
        return least

    return min(candidates, key=lambda name: best(candidates[name]))


def repeat(function: Callable[[], object]) -> Program:
    """A call as a program: a unit is one call."""

    def run(n: int) -> None:
        for _ in range(n):
            function()

    return Program(run, 1_000_000)
