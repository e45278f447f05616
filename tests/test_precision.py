"""Reduced weights: what they are rounded to, what models compute with them, and the files that hold them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from instruction_sets import REDUCED
from small_models import VOCABULARY, language_model, without_softmax
from strategies import Builder

import lstmrt
from lstmrt import format, reference
from lstmrt.cli import main
from lstmrt.cost import measure
from lstmrt.errors import InputError, ModelFileError
from lstmrt.execution.compile import compile_graph
from lstmrt.format import ModelFile
from lstmrt.graph import Graph, Node, Value
from lstmrt.model import Model
from lstmrt.precision import from_bf16, from_int8, rounded, to_bf16, to_int8, weights
from lstmrt.tokenizers import load_tokenizer
from lstmrt.verify import verify

LARGEST_INPUT = 8191  # of a quantized row


# ---- rounding ----

floats = st.one_of(st.floats(width=32, allow_nan=True, allow_infinity=True), st.floats(-1, 1, width=32))
matrices = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=floats)


@given(matrices, st.sampled_from([0, 1]))
def test_int8_is_the_nearest_and_rounding_again_changes_nothing(array, axis):
    q, scales = to_int8(array, axis)
    again = from_int8(q, scales)
    finite = np.isfinite(array).all(axis=axis, keepdims=True)
    assert np.isnan(scales[~finite]).all() and np.isfinite(scales[finite]).all()
    good = np.broadcast_to(finite, array.shape)
    exact = q.astype(np.float64) * scales
    assert (again[good] == exact[good]).all(), "the product is not exact in a float"
    tiny = np.abs(np.where(good, array, 0)).max(axis=axis, keepdims=True) <= 2.0**-100
    off = np.abs(array.astype(np.float64) - exact)
    assert (off <= np.where(tiny, 2.0**-100, 0.50001 * scales))[good].all()
    q_again, scales_again = to_int8(again, axis)
    assert np.array_equal(scales_again, scales, equal_nan=True) and np.array_equal(q_again, q)


@given(matrices)
def test_bf16_is_the_nearest_and_rounding_again_changes_nothing(array):
    bits = to_bf16(array)
    again = from_bf16(bits)
    assert np.array_equal(to_bf16(again), bits)
    assert np.array_equal(np.isnan(again), np.isnan(array))
    for x, near, code in zip(array.flat, again.flat, bits.flat):
        if not np.isfinite(x):
            assert near == x or np.isnan(x)
            continue
        sides = from_bf16(np.array([code - 1, code + 1], np.uint16) if code & 0x7FFF else np.array([1, 0x8001], np.uint16))
        with np.errstate(over="ignore"):
            distance = abs(np.float64(x) - (near if np.isfinite(near) else np.copysign(np.float64(2.0**128), near)))
            others = [abs(np.float64(x) - side) for side in sides if np.isfinite(side)]
        assert all(distance <= other for other in others)


@pytest.mark.parametrize("precision, isa", REDUCED)
def test_the_core_rounds_as_precision_does(precision, isa):
    """An embedding's rows come out as its weights are held."""
    table = np.float32(np.random.default_rng(3).normal(size=(40, 11)) * np.logspace(-9, 9, 40)[:, None])
    table[7], table[8, 3], table[9, 2] = 0, 1e-35, np.nan
    graph = Graph((Value("ids", "int64", ("batch", "time")),), (Value("y", "float32", None),),
                  (Node("Gather", ("table", "ids"), ("y",)),), {"table": table}).validate()
    ids = np.arange(40)[None]
    found = compile_graph(graph, isa, precision=precision).run({"ids": ids})["y"][0]
    assert found.tobytes() == rounded(graph, precision).constants["table"].tobytes()


def test_weights_are_found_with_the_axis_of_their_inputs():
    graph = language_model("GRU", (5, 6))
    assert weights(graph) == {"table": 1, "W0": 2, "R0": 2, "W1": 2, "R1": 2, "kernel": 0}
    shared = replace(graph, nodes=graph.nodes + (Node("Gather", ("kernel", "ids"), ("odd",)),))
    assert "kernel" not in weights(shared), "a constant that is used along two axes stays as it is"


