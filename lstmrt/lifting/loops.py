"""Loop and Scan nodes whose body is a step of an LSTM, GRU or RNN become recurrent nodes.

The body's new states are read as formulas (symbolic.py) and compared with the cells' (cells.py), whatever the exporter's
names and orders. A rewrite is kept only if it gives what the loop gives, on random numbers of a few lengths (proof.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..errors import GraphError
from ..graph import Graph, Node, Value, fresh_names, rename_inputs
from ..passes.drop_noops import takes_all
from ..passes.fold_constants import fold_constants
from ..passes.infer_shapes import infer_nodes, infer_shapes
from ..shapes import Tensor
from .cells import Cell, cells
from .outputs_of_steps import OutputsOfSteps
from .proof import Unknown, agree, evaluate, mask_patterns, random_values
from .recurrent_nodes import Layer, Made, recurrent_nodes
from .symbolic import Formula, Opaque, Read, Reader, formula
from .written_out_cells import written_out_cells

LENGTHS = (3, 1, 4)  # steps of the proofs
LARGE = 1 << 20  # weights; a proof with more than these takes long, and is made for one length
BATCH = 2


def lift_loops(graph: Graph) -> Graph:
    """Each Loop and Scan that is an LSTM, GRU or RNN as such nodes; the others stay."""
    nodes, constants, names = [], dict(graph.constants), fresh_names(graph)
    tensors = None
    for node in graph.nodes:
        if node.op in ("Loop", "Scan") and not node.domain:
            tensors = tensors or infer_shapes(graph)
            try:
                nodes += _lifted(node, graph, tensors, constants, names)
                continue
            except (Unknown, Opaque, GraphError):  # the last: a body that its operators do not take, which may never run
                pass
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _lifted(node: Node, graph: Graph, tensors: Mapping[str, Tensor], constants: dict, names: Iterator[str]) -> list[Node]:
    used = {name for other in graph.nodes if other is not node for name in other.reads}
    used |= {value.name for value in graph.outputs}
    loop = _Body(node, graph, tensors, used, names)
    made, new_constants = loop.rewrite(names)
    loop.prove(made, new_constants)
    constants.update(new_constants)
    return made


@dataclass(frozen=True)
class _State:
    """A value that goes from step to step: its names in the body and around it."""

    before: str
    after: str
    initial: str
    final: str


@dataclass(frozen=True)
class _Found:
    """A cell and the value of the body that is its output; `mask` names the value that gates its states, if any."""

    cell: Cell
    output: str | None
    new_h: Formula
    mask: str | None
    states: tuple[_State, ...]  # h, then c


class _Body:
    """A loop taken apart: what it carries, what it reads step by step, what it gives back."""

    def __init__(self, node: Node, graph: Graph, tensors: Mapping[str, Tensor], used: set[str], names: Iterator[str]) -> None:
        self.node, self.graph, self.outer, self.used = node, graph, tensors, used
        body = node.attributes["body"]
        self.steps: dict[str, tuple[str, int, bool]] = {}  # value of the body -> the sequence it is a step of, axis, backwards
        self.scanned: list[tuple[str, str, int, bool]] = []  # value of the body, output, axis, backwards
        carried = self._loop_carried(body) if node.op == "Loop" else self._scan_carried(body)
        sources = {inner.outputs[0]: inner.inputs[0] for inner in body.nodes if inner.op == "Identity"}
        self.sources = {name: _origin(name, sources) for name in sources}
        same = {state.before: state.initial for state in carried if self._origin(state.after) == state.before}
        self.carried = [state for state in carried if state.before not in same]
        self.unchanged = {state.final: state.initial for state in carried if state.before in same}
        folded = fold_constants(self._standing_alone(body, same))
        self.nodes, self.constants = written_out_cells(_without_whole_slices(folded), folded.constants, names)
        self.tensors = self._inner_tensors()
        self._find_steps(same)
        self.states = [state for state in self.carried if self.tensors.get(state.before, _UNKNOWN).dtype.startswith("float")]
        self.leaves: set[str] = set()

    def _origin(self, name: str) -> str:
        return self.sources.get(name, name)

    # ---- what goes in and out ----

    def _loop_carried(self, body: Graph) -> list[_State]:
        self.counter = body.inputs[0].name
        initial, finals = self.node.inputs[2:], self.node.outputs
        count = len(initial)
        self.scanned += [(value.name, name, 0, False) for value, name in zip(body.outputs[1 + count:], finals[count:]) if name]
        return [_State(before.name, after.name, start, final) for before, after, start, final in
                zip(body.inputs[2:], body.outputs[1:], initial, finals + ("",) * count)]

    def _scan_carried(self, body: Graph) -> list[_State]:
        self.counter = None
        options, count = self.node.attributes, self.node.attributes["num_scan_inputs"]
        states = len(self.node.inputs) - count
        scans, outputs = self.node.inputs[states:], self.node.outputs[states:]
        axes, backwards = (options.get(f"scan_input_{key}", (0,) * count) for key in ("axes", "directions"))
        for value, name, axis, back in zip(body.inputs[states:], scans, axes, backwards):
            rank = len(self.outer[name].shape or ()) if name in self.outer else 0
            self.steps[value.name] = name, axis % rank if rank else axis, bool(back)
        axes, backwards = (options.get(f"scan_output_{key}", (0,) * len(outputs)) for key in ("axes", "directions"))
        self.scanned += [(value.name, name, axis, bool(back)) for value, name, axis, back in
                         zip(body.outputs[states:], outputs, axes, backwards) if name]
        return [_State(before.name, after.name, start, final) for before, after, start, final in
                zip(body.inputs, body.outputs, self.node.inputs[:states], self.node.outputs)]

    def _standing_alone(self, body: Graph, renamed: Mapping[str, str]) -> Graph:
        """The body with all that it reads as its inputs."""
        nodes = tuple(rename_inputs(node, renamed) for node in body.nodes)
        alone = replace(self.graph, inputs=(), outputs=body.outputs, nodes=nodes)
        given = {**self.outer, **self._begun()}
        return replace(alone, inputs=tuple(Value(name, given[name].dtype, given[name].shape)
                                           for name in alone.captured() if name in given))

    def _begun(self) -> dict[str, Tensor]:
        """What is given to a step."""
        start = {state.before: self.outer[state.initial] for state in self.carried if state.initial in self.outer}
        for name, (sequence, axis, _) in self.steps.items():
            tensor = self.outer.get(sequence)
            if tensor is not None and tensor.shape:
                start[name] = Tensor(tensor.dtype, tensor.shape[:axis] + tensor.shape[axis + 1:])
        if self.counter:
            start[self.counter] = Tensor("int64", ())
        return start

    def _inner_tensors(self) -> dict[str, Tensor]:
        """Dtypes and shapes inside, from those around: a state has the shape that it begins with."""
        tensors = {**self.outer, **self._begun()}
        tensors.update((name, Tensor.of(array)) for name, array in self.constants.items())
        infer_nodes(self.nodes, tensors)
        return tensors

    def _find_steps(self, same: Mapping[str, str]) -> None:
        """Gathers by the loop's counter. What the counter is at each step is seen by running the integers of the body."""
        gathers = [inner for inner in self.nodes if inner.op == "Gather" and inner.inputs[0] in self.outer
                   and inner.inputs[1] not in self.constants and inner.outputs[0] in self.tensors]
        for gather in gathers if self.counter else ():
            sequence, axis = self.outer[gather.inputs[0]], gather.attributes.get("axis", 0)
            if not sequence.shape or self.tensors[gather.inputs[1]].shape != ():
                continue
            indices = self._indices(gather.inputs[1], sequence, axis)
            count = len(indices)
            axis %= len(sequence.shape)
            if indices == list(range(count)) or indices == list(range(count))[::-1]:
                self.steps[gather.outputs[0]] = gather.inputs[0], axis, indices != list(range(count))

    def _indices(self, name: str, sequence: Tensor, axis: int) -> list[int]:
        """What the scalar `name` is at each step of a run over `sequence`."""
        length = sequence.shape[axis]
        sizes = _assumed(self.outer, length, LENGTHS[0])
        count = length if isinstance(length, int) else LENGTHS[0]
        numbers = [state for state in self.carried if self.tensors.get(state.before, _UNKNOWN).dtype.startswith("int")]
        values = evaluate(self.graph.nodes, self.graph.constants, self.outer, {}, sizes, [s.initial for s in numbers])
        current = {state.before: values[state.initial] for state in numbers}
        found = []
        for i in range(count):
            given = {**current, self.counter: np.array(i)}
            wanted = [name, *(state.after for state in numbers)]
            made = evaluate((*self.graph.nodes, *self.nodes), self.constants, self.outer, given, sizes, wanted)
            found.append(int(made[name]))
            current = {state.before: made[state.after] for state in numbers}
        return found

    # ---- the cells ----

    def rewrite(self, names: Iterator[str]) -> tuple[list[Node], dict[str, np.ndarray]]:
        """Nodes and constants in the loop's place. Raises Unknown where it is no recurrence of ours."""
        found = self._cells()
        layers = [self._layer(one, found) for one in found]
        nodes, constants = [], {}
        made: list[Made] = []
        for layer in layers:
            below = next((i for i, one in enumerate(found[:len(made)]) if one.output == layer.step), None)
            if below is not None:
                layer = replace(layer, x=made[below].y, axis=0, backwards=False)
            made.append(recurrent_nodes(layer, [], {}, names))
            nodes += made[-1].nodes
            constants |= made[-1].constants
        outputs = OutputsOfSteps(self.nodes, self.constants, self._sequences(found, made), names)
        placed: list[Node] = []
        for value, name, axis, back in self.scanned:
            if name in self.used:
                placed += _placed(self._sequence_of(value, found, made, outputs), name, axis, back, constants, names)
        nodes += [*outputs.made, *placed]
        constants |= outputs.known
        return nodes + self._further_outputs(found, made, constants, names), constants

    def _sequences(self, found: list[_Found], made: list[Made]) -> dict[str, str]:
        """Outputs of cells without masks, by the body's names."""
        return {name: layer.y for one, layer in zip(found, made) if one.mask is None
                for name in (one.output, self._origin(one.states[0].after)) if name}

    def _sequence_of(self, value: str, found: list[_Found], made: list[Made], outputs: OutputsOfSteps) -> str:
        masked = self._masked_output(self._origin(value), found)
        return outputs.of(self._origin(value)) if masked is None else made[found.index(masked[0])].y

    def _cells(self) -> list[_Found]:
        """The cells of all states, first layers first."""
        found: list[_Found] = []
        open_states = list(self.states)
        while True:
            reader = self._reader()
            taken = self._next_cell(reader, open_states)
            if taken is None:
                break
            found.append(taken)
            open_states = [state for state in open_states if state not in taken.states]
            if taken.output:
                self.leaves.add(taken.output)
        self.repeats = [state for state in open_states if self._repeats_output(state, found)]
        needed = [state for state in open_states if state not in self.repeats and state.final in self.used]
        if not found or needed:
            raise Unknown("states that are of no cell")
        return found

    def _reader(self) -> Reader:
        producers = {name: inner for inner in self.nodes for name in inner.outputs if name}
        leaves = {state.before for state in self.carried} | set(self.steps) | self.leaves
        return Reader(producers, self.constants, self.tensors, leaves.__contains__)

    def _next_cell(self, reader: Reader, states: list[_State]) -> _Found | None:
        for state in states:
            try:
                mask, new_h = _unmasked(reader.inside(self._origin(state.after)), state, self.tensors)
            except Opaque:
                continue
            for cell in cells(new_h, reader):
                cell = replace(cell, h=cell.h or state.before)
                inputs = [name for name in cell.reads() if name != cell.h]
                members = [other for other in self.states if other.before in (cell.h, cell.c)]
                if cell.h == state.before and len(inputs) == 1 and (inputs[0] in self.steps or inputs[0] in self.leaves) and (
                        len(members) == 1 + (cell.op == "LSTM")):
                    members.sort(key=lambda member: member.before != cell.h)
                    return _Found(cell, self._value_of(new_h, reader), new_h, mask, tuple(members))
        return None

    def _value_of(self, new_h: Formula, reader: Reader) -> str | None:
        """The value of the body that is the cell's output, before any mask."""
        for inner in self.nodes:
            for name in inner.outputs:
                try:
                    if name and name in self.tensors and reader.formula(name) == new_h:
                        return name
                except Opaque:
                    pass
        return None

    def _repeats_output(self, state: _State, found: list[_Found]) -> bool:
        """Whether the state is Keras's last output, which masked steps repeat."""
        return self._masking(state.after, state, found) is not None

    def _masking(self, value: str, state: _State | None, found: list[_Found]) -> _Found | None:
        """The masked cell whose output `value` is, with `state` (None: zero) at masked steps."""
        if not any(one.mask for one in found):
            return None
        reader = self._reader()
        try:
            whole = reader.inside(self._origin(value))
            for one in found:
                masks = {one.mask} if one.mask else set()
                on, off = _split(whole, masks)
                wanted = one.new_h if one.output is None else reader.formula(one.output)
                if masks and on == wanted and (off == reader.formula(state.before) if state else not off.terms):
                    return one
        except Opaque:
            pass
        return None

    def _masked_output(self, name: str, found: list[_Found]) -> tuple[_Found, str] | None:
        """The masked cell that makes `name`, and its masked_output."""
        for state in [*self.repeats, None]:
            if state is not None and self._origin(state.after) != name:
                continue
            one = self._masking(name, state, found)
            if one is not None:
                return one, "carry" if state else "zero"
        for one in found:  # a state serves as the output, as if it began with zeros
            if one.mask and self._origin(one.states[0].after) == name:
                return one, "carry"
        return None

    def _layer(self, one: _Found, found: list[_Found]) -> Layer:
        (x,) = (name for name in one.cell.reads() if name != one.cell.h)
        sequence, axis, back = self.steps.get(x, ("", 0, False))
        outputs = [self._masked_output(self._origin(value), found) for value, name, _, _ in self.scanned
                   if name in self.used]
        kinds = {kind for masked in outputs if masked and masked[0] is one for kind in masked[1:]}
        if len(kinds) > 1:
            raise Unknown("outputs that are masked in two ways")
        mask = self._mask_sequence(one.mask) if one.mask else ("", 0, back)
        if one.mask and mask[2] != back and x in self.steps:
            raise Unknown("a mask that runs the other way")
        return Layer(one.cell, x, sequence, axis, back, tuple(state.initial for state in one.states),
                     mask[0], mask[1], (kinds or {"carry"}).pop(), self.node.name, self.outer)

    def _mask_sequence(self, name: str) -> tuple[str, int, bool]:
        """The sequence whose steps the mask is."""
        producers = {output: inner for inner in self.nodes for output in inner.outputs}
        while name not in self.steps:
            inner = producers.get(self._origin(name))
            if inner is None or inner.op not in ("Identity", "Unsqueeze", "Reshape", "Squeeze", "Tile", "Expand"):
                raise Unknown("a mask that is no step of a sequence")
            name = inner.inputs[0]
        return self.steps[name]

    def _further_outputs(self, found: list[_Found], made: list[Made], constants: dict,
                         names: Iterator[str]) -> list[Node]:
        """Final states, and what the loop hands through."""
        nodes = [Node("Identity", (initial,), (final,)) for final, initial in self.unchanged.items() if final in self.used]
        for state in self.carried:
            if state.final not in self.used:
                continue
            one, node = self._final(state, found, made)
            if one is None:
                raise Unknown("a carried value that is no state")
            index = next(names)
            constants[index] = np.array([0]) if node.op == "Squeeze" else np.array(-1)
            nodes.append(replace(node, inputs=(*node.inputs, index)))
        return nodes

    def _final(self, state: _State, found: list[_Found], made: list[Made]) -> tuple[_Found | None, Node | None]:
        for one, outputs in zip(found, made):
            if state in one.states:
                last = outputs.h if state is one.states[0] else outputs.c
                return one, Node("Squeeze", (last,), (state.final,))
            if state in self.repeats and self._masking(state.after, state, [one]):
                return one, Node("Gather", (outputs.y,), (state.final,), {"axis": 0})
        return None, None

    # ---- the proof ----

    def prove(self, made: list[Node], constants: Mapping[str, np.ndarray]) -> None:
        """Raises Unknown unless `made` gives what the loop gives."""
        wanted = [name for name in self.node.outputs if name in self.used]
        lengths = {self.outer[sequence].shape[axis] for sequence, axis, _ in self.steps.values()}
        if len(lengths) != 1:
            raise Unknown("sequences of several lengths")
        (length,) = lengths
        is_large = sum(array.size for array in constants.values()) > LARGE
        for number, count in enumerate(LENGTHS[:1] if is_large or not isinstance(length, str) else LENGTHS):
            sizes = _assumed(self.outer, length, count)
            for given in mask_patterns(self._random_inputs(sizes, np.random.default_rng(number))):
                before = evaluate((*self.graph.nodes,), self.graph.constants, self.outer, given, sizes, wanted)
                after = evaluate((*self.graph.nodes[:self.graph.nodes.index(self.node)], *made),
                                 {**self.graph.constants, **constants}, self.outer, given, sizes, wanted)
                if not agree(before, after, wanted):
                    raise Unknown("the loop gives something else")

    def _random_inputs(self, sizes: Mapping[str, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Numbers for the sequences, and for initial states that are not made of constants and shapes."""
        given = random_values({sequence for sequence, _, _ in self.steps.values()}, self.outer, sizes, rng)
        for state in self.states:
            try:
                evaluate(self.graph.nodes, self.graph.constants, self.outer, given, sizes, [state.initial])
            except Unknown:
                if state in self.repeats:
                    raise
                given |= random_values([state.initial], self.outer, sizes, rng)
        return given


_UNKNOWN = Tensor("", None)


def _without_whole_slices(graph: Graph) -> tuple[Node, ...]:
    """The nodes without those that take all of a sequence, as x[:, t] does before its step is taken."""
    renamed, nodes, outputs = {}, [], {value.name for value in graph.outputs}
    for node in graph.nodes:
        node = rename_inputs(node, renamed)
        if takes_all(node, graph.constants) and node.outputs[0] not in outputs:
            renamed[node.outputs[0]] = node.inputs[0]
        else:
            nodes.append(node)
    return tuple(nodes)


def _origin(name: str, sources: Mapping[str, str]) -> str:
    while name in sources:
        name = sources[name]
    return name


def _assumed(tensors: Mapping[str, Tensor], length: object, count: int) -> dict[str, int]:
    """Numbers for symbols: `count` for the symbol `length`."""
    symbols = {size for tensor in tensors.values() for size in tensor.shape or () if isinstance(size, str)}
    return {symbol: count if symbol == length else BATCH for symbol in symbols}


def _unmasked(new: Formula, state: _State, tensors: Mapping[str, Tensor]) -> tuple[str | None, Formula]:
    """The mask of an update that keeps the state at masked steps, None where there is none, and the update itself."""
    masks = {factor.name for _, factors in new.terms.values() for factor in factors
             if isinstance(factor, Read) and factor.is_mask}
    if not masks:
        return None, new
    on, off = _split(new, masks)
    kept = formula(new.width, [(np.ones(new.width), (Read(state.before, 0, new.width),))])
    if len(masks) != 1 or off != kept:
        raise Opaque
    return masks.pop(), on


def _split(new: Formula, masks: set[str]) -> tuple[Formula, Formula]:
    """What `new` is where the masks are set, and where they are not."""
    def is_mask(factor) -> bool:
        return isinstance(factor, Read) and factor.is_mask and factor.name in masks

    terms = list(new.terms.values())
    on = formula(new.width, [(c, tuple(f for f in factors if not is_mask(f))) for c, factors in terms])
    off = formula(new.width, [(c, factors) for c, factors in terms if not any(map(is_mask, factors))])
    return on, off


def _placed(y: str, name: str, axis: int, backwards: bool, constants: dict, names: Iterator[str]) -> list[Node]:
    """`y`, time-major in the order of processing, as a scanned output."""
    nodes = []
    if backwards:
        y, nodes = _reversed(y, next(names), constants, names)
    if axis % 3:
        return [*nodes, Node("Transpose", (y,), (name,), {"perm": (1, 0, 2) if axis % 3 == 1 else (1, 2, 0)})]
    return [*nodes, Node("Identity", (y,), (name,))]


def _reversed(y: str, name: str, constants: dict, names: Iterator[str]) -> tuple[str, list[Node]]:
    bounds = []
    for number in (-1, -(2**63), 0, -1):
        bounds.append(next(names))
        constants[bounds[-1]] = np.array([number])
    return name, [Node("Slice", (y, *bounds), (name,))]
