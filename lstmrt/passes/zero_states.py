"""Initial states that are zero are no initial states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph import Graph, Node
from ..operators import is_recurrent, named_inputs

# what makes zeros of zeros, by its first input or by all of them
_OF_FIRST = frozenset(("Identity", "Expand", "Reshape", "Slice", "Squeeze", "Unsqueeze", "Transpose", "Cast", "Gather",
                       "Split", "Tile", "Flatten", "Dropout"))
_OF_ALL = frozenset(("Concat", "Add", "Sub"))


def zero_states(graph: Graph) -> Graph:
    """Takes initial_h and initial_c off recurrent nodes where they are made of zeros by moves alone."""
    zeros = zero_values(graph)
    return replace(graph, nodes=tuple(_without(node, zeros) if is_recurrent(node) else node for node in graph.nodes))


def zero_values(graph: Graph) -> set[str]:
    """The values that hold nothing but zeros."""
    zeros = {name for name, array in graph.constants.items() if array.dtype.kind in "fiub" and not np.any(array)}
    for node in graph.nodes:
        moved = node.op in _OF_FIRST and node.inputs[0] in zeros
        if not node.domain and (moved or (node.op in _OF_ALL and zeros.issuperset(node.inputs))):
            zeros.update(filter(None, node.outputs))
    return zeros


def _without(node: Node, zeros: set[str]) -> Node:
    inputs = ["" if formal.startswith("initial_") and name in zeros else name
              for formal, name in named_inputs(node).items()]
    while not inputs[-1]:
        inputs.pop()
    return node if tuple(inputs) == node.inputs else replace(node, inputs=tuple(inputs))
