"""Convolutions over one to three spatial axes. No mask goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Union

import numpy as np

from ...activations import Activation
from ...errors import ModelFileError, UnsupportedError
from .builder import Scope, Tensor
from .images import ImageFormat, Sizes, as_sizes, channels_first, channels_last
from .json import shown
from .weights import take

Padding = Literal["valid", "same", "causal"]


def _convolution(axes: int) -> Callable:
    def convolve(scope: Scope, x: Tensor, *, filters: int, kernel_size: Sizes, strides: Sizes = 1,
                 padding: Padding = "valid", data_format: ImageFormat = None, dilation_rate: Sizes = 1, groups: int = 1,
                 activation: Activation, use_bias: bool) -> Tensor:
        """The sum of kernel · window at each place, kernel (..., channels of a group, filters)."""
        window = as_sizes("kernel_size", kernel_size, axes)
        channels = x.size(1 if data_format == "channels_first" else -1)
        if groups < 1 or channels % groups:
            raise ModelFileError(f"{channels} channels do not divide into {groups} groups")
        kernel, *bias = take(scope.weights, kernel=(*window, channels // groups, filters),
                             **{"bias": (filters,)} if use_bias else {})
        y = _conv(scope, channels_first(scope, x, data_format), kernel, bias, axes, strides, padding, dilation_rate, groups)
        return _put_out(scope, y, data_format, activation)

    return convolve


def _separable(axes: int) -> Callable:
    def convolve(scope: Scope, x: Tensor, *, filters: int, kernel_size: Sizes, strides: Sizes = 1,
                 padding: Padding = "valid", data_format: ImageFormat = None, dilation_rate: Sizes = 1,
                 depth_multiplier: int = 1, groups: Literal[1] = 1, activation: Activation, use_bias: bool) -> Tensor:
        """Each channel by itself, then all channels of a place together."""
        window = as_sizes("kernel_size", kernel_size, axes)
        channels = x.size(1 if data_format == "channels_first" else -1)
        depthwise, pointwise, *bias = take(
            scope.weights, depthwise_kernel=(*window, channels, depth_multiplier),
            pointwise_kernel=(*[1] * axes, channels * depth_multiplier, filters),
            **{"bias": (filters,)} if use_bias else {})
        each = _conv(scope, channels_first(scope, x, data_format), _one_channel_groups(depthwise), [], axes, strides,
                     padding, dilation_rate, channels)
        y = _conv(scope, each, pointwise, bias, axes, 1, "valid", 1, 1)
        return _put_out(scope, y, data_format, activation)

    return convolve


def _depthwise(axes: int) -> Callable:
    def convolve(scope: Scope, x: Tensor, *, kernel_size: Sizes, strides: Sizes = 1, padding: Padding = "valid",
                 data_format: ImageFormat = None, dilation_rate: Sizes = 1, depth_multiplier: int = 1,
                 activation: Activation, use_bias: bool, groups: Union[int, None] = None,
                 filters: Union[int, None] = None) -> Tensor:
        """Each channel by itself."""
        window = as_sizes("kernel_size", kernel_size, axes)
        channels = x.size(1 if data_format == "channels_first" else -1)
        depthwise, *bias = take(scope.weights, depthwise_kernel=(*window, channels, depth_multiplier),
                                **{"bias": (channels * depth_multiplier,)} if use_bias else {})
        y = _conv(scope, channels_first(scope, x, data_format), _one_channel_groups(depthwise), bias, axes, strides,
                  padding, dilation_rate, channels)
        return _put_out(scope, y, data_format, activation)

    return convolve


def _transposed(axes: int) -> Callable:
    def convolve(scope: Scope, x: Tensor, *, filters: int, kernel_size: Sizes, strides: Sizes = 1,
                 padding: Literal["valid", "same"] = "valid", output_padding: Union[Sizes, None] = None,
                 data_format: ImageFormat = None, dilation_rate: Sizes = 1, groups: Literal[1] = 1, activation: Activation,
                 use_bias: bool) -> Tensor:
        """Each input adds kernel · input to a window of the output, kernel (..., filters, channels)."""
        window, steps = as_sizes("kernel_size", kernel_size, axes), as_sizes("strides", strides, axes)
        dilations = as_sizes("dilation_rate", dilation_rate, axes)
        more = [None] * axes if output_padding is None else as_sizes("output_padding", output_padding, axes, least=0)
        channels = x.size(1 if data_format == "channels_first" else -1)
        kernel, *bias = take(scope.weights, kernel=(*window, filters, channels), **{"bias": (filters,)} if use_bias else {})
        weight = np.ascontiguousarray(kernel.transpose(axes + 1, axes, *range(axes)))
        constants = [scope.constant(name, array) for name, array in zip(("kernel", "bias"), (weight, *bias))]
        spans = [(size - 1) * dilation + 1 for size, dilation in zip(window, dilations)]
        over = [_surplus(*one, padding) for one in zip(spans, steps, more)]
        cut = [max(total, 0) for total in over]
        y = scope.add("ConvTranspose", channels_first(scope, x, data_format), *constants, strides=steps, dilations=dilations,
                      pads=(*(total // 2 for total in cut), *(total - total // 2 for total in cut)),
                      output_padding=tuple(max(-total, 0) for total in over))
        return _put_out(scope, y, data_format, activation)

    return convolve


def _surplus(span: int, step: int, more: int | None, padding: str) -> int:
    """How much longer than what Keras keeps all windows of `span`, side by side and over one another, are."""
    if more is not None:
        return (span // 2 * 2 if padding == "same" else 0) - more
    return span - step if padding == "same" else min(span - step, 0)


def _places(sizes: Sequence[int], counts: Sequence[int], window: Sequence[int], steps: Sequence[int]) -> np.ndarray:
    """(windows, places of one): where each window lies among all places of an image, one after the other."""
    places, axes = np.zeros(1, np.int64), len(sizes)
    for axis, (size, count, width, step) in enumerate(zip(sizes, counts, window, steps)):
        along = np.arange(count)[:, None] * step + np.arange(width)
        places = places * size + np.expand_dims(along, [i for i in range(2 * axes) if i % axes != axis])
    return places.reshape(math.prod(counts), -1)


def _locally_connected(axes: int) -> Callable:
    def convolve(scope: Scope, x: Tensor, *, filters: int, kernel_size: Sizes, strides: Sizes = 1,
                 padding: Literal["valid"] = "valid", data_format: ImageFormat = None, implementation: Literal[1] = 1,
                 activation: Activation, use_bias: bool) -> Tensor:
        """A convolution with a kernel of its own for each place."""
        window, steps = as_sizes("kernel_size", kernel_size, axes), as_sizes("strides", strides, axes)
        images = channels_last(scope, channels_first(scope, x, data_format), None)
        sizes, channels = [images.size(1 + axis) for axis in range(axes)], images.width
        counts = [(size - width) // step + 1 for size, width, step in zip(sizes, window, steps)]
        if min(counts) < 1:
            raise ModelFileError(f"kernel_size={shown(kernel_size)} on an input of shape {x.shape}")
        seen = math.prod(window) * channels
        kernel, *bias = take(scope.weights, kernel=(math.prod(counts), seen, filters),
                             **{"bias": (*counts, filters)} if use_bias else {})
        rows = scope.add("Reshape", images.name, scope.ints("rows", [0, math.prod(sizes), channels]))
        parts = scope.add("Gather", rows, scope.constant("places", _places(sizes, counts, window, steps)), axis=1)
        if data_format == "channels_first":
            parts = scope.add("Transpose", parts, perm=(0, 1, 3, 2))
        parts = scope.add("Reshape", parts, scope.ints("parts", [0, math.prod(counts), seen]))
        y = scope.add("Einsum", parts, scope.constant("kernel", kernel), equation="bpk,pkf->bpf")
        y = scope.add("Reshape", y, scope.ints("counts", [0, *counts, filters]))
        y = channels_last(scope, channels_first(scope, scope.tensor(y), None), data_format).name
        for array in bias:  # whose numbers Keras reads, and trains, in the order of what it makes
            y = scope.add("Add", y, scope.constant("bias", array.reshape(scope.tensor(y).shape[1:])))
        return scope.tensor(scope.activate(y, activation))

    return convolve


def _put_out(scope: Scope, y: str, data_format: ImageFormat, activation: Activation) -> Tensor:
    """What the layer makes of a convolution `y`: activated with its axes in their final order, since softmax and its like run
    along the last one."""
    return scope.tensor(scope.activate(channels_last(scope, y, data_format).name, activation))


def _one_channel_groups(depthwise: np.ndarray) -> np.ndarray:
    """Keras's (..., channels, multiplier) as a kernel (..., 1, channels x multiplier) of as many groups as channels."""
    return depthwise.reshape(*depthwise.shape[:-2], 1, -1)


