"""Products of what was repeated to stand beside others: the scores of attentions that concatenate query and keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ..graph import Graph, Node, fresh_names
from ..operators import attributes
from ..shapes import normal_axis
from .infer_shapes import infer_shapes


def repeated_parts(graph: Graph) -> Graph:
    """MatMul(Concat(Tile(x), y ...), W) -> MatMul(x, part of W) + MatMul(Concat(y ...), rest of W): x is multiplied once.

    An Expand is as a Tile. W is constant, and x is repeated along axes of size 1 only.
    """
    if not any(node.op in ("Tile", "Expand") for node in graph.nodes):
        return graph
    shapes = {name: tensor.shape for name, tensor in infer_shapes(graph).items()}
    producers, consumers, names = graph.producers(), graph.consumers(), fresh_names(graph)
    nodes: list[Node] = []
    constants = dict(graph.constants)
    for node in graph.nodes:
        joined = producers.get(node.inputs[0]) if (node.domain, node.op) == ("", "MatMul") else None
        place = None if joined is None or len(consumers[joined.outputs[0]]) > 1 else _repeated(joined, producers, shapes)
        if place is None or node.inputs[1] not in constants or constants[node.inputs[1]].ndim != 2:
            nodes.append(node)
            continue
        widths = [shapes[name][-1] for name in joined.inputs]
        x = producers[joined.inputs[place]].inputs[0]
        nodes += _products(node, joined, place, x, widths, constants, names)
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _products(node: Node, joined: Node, place: int, x: str, widths: list[int], constants: dict[str, np.ndarray],
              names: Iterator[str]) -> list[Node]:
    """What takes the place of the product `node`: input `place` of `joined` repeats x. The parts of W go into `constants`."""
    parts = np.split(constants[node.inputs[1]], np.cumsum(widths)[:-1])
    others = (*joined.inputs[:place], *joined.inputs[place + 1:])
    own, rest, left, once, each = (next(names) for _ in range(5))
    constants[own] = parts.pop(place)
    constants[rest] = np.concatenate(parts)
    beside = [replace(joined, inputs=others, outputs=(left,))] if len(others) > 1 else []
    return [*beside,
            Node("MatMul", (x, own), (once,), {}, node.name),
            Node("MatMul", (left if beside else others[0], rest), (each,), {}, node.name),
            Node("Add", (once, each), node.outputs, {}, node.name)]


def _repeated(joined: Node, producers: Mapping[str, Node], shapes: Mapping[str, tuple | None]) -> int | None:
    """Which input of a Concat along the last axis is repeated, where all others have all of its elements."""
    whole = shapes.get(joined.outputs[0])
    if (joined.domain, joined.op) != ("", "Concat") or not whole or None in whole[:-1] or len(joined.inputs) < 2:
        return None
    if normal_axis(attributes(joined)["axis"], len(whole)) != len(whole) - 1:
        return None
    given = [shapes.get(name) for name in joined.inputs]
    if not all(shape and isinstance(shape[-1], int) for shape in given):
        return None
    for i, name in enumerate(joined.inputs):
        node = producers.get(name)
        before = shapes.get(node.inputs[0]) if node is not None and node.op in ("Tile", "Expand") and not node.domain else None
        others = [shape[:-1] for other, shape in enumerate(given) if other != i]
        if before is None or len(before) != len(whole) or before[-1] != given[i][-1] or any(one != whole[:-1] for one in others):
            continue
        if all(size in (1, full) for size, full in zip(before, whole[:-1])):
            return i
    return None
