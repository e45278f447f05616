"""Layers that move, repeat or cut what they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

from ..errors import ModelFileError
from .keras_builder import Scope, Tensor
from .keras_json import shown

ChannelsLast = Literal["channels_last", None]


def flatten(scope: Scope, x: Tensor, *, data_format: ChannelsLast = None) -> Tensor:
    """(batch, everything else)"""
    if x.rank == 1:
        return scope.tensor(scope.unsqueeze(x.name, 1))
    rest = x.shape[1:]
    size = -1
    if all(isinstance(one, int) for one in rest):
        size = 1
        for one in rest:
            size *= one
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


def cropping1d(scope: Scope, x: Tensor, *, cropping: Union[int, list], data_format: ChannelsLast = None) -> Tensor:
    """Without the first and last steps."""
    start, end = pair("cropping", cropping)
    return scope.tensor(scope.slice(x.name, 1, start, -end if end else 2**31))


def zero_padding1d(scope: Scope, x: Tensor, *, padding: Union[int, list], data_format: ChannelsLast = None) -> Tensor:
    left, right = pair("padding", padding)
    return scope.tensor(scope.add("Pad", x.name, scope.ints("pads", [0, left, 0, 0, right, 0])))


def zero_padding2d(scope: Scope, x: Tensor, *, padding: Union[int, list], data_format: ChannelsLast = None) -> Tensor:
    rows, columns = padding if isinstance(padding, list) and len(padding) == 2 else [padding, padding]
    (top, bottom), (left, right) = pair("padding", rows), pair("padding", columns)
    return scope.tensor(scope.add("Pad", x.name, scope.ints("pads", [0, top, left, 0, 0, bottom, right, 0])))


def up_sampling1d(scope: Scope, x: Tensor, *, size: int) -> Tensor:
    """Each step `size` times."""
    repeated = scope.add("Expand", scope.unsqueeze(x.name, 2), scope.ints("repeats", [1, 1, size, 1]))
    time = x.shape[1] * size if isinstance(x.shape[1], int) else -1
    return scope.tensor(scope.add("Reshape", repeated, scope.ints("shape", [0, time, x.width])))


def pair(name: str, value: Any) -> tuple[int, int]:
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
    "Cropping1D": cropping1d,
    "ZeroPadding1D": zero_padding1d,
    "ZeroPadding2D": zero_padding2d,
    "UpSampling1D": up_sampling1d,
}
