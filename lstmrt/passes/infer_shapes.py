"""Infer every value's dtype and shape; batch, time and other named sizes stay symbolic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from ..containers import is_array
from ..errors import GraphError
from ..foreign_shapes import foreign_tensors
from ..graph import Dim, Graph, Node
from ..operators import attributes, find, is_dynamic, is_recurrent, named_inputs
from ..shapes import Mismatch, Shape, Tensor, with_named_sizes
from ..sizes import with_sizes


_INFERRED = "_inferred"  # where a graph, which never changes, keeps what was found


def infer_shapes(graph: Graph) -> dict[str, Tensor]:
    """Value name -> what is known of it, a dict of the caller's own. What operators make that nobody knows is absent, and
    what needs it as well, except where a recurrent node says what it reads.

    `graph` is structurally sound (see validate.py). Raises GraphError with every input that does not fit its operator.
    """
    tensors, faults = infer(graph)
    if faults:
        raise GraphError("\n".join(faults))
    return dict(tensors)


def infer(graph: Graph) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """As infer_shapes, with the faults handed back instead of raised; found once for a graph, and not to be changed."""
    if _INFERRED not in graph.__dict__:
        graph.__dict__[_INFERRED] = _infer(graph)
    return graph.__dict__[_INFERRED]


def _infer(graph: Graph) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    tensors = {name: Tensor.of(array) for name, array in graph.constants.items()}
    tensors.update((value.name, with_named_sizes(value.name, Tensor(value.dtype, value.shape))) for value in graph.inputs
                   if is_array(value.dtype))
    faults = infer_nodes(graph.nodes, tensors)
    return MappingProxyType(tensors), tuple(faults)


def infer_nodes(nodes: Iterable[Node], tensors: dict[str, Tensor]) -> list[str]:
    """Adds to `tensors` what the nodes make; returns the faults, by the nodes' numbers."""
    faults = []
    for i, node in enumerate(nodes):
        tensors.update(_read_by_recurrent(node, tensors))
        tensors.update(_read_by_product(node, tensors))
        try:
            made = infer_control(node, tensors) if node.subgraphs else infer_node(node, tensors)
        except Mismatch as mismatch:
            faults += [f"nodes[{i}] {node} {message}" for message in mismatch.args]
        else:
            tensors.update((name, with_named_sizes(name, tensor)) for name, tensor in zip(node.outputs, made)
                           if name and tensor is not None)
    return faults


