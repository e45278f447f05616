"""ONNX files made to do harm, or damaged: one clear error of ours each, nothing read outside the folder.

`make fuzz-onnx` tries the random ones for longer.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seq2seq_graphs import SOURCE, traced_pair, two_graphs

import lstmrt
from lstmrt.errors import LstmrtError, ModelFileError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402  (after the skip)

from lstmrt.converters.to_onnx import to_onnx_model  # noqa: E402

TRIES = int(os.environ.get("LSTMRT_FUZZ", 150))
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
HUGE = 1 << 40


def model(nodes, constants=(), *, x=("batch", 3), opset=17, functions=(), outputs=("y",)) -> onnx.ModelProto:
    initializers = [array if isinstance(array, TensorProto) else numpy_helper.from_array(np.asarray(array), name)
                    for name, array in dict(constants).items()]
    graph = helper.make_graph(list(nodes), "graph", [helper.make_tensor_value_info("x", FLOAT, x)],
                              [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs], initializers)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, ir_version=8, opset_imports=imports, functions=list(functions))


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=op.lower(), **attributes)


def rnn(**constants) -> onnx.ModelProto:
    weights = {"W": np.ones((1, 4, 3), np.float32), "R": np.ones((1, 4, 4), np.float32), **constants}
    return model([node("RNN", ["x", "W", "R"], ["y"], hidden_size=4)], weights, x=("time", "batch", 3))


def tensor(dims, data=b"") -> TensorProto:
    return TensorProto(name="w", dims=dims, data_type=FLOAT, raw_data=data)


def function(name, *calls):
    return helper.make_function("local", name, ["a"], ["b"], [
        helper.make_node(op, ["a" if i == 0 else f"v{i}"], ["b" if i == len(calls) - 1 else f"v{i + 1}"],
                         domain="" if op == "Relu" else "local") for i, op in enumerate(calls)],
        [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)])


def call(op):
    return helper.make_node(op, ["x"], ["y"], domain="local")


NAN = np.full((1, 4, 3), np.nan, np.float32)
BAD = {
    "a circle": (model([node("Relu", ["y"], ["z"]), node("Relu", ["z"], ["y"])]), "topologically sorted|made later"),
    "nobody's input": (model([node("Relu", ["nobody"], ["y"])]), "nobody"),
    "an output that nobody makes": (model([node("Relu", ["x"], ["z"])]), "y"),
    "two nodes of one output": (model([node("Relu", ["x"], ["y"]), node("Exp", ["x"], ["y"])]), "y"),
    "weights of another shape": (rnn(R=np.ones((1, 5, 4), np.float32)), r"RNN 'rnn' R: shape \(1, 5, 4\)"),
    "a weight of other rank": (rnn(W=np.ones((4, 3), np.float32)), r"RNN 'rnn' W: shape \(4, 3\)"),
    "a weight of NaN": (rnn(W=NAN), r"constant 'W' of shape \(1, 4, 3\) holds NaN"),
    "weights of other dtypes": (rnn(R=np.ones((1, 4, 4))), "RNN 'rnn' R: dtype float64, expected float32"),
    "a sum of something that is left out": (model([node("Sum", ["x", "", "x"], ["y"])]), "one of its inputs is left out"),
    "parts that are left out": (model([node("Concat", ["x", "", "x"], ["y"], axis=0)]), "one of its inputs is left out"),
    "dims without data": (model([node("Add", ["x", "w"], ["y"])], {"w": tensor([HUGE])}), "w"),
    "dims with too little data": (model([node("Add", ["x", "w"], ["y"])], {"w": tensor([HUGE], b"1234")}), "w"),
    "bfloat16 of more than 16 bits": (model([node("Cast", ["w"], ["f"], to=FLOAT), node("Add", ["x", "f"], ["y"])], {
        "w": TensorProto(name="w", dims=[3], data_type=TensorProto.BFLOAT16, int32_data=[0x3F80, 0x13F80, 0])}),
        "tensor 'w': 81792 does not fit into 16 bits"),
    "int8 of more than 8 bits": (model([node("Cast", ["w"], ["f"], to=FLOAT), node("Add", ["x", "f"], ["y"])], {
        "w": TensorProto(name="w", dims=[3], data_type=TensorProto.INT8, int32_data=[1, -129, 0])}), "tensor 'w': .*-129"),
    "negative dims": (model([node("Add", ["x", "w"], ["y"])], {"w": tensor([-3], b"0" * 12)}), "w"),
    "a hidden size of 2^31": (model([node("RNN", ["x", "W", "R"], ["y"], hidden_size=1 << 31)], {
        "W": np.ones((1, 4, 3), np.float32), "R": np.ones((1, 4, 4), np.float32)}, x=("t", "b", 3)), "RNN 'rnn' W"),
    "ConstantOfShape": (model([node("ConstantOfShape", ["n"], ["y"])], {"n": np.array([HUGE, HUGE])}), "more than"),
    "Expand": (model([node("Expand", ["x", "n"], ["y"])], {"n": np.array([HUGE, 1, 3])}), "more than"),
    "Tile": (model([node("Tile", ["x", "n"], ["y"])], {"n": np.array([1, HUGE])}), "more than"),
    "Pad": (model([node("Pad", ["x", "n"], ["y"])], {"n": np.array([0, HUGE, 0, 0])}), "more than"),
    "OneHot": (model([node("OneHot", ["x", "n", "v"], ["y"])], {"n": np.array(HUGE), "v": np.float32([0, 1])}), "more than"),
    "Range": (model([node("Range", ["zero", "n", "one"], ["r"]), node("Add", ["x", "r"], ["y"])], {
        "zero": np.float32(0), "n": np.float32(1e12), "one": np.float32(1)}), "more than"),
    "Range that never ends": (model([node("Range", ["zero", "n", "one"], ["r"]), node("Add", ["x", "r"], ["y"])], {
        "zero": np.float32(0), "n": np.float32(np.inf), "one": np.float32(1)}), "from 0.0 to inf"),
    "Conv": (model([node("Conv", ["x", "w"], ["y"], pads=[HUGE, 0])], {"w": np.ones((1, 3, 1), np.float32)},
                   x=(1, 3, 5)), "more than"),
    "Split": (model([node("Split", ["x"], ["y"], num_outputs=HUGE)], opset=18), "num_outputs"),
    "a function that calls itself": (model([call("f")], functions=[function("f", "f")]), "calls itself|[Cc]ycl|recurs"),
    "functions that call each other": (model([call("f")], functions=[function("f", "g"), function("g", "f")]),
                                       "calls itself|[Cc]ycl|recurs"),
    "a constant of no value in a function": (model([call("f")], functions=[helper.make_function(
        "local", "f", ["a"], ["b"], [helper.make_node("Constant", [], ["b"])], [helper.make_opsetid("", 17)])]), "has no value"),
    "functions that multiply": (model([call("f0")], functions=[
        *(function(f"f{i}", f"f{i + 1}", f"f{i + 1}") for i in range(40)), function("f40", "Relu")]), "more than"),
}


def saved(path: Path, proto) -> Path:
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


@pytest.mark.parametrize("name", BAD)
def test_is_refused(tmp_path, name):
    proto, message = BAD[name]
    with pytest.raises(LstmrtError, match=f"(?s)model.onnx: .*({message})"):
        lstmrt.load(saved(tmp_path / "model.onnx", proto))


@pytest.mark.parametrize("nodes, constants", [
    ([node("Expand", ["one", "n"], ["e"]), node("ReduceSum", ["e"], ["y"])], {"one": np.float32([1])}),
    ([node("ConstantOfShape", ["n"], ["c"]), node("ReduceSum", ["c"], ["y"])], {}),
    ([node("Tile", ["one", "n"], ["t"]), node("ReduceSum", ["t"], ["y"])], {"one": np.float32([1])}),
], ids=["Expand", "ConstantOfShape", "Tile"])
def test_sizes_that_only_a_call_knows(tmp_path, nodes, constants):
    cast = node("Cast", ["x"], ["n"], to=INT64)
    loaded = lstmrt.load(saved(tmp_path / "model.onnx", model([cast, *nodes], constants, x=(1,))))
    assert loaded(np.float32([5])).shape == (1,)
    with pytest.raises(lstmrt.InputError, match="more than"):
        loaded(np.float32([HUGE]))


def test_an_axis_that_no_array_has(tmp_path):
    softmax = model([node("Softmax", ["x"], ["y"], axis=1 << 40)], opset=11)
    loaded = lstmrt.load(saved(tmp_path / "model.onnx", softmax))
    assert [segment.kind for segment in loaded.segments] == ["onnxruntime"]  # what it means is for others to say


# ---- data outside the file ----


def with_external(location: str, **further: str) -> onnx.ModelProto:
    proto = model([node("Add", ["x", "b"], ["y"])], {"b": np.zeros(3, np.float32)})
    weights = proto.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **further}.items():
        weights.external_data.add(key=key, value=value)
    return proto


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with the data, a secret beside it, and links."""
    inside = tmp_path / "folder"
    inside.mkdir()
    (inside / "weights.bin").write_bytes(np.float32([1, 2, 3]).tobytes())
    (tmp_path / "secret").write_bytes(np.float32([7, 7, 7]).tobytes())
    (inside / "out").symlink_to(tmp_path / "secret")
    (inside / "up").symlink_to(tmp_path)
    (inside / "circle").symlink_to(inside / "circle")
    os.mkfifo(inside / "pipe")
    return inside


