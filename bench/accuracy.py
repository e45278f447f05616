"""How far each runtime's f32 is from a float64 evaluation of the same recurrent layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import models
from models import Layer
from report import Table

BATCH, TIME = 16, 24
SIZES = ((64, 150), (100, 128), (257, 256), (512, 512), (384, 1024))  # inputs, hidden
COLUMNS = ("RMS error", "largest, mean", "largest")

Outputs = Callable[[np.ndarray], np.ndarray]  # x (batch, time, inputs) -> y (batch, time, hidden)


def accuracy(rounds: int = 4) -> Iterator[Table]:
    """Differences of the outputs at every step over `rounds` random layers: their root mean square, the mean of each
    sequence's largest, and the largest of all.
    """
    runtimes = {"lstmrt": run_lstmrt, "onnxruntime": run_onnxruntime, "TensorFlow": run_tensorflow}
    for cell in ("LSTM", "GRU"):
        for inputs, hidden in SIZES:
            errors: dict[str, list[np.ndarray]] = {}
            notes = set()
            for seed in range(rounds):
                rng = np.random.default_rng(seed)
                layer = models.random_layer(rng, cell, inputs, hidden)
                x = models.normal(rng, (BATCH, TIME, inputs), 1)
                exact = run_reference(cell, layer)(x)
                for name, make in runtimes.items():
                    try:
                        errors.setdefault(name, []).append(make(cell, layer)(x) - exact)
                    except ImportError as missing:
                        notes.add(f"{name}: not measured ({missing})")
            rows = {name: summary(np.concatenate(found)) for name, found in errors.items() if found}
            yield Table(f"accuracy: {cell} {inputs} -> {hidden}", COLUMNS, rows, sorted(notes))


def summary(errors: np.ndarray) -> tuple[float, float, float]:
    """The three columns for errors (sequences, time, hidden)."""
    largest = np.abs(errors).max((1, 2))
    return float(np.sqrt(np.mean(np.square(errors)))), float(largest.mean()), float(largest.max())


def run_reference(cell: str, layer: Layer) -> Outputs:
    from lstmrt import reference

    graph = models.one_layer(cell, layer)
    return lambda x: reference.run(graph, {"x": x})["y"]


def run_lstmrt(cell: str, layer: Layer) -> Outputs:
    from lstmrt.compile import compile_graph

    executable = compile_graph(models.one_layer(cell, layer))
    return lambda x: executable.run({"x": x})["y"]


def run_onnxruntime(cell: str, layer: Layer) -> Outputs:
    from runtimes import onnxruntime_session

    session = onnxruntime_session(models.one_layer(cell, layer))
    return lambda x: session.run(None, {"x": x})[0]


def run_tensorflow(cell: str, layer: Layer) -> Outputs:
    from runtimes import keras_layer

    recurrent = keras_layer(cell, layer)
    return lambda x: recurrent(x).numpy()
