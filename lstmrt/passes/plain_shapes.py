"""Reshapes whose target is made from shapes: as constants, where 0 and -1 say enough. Inputs with the widths they must have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph import Dim, Graph, Node, Value, fresh_names
from ..shapes import Tensor, known_sizes
from .infer_shapes import infer_shapes


def plain_shapes(graph: Graph) -> Graph:
    """Reshape(x, computed target) -> Reshape(x, constant); Expand to the shape that x has -> Identity."""
    tensors, names = infer_shapes(graph), fresh_names(graph)
    constants, nodes = dict(graph.constants), []
    for node in graph.nodes:
        if node.op == "Reshape" and not node.domain and node.inputs[1] not in constants:
            node = _with_constant_target(node, tensors, constants, names)
        elif node.op == "Expand" and not node.domain and _keeps_its_shape(node, tensors):
            node = Node("Identity", node.inputs[:1], node.outputs, {}, node.name)
        nodes.append(node)
    inputs = tuple(_with_known_width(value, tensors[value.name].shape) if value.name in tensors else value
                   for value in graph.inputs)
    return replace(graph, inputs=inputs, nodes=tuple(nodes), constants=constants)


def _with_known_width(value: Value, shape: tuple[Dim, ...] | None) -> Value:
    """The last size as a number where a matrix wants that one and no other."""
    if not value.shape or not shape or isinstance(value.shape[-1], int) or not isinstance(shape[-1], int):
        return value
    return value._replace(shape=(*value.shape[:-1], shape[-1]))


def _with_constant_target(node: Node, tensors: dict[str, Tensor], constants: dict, names) -> Node:
    data, target = (tensors.get(name) for name in node.inputs)
    sizes = None if target is None else known_sizes(target)
    if data is None or data.shape is None or sizes is None or node.attributes.get("allowzero"):
        return node
    plain = _plain(data.shape, sizes)
    if plain is None:
        return node
    name = next(names)
    constants[name] = np.array(plain, np.int64)
    return replace(node, inputs=(node.inputs[0], name))


def _plain(shape: tuple[Dim, ...], sizes: list[Dim]) -> list[int] | None:
    """`sizes` with 0 for a symbol that stands where the data has it, and -1 for one other."""
    plain = []
    for axis, size in enumerate(sizes):
        if isinstance(size, int):
            plain.append(size)
        else:
            plain.append(0 if size is not None and axis < len(shape) and shape[axis] == size else -1)
    return plain if plain.count(-1) <= 1 else None


def _keeps_its_shape(node: Node, tensors: dict[str, Tensor]) -> bool:
    before, after = tensors.get(node.inputs[0]), tensors.get(node.outputs[0])
    return (before is not None and after is not None and before.shape is not None and None not in before.shape
            and before.shape == after.shape)
