"""The groups about lstmrt itself: denormals, threads, the cost of a call, and what it weighs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np

import models
import shapes
from comparisons import PROMPT, Bench
from lstmrt.format import ModelFile, write
from lstmrt.generation_config import GenerationDefaults
from measure import Program, Timing, in_turn, repeat
from report import Table
from runtimes import Generate
from shapes import LayerShape, TokenShape

SPREAD = ("median", "25 %", "75 %")
DENORMAL = 1e-39  # a value that float32 holds with few bits, and that plain arithmetic is slow at
FORECASTER = LayerShape("LSTM", 64, 256)
ROOT = Path(__file__).parents[1]


def decay(bench: Bench) -> Iterator[Table]:
    """A state that has decayed to denormals against an ordinary one: the same steps of the same layer."""
    (layer,) = models.random_layers(FORECASTER)
    layers = (replace(layer, B=np.zeros_like(layer.B)),)
    inputs = {"ordinary": models.random_input(FORECASTER), "decayed": DENORMAL * models.random_input(FORECASTER)}
    calls = {
        (runtime.name, kind): runtime.step(FORECASTER, layers, x.astype(np.float32)).run
        for runtime in bench.those_with("step")
        for kind, x in inputs.items()
    }
    timings = in_turn({key: repeat(run) for key, run in calls.items()}, bench.rounds)
    rows = {}
    for runtime in bench.those_with("step"):
        ordinary, decayed = (timings[runtime.name, kind].median for kind in inputs)
        rows[runtime.name] = (ordinary, decayed, decayed / ordinary)
    yield Table(f"decay: {FORECASTER}: us a step", (*inputs, "times"), rows)


def threads(bench: Bench) -> Iterator[Table]:
    """Two threads against one: of Python, on one model, and of lstmrt, in one call."""
    yield python_threads(bench)
    yield threads_of_a_call(bench)


def python_threads(bench: Bench) -> Table:
    ours = type(bench.runtimes[0])(1)
    windows = ours.window(models.random_weights(shapes.TUTORIAL), shapes.WINDOW)
    cases: dict[str, Generate] = {f"window {shapes.WINDOW}, {shapes.TUTORIAL}": windows}
    for shape in bench.some(shapes.TOKENS):
        cases[str(shape)] = ours.greedy(models.random_weights(shape), 1).generate
    rows = {}
    with ThreadPoolExecutor(2) as pool:
        for title, generate in cases.items():
            programs = {n: Program(at_once(pool, generate, n), 1000) for n in (1, 2)}
            timings = in_turn(programs, bench.rounds)
            rows[title] = (*spread(timings[1]), *spread(timings[2]), 2 * timings[1].median / timings[2].median)
    columns = ("one", "25 %", "75 %", "two", "25 %", "75 %", "work of two")
    return Table("threads: Python threads on one model: us a token of each", columns, rows)


def threads_of_a_call(bench: Bench) -> Table:
    one, two = (type(bench.runtimes[0])(n) for n in (1, 2))
    rows = {}
    for shape in bench.some(shapes.TOKENS):
        weights = models.random_weights(shape)
        rows[str(shape)] = two_over_one(bench, [runtime.greedy(weights, 1).generate for runtime in (one, two)])
    for shape in bench.some(shapes.SEQUENCES) + bench.some(shapes.BATCHES):
        layers, x = models.random_layers(shape), models.random_input(shape)
        calls = [runtime.sequence(shape, layers, x).run for runtime in (one, two)]
        rows[str(shape)] = two_over_one(bench, [lambda prompts, n, call=call: call() for call in calls], 1)
    for stack in bench.some(shapes.STACKS):
        graph = models.stack_graph(stack)
        x = models.random_input(LayerShape(stack.cell, stack.hidden, stack.hidden, time=stack.time))
        loaded = [runtime.load(graph) for runtime in (one, two)]
        rows[str(stack)] = two_over_one(bench, [lambda prompts, n, model=model: model(x) for model in loaded], 1)
    return Table("threads: of one call: us a token, or a call", ("one", "two", "times as fast"), rows)


def two_over_one(bench: Bench, generates: list[Generate], most: int = 1000) -> tuple[float, float, float]:
    prompts = np.array([PROMPT])
    programs = {i: Program(lambda n, run=run: run(prompts, n), most) for i, run in enumerate(generates)}
    one, two = (timing.median for timing in in_turn(programs, bench.rounds).values())
    return one, two, one / two


def at_once(pool: ThreadPoolExecutor, generate: Generate, workers: int) -> Callable[[int], object]:
    return lambda n: list(pool.map(lambda _: generate(np.array([PROMPT]), n), range(workers)))


def call(bench: Bench) -> Iterator[Table]:
    """What lstmrt itself costs around the arithmetic: calls on a model of four units."""
    weights = models.random_weights(TokenShape("LSTM", 8, 4, 4))
    model = bench.runtimes[0].load(models.keras_like(weights), GenerationDefaults("stateful"))
    state = model.new_state()
    x_t, x = np.array([1]), np.array([[1]])
    programs = {
        "model.step(x_t, state)": repeat(lambda: model.step(x_t, state)),
        "model(x)": repeat(lambda: model(x)),
        "model.new_state()": repeat(model.new_state),
        "a token inside generate": Program(lambda n: model.generate(PROMPT, max_new_tokens=n), 100_000),
    }
    rows = {name: spread(timing) for name, timing in in_turn(programs, bench.rounds).items()}
    yield Table("call: LSTM of 4 units: us", SPREAD, rows)


def spread(timing: Timing) -> tuple[float, float, float]:
    return timing.median, timing.low, timing.high


# ---- what it weighs ----

STARTUP = """
import resource, time
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
import numpy
start, before = time.perf_counter(), resident()
{imports}
imported = time.perf_counter() - start
start = time.perf_counter()
{load}
print(1e3 * imported, 1e3 * (time.perf_counter() - start), (resident() - before) / 1e6)
"""
IMPORTS = {
    "lstmrt": "import lstmrt; lstmrt.load",
    "onnxruntime": "import onnxruntime",
    "openvino": "import openvino",
    "torch": "import torch",
    "tensorflow": "import tensorflow",
}


def footprint(bench: Bench) -> Iterator[Table]:
    """Fresh interpreters, each with NumPy already there: importing, loading a model of 5 MB, the memory of both."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.lstmrt"
        weights = models.random_weights(TokenShape("LSTM", 100, 256, 430))
        write(path, ModelFile(models.keras_like(weights), generation=GenerationDefaults("stateful")))
        size = path.stat().st_size
        loads = {"lstmrt": f"model = lstmrt.load({str(path)!r})"}
        rows = {}
        for name, imports in IMPORTS.items():
            if not (name == "lstmrt" or installed_bytes(name)):
                continue
            program = STARTUP.format(imports=imports, load=loads.get(name, "pass"))
            fresh(program, folder)
            found = np.array([fresh(program, folder) for _ in range(3 if bench.quick else 7)])
            imported, loaded, memory = np.median(found, axis=0)
            rows[name] = (imported, loaded if name in loads else None, memory, installed_bytes(name) / 1e6)
    notes = [f"load: a .lstmrt of {size / 1e6:.2f} MB; its memory is counted in"]
    if (ROOT / "pyproject.toml").exists():
        notes.append(f"lstmrt's wheel: {wheel_bytes() / 1e6:.2f} MB")
    yield Table("footprint, over NumPy's", ("import ms", "load ms", "memory MB", "installed MB"), rows, notes)


def fresh(program: str, folder: str) -> list[float]:
    """What an interpreter of its own prints, started where no source tree is."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # compiled files are kept, as an installed package's are
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


def installed_bytes(name: str) -> int:
    """Of the files that its package has; 0 where it is not installed."""
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        return 0
    return sum(file.size or 0 for file in files)


def wheel_bytes() -> int:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*command, "--wheel-dir", folder, str(ROOT)], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        return wheel.stat().st_size
