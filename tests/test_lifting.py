"""Recurrences written with plain operators become recurrent nodes; what is none stays as it is, and both run right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
import onnx  # noqa: E402  (after the skip)
from onnx import numpy_helper  # noqa: E402
from recurrences import Form, recurrence  # noqa: E402

import lstmrt  # noqa: E402
from lstmrt import passes, reference  # noqa: E402
from lstmrt.errors import ModelWarning  # noqa: E402
from lstmrt.graph import Graph, Node, Value  # noqa: E402


@st.composite
def forms(draw, containers=("Loop", "Scan")) -> Form:
    op = draw(st.sampled_from(("LSTM", "GRU", "RNN")))
    linear = draw(st.booleans())
    container = draw(st.sampled_from(containers))
    product = draw(st.sampled_from(("matmul", "gemm") if op == "GRU" else ("matmul", "gemm", "concat")))
    return Form(
        op, linear, container, joined=draw(st.booleans()), product=product, cut=draw(st.sampled_from(("Split", "Slice"))),
        bias=draw(st.booleans()), states=draw(st.sampled_from(("zeros", "inputs"))),
        mask=draw(st.sampled_from((None, "where", "mul"))),
        masked_output=draw(st.sampled_from(("carry", "zero"))), backwards=draw(st.booleans()),
        batch_first=draw(st.booleans()), activation=draw(st.sampled_from(("Sigmoid", "HardSigmoid"))),
        other_update=draw(st.booleans()), last_only=draw(st.booleans()), time=draw(st.sampled_from((2, 4, 5))),
        seed=draw(st.integers(0, 10**6)))


def check(form: Form, tmp_path) -> lstmrt.Model:
    proto, inputs = recurrence(form)
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    wanted = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)
    model = lstmrt.load(path)
    for made, expected in zip(model.run(inputs).values(), wanted, strict=True):
        np.testing.assert_allclose(made, expected, rtol=0, atol=2e-6)
    return model


many = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@many
@given(form=forms())
def test_loops_and_scans_become_one_native_program(tmp_path_factory, form):
    model = check(form, tmp_path_factory.mktemp("loop"))
    assert [segment.kind for segment in model.segments] == ["native"]
    assert [node.op for node in model.graph.nodes].count(form.op) == 1


@many
@given(form=forms(containers=("unrolled",)))
def test_steps_become_one_recurrent_node(tmp_path_factory, form):
    model = check(form, tmp_path_factory.mktemp("unrolled"))
    assert [segment.kind for segment in model.segments] == ["native"]
    assert [node.op for node in model.graph.nodes].count(form.op) == 1


@pytest.mark.parametrize("time", [1, 4])
def test_steps_of_a_sequence_of_any_length_are_told_of(tmp_path, time):
    """As tracing leaves them: what is beyond the traced length is not read, by onnxruntime neither."""
    proto, inputs = recurrence(Form("LSTM", container="unrolled", cut="Slice", time=time, seed=3))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "time"
    x = np.random.default_rng(0).normal(size=(time + 2, 3, 5)).astype(np.float32)
    onnx.save(proto, tmp_path / "model.onnx")
    wanted = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {**inputs, "x": x})
    with pytest.warns(lstmrt.ModelWarning, match=f"written out for {time} steps of a sequence of any length"):
        model = lstmrt.load(tmp_path / "model.onnx")
    assert [node.op for node in model.graph.nodes].count("LSTM") == 1
    for made, expected in zip(model.run({**inputs, "x": x}).values(), wanted, strict=True):
        np.testing.assert_allclose(made, expected, rtol=0, atol=2e-6)


def test_outputs_alone_that_are_masked_leave_the_states_unmasked(tmp_path):
    proto, inputs = recurrence(Form("GRU", container="unrolled", cut="Slice", seed=3))
    graph, steps = proto.graph, next(node for node in proto.graph.node if node.op_type == "Concat")
    for i, name in enumerate(steps.input):
        made = f"masked {i}"
        graph.node.append(onnx.helper.make_node("Where", ["bools", name, "zero"], [made]))
        graph.output.append(onnx.helper.make_tensor_value_info(made, onnx.TensorProto.FLOAT, None))
    graph.input.append(onnx.helper.make_tensor_value_info("bools", onnx.TensorProto.BOOL, ("batch", 1)))
    graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    inputs["bools"] = np.array([[True], [False], [True]])
    onnx.save(proto, tmp_path / "model.onnx")
    model = lstmrt.load(tmp_path / "model.onnx")
    wanted = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)
    for made, expected in zip(model.run(inputs).values(), wanted, strict=True):
        np.testing.assert_allclose(made, expected, rtol=0, atol=2e-6)
    assert [node.op for node in model.graph.nodes].count("GRU") == 1
    assert not any(node.op in ("Sigmoid", "MatMul") for node in model.graph.nodes)


@pytest.mark.parametrize("container, backwards, time, batch", [("Scan", True, 3, 1), ("Scan", False, 3, 2), ("Loop", True, 2, 1)])
@pytest.mark.parametrize("states", ["zeros", "inputs"])
def test_masked_steps_that_come_first_show_the_states_before(tmp_path, container, backwards, time, batch, states):
    """The state itself as the output: where it does not begin with zeros, no recurrent node gives that."""
    for seed in range(4):
        form = Form("GRU", container=container, mask="where", masked_output="state", backwards=backwards, time=time,
                    batch=batch, states=states, seed=seed)
        proto, inputs = recurrence(form)
        onnx.save(proto, tmp_path / "model.onnx")
        model = lstmrt.load(tmp_path / "model.onnx")
        assert ("GRU" in {node.op for node in model.graph.nodes}) == (states == "zeros")
        session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        for masked in (0, time - 1):
            given = {**inputs, "mask": np.repeat(np.arange(time)[:, None] != masked, batch, axis=1)}
            for made, expected in zip(model.run(given).values(), session.run(None, given), strict=True):
                np.testing.assert_allclose(made, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "float64"])
@pytest.mark.parametrize("container", ["Loop", "Scan", "unrolled"])
def test_sequences_of_other_dtypes_than_the_states(tmp_path, container, dtype):
    check(Form("LSTM", container=container, dtype=dtype), tmp_path)


# ---- what is no recurrence of ours stays, and runs ----


def rewired(form: Form, op: str, new_op: str) -> onnx.ModelProto:
    """The form's model with the first `op` of its loop's body as another operator."""
    proto, _ = recurrence(form)
    (loop,) = (node for node in proto.graph.node if node.op_type in ("Loop", "Scan"))
    body = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    next(node for node in body.node if node.op_type == op).op_type = new_op
    return proto


@pytest.mark.parametrize("form, op, new_op", [
    (Form("LSTM"), "Tanh", "Sin"),
    (Form("LSTM", joined=False), "Sigmoid", "Tanh"),
    (Form("GRU", linear=True), "Sub", "Add"),
    (Form("GRU"), "Mul", "Add"),
    (Form("LSTM", container="Scan"), "Mul", "Max"),
    (Form("RNN", product="gemm", mask="where"), "Tanh", "Sin"),
])
def test_another_cell_stays_a_loop(tmp_path, form, op, new_op):
    proto, (_, inputs) = rewired(form, op, new_op), recurrence(form)
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    wanted = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)
    model = lstmrt.load(path)
    assert {"Loop", "Scan"} & {node.op for node in model.graph.nodes}
    for made, expected in zip(model.run(inputs).values(), wanted, strict=True):
        np.testing.assert_allclose(made, expected, rtol=0, atol=2e-6)


def test_steps_with_weights_of_their_own_are_no_recurrence(tmp_path):
    """The second step's recurrent weights are others."""
    proto, inputs = recurrence(Form("GRU", linear=True, container="unrolled", time=3))
    matrices = [node for node in proto.graph.node if node.op_type == "MatMul"]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    second = [node for node in matrices if shapes[node.input[1]] == (7, 21)][1]
    proto.graph.initializer.append(numpy_helper.from_array(
        np.random.default_rng(9).normal(size=(7, 21)).astype(np.float32), "others"))
    second.input[1] = "others"
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    (wanted, last) = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)
    model = lstmrt.load(path)
    assert [node.op for node in model.graph.nodes].count("GRU") != 1
    np.testing.assert_allclose(model.run(inputs)[model.outputs[0].name], wanted, rtol=0, atol=2e-6)


