"""Graphs that make one native program, or must not: axes of size 1, renamed inputs, constant states, two sequences."""

from __future__ import annotations

import numpy as np
import pytest

import lstmrt
from lstmrt import passes, reference
from lstmrt.execution.compile import Executable, compile_graph
from lstmrt.graph import Graph, Node, Value
from small_models import weights

BATCH, TIME, WIDTH, HIDDEN, VOCABULARY = 2, 4, 3, 5, 9
RANDOM = np.random.default_rng(6)
BEGINNING = np.iinfo(np.int64).min  # where a Slice that goes backwards ends
CONSTANTS = {
    "W": weights(RANDOM, 1, 4 * HIDDEN, WIDTH), "R": weights(RANDOM, 1, 4 * HIDDEN, HIDDEN),
    "B": weights(RANDOM, 1, 8 * HIDDEN), "W2": weights(RANDOM, 1, 4 * HIDDEN, HIDDEN),
    "h0": weights(RANDOM, BATCH, 1, HIDDEN), "c0": weights(RANDOM, BATCH, 1, HIDDEN),
    "table": weights(RANDOM, VOCABULARY, WIDTH), "kernel": weights(RANDOM, HIDDEN, 4), "bias": weights(RANDOM, 4),
    "column": weights(RANDOM, HIDDEN, 1), "row": weights(RANDOM, HIDDEN), "half": np.array(0.5, np.float32),
    "last": np.array(-1), "axis 0": np.array([0]), "axis 1": np.array([1]), "axis 2": np.array([2]), "axis -1": np.array([-1]),
    "positive": np.abs(weights(RANDOM, HIDDEN)) + np.float32(0.5), "parts": np.array([2, 1, 2]), "two": np.array([2]),
    "units": np.array([1, HIDDEN, 1]),
    "last column": np.array([-1]), "square": np.array(2, np.float32), "from": np.array([-1]), "to": np.array([BEGINNING]), "by": np.array([-1]),
}
X = Value("x", "float32", ("batch", "time", WIDTH))
SEQUENCE = {"x": weights(RANDOM, BATCH, TIME, WIDTH)}


def lstm(x: str = "x", y: str = "Y", w: str = "W", states: tuple[str, ...] = (), layout: int = 1) -> Node:
    return Node("LSTM", (x, w, "R", "B", *(("", *states) if states else ())), (y,),
                {"hidden_size": HIDDEN, "layout": layout}, "lstm")


def squeeze(x: str, y: str, axis: str = "axis 2") -> Node:
    return Node("Squeeze", (x, axis), (y,))


def unsqueeze(x: str, y: str, axis: str = "axis 2") -> Node:
    return Node("Unsqueeze", (x, axis), (y,))


def last_step(x: str, y: str) -> Node:
    return Node("Gather", (x, "last"), (y,), {"axis": 1})


def backwards(x: str, y: str) -> Node:
    return Node("Slice", (x, "from", "to", "axis 1", "by"), (y,))


def graph(*nodes: Node, inputs: tuple[Value, ...] = (X,), **ranks: int) -> Graph:
    """The outputs are float32 and named by `ranks`."""
    read = {name for node in nodes for name in node.inputs}
    return Graph(inputs, tuple(Value(name, "float32", (None,) * rank) for name, rank in ranks.items()), nodes,
                 {name: array for name, array in CONSTANTS.items() if name in read}, "native").validate()


