"""ONNX files of other opsets, of torch, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lstmrt
from lstmrt import passes, reference
from lstmrt.converters.from_onnx import read_onnx
from lstmrt.converters.to_onnx import to_onnx_model
from lstmrt.errors import LstmrtError
from lstmrt.graph import Graph, Node, Value

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SAMPLES = Path(__file__).parents[1].with_name("shared") / "samples"


def rnn() -> Graph:
    rng = np.random.default_rng(5)
    constants = {"W": rng.normal(size=(1, 4, 3)).astype(np.float32), "R": rng.normal(size=(1, 4, 4)).astype(np.float32)}
    node = Node("RNN", ("x", "W", "R"), ("Y",), {"hidden_size": 4}, "layer")
    return Graph((Value("x", "float32", ("time", "batch", 3)),), (Value("Y", "float32", ("time", 1, "batch", 4)),),
                 (node,), constants, "small").validate()


def saved(path: Path, nodes: list, opset: int, y_shape: tuple[int, ...]) -> Path:
    """A file of float x (2, 3) -> y made of `nodes`."""
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in (("x", (2, 3)), ("y", y_shape)))
    graph = onnx.helper.make_graph(nodes, "small", [x], [y])
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
                                           for op, ins, outs, attributes in nodes], opset, shape)
    (wanted,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": X})
    graph = passes.canonical(read_onnx(path))
    np.testing.assert_allclose(reference.run(graph, {"x": X})["y"], wanted, atol=1e-6)


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


def test_a_model_that_wants_long_inputs_is_converted(tmp_path):
    kernel = np.ones((1, 3, 50), np.float32)
    graph = Graph((Value("x", "float32", ("batch", 3, "time")),), (Value("y", "float32", None),),
                  (Node("Conv", ("x", "w"), ("y",)),), {"w": kernel}, "long").validate()
    onnx.save(to_onnx_model(graph), tmp_path / "long.onnx")
    lstmrt.convert(tmp_path / "long.onnx", tmp_path / "long.lstmrt")
    x = np.ones((1, 3, 51), np.float32)
    np.testing.assert_array_equal(lstmrt.load(tmp_path / "long.lstmrt")(x), [[[150, 150]]])
