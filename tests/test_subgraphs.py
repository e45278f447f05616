"""Graphs within graphs: branches of If, bodies of Loop and Scan, and the values they capture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lstmrt import format, passes, reference
from lstmrt.converters.from_onnx import read_onnx
from lstmrt.converters.to_onnx import to_onnx_model
from lstmrt.errors import GraphError, InputError, ModelFileError
from lstmrt.execution.compile import compile_graph
from lstmrt.format import ModelFile
from lstmrt.graph import Graph, Node, Value, fresh_names, rename_inputs
from lstmrt.precision import rounded, weights

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402  (after the skip)


def value(name: str, dtype: int = TensorProto.FLOAT, shape=(None, None)):
    return helper.make_tensor_value_info(name, dtype, shape)


def initializer(name: str, array) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array, np.float32), name)


def file_with_branches():
    """y = x - (relu(x) * 3 + bias where flag, else bias). The branches share names with one another and with what comes
    after them."""
    then = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Mul", ["h", "scale"], ["scaled"]),
         helper.make_node("Add", ["scaled", "bias"], ["result"])],
        "then", [], [value("result")], [initializer("scale", 3)])
    otherwise = helper.make_graph([helper.make_node("Identity", ["broadcast"], ["result"])], "else", [], [value("result")])
    graph = helper.make_graph(
        [helper.make_node("Add", ["zero", "bias"], ["broadcast"]),
         helper.make_node("If", ["flag"], ["chosen"], "choice", then_branch=then, else_branch=otherwise),
         helper.make_node("Neg", ["chosen"], ["h"]), helper.make_node("Add", ["h", "x"], ["y"])],
        "main", [value("x", shape=("batch", 3)), value("flag", TensorProto.BOOL, ())], [value("y")],
        [initializer("bias", [[1, 2, 3]]), initializer("zero", np.zeros((2, 3)))])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def file_with_loop():
    """h = tanh(h w + x[i]) for each i, twice nested: the body's own initializer, the counter, a scan output."""
    inner = helper.make_graph([helper.make_node("Tanh", ["sum"], ["squashed"])], "inner", [], [value("squashed")])
    plain = helper.make_graph([helper.make_node("Identity", ["sum"], ["squashed"])], "plain", [], [value("squashed")])
    body = helper.make_graph(
        [helper.make_node("Gather", ["x", "i"], ["x_i"], axis=0), helper.make_node("MatMul", ["h", "w"], ["product"]),
         helper.make_node("Add", ["product", "x_i"], ["sum"]),
         helper.make_node("If", ["squash"], ["next"], then_branch=inner, else_branch=plain),
         helper.make_node("Identity", ["next"], ["scanned"]), helper.make_node("Identity", ["go"], ["go_on"])],
        "body", [value("i", TensorProto.INT64, ()), value("go", TensorProto.BOOL, ()), value("h")],
        [value("go_on", TensorProto.BOOL, ()), value("next"), value("scanned")],
        [initializer("w", np.random.default_rng(3).normal(size=(3, 3)))])
    graph = helper.make_graph(
        [helper.make_node("Loop", ["count", "", "h0"], ["last", "all"], "loop", body=body)], "main",
        [value("x", shape=("time", "batch", 3)), value("h0", shape=("batch", 3)), value("squash", TensorProto.BOOL, ())],
        [value("last"), value("all", shape=(None, None, None))],
        [numpy_helper.from_array(np.array(4), "count")])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


RNG = np.random.default_rng(1)
X = RNG.normal(size=(2, 3)).astype(np.float32)
SEQUENCE = {"x": RNG.normal(size=(4, 2, 3)).astype(np.float32), "h0": RNG.normal(size=(2, 3)).astype(np.float32)}
FILES = [
    pytest.param(file_with_branches, {"x": X, "flag": np.array(True)}, id="then"),
    pytest.param(file_with_branches, {"x": X, "flag": np.array(False)}, id="else"),
    pytest.param(file_with_loop, {**SEQUENCE, "squash": np.array(True)}, id="loop"),
    pytest.param(file_with_loop, {**SEQUENCE, "squash": np.array(False)}, id="loop, other branch"),
]


def saved(tmp_path, proto) -> Graph:
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    return read_onnx(path)


def run_onnxruntime(proto, inputs) -> list[np.ndarray]:
    return ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)


