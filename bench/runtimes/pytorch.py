"""torch in inference mode. Where oneDNN's LSTM and torch's own both run, the faster one for the work is taken."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np

from lstmrt.gates import ORDERS, reorder
from measure import quickest
from models import Layer, Weights
from shapes import LayerShape

from .common import Call, Greedy, stepping


class Torch:
    name, precision = "torch", "f32"

    def __init__(self, threads: int) -> None:
        import torch

        warnings.filterwarnings("ignore", module="torch")  # of what it will drop and what other devices have
        torch.set_num_threads(threads)
        self.torch, self.dtype = torch, torch.float32

    def step(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        return self.layer(shape, layers, x, carried=True)

    def sequence(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        return self.layer(shape, layers, x, carried=False)

    def layer(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray, carried: bool) -> Call:
        recurrent = self.lowered(self.recurrent(shape.cell, [layers]))
        given = self.torch.from_numpy(np.ascontiguousarray(x.swapaxes(0, 1))).to(self.dtype)

        def with_onednn(enabled: bool) -> Call:
            states = [None]

            def run():
                with self.torch.inference_mode(), self.onednn(enabled):
                    y, after = recurrent(given, states[0])
                if carried:
                    states[0] = after
                return y

            return Call(run, lambda: run().float().numpy().swapaxes(0, 1))

        choice = quickest({enabled: with_onednn(enabled).run for enabled in (True, False)})
        return with_onednn(choice)

    def ragged(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray, lengths: np.ndarray) -> Call:
        torch, utils = self.torch, self.torch.nn.utils.rnn
        recurrent = self.lowered(self.recurrent(shape.cell, [layers]))
        given = torch.from_numpy(np.ascontiguousarray(x.swapaxes(0, 1))).to(self.dtype)
        packed = utils.pack_padded_sequence(given, torch.from_numpy(lengths))  # the longest is the first

        def run():
            with torch.inference_mode():
                return recurrent(packed)[0]

        return Call(run, lambda: utils.pad_packed_sequence(run())[0].float().numpy().swapaxes(0, 1))

    def greedy(self, weights: Weights, streams: int) -> Greedy:
        torch = self.torch
        embedding = torch.nn.Embedding.from_pretrained(torch.from_numpy(weights.table)).to(self.dtype)
        recurrent = self.lowered(self.recurrent(weights.shape.cell, [(layer,) for layer in weights.layers]))
        output = torch.nn.Linear(weights.shape.hidden, weights.shape.vocabulary)
        output.weight.data = torch.from_numpy(weights.output.T.copy())
        output.bias.data = torch.from_numpy(weights.output_bias)
        output = self.lowered(output)

        def with_onednn(enabled: bool) -> Greedy:
            def step(carried: list, ids: np.ndarray) -> np.ndarray:
                with torch.inference_mode(), self.onednn(enabled):
                    y, carried[0] = recurrent(embedding(torch.from_numpy(ids)[None]), carried[0])
                    return output(y[0]).argmax(1).numpy()

            return stepping(lambda: [None], step)

        prompts = np.ones((streams, 1), np.int64)
        choices = {enabled: with_onednn(enabled) for enabled in (True, False)}
        return choices[quickest({enabled: lambda loop=loop: loop.generate(prompts, 10) for enabled, loop in choices.items()})]

    def recurrent(self, cell: str, stack: list[tuple[Layer, ...]]):
        """nn.LSTM or nn.GRU over the layers, each one or two directions."""
        torch, first = self.torch, stack[0][0]
        options = {"num_layers": len(stack), "bidirectional": len(stack[0]) == 2}
        recurrent = getattr(torch.nn, cell)(first.W.shape[1], first.R.shape[1], **options)
        order = ORDERS["onnx"][cell], ORDERS["torch"][cell]
        for i, directions in enumerate(stack):
            for layer, suffix in zip(directions, ("", "_reverse")):
                parts = {"weight_ih": layer.W, "weight_hh": layer.R}
                parts |= zip(("bias_ih", "bias_hh"), np.split(layer.B, 2))
                for name, array in parts.items():
                    getattr(recurrent, f"{name}_l{i}{suffix}").data = torch.from_numpy(reorder(array, *order))
        return recurrent.requires_grad_(False).eval()

    def lowered(self, module):
        return module.to(self.dtype)

    def onednn(self, enabled: bool) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if enabled else self.torch.backends.mkldnn.flags(enabled=False)


class TorchBf16(Torch):
    name, precision = "torch bf16", "bf16"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.dtype = self.torch.bfloat16


class TorchInt8(Torch):
    """Dynamic quantization: int8 weights, activations scaled per call."""

    name, precision = "torch int8", "int8"

    def lowered(self, module):
        kinds = {self.torch.nn.LSTM, self.torch.nn.GRU, self.torch.nn.Linear}
        inside = self.torch.nn.ModuleList([module])
        return self.torch.ao.quantization.quantize_dynamic(inside, kinds, dtype=self.torch.qint8)[0]
