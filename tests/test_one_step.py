"""Cells that take one step: their axis of time, of size 1, comes and goes as any other of that size."""

from __future__ import annotations

import numpy as np
import pytest

from lstmrt import passes
from lstmrt.errors import InputError
from lstmrt.execution.compile import Executable, compile_graph
from lstmrt.graph import Graph, Node, Value
from oracles import exact
from small_models import weights

ITEMS, WIDTH, HIDDEN, STEPS = 17, 6, 5, 7
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
OPS = pytest.mark.parametrize("op", GATES)


def cell(op: str, x: str, width: int, name: str, layout: int = 0) -> tuple[list[Node], dict]:
    random, gates, letters = np.random.default_rng(width), GATES[op] * HIDDEN, "hc" if op == "LSTM" else "h"
    constants = {f"{name} W": weights(random, 1, gates, width), f"{name} R": weights(random, 1, gates, HIDDEN),
                 f"{name} B": weights(random, 1, 2 * gates)}
    node = Node(op, (x, *constants, "", *(f"{name} {letter}0" for letter in letters)),
                (f"{name} y", *(f"{name} {letter}" for letter in letters)), {"hidden_size": HIDDEN, "layout": layout})
    return [node], constants


def states(op: str, name: str, suffix: str, layout: int = 0) -> list[Value]:
    shape = ("batch", 1, HIDDEN) if layout else (1, "batch", HIDDEN)
    return [Value(f"{name} {letter}{suffix}", "float32", shape) for letter in ("hc" if op == "LSTM" else "h")]


def check(graph: Graph, batch: int, **inputs: np.ndarray) -> Executable:
    """One native program, with the results of the reference."""
    random = np.random.default_rng(3)
    sizes = {"batch": batch}
    for value in graph.inputs:
        inputs.setdefault(value.name, random.normal(size=[sizes.get(size, size) for size in value.shape]).astype(np.float32))
    executable = compile_graph(passes.load(passes.canonical(graph)))
    assert [segment.kind for segment in executable.segments] == ["native"], executable.segments
    expected = exact(graph, inputs)
    for name, array in executable.run(inputs).items():
        np.testing.assert_allclose(array, expected[name], atol=2e-6, err_msg=name)
    return executable


@OPS
@pytest.mark.parametrize("layout", (0, 1))
def test_a_row_that_never_had_time_goes_through_a_cell(op, layout):
    """As session recommenders have it: ids (batch,), an axis for the one step, and scores (batch, items)."""
    inner, constants = cell(op, "x", WIDTH, "cell", layout)
    constants |= {"table": weights(np.random.default_rng(1), ITEMS, WIDTH), "time": np.array([layout]),
                  "axes": np.array([1, 2 if layout else 0]), "scores": weights(np.random.default_rng(2), HIDDEN, ITEMS)}
    nodes = [Node("Gather", ("table", "ids"), ("item",)), Node("Unsqueeze", ("item", "time"), ("x",)), *inner,
             Node("Squeeze", ("cell y", "axes"), ("h",)), Node("MatMul", ("h", "scores"), ("y",))]
    graph = Graph((Value("ids", "int64", ("batch",)), *states(op, "cell", "0", layout)),
                  (Value("y", "float32", ("batch", ITEMS)), *states(op, "cell", "", layout)), tuple(nodes), constants, "items")
    executable = check(graph.validate(), 4, ids=np.array([3, 0, 16, 5]))
    with pytest.raises(InputError, match="id 17 is outside"):
        executable.run({value.name: np.zeros((1, 1, HIDDEN), np.float32) for value in graph.inputs} | {"ids": np.array([17])})


@OPS
def test_a_cell_of_one_step_stands_beside_a_layer_over_time(op):
    """Each has steps of its own: what the layer gives at last is x of the cell."""
    layer, constants = cell(op, "sequence", WIDTH, "layer")
    one, more = cell(op, "last", HIDDEN, "cell")
    nodes = [*layer, *one, Node("Concat", ("last", "cell h"), ("y",), {"axis": -1})]
    nodes.insert(1, Node("Identity", ("layer h",), ("last",)))
    inputs = (Value("sequence", "float32", (STEPS, "batch", WIDTH)), *states(op, "layer", "0"), *states(op, "cell", "0"))
    graph = Graph(inputs, (Value("y", "float32", (1, "batch", 2 * HIDDEN)), Value("layer y", "float32", None)), tuple(nodes),
                  constants | more, "both")
    executable = check(graph.validate(), 3)
    assert not executable.steppable  # the cell takes no step for each of the layer's


