"""Recurrences that are written step after step become recurrent nodes.

Every value that is a cell's new state (cells.py) is found, and those that follow one another with the same weights are one
layer. It replaces them if it gives what they give on random numbers (proof.py). A first step whose zero states were folded
away is found by trying. Where a mask keeps the states of some steps (masked_updates.py), the layer has that mask.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..activations import ELEMENTWISE
from ..errors import ModelWarning
from ..graph import Graph, Node, fresh_names
from ..passes.drop_unused import drop_unused
from ..passes.infer_shapes import infer_shapes
from ..passes.single_steps import step_of_node
from ..passes.zero_states import zero_values
from .cells import Cell, cells
from .masked_updates import Mask, Update, masked_updates
from .proof import Unknown, agree, evaluate, mask_patterns, random_values
from .recurrent_nodes import Layer, Made, recurrent_nodes
from .symbolic import Opaque, Reader

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
    """A cell whose new h is the value `new_h`; `cell.h` is settled. `h` and `c` are the states that the step leaves, `mask` what
    keeps those before where it is not set, or what may do so if there is no next step to tell."""

    new_h: str
    cell: Cell
    h: str
    c: str | None
    mask: Mask | None = None

    @property
    def is_masked(self) -> bool:
        return self.h != self.new_h

    def unmasked(self) -> _Step:
        return _Step(self.new_h, self.cell, self.new_h, self.cell.new_c)

    @property
    def x(self) -> str | None:
        """The one other value that the gates read."""
        others = [name for name in self.cell.reads() if name != self.cell.h]
        return others[0] if len(others) == 1 else None


class _Plan(NamedTuple):
    """A layer to try, and the graph's values that it makes: `steps` (number of a step, its output), and `finals`: value ->
    'h' or 'c', a final state. `before` are nodes that it needs, `masks` what its mask is made of."""

    layer: Layer
    steps: list[tuple[int, str]]
    finals: Mapping[str, str]
    before: Sequence[Node] = ()
    masks: tuple[str, ...] = ()

    def wanted(self) -> list[str]:
        return [*(value for _, value in self.steps), *self.finals]


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.tensors = graph, infer_shapes(graph)
        self.producers, self.consumers = graph.producers(), graph.consumers()
        self.outputs = {value.name for value in graph.outputs}
        self.zeros = zero_values(graph) | {""}
        self.inputs = {value.name for value in graph.inputs}
        products = [node for node in graph.nodes if _multiplies(node, graph)]
        self.multiplied = {name for node in products for name in self._side_by_side(node.inputs[0])}
        self.widest = max((min(graph.constants[node.inputs[1]].shape) for node in products), default=0)  # state that one may carry
        self.updates = masked_updates(graph, self.tensors) if self.multiplied else []
        self.updated = {update.value for update in self.updates}
        self.updates_of: dict[str, list[Update]] = {}  # value -> those that are it where a mask is set
        for update in self.updates:
            self.updates_of.setdefault(update.on, []).append(update)
        self.same = self._like_ones()
        self.reader = Reader(self.producers, graph.constants, self.tensors, self._is_read)

    def _like_ones(self) -> dict[str, str]:
        """Masked update -> the first of those that are the same: of layers with zeros to begin with, outputs and states are."""
        first: dict[tuple, str] = {}
        same: dict[str, str] = {}
        for value, mask, *operands in self.updates[:len(self.updates) // 2]:  # the others say it again, the other way
            sides = zip((mask.inverted, not mask.inverted), ("" if name in self.zeros else same.get(name, name) for name in operands))
            same[value] = first.setdefault((mask.name, frozenset(sides)), value)
        return same

    def _side_by_side(self, name: str) -> tuple[str, ...]:
        """The values that `name` puts beside one another, before a matrix for all of them."""
        node = self.producers.get(name)
        if node is None or node.op != "Concat" or node.domain or name not in self.tensors:
            return (name,)
        rank = len(self.tensors[name].shape or ())
        return node.inputs if node.attributes["axis"] in (-1, rank - 1) else (name,)

    def _is_read(self, name: str) -> bool:
        """States and inputs: what is multiplied with a matrix, and, as a cell's c, what an activation and others read."""
        if name in self.updated or (name in self.multiplied and not self._is_reset(name)):
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
            name = node.outputs[0]
            if node.domain or node.op not in _ENDS or name not in self.tensors or name in self.updated or (
                    (self.reader.width(name) or 0) > self.widest):
                continue
            for step in self._steps(name):
                before = ends.get(self._state(step.cell.h)) if step.cell.h else None
                if before is not None and self._follows(step, before):
                    del ends[before[-1].h]
                    ends[step.h] = [*before, step if before[-1].is_masked else step.unmasked()]
                    break
                ends.setdefault(step.h, [step])
        return [chain for chain in map(self._settled, ends.values()) if chain]

    def _steps(self, name: str) -> Iterator[_Step]:
        """The cells that `name` is the new h of, with each read value that can be its h."""
        try:
            found = list(cells(self.reader.inside(name), self.reader))
        except Opaque:
            return
        for cell in found:
            if cell.h is not None:
                yield self._step(name, cell)
                continue
            states = [read for read in cell.reads() if self.reader.width(read) == cell.hidden]
            for state in sorted(states, key=self._unlike_a_state):
                yield self._step(name, replace(cell, h=state))

    def _step(self, new_h: str, cell: Cell) -> _Step:
        masks = {update.mask for update in self.updates_of.get(new_h, ())}
        if len(masks) != 1:
            return _Step(new_h, cell, new_h, cell.new_c)
        h, c = self._kept(new_h, cell.h), self._kept(cell.new_c, cell.c)
        return _Step(new_h, cell, h or new_h, c, masks.pop())

    def _kept(self, new: str | None, old: str | None) -> str | None:
        """The value that is the state `new` where a mask is set, and else the state `old`."""
        return next((self.same[update.value] for update in self.updates_of.get(new, ()) if self._is_same(update.off, old)), None)

    def _is_same(self, a: str, b: str | None) -> bool:
        return b is not None and (self._state(a) == self._state(b) or {a, b} <= self.zeros)

    def _state(self, name: str) -> str:
        name = self._moved_from(name)
        return self.same.get(name, name)

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
        if cell.c is not None and (last.c is None or self._state(cell.c) != self._state(last.c)):
            return False
        if step.mask is None if last.is_masked else step.is_masked:
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
        step = chain[0].unmasked()
        is_sure = step.cell.op != "RNN" or step.cell.h in self.zeros  # nobody else multiplies zeros with a matrix
        return [step] if is_sure and step.x is not None else None

    # ---- the layer in their place ----

    def lifted(self, chain: list[_Step]) -> Graph | None:
        """The graph with the chain's values made by one node, None where that would give something else."""
        run = self._run(chain)
        if run is None:
            return None
        names = fresh_names(self.graph)
        for plan in self._attempts(chain, *run):
            for plan in self._masked(plan, chain, run[2], names) if chain[-1].mask else (plan,):
                layer, nodes, bounds = self._cut(plan.layer, run[2], names)
                try:
                    made = recurrent_nodes(layer, [*plan.before, *nodes], bounds, names)
                except Unknown:
                    continue
                graph = self._with(made, plan, names)
                if self._proved(graph, plan, run[2]):
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

    def mask_step_of(self, name: str) -> tuple[str, int, int] | None:
        """As step_of, of a mask (batch,) or (batch, 1)."""
        node = self.producers.get(name)
        found = None if node is None or node.domain else step_of_node(node, self.graph.constants, self.tensors)
        shape = self.tensors[found[0]].shape if found and found[0] in self.tensors else None
        return found if shape and found[1] < 2 and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 1)) else None

    def length(self, step: tuple[str, int, int]) -> object:
        return self.tensors[step[0]].shape[step[1]]

    def _attempts(self, chain: list[_Step], x: str, axis: int | None, indices: list[int]) -> Iterator[_Plan]:
        first, values = chain[0], [step.h for step in chain]
        backwards = len(indices) > 1 and indices[1] < indices[0]
        length = 1 if axis is None else self.tensors[x].shape[axis]
        start = self._moved_from(first.cell.h)
        initial = (first.cell.h,) + ((first.cell.c,) if first.cell.c else ())
        layer = Layer(first.cell, first.x, x, axis, backwards, (), "", 0, "carry", "", self.tensors)
        last = {chain[-1].c: "c"} if chain[-1].c else {}
        ends = min(indices) + max(indices)  # tells which step the chain lacks: its first, which was folded away
        if isinstance(length, int) and length == len(chain) + 1 and ends == (length - 2 if backwards else length):
            yield _Plan(layer, list(enumerate([start, *values])), last)
        if length == len(chain) or isinstance(length, str):
            yield _Plan(replace(layer, initial=initial), list(enumerate(values)), last)

    def _masked(self, plan: _Plan, chain: list[_Step], indices: list[int], names: Iterator[str]) -> Iterator[_Plan]:
        """With the mask of the steps, and with the outputs that there are of masked ones: those before, zeros, or none."""
        missing, mask = len(plan.steps) - len(chain), chain[-1].mask
        start = [update for update in self.updates if update.value == plan.steps[0][1] and update.mask.inverted == mask.inverted]
        made = [*(update.on for update in start[:missing]), *(step.new_h for step in chain)]
        masks = [*(update.mask for update in start[:missing]), *(step.mask for step in chain)]
        found = [self.mask_step_of(one.name) if one and one.inverted == mask.inverted else None for one in masks]
        way = indices[1] - indices[0] if len(indices) > 1 else 1
        if len(made) < 2 or len(made) != len(plan.steps) or None in found or found != [
                (*found[0][:2], indices[0] + way * (i - missing)) for i in range(len(found))]:
            return
        sequence, axis, _ = found[0]
        nodes = [Node("Not", (sequence,), (next(names),))] if mask.inverted else []
        name = nodes[0].outputs[0] if nodes else sequence
        layer = replace(plan.layer, mask=name, mask_axis=axis, tensors={**self.tensors, name: self.tensors[sequence]})
        for masked_output in ("zero", "carry", "none"):
            outputs = self._outputs(made, masked_output)
            if outputs is not None:
                last = {} if chain[-1].h in made or chain[-1].h in {value for _, value in outputs} else {chain[-1].h: "h"}
                plan = _Plan(replace(layer, masked_output="zero" if masked_output == "zero" else "carry"), outputs,
                             {**plan.finals, **last}, nodes, (sequence,))
                yield from (plan,) if plan.wanted() else ()

    def _outputs(self, made: list[str], masked_output: str) -> list[tuple[int, str]] | None:
        """What is the new h `made` by each step where its mask is set, and else as `masked_output` says."""
        found, before = [], ""
        for i, new_h in enumerate(made) if masked_output != "none" else ():
            like = [update.value for update in self.updates_of.get(new_h, ()) if (
                self._state(update.off) == before if before else update.off in self.zeros)]
            if not like and masked_output == "carry":
                return None
            found += [(i, value) for value in like]
            before = self.same[like[0]] if masked_output == "carry" else ""
        return None if masked_output == "zero" and not any(i for i, _ in found) else found

    def _cut(self, layer: Layer, indices: list[int], names: Iterator[str]) -> tuple[Layer, list[Node], dict[str, np.ndarray]]:
        """The layer over the steps that are read of a sequence of any length, with what cuts them out."""
        if layer.axis is None or not isinstance(self.tensors[layer.x].shape[layer.axis], str):
            return layer, [], {}
        bounds = {next(names): np.array([number]) for number in (min(indices), max(indices) + 1, layer.axis)}
        cut = next(names)
        return replace(layer, x=cut), [Node("Slice", (layer.x, *bounds), (cut,))], bounds

    def _with(self, made: Made, plan: _Plan, names: Iterator[str]) -> Graph:
        """The graph with the plan's values taken out of what `made` makes."""
        constants, nodes = {**self.graph.constants, **made.constants}, list(made.nodes)
        first = next(names)
        constants[first] = np.array([0])
        for i, value in plan.steps:
            index = next(names)
            constants[index] = np.array(i)
            nodes += self._shaped(value, Node("Gather", (made.y, index), (next(names),), {"axis": 0}), first)
        for value, state in plan.finals.items():
            nodes += self._shaped(value, Node("Squeeze", (getattr(made, state), first), (next(names),)), first)
        replaced = {value: next(names) for value in plan.wanted()}
        old = [replace(node, outputs=tuple(replaced.get(name, name) for name in node.outputs)) for node in self.graph.nodes]
        at = next(i for i, node in enumerate(self.graph.nodes) if not replaced.keys().isdisjoint(node.outputs))
        return replace(self.graph, nodes=(*old[:at], *nodes, *old[at:]), constants=constants)

    def _shaped(self, value: str, node: Node, first: str) -> list[Node]:
        """`node`, which makes (batch, hidden), as `value` with the axes that it had."""
        if len(self.tensors[value].shape) == 2:
            return [replace(node, outputs=(value,))]
        return [node, Node("Unsqueeze", (node.outputs[0], first), (value,))]

    def _proved(self, graph: Graph, plan: _Plan, indices: list[int]) -> bool:
        layer, wanted = plan.layer, plan.wanted()
        sizes = {size: BATCH for tensor in self.tensors.values() for size in tensor.shape or () if isinstance(size, str)}
        if layer.axis is not None and isinstance(length := self.tensors[layer.x].shape[layer.axis], str):
            sizes[length] = max(indices) + 2  # one that is not read
        read = {layer.x, *plan.masks, *(state for state in layer.initial if state not in self.zeros)}
        try:
            given = random_values(read - set(self.graph.constants), self.tensors, sizes, np.random.default_rng(len(wanted)))
            return all(agree(evaluate(self.graph.nodes, self.graph.constants, self.tensors, one, sizes, wanted),
                             evaluate(graph.nodes, graph.constants, self.tensors, one, sizes, wanted), wanted)
                       for one in mask_patterns(given))
        except Unknown:
            return False


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