@pytest.mark.parametrize("file, inputs", FILES)
def test_read_run_and_written_again(tmp_path, file, inputs):
    wanted = run_onnxruntime(file(), inputs)
    graph = passes.canonical(saved(tmp_path, file()))
    executable = compile_graph(passes.load(graph))
    for made in (list(executable.run(inputs).values()), run_onnxruntime(to_onnx_model(graph), inputs)):
        for array, expected in zip(made, wanted):
            np.testing.assert_allclose(array, expected, atol=1e-6)


@pytest.mark.parametrize("file, inputs", FILES)
def test_kept_in_lstmrt_files(tmp_path, file, inputs):
    graph = saved(tmp_path, file())
    format.write(tmp_path / "model.lstmrt", ModelFile(graph))
    again = format.read(tmp_path / "model.lstmrt").graph
    assert format.graph_to_json(again) == format.graph_to_json(graph)
    for made, wanted in zip(compile_graph(again).run(inputs).values(), run_onnxruntime(file(), inputs)):
        np.testing.assert_allclose(made, wanted, atol=1e-6)


def test_an_output_that_is_a_constant_is_copied(tmp_path):
    """Constants move to the outermost graph, and onnxruntime refuses a subgraph whose output is not made inside."""
    proto = file_with_branches()
    (choice,) = (node for node in proto.graph.node if node.op_type == "If")
    for attribute in choice.attribute:
        if attribute.name == "else_branch":
            constant = helper.make_node("Constant", [], ["result"], value=initializer("", [[4, 5, 6]]))
            attribute.g.CopyFrom(helper.make_graph([constant], "else", [], [value("result")]))
    inputs = {"x": X, "flag": np.array(False)}
    (made,) = compile_graph(passes.load(passes.canonical(saved(tmp_path, proto)))).run(inputs).values()
    np.testing.assert_allclose(made, X - [[4, 5, 6]], atol=1e-6)


def test_tensor_attributes_are_kept(tmp_path):
    tensors = [np.float16([[1, 2.5]]), np.array([True, False])]
    node = Node("Strange", ("x",), ("y",), {"one": tensors[0], "two": tensors[1]}, domain="example")
    graph = Graph((Value("x", "float32", (1,)),), (Value("y", "float32", (1,)),), (node,), {}).validate()
    format.write(tmp_path / "model.lstmrt", ModelFile(graph))
    kept = format.read(tmp_path / "model.lstmrt").graph.nodes[0].attributes
    for name, tensor in zip(("one", "two"), tensors):
        assert kept[name].dtype == tensor.dtype
        np.testing.assert_array_equal(kept[name], tensor)


def test_a_file_of_graphs_without_end_is_refused(tmp_path):
    graph = Graph((Value("x", "float32", (1,)),), (Value("y", "float32", (1,)),), (Node("If", ("x",), ("y",)),), {})
    for _ in range(40):
        node = Node("If", ("x",), ("y",), {"then_branch": replace(graph, inputs=())})
        graph = replace(graph, nodes=(node,))
    format.write(tmp_path / "model.lstmrt", ModelFile(graph))
    with pytest.raises(ModelFileError, match="model.lstmrt: graphs within graphs"):
        format.read(tmp_path / "model.lstmrt")


# ---- captured values ----


def branching(then: Graph, **constants) -> Graph:
    otherwise = branch(Node("Add", ("x", "x"), ("twice",)))
    node = Node("If", ("flag",), ("y",), {"then_branch": then, "else_branch": otherwise}, "choice")
    return Graph((Value("x", "float32", (2,)), Value("flag", "bool", ())), (Value("y", "float32", (2,)),), (node,), constants)


def branch(*nodes: Node) -> Graph:
    return Graph((), (Value(nodes[-1].outputs[0], "float32", (2,)),), nodes, {})


def test_captured_values_are_reads():
    graph = branching(branch(Node("Add", ("x", "a"), ("sum",)), Node("Mul", ("sum", "b"), ("product",))),
                      a=np.float32([1, 2]), b=np.float32([3, 4]), c=np.float32([5, 6]))
    (node,) = graph.validate().nodes
    assert set(node.reads) == {"flag", "x", "a", "b"}
    assert graph.consumers()["x"] == [node, node]  # once for each branch
    assert set(passes.drop_unused(graph).constants) == {"a", "b"}
    assert {"sum", "product", "twice"} <= graph.names()
    assert next(fresh_names(graph)) not in graph.names()