def test_data_in_the_folder_is_read(folder):
    loaded = lstmrt.load(saved(folder / "model.onnx", with_external("weights.bin")))
    np.testing.assert_array_equal(loaded(np.ones((1, 3), np.float32)), [[2, 3, 4]])


@pytest.mark.parametrize("location, message", [
    ("../secret", "outside its folder"), ("out", "outside its folder"), ("up/secret", "outside its folder"),
    ("/etc/passwd", "outside its folder"), ("./../secret", "outside its folder"), ("missing", "is no file"), ("", "is no file"),
    ("pipe", "is no file"), (".", "is no file"), ("circle", "circle"), ("a\0b", ""), ("x" * 5000, ""),
    ("https://example.com/weights.bin", "is no file"),
])
def test_data_elsewhere_is_not_read(folder, location, message):
    with pytest.raises(ModelFileError, match=f"model.onnx: .*'b'.*{message}"):
        lstmrt.load(saved(folder / "model.onnx", with_external(location)))


@pytest.mark.parametrize("further", [{"offset": "8"}, {"offset": "99999999"}, {"offset": "-4"}, {"offset": "four"},
                                     {"length": "4"}, {"length": "-1"}, {"offset": str(HUGE), "length": str(HUGE)}], ids=str)
def test_data_that_is_not_all_there(folder, further):
    with pytest.raises(ModelFileError, match="model.onnx: "):
        lstmrt.load(saved(folder / "model.onnx", with_external("weights.bin", **further)))


