"""Nodes that stay outside native programs, run with NumPy: shape plumbing that folding left over, above all.

There is one meaning of each operator, reference.py's; here its results are rounded back to the dtypes of the graph.
"""

from __future__ import annotations

from typing import Container, Mapping

import numpy as np

from .errors import InputError, OutOfMemoryError
from .graph import Node
from .reference import as_float64, run_node
from .shapes import INTEGERS


# Operators that only move, choose or compare elements: they need no float64 and hand on the dtypes that they are given.
_MOVES = frozenset({"Concat", "Equal", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Shape", "Slice", "Split",
                    "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"})


def moves(node: Node) -> bool:
    """Whether a node computes nothing."""
    return node.op in _MOVES and not node.domain


_PARTS = frozenset(("Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"))


def hands_parts_on(node: Node, dtypes: Mapping[str, str | None], constants: Container[str]) -> bool:
    """Whether what comes out are parts of what goes in, put together otherwise, and no look-up in a table; or the same
    integers."""
    if node.domain or (node.op == "Gather" and node.inputs[0] in constants):
        return False
    if node.op == "Cast":
        return {dtypes.get(node.inputs[0]), dtypes.get(node.outputs[0])} <= set(INTEGERS)
    return node.op in _PARTS


class HostStep:
    """One node."""

    kind = "NumPy"

    def __init__(self, node: Node, dtypes: Mapping[str, str | None], constants: Container[str]) -> None:
        self.nodes, self.reads = [node], node.inputs
        self._moves = moves(node)
        self._dtypes = [dtypes.get(name) for name in node.outputs]
        self.hands_parts_on = hands_parts_on(node, dtypes, constants)

    def run(self, values: dict[str, np.ndarray]) -> None:
        (node,) = self.nodes
        given = [values[name] if name else None for name in node.inputs]
        try:
            made = run_node(node, given if self._moves else [None if a is None else as_float64(a) for a in given])
        except (ValueError, IndexError) as error:  # sizes that only this call knows
            raise InputError(f"{node}: {error}") from error
        except MemoryError as error:
            raise OutOfMemoryError(f"{node}: {error}") from error
        for name, array, dtype in zip(node.outputs, made, self._dtypes):
            if name:
                values[name] = np.asarray(array, dtype or _dtype(array, given))


def _dtype(result: np.ndarray, given: list[np.ndarray | None]) -> np.dtype:
    """For what no rule could tell ahead, as behind a foreign operator: floats stay what the inputs are."""
    floats = [array.dtype for array in given if array is not None and array.dtype.kind == "f"]
    return floats[0] if floats and result.dtype == np.float64 else result.dtype
