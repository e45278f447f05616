"""Layers of a model's own, by functions that the caller of `lstmrt.load` gives.

A function is called as `function(build, x, config, weights)`:

build    a LayerBuilder
x        the Tensor that the layer is called on, or a list of them; it has `name`, `shape`, `dtype` and `mask`
config   the layer's configuration, as its get_config() made it
weights  name -> float32 array, in the order in which the layer made them: by Keras's name in `.h5` files, by number
         ("0", "1") in `.keras` files, which hold no names; those of an inner layer as "cell/0"

It returns a Tensor, or a list of them where the layer has several outputs. Nothing of the file itself is ever run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Union

import numpy as np

from ...errors import InputError, UnsupportedError
from .builder import Scope, Tensor
from .config import Layer, parse_layer

CustomLayers = Mapping[str, Callable]
Operand = Union[Tensor, np.ndarray, float, Sequence[int], Sequence[float]]


def custom_function(layer: Layer, functions: CustomLayers) -> Callable | None:
    """The caller's function for `layer`: by its name, its class, or its class without the package before `>`."""
    keys = (layer.name, layer.class_name, layer.class_name.rpartition(">")[2])
    return next((functions[key] for key in keys if key in functions), None)


@dataclass(frozen=True)
class LayerBuilder:
    """Appends ONNX's operators, and layers of Keras, to the model.

    arguments  the keyword arguments of the layer's call: numbers, texts, Tensors
    """

    scope: Scope
    apply: Callable[..., list[Tensor]]
    arguments: Mapping[str, Any]

    def add(self, op: str, *inputs: Operand | None, **attributes: Any) -> Tensor:
        """One operator of ONNX at opset 20, as its documentation has it; its first output.

        A number or an array stands for a constant: int64 where all is whole numbers, else float32. None leaves an
        optional input out. Raises InputError for an operator that lstmrt does not have.
        """
        names = ["" if operand is None else self._name(operand) for operand in inputs]
        if not self.scope.knows(op):
            raise InputError(f"lstmrt has no operator {op}")
        attributes = {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
        return self.scope.tensor(self.scope.add(op, *names, **attributes))

    def layer(self, class_name: str, x: Any, config: Mapping[str, Any]) -> Tensor | list[Tensor]:
        """A layer of Keras of this class and configuration, with the weights of the layer that is being built.

        Options that are not the class's own must not be in `config`.
        """
        layer = parse_layer({"class_name": class_name, "config": {"name": self.scope.layer, **config}})
        made = self.apply(self.scope, layer, [x], {})
        return made[0] if len(made) == 1 else made

    def mask(self, x: Tensor) -> Tensor | None:
        """The mask that came with `x`: bool (batch, time), False at steps to leave out; None where all count."""
        return self.scope.tensor(x.mask) if x.mask else None

    def with_mask(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`x` with this mask for the layers that follow. What `add` makes has none."""
        return replace(x, mask=mask.name if mask else "")

    def _name(self, operand: Operand) -> str:
        if isinstance(operand, Tensor):
            return operand.name
        array = np.array(operand)
        if array.dtype.kind not in "fiub":
            raise InputError(f"expected a Tensor, numbers or None, got {operand!r}")
        dtype = {"f": "float32", "b": "bool"}.get(array.dtype.kind, "int64")
        return self.scope.constant("constant", array.astype(dtype))


def apply_custom(scope: Scope, function: Callable, layer: Layer, args: list, kwargs: Mapping[str, Any],
                 apply: Callable[..., list[Tensor]]) -> list[Tensor]:
    """The outputs of the caller's `function` for one call of `layer`; `apply` is apply_layer."""
    if len(args) != 1:
        raise UnsupportedError(f"a custom layer called with {len(args)} arguments, expected one or a list")
    weights = {name: variable.read(name) for name, variable in scope.weights.everything().items()}
    made = function(LayerBuilder(scope, apply, kwargs), args[0], layer.config, weights)
    outputs = list(made) if isinstance(made, (list, tuple)) else [made]
    if not outputs or not all(isinstance(output, Tensor) for output in outputs):
        raise InputError(f"custom_layers: the function for {layer} returned {type(made).__name__}, expected a Tensor")
    return outputs
