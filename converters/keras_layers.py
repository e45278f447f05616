"""The table of Keras layers that lstmrt has, but recurrent ones and wrappers, and the functions of the simplest.

A layer's function takes the scope; then, as positional parameters, the arguments of the layer's call by Keras's names:
a Tensor, or Tensors for a list of them; then, as keyword-only parameters, the options that it supports (see
keras_options.py). It returns a Tensor, or a list of them where the layer has several outputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Mapping

import numpy as np

from ..activations import Activation
from ..errors import UnsupportedError
from .keras_activations import AS_LAYER, SOFTMAX
from .keras_builder import Scope, Tensor
from .keras_merging import MERGING
from .keras_shaping import SHAPING
from .keras_weights import take


def embedding(scope: Scope, x: Tensor, *, input_dim: int, output_dim: int, mask_zero: bool = False) -> Tensor:
    """Rows of a table (input_dim, output_dim); with mask_zero the id 0 masks its step."""
    (table,) = take(scope.weights, embeddings=(input_dim, output_dim))
    ids = x.name if x.dtype == "int64" else scope.cast(x.name, "int64")
    y = scope.add("Gather", scope.constant("embeddings", table), ids, axis=0)
    mask = ""
    if mask_zero:
        mask = scope.add("Not", scope.add("Equal", ids, scope.constant("masked_id", np.array(0, np.int64))))
    return scope.tensor(y, mask)


def dense(scope: Scope, x: Tensor, *, units: int, activation: Activation, use_bias: bool) -> Tensor:
    """activation(x·kernel + bias) over the last axis."""
    kernel, *bias = take(scope.weights, kernel=(x.width, units), **({"bias": (units,)} if use_bias else {}))
    y = scope.add("MatMul", scope.floats(x).name, scope.constant("kernel", kernel))
    for array in bias:
        y = scope.add("Add", y, scope.constant("bias", array))
    return scope.tensor(scope.activate(y, activation), x.mask)


def identity(scope: Scope, x: Tensor) -> Tensor:
    """The Dropout family: nothing at inference."""
    return x


def activation_layer(scope: Scope, x: Tensor, *, activation: Activation) -> Tensor:
    return scope.tensor(scope.activate(scope.floats(x).name, activation), x.mask)


def activated(scope: Scope, x: Tensor, activation: Activation) -> Tensor:
    """One of AS_LAYER."""
    if activation == SOFTMAX and x.mask:
        raise UnsupportedError("a Softmax layer on masked steps: Activation('softmax') ignores masks")
    return activation_layer(scope, x, activation=activation)


DROPOUTS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout",
            "ActivityRegularization", "Identity")
ROW_WISE = frozenset({"Embedding", "Dense", "Activation", *AS_LAYER, *DROPOUTS})
LAYERS: Mapping[str, Callable] = {
    "Embedding": embedding,
    "Dense": dense,
    "Activation": activation_layer,
    **{name: identity for name in DROPOUTS},
    **MERGING,
    **SHAPING,
}
