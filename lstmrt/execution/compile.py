"""From a graph to something that runs: segments of native, NumPy and onnxruntime work, one after the other.

segments.py says which nodes go where. Language models, taggers and forecasters come out as a single native program.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from ..containers import is_array
from ..errors import InputError, IsaError
from ..graph import Graph, Node
from ..operators import find, is_dynamic, is_dynamic_product
from ..passes import infer_shapes
from .binding import Binding
from .branches import BranchStep, is_choice
from .host_ops import HostStep
from .native import Port, Program, lower
from .roles import BATCH, SOURCE, TIME, Facts
from .segments import Segment, segments

if TYPE_CHECKING:
    from .fixed_sizes import FixedSizes
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
        self.segments = _steps(graph, facts, target)
        read = {name for segment in self.segments for name in segment.reads} | {value.name for value in graph.outputs}
        self._constants = {name: array for name, array in graph.constants.items() if name in read}
        self._of_sizes: FixedSizes | None = None
        if _may_gain(graph, self.segments):
            from .fixed_sizes import FixedSizes

            self._of_sizes = FixedSizes(graph, lambda fixed: Executable(fixed, target), len(self.segments))
        fresh = {name for segment in self.segments for name in segment.fresh}
        names = [value.name for value in graph.outputs]
        self._fresh, self._views = ([name for name in names if (name in fresh) == wanted] for wanted in (True, False))
        self._owners = frozenset(id(_owner(array)) for array in self._constants.values())
        only = self.segments[0] if len(self.segments) == 1 else None
        self.native = only if isinstance(only, NativeStep) else None
        self._is_program = self.native is not None and self.native.stands_for(graph)

    @property
    def steppable(self) -> bool:
        """Whether one time step can be run at a time: all is native and no output depends on a later step."""
        return self.native is not None and self.native.steppable

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Every output by name, in the graph's order.

        Raises InputError where an input is missing, unknown, or does not fit its dtype or shape.
        """
        return self.compute(self._binding.bind(inputs))

    def call_again(self, inputs: tuple) -> tuple[np.ndarray, ...] | None:
        """Every output of what may be arrays for the graph's inputs, in its order, if that is quick: where all is one native
        program and they are as those of the last call were. Else None."""
        return self.native.run_again(inputs) if self._is_program else None

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
            if not isinstance(made[name], np.ndarray):  # a sequence, or None
                made[name] = made[name] and [np.array(array) for array in made[name]]
            elif owner in owners or owner in self._owners or not made[name].flags.writeable:
                made[name] = np.array(made[name], order="C")
            owners.add(owner)

    def release_graph(self) -> None:
        """Lets go of what only further programs would be made of: none for sizes that come later."""
        if self._of_sizes is not None:
            self._of_sizes.release()
        for segment in self.segments:
            for branch in segment.compiled if isinstance(segment, BranchStep) else ():
                branch.release_graph()


def _owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory `array` shows."""
    while isinstance(getattr(array, "base", None), np.ndarray):
        array = array.base
    return array


def _may_gain(graph: Graph, segments: list) -> bool:
    """Whether knowing all sizes could make a difference: some are free, and onnxruntime or a branch works on them; or a single
    one is, as a batch, and several programs could be one."""
    sizes = [size for value in graph.inputs for size in ((None,) if value.shape is None else value.shape)]
    free = {size for size in sizes if not isinstance(size, int)}
    if not free or not all(is_array(value.dtype) for value in graph.inputs):
        return False
    if any(segment.kind in ("onnxruntime", "branches") for segment in segments):
        return True
    return len(segments) > 1 and len(free) == 1 and None not in free


class NativeStep:
    """A program of the C core."""

    kind = "native"

    def __init__(self, nodes: list[Node], program: Program, target: Target) -> None:
        self.nodes = nodes
        self.input_ports, self.output_ports = program.input_ports, program.output_ports
        self.reads = [port.name for port in program.input_ports]
        self._sizes = program.sizes
        self.model = _core.Model(program.values, program.steps, program.inputs, program.outputs,
                                 target.isa, target.threads, target.precision)
        self._given = [(port.name, np.dtype(port.dtype)) for port in program.input_ports]
        self.fresh = [port.name for port in program.output_ports]
        self._axes = {role: [(index, port.roles.index(role)) for index, port in enumerate(program.input_ports)
                             if role in port.roles] for role in (BATCH, TIME, SOURCE)}
        self._form: _core.Form | None = None  # of the last call: most calls are like it
        self.is_flat = any(port.sizes for port in program.input_ports)  # nothing of it runs over time
        self._takes_one = not all(BATCH in port.roles for port in (*self.input_ports, *self.output_ports)) and not self.is_flat
        self.steppable = self.model.steppable and not self.is_flat
        quantizes = any(is_dynamic(node) or is_dynamic_product(node) for node in nodes)
        self.steps_add_up = self.steppable and not quantizes  # to what the whole gives, to the bit
        self.before: list[HostStep] = []  # what takes states out of stacked inputs
        self.after: list[HostStep] = []  # and puts them together in outputs

    def stands_for(self, graph: Graph) -> bool:
        """Whether it takes and makes what the graph does, in the same order."""
        return (not self.before and not self.after and self.reads == [value.name for value in graph.inputs]
                and self.fresh == [value.name for value in graph.outputs])

    def run(self, values: dict[str, np.ndarray]) -> None:
        for move in self.before:
            move.run(values)
        self._run_program(values)
        for move in self.after:
            move.run(values)

    def _run_program(self, values: dict[str, np.ndarray]) -> None:
        arrays = tuple([np.ascontiguousarray(values[name], dtype) for name, dtype in self._given])
        made = self.run_again(arrays)
        values.update(zip(self.fresh, self._run_first(arrays) if made is None else made))

    def run_again(self, arrays: tuple) -> tuple[np.ndarray, ...] | None:
        """What the program makes of these, where they have the shapes and dtypes of the last run; else None."""
        return None if self._form is None else self._form.run(arrays)

    def _run_first(self, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """The same for arrays of any shapes that fit the program."""
        for port, array in zip(self.input_ports, arrays):
            if array.ndim != (len(port.roles) or 1):  # ascontiguousarray gives a number an axis
                raise InputError(f"'{port.name}': expected {len(port.roles)} axes, got shape {array.shape}")
        batch, time, source = sizes = self._size(BATCH, arrays), self._size(TIME, arrays), self._size(SOURCE, arrays)
        self.check_batch(batch)
        if source == 0 or (time == 0 and not all(TIME in port.roles for port in self.output_ports)):
            raise InputError("expected at least one time step, got none")
        given = [(array.shape, array.dtype) for array in arrays]
        wanted = [(port.shape(*sizes), np.dtype(port.dtype)) for port in self.output_ports]
        if batch == 0 or time == 0:
            return tuple([np.empty(*one) for one in wanted])
        self._form = form = _core.Form(self.model, given, wanted, sizes, self.explain)
        return form.run(arrays)

    def check_batch(self, batch: int) -> None:
        """Raises InputError for several sequences where some value has no axis for them."""
        if self._takes_one and batch != 1:
            raise InputError(f"this model takes one sequence at a time, got {batch}")

    def _size(self, role: str, arrays: tuple[np.ndarray, ...]) -> int:
        """The batch, time or source size, on which all inputs must agree; the program's where no input has that axis."""
        sizes = [arrays[index].shape[axis] for index, axis in self._axes[role]]
        if sizes and sizes.count(sizes[0]) < len(sizes):
            names = [self.input_ports[index].name for index, _ in self._axes[role]]
            raise InputError(f"inputs of different {role} sizes: {dict(zip(names, sizes))}")
        return sizes[0] if sizes else self._sizes.get(role, 1)

    def explain(self, arrays: tuple[np.ndarray, ...]) -> None:
        """Raises the InputError that names the id which is out of range, if one is."""
        for port, array in zip(self.input_ports, arrays):
            if port.vocabulary is not None:
                check_ids(port, array)


