"""onnxruntime: time-major input, and buffers bound once; carried states swap between two sets of them."""

from __future__ import annotations

import itertools

import numpy as np

import models
from lstmrt.graph import Graph
from models import Layer, Weights
from shapes import LayerShape

from .common import Call, Generate, Greedy, rerun_window, stepping


def onnx_bytes(graph: Graph) -> bytes:
    """The graph as an ONNX file with its weights in it."""
    from lstmrt.converters.to_onnx import to_onnx_model

    return to_onnx_model(graph).SerializeToString()


class OnnxRuntime:
    name, precision = "onnxruntime", "f32"

    def __init__(self, threads: int) -> None:
        import onnxruntime

        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1

    def session(self, graph: Graph):
        import onnxruntime

        return onnxruntime.InferenceSession(onnx_bytes(graph), self.options, providers=["CPUExecutionProvider"])

    def step(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        return self.layer(shape, layers, x, carried=True)

    def sequence(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        return self.layer(shape, layers, x, carried=False)

    def layer(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray, carried: bool) -> Call:
        graph = models.bare_layer_graph(shape, layers, carried)
        fixed = {"x": np.ascontiguousarray(x.swapaxes(0, 1)), "Y": zeros(graph.outputs[0])}
        session = self.session(graph)
        bindings = itertools.cycle(swapped_bindings(session, graph, fixed))

        def run() -> None:
            session.run_with_iobinding(next(bindings))

        return Call(run, lambda: (run(), directions_last(fixed["Y"]))[1])

    def ragged(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray, lengths: np.ndarray) -> Call:
        session = self.session(models.ragged_layer_graph(shape, layers, time_first=True))
        feeds = {"x": np.ascontiguousarray(x.swapaxes(0, 1)), "lengths": lengths.astype(np.int32)}
        return Call(lambda: session.run(None, feeds), lambda: directions_last(session.run(None, feeds)[0]))

    def greedy(self, weights: Weights, streams: int) -> Greedy:
        graph = models.stepwise(weights, streams)
        fixed = {"ids": np.zeros((1, streams), np.int64), "logits": zeros(graph.outputs[0])}
        session = self.session(graph)
        states = [zeros(value) for value in graph.inputs[1:]]
        there, back = swapped_bindings(session, graph, fixed, states)

        def start() -> list:
            for array in states:
                array[:] = 0
            return [there, back]

        def step(bindings: list, ids: np.ndarray) -> np.ndarray:
            fixed["ids"][0] = ids
            session.run_with_iobinding(bindings[0])
            bindings.reverse()
            return fixed["logits"].argmax(1)

        return stepping(start, step)

    def window(self, weights: Weights, window: int) -> Generate:
        session = self.session(models.windowed(weights))
        return rerun_window(lambda ids: session.run(None, {"ids": ids[:, None]})[0][0].argmax(), window, np.int64)


def zeros(value) -> np.ndarray:
    return np.zeros(value.shape, value.dtype)


def directions_last(y: np.ndarray) -> np.ndarray:
    """(time, directions, batch, hidden) as (batch, time, directions x hidden)."""
    time, directions, batch, hidden = y.shape
    return y.transpose(2, 0, 1, 3).reshape(batch, time, directions * hidden).copy()


def swapped_bindings(session, graph: Graph, fixed: dict[str, np.ndarray], states: list[np.ndarray] | None = None) -> list:
    """Two bindings: the first reads the states from `states` (or zeros) and writes others, the second goes back."""
    carried_in, carried_out = graph.inputs[1:], graph.outputs[1:]
    buffers = [states or [zeros(value) for value in carried_in], [zeros(value) for value in carried_in]]

    def bind(before: list, after: list):
        binding = session.io_binding()
        inputs = [(graph.inputs[0], fixed[graph.inputs[0].name]), *zip(carried_in, before)]
        outputs = [(graph.outputs[0], fixed[graph.outputs[0].name]), *zip(carried_out, after)]
        for value, array in inputs:
            binding.bind_input(value.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for value, array in outputs:
            binding.bind_output(value.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        binding.arrays = [array for _, array in inputs + outputs]  # it has their addresses alone
        return binding

    return [bind(*buffers), bind(*buffers[::-1])]