def test_a_rewrite_that_computes_something_else_is_thrown_away(tmp_path, monkeypatch):
    """Breaks the gate order that lifting writes: the proof must notice, and the loop must stay."""
    from lstmrt.lifting import cells

    proto, inputs = recurrence(Form("GRU"))
    onnx.save(proto, tmp_path / "model.onnx")
    monkeypatch.setattr(cells, "ONNX", {**cells.ONNX, "GRU": "rzh"})
    model = lstmrt.load(tmp_path / "model.onnx")
    assert "Loop" in {node.op for node in model.graph.nodes}
    wanted = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)
    np.testing.assert_allclose(model.run(inputs)[model.outputs[0].name], wanted[0], rtol=0, atol=2e-6)


def test_one_step_of_a_sequence_of_any_length_is_told():
    """What Keras's torch backend exports of a SimpleRNN: zeros times a matrix give away that it was a recurrence."""
    rng = np.random.default_rng(2)
    constants = {"first": np.array(0), "zero": np.array(0, np.float32), "hidden": np.array([3]), "batch": np.array([0]),
                 "W": rng.normal(size=(4, 3)).astype(np.float32), "R": rng.normal(size=(3, 3)).astype(np.float32)}
    nodes = (Node("Shape", ("x",), ("shape",)), Node("Gather", ("shape", "batch"), ("rows",)),
             Node("Concat", ("rows", "hidden"), ("sizes",), {"axis": 0}), Node("Expand", ("zero", "sizes"), ("h",)),
             Node("Gather", ("x", "first"), ("step",), {"axis": 1}), Node("MatMul", ("step", "W"), ("a",)),
             Node("MatMul", ("h", "R"), ("b",)), Node("Add", ("a", "b"), ("s",)), Node("Tanh", ("s",), ("y",)))
    graph = Graph((Value("x", "float32", ("batch", "time", 4)),), (Value("y", "float32", None),), nodes, constants).validate()
    with pytest.warns(ModelWarning, match="1 steps of a sequence of any length"):
        lifted = passes.canonical(graph)
    assert [node.op for node in lifted.nodes].count("RNN") == 1
    x = rng.normal(size=(2, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(reference.run(lifted, {"x": x})["y"], reference.run(graph, {"x": x})["y"], atol=1e-6)


def test_what_is_wider_than_every_matrix_is_no_state():
    width = 1 << 20  # squared, no memory holds it
    constants = {"w": np.ones((3, 3), np.float32), "half": np.array(0.5, np.float32)}
    nodes = (Node("Mul", ("wide", "half"), ("scaled",)), Node("Tanh", ("scaled",), ("y",)), Node("Erf", ("wide",), ("z",)),
             Node("MatMul", ("narrow", "w"), ("v",)))
    graph = Graph(tuple(Value(name, "float32", ("batch", size)) for name, size in (("wide", width), ("narrow", 3))),
                  tuple(Value(name, "float32", None) for name in "yzv"), nodes, constants, "wide").validate()
    assert {node.op for node in passes.canonical(graph).nodes} == {"Mul", "Tanh", "Erf", "MatMul"}


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_cells_behind_a_foreign_operator_are_found(op, tmp_path):
    """What that makes is known from the onnx package."""
    proto, inputs = recurrence(Form(op, container="unrolled", time=3))
    graph = proto.graph
    for node in graph.node:
        node.input[:] = ["normal" if name == "x" else name for name in node.input]
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    for node in (onnx.helper.make_node("Squeeze", ["local", "first"], ["normal"]),
                 onnx.helper.make_node("LRN", ["image"], ["local"], size=3),
                 onnx.helper.make_node("Unsqueeze", ["x", "first"], ["image"])):
        graph.node.insert(0, node)
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    wanted = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)
    model = lstmrt.load(path)
    assert [node.op for node in model.graph.nodes].count(op) == 1
    for made, expected in zip(model.run(inputs).values(), wanted, strict=True):
        np.testing.assert_allclose(made, expected, rtol=0, atol=2e-6)
