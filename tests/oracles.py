"""Graphs run by onnxruntime and by the reference, and how far apart two results may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
from hypothesis import assume

from lstmrt import reference
from lstmrt.converters.to_onnx import to_onnx_model
from lstmrt.graph import Graph, Value

SHAKE = 2.0**-20  # 16 roundings of float32: about what a float32 sum of a few hundred products gathers
LARGEST = 1e3  # beyond it a recurrence is running away, and no two float32 results agree
WORST_SHARE = 1e-3  # of a result's own magnitude: a graph whose rounding errors grow beyond it shows nothing

Arrays = Mapping[str, np.ndarray]


def _before(release: tuple[int, int]) -> bool:
    try:
        return tuple(map(int, version("onnxruntime").split(".")[:2])) < release
    except PackageNotFoundError:
        return False


# Wrong where an RNN goes over no steps, and ends the process where its directions have different functions (seen in
# 1.23 to 1.27, not in 1.30).
OLD_ONNXRUNTIME = _before((1, 30))


def run_onnxruntime(graph: Graph, inputs: Arrays) -> dict[str, np.ndarray]:
    """What onnxruntime makes of the graph as an ONNX file; skips the test where it is not installed."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        to_onnx_model(graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in graph.outputs]
    return dict(zip(names, session.run(names, dict(inputs))))


def exact(graph: Graph, inputs: Arrays) -> dict[str, np.ndarray]:
    """The outputs in float64."""
    return reference.run(graph, inputs)


def exact_with_tolerances(graph: Graph, inputs: Arrays) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The outputs in float64, and for each by how much a float32 result may differ from it.

    The tolerance is measured: what comes out when every weight and input moves by a few float32 roundings. Hypothesis
    draws another graph where some value, inner ones too, runs away (Relu or Affine gates can make it).
    """
    inner = [name for node in graph.nodes for name in node.outputs if name]
    everything = replace(graph, outputs=tuple(Value(name, "float32", None) for name in inner))
    with np.errstate(all="ignore"):
        values = reference.run(everything, inputs)
        assume(all(np.abs(array).max(initial=0) < LARGEST for array in values.values()))
        shaken = reference.run(_shaken(graph), _shaken_arrays(inputs, np.random.default_rng(1)))
    outputs = {value.name: values[value.name] for value in graph.outputs}
    tolerances = {}
    for name, array in outputs.items():
        scale = max(1.0, float(np.abs(array).max(initial=0)))
        tolerances[name] = 2e-6 * scale + 4 * float(np.abs(shaken[name] - array).max(initial=0))
        assume(tolerances[name] < WORST_SHARE * scale)
    return outputs, tolerances


def _shaken(graph: Graph) -> Graph:
    return replace(graph, constants=_shaken_arrays(graph.constants, np.random.default_rng(0)))


def _shaken_arrays(arrays: Arrays, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {name: array * (1 + SHAKE * rng.uniform(-1, 1, array.shape)) if array.dtype.kind == "f" else array
            for name, array in arrays.items()}


def assert_close(got: Arrays, wanted: Arrays, tolerances: Mapping[str, float]) -> None:
    """The same names in the same order, the same shapes, and each array within its tolerance."""
    assert list(got) == list(wanted)
    for name, expected in wanted.items():
        assert got[name].shape == expected.shape, name
        np.testing.assert_allclose(got[name], expected, rtol=0, atol=tolerances[name], err_msg=name)
