"""LSTMs with weights in int8 whose inputs and states become bytes in each call, against onnxruntime's DynamicQuantizeLSTM.

At batch 1 both round the same numbers to bytes, and differ in the last bits of float32. Where one of them falls to the other
side of the middle between two bytes, a state moves by one step of its scale for a while: at most 2 / 255 of what it is multiplied
with. Tests compare with that, and count how many of the cases are as near as floats are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstmrt
from lstmrt import format, passes, reference
from lstmrt._core import isas
from lstmrt.converters.from_onnx import from_proto
from lstmrt.converters.to_onnx import to_onnx_model
from lstmrt.execution.compile import compile_graph
from lstmrt.verify import verify

NEAR = 3e-6  # of values that are at most 1
HIDDEN = 13


@dataclass(frozen=True)
class Case:
    """A DynamicQuantizeLSTM node by itself; `flip` is how far one byte of a state can move a gate."""

    model: onnx.ModelProto
    inputs: Mapping[str, np.ndarray]
    flip: float

    def onnxruntime(self, inputs: Mapping[str, np.ndarray] | None = None) -> list[np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(self.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, dict(self.inputs if inputs is None else inputs))

    def graph(self) -> Any:
        return passes.load(passes.canonical(from_proto(self.model)))

    def ours(self, isa: str | None = None) -> list[np.ndarray]:
        return list(compile_graph(self.graph(), isa).run(self.inputs).values())


def case(seed: int = 0, *, dtype: str = "int8", per_channel: bool = False, direction: str = "forward", time: int = 7,
         batch: int = 1, inputs: int = 5, hidden: int = HIDDEN, states: bool = False, lengths: tuple[int, ...] = (),
         peepholes: bool = False, bias: bool = True, vary: bool = False, outputs: tuple[str, ...] = ("Y", "Y_h", "Y_c"),
         **attributes: Any) -> Case:
    random = np.random.default_rng(seed)
    directions = 2 if direction == "bidirectional" else 1
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max + 1

    def floats(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (random.normal(size=shape) * scale).astype(np.float32)

    def quantization(width: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (directions, 4 * hidden) if per_channel else (directions,)
        scales = (random.uniform(0.5, 1.5, shape) / (128 * np.sqrt(width))).astype(np.float32)
        of_direction = random.integers(low + 100, high - 100, (1 if per_channel else directions)) if dtype == "uint8" or not per_channel else 0
        return scales, np.broadcast_to(of_direction, shape if per_channel else (directions,)).astype(dtype)

    w = random.integers(low, high, (directions, inputs, 4 * hidden)).astype(dtype)
    r = random.integers(low, high, (directions, hidden, 4 * hidden)).astype(dtype)
    w_scale, w_zero = quantization(inputs)
    r_scale, r_zero = quantization(hidden)
    given = {"x": floats(time, batch, inputs), "W": w, "R": r}
    if bias:
        given["B"] = floats(directions, 8 * hidden, scale=0.3)
    if lengths:
        given["lengths"] = np.array(lengths, np.int32)
    if states:
        given |= {"h": floats(directions, batch, hidden, scale=0.5), "c": floats(directions, batch, hidden)}
    if peepholes:
        given["P"] = floats(directions, 3 * hidden, scale=0.4)
    given |= {"W_scale": w_scale, "W_zero": w_zero, "R_scale": r_scale, "R_zero": r_zero}
    formal = ["x", "W", "R", "B", "lengths", "h", "c", "P", "W_scale", "W_zero", "R_scale", "R_zero"]
    fed = {name for name in ("x", "lengths", "h", "c", *(("W", "R") if vary else ())) if name in given}
    node = helper.make_node("DynamicQuantizeLSTM", [name if name in given else "" for name in formal],
                            [name if name in outputs else "" for name in ("Y", "Y_h", "Y_c")], "layer",
                            domain="com.microsoft", hidden_size=hidden, direction=direction, **attributes)
    shapes = {"x": ("time", "batch", inputs), "lengths": ("batch",), "h": (directions, "batch", hidden)}
    shapes["c"] = shapes["h"]
    graph = helper.make_graph(
        [node], "case",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(given[name].dtype), shapes.get(name, given[name].shape))
         for name in given if name in fed],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in given.items() if name not in fed])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
                              ir_version=8)
    weights = (r.astype(np.float64) - float(r_zero.flat[0])) * r_scale.reshape(directions, 1, -1)
    return Case(model, {name: given[name] for name in fed}, float(2 / 255 * np.abs(weights).max()))


def error_of(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    assert [array.shape for array in found] == [array.shape for array in wanted]
    return max(float(np.abs(a.astype(np.float64) - b).max(initial=0)) for a, b in zip(found, wanted))


CASES = {
    "one scale, int8": {},
    "one scale, uint8": {"dtype": "uint8"},
    "a scale for each output": {"per_channel": True},
    "a scale for each output, uint8": {"per_channel": True, "dtype": "uint8"},
    "both directions": {"direction": "bidirectional", "dtype": "uint8"},
    "both directions, a scale for each output": {"direction": "bidirectional", "per_channel": True, "states": True},
    "backwards": {"direction": "reverse", "states": True},
    "backwards, shorter": {"direction": "reverse", "lengths": (4,)},
    "shorter": {"lengths": (3,), "states": True, "direction": "bidirectional"},
    "no step": {"lengths": (0,), "states": True},
    "one step": {"time": 1, "states": True},
    "long": {"time": 150, "hidden": 8},
    "wide": {"inputs": 259, "hidden": 67, "time": 9, "direction": "bidirectional"},
    "one input": {"inputs": 1, "hidden": 1},
    "no bias": {"bias": False, "states": True},
    "peepholes": {"peepholes": True, "states": True},
    "clip": {"clip": 0.25},
    "functions": {"activations": ["Relu", "ScaledTanh", "Tanh"], "activation_alpha": [0.75], "activation_beta": [0.5]},
    "Y_h alone": {"outputs": ("Y_h",)},
}


def test_batch_of_one_is_onnxruntimes() -> None:
    near = []
    for i, (name, options) in enumerate(CASES.items()):
        made = case(i, **options)
        error = error_of(made.ours(), made.onnxruntime())
        assert error <= made.flip, name
        near.append(error <= NEAR)
    assert sum(near) >= len(near) - 2


def test_reference_is_onnxruntimes() -> None:
    near = []
    for i, (name, options) in enumerate(CASES.items()):
        made = case(100 + i, **options)
        wanted = made.onnxruntime()
        error = error_of(list(reference.run(from_proto(made.model), made.inputs).values()), wanted)
        assert error <= made.flip, name
        near.append(error <= NEAR)
    assert sum(near) >= len(near) - 2


def test_instruction_sets_agree() -> None:
    made = case(1, direction="bidirectional", dtype="uint8", inputs=131, hidden=37, states=True)
    results = [made.ours(isa) for isa, runs in isas("int8") if runs]
    assert max(error_of(result, results[0]) for result in results) <= made.flip
    assert sum(error_of(result, results[0]) <= NEAR for result in results) >= len(results) - 1


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_sequences_of_a_batch_are_quantized_by_themselves(direction: str) -> None:
    """onnxruntime's batch shares one scale; each sequence is what onnxruntime makes of it alone."""
    lengths = (9, 4, 0, 7)
    made = case(3, direction=direction, batch=4, time=9, lengths=lengths, states=True, per_channel=True)
    made.inputs["x"][:, 1] *= 20
    found = made.ours()
    for b, length in enumerate(lengths):
        alone = {name: array[b:b + 1] if name == "lengths" else array[:, b:b + 1] for name, array in made.inputs.items()}
        wanted = made.onnxruntime(alone)
        error = error_of([found[0][:, :, b:b + 1], *(state[:, b:b + 1] for state in found[1:])], wanted)
        assert error <= made.flip
    assert error_of(found, made.onnxruntime()) > 1e-3


