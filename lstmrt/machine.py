"""What this machine can do at best: sizes of its caches, bytes and operations a second of a few threads."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import _core

BUDGET = 60_000_000  # nanoseconds that one measurement takes
FULL = 0.75  # of a cache is what weights can count on: the rest goes to states, tables and other programs
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Limits:
    """What `threads` threads reach together.

    caches   {"L2": bytes a core, "L3": bytes}, as far as the system tells
    rates    {"L2", "L3", "DRAM": bytes a second that are read from there}
    peaks    {precision of weights: operations of multiply-adds a second}
    """

    threads: int
    caches: dict[str, int]
    rates: dict[str, float]
    peaks: dict[str, float]

    def level(self, size: float) -> str:
        """Where `size` bytes of weights, split among the threads, are read from step after step."""
        share = {"L2": self.caches["L2"] * self.threads, "L3": self.caches["L3"]}
        return next((level for level, whole in share.items() if size <= FULL * whole), "DRAM")


def measure(threads: int = 1) -> Limits:
    """Measures for about half a second."""
    caches = cache_sizes()
    within = {"L2": caches["L2"] // 2, "L3": (caches["L2"] + caches["L3"] // 4) // threads, "DRAM": 4 * caches["L3"] // threads}
    rates = {level: together(threads, lambda size=size: _core.read_rate(size, BUDGET)) for level, size in within.items()}
    peaks = {name: together(threads, lambda name=name: _core.fma_rate(BUDGET, name)) for name in ("f32", "bf16", "int8")}
    return Limits(threads, caches, rates, peaks)


def together(threads: int, rate: Callable[[], float]) -> float:
    """The sum of what the threads reach, all at work at once."""
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(lambda _: rate(), range(threads)))


def cache_sizes() -> dict[str, int]:
    """Bytes of a core's L2 and of the L3; where the system does not say, sizes that most have."""
    sizes = {"L2": 1 << 20, "L3": 16 << 20}
    for index in CACHES.glob("index*"):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if f"L{level}" in sizes and kind in ("Data", "Unified"):
            sizes[f"L{level}"] = _bytes(size)
    return sizes


def _bytes(size: str) -> int:
    return int(size[:-1]) * {"K": 1 << 10, "M": 1 << 20}[size[-1]]


def cpu_name() -> str:
    """The processor's own name where the system tells it; family and model too, as virtual machines hide the name."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        return platform.processor() or platform.machine()
    told = {key.strip(): value.strip() for key, _, value in reversed(lines)}
    if "model name" not in told:
        return platform.processor() or platform.machine()
    return f"{told['model name']} (family {told.get('cpu family', '?')}, model {told.get('model', '?')})"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
