"""Layers that move, repeat or cut what they are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

import numpy as np

from ...errors import ModelFileError
from .builder import Scope, Tensor
from .images import ImageFormat, Sizes, as_sizes
from .json import shown

ChannelsLast = Literal["channels_last", None]


def flatten(scope: Scope, x: Tensor, *, data_format: ChannelsLast = None) -> Tensor:
    """(batch, everything else)"""
    if x.rank == 1:
        return scope.tensor(scope.unsqueeze(x.name, 1))
    rest = x.shape[1:]
    size = math.prod(rest) if all(isinstance(one, int) for one in rest) else -1
    return scope.tensor(scope.add("Reshape", x.name, scope.ints("shape", [0, size])))


def reshape(scope: Scope, x: Tensor, *, target_shape: list) -> Tensor:
    sizes = [-1 if size is None else size for size in target_shape]
    if not all(type(size) is int and (size > 0 or size == -1) for size in sizes):
        raise ModelFileError(f"target_shape: expected sizes above 0 or -1, got {shown(target_shape)}")
    return scope.tensor(scope.add("Reshape", x.name, scope.ints("shape", [0, *sizes])))


def permute(scope: Scope, x: Tensor, *, dims: list) -> Tensor:
    if sorted(dims) != list(range(1, x.rank)):
        raise ModelFileError(f"dims: expected a permutation of 1 to {x.rank - 1}, got {shown(dims)}")
    return scope.tensor(scope.add("Transpose", x.name, perm=(0, *dims)))


def repeat_vector(scope: Scope, x: Tensor, *, n: int) -> Tensor:
    """(batch, width) -> (batch, n, width)"""
    if x.rank != 2 or n < 1:
        raise ModelFileError(f"n={n} on an input of shape {x.shape}, expected (batch, width) and a number above 0")
    return scope.tensor(scope.add("Expand", scope.unsqueeze(x.name, 1), scope.ints("repeats", [1, n, 1])))


def _cropping(axes: int) -> Callable:
    def crop(scope: Scope, x: Tensor, *, cropping: Union[int, list], data_format: ImageFormat = None) -> Tensor:
        """Without the first and last places along each axis."""
        y = x.name
        for axis, (start, end) in enumerate(_pairs("cropping", cropping, axes), _first_axis(data_format)):
            y = scope.slice(y, axis, start, -end if end else 2**31)
        return scope.tensor(y)

    return crop


def _zero_padding(axes: int) -> Callable:
    def pad(scope: Scope, x: Tensor, *, padding: Union[int, list], data_format: ImageFormat = None) -> Tensor:
        first, pads = _first_axis(data_format), np.zeros((2, axes + 2), np.int64)
        pads[:, first:first + axes] = np.transpose(_pairs("padding", padding, axes))
        return scope.tensor(scope.add("Pad", x.name, scope.ints("pads", pads.ravel())))

    return pad


def _up_sampling(axes: int) -> Callable:
    def repeat(scope: Scope, x: Tensor, *, size: Sizes, data_format: ImageFormat = None,
               interpolation: Literal["nearest"] = "nearest") -> Tensor:
        """Each place some times along each axis."""
        for axis, times in enumerate(as_sizes("size", size, axes), _first_axis(data_format)):
            repeats = np.ones(x.rank + 1, np.int64)
            repeats[axis + 1] = times
            repeated = scope.add("Expand", scope.unsqueeze(x.name, axis + 1), scope.ints("repeats", repeats))
            length = x.shape[axis] * times if isinstance(x.shape[axis], int) else -1
            x = scope.tensor(scope.reshape(repeated, [0, *x.shape[1:axis], length, *x.shape[axis + 1:]], x))
        return x

    return repeat


def _first_axis(data_format: str | None) -> int:
    """Of the spatial ones."""
    return 2 if data_format == "channels_first" else 1


def _pairs(name: str, value: Any, axes: int) -> list[tuple[int, int]]:
    """Two numbers for each axis; one number stands for both, and for all axes."""
    each = [value] if axes == 1 else value if isinstance(value, list) else [value] * axes
    if len(each) != axes:
        raise ModelFileError(f"{name}: expected {axes} numbers or pairs of them, got {shown(value)}")
    return [_pair(name, one) for one in each]


def _pair(name: str, value: Any) -> tuple[int, int]:
    """One number for both, or two."""
    both = [value, value] if isinstance(value, int) else value
    if not isinstance(both, list) or len(both) != 2 or not all(type(one) is int and one >= 0 for one in both):
        raise ModelFileError(f"{name}: expected a number or two, got {shown(value)}")
    return tuple(both)


SHAPING: Mapping[str, Callable] = {
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
    "RepeatVector": repeat_vector,
    **{f"{kind}{axes}D": maker(axes) for kind, maker in (("Cropping", _cropping), ("ZeroPadding", _zero_padding),
                                                        ("UpSampling", _up_sampling)) for axes in (1, 2, 3)},
}