def _read_by_recurrent(node: Node, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a recurrent node tells of its inputs of which little is known: three axes, widths that fit its weights, and
    one batch, or else it could not run."""
    if not is_recurrent(node):
        return {}
    given, options = named_inputs(node), attributes(node)
    w, r = (tensors[given[name]].shape if given[name] in tensors else None for name in ("W", "R"))
    x = tensors.get(given["X"])
    dtype = tensors[given["R"]].dtype if given["R"] in tensors and not is_dynamic(node) else "float32"
    wanted = {}
    outer = [x.shape[i] if x and x.shape is not None and len(x.shape) == 3 else None for i in (0, 1)]
    outer = [f"{given['X']}.{i}" if size is None else size for i, size in enumerate(outer)]
    if w and len(w) == 3:
        wanted[given["X"]] = (*outer, w[2])
    if r and len(r) == 3:
        batch = outer[0] if options["layout"] else outer[1]
        states = (batch, r[0], r[2]) if options["layout"] else (r[0], batch, r[2])
        wanted.update((given[name], states) for name in ("initial_h", "initial_c") if given.get(name))
    return {name: Tensor(dtype, known) for name, shape in wanted.items()
            if (known := _more_precise(tensors.get(name), shape))}


def _read_by_product(node: Node, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The width that a constant matrix wants of what it is multiplied with."""
    if node.domain or node.op not in ("MatMul", "Gemm") or not all(name in tensors for name in node.inputs[:2]):
        return {}
    x, w = (tensors[name] for name in node.inputs[:2])
    if not x.shape or isinstance(x.shape[-1], int) or w.value is None or w.value.ndim != 2 or node.attributes.get("transA"):
        return {}
    return {node.inputs[0]: Tensor(x.dtype, (*x.shape[:-1], w.shape[1 if node.attributes.get("transB") else 0]))}


def _more_precise(tensor: Tensor | None, shape: Shape) -> Shape:
    """What is known of `tensor` and of `shape`, its shape by another account, together; None where it is no more."""
    if tensor is None or tensor.shape is None:
        return shape
    if len(tensor.shape) != len(shape):
        return None
    together = tuple(size if isinstance(size, int) else other for size, other in zip(tensor.shape, shape))
    return None if together == tensor.shape else together


def infer_node(node: Node, tensors: dict[str, Tensor]) -> list[Tensor]:
    """The outputs of one node whose inputs are in `tensors`; none where an input is not, or where nobody knows its operator."""
    if any(name and name not in tensors for name in node.inputs):
        return []
    operator, given = find(node), [tensors.get(name) for name in node.inputs]
    if operator is None:
        return foreign_tensors(node, given)
    return with_sizes(node, given, operator.infer(*given, **attributes(node)))


# ---- If, Loop and Scan: by what their subgraphs make ----


def infer_control(node: Node, tensors: Mapping[str, Tensor]) -> list[Tensor | None]:
    """The outputs of a node with subgraphs, None where nothing is known. Faults inside are no faults here: a branch that
    does not fit may be one that is never taken."""
    if node.domain or node.op not in _CONTROL:
        return []
    return _CONTROL[node.op](node, tensors)


def _inside(graph: Graph, tensors: Mapping[str, Tensor], given: Iterable[Tensor | None]) -> list[Tensor | None]:
    inner = dict(tensors)
    inner.update((value.name, tensor) for value, tensor in zip(graph.inputs, given) if tensor is not None)
    infer_nodes(graph.nodes, inner)
    return [inner.get(value.name) for value in graph.outputs]


def _if(node: Node, tensors: Mapping[str, Tensor]) -> list[Tensor | None]:
    return [_either(a, b) for a, b in zip(*(_inside(branch, tensors, ()) for branch in node.subgraphs))]


def _either(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """What is true of both."""
    if a is None or b is None or a.dtype != b.dtype:
        return None
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return Tensor(a.dtype, None)
    return Tensor(a.dtype, tuple(x if x == y else None for x, y in zip(a.shape, b.shape)))


def _steady(body: Graph, tensors: Mapping[str, Tensor], carried: list[Tensor | None], first: int,
            inputs: Callable[[list], list]) -> list[Tensor | None]:
    """The body's outputs once what it carries, from output `first` on, has a shape that it keeps. `inputs` makes the
    body's inputs of what is carried."""
    for _ in range(3):  # as it begins; what of that stays; nothing but dtypes
        made = _inside(body, tensors, inputs(carried))
        kept = [_either(a, _variable(b)) for a, b in zip(carried, made[first:])]
        if kept == carried:
            return made
        carried = kept
    return [None] * len(body.outputs)


def _loop(node: Node, tensors: Mapping[str, Tensor]) -> list[Tensor | None]:
    carried = [_variable(tensors.get(name)) for name in node.inputs[2:]]
    (body,) = node.subgraphs
    made = _steady(body, tensors, carried, 1, lambda states: [Tensor("int64", ()), Tensor("bool", ()), *states])[1:]
    return made[:len(carried)] + [_stacked(step, 0, None) for step in made[len(carried):]]


def _scan(node: Node, tensors: Mapping[str, Tensor]) -> list[Tensor | None]:
    (body,), count = node.subgraphs, node.attributes["num_scan_inputs"]
    states = [_variable(tensors.get(name)) for name in node.inputs[:len(node.inputs) - count]]
    sequences = [tensors.get(name) for name in node.inputs[len(states):]]
    axes = node.attributes.get("scan_input_axes", (0,) * count)
    steps = [_step(sequence, axis) for sequence, axis in zip(sequences, axes)]
    length = next((sequence.shape[axis] for sequence, axis in zip(sequences, axes) if sequence and sequence.shape), None)
    made = _steady(body, tensors, states, 0, lambda states: [*states, *steps])
    axes = node.attributes.get("scan_output_axes", (0,) * (len(made) - len(states)))
    return made[:len(states)] + [_stacked(step, axis, length) for step, axis in zip(made[len(states):], axes)]


def _variable(tensor: Tensor | None) -> Tensor | None:
    """Without the value that it has at first."""
    return None if tensor is None else Tensor(tensor.dtype, tensor.shape)


def _step(sequence: Tensor | None, axis: int) -> Tensor | None:
    if sequence is None or sequence.shape is None:
        return sequence
    axis %= len(sequence.shape)
    return Tensor(sequence.dtype, sequence.shape[:axis] + sequence.shape[axis + 1:])


def _stacked(step: Tensor | None, axis: int, length: Dim) -> Tensor | None:
    if step is None or step.shape is None:
        return step
    axis %= len(step.shape) + 1
    return Tensor(step.dtype, (*step.shape[:axis], length, *step.shape[axis:]))


_CONTROL = {"If": _if, "Loop": _loop, "Scan": _scan}