def test_captured_values_are_renamed():
    graph = branching(branch(Node("Add", ("x", "a"), ("sum",))), a=np.float32([1, 2]))
    (node,) = graph.nodes
    assert set(rename_inputs(node, {"x": "z"}).reads) == {"flag", "z", "a"}


def test_an_identity_before_a_captured_value_is_dropped():
    graph = branching(branch(Node("Add", ("copy", "a"), ("sum",))), a=np.float32([1, 2]))
    graph = replace(graph, nodes=(Node("Identity", ("x",), ("copy",)), *graph.nodes)).validate()
    (node,) = passes.canonical(graph).validate().nodes
    assert "x" in node.reads and "copy" not in node.reads


PLACE = "nodes[0] If 'choice' then_branch "


@pytest.mark.parametrize("then, fault", [
    (branch(Node("Add", ("x", "nobody"), ("sum",))), f"{PLACE}nodes[0] Add: input 'nobody' is made by nobody"),
    (branch(Node("Add", ("x", "y"), ("sum",))), f"{PLACE}nodes[0] Add: input 'y' is made by nobody"),
    (branch(Node("Add", ("x", "x"), ("flag",))), f"{PLACE}nodes[0] Add: output 'flag' is defined before, by inputs[1]"),
    (branch(Node("Relu", ("x",), ("r",), {"slope": 1})), f"{PLACE}nodes[0] Relu slope: unknown attribute"),
    (replace(branch(Node("Relu", ("x",), ("r",))), outputs=()), f"{PLACE}outputs: there are none"),
    (replace(branch(Node("Relu", ("x",), ("r",))), constants={"k": np.float32(1)}), f"{PLACE.strip()}: has constants"),
])
def test_faults_name_the_place(then, fault):
    with pytest.raises(GraphError) as caught:
        branching(then).validate()
    assert any(line.startswith(fault) for line in str(caught.value).split("\n")), str(caught.value)


# ---- an If that only a call can decide ----


def rates_file():
    """Two detectors in one file, chosen by the rate, each with weights and a hidden size of its own, as voice detectors
    for two rates are."""
    rng = np.random.default_rng(6)

    def branch(name: str, hidden: int):
        arrays = {"W": (1, 4 * hidden, 3), "R": (1, 4 * hidden, hidden), "kernel": (hidden, 2)}
        nodes = [helper.make_node("LSTM", ["x", "W", "R"], ["", "hn"], hidden_size=hidden),
                 helper.make_node("Squeeze", ["hn", "zero"], ["last"]),
                 helper.make_node("MatMul", ["last", "kernel"], ["result"])]
        return helper.make_graph(nodes, name, [], [value("result")],
                                 [initializer(key, rng.normal(size=shape) / 2) for key, shape in arrays.items()])

    graph = helper.make_graph(
        [helper.make_node("Equal", ["rate", "sixteen"], ["is sixteen"]),
         helper.make_node("If", ["is sixteen"], ["chosen"], "rates", then_branch=branch("high", 5), else_branch=branch("low", 7)),
         helper.make_node("Sigmoid", ["chosen"], ["y"])],
        "detectors", [value("x", shape=("time", "batch", 3)), value("rate", TensorProto.INT64, ())], [value("y")],
        [numpy_helper.from_array(np.array(16000), "sixteen"), numpy_helper.from_array(np.array([0]), "zero")])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("rate", [16000, 8000])
def test_branches_with_recurrent_nodes_are_native_programs(tmp_path, rate):
    executable = compile_graph(passes.load(passes.canonical(saved(tmp_path, rates_file()))))
    inputs = {"x": RNG.normal(size=(4, 2, 3)).astype(np.float32), "rate": np.array(rate)}
    np.testing.assert_allclose(executable.run(inputs)["y"], run_onnxruntime(rates_file(), inputs)[0], atol=1e-6)
    (choice,) = (segment for segment in executable.segments if segment.kind == "branches")
    assert all(branch.native for branch in choice.branches.values())
    assert "onnxruntime" not in {segment.kind for segment in executable.segments}