# ---- what models compute ----


def rounding_of_bf16(isa):
    """Relative, of what bf16 weights are multiplied with, and of the sums."""
    return 2.0**-8 if isa == "avx512_bf16" else 2.0**-20


@pytest.mark.parametrize("precision, isa", REDUCED)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(inputs=st.integers(1, 300), outputs=st.integers(1, 90), rows=st.integers(1, 40), seed=st.integers(0, 999))
def test_a_dense_layer_is_within_the_bound_of_its_inputs_rounding(precision, isa, inputs, outputs, rows, seed):
    rng = np.random.default_rng(seed)
    builder = Builder(rng, 0, 0, 1)
    builder.node("MatMul", ["x", builder.weights("kernel", inputs, outputs)], "y")
    graph = rounded(Graph((Value("x", "float32", ("batch", inputs)),), (Value("y", "float32", None),),
                          tuple(builder.nodes), builder.constants).validate(), precision)
    x = rng.normal(size=(rows, inputs)).astype(np.float32) * 10 ** rng.uniform(-5, 5, (rows, 1)).astype(np.float32)
    (kernel,) = graph.constants.values()
    found = compile_graph(graph, isa, precision=precision).run({"x": x})["y"]
    off = 0.51 * np.abs(x).max(1, keepdims=True) / LARGEST_INPUT if precision == "int8" else rounding_of_bf16(isa) * np.abs(x)
    bound = np.broadcast_to(off, x.shape) @ np.abs(kernel) + 2.0**-20 * (np.abs(x) @ np.abs(kernel))
    assert (np.abs(found - x.astype(np.float64) @ kernel) <= bound).all()


OPTIONS = {"LSTM": {}, "GRU": {"linear_before_reset": 0}, "GRU after": {"linear_before_reset": 1}, "RNN": {}}


def tame(graph: Graph, scale: float = 0.35) -> Graph:
    """With weights so small that a rounding error dies out: every state forgets."""
    def shrunk(name, array):
        return array * np.float32(scale / np.sqrt(array.shape[-1])) if name[0] in "WR" else array

    return replace(graph, constants={name: shrunk(name, array) for name, array in graph.constants.items()})


@pytest.mark.parametrize("cell", OPTIONS)
@pytest.mark.parametrize("precision, isa", REDUCED)
def test_recurrent_layers_compute_what_their_rounded_weights_say(precision, isa, cell):
    """Sums of up to 45 products whose inputs are off by 2^-14 (int8), 2^-8 (bf16 where inputs are rounded) of the largest,
    or 2^-20; a step's error at most doubles what is left of it, so that a few times one step's are allowed."""
    exact = tame(without_softmax(language_model(cell.split()[0], (33, 45), every_step=True, **OPTIONS[cell])))
    graph = rounded(exact, precision)
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (19, 40))
    found = compile_graph(graph, isa, precision=precision).run({"ids": ids})["logits"]
    expected = reference.run(graph, {"ids": ids})["logits"]
    step = 2.0**-14 if precision == "int8" else rounding_of_bf16(isa)
    reach = np.abs(graph.constants["kernel"]).sum(0).max()  # of a state's error in the logits
    assert np.abs(found - expected).max() <= 4 * step * reach
    assert np.abs(expected).max() > 1


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_reduced_weights_are_near_the_float_ones(precision):
    graph = tame(without_softmax(language_model("LSTM", (60,), every_step=True)))
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (4, 50))
    exact = Model(ModelFile(graph))(ids)
    found = Model(ModelFile(rounded(graph, precision), precision=precision))(ids)
    assert 0 < np.abs(found - exact).max() < 0.02 * np.abs(exact).max()
    assert (found.argmax(-1) == exact.argmax(-1)).mean() > 0.98


# ---- files and options ----


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "f32.lstmrt"
    format.write(path, ModelFile(tame(language_model("LSTM", (40,)))))
    return path


