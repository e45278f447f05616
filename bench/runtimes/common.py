"""What all runtimes are measured as: a call, a token loop, a loop of windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models import PADDING

Generate = Callable[[np.ndarray, int], np.ndarray]  # prompts (streams, length), n -> ids (streams, n)


@dataclass(frozen=True)
class Call:
    """`run()` is what is timed; `output()` runs too and gives y (batch, time, width) of float32 for the comparison."""

    run: Callable[[], object]
    output: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Greedy:
    """`start()` makes zero states; `step(states, ids)` advances them by the newest ids (streams,) and gives each
    stream's next; `generate` is the loop of both, or the runtime's own."""

    start: Callable[[], object]
    step: Callable[[object, np.ndarray], np.ndarray]
    generate: Generate


def stepping(start: Callable[[], object], step: Callable[[object, np.ndarray], np.ndarray]) -> Greedy:
    """The loop in Python that a runtime without one of its own needs."""

    def generate(prompts: np.ndarray, n: int) -> np.ndarray:
        states = start()
        for ids in prompts.T:
            best = step(states, ids)
        made = [best]
        while len(made) < n:
            made.append(step(states, made[-1]))
        return np.stack(made, axis=1)

    return Greedy(start, step, generate)


def rerun_window(next_id: Callable[[np.ndarray], int], window: int, dtype: type) -> Generate:
    """The tutorial's loop: the last `window` ids, padding before them, through the model again for each new one."""

    def generate(prompts: np.ndarray, n: int) -> np.ndarray:
        (prompt,) = prompts
        ids = np.full(window + len(prompt) + n, PADDING, dtype)
        ids[window : window + len(prompt)] = prompt
        for end in range(window + len(prompt), len(ids)):
            ids[end] = next_id(ids[end - window : end])
        return ids[None, -n:]

    return generate
