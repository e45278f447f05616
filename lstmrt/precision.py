"""Weights in fewer bits: which constants of a graph are weights, and what they are rounded to.

csrc/int8.c and bf16.c round in the same way, and rounding twice is rounding once: a graph with rounded weights is what
a model with reduced weights computes, but for the rounding of what the weights are multiplied with. docs/NUMERICS.md
has the scheme.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .errors import InputError
from .graph import Graph, Node, all_nodes
from .operators import attributes, is_recurrent

PRECISIONS = ("f32", "bf16", "int8")

_LARGEST = np.float32(127)
_SMALLEST = np.float32(2.0**-100)  # weights that are no larger count as 0


def check_precision(precision: str) -> str:
    """`precision`, or an InputError that names the known ones."""
    if precision not in PRECISIONS:
        raise InputError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    return precision


def weights(graph: Graph) -> dict[str, int]:
    """The constants that are weights of a product or rows of a table, subgraphs included, and the axis of each that one
    scale serves: that of the inputs, or of a table's row. Constants with two uses that differ in this are left out."""
    axes: dict[str, set[int]] = {}
    for node in all_nodes(graph.nodes):
        for index, axis in _weight_inputs(node).items():
            array = graph.constants.get(node.inputs[index]) if index < len(node.inputs) else None
            if array is not None and array.dtype == np.float32 and array.ndim >= 2 and array.size:
                axes.setdefault(node.inputs[index], set()).add(axis % array.ndim)
    return {name: found.pop() for name, found in axes.items() if len(found) == 1}


def _weight_inputs(node: Node) -> dict[int, int]:
    """Indices of inputs -> the axis that is summed over, or holds a row."""
    if is_recurrent(node):
        return {1: -1, 2: -1}
    if node.domain:
        return {}
    if node.op == "MatMul":
        return {1: -2}
    if node.op == "Gemm":
        return {1: -1 if attributes(node)["transB"] else -2}
    if node.op == "Gather" and attributes(node)["axis"] == 0:
        return {0: -1}
    return {}


def rounded(graph: Graph, precision: str) -> Graph:
    """The graph with its weights as `precision` can hold them, still as float32."""
    if precision == "f32":
        return graph
    constants = dict(graph.constants)
    for name, axis in weights(graph).items():
        array = from_int8(*to_int8(constants[name], axis)) if precision == "int8" else from_bf16(to_bf16(constants[name]))
        array.flags.writeable = False
        constants[name] = array
    return replace(graph, constants=constants)


def to_int8(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """(q, scales) of a float32 array: int8 of its shape, float32 with size 1 along `axis`; array ~ q scales.

    A scale has 16 significant bits, so that its product with q is exact. It is NaN where not all weights are finite.
    """
    array = np.ascontiguousarray(array)
    largest = np.abs(array).max(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):
        bits = (largest / _LARGEST).view(np.uint32)
        up, down = ((number & ~np.uint32(0xFF)).view(np.float32) for number in (bits + np.uint32(0xFF), bits))
        scales = np.where(np.isinf(up * _LARGEST), down, up)
    scales = np.where(largest > _SMALLEST, scales, np.float32(0))
    scales[~np.isfinite(largest)] = np.nan
    divisors = np.where(scales > 0, scales, np.float32(np.inf)).astype(np.float64)
    q = np.rint(np.nan_to_num(array, nan=0, posinf=0, neginf=0) / divisors)
    return q.astype(np.int8), scales


def from_int8(q: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The float32 array that `to_int8` stands for."""
    return q * scales


def to_bf16(array: np.ndarray) -> np.ndarray:
    """The nearest bf16 of each float32, of two the even one, as their 16 bits."""
    bits = np.ascontiguousarray(array).view(np.uint32)
    nearest = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(array), quiet, nearest).astype(np.uint16)


def from_bf16(bits: np.ndarray) -> np.ndarray:
    """The float32 array that `to_bf16` stands for."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
