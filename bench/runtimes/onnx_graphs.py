"""What runtimes that read ONNX graphs share: time-major input, arrays bound once, carried states that swap between two sets
of them.

Each gives an `opened(graph)`: a function that binds arrays by name, and returns the call that runs with them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

import models
from lstmrt.graph import Graph, Value
from models import Layer, Weights
from shapes import LayerShape

from .common import Call, Greedy, stepping

Bind = Callable[[dict[str, np.ndarray]], Callable[[], object]]
Opened = Callable[[Graph], Bind]


def onnx_bytes(graph: Graph) -> bytes:
    """The graph as an ONNX file with its weights in it."""
    from lstmrt.converters.to_onnx import to_onnx_model

    return to_onnx_model(graph).SerializeToString()


def layer_call(opened: Opened, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray, carried: bool) -> Call:
    graph = models.bare_layer_graph(shape, layers, carried)
    fixed = {"x": np.ascontiguousarray(x.swapaxes(0, 1)), "Y": zeros(graph.outputs[0])}
    turns = itertools.cycle(swapped(graph, opened(graph), fixed, [zeros(value) for value in graph.inputs[1:]]))

    def run() -> None:
        next(turns)()

    return Call(run, lambda: (run(), directions_last(fixed["Y"]))[1])


def greedy_loop(opened: Opened, weights: Weights, streams: int) -> Greedy:
    graph = models.stepwise(weights, streams)
    fixed = {"ids": np.zeros((1, streams), np.int64), "logits": zeros(graph.outputs[0])}
    states = [zeros(value) for value in graph.inputs[1:]]
    there, back = swapped(graph, opened(graph), fixed, states)

    def start() -> list:
        for array in states:
            array[:] = 0
        return [there, back]

    def step(turns: list, ids: np.ndarray) -> np.ndarray:
        fixed["ids"][0] = ids
        turns[0]()
        turns.reverse()
        return fixed["logits"].argmax(1)

    return stepping(start, step)


def swapped(graph: Graph, bind: Bind, fixed: dict[str, np.ndarray], states: list[np.ndarray]) -> list[Callable]:
    """Two calls: the first reads the states from `states` and writes others, the second goes back."""
    others = [zeros(value) for value in graph.inputs[1:]]

    def bound(before: list[np.ndarray], after: list[np.ndarray]) -> Callable[[], object]:
        carried = [*zip(graph.inputs[1:], before), *zip(graph.outputs[1:], after)]
        return bind({**fixed, **{value.name: array for value, array in carried}})

    return [bound(states, others), bound(others, states)]


def zeros(value: Value) -> np.ndarray:
    return np.zeros(value.shape, value.dtype)


def directions_last(y: np.ndarray) -> np.ndarray:
    """(time, directions, batch, hidden) as (batch, time, directions x hidden)."""
    time, directions, batch, hidden = y.shape
    return y.transpose(2, 0, 1, 3).reshape(batch, time, directions * hidden).copy()