# ---- at random ----


def branch(op: str) -> onnx.GraphProto:
    return helper.make_graph([helper.make_node(op, ["x"], [f"{op}_out"])], op, [],
                             [helper.make_tensor_value_info(f"{op}_out", FLOAT, None)])


def sound() -> list[onnx.ModelProto]:
    """Small files of every kind: recurrent nodes, plumbing, foreign operators, control flow, functions."""
    random = np.random.default_rng(8)

    def weights(*shape):
        return random.normal(size=shape).astype(np.float32) / 2

    lstm = model([
        node("LSTM", ["x", "W", "R", "B"], ["Y", "h"], hidden_size=4, direction="bidirectional", clip=2.0),
        node("Transpose", ["Y"], ["t"], perm=[0, 2, 1, 3]), node("Reshape", ["t", "shape"], ["r"]),
        node("MatMul", ["r", "kernel"], ["m"]), node("Softmax", ["m"], ["y"], axis=2),
    ], {"W": weights(2, 16, 3), "R": weights(2, 16, 4), "B": weights(2, 32), "shape": np.array([0, 0, -1]),
        "kernel": weights(8, 5)}, x=("time", "batch", 3))
    plumbing = model([
        node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]), node("Unsqueeze", ["n", "axes"], ["u"]),
        node("Concat", ["u", "three"], ["target"], axis=0), node("Expand", ["one", "target"], ["e"]),
        node("Slice", ["x", "axes", "three"], ["cut"]), node("Split", ["x"], ["a", "b", "c"], axis=1),
        node("Where", ["flag", "e", "x"], ["w"]), node("ReduceMean", ["w"], ["mean"], axes=[1]),
        node("TopK", ["x", "k"], ["top", "where"]), node("Add", ["mean", "top"], ["y"]),
    ], {"zero": np.array(0), "axes": np.array([0]), "three": np.array([3]), "one": np.float32([1]),
        "flag": np.array([True, False, True]), "k": np.array([1])})
    foreign = model([
        node("If", ["flag"], ["i"], then_branch=branch("Det"), else_branch=branch("Relu")),
        node("Conv", ["x", "w"], ["c"], pads=[1, 1]), node("Relu", ["c"], ["y"]), call("twice")],
        {"flag": np.array(False), "w": weights(3, 3, 3)}, x=(2, 3, 3), functions=[function("twice", "Relu", "Relu")])
    foreign.graph.node[-1].output[0] = "other"
    old = model([node("Squeeze", ["x"], ["s"], axes=[0]), node("Softmax", ["s"], ["p"], axis=0),
                 node("Clip", ["p"], ["y"], min=0.1, max=0.9)], x=(1, 2, 3), opset=9)
    quantized = model([
        node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]), node("MatMulInteger", ["q", "w", "zero"], ["m"]),
        node("Cast", ["m"], ["f"], to=FLOAT), node("Mul", ["f", "scale"], ["y"])],
        {"w": random.integers(-9, 9, (3, 4)).astype(np.int8)})
    return [lstm, plumbing, foreign, old, quantized]


