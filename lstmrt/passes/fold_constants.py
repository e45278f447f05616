"""Replace nodes whose inputs are all constants by what they compute."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..graph import Graph, Node
from ..operators import find
from ..shapes import Mismatch, Tensor
from ..sizes import sizes_of
from .infer_shapes import infer_node, infer_shapes

LARGEST_GROWTH = 1 << 16  # bytes; a result larger than its inputs by more stays a node, so that files stay small
LARGEST_WEIGHTS = 1 << 28  # bytes; what weights of few bits or ranks may grow to in memory


def fold_weights(graph: Graph) -> Graph:
    """As fold_constants, at load: results may be large, so that dequantized and rearranged weights are constants."""
    return fold_constants(graph, LARGEST_WEIGHTS)


def fold_constants(graph: Graph, growth: int = LARGEST_GROWTH) -> Graph:
    """Computes in float64 and rounds once. Nodes that make a graph output stay, so that it is a node's output.

    What is made from shapes is folded wherever its sizes are known, whatever the inputs; a result larger than its inputs
    by more than `growth` bytes stays a node.
    """
    tensors = infer_shapes(graph)
    constants = dict(graph.constants)
    outputs = {value.name for value in graph.outputs}
    kept = []
    for node in graph.nodes:
        folded = None if outputs & set(node.outputs) else _fold(node, constants, tensors, growth)
        if folded is None:
            kept.append(node)
            continue
        for name, array in zip(node.outputs, folded):
            if name:
                array.flags.writeable = False
                constants[name] = array
                tensors[name] = Tensor.of(array)
    return replace(graph, nodes=tuple(kept), constants=constants)


def _fold(node: Node, constants: dict[str, np.ndarray], tensors: dict[str, Tensor],
          largest: int) -> list[np.ndarray] | None:
    if find(node) is None:
        return None
    sized = tensors.get(node.outputs[0])
    sizes = None if sized is None else sizes_of(sized)
    if sizes is not None and all(isinstance(size, int) for size in sizes):
        return [np.array(sizes, sized.dtype).reshape(sized.shape)]
    names = [name for name in node.inputs if name]
    if not all(name in constants for name in names):
        return None
    try:
        made = infer_node(node, tensors)
    except Mismatch:  # of what was computed just now: the node that a call reaches says so
        return None
    if not all(tensor.shape is not None and None not in tensor.shape for tensor in made):
        return None
    growth = sum(_bytes(tensor) for tensor in made) - sum(constants[name].nbytes for name in names)
    if growth > largest:
        return None
    from ..reference import as_float64, run_node  # few models need it at load

    try:
        arrays = run_node(node, [as_float64(constants[name]) if name else None for name in node.inputs])
    except (ValueError, IndexError):  # what shapes could not tell ahead, likewise
        return None
    return [np.array(array, tensor.dtype) for array, tensor in zip(arrays, made)]


def _bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
