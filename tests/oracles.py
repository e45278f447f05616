"""Graphs run by onnxruntime and by the reference, and how far apart two results may be."""

from __future__ import annotations

from typing import Mapping

import numpy as np
import pytest

from lstmrt import reference
from lstmrt.converters.to_onnx import to_onnx_model
from lstmrt.graph import Graph


def run_onnxruntime(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What onnxruntime makes of the graph as an ONNX file; skips the test where it is not installed."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        to_onnx_model(graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in graph.outputs]
    return dict(zip(names, session.run(names, dict(inputs))))


def exact(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs in float64."""
    return reference.run(graph, inputs)


def assert_close(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], error: float = 2e-5) -> None:
    """The same names and shapes; each array within `error` times its own largest magnitude, or 1."""
    assert list(got) == list(wanted)
    for name, expected in wanted.items():
        assert got[name].shape == expected.shape, name
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(got[name], expected, rtol=0, atol=error * scale, err_msg=name)
