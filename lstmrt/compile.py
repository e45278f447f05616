"""From a graph to something that runs: segments of native, NumPy and onnxruntime work, one after the other.

Each node goes to the earliest segment of its kind that has all it needs; regions.py says which nodes fit together in a
native one. Language models, taggers and forecasters come out as a single native program.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple

import numpy as np

from . import _core
from .binding import Binding
from .branches import BranchStep, is_choice
from .errors import InputError, IsaError
from .graph import Graph, Node, all_nodes
from .fixed_sizes import FixedSizes
from .flat import FlatRegion
from .host_ops import HostStep, hands_parts_on, moves
from .native import Port, Program, lower
from .onnx_proto import go_together
from .operators import find, is_attention, is_recurrent
from .passes import infer_shapes
from .regions import Region
from .roles import BATCH, SOURCE, TIME, Facts

if TYPE_CHECKING:
    from .foreign import ForeignStep

ISA_VARIABLE = "LSTMRT_ISA"
THREADS_VARIABLE = "LSTMRT_NUM_THREADS"


class Target(NamedTuple):
    """What native programs are made for, as the core takes it: without an `isa` the best one, 0 `threads` for all that are
    free."""

    isa: str | None
    threads: int
    precision: str


def compile_graph(graph: Graph, isa: str | None = None, *, threads: int | None = None,
                  precision: str = "f32") -> Executable:
    """An Executable of `graph` for the instruction set `isa`: by default LSTMRT_ISA's, or else the CPU's best. `precision`
    is that of the weights in its native programs.

    One call uses at most `threads` threads: by default LSTMRT_NUM_THREADS, or else as many as there are processors that
    no other call is using. Raises InputError where that is no number above 0, IsaError for an instruction set that is
    unknown or that the CPU lacks, UnsupportedError for what nobody can run, MissingDependencyError where onnxruntime
    would be needed.
    """
    if not isinstance(isa, (str, type(None))):
        raise IsaError(f"instruction set: expected a name, got {isa!r}")
    return Executable(graph, Target(isa or os.environ.get(ISA_VARIABLE) or None, _thread_count(threads), precision))


def _thread_count(threads: int | None) -> int:
    """The core's number, in which 0 leaves it to the core."""
    name, given = "threads", threads
    if threads is None:
        name, given = THREADS_VARIABLE, os.environ.get(THREADS_VARIABLE) or None
        if given is None:
            return 0
    is_number = given.isdecimal() if threads is None else isinstance(given, (int, np.integer)) and given is not True
    if not is_number or not 0 < int(given) < 2**31:
        raise InputError(f"{name}: expected a number above 0, got {given!r}")
    return int(given)


