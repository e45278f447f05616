"""Put the branch that is taken in the place of an If whose condition is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..graph import Graph, Node, fresh_names, rename_inputs


def choose_branches(graph: Graph) -> Graph:
    """If(constant) -> the nodes of one branch. An outer If that becomes known lays open those within it."""
    names, nodes = fresh_names(graph), []
    for node in graph.nodes:
        nodes += _chosen(node, graph, names) if _is_known(node, graph) else [node]
    return replace(graph, nodes=tuple(nodes))


def _is_known(node: Node, graph: Graph) -> bool:
    return node.op == "If" and not node.domain and node.inputs[0] in graph.constants


def _chosen(node: Node, graph: Graph, names: Iterator[str]) -> list[Node]:
    condition = graph.constants[node.inputs[0]]
    branch = node.attributes["then_branch" if condition.any() else "else_branch"]
    renamed = {name: next(names) for inner in branch.nodes for name in inner.outputs if name}
    nodes = [replace(rename_inputs(inner, renamed), outputs=tuple(renamed.get(name, "") for name in inner.outputs))
             for inner in branch.nodes]
    return nodes + [Node("Identity", (renamed.get(output.name, output.name),), (name,))
                    for output, name in zip(branch.outputs, node.outputs) if name]
