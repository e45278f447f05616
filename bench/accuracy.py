"""How far each runtime's f32 is from a float64 evaluation of the same recurrent layer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import models
from comparisons import Bench
from lstmrt import reference
from report import Table
from shapes import LayerShape

BATCH, TIME, SEEDS = 16, 24, 4
SIZES = ((64, 150), (100, 128), (257, 256), (512, 512), (384, 1024))  # inputs, hidden
COLUMNS = ("RMS error", "largest, mean", "largest")


def accuracy(bench: Bench) -> Iterator[Table]:
    """Differences of the outputs at every step over four random layers: their root mean square, the mean of each
    sequence's largest, and the largest of all.
    """
    for cell in ("LSTM", "GRU"):
        for inputs, hidden in bench.some(SIZES):
            shape = LayerShape(cell, inputs, hidden, BATCH, TIME)
            errors: dict[str, list[np.ndarray]] = {}
            for seed in range(SEEDS):
                rng = np.random.default_rng(seed)
                layers = (models.random_layer(rng, cell, inputs, hidden),)
                x = models.normal(rng, (BATCH, TIME, inputs), 1)
                exact = reference.run(models.layer_graph(shape, layers), {"x": x})["y"]
                for runtime in (one for one in bench.those_with("sequence") if one.precision == "f32"):
                    found = runtime.sequence(shape, layers, x).output()
                    errors.setdefault(runtime.name, []).append(found - exact)
            rows = {name: summary(np.concatenate(found)) for name, found in errors.items()}
            yield Table(f"accuracy: {shape}", COLUMNS, rows)


def summary(errors: np.ndarray) -> tuple[float, float, float]:
    """The three columns for errors (sequences, time, hidden)."""
    largest = np.abs(errors).max((1, 2))
    return float(np.sqrt(np.mean(np.square(errors)))), float(largest.mean()), float(largest.max())
