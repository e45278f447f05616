"""Each pass alone: what it rewrites, what it leaves, and that the reference computes the same before and after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from oracles import assert_close, exact_with_tolerances, run_onnxruntime
from strategies import Builder, recurrent_graphs

from lstmrt import passes, reference
from lstmrt.errors import GraphError
from lstmrt.execution.compile import compile_graph
from lstmrt.gates import ONNX
from lstmrt.graph import EXTENSION, Graph, Node, Value
from lstmrt.operators import is_recurrent
from lstmrt.passes import (
    conversion,
    drop_noops,
    drop_unused,
    fold_constants,
    infer_shapes,
    last_step_only,
    split_directions,
    widen_halves,
)

random_graphs = settings(max_examples=50, deadline=None, derandomize=True,
                         suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def graph_of(nodes, outputs, constants=None, inputs=(Value("x", "float32", ("batch", 3)),)) -> Graph:
    values = tuple(Value(name, "float32", None) for name in outputs)
    return Graph(inputs, values, tuple(nodes), constants or {}).validate()


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


@pytest.mark.parametrize("rewrite", [*dict.fromkeys(conversion.CANONICAL + passes.LOAD), passes.canonical, passes.load])
@random_graphs
@given(case=recurrent_graphs(extensions=True))
def test_every_pass_keeps_what_random_graphs_compute(rewrite, case):
    wanted, tolerances = exact_with_tolerances(case.graph, case.inputs)
    rewritten = rewrite(case.graph).validate()
    assert_close(reference.run(rewritten, case.inputs), wanted, tolerances)
    assert [value._replace(shape=None) for value in rewritten.outputs] == list(case.graph.outputs)


# ---- fold_constants ----


def test_what_is_made_of_constants_is_computed_and_rounded_once():
    a, b = np.float32([1e8, 1, 3]), np.float32([1, 2**-24, 4])
    nodes = [Node("Add", ("a", "b"), ("c",)), Node("Sub", ("c", "a"), ("d",)), Node("Add", ("x", "d"), ("y",))]
    graph = graph_of(nodes, ["y"], {"a": a, "b": b})
    folded = fold_constants(graph)
    assert ops(folded) == ["Add"]
    assert folded.constants["d"].dtype == np.float32 and not folded.constants["d"].flags.writeable
    np.testing.assert_array_equal(folded.constants["c"], np.float32(np.float64(a) + b))


def test_what_grows_much_stays_a_node():
    shape = np.array([1000, 1000])
    graph = graph_of([Node("Expand", ("one", "shape"), ("big",)), Node("Add", ("x", "big"), ("y",))], ["y"],
                     {"one": np.ones((1, 1), np.float32), "shape": shape}, (Value("x", "float32", (1000, 1000)),))
    assert ops(fold_constants(graph)) == ["Expand", "Add"]


def test_known_shapes_are_folded_and_symbolic_ones_are_not():
    known = Node("Shape", ("x",), ("sizes",), {"start": 1})
    symbolic = Node("Shape", ("x",), ("sizes",))
    target = Node("Reshape", ("x", "sizes"), ("y",))
    assert ops(fold_constants(graph_of([known, target], ["y"]))) == ["Reshape"]
    assert ops(fold_constants(graph_of([symbolic, target], ["y"]))) == ["Shape", "Reshape"]


def test_foreign_nodes_and_makers_of_outputs_stay():
    nodes = [Node("Det", ("a",), ("b",)), Node("Relu", ("a",), ("y",))]
    assert ops(fold_constants(graph_of(nodes, ["b", "y"], {"a": np.ones(3, np.float32)}))) == ["Det", "Relu"]


# ---- drop_noops, drop_unused ----


def test_nodes_that_change_nothing_go():
    graph = graph_of([
        Node("Identity", ("x",), ("a",)),
        Node("Dropout", ("a",), ("b",)),
        Node("Cast", ("b",), ("c",), {"to": 1}),
        Node("Reshape", ("c", "same"), ("d",)),
        Node("Transpose", ("d",), ("e",), {"perm": (0, 1)}),
        Node("Slice", ("e", "zero", "three", "one"), ("g",)),
        Node("Relu", ("g",), ("f",)),
        Node("Identity", ("f",), ("y",)),
    ], ["y"], {"same": np.array([0, 3]), "zero": np.array([0]), "three": np.array([3]), "one": np.array([1])})
    assert drop_noops(graph).nodes == (Node("Relu", ("x",), ("y",)),)


@pytest.mark.parametrize("node, constants", [
    (Node("Cast", ("x",), ("y",), {"to": 11}), {}),
    (Node("Transpose", ("x",), ("y",), {"perm": (1, 0)}), {}),
    (Node("Transpose", ("x",), ("y",)), {}),
    (Node("Reshape", ("x", "shape"), ("y",)), {"shape": np.array([3, -1])}),
    (Node("Dropout", ("x", "", "training"), ("y",)), {"training": np.array(True)}),
    (Node("Slice", ("x", "from", "to", "axis", "step"), ("y",)),  # backwards
     {"from": np.array([2]), "to": np.array([-9]), "axis": np.array([1]), "step": np.array([-1])}),
    (Node("Slice", ("x", "from", "to"), ("y",)), {"from": np.array([0]), "to": np.array([3])}),  # of a batch, perhaps all
    (Node("Identity", ("x",), ("y",)), {}),  # an output that is an input needs a node that makes it
])
def test_nodes_that_change_something_stay(node, constants):
    values = (Value("x", "float32", ("batch", 3)),)
    outputs = (Value("y", "float64" if node.op == "Cast" else "float32", None),)
    graph = Graph(values, outputs, (node,), constants).validate()
    assert [(n.op, n.outputs) for n in drop_noops(graph).nodes] == [(node.op, ("y",))]


def test_an_axis_of_rows_of_a_table_is_none_of_the_table():
    ids = Value("x", "int64", ("batch", 1))
    graph = graph_of([Node("Gather", ("table", "x"), ("rows",)), Node("Squeeze", ("rows", "axis"), ("y",))], ["y"],
                     {"table": np.arange(9, dtype=np.float32), "axis": np.array([1])}, (ids,))
    x = np.array([[3], [8]])
    np.testing.assert_array_equal(reference.run(passes.canonical(graph), {"x": x})["y"], [3, 8])


def test_an_index_outside_that_folding_finds_is_an_error_of_ours():
    graph = graph_of([Node("Shape", ("x",), ("shape",)), Node("Gather", ("table", "shape"), ("rows",)),
                      Node("Relu", ("rows",), ("y",))], ["y"], {"table": np.arange(9, dtype=np.float32)}, (
                          Value("x", "float32", (10, 3)),))
    with pytest.raises(GraphError, match="Gather an index is outside axis 0"):
        passes.load(passes.canonical(graph))


def test_two_outputs_of_one_value_keep_their_names():
    graph = graph_of([Node("Relu", ("x",), ("a",)), Node("Identity", ("a",), ("y",)), Node("Identity", ("a",), ("z",))],
                     ["y", "z"])
    dropped = drop_noops(graph).validate()
    x = np.float32([[-1, 0, 2]])
    assert {name: array.tolist() for name, array in reference.run(dropped, {"x": x}).items()} == {
        "y": [[0, 0, 2]], "z": [[0, 0, 2]]}
    assert len(dropped.nodes) == 2


def test_what_nobody_needs_goes():
    nodes = [Node("Relu", ("x",), ("y",)), Node("Add", ("x", "bias"), ("dead",)), Node("Tanh", ("dead",), ("end",))]
    graph = drop_unused(graph_of(nodes, ["y"], {"bias": np.ones(3, np.float32)}))
    assert ops(graph) == ["Relu"] and not graph.constants and len(graph.inputs) == 1


def test_optional_outputs_nobody_reads_are_left_out():
    weights = {"W": np.ones((1, 16, 3), np.float32), "R": np.ones((1, 16, 4), np.float32)}
    node = Node("LSTM", ("x", "W", "R"), ("Y", "Y_h", "Y_c"), {"hidden_size": 4})
    graph = graph_of([node], ["Y_h"], weights, (Value("x", "float32", ("time", "batch", 3)),))
    assert drop_unused(graph).nodes[0].outputs == ("", "Y_h")


# ---- split_directions ----


@random_graphs
@given(case=recurrent_graphs(extensions=True))
def test_no_node_has_two_directions_afterwards(case):
    directions = [node.attributes["direction"] for node in split_directions(case.graph).nodes if is_recurrent(node)]
    before = [node.attributes["direction"] for node in case.graph.nodes if is_recurrent(node)]
    assert directions == [one for each in before
                          for one in (("forward", "reverse") if each == "bidirectional" else (each,))]


# ---- last_step_only ----


def last_step_graph(index: int, direction: str = "forward", squeezed: bool = True, time="time", **options) -> Graph:
    """A GRU with layout 1 of which one step of Y is read; `options` may name lengths, h, mask and masked_output."""
    builder = Builder(np.random.default_rng(3), 2, 5, 1)
    optional = [name if options.pop(name, False) else "" for name in ("lengths", "h", "mask")]
    values = {"lengths": Value("lengths", "int32", ("batch",)), "h": Value("h", "float32", ("batch", 1, 4)),
              "mask": Value("mask", "bool", ("batch", time))}
    inputs = ["x", builder.weights("W", 1, 12, 3), builder.weights("R", 1, 12, 4), "", *optional]
    builder.nodes.append(Node("GRU", tuple(inputs), ("Y",), {"hidden_size": 4, "layout": 1, "direction": direction,
                                                             **options}, "", EXTENSION))
    y = builder.node("Squeeze", ["Y", builder.constant("axes", np.array([-2]))], "squeezed") if squeezed else "Y"
    builder.node("Gather", [y, builder.constant("index", np.array(index))], "last", axis=1)
    return graph_of(builder.nodes, ["last"], builder.constants,
                    (Value("x", "float32", ("batch", time, 3)), *(values[name] for name in optional if name)))


EQUAL = [
    {"index": -1}, {"index": -1, "squeezed": False}, {"index": 0, "direction": "reverse"}, {"index": 5, "time": 6},
    {"index": -1, "h": True}, {"index": -1, "mask": True}, {"index": 0, "mask": True, "direction": "reverse"},
]
DIFFERENT = [
    {"index": 0}, {"index": -2}, {"index": -1, "direction": "reverse"}, {"index": 4, "time": 6},
    {"index": -1, "lengths": True}, {"index": -1, "mask": True, "masked_output": "zero"},
    {"index": -1, "mask": True, "h": True},
]


def reads_y(graph: Graph) -> bool:
    return any("Y" in node.inputs for node in drop_unused(last_step_only(graph)).nodes)


@pytest.mark.parametrize("options", EQUAL, ids=str)
def test_the_last_step_is_the_last_state(options):
    graph = last_step_graph(**options)
    assert not reads_y(graph)
    rng, sizes = np.random.default_rng(0), {"batch": 4, "time": 6}
    inputs = {value.name: rng.normal(size=[sizes.get(size, size) for size in value.shape]) for value in graph.inputs}
    inputs = {name: array < 0 if name == "mask" else array for name, array in inputs.items()}
    if "mask" in inputs:
        inputs["mask"][1] = False
    rewritten = last_step_only(graph).validate()
    np.testing.assert_array_equal(reference.run(rewritten, inputs)["last"], reference.run(graph, inputs)["last"])


@pytest.mark.parametrize("options", DIFFERENT, ids=str)
def test_another_step_or_one_that_may_not_be_the_state_stays(options):
    assert reads_y(last_step_graph(**options))


# ---- infer_shapes, load ----


def embedded_graph(op: str, vocabulary: int = 7, **attributes) -> Graph:
    """ids -> Gather -> op; all weights distinct, batch first."""
    builder = Builder(np.random.default_rng(3), 2, 5, 1)
    gates, hidden, width = len(ONNX[op]), 5, 4
    embedded = builder.node("Gather", [builder.weights("table", vocabulary, width), "ids"], "embedded")
    builder.node(op, [embedded, builder.weights("W", 1, gates * hidden, width, gates=gates, axis=1),
                      builder.weights("R", 1, gates * hidden, hidden, gates=gates, axis=1),
                      builder.weights("B", 1, 2 * gates * hidden, gates=2 * gates, axis=1)],
                 "Y", hidden_size=hidden, layout=1, **attributes)
    return graph_of(builder.nodes, ["Y"], builder.constants, (Value("ids", "int64", ("batch", "time")),))


def test_batch_and_time_stay_symbols():
    tensors = infer_shapes(embedded_graph("LSTM"))
    assert tensors["embedded"].shape == ("batch", "time", 4)
    assert tensors["Y"].shape == ("batch", "time", 1, 5)


def test_inputs_that_do_not_fit_are_named():
    graph = graph_of([Node("Relu", ("x",), ("y",))], ["y"])
    node = Node("Add", ("x", "b"), ("y",), {}, "sum")
    broken = replace(graph, nodes=(node,), constants={"b": np.ones(4, np.float32)})
    with pytest.raises(GraphError, match=r"nodes\[0\] Add 'sum' shapes \('batch', 3\) and \(4,\) do not broadcast"):
        infer_shapes(broken)


def test_loading_does_not_change_the_graph_it_was_given():
    graph = embedded_graph("LSTM")
    before = {name: array.tobytes() for name, array in graph.constants.items()}
    passes.load(passes.canonical(graph))
    assert {name: array.tobytes() for name, array in graph.constants.items()} == before


# ---- widen_halves ----


def half_model(*around: Node) -> Graph:
    """An LSTM of float16 weights from x to h, and the nodes `around` from h to y."""
    random = np.random.default_rng(4)
    constants = {name: random.normal(size=shape).astype(np.float16) / 2
                 for name, shape in (("W", (1, 16, 3)), ("R", (1, 16, 4)), ("B", (1, 32)))}
    nodes = (Node("LSTM", ("x", "W", "R", "B"), ("", "h"), {"hidden_size": 4}), *around)
    return Graph((Value("x", "float16", ("time", "batch", 3)),), (Value("y", "float16", None),), nodes, constants)


@pytest.mark.parametrize("around, kept", [
    (Node("Relu", ("h",), ("y",)), ["Cast", "LSTM", "Relu", "Cast"]),
    (Node("QuickGelu", ("h",), ("y",), domain="com.microsoft"), ["Cast", "LSTM", "Cast", "QuickGelu"]),
], ids=["all of it", "the recurrent node between foreign ones"])
def test_float16_is_computed_in_float32(around, kept):
    half = half_model(around)
    widened = widen_halves(half)
    assert ops(widened) == kept
    assert widened.constants[widened.nodes[1].inputs[2]].dtype == np.float32
    x = np.random.default_rng(5).normal(size=(5, 2, 3)).astype(np.float16)
    model = compile_graph(passes.load(half))
    assert {"native"} == {segment.kind for segment in model.segments for node in segment.nodes if node.op == "LSTM"}
    (found,) = model.run({"x": x}).values()
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, run_onnxruntime(half, {"x": x})["y"], atol=2e-3)


def test_what_has_no_float16_stays_as_it_is():
    graph = graph_of([Node("Relu", ("x",), ("y",))], ["y"])
    assert widen_halves(graph) is graph


def test_masks_that_are_multiplied_with_input_weights_stay_multiplied():
    """A recurrent node's own W could not read them."""
    random = np.random.default_rng(0)
    constants = {"kernel": random.normal(size=(3, 5)).astype(np.float32), "W": np.eye(5, dtype=np.float32)[None], "R": np.full((1, 5, 5), 0.1, np.float32)}
    graph = Graph((Value("x", "bool", ("time", "batch", 3)),), (Value("y", "float32", None),),
                  (Node("Cast", ("x",), ("numbers",), {"to": 1}), Node("MatMul", ("numbers", "kernel"), ("inputs",)),
                   Node("RNN", ("inputs", "W", "R"), ("", "y"), {"hidden_size": 5})), constants).validate()
    x = random.random((4, 2, 3)) < 0.5
    np.testing.assert_allclose(reference.run(passes.canonical(graph), {"x": x})["y"], reference.run(graph, {"x": x})["y"],
                               rtol=0, atol=1e-6)
