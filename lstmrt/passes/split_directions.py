"""Split a bidirectional recurrent node into a forward and a reverse one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..activations import activation_attributes, recurrent_activations
from ..graph import Graph, Node, fresh_names
from ..operators import WEIGHTS, is_recurrent, named_inputs

_STATES = ("initial_h", "initial_c")


def split_directions(graph: Graph) -> Graph:
    """After it every recurrent node has one direction; a Concat along the direction axis makes each old output."""
    constants, nodes, names = dict(graph.constants), [], fresh_names(graph)
    for node in graph.nodes:
        if is_recurrent(node) and node.attributes.get("direction") == "bidirectional":
            nodes += _split(node, constants, names)
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _split(node: Node, constants: dict[str, np.ndarray], names: Iterator[str]) -> list[Node]:
    batch_first = node.attributes.get("layout", 0)
    directions, slices = [], []
    functions = recurrent_activations(node)
    for d, direction in enumerate(("forward", "reverse")):
        inputs = []
        for formal, name in named_inputs(node).items():
            if name and formal in WEIGHTS + _STATES:
                axis = 1 if batch_first and formal in _STATES else 0
                name = _part(name, axis, d, constants, names, slices)
            inputs.append(name)
        attributes = {**node.attributes, "direction": direction, **activation_attributes(functions[d])}
        for key in {"activation_alpha", "activation_beta"} - set(activation_attributes(functions[d])):
            attributes.pop(key, None)
        outputs = tuple(next(names) if name else "" for name in node.outputs)
        directions.append(replace(node, inputs=_trimmed(inputs), outputs=outputs, attributes=attributes))
    axes = (2, 1, 1) if batch_first else (1, 0, 0)
    concats = [Node("Concat", tuple(pair), (name,), {"axis": axis}, node.name)
               for name, axis, *pair in zip(node.outputs, axes, *(d.outputs for d in directions)) if name]
    return [*slices, *directions, *concats]


def _part(name: str, axis: int, d: int, constants: dict[str, np.ndarray], names: Iterator[str],
          slices: list[Node]) -> str:
    """The name of the d-th direction of a value: a constant's is a constant, another's the output of a new Slice."""
    part = next(names)
    if name in constants:
        constants[part] = constants[name].take([d], axis)
        return part
    bounds = []
    for number in (d, d + 1, axis):
        bounds.append(next(names))
        constants[bounds[-1]] = np.array([number], np.int64)
    slices.append(Node("Slice", (name, *bounds), (part,)))
    return part


def _trimmed(names: list[str]) -> tuple[str, ...]:
    while names and not names[-1]:
        names.pop()
    return tuple(names)
