"""Remove nodes whose output is their input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..graph import Graph, Node, rename_inputs
from ..operators import named_inputs
from ..shapes import DTYPES, Tensor
from .infer_shapes import infer_shapes

WHOLE_AXIS = 2**31 - 1  # exporters write INT32_MAX or INT64_MAX for the end of an axis


def drop_noops(graph: Graph) -> Graph:
    """Removes Identity, Dropout, Cast to the same dtype, and Reshape, Transpose and Slice that change nothing.

    Graph outputs keep their names; an Identity stays where an output is an input, a constant or another output.
    """
    tensors = infer_shapes(graph)
    used = set(graph.consumers()) | {value.name for value in graph.outputs}
    sources: dict[str, str] = {}  # output of a removed node -> the value it equals
    kept = []
    for node in graph.nodes:
        node = rename_inputs(node, sources)
        if _changes_nothing(node, tensors, graph.constants, used) or takes_all(node, graph.constants):
            sources[node.outputs[0]] = node.inputs[0]
        else:
            kept.append(node)
    return replace(graph, nodes=_with_output_names(graph, kept, sources))


def _with_output_names(graph: Graph, nodes: list[Node], sources: dict[str, str]) -> tuple[Node, ...]:
    made = {name for node in nodes for name in node.outputs}
    outputs = [value.name for value in graph.outputs]
    renamed: dict[str, str] = {}
    for name in filter(sources.__contains__, outputs):
        source = sources[name]
        if source in made and source not in outputs and source not in renamed:
            renamed[source] = name
        else:
            nodes.append(Node("Identity", (source,), (name,)))
    if not renamed:
        return tuple(nodes)
    return tuple(replace(rename_inputs(node, renamed), outputs=tuple(renamed.get(name, name) for name in node.outputs))
                 for node in nodes)


def takes_all(node: Node, constants: Mapping[str, np.ndarray]) -> bool:
    """Whether this is a Slice from the beginnings of its axes to their ends, whatever their sizes."""
    if node.domain or node.op != "Slice":
        return False
    given = named_inputs(node)
    starts, ends, steps = (constants.get(given[name]) for name in ("starts", "ends", "steps"))
    if starts is None or ends is None or (given["steps"] and steps is None):
        return False
    return not starts.any() and bool((ends >= WHOLE_AXIS).all()) and (steps is None or bool((steps == 1).all()))


def _changes_nothing(node: Node, tensors: dict[str, Tensor], constants: Mapping[str, np.ndarray], used: set[str]) -> bool:
    if node.domain:
        return False
    if node.op == "Identity":
        return True
    if node.op == "Dropout":
        return not used & set(node.outputs[1:]) and not "".join(node.inputs[2:])
    before, after = tensors.get(node.inputs[0]) if node.inputs else None, tensors.get(node.outputs[0])
    if before is None or after is None:
        return False
    if node.op == "Cast":
        return before.dtype == DTYPES[node.attributes["to"]]
    if node.op == "Slice":
        steps = named_inputs(node)["steps"]
        forward = not steps or (steps in constants and bool((constants[steps] == 1).all()))
        return forward and before.shape is not None and None not in before.shape and before.shape == after.shape
    if node.op == "Reshape":
        return before.shape is not None and None not in before.shape and before.shape == after.shape
    if node.op == "Transpose":
        return list(node.attributes.get("perm", ())) == list(range(len(before.shape or "?")))
    return False
