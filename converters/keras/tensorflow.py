"""TensorFlow functions that Keras 2 keeps as layers (TFOpLambda, SlicingOpLambda), in terms of those of keras_operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import UnsupportedError
from .builder import Scope, Tensor
from .json import shown
from .operators import OPERATORS

LAYERS = ("TFOpLambda", "SlicingOpLambda")


def _matmul(scope: Scope, a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    turned = [OPERATORS["Swapaxes"](scope, x, -2, -1) if turn else x for x, turn in ((a, transpose_a), (b, transpose_b))]
    return OPERATORS["Matmul"](scope, *turned)


def _split(scope: Scope, value: Tensor, num_or_size_splits: Any, axis: int = 0) -> list[Tensor]:
    if isinstance(num_or_size_splits, int):
        return OPERATORS["Split"](scope, value, num_or_size_splits, axis)
    if not isinstance(num_or_size_splits, list) or not all(type(size) is int and size > 0 for size in num_or_size_splits):
        raise UnsupportedError(f"num_or_size_splits={shown(num_or_size_splits)}")
    bounds = [sum(num_or_size_splits[:i]) for i in range(1, len(num_or_size_splits))]
    return OPERATORS["Split"](scope, value, bounds, axis)


def _unstack(scope: Scope, value: Tensor, num: int | None = None, axis: int = 0) -> list[Tensor]:
    return [OPERATORS["GetItem"](scope, value, [slice(None)] * (axis % value.rank) + [i]) for i in range(value.size(axis))]


def _pad(scope: Scope, tensor: Tensor, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0) -> Tensor:
    return OPERATORS["Pad"](scope, tensor, paddings, mode.lower(), constant_values)


def _shape(scope: Scope, input: Tensor, out_type: Any = None) -> Tensor:
    return scope.tensor(scope.add("Shape", input.name))


def _one_hot(scope: Scope, indices: Tensor, depth: int, axis: int = -1, dtype: Any = None) -> Tensor:
    return OPERATORS["OneHot"](scope, indices, depth, axis)


_PAIR = {"x": "x1", "y": "x2"}
_REDUCED = {"input_tensor": "x"}
_TURNED = {"a": "x", "perm": "axes", "conjugate": ""}

# TensorFlow's function -> the operator, and its arguments by their names in TensorFlow; '' for one that says nothing
FUNCTIONS: Mapping[str, tuple[Callable, Mapping[str, str]]] = {
    **{name: (OPERATORS[op], _PAIR) for op, names in {
        "Add": ("math.add", "__operators__.add", "add"), "Subtract": ("math.subtract", "__operators__.sub"),
        "Multiply": ("math.multiply", "__operators__.mul"),
        "Divide": ("math.divide", "math.truediv", "__operators__.truediv"),
        "Power": ("math.pow", "__operators__.pow"), "Maximum": ("math.maximum",), "Minimum": ("math.minimum",),
        "Equal": ("math.equal", "__operators__.eq"), "NotEqual": ("math.not_equal", "__operators__.ne"),
        "Greater": ("math.greater", "__operators__.gt"), "GreaterEqual": ("math.greater_equal", "__operators__.ge"),
        "Less": ("math.less", "__operators__.lt"), "LessEqual": ("math.less_equal", "__operators__.le"),
        "LogicalAnd": ("math.logical_and",), "LogicalOr": ("math.logical_or",),
        "LogicalXor": ("math.logical_xor",)}.items() for name in names},
    **{name: (OPERATORS[op], {}) for op, names in {
        "Negative": ("math.negative", "__operators__.neg"), "Absolute": ("math.abs",), "Square": ("math.square",),
        "Sqrt": ("math.sqrt",), "Rsqrt": ("math.rsqrt",), "Exp": ("math.exp",), "Log": ("math.log",),
        "Tanh": ("math.tanh", "nn.tanh"), "Sigmoid": ("math.sigmoid", "nn.sigmoid"), "Sin": ("math.sin",),
        "Cos": ("math.cos",), "Erf": ("math.erf",), "Floor": ("math.floor",), "Ceil": ("math.ceil",),
        "Round": ("math.round",), "Sign": ("math.sign",), "Reciprocal": ("math.reciprocal",),
        "LogicalNot": ("math.logical_not",), "Cast": ("cast",), "StopGradient": ("stop_gradient", "identity"),
        "ZerosLike": ("zeros_like",), "OnesLike": ("ones_like",), "Cumsum": ("math.cumsum",)}.items() for name in names},
    **{f"nn.{name}": (OPERATORS[op], {"features": "x"}) for name, op in (
        ("relu", "Relu"), ("relu6", "Relu6"), ("elu", "Elu"), ("selu", "Selu"), ("softplus", "Softplus"),
        ("softsign", "Softsign"), ("silu", "Silu"))},
    "math.softplus": (OPERATORS["Softplus"], {"features": "x"}),
    "nn.leaky_relu": (OPERATORS["LeakyRelu"], {"features": "x", "alpha": "negative_slope"}),
    "nn.softmax": (OPERATORS["Softmax"], {"logits": "x"}),
    "nn.log_softmax": (OPERATORS["LogSoftmax"], {"logits": "x"}),
    "math.log_sigmoid": (OPERATORS["LogSigmoid"], {}),
    **{name: (OPERATORS["Norm"], {"tensor": "x"}) for name in ("norm", "compat.v1.norm")},
    "math.l2_normalize": (OPERATORS["Normalize"], {}),
    **{name: (_pad, {}) for name in ("pad", "compat.v1.pad")},
    "nn.bias_add": (OPERATORS["Add"], {"value": "x1", "bias": "x2"}),
    **{f"math.reduce_{name.lower()}": (OPERATORS[name], _REDUCED) for name in (
        "Sum", "Mean", "Max", "Min", "Prod", "Any", "All")},
    "math.argmax": (OPERATORS["Argmax"], {"input": "x"}),
    "clip_by_value": (OPERATORS["Clip"], {"t": "x", "clip_value_min": "x_min", "clip_value_max": "x_max"}),
    "where": (OPERATORS["Where"], {"x": "x1", "y": "x2"}),
    "concat": (OPERATORS["Concatenate"], {"values": "xs"}),
    "stack": (OPERATORS["Stack"], {"values": "x"}),
    "split": (_split, {}),
    "unstack": (_unstack, {}),
    "reshape": (OPERATORS["Reshape"], {"tensor": "x", "shape": "newshape"}),
    "transpose": (OPERATORS["Transpose"], _TURNED),
    "compat.v1.transpose": (OPERATORS["Transpose"], _TURNED),
    "expand_dims": (OPERATORS["ExpandDims"], {"input": "x"}),
    "squeeze": (OPERATORS["Squeeze"], {"input": "x"}),
    "compat.v1.squeeze": (OPERATORS["Squeeze"], {"input": "x"}),
    "tile": (OPERATORS["Tile"], {"input": "x", "multiples": "repeats"}),
    "repeat": (OPERATORS["Repeat"], {"input": "x"}),
    "reverse": (OPERATORS["Flip"], {"tensor": "x"}),
    "broadcast_to": (OPERATORS["BroadcastTo"], {"input": "x"}),
    "gather": (OPERATORS["Take"], {"params": "x"}),
    "compat.v1.gather": (OPERATORS["Take"], {"params": "x"}),
    "one_hot": (_one_hot, {}),
    "shape": (_shape, {}),
    "compat.v1.shape": (_shape, {}),
    "linalg.matmul": (_matmul, {}),
    "__operators__.getitem": (OPERATORS["GetItem"], {"slice_spec": "key"}),
}
