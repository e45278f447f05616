"""The groups that compare runtimes: each is a generator of comparisons. What does not agree with lstmrt is not timed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np

import floors
import models
import shapes
from lstmrt.benchmark import BYTES, Work
from lstmrt.machine import Limits
from measure import Program, Timing, in_turn, repeat
from report import Comparison, Row, figure
from runtimes import Generate, Greedy
from shapes import LayerShape, TokenShape

ALLOWED = {"f32": 1e-3, "bf16": 0.1, "int8": 0.3}  # difference of an output, which is at most 1
ALLOWED_TOKENS = 0.25  # of the steps of a reduced precision; none of f32
PROMPT = (1, 2, 3, 4)
CHECKED, TIMED = 100, 200  # tokens
CALLS = 3  # that are compared: enough for carried states to be seen to be carried


@dataclass(frozen=True)
class Bench:
    """What all groups share. `runtimes` are made already, lstmrt's f32 first."""

    runtimes: list
    limits: Limits
    threads: int
    rounds: int
    quick: bool

    def those_with(self, method: str) -> list:
        return [runtime for runtime in self.runtimes if hasattr(runtime, method)]

    def some(self, all_of_them: tuple) -> tuple:
        return all_of_them[:2] if self.quick else all_of_them


def step(bench: Bench) -> Iterator[Comparison]:
    """One time step, states carried from call to call, as Python calls it."""
    for shape in bench.some(shapes.STEPS):
        yield layer_comparison(bench, "step", "step", shape)


def sequence(bench: Bench) -> Iterator[Comparison]:
    """A whole sequence in one call, batch 1."""
    for shape in bench.some(shapes.SEQUENCES):
        yield layer_comparison(bench, "sequence", "sequence", shape)


def batch(bench: Bench) -> Iterator[Comparison]:
    """Many sequences in one call; at last some of very different lengths."""
    for shape in bench.some(shapes.BATCHES):
        yield layer_comparison(bench, "batch", "sequence", shape)
    yield ragged_comparison(bench)


def token(bench: Bench) -> Iterator[Comparison]:
    """Greedy tokens with carried states: embedding, recurrent layers, output layer, argmax."""
    for shape in bench.some(shapes.TOKENS):
        yield token_comparison(bench, "token", shape, 1)


def streams(bench: Bench) -> Iterator[Comparison]:
    """The same for several texts at once."""
    for shape in bench.some(shapes.STREAMS):
        for count in bench.some(shapes.STREAM_COUNTS):
            yield token_comparison(bench, "streams", shape, count)


def tutorial(bench: Bench) -> Iterator[Comparison]:
    """The next-word tutorials' loop: a window of words through Embedding, LSTM and Dense again for each new word."""
    shape, window = shapes.TUTORIAL, shapes.WINDOW
    weights = models.random_weights(shape)
    programs = {runtime: runtime.window(weights, window) for runtime in bench.those_with("window")}
    text = np.array([*PROMPT, *programs[bench.runtimes[0]](np.array([PROMPT]), 20)[0]])
    off = {runtime: float(np.mean([generate(text[None, :end], 1)[0, 0] != text[end] for end in range(len(PROMPT), len(text))]))
           for runtime, generate in programs.items()}
    work = {precision: floors.token_work(shape, precision, rows=window) for precision in BYTES}
    yield compared(bench, "tutorial", f"window {window}, {shape}", "word", asdict(shape), off, work, writing(programs, 1))


# ---- the parts ----


def layer_comparison(bench: Bench, group: str, method: str, shape: LayerShape) -> Comparison:
    layers, x = models.random_layers(shape), models.random_input(shape)
    calls = {runtime: getattr(runtime, method)(shape, layers, x) for runtime in bench.those_with(method)}
    outputs = {runtime: np.stack([call.output() for _ in range(CALLS)]) for runtime, call in calls.items()}
    expected = outputs[bench.runtimes[0]]
    off = {runtime: float(np.abs(found - expected).max()) for runtime, found in outputs.items()}
    work = {precision: floors.layer_work(shape, precision) for precision in BYTES}
    programs = {runtime: repeat(call.run) for runtime, call in calls.items()}
    return compared(bench, group, str(shape), "step", asdict(shape), off, work, programs, shape.time)


