"""Convolutions of one step each, behind a Transpose that made features channels, as the dense layers that they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph import Graph, Node, fresh_names
from ..operators import attributes


def pointwise_convolutions(graph: Graph) -> Graph:
    """Conv(Transpose(x), W (M, C, 1), B) -> Transpose(MatMul(x, W') + B): a native program around a recurrent layer has a
    place for these."""
    producers, names = graph.producers(), fresh_names(graph)
    nodes, constants = [], dict(graph.constants)
    for node in graph.nodes:
        source = _with_features_last(node, producers, graph)
        if source is None:
            nodes.append(node)
            continue
        w, product = next(names), next(names)
        constants[w] = np.ascontiguousarray(graph.constants[node.inputs[1]][:, :, 0].T)
        nodes.append(Node("MatMul", (source.inputs[0], w), (product,), {}, node.name))
        if "".join(node.inputs[2:]):
            total = next(names)
            nodes.append(Node("Add", (product, node.inputs[2]), (total,), {}, node.name))
            product = total
        nodes.append(Node("Transpose", (product,), node.outputs, source.attributes, node.name))
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _with_features_last(node: Node, producers: dict[str, Node], graph: Graph) -> Node | None:
    """The Transpose before such a convolution."""
    if node.op != "Conv" or node.domain or not all(name in graph.constants for name in node.inputs[1:] if name):
        return None
    options, w, source = attributes(node), graph.constants[node.inputs[1]], producers.get(node.inputs[0])
    if w.ndim != 3 or w.shape[2] != 1 or options["group"] != 1 or any(options["pads"] or ()):
        return None
    if any(stride != 1 for stride in options["strides"] or ()) or source is None or source.op != "Transpose":
        return None
    return source if source.attributes.get("perm", ())[1:2] == (2,) and not source.domain else None
