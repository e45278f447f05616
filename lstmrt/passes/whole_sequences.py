"""All steps of a sequence, taken out one by one and put together again, are the sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ..graph import Graph, Node, fresh_names
from ..operators import attributes
from ..shapes import Tensor, normal_axis
from .infer_shapes import infer_shapes
from .single_steps import BACKWARDS


def whole_sequences(graph: Graph) -> Graph:
    """Concat of Unsqueeze(Gather(x, 0)), Unsqueeze(Gather(x, 1)) ... over all of x -> x, its axes moved, or turned round
    where the steps come in falling order."""
    tensors, names, producers = infer_shapes(graph), fresh_names(graph), graph.producers()
    constants, nodes = dict(graph.constants), []
    for node in graph.nodes:
        found = _whole(node, producers, graph.constants, tensors) if node.op == "Concat" and not node.domain else None
        nodes += [node] if found is None else _sequence(node, *found, constants, names)
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _whole(node: Node, producers: Mapping[str, Node], constants: Mapping[str, np.ndarray],
           tensors: Mapping[str, Tensor]) -> tuple[str, int, int, bool, int] | None:
    """(sequence, its axis, the axis wanted, whether it is turned round, rank)."""
    if node.outputs[0] not in tensors or tensors[node.outputs[0]].shape is None:
        return None
    rank = len(tensors[node.outputs[0]].shape)
    wanted = normal_axis(attributes(node)["axis"], rank)
    steps = [_step(name, wanted, rank, producers, constants, tensors) for name in node.inputs]
    if None in steps or len({step[:2] for step in steps}) > 1:
        return None
    sequence, axis, _ = steps[0]
    indices, count = [step[2] for step in steps], tensors[sequence].shape[axis]
    if count != len(indices) or indices not in (list(range(count)), list(range(count))[::-1]):
        return None
    return sequence, axis, wanted, count > 1 and indices[0] > 0, rank


def _step(name: str, wanted: int, rank: int, producers, constants, tensors) -> tuple[str, int, int] | None:
    """(sequence, axis, index) of a step with an axis of size 1 at `wanted`."""
    unsqueeze = producers.get(name)
    if unsqueeze is None or unsqueeze.op != "Unsqueeze" or unsqueeze.inputs[1] not in constants:
        return None
    axes, gather = constants[unsqueeze.inputs[1]], producers.get(unsqueeze.inputs[0])
    if axes.size != 1 or normal_axis(int(axes.ravel()[0]), rank) != wanted or gather is None or gather.op != "Gather":
        return None
    index = constants.get(gather.inputs[1])
    shape = tensors[gather.inputs[0]].shape if gather.inputs[0] in tensors else None
    if index is None or index.shape != () or shape is None:
        return None
    axis = normal_axis(attributes(gather)["axis"], len(shape))
    return (gather.inputs[0], axis, int(index) % shape[axis]) if isinstance(shape[axis], int) else None


def _sequence(node: Node, x: str, axis: int, wanted: int, backwards: bool, rank: int, constants: dict,
              names: Iterator[str]) -> list[Node]:
    nodes = []
    if backwards:
        bounds = []
        for number in (*BACKWARDS[:2], axis, BACKWARDS[2]):
            bounds.append(next(names))
            constants[bounds[-1]] = np.array([number])
        nodes.append(Node("Slice", (x, *bounds), (next(names),)))
        x = nodes[-1].outputs[0]
    if axis == wanted:
        return [*nodes, Node("Identity", (x,), node.outputs)]
    perm = [i for i in range(rank) if i != axis]
    perm.insert(wanted, axis)
    return [*nodes, Node("Transpose", (x,), node.outputs, {"perm": tuple(perm)}, node.name)]