def step_form(native: NativeStep, batch_size: int) -> _core.Form:
    """One time step of a program with one input, for a batch of this size."""
    native.check_batch(batch_size)
    given, made = ([(port.shape(batch_size, None), np.dtype(port.dtype)) for port in ports]
                   for ports in (native.input_ports, native.output_ports))
    return _core.Form(native.model, given, made, (batch_size, 1, 1), native.explain)


def check_ids(port: Port, ids: np.ndarray) -> None:
    wrong = ids[(ids < -port.vocabulary) | (ids >= port.vocabulary)]
    if wrong.size:
        raise InputError(f"input '{port.name}': id {wrong[0]} is outside the vocabulary of {port.vocabulary}")


# ---- from segments to steps ----


def _steps(graph: Graph, facts: Facts, target: Target) -> list[NativeStep | HostStep | ForeignStep | BranchStep]:
    foreign = [node for node in graph.nodes if find(node) is None and not is_choice(node, facts.tensors)]
    if foreign:
        from .foreign import require_runtime

        require_runtime(foreign)
    dtypes = {name: tensor.dtype for name, tensor in facts.tensors.items()}
    containers = {value.name: value.dtype for value in graph.inputs if not is_array(value.dtype)}
    steps = []
    for segment in segments(graph, facts, target.precision == "f32", bool(foreign)):
        if segment.region:
            steps += _native_steps(segment, graph, dtypes, target)
        elif segment.choice:
            steps.append(BranchStep(segment.nodes[0], graph.constants, facts.tensors,
                                    lambda branch: Executable(branch, target)))
        elif segment.foreign:
            steps.append(_foreign_step(segment, graph, facts, containers, target.threads))
        else:
            steps += _host_steps(segment.nodes, graph, dtypes)
    return _with_moves_inside(steps)


def _native_steps(segment: Segment, graph: Graph, dtypes: Mapping[str, str],
                  target: Target) -> list[NativeStep | HostStep]:
    if segment.region.is_flat:
        (program, renaming), target = segment.region.lower(), target._replace(precision="f32")
    else:
        program, renaming = lower(segment.region)
    if not program.steps:
        return _host_steps(segment.nodes, graph, dtypes)
    native = [node for node in segment.nodes if node not in renaming]
    made = {port.name for port in program.output_ports}
    others = [node for node in renaming if node.outputs[0] not in made]
    return [NativeStep(native, program, target), *_host_steps(others, graph, dtypes)]


def _host_steps(nodes: list[Node], graph: Graph, dtypes: Mapping[str, str]) -> list[HostStep]:
    return [HostStep(node, dtypes, graph.constants) for node in nodes]


def _foreign_step(segment: Segment, graph: Graph, facts: Facts, containers: dict[str, str], threads: int) -> ForeignStep:
    from .foreign import ForeignStep

    inside = set(map(id, segment.nodes))
    wanted = [name for node in segment.nodes for name in node.outputs if name and (
        name in facts.outputs or any(id(reader) not in inside for reader in facts.consumers.get(name, ())))]
    return ForeignStep(segment.nodes, wanted, graph.constants, facts.tensors, containers, threads)


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
