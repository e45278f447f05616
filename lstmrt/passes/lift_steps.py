"""Recurrences that are written step after step become recurrent nodes.

Every value that is a cell's new state (cells.py) is found, and those that follow one another with the same weights are one
layer. It replaces them if it gives what they give on random numbers (proof.py). A first step whose zero states were folded
away is found by trying.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Iterator, Mapping

import numpy as np

from ..activations import ELEMENTWISE
from ..cells import Cell, cells
from ..errors import ModelWarning
from ..graph import Graph, Node, fresh_names
from ..proof import Unknown, agree, evaluate, random_values
from ..symbolic import Opaque, Reader
from .drop_unused import drop_unused
from .infer_shapes import infer_shapes
from .recurrent_nodes import Layer, Made, recurrent_nodes
from .zero_states import zero_values

BATCH = 2  # of the proofs
LONGEST = 4096  # steps; a chain that is longer stays

_ENDS = frozenset(("Add", "Mul", "Sub", "Sum")) | ELEMENTWISE
_MOVES = frozenset(("Identity", "Squeeze", "Unsqueeze", "Reshape", "Cast"))


def lift_steps(graph: Graph) -> Graph:
    """The graph with each chain of steps as one recurrent node; its other outputs are steps taken out of that."""
    failed: set[str] = set()
    while True:
        search = _Search(graph)
        for chain in sorted(search.chains(), key=len, reverse=True):
            if chain[0].new_h in failed:
                continue
            lifted = search.lifted(chain)
            if lifted is not None:
                _warn_of_frozen_length(search, chain)
                graph = drop_unused(lifted)
                break
            failed.add(chain[0].new_h)
        else:
            return graph


def _warn_of_frozen_length(search: _Search, chain: list[_Step]) -> None:
    """Exporters that trace a model write the steps of one length, whatever the inputs may have."""
    step = search.step_of(chain[0].x)
    length = search.length(step) if step else len(chain)
    if isinstance(length, str):
        warnings.warn(f"{search.graph.name}: a recurrence is written out for {len(chain)} steps of a sequence of any length "
                      f"({length}): what is beyond them is not read. Was the model traced with a short example?",
                      ModelWarning, stacklevel=2)


@dataclass(frozen=True)
class _Step:
    """A cell whose new h is the value `new_h`; `cell.h` is settled."""

    new_h: str
    cell: Cell

    @property
    def x(self) -> str | None:
        """The one other value that the gates read."""
        others = [name for name in self.cell.reads() if name != self.cell.h]
        return others[0] if len(others) == 1 else None


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.tensors = graph, infer_shapes(graph)
        self.producers, self.consumers = graph.producers(), graph.consumers()
        self.outputs = {value.name for value in graph.outputs}
        self.zeros = zero_values(graph)
        self.inputs = {value.name for value in graph.inputs}
        self.multiplied = {name for node in graph.nodes if _multiplies(node, graph)
                           for name in self._side_by_side(node.inputs[0])}
        self.reader = Reader(self.producers, graph.constants, self.tensors, self._is_read)

    def _side_by_side(self, name: str) -> tuple[str, ...]:
        """The values that `name` puts beside one another, before a matrix for all of them."""
        node = self.producers.get(name)
        if node is None or node.op != "Concat" or node.domain or name not in self.tensors:
            return (name,)
        rank = len(self.tensors[name].shape or ())
        return node.inputs if node.attributes["axis"] in (-1, rank - 1) else (name,)

    def _is_read(self, name: str) -> bool:
        """States and inputs: what is multiplied with a matrix, and, as a cell's c, what an activation and others read."""
        if name in self.multiplied and not self._is_reset(name):
            return True
        readers = self.consumers.get(name, [])
        uses = len(readers) + (name in self.outputs)
        return uses > 1 and any(node.op in ELEMENTWISE for node in readers)

    def _is_reset(self, name: str) -> bool:
        """Whether it may be r * h, which a GRU multiplies with a matrix: a product of an activation, read only there."""
        node = self.producers.get(name)
        return node is not None and node.op == "Mul" and not node.domain and len(self.consumers.get(name, ())) == 1 and any(
            factor in self.producers and self._activates(factor) for factor in node.inputs) and any(
            factor in self.multiplied or factor in self.inputs for factor in node.inputs)

    def _activates(self, name: str) -> bool:
        node = self.producers.get(name)
        while node is not None and node.op in _MOVES:
            node = self.producers.get(node.inputs[0])
        return node is not None and node.op in ELEMENTWISE

    # ---- chains ----

    def chains(self) -> list[list[_Step]]:
        """Steps that follow one another with the same weights, longest possible."""
        if not self.multiplied:
            return []
        ends: dict[str, list[_Step]] = {}  # new h -> the chain that it is the end of
        for node in self.graph.nodes:
            if node.domain or node.op not in _ENDS or node.outputs[0] not in self.tensors:
                continue
            for step in self._steps(node.outputs[0]):
                before = ends.get(self._moved_from(step.cell.h)) if step.cell.h else None
                if before is not None and self._follows(step, before):
                    del ends[before[-1].new_h]
                    ends[step.new_h] = [*before, step]
                    break
                ends.setdefault(step.new_h, [step])
        return [chain for chain in map(self._settled, ends.values()) if chain]

    def _steps(self, name: str) -> Iterator[_Step]:
        """The cells that `name` is the new h of, with each read value that can be its h."""
        try:
            found = list(cells(self.reader.inside(name), self.reader))
        except Opaque:
            return
        for cell in found:
            if cell.h is not None:
                yield _Step(name, cell)
                continue
            states = [read for read in cell.reads() if self.reader.width(read) == cell.hidden]
            for state in sorted(states, key=self._unlike_a_state):
                yield _Step(name, replace(cell, h=state))

    def _unlike_a_state(self, name: str) -> tuple:
        """Small for zeros and for graph inputs that are (batch, hidden)."""
        return name not in self.zeros, self._moved_from(name) not in self.inputs, name in self.producers

    def _moved_from(self, name: str) -> str:
        """The value that was only moved about: axes of size 1 come and go, and names."""
        while (node := self.producers.get(name)) is not None and node.op in _MOVES and not node.domain:
            before, after = (self.tensors.get(value) for value in (node.inputs[0], name))
            if before is None or before.shape is None or after.shape is None or before.dtype != after.dtype or (
                    [size for size in before.shape if size != 1] != [size for size in after.shape if size != 1]):
                break
            name = node.inputs[0]
        return name

    def _follows(self, step: _Step, before: list[_Step]) -> bool:
        last, cell = before[-1], step.cell
        if (cell.op, cell.functions, cell.options, cell.hidden) != (
                last.cell.op, last.cell.functions, last.cell.options, last.cell.hidden) or step.x is None:
            return False
        if cell.c is not None and (last.cell.new_c is None or self._moved_from(cell.c) != self._moved_from(last.cell.new_c)):
            return False
        if len(before) == 1 and self._turned(last, step) is None:
            return True  # it may have begun from zeros: the proof will tell
        first = self._turned(last, step) if len(before) == 1 else last
        return first is not None and _same_weights(first, step)

    def _turned(self, first: _Step, second: _Step) -> _Step | None:
        """The first step with the h that has the second's weights."""
        r = second.cell.parts(second.cell.h)
        for name in first.cell.reads():
            turned = replace(first, cell=replace(first.cell, h=name))
            if first.cell.reset is None or name == first.cell.h:
                if _are_equal(turned.cell.parts(name), r) and turned.x is not None:
                    return turned
        return None

    def _settled(self, chain: list[_Step]) -> list[_Step] | None:
        """The chain with its first step's h known; None where it is no recurrence for sure."""
        if len(chain) > LONGEST:
            return None
        if len(chain) > 1:
            first = self._turned(chain[0], chain[1])
            return chain[1:] if first is None else [first, *chain[1:]]
        (step,) = chain
        is_sure = step.cell.op != "RNN" or step.cell.h in self.zeros  # nobody else multiplies zeros with a matrix
        return chain if is_sure and step.x is not None else None

    # ---- the layer in their place ----

    def lifted(self, chain: list[_Step]) -> Graph | None:
        """The graph with the chain's values made by one node, None where that would give something else."""
        run = self._run(chain)
        if run is None:
            return None
        for layer, values, states in self._attempts(chain, *run):
            names = fresh_names(self.graph)
            made = recurrent_nodes(*self._cut(layer, run[2], names), names)
            graph = self._with(made, values, chain[-1].cell.new_c, names)
            if self._proved(graph, layer, run[2], values, states, chain[-1].cell.new_c):
                return graph
        return None

    def _run(self, chain: list[_Step]) -> tuple[str, int | None, list[int]] | None:
        """(sequence, time axis, indices) of what the steps read; a single step may read any value, of axis None."""
        steps = [self.step_of(step.x) for step in chain]
        if len(chain) == 1 and (steps[0] is None or self.length(steps[0]) != 1):
            return chain[0].x, None, [0]
        if None in steps or len({(sequence, axis) for sequence, axis, _ in steps}) > 1:
            return None
        indices = [index for _, _, index in steps]
        ways = [list(range(indices[0], indices[0] + way * len(chain), way)) for way in (1, -1)]
        return (*steps[0][:2], indices) if indices in ways else None

    def step_of(self, name: str | None) -> tuple[str, int, int] | None:
        """(sequence, axis, index) of a value that is one step."""
        node = self.producers.get(self._moved_from(name))
        index = self.graph.constants.get(node.inputs[1]) if node is not None and node.op == "Gather" else None
        shape = self.tensors[node.inputs[0]].shape if index is not None and node.inputs[0] in self.tensors else None
        axis = node.attributes.get("axis", 0) if shape else 0
        if not shape or index.shape != () or len(shape) != 3 or axis % 3 == 2:
            return None
        size = shape[axis % 3]
        return node.inputs[0], axis % 3, int(index) % size if isinstance(size, int) else int(index)

    def length(self, step: tuple[str, int, int]) -> object:
        return self.tensors[step[0]].shape[step[1]]

    def _attempts(self, chain: list[_Step], x: str, axis: int | None, indices: list[int]):
        """Layers to try, with the values that they make and the states that they begin with."""
        first, values = chain[0], [step.new_h for step in chain]
        backwards = len(indices) > 1 and indices[1] < indices[0]
        length = 1 if axis is None else self.tensors[x].shape[axis]
        start = self._moved_from(first.cell.h)
        initial = (first.cell.h,) + ((first.cell.c,) if first.cell.c else ())
        layer = Layer(first.cell, first.x, x, axis, backwards, (), "", 0, "carry", "", self.tensors)
        ends = min(indices) + max(indices)  # tells which step the chain lacks: its first, which was folded away
        if isinstance(length, int) and length == len(chain) + 1 and ends == (length - 2 if backwards else length):
            yield layer, [start, *values], ()
        if length == len(chain) or isinstance(length, str):
            yield replace(layer, initial=initial), values, initial

    def _cut(self, layer: Layer, indices: list[int], names: Iterator[str]) -> tuple[Layer, list[Node], dict[str, np.ndarray]]:
        """The layer over the steps that are read of a sequence of any length, with what cuts them out."""
        if layer.axis is None or not isinstance(self.tensors[layer.x].shape[layer.axis], str):
            return layer, [], {}
        bounds = {next(names): np.array([number]) for number in (min(indices), max(indices) + 1, layer.axis)}
        cut = next(names)
        return replace(layer, x=cut), [Node("Slice", (layer.x, *bounds), (cut,))], bounds

    def _with(self, made: Made, values: list[str], new_c: str | None, names: Iterator[str]) -> Graph:
        """The graph with `values`, and the last c, taken out of what `made` makes."""
        constants, nodes = {**self.graph.constants, **made.constants}, list(made.nodes)
        first = next(names)
        constants[first] = np.array([0])
        for i, value in enumerate(values):
            index = next(names)
            constants[index] = np.array(i)
            nodes += self._shaped(value, Node("Gather", (made.y, index), (next(names),), {"axis": 0}), first)
        if new_c:
            nodes += self._shaped(new_c, Node("Squeeze", (made.c, first), (next(names),)), first)
        replaced = {value: next(names) for value in [*values, *([new_c] if new_c else [])]}
        old = [replace(node, outputs=tuple(replaced.get(name, name) for name in node.outputs)) for node in self.graph.nodes]
        at = next(i for i, node in enumerate(self.graph.nodes) if values[0] in node.outputs)
        return replace(self.graph, nodes=(*old[:at], *nodes, *old[at:]), constants=constants)

    def _shaped(self, value: str, node: Node, first: str) -> list[Node]:
        """`node`, which makes (batch, hidden), as `value` with the axes that it had."""
        if len(self.tensors[value].shape) == 2:
            return [replace(node, outputs=(value,))]
        return [node, Node("Unsqueeze", (node.outputs[0], first), (value,))]

    def _proved(self, graph: Graph, layer: Layer, indices: list[int], values: list[str], states: tuple[str, ...],
                new_c: str | None) -> bool:
        sizes = {size: BATCH for tensor in self.tensors.values() for size in tensor.shape or () if isinstance(size, str)}
        if layer.axis is not None and isinstance(length := self.tensors[layer.x].shape[layer.axis], str):
            sizes[length] = max(indices) + 2  # one that is not read
        wanted = [*values, *([new_c] if new_c else [])]
        try:
            given = random_values({layer.x, *(s for s in states if s not in self.zeros)} - set(self.graph.constants),
                                  self.tensors, sizes, np.random.default_rng(len(values)))
            before = evaluate(self.graph.nodes, self.graph.constants, self.tensors, given, sizes, wanted)
            after = evaluate(graph.nodes, graph.constants, self.tensors, given, sizes, wanted)
        except Unknown:
            return False
        return agree(before, after, wanted)


def _multiplies(node: Node, graph: Graph) -> bool:
    return node.op in ("MatMul", "Gemm") and not node.domain and node.inputs[1] in graph.constants and (
        graph.constants[node.inputs[1]].ndim == 2 and node.inputs[0] not in graph.constants)


def _same_weights(a: _Step, b: _Step) -> bool:
    if a.x is None or b.x is None:
        return False
    return (_are_equal(a.cell.parts(a.cell.h), b.cell.parts(b.cell.h)) and _are_equal(a.cell.parts(a.x), b.cell.parts(b.x))
            and np.array_equal(a.cell.bias(), b.cell.bias()))


def _are_equal(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    """Whether two cells multiply a value with the same matrices, which are mostly the same objects."""
    return a.keys() == b.keys() and all(a[gate] is b[gate] or np.array_equal(a[gate], b[gate]) for gate in a)
