"""Layers that make one tensor of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Union

import numpy as np

from ...errors import ModelFileError, UnsupportedError
from .builder import Scope, Tensor, Tensors
from .json import shown


def _merging(op: str) -> Callable:
    def merge(scope: Scope, inputs: Tensors) -> Tensor:
        inputs = _comparable(scope, inputs)
        y = reduce(lambda a, b: scope.add(op, a, b), [x.name for x in inputs])
        return scope.tensor(y, _common_mask(scope, inputs))

    return merge


def multiply(scope: Scope, inputs: Tensors) -> Tensor:
    """For Keras 3 a masked step is 1 where another input has the step, 0 where none has."""
    if scope.keras_major < 3 or not any(x.mask for x in inputs):
        return _merging("Mul")(scope, inputs)
    inputs = _comparable(scope, inputs)
    factors = [scope.add("Where", scope.unsqueeze(x.mask, -1), x.name, scope.scalar(1.0)) if x.mask else x.name
               for x in inputs]
    y, mask = reduce(lambda a, b: scope.add("Mul", a, b), factors), _common_mask(scope, inputs)
    return scope.tensor(scope.add("Where", scope.unsqueeze(mask, -1), y, scope.scalar(0.0)) if mask else y, mask)


def _extreme(op: str) -> Callable:
    def merge(scope: Scope, inputs: Tensors) -> Tensor:
        """For Keras 3 a masked step is what the other inputs are."""
        if scope.keras_major < 3 or not any(x.mask for x in inputs):
            return _merging(op)(scope, inputs)
        y, *rest = _comparable(scope, inputs)
        for x in rest:
            name = scope.add("Where", scope.unsqueeze(x.mask, -1), x.name, y.name) if x.mask else x.name
            so_far = scope.add("Where", scope.unsqueeze(y.mask, -1), y.name, name) if y.mask else y.name
            y = scope.tensor(scope.add(op, so_far, name), _common_mask(scope, [y, x]))
        return y

    return merge


def subtract(scope: Scope, inputs: Tensors) -> Tensor:
    """The first less the second."""
    if len(inputs) != 2:
        raise ModelFileError(f"expected two inputs, got {len(inputs)}")
    return _merging("Sub")(scope, inputs)


def average(scope: Scope, inputs: Tensors) -> Tensor:
    total = _merging("Add")(scope, inputs)
    return replace(total, name=scope.add("Mul", total.name, scope.scalar(1 / len(inputs))))


def concatenate(scope: Scope, inputs: Tensors, *, axis: int = -1) -> Tensor:
    inputs = [scope.floats(x) for x in inputs] if len({x.dtype for x in inputs}) > 1 else inputs
    if len({x.rank for x in inputs}) == 1:
        scope.same_shape(*inputs, but=axis)
    y = scope.add("Concat", *(x.name for x in inputs), axis=axis)
    return scope.tensor(y, _concatenated_mask(scope, inputs, axis))


def _comparable(scope: Scope, inputs: Tensors) -> Tensors:
    """The inputs in one dtype; one of fewer axes gets axes of size 1 behind the batch."""
    if not inputs:
        raise ModelFileError("called on no input")
    if len({x.dtype for x in inputs}) > 1:
        inputs = [scope.floats(x) for x in inputs]
    rank = max(x.rank for x in inputs)
    aligned = []
    for x in inputs:
        if x.rank < rank:
            axes = scope.ints("axes", list(range(1, 1 + rank - x.rank)))
            x = scope.tensor(scope.add("Unsqueeze", x.name, axes))
        aligned.append(x)
    for x in aligned[1:]:
        for a, b in zip(aligned[0].shape, x.shape):
            if isinstance(a, str) and isinstance(b, str):  # a number may be a 1 that is repeated
                scope.builder.same_size(a, b)
    return aligned


def _common_mask(scope: Scope, inputs: Tensors) -> str:
    """Keras up to 2 keeps the steps that no mask hides; Keras 3 those that one mask shows, if all inputs have one."""
    masks = list(dict.fromkeys(x.mask for x in inputs))
    if not any(masks) or ("" in masks and scope.keras_major >= 3):
        return ""
    op = "Or" if scope.keras_major >= 3 else "And"
    return reduce(lambda a, b: scope.add(op, a, b), filter(None, masks))


def _concatenated_mask(scope: Scope, inputs: Tensors, axis: int) -> str:
    """Beside each other along the last axis the masks are merged as by the other layers; along time they are joined."""
    rank = inputs[0].rank
    if not any(x.mask for x in inputs):
        return ""
    if axis % rank == rank - 1:
        return _common_mask(scope, inputs)
    if axis % rank != 1 or any(x.mask and len(scope.tensor(x.mask).shape) != 2 for x in inputs):
        raise UnsupportedError(f"axis={axis} on masked inputs of {rank} axes")
    true = scope.constant("true", np.array(True))
    masks = [x.mask or scope.add("Expand", true, scope.sizes(x.shape[:2], x)) for x in inputs]
    return scope.add("Concat", *masks, axis=1)


def _normalized(scope: Scope, x: Tensor, axis: int) -> str:
    """`x` over its length along `axis`, as Keras takes it: not below the root of 1e-12."""
    squares = scope.add("Mul", scope.floats(x).name, scope.floats(x).name)
    total = scope.add("ReduceSum", squares, scope.ints("axes", [axis]), keepdims=1)
    length = scope.add("Sqrt", scope.add("Max", total, scope.scalar(1e-12)))
    return scope.add("Div", scope.floats(x).name, length)


def dot(scope: Scope, inputs: Tensors, *, axes: Union[int, list], normalize: bool = False) -> Tensor:
    """The products over one axis of each of two tensors, for each of the batch; no mask goes on."""
    if len(inputs) != 2 or not all(2 <= x.rank <= 3 for x in inputs):
        raise UnsupportedError(f"called on inputs of {[x.rank for x in inputs]} axes, expected two of 2 or 3")
    chosen = [axes, axes] if isinstance(axes, int) else axes
    if len(chosen) != 2 or not all(type(axis) is int for axis in chosen):
        raise ModelFileError(f"axes: expected an axis or two, got {shown(axes)}")
    chosen = [axis % x.rank for axis, x in zip(chosen, inputs)]
    if 0 in chosen:
        raise ModelFileError(f"axes: the batch cannot be one, got {shown(axes)}")
    left, right = ((_normalized(scope, x, axis) if normalize else scope.floats(x).name)
                   for x, axis in zip(inputs, chosen))
    left = _as_matrix(scope, left, inputs[0].rank, chosen[0], last=True)
    right = _as_matrix(scope, right, inputs[1].rank, chosen[1], last=False)
    product = scope.add("MatMul", left, right)
    gone = [axis for axis, x in ((1, inputs[0]), (2, inputs[1])) if x.rank == 2]
    if gone == [1, 2]:
        gone = [1]  # Keras keeps (batch, 1)
    return scope.tensor(scope.add("Squeeze", product, scope.ints("axes", gone)) if gone else product)


def _as_matrix(scope: Scope, x: str, rank: int, axis: int, last: bool) -> str:
    """(batch, rows, columns) with the axis that is summed over last, or first; a vector is a row, or a column."""
    if rank == 2:
        return scope.unsqueeze(x, 1 if last else 2)
    return x if (axis == 2) == last else scope.add("Transpose", x, perm=(0, 2, 1))


MERGING: Mapping[str, Callable] = {
    "Add": _merging("Add"),
    "Subtract": subtract,
    "Multiply": multiply,
    "Average": average,
    "Maximum": _extreme("Max"),
    "Minimum": _extreme("Min"),
    "Concatenate": concatenate,
    "Dot": dot,
}
