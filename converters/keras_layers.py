"""One function for each Keras layer that is not recurrent, and the table of all layers that lstmrt has.

A handler takes the scope, the input, and as keyword-only parameters the options it supports (see keras_options.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Mapping

import numpy as np

from ..activations import Activation
from ..errors import UnsupportedError
from .keras_activations import AS_LAYER
from .keras_builder import Scope, Tensor
from .keras_config import Layer, parse_layer
from .keras_options import options
from .keras_recurrent import CELLS, bidirectional, recurrent
from .keras_weights import take

ONNX_INT64 = 7  # TensorProto.INT64


def embedding(scope: Scope, x: Tensor, *, input_dim: int, output_dim: int, mask_zero: bool = False) -> Tensor:
    """Rows of a table (input_dim, output_dim); with mask_zero the id 0 masks its step."""
    (table,) = take(scope.weights, embeddings=(input_dim, output_dim))
    ids = x.name if x.dtype == "int64" else scope.add("Cast", x.name, to=ONNX_INT64)
    y = scope.add("Gather", scope.constant("embeddings", table), ids, axis=0)
    mask = ""
    if mask_zero:
        mask = scope.add("Not", scope.add("Equal", ids, scope.constant("masked_id", np.array(0, np.int64))))
    return Tensor(y, (*x.shape, output_dim), mask=mask)


def dense(scope: Scope, x: Tensor, *, units: int, activation: Activation, use_bias: bool) -> Tensor:
    """activation(x·kernel + bias) over the last axis."""
    kernel, *bias = take(scope.weights, kernel=(x.width, units), **({"bias": (units,)} if use_bias else {}))
    y = scope.add("MatMul", x.name, scope.constant("kernel", kernel))
    for array in bias:
        y = scope.add("Add", y, scope.constant("bias", array))
    return replace(x, name=scope.activate(y, activation), shape=(*x.shape[:-1], units))


def identity(scope: Scope, x: Tensor) -> Tensor:
    """The Dropout family: nothing at inference."""
    return x


def activation_layer(scope: Scope, x: Tensor, *, activation: Activation) -> Tensor:
    return replace(x, name=scope.activate(x.name, activation))


def time_distributed(scope: Scope, x: Tensor, *, layer: dict) -> Tensor:
    """A layer at each time step; those of ROW_WISE, the only ones it may hold, do that by themselves."""
    return apply_layer(scope.child("layer"), x, parse_layer(layer))


DROPOUTS = ("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout")
ROW_WISE = frozenset({"Dense", "Activation", *AS_LAYER, *DROPOUTS})
LAYERS: Mapping[str, Callable[..., Tensor]] = {
    "Embedding": embedding,
    "Dense": dense,
    "Activation": activation_layer,
    "Bidirectional": bidirectional,
    "TimeDistributed": time_distributed,
    **{name: identity for name in DROPOUTS},
}
HANDLERS: Mapping[str, Callable] = {**LAYERS, **CELLS, **AS_LAYER}
WRAPPED: Mapping[str, frozenset[str]] = {"Bidirectional": frozenset(CELLS), "TimeDistributed": ROW_WISE}


def apply_layer(scope: Scope, x: Tensor, layer: Layer) -> Tensor:
    """The nodes of `layer`, one of HANDLERS, on `x`."""
    if layer.class_name in CELLS:
        return recurrent(scope, x, layer)
    handler = HANDLERS[layer.class_name]
    chosen = options(handler, layer, scope.keras_major)
    if layer.class_name in LAYERS:
        return handler(scope, x, **chosen)
    if layer.class_name == "Softmax" and x.mask:
        raise UnsupportedError("a Softmax layer on masked steps: Activation('softmax') ignores masks")
    return activation_layer(scope, x, activation=handler(**chosen))