def ragged_comparison(bench: Bench) -> Comparison:
    """A unit is a step of one sequence that counts."""
    shape, lengths = shapes.RAGGED, np.array(shapes.LENGTHS)
    layers, x = models.random_layers(shape), models.random_input(shape)
    calls = {runtime: runtime.ragged(shape, layers, x, lengths) for runtime in bench.those_with("ragged")}
    outputs = {runtime: call.output() for runtime, call in calls.items()}
    expected = outputs[bench.runtimes[0]]
    off = {runtime: float(np.abs(found - expected).max()) for runtime, found in outputs.items()}
    one_row = LayerShape(shape.cell, shape.inputs, shape.hidden, batch=1, time=shape.time)
    work = {precision: floors.layer_work(one_row, precision) for precision in BYTES}
    programs = {runtime: repeat(call.run) for runtime, call in calls.items()}
    name = f"{shape}, lengths {min(lengths)} to {max(lengths)}"
    return compared(bench, "batch", name, "step", asdict(shape), off, work, programs, int(lengths.sum()))


def token_comparison(bench: Bench, group: str, shape: TokenShape, count: int) -> Comparison:
    weights = models.random_weights(shape)
    loops = {runtime: runtime.greedy(weights, count) for runtime in bench.those_with("greedy")}
    prompts = several_prompts(count)
    text = loops[bench.runtimes[0]].generate(prompts, CHECKED)
    off = {runtime: differing(runtime, loop, prompts, text) for runtime, loop in loops.items()}
    work = {precision: floors.token_work(shape, precision, count, count) for precision in BYTES}
    name = str(shape) if group == "token" else f"{count} x {shape}"
    facts = {**asdict(shape), "streams": count}
    programs = writing({runtime: loop.generate for runtime, loop in loops.items()}, count)
    return compared(bench, group, name, "token" if group == "token" else "token of each", facts, off, work, programs)


def several_prompts(count: int) -> np.ndarray:
    """(count, length): the same ids, each time in another order."""
    return np.array([np.roll(PROMPT, i) for i in range(count)])


def writing(loops: Mapping[object, Generate], count: int) -> dict[object, Program]:
    """Whole calls, prompt included; a unit is a token of every stream."""
    prompts = several_prompts(count)
    return {runtime: Program(lambda n, loop=loop: loop(prompts, n), TIMED) for runtime, loop in loops.items()}


def differing(runtime: object, loop: Greedy, prompts: np.ndarray, text: np.ndarray) -> float:
    """The share of tokens that are not lstmrt's: of the text it writes itself in f32, else, since one other token
    changes all that follow, of the next tokens when it is told lstmrt's text."""
    if runtime.precision == "f32":
        return float(np.mean(loop.generate(prompts, text.shape[1]) != text))
    states = loop.start()
    given = np.concatenate([prompts, text], axis=1)
    nexts = np.stack([loop.step(states, ids) for ids in given.T.copy()], axis=1)
    return float(np.mean(nexts[:, prompts.shape[1] - 1 : -1] != text))


def compared(
    bench: Bench,
    group: str,
    work_name: str,
    unit: str,
    shape: dict,
    off: Mapping[object, float],
    work: Mapping[str, Work],
    programs: Mapping[object, Program],
    units_a_call: int = 1,
) -> Comparison:
    """Times the programs of all runtimes that agree."""
    tokens = group in ("token", "streams", "tutorial")
    limit = {runtime: allowed(runtime.precision, tokens) for runtime in programs}
    agreeing = {runtime: program for runtime, program in programs.items() if off[runtime] <= limit[runtime]}
    notes = [
        f"{runtime.name}: not timed, it does not agree: off by {figure(off[runtime])}"
        for runtime in programs
        if runtime not in agreeing
    ]
    timings = in_turn(agreeing, bench.rounds)
    rows = []
    for runtime, timing in timings.items():
        ours = runtime.name.startswith("lstmrt")
        need = work[runtime.precision]
        rows.append(
            Row(
                runtime.name,
                runtime.precision,
                Timing(*(value / units_a_call for value in (timing.median, timing.low, timing.high))),
                off[runtime],
                need.moved if ours else None,
                1e6 * need.floor(bench.limits, runtime.precision) if ours else None,
            )
        )
    return Comparison(group, work_name, unit, bench.threads, shape, rows, notes)


def allowed(precision: str, tokens: bool) -> float:
    if tokens:
        return 0 if precision == "f32" else ALLOWED_TOKENS
    return ALLOWED[precision]