def test_what_is_made_of_one_step_is_that_step():
    """First, last, largest and mean of one, and all of it turned round."""
    inner, constants = cell("GRU", "x", WIDTH, "cell")
    constants |= {"0": np.array([0]), "1": np.array([1]), "first": np.array(0), "-1": np.array([-1]),
                  "start": np.array([-(2**63)])}
    nodes = [Node("Slice", ("given", "-1", "start", "0", "-1"), ("x",)), *inner, Node("Squeeze", ("cell y", "1"), ("steps",)),
             Node("Gather", ("steps", "first"), ("a",)), Node("ReduceMax", ("steps", "0"), ("b",), {"keepdims": 0}),
             Node("ReduceMean", ("steps", "0"), ("c",), {"keepdims": 0}), Node("Concat", ("a", "b", "c"), ("y",), {"axis": 1})]
    graph = Graph((Value("given", "float32", (1, "batch", WIDTH)), *states("GRU", "cell", "0")),
                  (Value("y", "float32", ("batch", 3 * HIDDEN)),), tuple(nodes), constants, "one").validate()
    check(graph, 3)


def test_an_axis_of_size_1_beside_time_is_not_time():
    """The only direction of a layer over time: taken, turned round and summed over."""
    inner, constants = cell("GRU", "x", WIDTH, "cell")
    constants |= {"1": np.array([1]), "first": np.array(0), "-1": np.array([-1]), "start": np.array([-(2**63)])}
    nodes = [*inner, Node("Slice", ("cell y", "-1", "start", "1", "-1"), ("turned",)),
             Node("Gather", ("turned", "first"), ("a",), {"axis": 1}),
             Node("ReduceSum", ("cell y", "1"), ("b",), {"keepdims": 0}), Node("Concat", ("a", "b"), ("y",), {"axis": -1})]
    graph = Graph((Value("x", "float32", (STEPS, "batch", WIDTH)), *states("GRU", "cell", "0")),
                  (Value("y", "float32", (STEPS, "batch", 2 * HIDDEN)),), tuple(nodes), constants, "direction").validate()
    check(graph, 3)


def test_cells_side_by_side_take_one_step_whatever_the_time_of_a_layer():
    """Two of them, which threads could share, beside a layer with many steps."""
    width, hidden = 24, 160
    random = np.random.default_rng(9)
    constants = {}
    for name in ("layer", "a", "b"):
        constants |= {f"{name} W": weights(random, 1, 3 * hidden, width) / 5, f"{name} R": weights(random, 1, 3 * hidden, hidden) / 9}
    nodes = [Node("GRU", ("sequence", "layer W", "layer R"), ("", "h"), {"hidden_size": hidden}),
             Node("GRU", ("x", "a W", "a R", "", "", "h"), ("", "ha"), {"hidden_size": hidden}),
             Node("GRU", ("x", "b W", "b R", "", "", "h"), ("", "hb"), {"hidden_size": hidden}),
             Node("Concat", ("ha", "hb"), ("y",), {"axis": -1})]
    graph = Graph((Value("sequence", "float32", ("time", "batch", width)), Value("x", "float32", (1, "batch", width))),
                  (Value("y", "float32", None),), tuple(nodes), constants, "cells").validate()
    inputs = {"sequence": random.normal(size=(300, 2, width)).astype(np.float32),
              "x": random.normal(size=(1, 2, width)).astype(np.float32)}
    expected = exact(graph, inputs)["y"]
    for threads in (1, 2):
        executable = compile_graph(passes.load(graph), threads=threads)
        assert executable.native is not None
        for _ in range(3):
            np.testing.assert_allclose(executable.run(inputs)["y"], expected, atol=2e-6)
