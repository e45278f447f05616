"""Where only the last step of a recurrent node's Y is read, read Y_h."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph import Graph, Node, fresh_names
from ..operators import is_recurrent, named_inputs, named_outputs
from ..shapes import Tensor
from .infer_shapes import infer_shapes


def last_step_only(graph: Graph) -> Graph:
    """Gather(Y or its squeezed form, last step processed, along time) -> Y_h (squeezed), where both are the same bits.

    They are not with sequence_lens (Y is 0 past the length), nor with a mask that masks the last step under
    masked_output "zero", or all steps under "carry" when there is an initial_h.
    """
    tensors = infer_shapes(graph)
    producers, names = graph.producers(), fresh_names(graph)
    constants, last_states, nodes = dict(graph.constants), {}, []
    for node in graph.nodes:
        found = _recurrent_behind(node, producers, tensors)
        if found is None:
            nodes.append(node)
            continue
        recurrent, squeezed = found
        last_state = last_states.setdefault(recurrent.outputs[0], named_outputs(recurrent)["Y_h"] or next(names))
        if squeezed:
            axes = next(names)
            constants[axes] = np.array([recurrent.attributes.get("layout", 0)], np.int64)
            nodes.append(Node("Squeeze", (last_state, axes), node.outputs, {}, node.name))
        else:
            nodes.append(Node("Identity", (last_state,), node.outputs, {}, node.name))
    nodes = [_with_last_state(node, last_states) for node in nodes]
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _with_last_state(node: Node, last_states: dict[str, str]) -> Node:
    if not is_recurrent(node) or node.outputs[0] not in last_states:
        return node
    return replace(node, outputs=(node.outputs[0], last_states[node.outputs[0]], *node.outputs[2:]))


def _recurrent_behind(node: Node, producers: dict[str, Node], tensors: dict[str, Tensor]) -> tuple[Node, bool] | None:
    """The recurrent node whose last step `node` gathers and whether its Y was squeezed on the way, or None."""
    if node.op != "Gather" or node.domain or node.outputs[0] not in tensors:
        return None
    source = producers.get(node.inputs[0])
    squeezed = source is not None and source.op == "Squeeze" and not source.domain
    recurrent = producers.get(source.inputs[0]) if squeezed else source
    if recurrent is None or not is_recurrent(recurrent) or recurrent.attributes.get("direction") == "bidirectional":
        return None
    y = source.inputs[0] if squeezed else node.inputs[0]
    if y != recurrent.outputs[0] or not _ends_in_last_state(recurrent):
        return None
    layout = recurrent.attributes.get("layout", 0)
    if squeezed and not _squeezes(source, 2 if layout else 1, tensors):
        return None
    rank = 3 if squeezed else 4
    if node.attributes.get("axis", 0) % rank != layout:
        return None
    return (recurrent, squeezed) if _is_last_step(node, recurrent, tensors, layout) else None


def _ends_in_last_state(node: Node) -> bool:
    given = named_inputs(node)
    if given["sequence_lens"]:
        return False
    if not given.get("mask"):
        return True
    return node.attributes.get("masked_output", "carry") == "carry" and not given["initial_h"]


def _squeezes(node: Node, axis: int, tensors: dict[str, Tensor]) -> bool:
    name = named_inputs(node)["axes"]
    axes = tensors[name].value if name else None
    return axes is not None and [int(a) % 4 for a in axes] == [axis]


def _is_last_step(gather: Node, recurrent: Node, tensors: dict[str, Tensor], layout: int) -> bool:
    index = tensors[gather.inputs[1]].value
    if index is None or index.shape != ():
        return False
    if recurrent.attributes.get("direction") == "reverse":
        return int(index) == 0
    shape = tensors[gather.inputs[0]].shape
    return int(index) == -1 or (shape is not None and shape[layout] == int(index) + 1)
