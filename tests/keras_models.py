"""Small models of Keras 3 and tf-keras with random weights, saved and compared with what lstmrt makes of the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import lstmrt

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FRAMEWORKS = ("keras", "tf_keras")
CONTAINERS = (".keras", ".h5")
BATCH, TIME, FEATURES, VOCABULARY, UNITS = 5, 7, 3, 11, 5

# One row for each place where masked steps can be: 0 is the masked id.
IDS = np.array([[0, 0, 0, 4, 1, 9, 2],
                [3, 10, 7, 5, 0, 0, 0],
                [6, 8, 0, 0, 1, 0, 2],
                [0, 0, 0, 0, 0, 0, 0],
                [1, 2, 3, 4, 5, 6, 7]])
# Called after each comparison with what tells the model's configuration, the version of Keras, the container and the
# largest error: docs/KERAS.md is made of them.
WATCHERS: list[Callable[[Callable[[], str], str, str, float], None]] = []
VECTORS = np.random.default_rng(7).standard_normal((BATCH, TIME, FEATURES)).astype(np.float32)


def framework(name: str) -> ModuleType:
    """The framework; skips the test where it is not installed."""
    keras = pytest.importorskip(name, reason=f"{name} is not installed")
    if name == "tf_keras":
        _register_without_gradients()
    return keras


def _register_without_gradients() -> None:
    """tf_keras builds the gradients of each recurrent layer with a mask whenever one is called: most of a test's time, and
    nothing is trained here."""
    from tf_keras.src.layers.rnn import gru_lstm_utils

    def register(function, *args, **kwargs):
        concrete = function.get_concrete_function(*args, **kwargs)
        concrete.add_to_graph()
        return concrete

    gru_lstm_utils.function_register = register


def sequential(keras: ModuleType, *layers, ids: bool = False, mask_zero: bool = False, time: int | None = TIME,
               batch: int | None = None, scale: float = 0.5):
    """`layers` behind an input of vectors, or of ids with an Embedding, and random weights of this scale.

    Biases are random too, so that no weight can stand for another.
    """
    start = [keras.Input(batch_shape=(batch, time) if ids else (batch, time, FEATURES))]
    if ids:
        start.append(keras.layers.Embedding(VOCABULARY, FEATURES, mask_zero=mask_zero))
    return with_random_weights(keras.Sequential([*start, *layers]), scale)


def with_random_weights(model, scale: float = 0.5):
    random = np.random.default_rng(1599)
    model.set_weights([scale * random.standard_normal(array.shape) for array in model.get_weights()])
    return model


def save(model, folder: Path, container: str) -> Path:
    path = folder / f"model{container}"
    model.save(path)
    return path


def outputs_of(model, *inputs: np.ndarray) -> list[np.ndarray]:
    """What the framework's model gives, in the order of its outputs."""
    made = model(inputs[0] if len(inputs) == 1 else list(inputs))
    made = list(made.values()) if isinstance(made, dict) else made if isinstance(made, (list, tuple)) else [made]
    return [np.asarray(array) for array in made]


def assert_parity(model, folder: Path, *inputs: np.ndarray, containers=CONTAINERS, error: float = 2e-6):
    """From each container lstmrt gives what `model` gives, to within `error` times the largest value, or 1.

    Returns the model as lstmrt loaded it from the last container.
    """
    expected = outputs_of(model, *inputs)
    for container in containers:
        loaded = lstmrt.load(save(model, folder, container))
        found = loaded(*inputs)
        compare(model.to_json, loaded.provenance["version"], container,
                found if isinstance(found, tuple) else (found,), expected, error)
    return loaded


def compare(config: Callable[[], str], version: str, container: str, found: Sequence[np.ndarray],
            expected: Sequence[np.ndarray], error: float = 2e-6) -> None:
    """assert_close, and WATCHERS are told."""
    assert_close(found, expected, error, container)
    largest = max(float(np.abs(got - wanted).max(initial=0)) / scale_of(wanted) for got, wanted in zip(found, expected))
    for watch in WATCHERS:
        watch(config, version, container, largest)


def scale_of(wanted: np.ndarray) -> float:
    return max(1.0, float(np.abs(wanted).max(initial=0)))


def assert_close(found, expected, error: float = 2e-6, message: str = "") -> None:
    assert len(found) == len(expected), message
    for i, (got, wanted) in enumerate(zip(found, expected)):
        where = f"{message} output {i}"
        assert got.shape == wanted.shape, where
        np.testing.assert_allclose(got, wanted, rtol=0, atol=error * scale_of(wanted), err_msg=where)
