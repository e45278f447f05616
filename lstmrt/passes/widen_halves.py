"""Compute in float32 what a graph has in float16, as onnxruntime does on CPUs: native programs know nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph import Graph, Node, Value, fresh_names, rename_inputs
from ..operators import find
from ..shapes import DTYPES

HALF, SINGLE = "float16", "float32"
_CODES = {name: code for code, name in DTYPES.items()}


def widen_halves(graph: Graph) -> Graph:
    """Every float16 value becomes float32; inputs and outputs of the graph keep their dtype, behind Casts.

    A graph with foreign nodes stays as it is where it has float16: only their own operators know what they make.
    """
    halves = [name for name, array in graph.constants.items() if array.dtype == HALF]
    if not (halves or HALF in {value.dtype for value in (*graph.inputs, *graph.outputs)} or _casts_to_half(graph)):
        return graph
    if any(find(node) is None for node in graph.nodes):
        return graph
    names, before, after, renamed = fresh_names(graph), [], [], {}
    for value in graph.inputs:
        if value.dtype == HALF:
            renamed[value.name] = next(names)
            before.append(_cast(value.name, renamed[value.name], SINGLE))
    made = {}
    for value in graph.outputs:
        if value.dtype == HALF:
            made[value.name] = next(names)
            after.append(_cast(made[value.name], value.name, HALF))
    renamed.update(made)
    nodes = [replace(rename_inputs(_widened(node), renamed), outputs=tuple(made.get(name, name) for name in node.outputs))
             for node in graph.nodes]
    constants = {name: np.float32(array) if array.dtype == HALF else array for name, array in graph.constants.items()}
    return replace(graph, nodes=(*before, *nodes, *after), constants=constants)


def _casts_to_half(graph: Graph) -> bool:
    return any(node.op == "Cast" and node.attributes.get("to") == _CODES[HALF] for node in graph.nodes)


def _cast(source: str, target: str, dtype: str) -> Node:
    return Node("Cast", (source,), (target,), {"to": _CODES[dtype]})


def _widened(node: Node) -> Node:
    if node.op == "Cast" and node.attributes.get("to") == _CODES[HALF]:
        return replace(node, attributes={**node.attributes, "to": _CODES[SINGLE]})
    return node
