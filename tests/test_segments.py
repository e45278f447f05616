"""Who runs which nodes: the way that is estimated to take least, with the results of onnxruntime whichever it is."""

from __future__ import annotations

import numpy as np
import pytest

from lstmrt import passes
from lstmrt.execution.compile import compile_graph
from lstmrt.graph import Graph, Node, Value
from oracles import run_onnxruntime

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

CHANNELS, FRAMES, HIDDEN = 6, 11, 5
RANDOM = np.random.default_rng(4)


def floats(*shape: int) -> np.ndarray:
    return (RANDOM.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)


CONSTANTS = {
    **{f"w{i}": floats(CHANNELS, CHANNELS, 3) for i in range(3)}, "image": floats(24, 24, 3, 3),
    "W": floats(1, 3 * HIDDEN, CHANNELS), "R": floats(1, 3 * HIDDEN, HIDDEN), "k": np.array([2]), "0": np.array([0]),
    "axis": np.array(1),
}


def conv(x: str, y: str, w: str) -> tuple[Node, ...]:
    return (Node("Conv", (x, w), (f"{y} sum",), {"pads": (1, 1) if w != "image" else (1, 1, 1, 1)}),
            Node("Relu", (f"{y} sum",), (y,)))


def convs(x: str, y: str, count: int = 8) -> tuple[Node, ...]:
    names = [x, *(f"{y} {i}" for i in range(count - 1)), y]
    return tuple(node for i, (a, b) in enumerate(zip(names, names[1:])) for node in conv(a, b, f"w{i % 3}"))


def foreign(x: str, y: str) -> Node:
    return Node("QuickGelu", (x,), (y,), domain="com.microsoft")


LAYER = (Node("Transpose", ("frames",), ("steps",), {"perm": (2, 0, 1)}),
         Node("GRU", ("steps", "W", "R"), ("", "h"), {"hidden_size": HIDDEN}), Node("Squeeze", ("h", "0"), ("state",)))


def check(nodes: tuple[Node, ...], shape: tuple[int, ...], wanted: list[str], output: str = "y") -> None:
    used = {name for node in nodes for name in node.inputs}
    graph = passes.load(passes.canonical(Graph(
        (Value("x", "float32", shape),), (Value(output, "float32", None),), nodes,
        {name: array for name, array in CONSTANTS.items() if name in used}, "mixed").validate()))
    executable, x = compile_graph(graph), floats(*shape)
    expected = run_onnxruntime(graph, {"x": x})[output]
    np.testing.assert_allclose(executable.run({"x": x})[output], expected, atol=2e-6, rtol=1e-5)
    kinds = [segment.kind for segment in executable.segments]
    assert kinds == wanted


def test_a_foreign_node_leaves_convolutions_that_do_not_need_it_native():
    sides = (*convs("x", "before"), foreign("before", "gelu"), *convs("x", "beside"))
    nodes = (*sides, Node("Mul", ("gelu", "beside"), ("frames",)), *LAYER)
    check(nodes, (1, CHANNELS, FRAMES), ["native", "onnxruntime", "native"], "state")


def test_convolutions_that_onnxruntime_is_faster_at_are_its_own():
    check((*conv("x", "a", "image"), *conv("a", "b", "image"), *conv("b", "y", "image")), (1, 24, 30, 30), ["onnxruntime"])


def test_so_is_what_stands_between_them_where_elements_are_many():
    between = Node("Erf", ("a",), ("b",)), Node("Mul", ("a", "b"), ("c",)), Node("Add", ("a", "c"), ("d",))
    check((*conv("x", "a", "w0"), *between, *conv("d", "y", "w1")), (1, CHANNELS, 60_000), ["onnxruntime"])


def test_a_foreign_node_among_such_convolutions_parts_no_session():
    check((*conv("x", "a", "image"), foreign("a", "b"), *conv("b", "y", "image")), (1, 24, 30, 30), ["onnxruntime"])


def test_little_work_that_numpy_does_at_once_needs_no_session():
    nodes = (*conv("x", "frames", "w0"), *LAYER, Node("CumSum", ("state", "axis"), ("y",)))
    check(nodes, (1, CHANNELS, FRAMES), ["native", "NumPy"])


def test_sorting_many_is_worth_a_session():
    nodes = (*conv("x", "a", "w0"), Node("TopK", ("a", "k"), ("y", "places")))
    check(nodes, (40, CHANNELS, 2 * FRAMES), ["onnxruntime"])


@pytest.mark.parametrize("dtype", ["uint64", "float64"])
def test_dtypes_that_onnxruntime_lacks_stay_with_numpy(dtype):
    node = Node("TopK", ("x", "k"), ("y", "places")) if dtype == "uint64" else Node("HardSwish", ("x",), ("y",))
    graph = Graph((Value("x", dtype, (300, 40)),), (Value("y", dtype, None),), (node,), {"k": np.array([3])}
                  if node.op == "TopK" else {}, "rare").validate()
    executable = compile_graph(graph)
    assert [segment.kind for segment in executable.segments] == ["NumPy"]
    assert executable.run({"x": RANDOM.integers(0, 9, (300, 40)).astype(dtype)})["y"].dtype == dtype


@pytest.mark.parametrize("steps, kinds", [(1, ["onnxruntime"]), (60, ["onnxruntime", "native", "onnxruntime"])])
def test_a_cell_of_one_step_between_foreign_nodes_is_not_worth_two_more_crossings(steps, kinds):
    nodes = (Node("Sin", ("x",), ("sines",)), Node("Cos", ("sines",), ("curved",)),
             Node("GRU", ("curved", "W", "R"), ("", "h"), {"hidden_size": HIDDEN}), foreign("h", "y"))
    check(nodes, (steps, 3, CHANNELS), kinds)
