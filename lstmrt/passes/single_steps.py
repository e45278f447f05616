"""One step out of a sequence, however it is written, as a Gather of that step; whole sequences turned round as a Slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ..graph import Graph, Node, fresh_names
from ..operators import attributes, named_inputs
from ..shapes import Tensor, normal_axis
from .drop_noops import WHOLE_AXIS
from .infer_shapes import infer_shapes

BACKWARDS = (-1, -(2**63), -1)  # start, end and step of an axis turned round


def single_steps(graph: Graph) -> Graph:
    """Rewrites to Gather(x, i): Squeeze of a Slice or Split of one step, SequenceAt of a SplitToSequence, a vector of one
    index, a step of what was turned round; the last step has index -1. ReverseSequence over whole lengths becomes a Slice
    with step -1."""
    tensors, names = infer_shapes(graph), fresh_names(graph)
    constants, nodes, producers = dict(graph.constants), [], graph.producers()
    for node in graph.nodes:
        found = None if node.domain else _step(node, producers, graph.constants, tensors)
        if found is not None:
            sequence, axis, index = found
            node = Node("Gather", (sequence, _constant(index, constants, names)), node.outputs, {"axis": axis}, node.name)
        elif node.op == "ReverseSequence" and not node.domain and _is_whole(node, tensors):
            bounds = [_constant([number], constants, names) for number in (
                *BACKWARDS[:2], attributes(node)["time_axis"], BACKWARDS[2])]
            node = Node("Slice", (node.inputs[0], *bounds), node.outputs, {}, node.name)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _constant(value: object, constants: dict[str, np.ndarray], names: Iterator[str]) -> str:
    name = next(names)
    constants[name] = np.array(value, np.int64)
    return name


def _step(node: Node, producers: Mapping[str, Node], constants: Mapping[str, np.ndarray],
          tensors: Mapping[str, Tensor]) -> tuple[str, int, int] | None:
    """(sequence, axis, index) if the node's output is one step of a sequence and no Gather that is as plain as can be."""
    if node.op == "Gather":
        return _of_reversed(node, producers, constants, tensors)
    if node.op == "SequenceAt":
        source, index = producers.get(node.inputs[0]), constants.get(node.inputs[1])
        if source is None or source.op != "SplitToSequence" or index is None or len(source.inputs) > 1:
            return None
        if source.attributes.get("keepdims", 1):
            return None
        return source.inputs[0], source.attributes.get("axis", 0), int(index)
    if node.op != "Squeeze" or len(node.inputs) < 2 or constants.get(node.inputs[1]) is None:
        return None
    axes, source = constants[node.inputs[1]], producers.get(node.inputs[0])
    if axes.size != 1 or source is None or source.domain or source.inputs[0] not in tensors:
        return None
    shape, rule = tensors[source.inputs[0]].shape, _RULES.get(source.op)
    squeezed = tensors[node.inputs[0]].shape if node.inputs[0] in tensors else None
    if not shape or rule is None or len(squeezed or ()) != len(shape):
        return None
    axis = normal_axis(int(axes.ravel()[0]), len(shape))
    index = rule(source, node.inputs[0], axis, shape, constants, tensors)
    return None if index is None else (source.inputs[0], axis, index)


def step_of_node(node: Node, constants: Mapping[str, np.ndarray],
                 tensors: Mapping[str, Tensor]) -> tuple[str, int, int] | None:
    """(sequence, axis, index) of a Gather of one step, or of a Slice that is one step long."""
    shape = tensors[node.inputs[0]].shape if node.inputs and node.inputs[0] in tensors else None
    if not shape or node.op not in ("Gather", "Slice"):
        return None
    if node.op == "Slice":
        axes = constants.get(node.inputs[3]) if len(node.inputs) > 3 else None
        axis = normal_axis(int(axes[0]), len(shape)) if axes is not None and axes.size == 1 else 0
        index = _of_slice(node, "", axis, shape, constants, tensors)
    else:
        axis, index = normal_axis(attributes(node)["axis"], len(shape)), constants.get(node.inputs[1])
        index = None if index is None or index.size != 1 else int(index.ravel()[0])
    size = shape[axis]
    return None if index is None or not isinstance(size, int) else (node.inputs[0], axis, index % size)