class Executable:
    """A compiled graph, immutable: any number of threads may run it.

    segments   NativeStep, HostStep, ForeignStep and BranchStep in the order they run; `fresh` are the names of what one
               makes in memory that is nobody else's
    native     the only segment, where that is a NativeStep, else None
    """

    def __init__(self, graph: Graph, target: Target) -> None:
        tensors = infer_shapes(graph)
        facts = Facts.of(graph, tensors)
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self._binding = Binding(graph.inputs)
        self.segments = _segments(graph, facts, target)
        read = {name for segment in self.segments for name in segment.reads} | {value.name for value in graph.outputs}
        self._constants = {name: array for name, array in graph.constants.items() if name in read}
        self._of_sizes = FixedSizes(graph, lambda fixed: Executable(fixed, target)) if _may_gain(graph, self.segments) else None
        fresh = {name for segment in self.segments for name in segment.fresh}
        names = [value.name for value in graph.outputs]
        self._fresh, self._views = ([name for name in names if (name in fresh) == wanted] for wanted in (True, False))
        self._owners = frozenset(id(_owner(array)) for array in self._constants.values())
        only = self.segments[0] if len(self.segments) == 1 else None
        self.native = only if isinstance(only, NativeStep) else None

    @property
    def steppable(self) -> bool:
        """Whether one time step can be run at a time: all is native and no output depends on a later step."""
        return self.native is not None and self.native.steppable

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Every output by name, in the graph's order.

        Raises InputError where an input is missing, unknown, or does not fit its dtype or shape.
        """
        return self.compute(self._binding.bind(inputs))

    def compute(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As `run`, of inputs that are known to fit: arrays of the graph's dtypes and shapes."""
        fixed = self._of_sizes and self._of_sizes.executable(inputs)
        if fixed is not None:
            return fixed.compute(inputs)
        values = {**self._constants, **inputs}
        for segment in self.segments:
            segment.run(values)
        made = {value.name: values[value.name] for value in self.outputs}
        if self._views:
            self._stand_alone(made, inputs)
        return made

    def _stand_alone(self, made: dict[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> None:
        """Copies outputs whose memory is an input's, a constant's or another output's, or that cannot be written to."""
        owners = {id(_owner(array)) for array in (*inputs.values(), *[made[name] for name in self._fresh])}
        for name in self._views:
            owner = id(_owner(made[name]))
            if owner in owners or owner in self._owners or not made[name].flags.writeable:
                made[name] = np.array(made[name], order="C")
            owners.add(owner)

    def release_graph(self) -> None:
        """Lets go of what only further programs would be made of: no second one for a first call that comes later."""
        if self._of_sizes is not None:
            self._of_sizes.release()
        for segment in self.segments:
            for branch in segment.compiled if isinstance(segment, BranchStep) else ():
                branch.release_graph()


def _owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory `array` shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


@dataclass(frozen=True)
class _Shapes:
    """The outputs' shapes and dtypes for one (batch, time, source): those of the last call, which the next one often has again."""

    sizes: tuple[int, int, int]
    outputs: list[tuple[tuple[int, ...], np.dtype]]


def _may_gain(graph: Graph, segments: list) -> bool:
    """Whether knowing all sizes could make a difference: some are free, and onnxruntime or a branch works on them."""
    free = any(value.shape is None or not all(isinstance(size, int) for size in value.shape) for value in graph.inputs)
    return free and any(segment.kind in ("onnxruntime", "branches") for segment in segments)


class NativeStep:
    """A program of the C core."""

    kind = "native"

    def __init__(self, nodes: list[Node], program: Program, target: Target) -> None:
        self.nodes = nodes
        self.input_ports, self.output_ports = program.input_ports, program.output_ports
        self.reads = [port.name for port in program.input_ports]
        self.model = _core.Model(program.values, program.steps, program.inputs, program.outputs,
                                 target.isa, target.threads, target.precision)
        self._given = [(port.name, np.dtype(port.dtype)) for port in program.input_ports]
        self.fresh = [port.name for port in program.output_ports]
        self._axes = {role: [(index, port.roles.index(role)) for index, port in enumerate(program.input_ports)
                             if role in port.roles] for role in (BATCH, TIME, SOURCE)}
        self._last = _Shapes((0, 0, 0), [])
        self.is_flat = any(port.sizes for port in program.input_ports)  # nothing of it runs over time
        self._takes_one = not all(BATCH in port.roles for port in (*self.input_ports, *self.output_ports)) and not self.is_flat
        self.steppable = self.model.steppable and not self.is_flat
        self.before: list[HostStep] = []  # what takes states out of stacked inputs
        self.after: list[HostStep] = []  # and puts them together in outputs

    def run(self, values: dict[str, np.ndarray]) -> None:
        for move in self.before:
            move.run(values)
        self._run_program(values)
        for move in self.after:
            move.run(values)

    def _run_program(self, values: dict[str, np.ndarray]) -> None:
        arrays = tuple([np.ascontiguousarray(values[name], dtype) for name, dtype in self._given])
        for port, array in zip(self.input_ports, arrays):
            if array.ndim != (len(port.roles) or 1):  # ascontiguousarray gives a number an axis
                raise InputError(f"'{port.name}': expected {len(port.roles)} axes, got shape {array.shape}")
        batch, time, source = self._size(BATCH, arrays), self._size(TIME, arrays), self._size(SOURCE, arrays)
        self.check_batch(batch)
        if source == 0 or (time == 0 and not all(TIME in port.roles for port in self.output_ports)):
            raise InputError("expected at least one time step, got none")
        outputs = self._outputs((batch, time, source))
        if batch > 0 and time > 0:
            try:
                self.model.run(arrays, outputs, batch, time, source)
            except InputError:
                self.explain(arrays)
                raise
        values.update(zip(self.fresh, outputs))

    def check_batch(self, batch: int) -> None:
        """Raises InputError for several sequences where some value has no axis for them."""
        if self._takes_one and batch != 1:
            raise InputError(f"this model takes one sequence at a time, got {batch}")

    def _outputs(self, sizes: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
        last = self._last
        if last.sizes != sizes:
            shapes = [(port.shape(*sizes), np.dtype(port.dtype)) for port in self.output_ports]
            self._last = last = _Shapes(sizes, shapes)
        return tuple([np.empty(shape, dtype) for shape, dtype in last.outputs])

    def _size(self, role: str, arrays: tuple[np.ndarray, ...]) -> int:
        """The batch, time or source size, on which all inputs must agree; 1 where no input has that axis."""
        sizes = [arrays[index].shape[axis] for index, axis in self._axes[role]]
        if sizes and sizes.count(sizes[0]) < len(sizes):
            names = [self.input_ports[index].name for index, _ in self._axes[role]]
            raise InputError(f"inputs of different {role} sizes: {dict(zip(names, sizes))}")
        return sizes[0] if sizes else 1

    def explain(self, arrays: tuple[np.ndarray, ...]) -> None:
        """Raises the InputError that names the id which is out of range, if one is."""
        for port, array in zip(self.input_ports, arrays):
            if port.vocabulary is not None:
                check_ids(port, array)


class StepForm:
    """One time step of a program with one input, for one batch size: shapes and dtypes are known, so that a step costs
    little more than its arithmetic.

    shape, dtype  of the input, without its time axis
    """

    def __init__(self, native: NativeStep, batch_size: int) -> None:
        (port,) = native.input_ports
        native.check_batch(batch_size)
        self.shape, self.dtype = port.shape(batch_size, None), np.dtype(port.dtype)
        self._output, *self._others = [(port.shape(batch_size, None), np.dtype(port.dtype)) for port in native.output_ports]
        self._native, self._run = native, native.model.step

    def fits(self, x: Any) -> bool:
        """Whether `x` can be read as it is."""
        return type(x) is np.ndarray and x.dtype is self.dtype and x.shape == self.shape and x.flags.c_contiguous

    def step(self, state: _core.State, x: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """The outputs without their time axis: one, or a tuple; the state goes on."""
        shape, dtype = self._output
        outputs: tuple[np.ndarray, ...] = (np.empty(shape, dtype),)
        if self._others:
            outputs += tuple(np.empty(shape, dtype) for shape, dtype in self._others)
        try:
            self._run(state, (x,), outputs)
        except InputError:
            self._native.explain((x,))
            raise
        return outputs if self._others else outputs[0]


def check_ids(port: Port, ids: np.ndarray) -> None:
    wrong = ids[(ids < -port.vocabulary) | (ids >= port.vocabulary)]
    if wrong.size:
        raise InputError(f"input '{port.name}': id {wrong[0]} is outside the vocabulary of {port.vocabulary}")


# ---- segments ----


@dataclass
class _Segment:
    """Nodes of one kind; `region` where they are native."""

    nodes: list[Node]
    region: Region | FlatRegion | None
    foreign: bool
    choice: bool = False  # an If with compiled branches


# What NumPy is slow at, one of these or many of any kind: where native programs have no place for such nodes, onnxruntime
# runs them if it is installed. A step of NumPy costs some 10 us, a session as much for all its nodes together.
_HEAVY = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "MatMul", "Gemm", "Einsum", "MatMulInteger",
          "QLinearMatMul"}
_MANY = 4


def _segments(graph: Graph, facts: Facts, target: Target) -> list[NativeStep | HostStep | ForeignStep | BranchStep]:
    from .foreign import has_runtime, require_runtime

    foreign = [node for node in graph.nodes if find(node) is None and not is_choice(node, facts.tensors)]
    if foreign:
        require_runtime(foreign)
    segments = _settled(graph, facts, bool(foreign))
    if not foreign and _are_heavy(segments):
        flat = _settled(graph, facts, False, flat=True) if target.precision == "f32" else segments
        if not _are_heavy(flat) and (not has_runtime() or _pays(flat)):
            segments = flat
        elif has_runtime():
            segments = _settled(graph, facts, True)
    dtypes = {name: tensor.dtype for name, tensor in facts.tensors.items()}
    steps = []
    for segment in segments:
        if segment.region:
            steps += _native_steps(segment, graph, dtypes, target)
        elif segment.choice:
            steps.append(BranchStep(segment.nodes[0], graph.constants, facts.tensors,
                                    lambda branch: Executable(branch, target)))
        elif segment.foreign:
            steps.append(_foreign_step(segment, graph, facts, target.threads))
        else:
            steps += _host_steps(segment.nodes, graph, dtypes)
    return _with_moves_inside(steps)


def _are_heavy(segments: list[_Segment]) -> bool:
    """Whether NumPy would be too slow at what is not native."""
    computing = [node.op for segment in segments if not segment.region for node in segment.nodes if not moves(node)]
    return len(computing) >= _MANY or bool(_HEAVY.intersection(computing))


def _pays(segments: list[_Segment]) -> bool:
    """Whether flat programs are faster than sessions in their place would be."""
    costs = [segment.region.microseconds() for segment in segments if isinstance(segment.region, FlatRegion)]
    return sum(ours for ours, _ in costs) <= sum(theirs for _, theirs in costs)


def _native_steps(segment: _Segment, graph: Graph, dtypes: Mapping[str, str],
                  target: Target) -> list[NativeStep | HostStep]:
    program, renaming = segment.region.lower() if isinstance(segment.region, FlatRegion) else lower(segment.region)
    if not program.steps:
        return _host_steps(segment.nodes, graph, dtypes)
    native = [node for node in segment.nodes if node not in renaming]
    made = {port.name for port in program.output_ports}
    others = [node for node in renaming if node.outputs[0] not in made]
    return [NativeStep(native, program, target), *_host_steps(others, graph, dtypes)]


def _host_steps(nodes: list[Node], graph: Graph, dtypes: Mapping[str, str]) -> list[HostStep]:
    return [HostStep(node, dtypes, graph.constants) for node in nodes]


def _foreign_step(segment: _Segment, graph: Graph, facts: Facts, threads: int) -> ForeignStep:
    from .foreign import ForeignStep

    inside = set(map(id, segment.nodes))
    wanted = [name for node in segment.nodes for name in node.outputs if name and (
        name in facts.outputs or any(id(reader) not in inside for reader in facts.consumers.get(name, ())))]
    return ForeignStep(segment.nodes, wanted, graph.constants, facts.tensors, threads)


_STACKING = frozenset(("Concat", "Identity", "Squeeze", "Transpose", "Unsqueeze"))


def _with_moves_inside(steps: list) -> list:
    """A native program and nothing beside it but what takes states out of inputs that stack them, and what stacks them
    again, as one step: parts of one array cost no more than their copies."""
    programs = [step for step in steps if isinstance(step, NativeStep)]
    if len(programs) != 1:
        return steps
    (native,) = programs
    made, before, after = {port.name for port in native.output_ports}, [], []
    for step in steps:
        late = not made.isdisjoint(step.reads)
        if step is not native:
            (after if late else before).append(step)
            made.update(step.nodes[0].outputs if late else ())
    if not all(isinstance(step, HostStep) and step.hands_parts_on for step in (*before, *after)):
        return steps
    if not all(step.nodes[0].op in _STACKING for step in after):
        return steps
    native.before, native.after = before, after
    native.nodes = [node for step in (*before, native, *after) for node in step.nodes]
    made.update(name for step in before for name in step.nodes[0].outputs)
    native.reads = list(dict.fromkeys(name for step in (*before, native, *after) for name in step.reads if name not in made))
    return [native]


def _settled(graph: Graph, facts: Facts, with_runtime: bool, flat: bool = False) -> list[_Segment]:
    """The nodes in segments whose native ones are known to work out; `flat` ones may be among them.

    A model that needs onnxruntime for something, `with_runtime`, gives it everything that is not in a native program
    with a recurrent layer or an attention: few large sessions cost less than many small steps between them.
    """
    fitting = {id(node) for node in graph.nodes if find(node) is not None and any(
        kind(facts).take(node) for kind in _kinds(node, flat))}
    while True:
        segments = _partition(graph, facts, fitting, with_runtime, flat)
        odd = [node for segment in segments if segment.region for node in segment.region.settle()]
        if not odd:
            odd = [node for segment in segments if segment.region and _only_moves(segment, facts) for node in segment.nodes]
        if with_runtime and not odd:
            odd = [node for segment in segments if segment.region and not any(map(_stays_native, segment.nodes))
                   for node in segment.nodes]
        if not odd:
            return segments
        fitting.difference_update(map(id, odd))


def _stays_native(node: Node) -> bool:
    return is_recurrent(node) or is_attention(node)


def _kinds(node: Node, flat: bool) -> list[type]:
    """The kinds of region that may take a node, the one that is to begin with it first."""
    return [FlatRegion, Region] if flat and not _stays_native(node) else [Region]


def _only_moves(segment: _Segment, facts: Facts) -> bool:
    """Whether the segment does nothing that NumPy does not do at once."""
    if isinstance(segment.region, FlatRegion):
        return False
    dtypes = {name: facts.dtype(name) for node in segment.nodes for name in (*node.reads, *node.outputs)}
    return all(hands_parts_on(node, dtypes, facts.constants) for node in segment.nodes)


def _partition(graph: Graph, facts: Facts, fitting: set[int], with_runtime: bool, flat: bool) -> list[_Segment]:
    """The nodes in segments; those in `fitting`, by id, in native ones where these agree."""
    segments = [_Segment([], None, False)]  # what NumPy does with inputs comes first, so that it parts nothing
    made_in: dict[str, int] = {}  # value -> the segment that makes it
    several_opsets = any(node.opset is not None and not node.domain for node in all_nodes(graph.nodes))
    for node in _by_turns(graph.nodes, fitting):
        earliest = max((made_in[name] for name in node.reads if name in made_in), default=0)
        region = _native_place(node, segments, earliest, flat, facts) if id(node) in fitting else None
        index = _other_place(node, segments, earliest, with_runtime, several_opsets, facts) if region is None else region
        segments[index].nodes.append(node)
        made_in.update((name, index) for name in node.outputs if name)
    return segments if segments[0].nodes else segments[1:]


def _by_turns(nodes: tuple[Node, ...], fitting: set[int]) -> list[Node]:
    """`nodes` in an order that changes between native programs and the rest as seldom as can be: first the rest, as
    far as it needs no native result, then the native ones (`fitting`, by id) that need nothing more, and so on."""
    turns: list[int] = []  # of each node; native ones have odd turns
    made_in: dict[str, int] = {}
    for node in nodes:
        turn = max((made_in[name] for name in node.reads if name in made_in), default=0)
        turns.append(turn + (turn % 2 != (id(node) in fitting)))
        made_in.update((name, turns[-1]) for name in node.outputs if name)
    return [nodes[i] for i in sorted(range(len(nodes)), key=turns.__getitem__)]


def _native_place(node: Node, segments: list[_Segment], earliest: int, flat: bool, facts: Facts) -> int | None:
    """The index of the native segment that takes `node`, perhaps a new one at the end; None where none can."""
    for index in range(earliest, len(segments)):
        if segments[index].region and segments[index].region.take(node):
            return index
    for kind in _kinds(node, flat):
        region = kind(facts)
        if region.take(node):
            segments.append(_Segment([], region, False))
            return len(segments) - 1
    return None


def _other_place(node: Node, segments: list[_Segment], earliest: int, with_runtime: bool, several_opsets: bool,
                 facts: Facts) -> int:
    """The index of the segment of NumPy or onnxruntime that takes `node`; a new one at the end where none does, and for
    an If with compiled branches."""
    choice = is_choice(node, facts.tensors)
    foreign = not choice and (find(node) is None or (with_runtime and _portable(node, facts)))
    for index in range(earliest, len(segments)):
        segment = segments[index]
        if segment.foreign != foreign or segment.region or segment.choice or choice:
            continue
        if not (foreign and several_opsets) or go_together([*segment.nodes, node]):
            return index
    segments.append(_Segment([], None, foreign, choice))
    return len(segments) - 1


def _portable(node: Node, facts: Facts) -> bool:
    """Whether onnxruntime runs a node of the table as NumPy does: it knows no extensions, not all that recurrent nodes may
    be, and at this opset not the dtypes that later ones added."""
    if node.domain or is_recurrent(node):
        return False
    if node.op not in ("Mod", "BitShift"):
        return True
    dtype = facts.dtype(node.inputs[0]) or ""
    if node.op == "Mod":
        return bool(node.attributes.get("fmod")) or not dtype.startswith("float")
    return not dtype.startswith("int")
