"""Infer every value's dtype and shape; batch, time and other named sizes stay symbolic."""

from __future__ import annotations

from ..errors import GraphError
from ..graph import Graph, Node
from ..operators import attributes, find, is_recurrent
from ..shapes import Mismatch, Tensor, with_named_sizes


def infer_shapes(graph: Graph) -> dict[str, Tensor]:
    """Value name -> what is known of it. What foreign operators make is absent, and what needs it as well, except
    where a recurrent node says what it reads.

    `graph` is structurally sound (see validate.py). Raises GraphError with every input that does not fit its operator.
    """
    tensors, faults = infer(graph)
    if faults:
        raise GraphError("\n".join(faults))
    return tensors


def infer(graph: Graph) -> tuple[dict[str, Tensor], list[str]]:
    """As infer_shapes, with the faults handed back instead of raised."""
    tensors = {name: Tensor(array.dtype.name, array.shape, array) for name, array in graph.constants.items()}
    tensors.update((value.name, Tensor(value.dtype, value.shape)) for value in graph.inputs)
    faults = []
    for i, node in enumerate(graph.nodes):
        tensors.update(_sequence_from_outside(node, tensors))
        try:
            made = infer_node(node, tensors)
        except Mismatch as mismatch:
            faults += [f"nodes[{i}] {node} {message}" for message in mismatch.args]
        else:
            tensors.update((name, with_named_sizes(name, tensor)) for name, tensor in zip(node.outputs, made) if name)
    return tensors, faults


def _sequence_from_outside(node: Node, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a recurrent node reads from a foreign operator: it takes nothing but float32 of three axes, as wide as W."""
    if not is_recurrent(node) or node.inputs[0] in tensors or node.inputs[1] not in tensors:
        return {}
    x, w = node.inputs[0], tensors[node.inputs[1]].shape
    return {x: Tensor("float32", (f"{x}.0", f"{x}.1", w[2]))} if w and len(w) == 3 else {}


def infer_node(node: Node, tensors: dict[str, Tensor]) -> list[Tensor]:
    """The outputs of one node whose inputs are in `tensors`; none for a foreign node or where an input is not."""
    operator = find(node)
    if operator is None or any(name and name not in tensors for name in node.inputs):
        return []
    return operator.infer(*(tensors.get(name) for name in node.inputs), **attributes(node))