def test_rows_have_the_bits_they_have_alone() -> None:
    made = case(4, batch=5, time=60, hidden=9)
    together = made.ours()[0]
    for b in range(5):
        alone = dataclasses.replace(made, inputs={"x": made.inputs["x"][:, b:b + 1]}).ours()[0]
        assert np.array_equal(together[:, :, b:b + 1], alone)


def test_step_by_step_is_onnxruntime_step_by_step(tmp_path) -> None:
    made = case(5, time=12, outputs=("Y",))
    onnx.save(made.model, tmp_path / "model.onnx")
    model = lstmrt.load(tmp_path / "model.onnx")
    stepping = case(5, time=12, states=True)
    state, h = model.new_state(1), {name: np.zeros((1, 1, HIDDEN), np.float32) for name in ("h", "c")}
    for t in range(12):
        step = model.step(made.inputs["x"][t], state)
        y, h["h"], h["c"] = _with_weights_of(made, stepping).onnxruntime({"x": made.inputs["x"][t:t + 1], **h})
        assert np.abs(step.reshape(-1) - y.reshape(-1)).max() <= made.flip
    whole = model(made.inputs["x"])
    assert 0 < np.abs(whole[-1].reshape(-1) - step.reshape(-1)).max() < 0.1  # its x has other scales


