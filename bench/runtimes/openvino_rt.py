"""OpenVINO, from the same ONNX graphs: tensors set once on two requests, between which carried states swap."""

from __future__ import annotations

import itertools

import numpy as np

import models
from lstmrt.graph import Graph
from models import Layer, Weights
from shapes import LayerShape

from .common import Call, Generate, Greedy, rerun_window, stepping
from .ort import directions_last, onnx_bytes, zeros


class OpenVino:
    name, precision = "OpenVINO", "f32"

    def __init__(self, threads: int) -> None:
        import openvino

        self.core = openvino.Core()
        self.config = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": self.precision,
        }

    def compiled(self, graph: Graph):
        return self.core.compile_model(self.core.read_model(onnx_bytes(graph)), "CPU", self.config)

    def step(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        return self.layer(shape, layers, x, carried=True)

    def sequence(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        return self.layer(shape, layers, x, carried=False)

    def layer(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray, carried: bool) -> Call:
        graph = models.bare_layer_graph(shape, layers, carried)
        fixed = {"x": np.ascontiguousarray(x.swapaxes(0, 1)), "Y": zeros(graph.outputs[0])}
        requests = itertools.cycle(swapped_requests(self.compiled(graph), graph, fixed))

        def run() -> None:
            next(requests).infer()

        return Call(run, lambda: (run(), directions_last(fixed["Y"]))[1])

    def greedy(self, weights: Weights, streams: int) -> Greedy:
        graph = models.stepwise(weights, streams)
        fixed = {"ids": np.zeros((1, streams), np.int64), "logits": zeros(graph.outputs[0])}
        states = [zeros(value) for value in graph.inputs[1:]]
        there, back = swapped_requests(self.compiled(graph), graph, fixed, states)

        def start() -> list:
            for array in states:
                array[:] = 0
            return [there, back]

        def step(requests: list, ids: np.ndarray) -> np.ndarray:
            fixed["ids"][0] = ids
            requests[0].infer()
            requests.reverse()
            return fixed["logits"].argmax(1)

        return stepping(start, step)

    def window(self, weights: Weights, window: int) -> Generate:
        request = self.compiled(models.windowed(weights)).create_infer_request()

        def next_id(ids: np.ndarray) -> int:
            request.infer([ids[:, None]], share_inputs=True)
            return request.get_output_tensor().data[0].argmax()

        return rerun_window(next_id, window, np.int64)


class OpenVinoBf16(OpenVino):
    name, precision = "OpenVINO bf16", "bf16"


def swapped_requests(compiled, graph: Graph, fixed: dict[str, np.ndarray], states: list[np.ndarray] | None = None) -> list:
    """Two requests: the first reads the states from `states` (or zeros) and writes others, the second goes back."""
    import openvino

    carried_in, carried_out = graph.inputs[1:], graph.outputs[1:]
    buffers = [states or [zeros(value) for value in carried_in], [zeros(value) for value in carried_in]]

    def bind(before: list, after: list):
        request = compiled.create_infer_request()
        arrays = {graph.inputs[0].name: fixed[graph.inputs[0].name], graph.outputs[0].name: fixed[graph.outputs[0].name]}
        arrays |= {value.name: array for value, array in [*zip(carried_in, before), *zip(carried_out, after)]}
        for name, array in arrays.items():
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        request.arrays = arrays  # kept as long as the request
        return request

    return [bind(*buffers), bind(*buffers[::-1])]
