"""Compute in float32 what a graph has in float16, as onnxruntime does on CPUs: native programs know nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph import Graph, Node, fresh_names, rename_inputs
from ..operators import find, is_recurrent, named_inputs
from ..shapes import DTYPES

HALF, SINGLE = "float16", "float32"
_FLOATS = ("X", "W", "R", "B", "initial_h", "initial_c", "P")  # of the inputs of recurrent nodes
_NO_ARRAY = np.zeros(0)
_CODES = {name: code for code, name in DTYPES.items()}


def widen_halves(graph: Graph) -> Graph:
    """Every float16 value becomes float32; inputs and outputs of the graph keep their dtype, behind Casts.

    Only a foreign operator knows what it makes: where there are some, recurrent nodes alone are widened, between Casts.
    """
    halves = [name for name, array in graph.constants.items() if array.dtype == HALF]
    if not (halves or HALF in {value.dtype for value in (*graph.inputs, *graph.outputs)} or _casts_to_half(graph)):
        return graph
    return (_widen_recurrent if any(find(node) is None for node in graph.nodes) else _widen_all)(graph)


def _widen_all(graph: Graph) -> Graph:
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


def _widen_recurrent(graph: Graph) -> Graph:
    names, constants, nodes = fresh_names(graph), dict(graph.constants), []
    for node in graph.nodes:
        if not is_recurrent(node) or constants.get(named_inputs(node)["R"], _NO_ARRAY).dtype != HALF:
            nodes.append(node)
            continue
        inputs, outputs, after = [], [], []
        for formal, name in named_inputs(node).items():
            inputs.append(next(names) if name and formal in _FLOATS else name)
            if inputs[-1] == name:
                continue
            if name in constants:
                constants[inputs[-1]] = np.float32(constants[name])
            else:
                nodes.append(_cast(name, inputs[-1], SINGLE))
        for name in node.outputs:
            outputs.append(next(names) if name else "")
            after += [_cast(outputs[-1], name, HALF)] if name else []
        nodes += [replace(node, inputs=tuple(inputs), outputs=tuple(outputs)), *after]
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _casts_to_half(graph: Graph) -> bool:
    return any(node.op == "Cast" and node.attributes.get("to") == _CODES[HALF] for node in graph.nodes)


def _cast(source: str, target: str, dtype: str) -> Node:
    return Node("Cast", (source,), (target,), {"to": _CODES[dtype]})


def _widened(node: Node) -> Node:
    if node.op == "Cast" and node.attributes.get("to") == _CODES[HALF]:
        return replace(node, attributes={**node.attributes, "to": _CODES[SINGLE]})
    return node