def _of_slice(node: Node, output: str, axis: int, shape: tuple, constants: Mapping, tensors: Mapping) -> int | None:
    bounds = {name: constants.get(given) for name, given in named_inputs(node).items() if given and name != "data"}
    if any(bound is None or bound.size != 1 for bound in bounds.values()):
        return None
    start, end = (int(bounds[name].ravel()[0]) for name in ("starts", "ends"))
    if "axes" not in bounds or normal_axis(int(bounds["axes"].ravel()[0]), len(shape)) != axis:
        return None
    if "steps" in bounds and bounds["steps"].ravel()[0] != 1:
        return None
    size = shape[axis]
    if isinstance(size, int):
        steps = range(size)[start:end]
        return steps[0] if len(steps) == 1 else None
    return start if end == start + 1 != 0 or (start == -1 and end >= WHOLE_AXIS) else None


def _of_split(node: Node, output: str, axis: int, shape: tuple, constants: Mapping, tensors: Mapping) -> int | None:
    if normal_axis(attributes(node)["axis"], len(shape)) != axis or not isinstance(shape[axis], int):
        return None  # of an axis of any size it also says, by failing, what size that has
    sizes = [tensors[name].shape[axis] if name in tensors and tensors[name].shape else None for name in node.outputs]
    position = node.outputs.index(output)
    return sum(sizes[:position]) if None not in sizes and sizes[position] == 1 else None


def _of_gather(node: Node, output: str, axis: int, shape: tuple, constants: Mapping, tensors: Mapping) -> int | None:
    index = constants.get(node.inputs[1])
    if index is None or index.shape != (1,) or normal_axis(attributes(node)["axis"], len(shape)) != axis:
        return None
    return int(index[0])


def _of_reversed(node: Node, producers: Mapping[str, Node], constants: Mapping, tensors: Mapping) -> tuple | None:
    """A step of a sequence that is turned round, or the last one by its number."""
    index = constants.get(node.inputs[1])
    shape = tensors[node.inputs[0]].shape if node.inputs[0] in tensors else None
    if index is None or index.shape != () or not shape or node.inputs[0] in constants:
        return None
    axis, i = normal_axis(attributes(node)["axis"], len(shape)), int(index)
    size = shape[axis]
    source = producers.get(node.inputs[0])
    if source is not None and reversed_axis(source, constants, len(shape)) == axis:
        if i in (0, -1):
            return source.inputs[0], axis, -1 - i
        if isinstance(size, int):
            return source.inputs[0], axis, (-1 - i) % size
    return (node.inputs[0], axis, -1) if size == i + 1 and i > 0 else None


def reversed_axis(node: Node, constants: Mapping[str, np.ndarray], rank: int) -> int | None:
    """The axis that a Slice turns round; None for any other node."""
    if node.op != "Slice" or node.domain or len(node.inputs) < 5:
        return None
    bounds = [constants.get(name) for name in node.inputs[1:]]
    if any(bound is None or bound.size != 1 for bound in bounds):
        return None
    start, end, axis, step = (int(bound.ravel()[0]) for bound in bounds)
    return normal_axis(axis, rank) if start == step == -1 and end <= -WHOLE_AXIS else None


_RULES = {"Slice": _of_slice, "Split": _of_split, "Gather": _of_gather}


def _is_whole(node: Node, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a ReverseSequence reverses every row to its end: its lengths are a size, that of the time axis."""
    data, lengths = (tensors.get(name) for name in node.inputs)
    if data is None or not data.shape or lengths is None:
        return False
    size = data.shape[attributes(node)["time_axis"]]
    if lengths.value is not None:
        return isinstance(size, int) and bool((lengths.value == size).all())
    return size is not None and lengths.sizes is not None and set(lengths.sizes) == {size}
