"""ONNX out and in: what is written is sound and means the same; what cannot be read or written is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import assert_close, exact_with_tolerances
from strategies import recurrent_graphs

from lstmrt import passes, reference
from lstmrt.converters.from_onnx import read_onnx
from lstmrt.converters.to_onnx import to_onnx_model, write_onnx
from lstmrt.errors import LstmrtError, ModelFileError, UnsupportedError
from lstmrt.graph import EXTENSION, Graph, Node, Value

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SAMPLES = Path(__file__).parents[1].with_name("shared") / "samples"


def rnn(*, inputs=("x", "W", "R"), domain="", **attributes) -> Graph:
    """An RNN of 3 inputs and 4 units, batch first, its weights all different."""
    rng = np.random.default_rng(5)
    constants = {"W": rng.normal(size=(1, 4, 3)).astype(np.float32), "R": rng.normal(size=(1, 4, 4)).astype(np.float32)}
    values = [Value("x", "float32", ("batch", "time", 3)), Value("m", "bool", ("batch", "time"))]
    node = Node("RNN", inputs, ("Y",), {"hidden_size": 4, "layout": 1, **attributes}, "layer", domain)
    return Graph(tuple(value for value in values if value.name in inputs),
                 (Value("Y", "float32", ("batch", "time", 1, 4)),), (node,), constants, "small").validate()


# ---- writing ----


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(case=recurrent_graphs())
def test_what_is_written_is_sound_and_reads_back_the_same(tmp_path_factory, case):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(case.graph, path)
    onnx.checker.check_model(str(path), full_check=True)
    graph = read_onnx(path)
    assert [replace(value, shape=None) for value in graph.outputs] == list(case.graph.outputs)
    assert graph.inputs == case.graph.inputs
    wanted, tolerances = exact_with_tolerances(case.graph, case.inputs)
    assert_close(reference.run(graph, case.inputs), wanted, tolerances)


def test_an_extension_that_uses_nothing_but_onnx_is_written():
    graph = rnn(domain=EXTENSION, masked_output="zero")
    x = np.random.default_rng(6).normal(size=(2, 5, 3)).astype(np.float32)
    model = to_onnx_model(graph)
    assert {node.domain for node in model.graph.node} == {""}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], reference.run(graph, {"x": x})["Y"], atol=1e-6)


@pytest.mark.parametrize("graph, reason", [
    (rnn(inputs=("x", "W", "R", "", "", "", "m"), domain=EXTENSION), "its mask"),
    (rnn(domain=EXTENSION, activations=("Swish",)),
     "activations: ONNX has no Swish; the node's domain must be 'lstmrt'"),
])
def test_what_onnx_cannot_express_is_named(graph, reason):
    with pytest.raises(UnsupportedError) as caught:
        to_onnx_model(graph)
    assert str(caught.value) == f"ONNX cannot express this graph:\nnodes[0] lstmrt:RNN 'layer': {reason}"


def test_folded_input_weights_are_named():
    ids = Value("ids", "int64", ("batch", "time"))
    graph = rnn()
    constants = {**graph.constants, "table": np.ones((7, 3), np.float32)}
    nodes = (Node("Gather", ("table", "ids"), ("x",)), *graph.nodes)
    graph = passes.load(replace(graph, inputs=(ids,), nodes=nodes, constants=constants))
    with pytest.raises(UnsupportedError, match="lstmrt:RNN 'layer': its input weights are folded into its input"):
        to_onnx_model(graph)


# ---- reading ----


def saved(path: Path, nodes: list, opset: int = 20, initializers: dict | None = None, **options) -> Path:
    """A file of float x (2, 3) -> y made of `nodes`."""
    def info(name):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (2, 3) if name == "x" else None)

    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, options.pop("y_shape", (2, 3)))
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in (initializers or {}).items()]
    graph = onnx.helper.make_graph(nodes, "small", [info("x")], [y], tensors)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8), path)
    return path


X = np.array([[-3, -1, 0], [1, 2, 5]], np.float32)


@pytest.mark.parametrize("opset, nodes, shape", [
    (7, [("Clip", ["x"], ["y"], {"min": -1.0, "max": 2.0})], (2, 3)),
    (9, [("Slice", ["x"], ["y"], {"starts": [1], "ends": [3], "axes": [1]})], (2, 2)),
    (11, [("Softmax", ["x"], ["y"], {})], (2, 3)),
    (11, [("Unsqueeze", ["x"], ["u"], {"axes": [1]}), ("Squeeze", ["u"], ["y"], {"axes": [1]})], (2, 3)),
    (10, [("Dropout", ["x"], ["y"], {"ratio": 0.5})], (2, 3)),
    (17, [("Constant", [], ["half"], {"value_float": 0.5}), ("Mul", ["x", "half"], ["y"], {})], (2, 3)),
    (17, [("Shape", ["x"], ["s"], {}), ("ConstantOfShape", ["s"], ["zero"], {}), ("Add", ["x", "zero"], ["y"], {})],
     (2, 3)),
    (22, [("HardSigmoid", ["x"], ["y"], {"alpha": 0.25})], (2, 3)),
])
def test_older_and_newer_opsets_mean_the_same(tmp_path, opset, nodes, shape):
    path = saved(tmp_path / "model.onnx", [onnx.helper.make_node(op, ins, outs, **attributes)
                                           for op, ins, outs, attributes in nodes], opset, y_shape=shape)
    (wanted,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": X})
    graph = passes.canonical(read_onnx(path))
    np.testing.assert_allclose(reference.run(graph, {"x": X})["y"], wanted, atol=1e-6)


def branch() -> onnx.GraphProto:
    y = onnx.helper.make_tensor_value_info("branch", onnx.TensorProto.FLOAT, (2, 3))
    return onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["branch"])], "branch", [], [y])


@pytest.mark.parametrize("opset, node, initializers, reason", [
    (20, onnx.helper.make_node("If", ["c"], ["y"], "choice", then_branch=branch(), else_branch=branch()),
     {"c": np.array(True)}, "If 'choice' then_branch: control flow has no place in a graph"),
    (6, onnx.helper.make_node("Relu", ["x"], ["y"]), {}, "ONNX opset 6, expected at least 7"),
    (11, onnx.helper.make_node("Softmax", ["x"], ["y"], "soft", axis=0), {}, "Softmax 'soft': runs over several axes"),
    (20, onnx.helper.make_node("Add", ["x", "b"], ["y"]), {"b": np.ones(3, np.uint8)}, "constant 'b': dtype uint8"),
])
def test_what_has_no_place_in_a_graph_is_named(tmp_path, opset, node, initializers, reason):
    path = saved(tmp_path / "model.onnx", [node], opset, initializers)
    with pytest.raises(UnsupportedError) as caught:
        read_onnx(path)
    assert str(path) in str(caught.value) and reason in str(caught.value)


def test_external_data_stays_in_its_folder(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "secret").write_bytes(bytes(12))
    node = onnx.helper.make_node("Add", ["x", "b"], ["y"])
    path = saved(tmp_path / "models" / "model.onnx", [node], 20, {"b": np.ones(3, np.float32)})
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="beside", size_threshold=0)
    assert reference.run(read_onnx(path), {"x": X})["y"].tolist() == (X + 1).tolist()
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = "../secret" if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="model.onnx"):
        read_onnx(path)


@settings(max_examples=150, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_gives_one_error_that_names_it(tmp_path, position, value, cut):
    path = tmp_path / "damaged.onnx"
    content = bytearray(to_onnx_model(rnn()).SerializeToString())
    at = int(position * len(content))
    content[at] = value
    path.write_bytes(content[:at] if cut else content)
    try:
        read_onnx(path)
    except LstmrtError as error:
        assert str(path) in str(error)


def recorded_inputs(path: Path) -> np.lib.npyio.NpzFile:
    return np.load(path.with_name(path.name.split(".")[0] + ".io.npz"))


@pytest.mark.skipif(not SAMPLES.exists(), reason="the folder of samples, ../shared/samples, is not there")
@pytest.mark.parametrize("stem", ["lstm2", "lstm2_bi", "lstm_state", "lstm_nobias", "gru2", "gru_bi_state", "rnn",
                                  "rnn_relu_bi", "packed", "packed_bi"])
def test_torch_s_exports_give_what_torch_gave(stem):
    paths = sorted((SAMPLES / "onnx_torch").glob(f"{stem}.*.onnx"))
    assert paths
    for path in paths:
        graph = passes.load(passes.canonical(read_onnx(path)))
        recorded = recorded_inputs(path)
        made = reference.run(graph, {value.name: recorded[value.name].astype(value.dtype) for value in graph.inputs})
        for i, array in enumerate(made.values()):
            np.testing.assert_allclose(array, recorded[f"out{i}"], atol=1e-5, err_msg=path.name)
