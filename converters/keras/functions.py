"""Keras's activation functions that are several operators of ONNX, or one of a whole row.

Each takes the scope and the value, in float32, and returns the value that it makes; further arguments are those of keras.ops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .builder import Scope


def softmax(scope: Scope, x: str, axis: int = -1) -> str:
    return scope.add("Softmax", x, axis=axis)


def log_softmax(scope: Scope, x: str, axis: int = -1) -> str:
    return scope.add("LogSoftmax", x, axis=axis)


def hard_silu(scope: Scope, x: str) -> str:
    return scope.add("HardSwish", x)


def glu(scope: Scope, x: str, axis: int = -1) -> str:
    """The first half times the sigmoid of the second."""
    size = scope.tensor(x).size(axis)
    first, second = scope.slice(x, axis, 0, size // 2), scope.slice(x, axis, size // 2, size)
    return scope.add("Mul", first, scope.add("Sigmoid", second))


def log_sigmoid(scope: Scope, x: str) -> str:
    return scope.add("Neg", scope.add("Softplus", scope.add("Neg", x)))


def tanh_shrink(scope: Scope, x: str) -> str:
    return scope.add("Sub", x, scope.add("Tanh", x))


def soft_shrink(scope: Scope, x: str, threshold: float = 0.5) -> str:
    return scope.add("Shrink", x, lambd=float(threshold), bias=float(threshold))


def hard_shrink(scope: Scope, x: str, threshold: float = 0.5) -> str:
    return scope.add("Shrink", x, lambd=float(threshold), bias=0.0)


def threshold(scope: Scope, x: str, threshold: float, default_value: float) -> str:
    above = scope.add("Greater", x, scope.scalar(float(threshold)))
    return scope.add("Where", above, x, scope.scalar(float(default_value)))


def squareplus(scope: Scope, x: str, b: float = 4.0) -> str:
    """(x + sqrt(x² + b)) / 2"""
    root = scope.add("Sqrt", scope.add("Add", scope.add("Mul", x, x), scope.scalar(float(b))))
    return scope.add("Mul", scope.add("Add", x, root), scope.scalar(0.5))


def sparse_plus(scope: Scope, x: str) -> str:
    """0 up to -1, x from 1 on, ((x + 1) / 2)² between: the larger of x and of the square of what is clipped to [0, 1]."""
    half = scope.add("HardSigmoid", x, alpha=0.5, beta=0.5)
    return scope.add("Max", x, scope.add("Mul", half, half))


def sparsemax(scope: Scope, x: str, axis: int = -1) -> str:
    """max(0, x - t) as Keras 3 has it, whose t is larger than the paper's: it adds up the sums of all k largest, for all k
    that t leaves above 0, not the last of these sums alone."""
    size = scope.tensor(x).size(axis)
    ranks = np.arange(1, size + 1, dtype=np.float32).reshape(-1, *[1] * (scope.tensor(x).rank - 1 - axis % scope.tensor(x).rank))
    axes, one = scope.ints("axes", [axis]), scope.scalar(1.0)
    largest = scope.add_several("TopK", (x, scope.ints("all", [size])), 2, axis=axis)[0]
    sums = scope.add("CumSum", largest, scope.constant("axis", np.array(axis, np.int64)))
    bounds = scope.add("Div", scope.add("Sub", sums, one), scope.constant("ranks", ranks))
    above = scope.cast(scope.add("Greater", largest, bounds), "float32")
    total = scope.add("ReduceSum", scope.add("Mul", sums, above), axes)
    t = scope.add("Div", scope.add("Sub", total, one), scope.add("ReduceSum", above, axes))
    return scope.add("Relu", scope.add("Sub", x, t))


COMPOSED: Mapping[str, Callable] = {function.__name__: function for function in (
    softmax, log_softmax, hard_silu, glu, log_sigmoid, tanh_shrink, soft_shrink, hard_shrink, squareplus, sparse_plus, sparsemax)}
