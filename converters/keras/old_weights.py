"""Weights that Keras 1, or Keras on Theano, laid out otherwise, as Keras 2 has them on TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import ModelFileError
from .config import Layer
from .weights import Derived, LayerWeights, Variable

# Where each gate's kernel, recurrent kernel and bias stand among the 12 or 9 arrays: i, c, f, o and z, r, h, three each.
GATES = {12: (0, 6, 3, 9), 9: (0, 3, 6)}


@dataclass(frozen=True)
class ModernWeights:
    """The weights of `layer`, which an older Keras may have stored otherwise; in Theano's layout if `flipped`."""

    stored: LayerWeights
    layer: Layer
    flipped: bool = False

    def variables(self) -> list[Variable]:
        variables = self.stored.variables()
        if len(variables) in GATES:
            return [_joined([variables[gate + i] for gate in GATES[len(variables)]]) for i in range(3)]
        if variables and "Conv" in self.layer.class_name:
            return [_convolution(variables[0], self.layer, self.flipped), *variables[1:]]
        return variables

    def child(self, attribute: str) -> ModernWeights:
        inner = self.layer.inner("layer") if self.layer.wrapped() else self.layer
        return ModernWeights(self.stored.child(attribute), inner, self.flipped)

    def layers(self, layers: Sequence[Layer]) -> Mapping[str, LayerWeights]:
        found = self.stored.layers(layers)
        return {layer.name: ModernWeights(found[layer.name], layer, self.flipped) for layer in layers if layer.name in found}

    def cells(self, cells: Sequence[Layer]) -> Sequence[LayerWeights]:
        return self.stored.cells(cells)

    def everything(self) -> Mapping[str, Variable]:
        return self.stored.everything()

    def asset(self, name: str) -> bytes | None:
        return self.stored.asset(name)


def _joined(gates: Sequence[Variable]) -> Derived:
    """One array whose columns are those of `gates`, side by side."""
    first = gates[0].shape
    if not first or any(gate.shape != first for gate in gates):
        raise ModelFileError(f"gates of one layer have different shapes: {', '.join(str(gate.shape) for gate in gates)}")
    return Derived((*first[:-1], len(gates) * first[-1]), tuple(gates), lambda *arrays: np.concatenate(arrays, axis=-1))


def _convolution(kernel: Variable, layer: Layer, flipped: bool) -> Variable:
    """Keras 1 made 1-D convolutions of 2-D ones; Theano walks its kernels backwards."""
    if layer.class_name == "Conv1D" and len(kernel.shape) == 4:
        length, one, inputs, filters = kernel.shape
        if one == 1:
            kernel = Derived((length, inputs, filters), (kernel,), lambda array: array[:, 0])
        else:  # before 1.1: (filters, inputs, length, 1)
            kernel = Derived((inputs, one, length), (kernel,), lambda array: array[..., 0].transpose(2, 1, 0))
    if flipped and len(kernel.shape) > 2:
        spatial = tuple(range(len(kernel.shape) - 2))
        kernel = Derived(kernel.shape, (kernel,), lambda array: np.flip(array, spatial))
    return kernel
