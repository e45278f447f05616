"""The float64 reference: against onnxruntime on random graphs, and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from oracles import assert_close, exact_with_tolerances, run_onnxruntime
from strategies import recurrent_graphs

from lstmrt import reference
from lstmrt.errors import InputError, UnsupportedError
from lstmrt.graph import EXTENSION, Graph, Node, Value


@settings(max_examples=100, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(case=recurrent_graphs())
def test_agrees_with_onnxruntime_on_random_graphs(case):
    wanted, tolerances = exact_with_tolerances(case.graph, case.inputs)
    assert_close(run_onnxruntime(case.graph, case.inputs), wanted, tolerances)


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def run_node(node: Node, *arrays) -> list[np.ndarray]:
    return reference.run_node(node, [None if array is None else np.asarray(array, np.float64) for array in arrays])


def one_unit(op: str, gates: int, **attributes):
    """A node of hidden size 1, and its X, W, R and B, whose numbers are all different."""
    node = Node(op, ("x", "W", "R", "B", "", "h"), ("Y",), {"hidden_size": 1, **attributes})
    numbers = np.linspace(0.1, 0.9, 4 * gates)
    w, r, b = numbers[:gates], numbers[gates:2 * gates], numbers[2 * gates:]
    return node, np.full((1, 1, 1), 0.7), w.reshape(1, gates, 1), r.reshape(1, gates, 1), b.reshape(1, 2 * gates)


def sums(x, w, r, b, h) -> np.ndarray:
    gates = w.size
    return w.ravel() * x.item() + r.ravel() * h + b.ravel()[:gates] + b.ravel()[gates:]


def test_lstm_by_hand():
    node, x, w, r, b = one_unit("LSTM", 4)
    h, c, (pi, po, pf) = -0.3, 0.6, (0.15, 0.25, 0.35)
    i, o, f, g = sums(x, w, r, b, h)
    c_next = sigmoid(f + pf * c) * c + sigmoid(i + pi * c) * np.tanh(g)
    h_next = sigmoid(o + po * c_next) * np.tanh(c_next)
    y, y_h, y_c = run_node(node, x, w, r, b, None, [[[h]]], [[[c]]], [[pi, po, pf]])
    np.testing.assert_allclose([y.item(), y_h.item(), y_c.item()], [h_next, h_next, c_next], rtol=1e-15)


@pytest.mark.parametrize("linear_before_reset", [0, 1])
def test_gru_by_hand(linear_before_reset):
    node, x, w, r, b = one_unit("GRU", 3, linear_before_reset=linear_before_reset)
    h = -0.3
    z, reset, _ = map(sigmoid, sums(x, w, r, b, h))
    wb, rb = b.ravel()[2], b.ravel()[5]
    inner = reset * (r.ravel()[2] * h + rb) if linear_before_reset else r.ravel()[2] * reset * h + rb
    candidate = np.tanh(w.ravel()[2] * 0.7 + wb + inner)
    y, y_h = run_node(node, x, w, r, b, None, [[[h]]])
    np.testing.assert_allclose([y.item(), y_h.item()], [(1 - z) * candidate + z * h] * 2, rtol=1e-15)


def test_rnn_by_hand():
    node, x, w, r, b = one_unit("RNN", 1, clip=0.5, activations=("Affine",), activation_alpha=(2.0,),
                                activation_beta=(0.25,))
    assert sums(x, w, r, b, -0.3).item() > 0.5
    assert run_node(node, x, w, r, b, None, [[[-0.3]]])[0].item() == 2 * 0.5 + 0.25


def test_the_cell_state_is_not_clipped_before_its_output_activation():
    """ONNX says `clip` bounds "the input of activations"; onnxruntime bounds that of the gates alone, and so do we."""
    rng = np.random.default_rng(1)
    weights = {"W": rng.normal(size=(1, 12, 2)).astype(np.float32), "R": rng.normal(size=(1, 12, 3)).astype(np.float32)}
    node = Node("LSTM", ("x", "W", "R", "", "", "", "c"), ("Y", "Y_h", "Y_c"), {"hidden_size": 3, "clip": 0.25})
    graph = Graph((Value("x", "float32", ("time", "batch", 2)), Value("c", "float32", (1, "batch", 3))),
                  (Value("Y", "float32", None),), (node,), weights).validate()
    inputs = {"x": rng.normal(size=(4, 2, 2)).astype(np.float32), "c": np.full((1, 2, 3), 2, np.float32)}
    np.testing.assert_allclose(run_onnxruntime(graph, inputs)["Y"], reference.run(graph, inputs)["Y"], atol=1e-6)


# ---- masks ----


def masked_rnn(mask, **attributes) -> tuple[list[float], float]:
    """Y and Y_h of an RNN that adds X = 1, 2, 3, 4 to half its state; batch 1."""
    names = ("x", "W", "R", "", attributes.pop("lengths", ""), attributes.pop("h", ""), "mask")
    attributes = {"hidden_size": 1, "activations": ("Identity",), **attributes}
    node = Node("RNN", names, ("Y", "Y_h"), attributes, "", EXTENSION)
    arrays = {"x": np.arange(1.0, 5).reshape(4, 1, 1), "W": np.ones((1, 1, 1)), "R": np.full((1, 1, 1), 0.5),
              "two": np.array([2]), "ten": np.full((1, 1, 1), 10.0), "mask": np.array(mask, bool).reshape(4, 1)}
    y, y_h = reference.run_node(node, [arrays.get(name) for name in node.inputs])
    return y.ravel().tolist(), y_h.item()


@pytest.mark.parametrize("attributes, y, y_h", [
    ({}, [0, 2, 2, 5], 5),
    ({"masked_output": "zero"}, [0, 2, 0, 5], 5),
    ({"h": "ten"}, [0, 7, 7, 7.5], 7.5),  # before the first valid step Y is 0, not the initial state
    ({"direction": "reverse"}, [4, 4, 4, 4], 4),
])
def test_masks(attributes, y, y_h):
    assert masked_rnn([0, 1, 0, 1], **attributes) == (y, y_h)


def test_a_length_ends_what_a_mask_carries():
    assert masked_rnn([1, 0, 0, 1], lengths="two") == ([1, 1, 0, 0], 1)


def test_all_masked():
    assert masked_rnn([0, 0, 0, 0], h="ten") == ([0, 0, 0, 0], 10)


# ---- what it refuses ----


def test_inputs_must_be_the_graph_s():
    graph = Graph((Value("x", "float32", (1,)),), (Value("y", "float32", (1,)),), (Node("Relu", ("x",), ("y",)),), {})
    with pytest.raises(InputError, match=r"expected the inputs \['x'\], got \['z'\]"):
        reference.run(graph, {"z": np.zeros(1)})


def test_foreign_operators_are_named():
    with pytest.raises(UnsupportedError, match="Det 'first'"):
        reference.run_node(Node("Det", ("x",), ("y",), {}, "first"), [np.zeros(1)])