HEAD = (lstm(), squeeze("Y", "h"))
NATIVE = {
    "constant states": graph(lstm(states=("h0", "c0")), Y=4),
    "an input renamed before the layer": graph(unsqueeze("x", "a"), squeeze("a", "b"), lstm("b"), Y=4),
    "a renamed input is an output": graph(unsqueeze("x", "a"), squeeze("a", "b"), lstm("b"), Y=4, a=4, b=3),
    "two names of one output": graph(*HEAD, Y=4, h=3),
    "an input is an output": graph(lstm(), x=3, Y=4),
    "a width of 1 goes": graph(*HEAD, last_step("h", "l"), Node("MatMul", ("l", "column"), ("p",)),
                               squeeze("p", "s", "axis -1"), Node("Sigmoid", ("s",), ("o",)), o=1),
    "a width of 1 comes": graph(*HEAD, Node("MatMul", ("h", "column"), ("p",)), squeeze("p", "s"),
                                Node("Tanh", ("s",), ("t",)), unsqueeze("t", "o", "axis -1"), o=3),
    "a sequence backwards": graph(*HEAD, backwards("h", "o"), o=3),
    "an input backwards": graph(backwards("x", "r"), lstm("r"), Y=4),
    "batch and time change places": graph(*HEAD, Node("Transpose", ("h",), ("o",), {"perm": (1, 0, 2)}), o=3),
    "time before batch inside": graph(Node("Transpose", ("x",), ("t",), {"perm": (1, 0, 2)}), lstm("t", layout=0), Y=4),
    "a row less a value": graph(*HEAD, Node("Sub", ("row", "h"), ("o",)), o=3),
    "a number times a value": graph(*HEAD, Node("Mul", ("half", "h"), ("o",)), o=3),
    "an output read again": graph(*HEAD, Node("MatMul", ("h", "kernel"), ("p",)), Node("Add", ("p", "bias"), ("a",)),
                                  Node("Tanh", ("a",), ("o",)), o=3, p=3, a=3),
    "layer normalization": graph(*HEAD, Node("LayerNormalization", ("h", "row", "positive"), ("o",), {"epsilon": 0.01}), o=3),
    "layer normalization without a shift": graph(*HEAD, Node("LayerNormalization", ("h", "row"), ("n",)), lstm("n", "Z", "W2"),
                                                 Z=4),
    "batch normalization": graph(*HEAD, last_step("h", "l"), Node(
        "BatchNormalization", ("l", "row", "positive", "row", "positive"), ("o",), {"epsilon": 0.1}), o=2),
    "a split": graph(*HEAD, Node("Split", ("h", "parts"), ("a", "b", "c"), {"axis": -1}), Node("Tanh", ("b",), ("o",)),
                     a=3, c=3, o=3),
    "columns": graph(*HEAD, Node("Slice", ("h", "two", "last column", "axis 2"), ("o",)), o=3),
    "functions of arithmetic": graph(*HEAD, Node("Neg", ("h",), ("n",)), Node("HardSwish", ("n",), ("s",)),
                                     Node("Pow", ("s", "square"), ("o",)), o=3),
    "softmax over time, a weighted average": graph(
        *HEAD, Node("MatMul", ("h", "column"), ("p",)), Node("Softmax", ("p",), ("w",), {"axis": 1}),
        Node("Mul", ("w", "h"), ("m",)), Node("ReduceSum", ("m", "axis 1"), ("o",), {"keepdims": 0}), o=2, w=3),
    "a product of weights and steps": graph(
        *HEAD, Node("MatMul", ("h", "column"), ("p",)), Node("Softmax", ("p",), ("w",), {"axis": 1}),
        Node("Transpose", ("w",), ("t",), {"perm": (0, 2, 1)}), Node("MatMul", ("t", "h"), ("o",)), o=3),
    "weights repeated for each unit": graph(
        *HEAD, Node("MatMul", ("h", "column"), ("p",)), squeeze("p", "s"), Node("Softmax", ("s",), ("w",)),
        unsqueeze("w", "r", "axis 1"), Node("Expand", ("r", "units"), ("e",)), Node("Transpose", ("e",), ("t",), {"perm": (0, 2, 1)}),
        Node("Mul", ("h", "t"), ("m",)), Node("ReduceSum", ("m", "axis 1"), ("o",), {"keepdims": 0}), o=2),
    "less the mean, by the largest": graph(
        *HEAD, Node("ReduceMean", ("h", "axis 1"), ("a",)), Node("Sub", ("h", "a"), ("s",)),
        Node("ReduceMax", ("s", "axis 1"), ("b",)), Node("Div", ("s", "b"), ("o",)), o=3),
    "a mean of unmasked steps": graph(
        lstm(), squeeze("Y", "h"), Node("Equal", ("ids", "two"), ("e",)), Node("Not", ("e",), ("mask",)),
        unsqueeze("mask", "u"), Node("Cast", ("u",), ("n",), {"to": 1}), Node("Mul", ("h", "n"), ("m",)),
        Node("ReduceSum", ("m", "axis 1"), ("total",), {"keepdims": 0}),
        Node("ReduceSum", ("n", "axis 1"), ("count",), {"keepdims": 0}), Node("Div", ("total", "count"), ("o",)),
        inputs=(X, Value("ids", "int64", ("batch", "time"))), o=2),
    "a softmax over time, its time before the batch": graph(
        *HEAD, Node("Transpose", ("h",), ("t",), {"perm": (1, 0, 2)}), Node("Softmax", ("t",), ("s",), {"axis": 0}),
        Node("ReduceMax", ("t", "axis 0"), ("b",)), Node("Sub", ("s", "b"), ("o",)), o=3),
    "no layer with states": graph(Node("Tanh", ("x",), ("t",)), Node("Softmax", ("t",), ("o",)), o=3),
}
SEVERAL = {
    "batch taken for time": graph(*HEAD, lstm("h", "Z", "W2", layout=0), Z=4),
    "two lengths": graph(
        Node("LSTM", ("x", "W", "R", "B"), ("", "Yh", "Yc"), {"hidden_size": HIDDEN, "layout": 1}, "encoder"),
        lstm("x2", "Z", states=("Yh", "Yc")), inputs=(X, Value("x2", "float32", ("batch", "time 2", WIDTH))), Z=4),
}


