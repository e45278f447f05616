"""The table of Keras layers that lstmrt has, but recurrent ones and wrappers, and the functions of the simplest.

A layer's function takes the scope; then, as positional parameters, the arguments of the layer's call by Keras's names:
a Tensor, or Tensors for a list of them; then, as keyword-only parameters, the options that it supports (see
keras/options.py). It returns a Tensor, or a list of them where the layer has several outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

import numpy as np

from ...activations import Activation
from ...errors import ModelFileError, UnsupportedError
from .activations import AS_LAYER, relu
from .attention import ATTENTION
from .builder import Scope, Tensor
from .convolution import CONVOLUTION
from .einsum import einsum_dense
from .json import shown
from .merging import MERGING
from .normalization import NORMALIZATION
from .pooling import POOLING
from .quantized import embedding_table, quantization, quantized_dense
from .shaping import SHAPING
from .text import string_lookup, text_vectorization
from .weights import take

Policy = Union[str, dict, None]  # a layer's dtype


def embedding(scope: Scope, x: Tensor, *, input_dim: int, output_dim: int, mask_zero: bool = False, dtype: Policy = None,
              quantization_config: Union[dict, None] = None) -> Tensor:
    """Rows of a table (input_dim, output_dim); with mask_zero the id 0 masks its step."""
    if form := quantization(dtype, quantization_config):
        table = embedding_table(scope, input_dim, output_dim, form)
    else:
        (table,) = take(scope.weights, embeddings=(input_dim, output_dim))
    ids = x.name if x.dtype == "int64" else scope.cast(x.name, "int64")
    y = scope.add("Gather", scope.constant("embeddings", table), ids, axis=0)
    mask = ""
    if mask_zero:
        mask = scope.add("Not", scope.add("Equal", ids, scope.constant("masked_id", np.array(0, np.int64))))
    return scope.tensor(y, mask)


def dense(scope: Scope, x: Tensor, *, units: int, activation: Activation, use_bias: bool, dtype: Policy = None,
          quantization_config: Union[dict, None] = None) -> Tensor:
    """activation(x·kernel + bias) over the last axis."""
    if form := quantization(dtype, quantization_config):
        y = quantized_dense(scope, scope.floats(x), units, use_bias, form)
        return scope.tensor(scope.activate(y, activation), x.mask)
    kernel, *bias = take(scope.weights, kernel=(x.width, units), **({"bias": (units,)} if use_bias else {}))
    y = scope.add("MatMul", scope.floats(x).name, scope.constant("kernel", kernel))
    for array in bias:
        y = scope.add("Add", y, scope.constant("bias", array))
    return scope.tensor(scope.activate(y, activation), x.mask)


def masking(scope: Scope, x: Tensor, *, mask_value: float = 0.0) -> Tensor:
    """A step whose features all are `mask_value` is masked, and becomes 0."""
    x = scope.floats(x)
    masked = scope.add("Equal", x.name, scope.constant("mask_value", np.array(mask_value, np.float32)))
    other = scope.add("ReduceMax", scope.cast(scope.add("Not", masked), "float32"), scope.ints("last_axis", [-1]), keepdims=1)
    return scope.tensor(scope.add("Mul", x.name, other), scope.cast(scope.squeeze(other, -1), "bool"))


def prelu(scope: Scope, x: Tensor, *, shared_axes: Union[list, None] = None) -> Tensor:
    """x where it is above 0, else slopes of its own times x."""
    shape = tuple(1 if axis in (shared_axes or ()) else x.size(axis) for axis in range(1, x.rank))
    (slopes,) = take(scope.weights, alpha=shape)
    return scope.tensor(scope.add("PRelu", scope.floats(x).name, scope.constant("alpha", slopes)), x.mask)


def relu_layer(scope: Scope, x: Tensor, *, max_value: Union[float, None] = None,
               negative_slope: Union[float, None] = None, threshold: Union[float, None] = None) -> Tensor:
    """x from `threshold` on, up to `max_value`; below it, `negative_slope` times what is missing."""
    slope, threshold = negative_slope or 0.0, threshold or 0.0
    try:
        return activated(scope, x, relu(max_value=max_value, negative_slope=slope, threshold=threshold))
    except UnsupportedError:  # no one function: several nodes
        pass
    name = scope.floats(x).name
    y = scope.add("ThresholdedRelu", name, alpha=float(threshold)) if threshold else scope.add("Relu", name)
    if max_value is not None:
        y = scope.add("Clip", y, scope.scalar(0.0), scope.scalar(float(max_value)))
    if slope:
        missing = scope.add("Relu", scope.add("Sub", scope.scalar(float(threshold)), name))
        y = scope.add("Sub", y, scope.add("Mul", missing, scope.scalar(float(slope))))
    return scope.tensor(y, x.mask)


def softmax_layer(scope: Scope, x: Tensor, *, axis: Union[int, list] = -1) -> Tensor:
    """Over one axis."""
    axes = [axis] if isinstance(axis, int) else axis
    if len(axes) != 1 or x.mask:
        raise UnsupportedError(f"axis={axis}" if len(axes) != 1 else "masked steps: Activation('softmax') ignores masks")
    return scope.tensor(scope.add("Softmax", scope.floats(x).name, axis=axes[0]))


def category_encoding(scope: Scope, x: Tensor, *, num_tokens: int,
                      output_mode: Literal["one_hot", "multi_hot", "count"] = "multi_hot") -> Tensor:
    """Ids as vectors of `num_tokens`: one each, or one for all of a row."""
    ids = scope.cast(x.name, "int64")
    if output_mode == "one_hot" and x.shape[-1] == 1 and x.rank > 1:
        ids = scope.squeeze(ids, -1)
    one_hot = scope.add("OneHot", ids, scope.constant("num_tokens", np.array(num_tokens, np.int64)),
                        scope.constant("off_on", np.array([0, 1], np.float32)), axis=-1)
    if output_mode != "one_hot" and x.rank > 1:
        op = "ReduceMax" if output_mode == "multi_hot" else "ReduceSum"
        one_hot = scope.add(op, one_hot, scope.ints("axes", [-2]), keepdims=0)
    return scope.tensor(one_hot)


def discretization(scope: Scope, x: Tensor, *, bin_boundaries: list, num_bins: Any = None, epsilon: float = 0.01,
                   output_mode: Literal["int", "one_hot", "multi_hot", "count"] = "int") -> Tensor:
    """How many of the boundaries each number has reached; see category_encoding for the other modes."""
    try:
        boundaries = np.array(bin_boundaries, np.float32)
    except (TypeError, ValueError):
        raise ModelFileError(f"bin_boundaries: expected numbers, got {shown(bin_boundaries)}") from None
    reached = scope.add("GreaterOrEqual", scope.unsqueeze(scope.floats(x).name, x.rank), scope.constant("boundaries", boundaries))
    ids = scope.tensor(scope.add("ReduceSum", scope.cast(reached, "int64"), scope.ints("axes", [x.rank]), keepdims=0))
    if output_mode == "int":
        return ids
    return category_encoding(scope, ids, num_tokens=len(boundaries) + 1, output_mode=output_mode)


def identity(scope: Scope, x: Tensor) -> Tensor:
    """The Dropout family: nothing at inference."""
    return x


def spatial_dropout(scope: Scope, x: Tensor, *, data_format: Union[str, None] = None) -> Tensor:
    """Whatever the format, nothing at inference."""
    return x


def activation_layer(scope: Scope, x: Tensor, *, activation: Activation) -> Tensor:
    return scope.tensor(scope.activate(scope.floats(x).name, activation), x.mask)


def activated(scope: Scope, x: Tensor, activation: Activation) -> Tensor:
    """One of AS_LAYER."""
    return activation_layer(scope, x, activation=activation)


DROPOUTS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise", "GaussianDropout", "AlphaDropout",
            "ActivityRegularization", "Identity")
ROW_WISE = frozenset({"Embedding", "Dense", "Activation", *AS_LAYER, *DROPOUTS})
LAYERS: Mapping[str, Callable] = {
    "Embedding": embedding,
    "Dense": dense,
    "Activation": activation_layer,
    "ReLU": relu_layer,
    "PReLU": prelu,
    "Softmax": softmax_layer,
    "Masking": masking,
    "CategoryEncoding": category_encoding,
    "Discretization": discretization,
    "EinsumDense": einsum_dense,
    "TextVectorization": text_vectorization,
    "StringLookup": string_lookup,
    **{name: identity for name in DROPOUTS},
    **{name: spatial_dropout for name in ("SpatialDropout2D", "SpatialDropout3D")},
    **MERGING,
    **SHAPING,
    **NORMALIZATION,
    **CONVOLUTION,
    **POOLING,
    **ATTENTION,
}