def written_out_file():
    """As `rates_file`, of one GRU step written out with Gemm, Sigmoid and Tanh."""
    rng, hidden = np.random.default_rng(8), 5

    def branch(name: str):
        arrays = {"W": (3, 3 * hidden), "R": (hidden, 3 * hidden), "Wb": (3 * hidden,), "Rb": (3 * hidden,)}
        nodes = [helper.make_node("Gemm", ["x", "W", "Wb"], ["of x"]), helper.make_node("Gemm", ["h", "R", "Rb"], ["of h"]),
                 helper.make_node("Split", ["of x", "sizes"], ["rx", "zx", "nx"], axis=1),
                 helper.make_node("Split", ["of h", "sizes"], ["rh", "zh", "nh"], axis=1),
                 helper.make_node("Add", ["rx", "rh"], ["r sum"]), helper.make_node("Sigmoid", ["r sum"], ["r"]),
                 helper.make_node("Add", ["zx", "zh"], ["z sum"]), helper.make_node("Sigmoid", ["z sum"], ["z"]),
                 helper.make_node("Mul", ["r", "nh"], ["reset"]), helper.make_node("Add", ["nx", "reset"], ["n sum"]),
                 helper.make_node("Tanh", ["n sum"], ["n"]), helper.make_node("Sub", ["h", "n"], ["apart"]),
                 helper.make_node("Mul", ["z", "apart"], ["kept"]), helper.make_node("Add", ["n", "kept"], [f"new h {name}"])]
        return helper.make_graph(nodes, name, [], [value(f"new h {name}", shape=("batch", hidden))],
                                 [initializer(key, rng.normal(size=shape) / 2) for key, shape in arrays.items()])

    graph = helper.make_graph(
        [helper.make_node("Equal", ["rate", "sixteen"], ["is sixteen"]),
         helper.make_node("If", ["is sixteen"], ["hn"], "rates", then_branch=branch("high"), else_branch=branch("low"))],
        "steps", [value("x", shape=("batch", 3)), value("h", shape=("batch", hidden)), value("rate", TensorProto.INT64, ())],
        [value("hn", shape=("batch", hidden))],
        [numpy_helper.from_array(np.array(16000), "sixteen"), numpy_helper.from_array(np.array([hidden] * 3), "sizes")])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("rate", [16000, 8000])
def test_steps_that_branches_write_out_are_lifted(tmp_path, rate):
    executable = compile_graph(passes.load(passes.canonical(saved(tmp_path, written_out_file()))))
    inputs = {"x": RNG.normal(size=(2, 3)), "h": RNG.normal(size=(2, 5)), "rate": np.array(rate)}
    inputs = {name: array.astype(np.float32) if array.ndim else array for name, array in inputs.items()}
    np.testing.assert_allclose(executable.run(inputs)["hn"], run_onnxruntime(written_out_file(), inputs)[0], atol=1e-6)
    (choice,) = (segment for segment in executable.segments if segment.kind == "branches")
    for branch in choice.branches.values():
        assert any(node.op == "GRU" for segment in branch.segments if segment.kind == "native" for node in segment.nodes)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_branches_have_the_precision_of_their_model(tmp_path, precision):
    graph = passes.canonical(saved(tmp_path, rates_file()))
    reduced = rounded(graph, precision)
    assert len(weights(graph)) == 6, "the weights of both branches"
    inputs = {"x": RNG.normal(size=(4, 2, 3)).astype(np.float32), "rate": np.array(8000)}
    full, found = (compile_graph(passes.load(reduced), precision=one).run(inputs)["y"] for one in ("f32", precision))
    assert found.tobytes() != full.tobytes(), "inputs are rounded as well"
    np.testing.assert_allclose(found, reference.run(reduced, inputs)["y"], atol=0.02)


def test_a_branch_that_does_not_fit_is_an_error_only_where_it_is_taken(tmp_path):
    proto = rates_file()
    for attribute in proto.graph.node[1].attribute:
        if attribute.name == "else_branch":
            attribute.g.initializer[2].CopyFrom(initializer("kernel", np.zeros((4, 2))))
    executable = compile_graph(passes.load(passes.canonical(saved(tmp_path, proto))))
    x = RNG.normal(size=(4, 2, 3)).astype(np.float32)
    assert executable.run({"x": x, "rate": np.array(16000)})["y"].shape == (2, 2)
    with pytest.raises(InputError, match="If 'rates': .*inner sizes differ"):
        executable.run({"x": x, "rate": np.array(8000)})
