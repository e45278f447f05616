"""lstmrt, as a user has it: a model loaded from a file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import lstmrt
import models
from lstmrt.format import ModelFile, write
from lstmrt.generation_config import GenerationDefaults
from lstmrt.graph import Graph
from models import Layer, Weights
from shapes import LayerShape

from .common import Call, Generate, Greedy


class Lstmrt:
    name, precision = "lstmrt", "f32"

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def sequence(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        model = self.load(models.layer_graph(shape, layers))
        return Call(lambda: model(x), lambda: model(x))

    def ragged(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray, lengths: np.ndarray) -> Call:
        model = self.load(models.ragged_layer_graph(shape, layers, time_first=False))
        lengths = lengths.astype(np.int32)
        return Call(lambda: model(x, lengths), lambda: model(x, lengths)[:, :, 0])

    def step(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        model = self.load(models.layer_graph(shape, layers))
        state = model.new_state(shape.batch)
        x_t = np.ascontiguousarray(x[:, 0])
        return Call(lambda: model.step(x_t, state), lambda: model.step(x_t, state)[:, None])

    def greedy(self, weights: Weights, streams: int) -> Greedy:
        model = self.load(models.keras_like(weights), GenerationDefaults("stateful"))

        def generate(prompts: np.ndarray, n: int) -> np.ndarray:
            return np.array(model.generate(list(prompts), max_new_tokens=n))

        return Greedy(lambda: model.new_state(streams), lambda state, ids: model.step(ids, state).argmax(1), generate)

    def window(self, weights: Weights, window: int) -> Generate:
        model = self.load(models.keras_like(weights, time=window), GenerationDefaults("window", window))
        return lambda prompts, n: model.generate(prompts[0], max_new_tokens=n)[None]

    def load(self, graph: Graph, generation: GenerationDefaults | None = None) -> lstmrt.Model:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.lstmrt"
            write(path, ModelFile(graph, generation=generation))
            return lstmrt.load(path, precision=self.precision, threads=self.threads)


class LstmrtBf16(Lstmrt):
    name, precision = "lstmrt bf16", "bf16"


class LstmrtInt8(Lstmrt):
    name, precision = "lstmrt int8", "int8"
