"""Pooling, over windows and over all steps. Only GlobalAveragePooling1D heeds masks; no mask goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Union

from .builder import Scope, Tensor
from .images import ImageFormat, Sizes, as_sizes, channels_first, channels_last


def _pooling(op: str, axes: int) -> Callable:
    def pool(scope: Scope, x: Tensor, *, pool_size: Sizes, strides: Union[Sizes, None] = None,
             padding: Literal["valid", "same"] = "valid", data_format: ImageFormat = None) -> Tensor:
        window = as_sizes("pool_size", pool_size, axes)
        steps = window if strides is None else as_sizes("strides", strides, axes)
        images = channels_first(scope, x, data_format)
        auto_pad = "SAME_UPPER" if padding == "same" else "VALID"
        return channels_last(scope, scope.add(op, images, kernel_shape=window, strides=steps, auto_pad=auto_pad),
                             data_format)

    return pool


def _global_pooling(op: str, axes: int) -> Callable:
    def pool(scope: Scope, x: Tensor, *, keepdims: bool = False, data_format: ImageFormat = None) -> Tensor:
        chosen = [axis + 1 + (data_format == "channels_first") for axis in range(axes)]
        if axes == 1 and op == "ReduceMean" and x.mask:
            return _masked_average(scope, x, chosen[0], keepdims)
        return scope.tensor(scope.add(op, scope.floats(x).name, scope.ints("axes", chosen), keepdims=int(keepdims)))

    return pool


def _masked_average(scope: Scope, x: Tensor, axis: int, keepdims: bool) -> Tensor:
    """Over the steps that count; NaN where none does, as in Keras."""
    weights = scope.cast(scope.unsqueeze(x.mask, 3 - axis), "float32")
    axes = scope.ints("axes", [axis])
    total = scope.add("ReduceSum", scope.add("Mul", scope.floats(x).name, weights), axes, keepdims=int(keepdims))
    return scope.tensor(scope.add("Div", total, scope.add("ReduceSum", weights, axes, keepdims=int(keepdims))))


POOLING: Mapping[str, Callable] = {
    **{f"{kind}Pooling{axes}D": _pooling(op, axes)
       for kind, op in (("Max", "MaxPool"), ("Average", "AveragePool")) for axes in (1, 2, 3)},
    **{f"Global{kind}Pooling{axes}D": _global_pooling(op, axes)
       for kind, op in (("Max", "ReduceMax"), ("Average", "ReduceMean")) for axes in (1, 2, 3)},
}
