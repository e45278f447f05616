"""Convolutions over one or two spatial axes. No mask goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Union

import numpy as np

from ..activations import Activation
from ..errors import ModelFileError, UnsupportedError
from .keras_builder import Scope, Tensor
from .keras_images import ImageFormat, Sizes, as_sizes, channels_first, channels_last
from .keras_json import shown
from .keras_weights import take

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
                 padding: Literal["valid", "same"] = "valid", output_padding: None = None, data_format: ImageFormat = None,
                 dilation_rate: Sizes = 1, groups: Literal[1] = 1, activation: Activation, use_bias: bool) -> Tensor:
        """Each input adds kernel · input to a window of the output, kernel (..., filters, channels)."""
        window, steps = as_sizes("kernel_size", kernel_size, axes), as_sizes("strides", strides, axes)
        if set(as_sizes("dilation_rate", dilation_rate, axes)) != {1}:
            raise UnsupportedError(f"dilation_rate={shown(dilation_rate)}")
        channels = x.size(1 if data_format == "channels_first" else -1)
        kernel, *bias = take(scope.weights, kernel=(*window, filters, channels), **{"bias": (filters,)} if use_bias else {})
        weight = np.ascontiguousarray(kernel.transpose(axes + 1, axes, *range(axes)))
        constants = [scope.constant(name, array) for name, array in zip(("kernel", "bias"), (weight, *bias))]
        over = [max(size - step, 0) if padding == "same" else 0 for size, step in zip(window, steps)]
        y = scope.add("ConvTranspose", channels_first(scope, x, data_format), *constants, strides=steps,
                      pads=(*(total // 2 for total in over), *(total - total // 2 for total in over)),
                      output_padding=tuple(max(step - size, 0) for size, step in zip(window, steps)))
        return _put_out(scope, y, data_format, activation)

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
    "Conv1DTranspose": _transposed(1),
    "Conv2DTranspose": _transposed(2),
    "SeparableConv1D": _separable(1),
    "SeparableConv2D": _separable(2),
    "DepthwiseConv1D": _depthwise(1),
    "DepthwiseConv2D": _depthwise(2),
}
