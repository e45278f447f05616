"""OpenVINO, from the same ONNX graphs, with its hints for latency and precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import models
from lstmrt.graph import Graph
from models import Layer, Weights
from shapes import LayerShape

from .common import Call, Generate, Greedy, rerun_window
from .onnx_graphs import Bind, greedy_loop, layer_call, onnx_bytes


class OpenVino:
    name, precision = "OpenVINO", "f32"

    def __init__(self, threads: int) -> None:
        import openvino

        self.core, self.tensor = openvino.Core(), openvino.Tensor
        self.config = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": self.precision,
        }

    def compiled(self, graph: Graph):
        return self.core.compile_model(self.core.read_model(onnx_bytes(graph)), "CPU", self.config)

    def opened(self, graph: Graph) -> Bind:
        compiled = self.compiled(graph)

        def bind(arrays: dict[str, np.ndarray]) -> Callable[[], object]:
            request = compiled.create_infer_request()
            for name, array in arrays.items():
                request.set_tensor(name, self.tensor(array, shared_memory=True))
            return lambda kept=arrays: request.infer()  # which has the arrays' addresses alone

        return bind

    def step(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        return layer_call(self.opened, shape, layers, x, carried=True)

    def sequence(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        return layer_call(self.opened, shape, layers, x, carried=False)

    def greedy(self, weights: Weights, streams: int) -> Greedy:
        return greedy_loop(self.opened, weights, streams)

    def window(self, weights: Weights, window: int) -> Generate:
        request = self.compiled(models.windowed(weights)).create_infer_request()

        def next_id(ids: np.ndarray) -> int:
            request.infer([ids[:, None]], share_inputs=True)
            return request.get_output_tensor().data[0].argmax()

        return rerun_window(next_id, window, np.int64)


class OpenVinoBf16(OpenVino):
    name, precision = "OpenVINO bf16", "bf16"
