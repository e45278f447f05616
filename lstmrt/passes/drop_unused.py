"""Remove what no output of the graph depends on."""

from __future__ import annotations

from dataclasses import replace

from ..graph import Graph, Node
from ..operators import find


def drop_unused(graph: Graph) -> Graph:
    """Removes nodes and constants nobody needs, and blanks optional outputs nobody reads. Graph inputs stay."""
    needed = {value.name for value in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            kept.append(_without_unread_outputs(node, needed))
            needed.update(node.reads)
    constants = {name: array for name, array in graph.constants.items() if name in needed}
    return replace(graph, nodes=tuple(reversed(kept)), constants=constants)


def _without_unread_outputs(node: Node, needed: set[str]) -> Node:
    operator = find(node)
    if operator is None or operator.outputs[-1].endswith("*"):
        return node
    formals = operator.outputs + operator.outputs[-1:] * (len(node.outputs) - len(operator.outputs))
    outputs = [name if name in needed or not formal.endswith("?") else "" for name, formal in zip(node.outputs, formals)]
    while not outputs[-1]:
        outputs.pop()
    return node if tuple(outputs) == node.outputs else replace(node, outputs=tuple(outputs))