def _conv(scope: Scope, x: str, kernel: np.ndarray, bias: list[np.ndarray], axes: int, strides: Sizes, padding: str,
          dilation_rate: Sizes, groups: int) -> str:
    """A Conv of (batch, channels, ...) with Keras's kernel (..., channels of a group, filters)."""
    steps, dilations = as_sizes("strides", strides, axes), as_sizes("dilation_rate", dilation_rate, axes)
    reach = [(size - 1) * rate for size, rate in zip(kernel.shape, dilations)]
    if padding == "causal" and axes != 1:
        raise UnsupportedError(f"padding={shown(padding)}")
    if padding == "same" and set(steps) != {1}:
        where = {"auto_pad": "SAME_UPPER"}
    elif padding == "same":
        where = {"pads": (*(total // 2 for total in reach), *(total - total // 2 for total in reach))}
    else:
        where = {"pads": (reach[0], 0)} if padding == "causal" else {}
    weight = np.ascontiguousarray(kernel.transpose(axes + 1, axes, *range(axes)))
    constants = [scope.constant(name, array) for name, array in zip(("kernel", "bias"), (weight, *bias))]
    return scope.add("Conv", x, *constants, strides=steps, dilations=dilations, group=groups, **where)


CONVOLUTION: Mapping[str, Callable] = {
    "Conv1D": _convolution(1),
    "Conv2D": _convolution(2),
    "Conv3D": _convolution(3),
    "Conv1DTranspose": _transposed(1),
    "Conv2DTranspose": _transposed(2),
    "Conv3DTranspose": _transposed(3),
    "LocallyConnected1D": _locally_connected(1),
    "LocallyConnected2D": _locally_connected(2),
    "SeparableConv1D": _separable(1),
    "SeparableConv2D": _separable(2),
    "DepthwiseConv1D": _depthwise(1),
    "DepthwiseConv2D": _depthwise(2),
}
