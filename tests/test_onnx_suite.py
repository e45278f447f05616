"""The onnx package's own node tests, by its own runner: recurrent operators, and every operator that lstmrt knows."""

from __future__ import annotations

import unittest
import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx.backend.test import BackendTest  # noqa: E402  (after the skip)
from onnx.backend.test.runner import Runner  # noqa: E402

import lstmrt.onnx_backend as backend  # noqa: E402
from lstmrt.converters.from_onnx import from_proto  # noqa: E402
from lstmrt.errors import LstmrtError  # noqa: E402
from lstmrt.graph import Graph  # noqa: E402
from lstmrt.operators import find  # noqa: E402
from onnx_suite import cases  # noqa: E402

RECURRENT = ("test_lstm_", "test_gru_", "test_rnn_", "test_simple_rnn_")
# Six tests draw random numbers: Dropout's of training.
REFUSED = ("test_training_dropout",)
CASES = cases()


def graph_of(case) -> Graph | None:
    try:
        return from_proto(case.model)
    except LstmrtError:
        return None


def is_ours(case) -> bool:
    """Whether the case asks for operators of the table alone."""
    graph = graph_of(case)
    return graph is not None and all(find(node) is not None for node in graph.nodes) and not case.name.startswith(REFUSED)


OURS = {case.name for case in CASES if is_ours(case)}


def test_the_suite_has_what_is_run_here():
    assert sum(name.startswith(RECURRENT) for name in OURS) == 18
    assert len(OURS) > 800


def suite() -> type[unittest.TestCase]:
    """The runner's node tests on the CPU, without those of foreign operators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = BackendTest(backend, __name__).test_cases["OnnxBackendNodeModelTest"]
    for name in [name for name in vars(tests) if name.startswith("test_") and name.removesuffix("_cpu") not in OURS]:
        delattr(tests, name)
    return tests


OnnxBackendNodeTest = suite()


@pytest.fixture(autouse=True)
def quiet():
    """Some tests divide by zero or overflow on purpose."""
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize("name", sorted(case.name for case in CASES if case.name.startswith(RECURRENT)))
def test_recurrent_nodes_run_natively(name):
    """The suite has weights as inputs, which runs with NumPy; with weights that are constants the same comes out."""
    case = next(case for case in CASES if case.name == name)
    ((inputs, outputs),) = case.data_sets
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    weights = list(model.graph.input)[1:]
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, value.name)
                                   for value, array in zip(weights, inputs[1:], strict=True))
    del model.graph.input[1:]
    prepared = backend.prepare(model)
    assert "native" in prepared.kinds
    Runner.assert_similar_outputs(outputs, prepared.run(inputs[:1]), case.rtol, atol=1e-6)


# ---- the backend itself ----


def test_one_node():
    node = onnx.helper.make_node("Gemm", ["a", "b", "", ], ["y"], transB=1)
    a, b = np.float32([[1, 2, 3]]), np.float32([[1, 0, 1], [0, 2, 0]])
    (y,) = backend.run_node(onnx.helper.make_node("Gemm", ["a", "b"], ["y"], transB=1), [a, b])
    np.testing.assert_array_equal(y, a @ b.T)
    (y,) = backend.run_node(node, [a, b])
    np.testing.assert_array_equal(y, a @ b.T)


def test_devices():
    assert backend.supports_device("CPU") and backend.supports_device("CPU:0")
    assert not backend.supports_device("CUDA")


def test_a_model_with_a_fault_is_refused():
    model = CASES[0].model
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    broken.graph.node[0].input[0] = "nobody"
    with pytest.raises(LstmrtError, match="nobody"):
        backend.prepare(broken)
