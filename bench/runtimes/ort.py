"""onnxruntime, with IO binding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import models
from lstmrt.graph import Graph
from models import Layer, Weights
from shapes import LayerShape

from .common import Call, Generate, Greedy, rerun_window
from .onnx_graphs import Bind, directions_last, greedy_loop, layer_call, onnx_bytes


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

    def opened(self, graph: Graph) -> Bind:
        session, outputs = self.session(graph), {value.name for value in graph.outputs}

        def bind(arrays: dict[str, np.ndarray]) -> Callable[[], object]:
            binding = session.io_binding()
            for name, array in arrays.items():
                to = binding.bind_output if name in outputs else binding.bind_input
                to(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
            return lambda kept=arrays: session.run_with_iobinding(binding)  # which has the arrays' addresses alone

        return bind

    def step(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        return layer_call(self.opened, shape, layers, x, carried=True)

    def sequence(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        return layer_call(self.opened, shape, layers, x, carried=False)

    def ragged(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray, lengths: np.ndarray) -> Call:
        session = self.session(models.ragged_layer_graph(shape, layers, time_first=True))
        feeds = {"x": np.ascontiguousarray(x.swapaxes(0, 1)), "lengths": lengths.astype(np.int32)}
        return Call(lambda: session.run(None, feeds), lambda: directions_last(session.run(None, feeds)[0]))

    def greedy(self, weights: Weights, streams: int) -> Greedy:
        return greedy_loop(self.opened, weights, streams)

    def window(self, weights: Weights, window: int) -> Generate:
        session = self.session(models.windowed(weights))
        return rerun_window(lambda ids: session.run(None, {"ids": ids[:, None]})[0][0].argmax(), window, np.int64)
