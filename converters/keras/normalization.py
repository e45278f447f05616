"""Layers that shift and scale: by statistics of training, by those of each step, or by numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union

import numpy as np

from ...errors import ModelFileError
from .builder import Scope, Tensor
from .json import shown
from .weights import take, take_first

Axes = Union[int, list]
Numbers = Union[float, list]
LEAST_DEVIATION = 1e-7  # Keras's epsilon, below which Normalization does not divide
SHORTEST = 1e-12  # the same of UnitNormalization


def batch_normalization(scope: Scope, x: Tensor, *, axis: Axes = -1, epsilon: float = 1e-3, center: bool = True,
                        scale: bool = True, renorm: Literal[False] = False) -> Tensor:
    """(x - moving mean) / sqrt(moving variance + epsilon) · gamma + beta for each channel."""
    (channel,) = _positive_axes(axis, x, 1)
    shape = (x.size(channel),)
    names = ["gamma"] * scale + ["beta"] * center + ["moving_mean", "moving_variance"]
    arrays = {name: array.astype(np.float64) for name, array in
              zip(names, take(scope.weights, **dict.fromkeys(names, shape)))}
    factor = arrays.get("gamma", 1.0) / np.sqrt(arrays["moving_variance"] + epsilon)
    return _scaled(scope, x, factor, arrays.get("beta", 0.0) - arrays["moving_mean"] * factor, [channel])


def layer_normalization(scope: Scope, x: Tensor, *, axis: Axes = -1, epsilon: float = 1e-3, center: bool = True,
                        scale: bool = True, rms_scaling: Literal[False] = False) -> Tensor:
    """Over one axis or several, which are the last ones while it is done, as ONNX has it."""
    axes = _positive_axes(axis, x)
    others = [one for one in range(x.rank) if one not in axes]
    shape = tuple(x.size(one) for one in axes)
    written = shape if isinstance(axis, int) else tuple(x.size(one) for one in axis)  # Keras, too, reshapes without moving axes
    arrays = [array.reshape(shape) for array in
              take(scope.weights, **dict.fromkeys(["gamma"] * scale + ["beta"] * center, written))]
    gamma = arrays[0] if scale else np.ones(shape, np.float32)
    names = [scope.constant("gamma", gamma)] + [scope.constant("beta", arrays[-1])] * center
    moved = others + axes != list(range(x.rank))
    y = scope.floats(x).name
    y = scope.add("Transpose", y, perm=(*others, *axes)) if moved else y
    y = scope.add("LayerNormalization", y, *names, axis=-len(axes), epsilon=float(epsilon))
    y = scope.add("Transpose", y, perm=tuple(np.argsort([*others, *axes]).tolist())) if moved else y
    return scope.tensor(y, x.mask)


def group_normalization(scope: Scope, x: Tensor, *, groups: int = 32, axis: int = -1, epsilon: float = 1e-3,
                        center: bool = True, scale: bool = True) -> Tensor:
    """As LayerNormalization over all axes but the batch, for each group of channels; groups=-1: for each channel."""
    (channel,) = _positive_axes(axis, x, 1)
    channels = x.size(channel)
    groups = channels if groups == -1 else groups
    if channel == 0 or groups < 1 or channels % groups:
        raise ModelFileError(f"{channels} channels do not divide into {groups} groups")
    arrays = dict(zip(names := ["gamma"] * scale + ["beta"] * center, take(scope.weights, **dict.fromkeys(names, (channels,)))))
    x = scope.floats(x)
    grouped = scope.reshape(x.name, [*x.shape[:channel], groups, channels // groups, *x.shape[channel + 1:]], x)
    axes = scope.ints("axes", [i for i in range(1, x.rank + 1) if i != channel])
    centred = scope.add("Sub", grouped, scope.add("ReduceMean", grouped, axes))
    variance = scope.add("ReduceMean", scope.add("Mul", centred, centred), axes)
    deviation = scope.add("Sqrt", scope.add("Add", variance, scope.scalar(float(epsilon))))
    y = scope.tensor(scope.reshape(scope.add("Div", centred, deviation), x.shape, x), x.mask)
    return _scaled(scope, y, arrays.get("gamma", 1.0), arrays.get("beta", 0.0), [channel])


def unit_normalization(scope: Scope, x: Tensor, *, axis: Axes = -1) -> Tensor:
    """x by its length along the axes."""
    x = scope.floats(x)
    length = scope.add("ReduceL2", x.name, scope.ints("axes", _positive_axes(axis, x)))
    y = scope.add("Div", x.name, scope.add("Max", length, scope.scalar(SHORTEST)))
    return scope.tensor(y, x.mask)


def normalization(scope: Scope, x: Tensor, *, axis: Union[int, list, None] = -1, mean: Any = None, variance: Any = None,
                  invert: bool = False) -> Tensor:
    """(x - mean) / deviation by statistics of the training data, or the other way round."""
    axes = [] if axis is None else _positive_axes(axis, x)
    shape = tuple(x.size(one) for one in axes)
    if mean is None:
        mean, variance = take_first(scope.weights, mean=shape, variance=shape)
    try:
        mean, variance = (np.broadcast_to(_numbers("mean or variance", one), shape) for one in (mean, variance))
    except ValueError as error:
        raise ModelFileError(f"mean and variance: {error}") from error
    deviation = np.maximum(np.sqrt(variance), LEAST_DEVIATION)
    if invert:
        return _scaled(scope, x, deviation, mean, axes)
    return _scaled(scope, x, 1 / deviation, -mean / deviation, axes)


def rescaling(scope: Scope, x: Tensor, *, scale: Numbers, offset: Numbers = 0.0) -> Tensor:
    """x · scale + offset"""
    return _scaled(scope, x, _numbers("scale", scale), _numbers("offset", offset), [x.rank - 1])


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ModelFileError(f"{name}: expected numbers, got {shown(value)}") from None


def _positive_axes(axis: Axes, x: Tensor, count: int | None = None) -> list[int]:
    axes = [axis] if isinstance(axis, int) else axis
    if not axes or not all(type(one) is int and -x.rank <= one < x.rank for one in axes) or len(axes) != (
            count or len(axes)):
        raise ModelFileError(f"axis: expected axes of {x.rank}, got {shown(axis)}")
    return sorted(one % x.rank for one in axes)


def _scaled(scope: Scope, x: Tensor, factor: np.ndarray, offset: np.ndarray, axes: Sequence[int]) -> Tensor:
    """x · factor + offset, numbers that run along `axes` of x; no node for a factor of 1 or an offset of 0."""
    y = scope.floats(x).name
    for op, name, numbers, nothing in (("Mul", "factor", factor, 1.0), ("Add", "offset", offset, 0.0)):
        numbers = np.asarray(numbers, np.float64)
        if (numbers != nothing).any():
            y = scope.add(op, y, scope.constant(name, _along(numbers, axes, x.rank).astype(np.float32)))
    return scope.tensor(y, x.mask)


def _along(numbers: np.ndarray, axes: Sequence[int], rank: int) -> np.ndarray:
    """`numbers` with axes of size 1 behind them, so that they run along `axes` of a tensor of `rank` axes."""
    if numbers.ndim != len(axes) or not axes:
        return numbers
    shape = [1] * rank
    for axis, size in zip(axes, numbers.shape):
        shape[axis] = size
    return numbers.reshape(shape[axes[0]:])


NORMALIZATION: Mapping[str, Callable] = {
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "GroupNormalization": group_normalization,
    "UnitNormalization": unit_normalization,
    "Normalization": normalization,
    "Rescaling": rescaling,
}
