"""Infer every value's dtype and shape; batch, time and other named sizes stay symbolic."""

from __future__ import annotations

from typing import Mapping

from ..errors import GraphError
from ..graph import Graph, Node
from ..operators import attributes, find, is_recurrent, named_inputs
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
        tensors.update(_read_by_recurrent(node, tensors))
        try:
            made = infer_node(node, tensors)
        except Mismatch as mismatch:
            faults += [f"nodes[{i}] {node} {message}" for message in mismatch.args]
        else:
            tensors.update((name, with_named_sizes(name, tensor)) for name, tensor in zip(node.outputs, made) if name)
    return tensors, faults


def _read_by_recurrent(node: Node, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a recurrent node tells of its inputs of which little is known: three axes, widths that fit its weights, and
    one batch, or else it could not run."""
    if not is_recurrent(node):
        return {}
    given, options = named_inputs(node), attributes(node)
    w, r = (tensors[given[name]].shape if given[name] in tensors else None for name in ("W", "R"))
    x = tensors.get(given["X"])
    dtype = tensors[given["R"]].dtype if given["R"] in tensors else "float32"
    wanted = {}
    outer = [x.shape[i] if x and x.shape is not None and len(x.shape) == 3 else None for i in (0, 1)]
    outer = [f"{given['X']}.{i}" if size is None else size for i, size in enumerate(outer)]
    if w and len(w) == 3:
        wanted[given["X"]] = (*outer, w[2])
    if r and len(r) == 3:
        batch = outer[0] if options["layout"] else outer[1]
        states = (batch, r[0], r[2]) if options["layout"] else (r[0], batch, r[2])
        wanted.update((given[name], states) for name in ("initial_h", "initial_c") if given.get(name))
    return {name: Tensor(dtype, shape) for name, shape in wanted.items() if _vague(name, tensors.get(name), shape)}


def _vague(name: str, tensor: Tensor | None, wanted: tuple) -> bool:
    """Whether something about three axes is unknown, has no name but that of the value itself, or only a name where
    `wanted` has a number."""
    if tensor is None or tensor.shape is None:
        return True
    return len(tensor.shape) == 3 and any(
        size in (None, f"{name}.{i}") or isinstance(size, str) > isinstance(wanted[i], str)
        for i, size in enumerate(tensor.shape))


def infer_node(node: Node, tensors: dict[str, Tensor]) -> list[Tensor]:
    """The outputs of one node whose inputs are in `tensors`; none for a foreign node or where an input is not."""
    operator = find(node)
    if operator is None or any(name and name not in tensors for name in node.inputs):
        return []
    return operator.infer(*(tensors.get(name) for name in node.inputs), **attributes(node))
