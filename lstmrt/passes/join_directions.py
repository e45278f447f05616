"""Move the Concat of a layer's directions behind what exporters put after it, down to one along the width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..graph import Graph, Node, fresh_names
from ..operators import attributes, named_inputs
from ..shapes import normal_axis
from .infer_shapes import infer_shapes


def join_directions(graph: Graph) -> Graph:
    """Of a Concat along an axis where each part has size 1: Transpose goes to the parts; a Reshape that joins the axis
    with the next one becomes a Concat along that; a part that is taken out again is that part."""
    while True:
        names, constants = fresh_names(graph), dict(graph.constants)
        moved = _once(graph, constants, names)
        if moved is None:
            return graph
        graph = replace(graph, nodes=moved, constants=constants)


def _once(graph: Graph, constants: dict[str, np.ndarray], names: Iterator[str]) -> tuple[Node, ...] | None:
    """The nodes with each Concat moved behind the nodes that read it, None where none moves."""
    tensors, concats = infer_shapes(graph), {node.outputs[0]: node for node in graph.nodes if node.op == "Concat"}
    nodes, changed = [], False
    for node in graph.nodes:
        concat = concats.get(node.inputs[0]) if node.inputs and not node.domain and node.op in _RULES else None
        found = None
        if concat is not None and (shape := tensors[concat.outputs[0]].shape if concat.outputs[0] in tensors else None):
            axis = normal_axis(attributes(concat)["axis"], len(shape))
            parts = [tensors[name].shape if name in tensors else None for name in concat.inputs]
            if all(part and part[axis] == 1 for part in parts):
                found = _RULES[node.op](node, concat, axis, shape, tensors, constants, names)
        nodes += [node] if found is None else found
        changed |= found is not None
    return tuple(nodes) if changed else None


def _each(parts: tuple[str, ...], names: Iterator[str], op: str, *inputs: str, **attributes) -> list[Node]:
    return [Node(op, (part, *inputs), (next(names),), attributes) for part in parts]


def _joined(parts: list[Node], node: Node, axis: int) -> list[Node]:
    return [*parts, Node("Concat", tuple(part.outputs[0] for part in parts), node.outputs, {"axis": axis}, node.name)]


def _transpose(node, concat, axis, shape, tensors, constants, names) -> list[Node]:
    perm = attributes(node)["perm"] or tuple(reversed(range(len(shape))))
    return _joined(_each(concat.inputs, names, "Transpose", perm=perm), node, perm.index(axis))


def _reshape(node, concat, axis, shape, tensors, constants, names) -> list[Node] | None:
    after = tensors[node.outputs[0]].shape if node.outputs[0] in tensors else None
    if after is None or axis + 1 >= len(shape) or not isinstance(shape[axis + 1], int):
        return None
    if tuple(after) != (*shape[:axis], len(concat.inputs) * shape[axis + 1], *shape[axis + 2:]):
        return None
    axes = next(names)
    constants[axes] = np.array([axis])
    return _joined(_each(concat.inputs, names, "Squeeze", axes), node, axis)


def _squeeze(node, concat, axis, shape, tensors, constants, names) -> list[Node] | None:
    axes = constants.get(named_inputs(node)["axes"])
    gone = None if axes is None else {normal_axis(int(a), len(shape)) for a in axes.ravel()}
    if gone is None or axis in gone:
        return None
    return _joined(_each(concat.inputs, names, "Squeeze", node.inputs[1]), node, axis - sum(a < axis for a in gone))


def _gather(node, concat, axis, shape, tensors, constants, names) -> list[Node] | None:
    index = constants.get(node.inputs[1])
    if index is None or index.shape != () or normal_axis(attributes(node)["axis"], len(shape)) != axis:
        return None
    axes = next(names)
    constants[axes] = np.array([axis])
    return [Node("Squeeze", (concat.inputs[int(index)], axes), node.outputs, {}, node.name)]


def _slice(node, concat, axis, shape, tensors, constants, names) -> list[Node] | None:
    given = named_inputs(node)
    bounds = [constants.get(given[name]) if given[name] else None for name in ("starts", "ends", "axes", "steps")]
    if any(bound is None or bound.size != 1 for bound in bounds[:3]) or (given["steps"] and (
            bounds[3] is None or bounds[3].tolist() != [1])):
        return None
    start, end, sliced = (int(bound.ravel()[0]) for bound in bounds[:3])
    chosen = concat.inputs[start:end]
    if normal_axis(sliced, len(shape)) != axis or len(chosen) != 1:
        return None
    return [Node("Identity", chosen, node.outputs, {}, node.name)]


def _split(node, concat, axis, shape, tensors, constants, names) -> list[Node] | None:
    if normal_axis(attributes(node)["axis"], len(shape)) != axis or len(node.outputs) != len(concat.inputs):
        return None
    return [Node("Identity", (part,), (name,), {}, node.name) for part, name in zip(concat.inputs, node.outputs) if name]


_RULES = {"Transpose": _transpose, "Reshape": _reshape, "Squeeze": _squeeze, "Gather": _gather, "Slice": _slice,
          "Split": _split}
