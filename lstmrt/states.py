"""The states of a graph that takes them as inputs and gives them back as outputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from .errors import InputError
from .graph import Graph, Node, Value
from .operators import has_states, is_recurrent, named_inputs, named_outputs
from .passes import drop_unused, infer_shapes
from .shapes import Tensor

Slot = "tuple[int, str]"  # a recurrent node, by its number, and "h" or "c"

_DECORATION = r"cache|state|next|prev(ious)?|past|present|new|out(put)?|in(put)?|[^a-z]"


def find_states(graph: Graph) -> dict[str, str]:
    """Input -> the output that takes its place at the next call, for every state that can be told for sure.

    An input that initial states of recurrent nodes are made of belongs to the output that their final states go into. Of
    the others an input belongs to the one output of its shape whose name is its own with an addition (cache, cache_out).
    """
    found = _by_flow(graph)
    return found | _by_name([value for value in graph.inputs if value.name not in found],
                            [value for value in graph.outputs if value.name not in found.values()])


def check_states(graph: Graph, declared: Mapping[str, str]) -> dict[str, str]:
    """`declared`, input name -> output name. Raises InputError for unknown names and for two that do not fit."""
    if not isinstance(declared, Mapping):
        raise InputError(f"state: expected a mapping of inputs to outputs, got {type(declared).__name__}")
    inputs, outputs = ({value.name: value for value in values} for values in (graph.inputs, graph.outputs))
    for source, target in declared.items():
        if source not in inputs or target not in outputs:
            raise InputError(f"state {source!r}: {target!r}: expected an input of {list(inputs)} "
                             f"and an output of {list(outputs)}")
        if not _fit(inputs[source], outputs[target]):
            raise InputError(f"state {source!r}: {target!r}: {inputs[source]} does not fit {outputs[target]}")
    if len(set(declared.values())) < len(declared):
        raise InputError(f"state: an output is named twice in {dict(declared)}")
    return dict(declared)


def without_states(graph: Graph, states: Mapping[str, str]) -> Graph | None:
    """The graph whose recurrent nodes keep these states themselves, beginning with zeros: a program of the core can carry
    them from step to step. None where a state is read by anything else."""
    producers = graph.producers()

    def begins_with_state(name: str) -> bool:
        return bool(name) and _sources(name, producers) <= states.keys()

    nodes = []
    for node in graph.nodes:
        if has_states(node):
            inputs = tuple("" if formal.startswith("initial_") and begins_with_state(name) else name
                           for formal, name in named_inputs(node).items())
            node = replace(node, inputs=inputs)
        nodes.append(node)
    outputs = tuple(value for value in graph.outputs if value.name not in states.values())
    inner = drop_unused(replace(graph, nodes=tuple(nodes), outputs=outputs))
    if not outputs or not states.keys().isdisjoint(name for node in inner.nodes for name in node.reads):
        return None
    return replace(inner, inputs=tuple(value for value in graph.inputs if value.name not in states))


class ArrayState:
    """The states of a model that takes and gives them as arrays. It belongs to one caller.

    arrays  input name -> what the next call gets
    """

    def __init__(self, values: Iterable[Value], batch_size: int) -> None:
        self._values, self.batch_size = tuple(values), batch_size
        self.arrays: dict[str, np.ndarray] = {}
        self.reset()

    def reset(self) -> None:
        """Zeros again."""
        self.arrays = {value.name: np.zeros(self._shape(value), value.dtype) for value in self._values}

    def copy(self) -> ArrayState:
        """One of its own that goes on from here."""
        other = ArrayState(self._values, self.batch_size)
        other.arrays = {name: array.copy() for name, array in self.arrays.items()}
        return other

    def _shape(self, value: Value) -> tuple[int, ...]:
        if value.shape is None:
            raise InputError(f"state '{value.name}': the model does not say its shape")
        return tuple(size if isinstance(size, int) else self.batch_size for size in value.shape)


# ---- by what flows where ----


def _by_flow(graph: Graph) -> dict[str, str]:
    values = {value.name: value for value in (*graph.inputs, *graph.outputs)}
    begins, ends = _begin_of(graph), _ends_in(graph)
    found = {}
    for source, slots in begins.items():
        targets = [name for name, finals in ends.items() if finals == slots and _fit(values[source], values[name])]
        if len(targets) == 1:
            found[source] = targets[0]
    return found


def _begin_of(graph: Graph) -> dict[str, frozenset[Slot]]:
    """Graph input -> the initial states that are made of it, for inputs that nothing else reads."""
    producers, slots, other = graph.producers(), {}, {value.name for value in graph.outputs}
    for number, node in enumerate(graph.nodes):
        given = named_inputs(node) if has_states(node) else {}
        states = {given.get("initial_h"): "h", given.get("initial_c"): "c"}
        for name in states.keys() - {None, ""}:
            for source in _sources(name, producers):
                slots.setdefault(source, set()).add((number, states[name]))
        other.update(name for formal, name in given.items() if not formal.startswith("initial_"))
    inputs = {value.name for value in graph.inputs} - other
    return {name: frozenset(found) for name, found in slots.items() if name in inputs}


def _sources(name: str, producers: Mapping[str, Node]) -> set[str]:
    """What `name` is made of, by moves and choices alone."""
    found, queue = set(), [name]
    while queue:
        current = queue.pop()
        node = producers.get(current)
        if node is None:
            found.add(current)
        elif not has_states(node):
            queue += [name for name in node.reads if name not in found][:1] if node.op in _FIRST else node.reads
    return found


_FIRST = frozenset(("Slice", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Split", "Identity", "Cast"))


def _ends_in(graph: Graph) -> dict[str, frozenset[Slot]]:
    """Graph output -> the final states that it is made of, for outputs that are made of nothing else."""
    carried: dict[str, frozenset[Slot]] = {}
    sequences: dict[str, tuple[int, Node]] = {}  # moved outputs of all steps -> their recurrent node
    tensors = infer_shapes(graph)
    for number, node in enumerate(graph.nodes):
        if node.inputs and node.inputs[0] in sequences and _takes_last(node, sequences[node.inputs[0]][1], graph, tensors):
            carried[node.outputs[0]] = frozenset({(sequences[node.inputs[0]][0], "h")})
            continue
        if node.op in ("Squeeze", "Identity") and node.inputs[0] in sequences:
            sequences[node.outputs[0]] = sequences[node.inputs[0]]
        if has_states(node):
            made = named_outputs(node)
            if is_recurrent(node):
                sequences[made["Y"]] = number, node
            carried.update((made[formal], frozenset({(number, kind)})) for formal, kind in (("Y_h", "h"), ("Y_c", "c"))
                           if made.get(formal))
            continue
        read = [carried.get(name, frozenset()) for name in (node.reads[:1] if node.op in _FIRST else node.reads)
                if name not in graph.constants]
        if read and all(read):
            carried.update((name, frozenset().union(*read)) for name in node.outputs if name)
    return {value.name: carried[value.name] for value in graph.outputs if carried.get(value.name)}


def _takes_last(node: Node, recurrent: Node, graph: Graph, tensors: Mapping[str, Tensor]) -> bool:
    """Whether `node` takes the step of a time-major sequence that was processed last."""
    index = graph.constants.get(node.inputs[1]) if node.op == "Gather" and not node.domain else None
    if index is None or index.shape != () or node.attributes.get("axis", 0) != 0 or recurrent.attributes.get("layout"):
        return False
    shape = tensors[node.inputs[0]].shape if node.inputs[0] in tensors else None
    last = {"forward": -1, "reverse": 0}.get(recurrent.attributes.get("direction", "forward"))
    return last is not None and (int(index) == last or bool(shape and shape[0] == 1))


# ---- by name and shape ----


def _by_name(inputs: Iterable[Value], outputs: Iterable[Value]) -> dict[str, str]:
    found = {}
    for value in inputs:
        fitting = [other.name for other in outputs if _fit(value, other) and related(value.name, other.name)]
        if len(fitting) == 1:
            found[value.name] = fitting[0]
    return {source: target for source, target in found.items() if list(found.values()).count(target) == 1}


def related(source: str, target: str) -> bool:
    """Whether names are like h and hn, cache and cache_out, state and stateN: one within the other, and a short addition."""
    a, b = source.lower(), target.lower()
    if a == b:
        return True
    return b.startswith(a) and re.sub(_DECORATION, "", b[len(a):]) in ("", "n") or (
        len(a) > 2 and b.endswith(a) and not re.sub(_DECORATION, "", b[:-len(a)]))


def _fit(a: Value, b: Value) -> bool:
    """Whether one can take the other's place: floats of one rank, with no two sizes that differ."""
    if a.dtype != b.dtype or not a.dtype.startswith("float"):
        return False
    if a.shape is None or b.shape is None:
        return True
    return len(a.shape) == len(b.shape) and all(
        x == y or not (isinstance(x, int) and isinstance(y, int)) for x, y in zip(a.shape, b.shape))
