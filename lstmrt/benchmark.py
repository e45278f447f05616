"""What `lstmrt bench` measures: how fast a model runs here, beside the least time that its weights and sums can take."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from .execution.native import is_multiplied_ahead
from .execution.roles import TIME, Facts
from .generation import GenerationOptions, settings
from .machine import Limits
from .model import Model
from .operators import is_conv_lstm, is_recurrent, named_inputs
from .random_calls import random_inputs

BYTES = {"f32": 4, "bf16": 2, "int8": 1}  # of a weight; its precisions are precision.PRECISIONS
SCREENED = 1 << 18  # weights of an output layer from which on greedy choice in f32 reads a byte of each, not four
PIECE = 0.02  # seconds of work between two looks at the clock
PROMPT = 8  # ids


@dataclass(frozen=True)
class Work:
    """What one unit needs: bytes of weights read, of which `resident` are read again by the next unit; operations."""

    moved: float
    resident: float
    operations: float

    def floor(self, limits: Limits, precision: str = "f32") -> float:
        """Seconds, whoever does it: the larger of bytes over the bandwidth of the level they stay in and operations over
        the peak that weights of this precision have."""
        read = self.moved / limits.rates[limits.level(self.resident)]
        return max(read, self.operations / limits.peaks[precision])


@dataclass(frozen=True)
class Task:
    """What is repeated: `run(n)` makes `n` units, called `unit`; `work` is one unit's, None where it is not known."""

    unit: str
    run: Callable[[int], object]
    work: Work | None


@dataclass(frozen=True)
class Result:
    """Seconds a unit, and what the machine would allow where that is known."""

    unit: str
    precision: str
    threads: int
    seconds: float
    moved: float | None
    floor: float | None


def measured(task: Task, precision: str, limits: Limits, seconds: float) -> Result:
    """Measures for about `seconds`. Raises what calls of the model raise."""
    taken, work = median_seconds(task.run, seconds), task.work
    if work is None:
        return Result(task.unit, precision, limits.threads, taken, None, None)
    return Result(task.unit, precision, limits.threads, taken, work.moved, work.floor(limits, precision))


def tasks(model: Model, time: int) -> list[Task]:
    """Tokens where the model generates, else steps where it carries states; whole runs always, of `time` steps where the
    model leaves them open."""
    found = []
    if model.generation is not None and model.input_vocabulary is not None:
        found.append(_tokens(model))
    elif len(model.inputs) == 1 and model.native is not None and model.native.steppable and _goes_over_time(model):
        found.append(_steps(model))
    return [*found, _runs(model, time)]


def _goes_over_time(model: Model) -> bool:
    return all(TIME in port.roles for port in model.native.input_ports)


def _tokens(model: Model) -> Task:
    ids = np.arange(PROMPT) % model.input_vocabulary
    window = settings(model, GenerationOptions()).window or 1
    weights, size = Weights.of(model), BYTES[model.precision]
    output = weights.others * (1 if weights.others >= SCREENED else size)
    recurrent = weights.again + weights.inputs
    work = Work(size * recurrent + output, size * recurrent + output, 2 * (window * recurrent + weights.others))
    return Task("token", lambda n: model.generate(ids, max_new_tokens=n), work)


def _steps(model: Model) -> Task:
    state = model.new_state()
    (port,), (array,) = model.native.input_ports, random_inputs(model.source.graph, 1, 1).values()
    x = array.take(0, port.roles.index(TIME)).reshape(port.shape(1, None))
    weights = Weights.of(model).all
    moved = BYTES[model.precision] * weights
    work = Work(moved, moved, 2 * weights) if _reads_weights_once(model) else None

    def run(n: int) -> None:
        for _ in range(n):
            model.step(x, state)

    return Task("step", run, work)


def _runs(model: Model, time: int) -> Task:
    inputs = random_inputs(model.source.graph, 1, time)

    def run(n: int) -> None:
        for _ in range(n):
            model.run(inputs)

    shapes = " ".join(str(array.shape) for array in inputs.values())
    return Task(f"run of {shapes}", run, _work_of_run(model, inputs) if _reads_weights_once(model) else None)


def _reads_weights_once(model: Model) -> bool:
    """Whether all is native and each weight counts once for a row: those of a convolution do for every place of an image."""
    return (model.native is not None and not model.native.is_flat
            and not any(is_conv_lstm(node) for node in model.native.nodes))


def _work_of_run(model: Model, inputs: Mapping[str, np.ndarray]) -> Work:
    weights, size = Weights.of(model), BYTES[model.precision]
    time = max((inputs[port.name].shape[port.roles.index(TIME)] for port in model.native.input_ports
                if TIME in port.roles and port.name in inputs), default=1)
    return Work(size * (time * weights.again + weights.inputs + weights.others), size * weights.again,
                2 * (time * (weights.again + weights.inputs) + weights.others))


@dataclass(frozen=True)
class Weights:
    """How many weights a model reads: `again` at each time step, `inputs` of recurrent layers and `others` once in a run
    at least. Tables are looked up, not read."""

    again: int
    inputs: int
    others: int

    @property
    def all(self) -> int:
        return self.again + self.inputs + self.others

    @classmethod
    def of(cls, model: Model) -> Weights:
        from . import passes

        graph = passes.load(model.source.graph)
        facts = Facts.of(graph, passes.infer_shapes(graph))
        sizes = {name: array.size for name, array in graph.constants.items() if array.ndim > 1}
        again = inputs = others = 0
        for node in graph.nodes:
            if is_recurrent(node):
                given = named_inputs(node)
                again += sizes.get(given["R"], 0)
                inputs += 0 if is_multiplied_ahead(node, facts) else sizes.get(given["W"], 0)
            elif node.op != "Gather":
                others += sum(sizes.get(name, 0) for name in node.inputs)
        return cls(again, inputs, others)


def median_seconds(run: Callable[[int], object], seconds: float) -> float:
    """Of one unit, over pieces that are long enough for the clock."""
    run(1)
    units = 1
    while (taken := _timed(run, units)) < PIECE / 2:
        units *= max(2, int(PIECE / 2 / max(taken, 1e-9) / 2))
    pieces = [_timed(run, units) / units for _ in range(max(3, round(seconds / taken)))]
    return statistics.median(pieces)


def _timed(run: Callable[[int], object], units: int) -> float:
    start = perf_counter()
    run(units)
    return perf_counter() - start