SOUND = sound()


@pytest.mark.parametrize("proto", SOUND, ids=["lstm", "plumbing", "foreign", "old", "quantized"])
def test_the_files_that_are_damaged_here_were_sound(tmp_path, proto):
    loaded = lstmrt.load(saved(tmp_path / "model.onnx", proto))
    shape = [size if isinstance(size, int) else 2 for size in loaded.inputs[0].shape]
    assert np.isfinite(loaded.run({"x": np.ones(shape, np.float32)})["y"]).all()


NUMBERS = st.sampled_from((-HUGE, -2, -1, 0, 1, 2, 3, 7, 64, 1 << 20, 1 << 31, HUGE, (1 << 63) - 1))
WORDS = st.sampled_from(("", "x", "y", "W", "R", "B", "h", "s", "zero", "Relu", "LSTM", "GRU", "Loop", "Constant", "Range",
                         "reverse", "Tanh", "com.microsoft", "lstmrt", "\x00"))


def rewrite(draw, message) -> None:
    """Changes one field somewhere in a protobuf message."""
    while True:
        fields = [(field, value) for field, value in message.ListFields() if not (field.name == "raw_data" and draw(st.booleans()))]
        if not fields:
            return
        field, value = draw(st.sampled_from(fields))
        if field.message_type:
            message = draw(st.sampled_from(list(value))) if field.is_repeated else value
            if draw(st.integers(0, 5)) == 0:
                message.CopyFrom(type(message)())  # it is empty now
                return
            continue
        new = {"str": WORDS, "int": NUMBERS, "float": st.sampled_from((0.0, -1.5, float("nan"), float("inf"), 1e30)),
               "bytes": st.binary(max_size=9)}[type(value[0] if field.is_repeated else value).__name__]
        if field.is_repeated:
            place = draw(st.integers(0, len(value) - 1))
            what = draw(st.integers(0, 3))
            if what == 0:
                del value[place]
            elif what == 1:
                value.append(draw(new))
            else:
                value[place] = draw(new)
        else:
            setattr(message, field.name, draw(new))
        return


def try_to_use(path: Path, content: bytes) -> None:
    """Loads what may be a model and runs it: only errors of ours may come out."""
    path.write_bytes(content)
    try:
        loaded = lstmrt.load(path)
        shapes = {value.name: [min(size, 3) if isinstance(size, int) else 2 for size in value.shape or (2, 3)]
                  for value in loaded.inputs}
        with np.errstate(all="ignore"):
            loaded.run({value.name: np.ones(shapes[value.name], value.dtype) for value in loaded.inputs})
    except LstmrtError as error:
        assert str(error)


fuzz = settings(max_examples=TRIES, deadline=None, derandomize="LSTMRT_FUZZ" not in os.environ,
                suppress_health_check=list(HealthCheck), database=None)


