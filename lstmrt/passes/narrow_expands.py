"""Arithmetic reads what an Expand reads, where the other value has all the elements anyway: Keras's RepeatVector, and the
Permute behind it."""

from __future__ import annotations

from dataclasses import replace

from ..graph import Graph, Node, fresh_names
from .infer_shapes import infer_shapes


def narrow_expands(graph: Graph) -> Graph:
    """Add, Sub, Mul and Div of x and Expand(y), or a Transpose of that -> of x and y, or the Transpose of y."""
    if not any(node.op == "Expand" for node in graph.nodes):
        return graph
    shapes = {name: tensor.shape for name, tensor in infer_shapes(graph).items()}
    producers, names = graph.producers(), fresh_names(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op in ("Add", "Sub", "Mul", "Div") and not node.domain and _known_alike(*map(shapes.get, node.inputs)):
            inputs = list(node.inputs)
            for i, name in enumerate(inputs):
                if (found := _expanded(name, producers, shapes)) is None:
                    continue
                inputs[i], turned = found
                if turned is not None:
                    nodes.append(replace(turned, inputs=(inputs[i],), outputs=(next(names),)))
                    inputs[i] = nodes[-1].outputs[0]
                break  # the other one must keep its elements
            node = replace(node, inputs=tuple(inputs))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _known_alike(a: tuple | None, b: tuple | None) -> bool:
    return a is not None and None not in a and a == b


def _expanded(name: str, producers: dict[str, Node], shapes: dict) -> tuple[str, Node | None] | None:
    """What an Expand to as many axes makes `name` of, and the Transpose between, if there is one."""
    node, turned = producers.get(name), None
    if node is not None and (node.domain, node.op) == ("", "Transpose"):
        node, turned = producers.get(node.inputs[0]), node
    if node is None or (node.domain, node.op) != ("", "Expand"):
        return None
    before, after = shapes.get(node.inputs[0]), shapes.get(node.outputs[0])
    return (node.inputs[0], turned) if before is not None and after is not None and len(before) == len(after) else None
