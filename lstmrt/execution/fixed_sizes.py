"""Programs for the sizes of calls: those who call chunk by chunk have the same ones at every call."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Generic, Tuple, TypeVar

import numpy as np

from ..errors import LstmrtError
from ..graph import Graph, all_nodes
from ..passes import canonical, load

Compiled = TypeVar("Compiled")
Sizes = Tuple[Tuple[int, ...], ...]  # the inputs' shapes
MOST = 4  # sets of sizes with a program of their own
PATIENCE = 8


class FixedSizes(Generic[Compiled]):
    """Of one graph. What is made from shapes is known ahead where all sizes are: branches are chosen, and nodes between
    those of recurrent layers go, so that fewer segments are left.

    The first MOST sets of sizes get a program at once, up to as many that gain nothing by one aside. A further one waits for
    PATIENCE calls, without one of yet other sizes between them, and then takes the place of that which was called longest ago;
    with each that does, the next waits twice as long, so that callers with other sizes at every call do not pay for programs.
    """

    def __init__(self, graph: Graph, compiled: Callable[[Graph], Compiled], parts: int) -> None:
        """parts  how many segments it has with sizes left free"""
        self._graph: Graph | None = graph
        self._compiled, self._parts = compiled, parts
        self._lock = threading.Lock()
        self._made: dict[Sizes, Compiled | None] = {}
        self._used: dict[Sizes, int] = {}  # the last call of each that is made
        self._clock = itertools.count()
        self._patience = PATIENCE
        self._waiting: Sizes = ()
        self._waited = 0

    def executable(self, inputs: Mapping[str, np.ndarray]) -> Compiled | None:
        """The program for the sizes of `inputs`; None where they have none, or where it gains nothing."""
        sizes = tuple([array.shape for array in inputs.values()])
        if sizes not in self._made and self._graph is not None:
            with self._lock:
                if sizes not in self._made and self._graph is not None and self._is_due(sizes):
                    self._made[sizes] = self._make(inputs)
        made = self._made.get(sizes)
        if made is not None:
            self._used[sizes] = next(self._clock)
        return made

    def _is_due(self, sizes: Sizes) -> bool:
        """Whether a program is to be made, with a place for it."""
        gaining = sum(made is not None for made in self._made.values())
        if gaining < MOST and len(self._made) - gaining <= MOST:
            return True
        self._waited = self._waited + 1 if sizes == self._waiting else 1
        self._waiting = sizes
        if self._waited < self._patience:
            return False
        self._patience *= 2
        oldest = min(self._made, key=lambda known: self._used.get(known, -1))
        del self._made[oldest]
        self._used.pop(oldest, None)
        return True

    def release(self) -> None:
        """Lets go of the graph: what was not made by now is not made."""
        with self._lock:
            self._graph = None

    def _make(self, inputs: Mapping[str, np.ndarray]) -> Compiled | None:
        values = tuple(value._replace(shape=inputs[value.name].shape) for value in self._graph.inputs)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what there is to say was said of the graph itself
                fixed = load(canonical(replace(self._graph, inputs=values)))
            made = self._compiled(fixed)
        except LstmrtError:  # inputs that the model does not take: its own run says why
            return None
        fewer = len(made.segments) < self._parts or _size(fixed) < _size(self._graph)
        return made if fewer or all(segment.kind != "onnxruntime" for segment in made.segments) else None


def _size(graph: Graph) -> int:
    return sum(1 for _ in all_nodes(graph.nodes))
