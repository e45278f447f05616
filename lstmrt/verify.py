"""Does a model still say what it should? Stored vectors, and the original framework where it is installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .containers import is_array
from .errors import InputError, MissingDependencyError, UnsupportedError
from .format import SelfTest
from .graph import Graph
from .loading import load
from .model import Model
from .operators import is_dynamic
from .random_calls import record

# Of the largest magnitude in an output, and absolute below 1: float32 sums in another order; with reduced weights, which the
# vectors are made from too, also what they are multiplied with in fewer bits. Where that becomes bytes, a number that lies in the
# middle between two may become either.
TOLERANCES = {"f32": 1e-5, "bf16": 3e-2, "int8": 3e-3}
BYTES_TOLERANCE = 2e-2


@dataclass(frozen=True)
class Comparison:
    """An output's largest absolute error, against what, and the largest that is accepted."""

    output: str
    against: str
    error: float
    allowed: float

    @property
    def good(self) -> bool:
        return self.error <= self.allowed  # False for NaN


def verify(path: str | os.PathLike, source: str | os.PathLike | None = None) -> list[Comparison]:
    """Replays the vectors that the file `path` holds, or for a file that holds none the float64 reference; and with
    `source`, the file that it was converted from, runs that in its own framework.

    Raises all that `load` does, MissingDependencyError where the framework is not installed, UnsupportedError where
    there is nothing to compare with.
    """
    model = load(path)
    test = model.source.selftest or record(model.source.graph)
    if test is None and source is None:
        raise UnsupportedError(f"{os.fspath(path)}: holds no vectors, and none can be made: an operator of it has no reference, "
                               "or it takes no sizes that were tried")
    found = []
    if test is not None:
        found += _compare(model, test, model.provenance.get("selftest", "float64 reference"))
    if source is not None:
        inputs = test.inputs if test is not None else _zeros(model.source.graph)
        against, run = _framework(source)
        try:
            made = run(inputs)
        except Exception as error:  # whatever a framework raises for a file that it cannot read or run
            raise UnsupportedError(f"{os.fspath(source)}: {against} cannot run it: {error}") from error
        outputs = dict(zip([value.name for value in model.outputs], made))
        found += _compare(model, SelfTest(inputs, outputs), against)
    return found


def _compare(model: Model, test: SelfTest, against: str) -> list[Comparison]:
    made = model.run(test.inputs)
    tolerance = TOLERANCES[model.precision]
    if any(is_dynamic(node) or node.op == "DynamicQuantizeLinear" for node in model.source.graph.nodes):
        tolerance = BYTES_TOLERANCE
    found = []
    for name, expected in test.outputs.items():
        found_here, expected = _numbers(made[name]), _numbers(expected)
        if found_here.shape != expected.shape:
            raise InputError(f"output '{name}': {against} gives shape {expected.shape}, lstmrt {found_here.shape}")
        error = float(np.abs(found_here - expected).max(initial=0.0))
        found.append(Comparison(name, against, error, tolerance * max(1.0, float(np.abs(expected).max(initial=0.0)))))
    return found


def _numbers(value: np.ndarray | list[np.ndarray] | None) -> np.ndarray:
    """Of a sequence those of all its arrays side by side; none of None."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64)
    return np.concatenate([np.zeros(0), *map(np.ravel, value or ())])


def _zeros(graph: Graph) -> dict[str, np.ndarray]:
    if odd := [value for value in graph.inputs if not is_array(value.dtype)]:
        raise UnsupportedError(f"input '{odd[0].name}' is no array but {odd[0].dtype}: nothing tells what to put in")
    return {value.name: np.zeros([size if isinstance(size, int) else 1 for size in value.shape or ()], value.dtype)
            for value in graph.inputs}


# ---- the frameworks ----


def _framework(path: str | os.PathLike) -> tuple[str, Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]]:
    """The name of the framework that wrote `path`, and a function that runs the file there."""
    from .converters import load_source

    source = load_source(path)
    name = f"{source.framework} {source.version}".strip()
    if source.framework == "onnx":
        return name, _onnxruntime(path)
    return name, _keras(path, old=source.version.startswith(("1.", "2.")))


def _keras(path: str | os.PathLike, old: bool) -> Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]:
    try:
        if old:
            from tf_keras.models import load_model
        else:
            from keras.saving import load_model
    except ImportError as error:
        package = "tf-keras" if old else "keras and tensorflow"
        raise MissingDependencyError(f"comparing with Keras needs {package}: pip install lstmrt[test]") from error

    def run(inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        model = load_model(os.fspath(path), compile=False)
        return _as_list(model.predict(next(iter(inputs.values())), verbose=0))

    return run


def _as_list(outputs: Any) -> list[np.ndarray]:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def _onnxruntime(path: str | os.PathLike) -> Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError("comparing with onnxruntime needs it: pip install lstmrt[onnx]") from error

    def run(inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
        return session.run(None, dict(inputs))

    return run