@fuzz
@given(data=st.data())
def test_rewritten_files(tmp_path_factory, data):
    proto = onnx.ModelProto()
    proto.CopyFrom(data.draw(st.sampled_from(SOUND)))
    for _ in range(data.draw(st.integers(1, 3))):
        try:
            rewrite(data.draw, proto)
        except (ValueError, TypeError, OverflowError):  # protobuf does not take the new value there
            pass
    try_to_use(tmp_path_factory.getbasetemp() / "rewritten.onnx", proto.SerializeToString())


@fuzz
@given(data=st.data())
def test_damaged_files(tmp_path_factory, data):
    content = bytearray(data.draw(st.sampled_from(SOUND)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    try_to_use(tmp_path_factory.getbasetemp() / "damaged.onnx", bytes(content[:data.draw(st.sampled_from(
        (len(content), len(content), len(content) // 2)))]))


# ---- an encoder and a decoder ----

PAIRS = [tuple(map(to_onnx_model, pair)) for pair in (two_graphs(), traced_pair(False), traced_pair(True))]
NAMES = st.sampled_from(("source", "target", "prefix", "memory", "hidden", "hidden_out", "state", "decoder/hidden", ""))


def rename(proto, old: str, new: str) -> None:
    for values in [values for one in proto.graph.node for values in (one.input, one.output)]:
        values[:] = [new if name == old else name for name in values]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.name = new if value.name == old else value.name


def misfit(draw, proto) -> None:
    """Changes what one half says of its inputs and outputs: names, dtypes, sizes, how many there are, which is which."""
    graph, what = proto.graph, draw(st.integers(0, 5))
    value = draw(st.sampled_from([*graph.input, *graph.output]))
    sizes = value.type.tensor_type.shape.dim
    if what == 0:
        rename(proto, value.name, draw(NAMES))
    elif what == 1 and sizes:
        draw(st.sampled_from(list(sizes))).dim_value = draw(st.sampled_from((0, 1, 2, 11, 12, 17, 1 << 20, HUGE)))
    elif what == 2 and sizes:
        draw(st.sampled_from(list(sizes))).dim_param = draw(st.sampled_from(("", "batch", "steps", "source_time")))
    elif what == 3:
        value.type.tensor_type.elem_type = draw(st.integers(1, 17))
    elif what == 4:
        values = draw(st.sampled_from([graph.input, graph.output, graph.node, graph.initializer]))
        del values[draw(st.integers(0, len(values) - 1))]
    else:  # a state that is its own next value, or a circle
        rename(proto, graph.output[-1].name, draw(st.sampled_from(list(graph.input))).name)


@fuzz
@given(data=st.data())
def test_pairs_that_do_not_go_together(tmp_path_factory, data):
    draw, paths = data.draw, []
    for name, half in zip("ed", draw(st.sampled_from([*PAIRS, PAIRS[0][::-1], (PAIRS[0][0], PAIRS[1][1])]))):
        proto = onnx.ModelProto()
        proto.CopyFrom(half)
        for _ in range(draw(st.integers(0, 2))):
            try:
                draw(st.sampled_from((misfit, misfit, rewrite)))(draw, proto)
            except (ValueError, TypeError, OverflowError, IndexError):  # nothing is left to change, or protobuf does not take it
                pass
        paths.append(saved(tmp_path_factory.getbasetemp() / f"{name}.onnx", proto))
    try:
        pair = lstmrt.load(paths[0], decoder=paths[1])
        with np.errstate(all="ignore"):
            pair.generate(SOURCE, max_new_tokens=3, decoder_start_token_id=1)
    except LstmrtError as error:
        assert str(error)


def test_a_source_of_absurd_length(tmp_path):
    encoder, decoder = onnx.ModelProto(), saved(tmp_path / "decoder.onnx", PAIRS[0][1])
    encoder.CopyFrom(PAIRS[0][0])
    encoder.graph.input[0].type.tensor_type.shape.dim[1].dim_value = HUGE
    pair = lstmrt.load(saved(tmp_path / "encoder.onnx", encoder), decoder=decoder)
    with pytest.raises(LstmrtError, match=f"source 'source': {HUGE} steps are more than"):
        pair.generate(SOURCE, decoder_start_token_id=1)