@pytest.mark.parametrize("precision, share", [("bf16", 0.55), ("int8", 0.4)])
def test_a_converted_file_is_small_and_loads_as_rounding_at_load_does(source, tmp_path, precision, share):
    small = tmp_path / "small.lstmrt"
    lstmrt.convert(source, small, precision=precision)
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (3, 9))
    model, at_load = lstmrt.load(small), lstmrt.load(source, precision=precision)
    assert model.precision == at_load.precision == precision
    assert model(ids).tobytes() == at_load(ids).tobytes() != lstmrt.load(source)(ids).tobytes()
    tensors = [array.nbytes for array in format.read(source).graph.constants.values()]
    assert small.stat().st_size - 6000 < share * sum(tensors)
    assert all(found.good for found in verify(small))
    again = tmp_path / "again.lstmrt"
    model.save(again)
    assert again.read_bytes() == small.read_bytes()


def test_a_reduced_file_says_so_and_others_stay_version_1(source, tmp_path):
    lstmrt.convert(source, tmp_path / "int8.lstmrt", precision="int8")

    def header(path):
        content = path.read_bytes()
        return json.loads(content[8:8 + int.from_bytes(content[:8], "little")])

    assert header(source)["__metadata__"]["version"] == "1" and "precision" not in header(source)["__metadata__"]
    found = header(tmp_path / "int8.lstmrt")
    assert found["__metadata__"]["version"] == "2" and found["__metadata__"]["precision"] == "int8"
    assert found["constant.R0"]["dtype"] == "I8" and found["scale.R0"] == {
        "dtype": "F32", "shape": [1, 160, 1], "data_offsets": found["scale.R0"]["data_offsets"]}
    assert found["constant.B0"]["dtype"] == "F32"


def test_what_does_not_fit_is_refused(source, tmp_path):
    with pytest.raises(InputError, match="f32, bf16, int8, got 'int4'"):
        lstmrt.load(source, precision="int4")
    with pytest.raises(InputError, match="ONNX file holds float32"):
        lstmrt.convert(source, tmp_path / "m.onnx", precision="int8")
    lstmrt.convert(source, tmp_path / "int8.lstmrt", precision="int8")
    with pytest.raises(InputError, match="int8 already"):
        lstmrt.load(tmp_path / "int8.lstmrt", precision="bf16")
    assert lstmrt.load(tmp_path / "int8.lstmrt", precision="f32").precision == "f32"


def test_damaged_scales_are_refused(source, tmp_path, monkeypatch):
    path = tmp_path / "bad.lstmrt"
    file = ModelFile(tame(language_model("LSTM", (40,))), precision="int8")
    for scales, message in ((np.ones(3, np.float32), "does not fit"), (np.ones((1, 160, 1), np.float64), "does not fit")):
        bad = format._reduced_weights(file) | {"scale.R0": ({"f": "F32", "d": "F64"}[scales.dtype.char], scales)}
        with monkeypatch.context() as patched:
            patched.setattr(format, "_reduced_weights", lambda model: bad)
            format.write(path, file)
        with pytest.raises(ModelFileError, match=message):
            lstmrt.load(path)
    bad = {"scale.nobody": ("F32", np.ones(3, np.float32)), **format._reduced_weights(file)}
    with monkeypatch.context() as patched:
        patched.setattr(format, "_reduced_weights", lambda model: bad)
        format.write(path, file)
    with pytest.raises(ModelFileError, match="expected constant.nobody of type I8"):
        lstmrt.load(path)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_every_precision_generates(source, precision):
    prompt = [1, 2, 3]
    found = lstmrt.load(source, precision=precision, mode="stateful").generate(prompt, max_new_tokens=30)
    exact = lstmrt.load(source, mode="stateful").generate(prompt, max_new_tokens=30)
    assert len(found) == 30 and found[0] == exact[0]


# ---- what it costs ----


def test_the_cost_is_what_the_two_models_outputs_say(tmp_path, source):
    file = format.read(source)
    cost = measure(file, "int8")
    bare = without_softmax(file.graph)
    assert cost.rows == 400 and cost.perplexity is None
    assert 0 < cost.mean < cost.largest < 0.05 * cost.spread
    assert 0.98 < cost.kept <= 1
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (200, 32))
    moved = np.abs(Model(ModelFile(rounded(bare, "int8"), precision="int8"))(ids) - Model(ModelFile(bare))(ids))
    assert 0.5 < cost.mean / moved.mean() < 2