def _with_weights_of(made: Case, other: Case) -> Case:
    """`other`, which has states, with the weights of `made`."""
    model = onnx.ModelProto()
    model.CopyFrom(other.model)
    del model.graph.initializer[:]
    model.graph.initializer.extend(made.model.graph.initializer)
    return dataclasses.replace(other, model=model)


def test_infinities_stay_in_their_sequence() -> None:
    made = case(6, batch=3)
    made.inputs["x"][2, 1, 0] = np.inf
    y = made.ours()[0][:, 0]
    assert np.isnan(y[:, 1]).all() and np.isfinite(y[:, [0, 2]]).all()


def test_files_keep_the_bytes(tmp_path) -> None:
    made = case(7, direction="bidirectional", inputs=160, hidden=96, dtype="uint8", outputs=("Y",))
    onnx.save(made.model, tmp_path / "model.onnx")
    lstmrt.convert(tmp_path / "model.onnx", tmp_path / "model.lstmrt")
    assert (tmp_path / "model.lstmrt").stat().st_size < 1.2 * (tmp_path / "model.onnx").stat().st_size
    kinds = {array.dtype.name for array in format.read(tmp_path / "model.lstmrt").graph.constants.values() if array.ndim == 3}
    assert kinds == {"int8"}
    wanted = lstmrt.load(tmp_path / "model.onnx")(made.inputs["x"])
    for precision in ("f32", "bf16", "int8"):
        assert np.array_equal(lstmrt.load(tmp_path / "model.lstmrt", precision=precision)(made.inputs["x"]), wanted)
    assert all(found.good for found in verify(tmp_path / "model.lstmrt"))
    lstmrt.convert(tmp_path / "model.lstmrt", tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").stat().st_size < 1.2 * (tmp_path / "model.onnx").stat().st_size
    assert np.array_equal(lstmrt.load(tmp_path / "again.onnx")(made.inputs["x"]), wanted)


@pytest.mark.parametrize("per_channel", [False, True])
def test_what_is_written_to_onnx_is_the_same(per_channel: bool) -> None:
    made = case(8, direction="bidirectional", states=True, per_channel=per_channel, dtype="uint8")
    again = dataclasses.replace(made, model=to_onnx_model(from_proto(made.model)))
    assert [node.op_type for node in again.model.graph.node] == ["DynamicQuantizeLSTM"]
    assert all(np.array_equal(a, b) for a, b in zip(again.onnxruntime(), made.onnxruntime()))


def test_weights_that_are_inputs_are_onnxruntimes() -> None:
    made = case(9, vary=True)
    executable = compile_graph(made.graph())
    assert [segment.kind for segment in executable.segments] == ["onnxruntime"]
    assert error_of(list(executable.run(made.inputs).values()), made.onnxruntime()) == 0


@pytest.mark.parametrize("zero, message", [(np.array([3] * 51 + [4], np.uint8)[None], "point"), (np.array([3], np.uint8), "")])
def test_zero_points_that_differ_are_onnxruntimes_to_refuse(zero: np.ndarray, message: str) -> None:
    made = case(10, dtype="uint8", per_channel=len(zero.shape) == 2)
    for tensor in made.model.graph.initializer:
        if tensor.name == "R_zero":
            tensor.CopyFrom(numpy_helper.from_array(zero, "R_zero"))
    kinds = {segment.kind for segment in compile_graph(made.graph()).segments}
    assert kinds == ({"onnxruntime"} if message else {"native"})


# ---- what onnxruntime's quantizer makes of whole models ----


@pytest.fixture(scope="module")
def quantized(tmp_path_factory) -> Mapping[str, Any]:
    """A tagger of an embedding, two bidirectional layers and a dense layer, as torch exports it, quantized."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = tmp_path_factory.mktemp("quantized")
    onnx.save(tagger(), folder / "float.onnx")
    files = {}
    for kind in (QuantType.QInt8, QuantType.QUInt8):
        path = folder / f"{kind}.onnx"
        quantize_dynamic(folder / "float.onnx", path, weight_type=kind)
        assert "DynamicQuantizeLSTM" in {node.op_type for node in onnx.load(path).graph.node}
        files[str(kind)] = path
    return files


def tagger() -> onnx.ModelProto:
    random = np.random.default_rng(12)
    vocabulary, width, hidden, tags = 31, 20, 18, 9
    constants: dict[str, np.ndarray] = {"table": random.normal(size=(vocabulary, width)).astype(np.float32),
                                        "perm": np.array([0, 0, -1], np.int64), "sizes": np.array([2, 1, hidden], np.int64)}
    nodes = [helper.make_node("Gather", ["table", "ids"], ["embedded"]),
             helper.make_node("Transpose", ["embedded"], ["x0"], perm=(1, 0, 2)),
             helper.make_node("Shape", ["ids"], ["shape"]),
             helper.make_node("Gather", ["shape", "first"], ["batch"]),
             helper.make_node("Concat", ["two", "batch", "hidden"], ["state_shape"], axis=0),
             helper.make_node("ConstantOfShape", ["state_shape"], ["zeros"])]
    constants |= {"first": np.array([0], np.int64), "two": np.array([2], np.int64), "hidden": np.array([hidden], np.int64)}
    for layer in range(2):
        inputs = 2 * hidden if layer else width
        constants |= {f"W{layer}": (random.normal(size=(2, 4 * hidden, inputs)) / np.sqrt(inputs)).astype(np.float32),
                      f"R{layer}": (random.normal(size=(2, 4 * hidden, hidden)) / np.sqrt(hidden)).astype(np.float32),
                      f"B{layer}": (random.normal(size=(2, 8 * hidden)) * 0.2).astype(np.float32)}
        nodes += [helper.make_node("LSTM", [f"x{layer}", f"W{layer}", f"R{layer}", f"B{layer}", "", "zeros", "zeros"],
                                   [f"y{layer}"], f"lstm{layer}", hidden_size=hidden, direction="bidirectional"),
                  helper.make_node("Transpose", [f"y{layer}"], [f"turned{layer}"], perm=(0, 2, 1, 3)),
                  helper.make_node("Reshape", [f"turned{layer}", "perm"], [f"x{layer + 1}"])]
    constants |= {"dense": (random.normal(size=(2 * hidden, tags)) / 6).astype(np.float32),
                  "bias": random.normal(size=tags).astype(np.float32)}
    nodes += [helper.make_node("Transpose", ["x2"], ["features"], perm=(1, 0, 2)),
              helper.make_node("MatMul", ["features", "dense"], ["product"], "dense"),
              helper.make_node("Add", ["product", "bias"], ["logits"])]
    del constants["sizes"]
    graph = helper.make_graph(
        nodes, "tagger", [helper.make_tensor_value_info("ids", TensorProto.INT64, ("batch", "time"))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("batch", "time", tags))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_quantized_models_are_one_program(quantized) -> None:
    """Tables are dequantized once, products of quantized values are dense layers on bytes."""
    for path in quantized.values():
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        model = lstmrt.load(path)
        assert [segment.kind for segment in model.segments] == ["native"]
        errors, together = [], []
        for seed in range(6):
            ids = np.random.default_rng(seed).integers(0, 31, (3, 5 + 3 * seed))
            together.append(model(ids))
            for b in range(3):
                alone = model(ids[b:b + 1])
                assert np.array_equal(together[-1][b:b + 1], alone)
                errors.append(float(np.abs(alone - session.run(None, {"ids": ids[b:b + 1]})[0]).max()))
        assert max(errors) < 0.1 and np.median(errors) < 1e-5


def test_quantized_models_are_what_their_nodes_say(quantized) -> None:
    for path in quantized.values():
        model = lstmrt.load(path)
        ids = np.random.default_rng(3).integers(0, 31, (1, 9))
        wanted = reference.run(model.source.graph, {"ids": ids})["logits"]
        assert np.abs(model(ids) - wanted).max() < 0.1
        fused = passes.load(model.source.graph)
        assert "DynamicQuantizeMatMul" in {node.op for node in fused.nodes}
        assert np.abs(reference.run(fused, {"ids": ids})["logits"] - wanted).max() < 1e-6


@pytest.mark.parametrize("kinds", [["LSTM"], ["LSTM", "MatMul", "Gather"]])
def test_growing_texts_are_onnxruntimes(tmp_path, kinds: list[str]) -> None:
    """All words so far are read again for each new one: a carried state would have been quantized step by step."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    onnx.save(language_model(), tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "model.onnx", op_types_to_quantize=kinds, weight_type=QuantType.QInt8)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    model, ids = lstmrt.load(tmp_path / "model.onnx"), [3, 1, 4]
    found = model.generate(ids, max_new_tokens=20)
    for _ in range(20):
        ids.append(int(session.run(None, {"ids": np.array([ids])})[0][0, -1].argmax()))
    assert list(found) == ids[3:]
    assert list(model.generate([[3, 1, 4], [2, 5]], max_new_tokens=20)[0]) == ids[3:]
    with pytest.raises(lstmrt.InputError, match="runs its text again"):
        model.batch(max_streams=2)
    assert len(list(model.generate([3, 1, 4], max_new_tokens=20, mode="stateful"))) == 20  # for who wants speed


def test_dense_layers_quantized_alone_are_onnxruntimes(tmp_path) -> None:
    """Of a batch as of one sequence: no quantized layer beside them keeps its sequences apart."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    onnx.save(language_model(), tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "model.onnx", op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)
    ids = np.random.default_rng(1).integers(0, 23, (3, 9))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    found, wanted = lstmrt.load(tmp_path / "model.onnx")(ids), session.run(None, {"ids": ids})[0]
    assert np.median(np.abs(found - wanted)) < 1e-5 and np.abs(found - wanted).max() < 0.1


def language_model() -> onnx.ModelProto:
    random = np.random.default_rng(5)
    vocabulary, width, hidden = 23, 12, 21
    constants = {
        "table": random.normal(size=(vocabulary, width)), "W": random.normal(size=(1, 4 * hidden, width)),
        "R": random.normal(size=(1, 4 * hidden, hidden)) / 2, "B": random.normal(size=(1, 8 * hidden)) / 4,
        "dense": random.normal(size=(hidden, vocabulary))}
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["embedded"]),
         helper.make_node("Transpose", ["embedded"], ["x"], perm=(1, 0, 2)),
         helper.make_node("LSTM", ["x", "W", "R", "B"], ["y"], "lstm", hidden_size=hidden),
         helper.make_node("Squeeze", ["y", "one"], ["h"]),
         helper.make_node("Transpose", ["h"], ["features"], perm=(1, 0, 2)),
         helper.make_node("MatMul", ["features", "dense"], ["logits"], "dense")],
        "words", [helper.make_tensor_value_info("ids", TensorProto.INT64, ("batch", "time"))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("batch", "time", vocabulary))],
        [*(numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()),
         numpy_helper.from_array(np.array([1]), "one")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("scales", [1, 7])
def test_products_behind_the_last_state(dtype: str, scales: int) -> None:
    """A row for each sequence, activated; weights with a scale for each output, and a zero point."""
    random = np.random.default_rng(scales)
    made = case(20, direction="bidirectional", outputs=("Y_h",), batch=1)
    zero = np.array(5 if dtype == "int8" else 120, dtype)
    constants = {"w": random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (HIDDEN, 7)).astype(dtype), "w_zero": zero,
                 "w_scale": np.float32(random.uniform(0.001, 0.002, scales)) if scales > 1 else np.array(0.0015, np.float32),
                 "bias": np.float32(random.normal(size=7)), "first": np.array(1)}
    graph = made.model.graph
    del graph.output[:]
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    graph.node.extend([
        helper.make_node("Gather", ["Y_h", "first"], ["h"], axis=0),
        helper.make_node("DynamicQuantizeLinear", ["h"], ["q", "q_scale", "q_zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "q_zero", "w_zero"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["w_scale", "q_scale"], ["both"]),
        helper.make_node("Mul", ["both", "float"], ["product"]),
        helper.make_node("Add", ["bias", "product"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["y"])])
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", 7)))
    assert [segment.kind for segment in compile_graph(made.graph()).segments] == ["native"]
    batch = dataclasses.replace(made, inputs={"x": np.float32(random.normal(size=(6, 4, 5)) * [[[1], [3], [0.1], [9]]])})
    for isa in [isa for isa, runs in isas("int8") if runs]:
        found = batch.ours(isa)[0]
        for b in range(4):
            wanted = batch.onnxruntime({"x": batch.inputs["x"][:, b:b + 1]})[0]
            assert np.abs(found[b] - wanted).max() < 0.02


def test_products_elsewhere_stay_onnxruntimes() -> None:
    """Nothing says what their batch is."""
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
             helper.make_node("MatMulInteger", ["q", "w", "z", "w_zero"], ["whole"]),
             helper.make_node("Cast", ["whole"], ["float"], to=TensorProto.FLOAT),
             helper.make_node("Mul", ["s", "w_scale"], ["both"]),
             helper.make_node("Mul", ["float", "both"], ["y"])]
    random = np.random.default_rng(0)
    graph = helper.make_graph(
        nodes, "product", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", 4))],
        [numpy_helper.from_array(array, name) for name, array in {
            "w": random.integers(-128, 128, (6, 4)).astype(np.int8), "w_zero": np.array(0, np.int8),
            "w_scale": np.array(0.01, np.float32)}.items()])
    made = Case(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
                {"x": np.float32(random.normal(size=(3, 6)) * [[1], [9], [0.1]])}, 0)
    assert error_of(made.ours(), made.onnxruntime()) < 1e-5
