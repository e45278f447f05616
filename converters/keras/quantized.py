"""Dense and Embedding layers that Keras 3 quantized: int8 and int4 weights, and activations that Keras rounds to int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from ...errors import ModelFileError, UnsupportedError
from .builder import Scope, Tensor
from .json import field, shown
from .options import QUANTIZED_POLICY
from .weights import take

LARGEST = 127  # of a rounded activation
EPSILON = 1e-7  # Keras adds it to the largest activation of a row


@dataclass(frozen=True)
class Quantization:
    """How a layer is quantized: bits of a weight, inputs that share a scale (None: all), whether activations are rounded."""

    bits: int
    block: Union[int, None]
    rounds_activations: bool


def quantization(dtype: Any, config: Mapping[str, Any] | None) -> Quantization | None:
    """What a layer's `dtype` and `quantization_config` say, None for a layer that is not quantized.

    Raises UnsupportedError for what lstmrt does not have.
    """
    policy = field(dtype, "config", dict, default={}) if isinstance(dtype, dict) else {"name": dtype}
    mode = str(policy.get("mode") or policy.get("name")).split("_from_")[0]
    if "mode" not in policy and config is None and not QUANTIZED_POLICY.match(mode):
        return None
    if mode not in ("int8", "int4") and not mode.startswith("int4/"):
        raise UnsupportedError(f"quantized weights ({shown(mode)}, quantization_config={shown(config)})")
    settings = field(config or {}, "config", dict, default={})
    if field(settings, "weight_quantizer", dict, default=None) is not None:
        raise UnsupportedError("a weight_quantizer of its own")
    if mode == "int8":
        return Quantization(8, None, _rounds(settings, default=True))
    if config is None:  # whether activations are rounded changed with the version
        raise UnsupportedError("int4 weights without a quantization_config: Keras before 3.13")
    block = settings.get("block_size")
    if not (block is None or type(block) is int and (block == -1 or block > 0)):
        raise ModelFileError(f"block_size: expected a number above 0, got {shown(block)}")
    return Quantization(4, block if block and block > 0 else None, _rounds(settings, default=False))


def _rounds(settings: Mapping[str, Any], default: bool) -> bool:
    if "activation_quantizer" not in settings:
        return default
    quantizer = field(settings, "activation_quantizer", dict, default=None)
    if quantizer is None:
        return False
    options = field(quantizer, "config", dict, default={})
    expected = {"value_range": [-LARGEST, LARGEST], "epsilon": EPSILON, "output_dtype": "int8"}
    if quantizer.get("class_name") != "AbsMaxQuantizer" or any(options.get(key) != expected[key] for key in expected):
        raise UnsupportedError(f"activation_quantizer={shown(quantizer)}")
    return True


def embedding_table(scope: Scope, rows: int, width: int, form: Quantization) -> np.ndarray:
    """float32 (rows, width)."""
    if form.bits == 8:
        table, scale = take(scope.weights, integers=True, embeddings=(rows, width), embeddings_scale=(rows,))
        return table / scale[:, None]
    shapes = {"embeddings": (rows, _packed(width)), "embeddings_scale": (rows,)}
    if form.block:
        groups = (rows, -(-width // form.block))
        shapes.update(embeddings_scale=groups, embeddings_zero=groups, g_idx=(width,))
    packed, scale, *rest = take(scope.weights, integers=True, **shapes)
    table = _unpacked(packed, width)
    return _by_groups(table, scale, *rest, axis=1) if rest else table / scale[:, None]


def quantized_dense(scope: Scope, x: Tensor, units: int, use_bias: bool, form: Quantization) -> str:
    """x·kernel + bias."""
    bias = {"bias": (units,)} if use_bias else {}
    if form.bits == 8:
        kernel, *middle, scale = take(scope.weights, integers=True, kernel=(x.width, units), **bias, kernel_scale=(units,))
    else:
        kernel, middle, scale = _int4_kernel(scope, x.width, units, bias, form)
    if form.rounds_activations and scale is None:
        raise UnsupportedError("activations rounded to int8 beside int4 weights in blocks")
    if not form.rounds_activations:
        kernel, scale = (kernel if scale is None else kernel / scale), None
    y = _product(scope, x.name, scope.constant("kernel", kernel), scale)
    for array in middle:
        y = scope.add("Add", y, scope.constant("bias", array))
    return y


def _product(scope: Scope, x: str, kernel: str, scale: np.ndarray | None) -> str:
    """x·kernel; with a scale of the kernel's columns each row of x is rounded to int8 by its own, as Keras does it."""
    if scale is None:
        return scope.add("MatMul", x, kernel)
    largest = scope.add("ReduceMax", scope.add("Abs", x), scope.ints("axes", [-1]), keepdims=1)
    largest = scope.add("Add", largest, scope.constant("epsilon", np.array(EPSILON, np.float32)))
    own = scope.add("Div", scope.constant("largest", np.array(LARGEST, np.float32)), largest)
    bounds = (scope.constant(name, np.array(bound, np.float32)) for name, bound in (("min", -LARGEST), ("max", LARGEST)))
    rounded = scope.add("Clip", scope.add("Round", scope.add("Mul", x, own)), *bounds)
    sums = scope.add("MatMul", rounded, kernel)
    return scope.add("Div", sums, scope.add("Mul", scope.constant("kernel_scale", scale), own))


def _int4_kernel(scope: Scope, inputs: int, units: int, bias: Mapping[str, tuple],
                 form: Quantization) -> tuple[np.ndarray, list[np.ndarray], np.ndarray | None]:
    shapes = {"kernel": (inputs, _packed(units)), **bias, "kernel_scale": (units,)}
    if not form.block:
        packed, *middle, scale = take(scope.weights, integers=True, **shapes)
        return _unpacked(packed, units), middle, scale
    groups = (-(-inputs // form.block), units)
    shapes.update(kernel_scale=groups, kernel_zero=groups, g_idx=(inputs,))
    packed, *middle, scale, zero, places = take(scope.weights, integers=True, **shapes)
    return _by_groups(_unpacked(packed, units), scale, zero, places, axis=0), middle, None


def _packed(size: int) -> int:
    return (size + 1) // 2


def _unpacked(packed: np.ndarray, size: int) -> np.ndarray:
    """Two signed halves of each byte, the lower first, as float32."""
    bytes_ = packed.astype(np.int8).view(np.uint8)
    halves = np.stack([bytes_ & 15, bytes_ >> 4], axis=-1).reshape(len(packed), -1)[:, :size].astype(np.int8)
    return ((halves ^ 8) - 8).astype(np.float32)


def _by_groups(weights: np.ndarray, scale: np.ndarray, zero: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Rows (axis 0) or columns (axis 1) have the scale and the zero of the group that `places` puts them into."""
    if not ((places >= 0) & (places < scale.shape[axis])).all():
        raise ModelFileError(f"g_idx: expected numbers of {scale.shape[axis]} groups")
    places = places.astype(np.int64)
    return (weights - zero.take(places, axis)) * scale.take(places, axis)
