"""ONNX files in: what maps, what older opsets wrote otherwise, and what is refused, by name."""

from __future__ import annotations

import numpy as np
import pytest

import lstmrt
from lstmrt import reference
from lstmrt.converters.from_onnx import read_onnx
from lstmrt.errors import ModelFileError, UnsupportedError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402  (after the skip)


def model(nodes, initializers=(), opset: int = 20, x=("batch", 3), y_rank: int = 2):
    graph = helper.make_graph(
        list(nodes), "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (None,) * y_rank)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(initializers).items()])
    return helper.make_model(graph, ir_version=7, opset_imports=[helper.make_opsetid("", opset)])


@pytest.fixture
def read(tmp_path):
    def read(proto):
        path = tmp_path / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        return read_onnx(path)
    return read


def run(graph, x) -> np.ndarray:
    return reference.run(graph, {"x": np.asarray(x, np.float32)})["y"]


def test_constants_nodes_and_attributes(read):
    graph = read(model([
        helper.make_node("Constant", [], ["bias"], value=numpy_helper.from_array(np.float32([1, 2, 3]))),
        helper.make_node("Add", ["x", "bias"], ["sum"], name="add"),
        helper.make_node("LeakyRelu", ["sum"], ["y"], alpha=0.25)]))
    assert [str(node) for node in graph.nodes] == ["Add 'add'", "LeakyRelu"]
    assert graph.inputs[0].shape == ("batch", 3)
    np.testing.assert_array_equal(run(graph, [[-5, -5, -1]]), [[-1, -0.75, 2]])


def test_a_recurrent_node_without_hidden_size_has_that_of_its_recurrent_weights(read):
    weights = {"W": np.ones((1, 4, 3), np.float32), "R": np.ones((1, 4, 4), np.float32)}
    node = helper.make_node("RNN", ["x", "W", "R"], ["y"])
    assert read(model([node], weights, x=("time", "batch", 3), y_rank=4)).nodes[0].attributes["hidden_size"] == 4


@pytest.mark.parametrize("opset, node, initializers, wanted", [
    (11, helper.make_node("Unsqueeze", ["x"], ["y"], axes=[0]), {}, [[[-2, 1, 5]]]),
    (11, helper.make_node("Softmax", ["x"], ["y"]), {}, np.exp([[-2, 1, 5]]) / np.exp([-2, 1, 5]).sum()),
    (10, helper.make_node("Clip", ["x"], ["y"], min=-1.0, max=2.0), {}, [[-1, 1, 2]]),
    (9, helper.make_node("Slice", ["x"], ["y"], axes=[1], starts=[1], ends=[3]), {}, [[1, 5]]),
    (7, helper.make_node("Dropout", ["x"], ["y"], ratio=0.5), {}, [[-2, 1, 5]]),
    (13, helper.make_node("Unsqueeze", ["x", "axes"], ["y"]), {"axes": [0]}, [[[-2, 1, 5]]]),
    (22, helper.make_node("Unsqueeze", ["x", "axis"], ["y"]), {"axis": 0}, [[[-2, 1, 5]]]),
])
def test_older_opsets(read, opset, node, initializers, wanted):
    np.testing.assert_allclose(run(read(model([node], initializers, opset, y_rank=np.ndim(wanted))), [[-2, 1, 5]]), wanted, rtol=1e-14)


def test_a_declared_shape_that_the_nodes_do_not_make_does_not_matter(read):
    """As some exporters declare of a pool that rounds up, whose last window would lie in the padding alone."""
    pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2], strides=[2], pads=[1, 1], ceil_mode=1)
    proto = model([pool], x=("batch", 3, 3), y_rank=3)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", 3, 3)))
    graph = read(proto)
    assert run(graph, np.ones((2, 3, 3))).shape == (2, 3, 2)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_a_softmax_that_ran_over_several_axes(read, op, axis):
    x = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
    flat = x.reshape(int(np.prod(x.shape[:axis], dtype=int)), -1)
    softmax = np.exp(flat) / np.exp(flat).sum(1, keepdims=True)
    wanted = {"Softmax": softmax, "LogSoftmax": np.log(softmax), "Hardmax": flat == flat.max(1, keepdims=True)}[op]
    graph = read(model([helper.make_node(op, ["x"], ["y"], axis=axis)], opset=11, x=("batch", 3, 4), y_rank=3))
    np.testing.assert_allclose(run(graph, x), wanted.reshape(x.shape), atol=1e-6)