def test_the_cost_on_a_text_has_its_perplexity():
    vocabulary = {chr(ord("a") + i): i for i in range(VOCABULARY)}
    file = ModelFile(tame(language_model("GRU", (40,), every_step=True)), load_tokenizer(vocabulary))
    text = "".join(np.random.default_rng(2).choice(list(vocabulary), 32 + 8))
    cost = measure(file, "bf16", text)
    exact, reduced = cost.perplexity
    ids = np.array([vocabulary[letter] for letter in text])
    windows = np.lib.stride_tricks.sliding_window_view(ids, 32)[:8]
    probabilities = Model(file)(windows)[np.arange(8), -1, ids[32:]]
    assert cost.rows == 8 and exact == pytest.approx(np.exp(-np.log(probabilities).mean()), rel=1e-4)
    assert abs(reduced / exact - 1) < 0.02
    with pytest.raises(InputError, match="the text has 3 known tokens"):
        measure(file, "bf16", "abc")
    with pytest.raises(InputError, match="the model has none"):
        measure(file._replace(tokenizer=None), "bf16", text)


def test_the_cost_of_a_model_of_numbers():
    builder = Builder(np.random.default_rng(0), 0, 0, 1)
    builder.node("MatMul", ["x", builder.weights("kernel", 8, 1)], "y")
    graph = Graph((Value("x", "float32", ("batch", "time", 8)),), (Value("y", "float32", None),), tuple(builder.nodes),
                  builder.constants).validate()
    cost = measure(ModelFile(graph), "int8")
    assert cost.rows == 8 * 32 and cost.kept is None and 0 < cost.mean < 0.01 * cost.spread
    with pytest.raises(InputError, match="models that read ids"):
        measure(ModelFile(graph), "int8", "a text")


def test_the_cost_of_a_model_whose_inputs_have_no_batch_in_front():
    builder = Builder(np.random.default_rng(0), 0, 0, 1)
    builder.node("MatMul", ["x", builder.weights("kernel", 8, 3)], "product")
    builder.node("Add", ["product", "cache"], "sum")
    builder.node("Mul", ["sum", "gain"], "y")
    inputs = (Value("x", "float32", (1, 4, 8)), Value("cache", "float32", (2, 1, 4, 3)), Value("gain", "float32", ()))
    graph = Graph(inputs, (Value("y", "float32", None),), tuple(builder.nodes), builder.constants).validate()
    cost = measure(ModelFile(graph), "int8")
    assert cost.rows == 2 * 4 and 0 < cost.mean < 0.01 * cost.spread


def test_a_model_that_random_numbers_do_not_suit_is_converted_all_the_same(tmp_path, capsys):
    builder = Builder(np.random.default_rng(0), 0, 0, 1)
    builder.node("MatMul", ["x", builder.weights("kernel", 8, 3)], "y")
    graph = Graph((Value("x", "float32", ("batch", "features")),), (Value("y", "float32", None),), tuple(builder.nodes),
                  builder.constants).validate()
    format.write(tmp_path / "m.lstmrt", ModelFile(graph))
    assert main(["convert", str(tmp_path / "m.lstmrt"), str(tmp_path / "small.lstmrt"), "--precision", "int8"]) == 0
    assert "what int8 costs is not measured" in capsys.readouterr().err
    assert lstmrt.load(tmp_path / "small.lstmrt").precision == "int8"


def test_the_command_line_says_what_it_costs(source, tmp_path, capsys):
    assert main(["convert", str(source), str(tmp_path / "m.lstmrt"), "--precision", "int8"]) == 0
    printed = capsys.readouterr().out
    assert "largest error" in printed and "in 400 rows" in printed and "%" in printed
    assert main(["convert", str(source), str(tmp_path / "f.lstmrt")]) == 0
    assert not capsys.readouterr().out
    assert lstmrt.load(tmp_path / "m.lstmrt").precision == "int8"
