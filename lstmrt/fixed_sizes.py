"""A second program for the sizes of the first call: those who call chunk by chunk have the same ones at every call."""

from __future__ import annotations

import threading
import warnings
from dataclasses import replace
from typing import Callable, Generic, Mapping, TypeVar

import numpy as np

from .errors import LstmrtError
from .graph import Graph, all_nodes
from .passes import canonical, load

Compiled = TypeVar("Compiled")


class FixedSizes(Generic[Compiled]):
    """Of one graph. What is made from shapes is known ahead where all sizes are: branches are chosen, and nodes between
    those of recurrent layers go, so that fewer segments are left."""

    def __init__(self, graph: Graph, compiled: Callable[[Graph], Compiled]) -> None:
        self._graph: Graph | None = graph
        self._compiled = compiled
        self._lock = threading.Lock()
        self._shapes: list[tuple[int, ...]] | None = None
        self._made: Compiled | None = None

    def executable(self, inputs: Mapping[str, np.ndarray]) -> Compiled | None:
        """The program for the sizes of `inputs`; None where they are not those of the first call, or where it gains
        nothing."""
        if self._shapes is None and self._graph is not None:
            with self._lock:
                if self._shapes is None and self._graph is not None:
                    self._made = self._make(inputs)
                    self._graph = None
                    self._shapes = [array.shape for array in inputs.values()]
        if self._made is None or self._shapes != [array.shape for array in inputs.values()]:
            return None
        return self._made

    def release(self) -> None:
        """Lets go of the graph: what was not made by now is not made."""
        with self._lock:
            self._graph = None

    def _make(self, inputs: Mapping[str, np.ndarray]) -> Compiled | None:
        values = tuple(replace(value, shape=inputs[value.name].shape) for value in self._graph.inputs)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what there is to say was said of the graph itself
                fixed = load(canonical(replace(self._graph, inputs=values)))
            made = self._compiled(fixed)
        except LstmrtError:  # inputs that the model does not take: its own run says why
            return None
        is_native = all(segment.kind != "onnxruntime" for segment in made.segments)
        return made if is_native or _size(fixed) < _size(self._graph) else None


def _size(graph: Graph) -> int:
    return sum(1 for _ in all_nodes(graph.nodes))