def test_outputs_may_have_no_more_than_a_name(read):
    """As those that were added by hand."""
    proto = model([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Shape", ["y"], ["sizes"])])
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("sizes", "y"))
    assert [(value.name, value.dtype) for value in read(proto).outputs] == [("sizes", "int64"), ("y", "float32")]
    proto.graph.output.append(onnx.ValueInfoProto(name="nothing"))
    with pytest.raises(ModelFileError, match="not a sound ONNX file"):
        read(proto)


def test_attributes_without_a_place_are_refused_all_at_once(read):
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    nodes = [helper.make_node("Optional", [], ["a"], name="one", type=kind),
             helper.make_node("Optional", [], ["b"], name="two", type=kind), helper.make_node("Relu", ["x"], ["y"])]
    with pytest.raises(UnsupportedError, match="(?s)model.onnx: Optional 'one' type: a type_proto has.*Optional 'two' "):
        read(model(nodes))


@pytest.mark.parametrize("node, initializers, wanted", [
    (helper.make_node("Add", ["x", "b"], ["y"], broadcast=1, axis=0), {"b": np.float32([10])}, [[8, 11, 15]]),
    (helper.make_node("Mul", ["x", "b"], ["y"], broadcast=1), {"b": np.float32([1, 2, 3])}, [[-2, 2, 15]]),
    (helper.make_node("Selu", ["x"], ["y"], consumed_inputs=[0]), {},
     [[1.0507 * 1.6732 * np.expm1(-2.0), 1.0507, 5 * 1.0507]]),
    (helper.make_node("Cast", ["x"], ["y"], to="FLOAT"), {}, [[-2, 1, 5]]),
    (helper.make_node("Reshape", ["x"], ["y"], shape=[3, 1]), {}, [[-2], [1], [5]]),
    (helper.make_node("Pad", ["x"], ["y"], paddings=[0, 1, 0, 0], value=7.0), {}, [[7, -2, 1, 5]]),
    (helper.make_node("Concat", ["x", "x"], ["y"]), {}, [[-2, 1, 5, -2, 1, 5]]),
    (helper.make_node("Gemm", ["x", "b", "c"], ["y"], broadcast=1), {"b": np.eye(3, dtype=np.float32), "c": np.float32([1])},
     [[-1, 2, 6]]),
    (helper.make_node("BatchNormalization", ["x", "one", "zero", "zero", "one"], ["y"], consumed_inputs=[0] * 5, is_test=1,
                      epsilon=0.0), {"one": np.ones(3, np.float32), "zero": np.zeros(3, np.float32)}, [[-2, 1, 5]]),
], ids=lambda value: getattr(value, "op_type", ""))
def test_the_oldest_opsets(read, node, initializers, wanted):
    graph = read(model([node], initializers, 1, x=(1, 3), y_rank=2))
    np.testing.assert_allclose(run(graph, [[-2, 1, 5]]), wanted, rtol=1e-6)


def test_unknown_attributes_are_refused(read):
    node = helper.make_node("Relu", ["x"], ["y"], slope=1.0)
    with pytest.raises(ModelFileError, match="model.onnx: .*slope"):
        read(model([node]))


def test_weights_that_do_not_fit_are_named(read):
    node = helper.make_node("RNN", ["x", "W", "R"], ["y"], name="rnn", hidden_size=4)
    weights = {"W": np.ones((1, 4, 3), np.float32), "R": np.ones((1, 4, 5), np.float32)}
    with pytest.raises(ModelFileError, match=r"model.onnx: nodes\[0\] RNN 'rnn' R: shape \(1, 4, 5\)"):
        read(model([node], weights, x=("time", "batch", 3), y_rank=4))


@pytest.mark.parametrize("damage", [lambda b: b[:len(b) // 2], lambda b: b"\x08\x07" + b[9:], lambda b: b""],
                         ids=["truncated", "overwritten", "empty"])
def test_damaged_files(tmp_path, damage):
    path = tmp_path / "model.onnx"
    path.write_bytes(damage(model([helper.make_node("Relu", ["x"], ["y"])]).SerializeToString()))
    with pytest.raises(ModelFileError, match="model.onnx: "):
        read_onnx(path)


def test_external_data_is_read_from_the_folder_and_never_outside(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for place in (folder, tmp_path):
        (place / "weights.bin").write_bytes(np.float32([1, 2, 3]).tobytes())
    proto = model([helper.make_node("Add", ["x", "b"], ["y"])], {"b": np.zeros(3, np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add(key="location", value="weights.bin")
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(run(read_onnx(path), [[1, 1, 1]]), [[2, 3, 4]])

    entry.value = "../weights.bin"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelFileError, match="the data of 'b' is in '../weights.bin', outside its folder"):
        read_onnx(path)


def tagger_of(dtype: int) -> onnx.ModelProto:
    """Two directions of LSTM over rows, their initial state filled in by the graph, and a dense layer, all of `dtype`; numbers
    are those that bfloat16 has."""
    random = np.random.default_rng(5)
    shapes = {"W": (2, 20, 3), "R": (2, 20, 5), "B": (2, 40), "kernel": (10, 4)}
    weights = [numpy_helper.to_array(helper.make_tensor(name, TensorProto.BFLOAT16, shape, random.normal(size=shape).ravel())).astype(
        np.float32) for name, shape in shapes.items()]
    filled = helper.make_tensor("fill", dtype, [1], [0.5])
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]), helper.make_node("Shape", ["x"], ["rows"], end=1),
        helper.make_node("Concat", ["two", "rows", "five"], ["sizes"], axis=0),
        helper.make_node("ConstantOfShape", ["sizes"], ["h"], value=filled),
        helper.make_node("LSTM", ["steps", "W", "R", "B", "", "h", "h"], ["Y"], hidden_size=5, direction="bidirectional"),
        helper.make_node("Cast", ["Y"], ["cast"], to=dtype), helper.make_node("Transpose", ["cast"], ["turned"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["turned", "joined"], ["both"]), helper.make_node("MatMul", ["both", "kernel"], ["y"])]
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in (
        ("two", [2]), ("five", [5]), ("joined", [0, 0, 10]))]
    constants += [helper.make_tensor(name, dtype, w.shape, w.ravel()) for name, w in zip(shapes, weights)]
    graph = helper.make_graph(nodes, "tagger", [helper.make_tensor_value_info("x", dtype, ("batch", "time", 3))],
                              [helper.make_tensor_value_info("y", dtype, ("batch", "time", 4))], constants)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 22)])


def test_bfloat16_is_computed_in_float32(tmp_path):
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    wide, x = tagger_of(TensorProto.FLOAT), np.random.default_rng(6).normal(size=(2, 7, 3)).astype(np.float32)
    (expected,) = ort.InferenceSession(wide.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    onnx.save(tagger_of(TensorProto.BFLOAT16), tmp_path / "narrow.onnx")
    model = lstmrt.load(tmp_path / "narrow.onnx")
    assert {segment.kind for segment in model.segments} == {"native", "NumPy"} and model.inputs[0].dtype == "float32"
    np.testing.assert_allclose(model(x), expected, atol=2e-6)