def checked(model: Graph, inputs: dict[str, np.ndarray]) -> Executable:
    """The graph, compiled, after its outputs were held against the float64 reference's."""
    executable = compile_graph(passes.load(passes.canonical(model)))
    found, expected = executable.run(inputs), reference.run(model, inputs)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (np.float32, array.shape)
        np.testing.assert_allclose(found[name], array, rtol=0, atol=2e-6)
    return executable


@pytest.mark.parametrize("name", NATIVE)
def test_one_native_program(name):
    inputs = {**SEQUENCE, "ids": np.arange(BATCH * TIME).reshape(BATCH, TIME) % 4}
    assert checked(NATIVE[name], {value.name: inputs[value.name] for value in NATIVE[name].inputs}).native is not None


@pytest.mark.parametrize("name", SEVERAL)
def test_two_native_programs(name):
    inputs = {"x": SEQUENCE["x"], "x2": weights(RANDOM, BATCH, TIME + 2, WIDTH)}
    model = SEVERAL[name]
    executable = checked(model, {value.name: inputs[value.name] for value in model.inputs})
    assert [segment.kind for segment in executable.segments] == ["native", "native"]


@pytest.mark.parametrize("batch, time", [(1, 1), (1, "time"), ("batch", 1), ("batch", "time")])
def test_batch_and_time_of_size_1_keep_their_meaning(batch, time):
    model = graph(Node("Gather", ("table", "ids"), ("x",)), *HEAD, last_step("h", "l"),
                  Node("MatMul", ("l", "kernel"), ("p",)), Node("Add", ("p", "bias"), ("o",)),
                  inputs=(Value("ids", "int64", (batch, time)),), o=2, h=3)
    ids = RANDOM.integers(0, VOCABULARY, (batch if batch == 1 else 3, time if time == 1 else 6))
    executable = checked(model, {"ids": ids})
    assert executable.native is not None and executable.steppable


def test_weights_that_are_computed_stay_outside():
    model = graph(Node("LSTM", ("x", "v", "R"), ("Y",), {"hidden_size": HIDDEN, "layout": 1}),
                  inputs=(X, Value("v", "float32", (1, 4 * HIDDEN, WIDTH))), Y=4)
    assert checked(model, {**SEQUENCE, "v": CONSTANTS["W"]}).native is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_chains_of_renamed_masks_that_are_read_outside(count):
    names = ["mask", *(f"m{i}" for i in range(count))]
    chain = [unsqueeze(before, after, "axis 1") for before, after in zip(names, names[1:])]
    model = graph(*HEAD, *chain, Node("Transpose", ("h",), ("t",), {"perm": (0, 2, 1)}),
                  Node("Where", (names[-1], "t", "half"), ("o",)),
                  inputs=(X, Value("mask", "bool", ("batch", "time"))), o=count + 2)
    checked(model, {**SEQUENCE, "mask": RANDOM.random((BATCH, TIME)) < 0.5})


def test_constant_states_fit_their_batch_alone():
    executable = compile_graph(NATIVE["constant states"])
    with pytest.raises(lstmrt.InputError, match="batch sizes"):
        executable.run({"x": weights(RANDOM, BATCH + 1, TIME, WIDTH)})
