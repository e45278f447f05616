"""EinsumDense: a dense layer over axes that an equation names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Union

import numpy as np

from ...activations import Activation
from ...errors import ModelFileError, UnsupportedError
from ...graph import Dim
from .builder import Scope, Tensor
from .json import shown
from .weights import take

EQUATION = re.compile(r"(\.\.\.)?([a-zA-Z]+),([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)")


def einsum_dense(scope: Scope, x: Tensor, *, equation: str, output_shape: Union[int, list],
                 bias_axes: Union[str, None] = None, activation: Activation) -> Tensor:
    """The products of x and a kernel that the equation sums, and a bias along some axes of the result. No mask goes on."""
    equation = equation.replace(" ", "")
    found = EQUATION.fullmatch(equation)
    if not found or found[1] != found[4] or len(found[2]) > x.rank:
        raise UnsupportedError(f"equation={shown(equation)} of {x.rank} axes")
    left, letters, right = found[2], found[3], found[5]
    made = output_shape if isinstance(output_shape, list) else [output_shape]
    sizes = {**dict(zip(right[::-1], made[::-1])), **dict(zip(left[::-1], x.shape[::-1]))}
    if not all(type(sizes.get(letter)) is int for letter in letters):
        raise ModelFileError(f"equation {equation}: sizes of the kernel are not known")
    biased = _bias_shape(bias_axes, right, sizes)
    kernel, *bias = take(scope.weights, kernel=tuple(sizes[letter] for letter in letters),
                         **{"bias": biased} if bias_axes else {})
    summed = _summed(left, letters, right)
    if summed:
        y = _dense(scope, scope.floats(x), kernel, summed)
    else:
        y = scope.add("Einsum", scope.floats(x).name, scope.constant("kernel", kernel), equation=equation)
    for array in bias:
        y = scope.add("Add", y, scope.constant("bias", array))
    return scope.tensor(scope.activate(y, activation))


def _bias_shape(axes: str | None, right: str, sizes: Mapping[str, Dim]) -> tuple:
    """Sizes from the first axis with a bias on, 1 where there is none."""
    first = min((right.find(letter) for letter in axes or ""), default=0)
    if first < 0:
        raise ModelFileError(f"bias_axes={shown(axes)} are not all of the result's {right}")
    return tuple(sizes.get(letter) if letter in (axes or "") else 1 for letter in right[first:])


def _summed(left: str, letters: str, right: str) -> int:
    """How many axes are summed, where these are x's last and the kernel's first, and the kernel's others come last; else 0."""
    count = sum(letter not in right for letter in left)
    plain = count and letters[:count] == left[-count:] and right == left[:-count] + letters[count:]
    return count if plain else 0


def _dense(scope: Scope, x: Tensor, kernel: np.ndarray, summed: int) -> str:
    kept, name, made = x.shape[:x.rank - summed], x.name, kernel.shape[summed:]
    if summed > 1:
        name = scope.reshape(name, [*kept, math.prod(kernel.shape[:summed])], x)
    y = scope.add("MatMul", name, scope.constant("kernel", kernel.reshape(-1, math.prod(made))))
    return y if len(made) == 1 else scope.reshape(y, [*kept, *made], x)
