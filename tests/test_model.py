"""Models as an app uses them: calls, steps, states, threads, files."""

from __future__ import annotations

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

import lstmrt
from lstmrt import reference
from lstmrt.converters.to_onnx import write_onnx
from lstmrt.format import ModelFile, write
from lstmrt.generation_config import GenerationDefaults
from lstmrt.graph import Graph, Node, Value
from lstmrt.model import Model
from lstmrt.tokenizers import Tokenizer
from oracles import run_onnxruntime
from small_models import VOCABULARY, compiled, language_model, weights

BATCH, TIME, WIDTH, HIDDEN = 3, 8, 5, 13
EVERY_STEP = language_model("LSTM", (17, 9), every_step=True)
LAST_STEP = language_model("GRU", (21,), linear_before_reset=1)
BACKWARDS = language_model("LSTM", (7,), direction="reverse")


def ids(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCABULARY, shape)


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return weights(np.random.default_rng(seed), *shape)


def features_graph(with_states: bool = False) -> Graph:
    """x (batch, time, WIDTH) -> all outputs of a GRU; `with_states`: also from h0, and the last one."""
    constants = {"W": floats(1, 3 * HIDDEN, WIDTH), "R": floats(1, 3 * HIDDEN, HIDDEN, seed=1), "axes": np.array([2])}
    inputs, outputs = (Value("x", "float32", ("batch", "time", WIDTH)),), (Value("h", "float32", None),)
    if with_states:
        inputs += (Value("h0", "float32", ("batch", 1, HIDDEN)),)
        outputs = (Value("h_n", "float32", ("batch", 1, HIDDEN)),) + outputs
    gru = Node("GRU", ("x", "W", "R") + (("", "", "h0") if with_states else ()), ("Y", "h_n"),
               {"hidden_size": HIDDEN, "layout": 1})
    return Graph(inputs, outputs, (gru, Node("Squeeze", ("Y", "axes"), ("h",))), constants, "features").validate()


# ---- calls ----


def test_one_output_is_an_array_and_several_are_a_tuple_or_a_dict():
    x, h0 = floats(BATCH, TIME, WIDTH), floats(BATCH, 1, HIDDEN, seed=2)
    model = compiled(features_graph(with_states=True))
    exact = reference.run(features_graph(with_states=True), {"x": x, "h0": h0})
    by_name = model.run({"h0": h0, "x": x})
    in_order = model(x, h0)
    assert list(by_name) == ["h_n", "h"] and isinstance(in_order, tuple)
    for name, found in zip(by_name, in_order):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact[name], rtol=0, atol=2e-6)
        assert (found == by_name[name]).all()
    assert isinstance(compiled(features_graph())(x), np.ndarray)


@pytest.mark.parametrize("x", [
    floats(BATCH, TIME, WIDTH).astype(np.float64), floats(BATCH, TIME, WIDTH).astype(np.float16),
    ids(BATCH, TIME, WIDTH), floats(BATCH, TIME, 2 * WIDTH)[..., ::2], floats(BATCH, TIME, WIDTH).tolist(),
], ids=["float64", "float16", "int64", "strided", "list"])
def test_numbers_of_other_kinds_serve_as_features(x):
    model = compiled(features_graph())
    assert (model(x) == model(np.ascontiguousarray(x, np.float32))).all()


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32", "float64"])
def test_numbers_of_other_kinds_serve_as_ids(dtype):
    model = compiled(LAST_STEP)
    assert (model(ids(BATCH, TIME).astype(dtype)) == model(ids(BATCH, TIME))).all()


@pytest.mark.parametrize("graph, x, message", [
    (LAST_STEP, ids(TIME), "'ids': expected shape"),
    (LAST_STEP, ids(2, 3, 4), r"got \(2, 3, 4\)"),
    (LAST_STEP, np.full((2, 3), 0.5), "'ids': expected int64, got float64"),
    (LAST_STEP, np.full((2, 3), np.nan), "expected int64, got float64"),
    (LAST_STEP, np.full((2, 3), "a"), "expected int64, got <U1"),
    (LAST_STEP, np.full((2, 3), None), "expected int64, got object"),
    (LAST_STEP, [[1, 2], [3]], "'ids': "),
    (LAST_STEP, np.empty((2, 0), int), "at least one time step"),
    (features_graph(), floats(BATCH, TIME, WIDTH + 1), r"'x': expected shape \(batch, time, 5\), got \(3, 8, 6\)"),
    (features_graph(), np.full((2, 3, 5), 1j), "expected float32, got complex128"),
    (features_graph(), np.full((2, 3, 5), "1"), "expected float32, got <U1"),
    (features_graph(), np.full((2, 3, 5), 1e39), "'x': a number is too large for float32"),
    (features_graph(), np.full((2, 3, 5), 10**400, object), "'x': a number is too large for float32"),
])
def test_inputs_that_do_not_fit_are_refused(graph, x, message):
    with pytest.raises(lstmrt.InputError, match=message):
        compiled(graph)(x)


def test_inputs_are_counted_and_named():
    model = compiled(features_graph(with_states=True))
    x, h0 = floats(BATCH, TIME, WIDTH), floats(BATCH, 1, HIDDEN)
    with pytest.raises(lstmrt.InputError, match=r"expected 2 inputs \(x, h0\), got 1"):
        model(x)
    with pytest.raises(lstmrt.InputError, match=r"expected the inputs \['x', 'h0'\], got \['x', 'h'\]"):
        model.run({"x": x, "h": h0})
    with pytest.raises(lstmrt.InputError, match="expected a mapping of the inputs"):
        model.run([x, h0])
    with pytest.raises(lstmrt.InputError, match=r"'h0': expected shape \(3, 1, 13\), got \(4, 1, 13\)"):
        model(x, floats(BATCH + 1, 1, HIDDEN))


def test_a_fixed_length_is_held_to():
    model = compiled(language_model(time=4))
    assert model(ids(BATCH, 4)).shape == (BATCH, VOCABULARY)
    with pytest.raises(lstmrt.InputError, match=r"expected shape \(batch, 4\), got \(3, 5\)"):
        model(ids(BATCH, 5))


def test_no_sequences_give_no_results():
    assert compiled(EVERY_STEP)(ids(0, TIME)).shape == (0, TIME, VOCABULARY)
    assert compiled(LAST_STEP)(ids(0, TIME)).shape == (0, VOCABULARY)


@pytest.mark.parametrize("wrong", [VOCABULARY, -VOCABULARY - 1, 2**40])
@pytest.mark.parametrize("graph", [EVERY_STEP, language_model(mask=True)], ids=["table", "masked"])
def test_the_id_that_is_out_of_range_is_named(graph, wrong):
    given = ids(BATCH, TIME)
    given[1, 2] = wrong
    with pytest.raises(lstmrt.InputError, match=f"'ids': id {wrong} is outside the vocabulary of {VOCABULARY}"):
        compiled(graph)(given)
    if graph is EVERY_STEP:
        model = compiled(graph)
        with pytest.raises(lstmrt.InputError, match=f"id {wrong} is outside the vocabulary of {VOCABULARY}"):
            model.step(given[:, 2], model.new_state(BATCH))


def test_the_batch_does_not_change_the_bits():
    model, x = compiled(EVERY_STEP), ids(BATCH, TIME)
    assert (model(x) == np.concatenate([model(row[None]) for row in x])).all()


# ---- steps ----


@pytest.mark.parametrize("graph, x", [(EVERY_STEP, ids(BATCH, TIME)), (features_graph(), floats(BATCH, TIME, WIDTH)),
                                      (language_model("RNN", (130,), every_step=True), ids(BATCH, TIME))],
                         ids=["LSTMs", "GRU of features", "wide RNN"])
def test_steps_have_the_bits_of_the_whole_run(graph, x):
    model = compiled(graph)
    state = model.new_state(BATCH)
    stepped = np.stack([model.step(x[:, t], state) for t in range(TIME)], axis=1)
    assert (stepped == model(x)).all()


@pytest.mark.parametrize("names", [("b", "a"), ("a", "b")])
def test_outputs_of_a_step_are_in_the_models_order(names):
    graph = features_graph()
    kernels = {"a": floats(HIDDEN, 3, seed=3), "b": floats(HIDDEN, 4, seed=4)}
    graph = replace(graph, outputs=tuple(Value(name, "float32", None) for name in names),
                    nodes=(*graph.nodes, *(Node("MatMul", ("h", f"kernel {name}"), (name,)) for name in kernels)),
                    constants={**graph.constants, **{f"kernel {name}": array for name, array in kernels.items()}})
    model, x = compiled(graph), floats(BATCH, 1, WIDTH)
    for whole, step in zip(model(x), model.step(x[:, 0], model.new_state(BATCH)), strict=True):
        np.testing.assert_array_equal(whole[:, 0], step)


def test_the_last_step_is_the_result_of_a_model_that_gives_one():
    model, x = compiled(LAST_STEP), ids(BATCH, TIME)
    state = model.new_state(BATCH)
    for t in range(TIME):
        assert (model.step(x[:, t], state) == model(x[:, :t + 1])).all()


def test_states_are_copied_and_reset():
    model, x = compiled(EVERY_STEP), ids(BATCH, TIME)
    state = model.new_state(BATCH)
    first = model.step(x[:, 0], state)
    copies = [state.copy(), copy.copy(state), copy.deepcopy(state)]
    after = model.step(x[:, 1], state)
    assert not (model.step(x[:, 1], state) == after).all()
    for one in copies:
        assert one.batch_size == BATCH and (model.step(x[:, 1], one) == after).all()
    state.reset()
    assert (model.step(x[:, 0], state) == first).all()


class OtherArray(np.ndarray):
    pass


def test_calls_like_the_last_one_and_others_give_what_the_first_call_of_a_model_gives():
    x, model = floats(BATCH, TIME, WIDTH), compiled(features_graph())
    for given in (x, x, x[:1], x, x[:, ::2], x[:, ::2], x.tolist(), x.astype(np.float64), x.astype(">f4"), x.astype(">f4"),
                  np.asfortranarray(x), x.view(OtherArray), x[:, :0], x[:0], x):
        assert (model(given) == compiled(features_graph())(given)).all()
    wrong = ids(BATCH, TIME)
    wrong[1, 2] = VOCABULARY
    model = compiled(EVERY_STEP)
    for given in (ids(BATCH, TIME), ids(BATCH, TIME).astype(np.longlong), ids(BATCH, TIME).astype(np.int32)):
        assert (model(given) == model(ids(BATCH, TIME))).all()
        with pytest.raises(lstmrt.InputError, match=f"id {VOCABULARY} is outside the vocabulary"):
            model(wrong)
        with pytest.raises(lstmrt.InputError, match="expected 1 inputs"):
            model(given, given)


def test_steps_of_arrays_of_every_kind_are_the_same():
    model = compiled(EVERY_STEP)
    state = model.new_state(BATCH)
    tokens = ids(BATCH, 2)
    first = model.step(tokens[:, 0].copy(), state.copy())
    for given in (tokens[:, 0], tokens[:, 0].tolist(), tokens[:, 0].astype(np.longlong), tokens[:, 0].astype(">i8"),
                  tokens[:, 0].astype(np.uint8), tokens[:, 0].copy().view(OtherArray)):
        assert (model.step(given, state.copy()) == first).all()


def test_a_result_is_not_overwritten_by_the_next_step():
    model = compiled(EVERY_STEP)
    state = model.new_state()
    first = model.step([3], state)
    kept = first.copy()
    model.step([5], state)
    assert (first == kept).all()


def test_steps_that_do_not_fit_are_refused():
    model = compiled(EVERY_STEP)
    state = model.new_state(BATCH)
    before = model.step([1, 2, 3], state.copy())
    for x, message in ((ids(BATCH + 1), r"expected shape \(3,\) for one step, got \(4,\)"),
                       (ids(BATCH, 1), r"got \(3, 1\)"), (np.full(BATCH, 0.5), "expected int64, got float64")):
        with pytest.raises(lstmrt.InputError, match=message):
            model.step(x, state)
    with pytest.raises(lstmrt.InputError, match="another model"):
        model.step([1, 2, 3], compiled(EVERY_STEP).new_state(BATCH))
    assert (model.step([1, 2, 3], state) == before).all()


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "1", True, 2**70])
def test_batch_sizes_that_make_no_sense(batch_size):
    with pytest.raises(lstmrt.InputError, match="batch_size: expected a number above 0"):
        compiled(EVERY_STEP).new_state(batch_size)


def test_models_that_cannot_step_say_so():
    with pytest.raises(lstmrt.InputError, match="depends on later steps"):
        compiled(BACKWARDS).new_state()
    model = compiled(with_two_inputs())
    with pytest.raises(lstmrt.InputError, match="step takes one input, the model has 2"):
        model.step(floats(1, 2), model.new_state())


def test_layers_that_keep_a_model_from_steps_are_named():
    graph = features_graph()
    (output,) = graph.outputs
    for count, message in ((2, "has 'cos 0', 'cos 1'$"), (7, "has 'cos 0', .*, 'cos 4' and 2 others$")):
        names = [output.name, *(f"y{index}" for index in range(count))]
        nodes = [Node("Cos", (x,), (y,), {}, f"cos {index}") for index, (x, y) in enumerate(zip(names, names[1:]))]
        model = compiled(replace(graph, nodes=(*graph.nodes, *nodes), outputs=(output._replace(name=names[-1]),)).validate())
        with pytest.raises(lstmrt.InputError, match=message):
            model.new_state()
    with pytest.raises(lstmrt.UnsupportedError, match="generation needs a model that turns ids into logits"):
        model.generate("text")


def test_a_step_takes_its_input_by_name():
    model = compiled(EVERY_STEP)
    state, (x,) = model.new_state(BATCH), model.inputs
    assert (model.step({x.name: [1, 2, 3]}, state.copy()) == model.step([1, 2, 3], state.copy())).all()
    with pytest.raises(lstmrt.InputError, match=f"expected the input '{x.name}', got .*'other'"):
        model.step({"other": [1, 2, 3]}, state)


def with_two_inputs() -> Graph:
    graph = features_graph()
    inputs = (Value("a", "float32", ("batch", "time", 2)), Value("b", "float32", ("batch", "time", WIDTH - 2)))
    concat = Node("Concat", ("a", "b"), ("x",), {"axis": 2})
    return replace(graph, inputs=inputs, nodes=(concat, *graph.nodes)).validate()


def test_inputs_of_different_lengths_are_refused():
    with pytest.raises(lstmrt.InputError, match=r"'b': expected shape \(3, 8, 3\), got \(3, 9, 3\)"):
        compiled(with_two_inputs())(floats(BATCH, TIME, 2), floats(BATCH, TIME + 1, WIDTH - 2))


# ---- threads ----


def test_threads_on_one_model_get_the_same_bits():
    model = compiled(EVERY_STEP)
    inputs = [ids(1 + n % 4, 3 + n % 7, seed=n) for n in range(60)]
    expected = [model(x) for x in inputs]

    def stepped(x: np.ndarray) -> np.ndarray:
        state = model.new_state(len(x))
        return np.stack([model.step(column, state) for column in x.T], axis=1)

    with ThreadPoolExecutor(8) as threads:
        for run in (model, stepped):
            for found, wanted in zip(threads.map(run, inputs * 5), expected * 5):
                assert (found == wanted).all()
        prompts = [x[0].tolist() for x in inputs]
        texts = list(threads.map(lambda prompt: model.generate(prompt, mode="window", window=4).tolist(), prompts))
    assert texts == [model.generate(prompt, mode="window", window=4).tolist() for prompt in prompts]


# ---- files ----


def test_content_decides_what_a_file_is(tmp_path):
    model, x = compiled(LAST_STEP), ids(BATCH, TIME)
    write(tmp_path / "model.keras", ModelFile(LAST_STEP))
    write_onnx(LAST_STEP, tmp_path / "model.lstmrt")
    assert (lstmrt.load(tmp_path / "model.keras")(x) == model(x)).all()
    np.testing.assert_allclose(lstmrt.load(tmp_path / "model.lstmrt")(x), model(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("made_as, named", [("a.keras", "a.onnx"), ("a.h5", "a.lstmrt")])
def test_content_decides_for_keras_files_too(tmp_path, made_as, named):
    keras = pytest.importorskip("keras", reason="the files are made with Keras")
    layers = keras.layers
    oracle = keras.Sequential([keras.Input((None,)), layers.Embedding(VOCABULARY, 6), layers.LSTM(7), layers.Dense(5)])
    oracle.save(tmp_path / made_as)
    model = lstmrt.load((tmp_path / made_as).rename(tmp_path / named))
    x = ids(BATCH, TIME)
    np.testing.assert_allclose(model(x), oracle.predict(x, verbose=0), rtol=0, atol=1e-6)
    assert model.provenance["source"] == named and model.provenance["framework"] == "keras"


@pytest.mark.parametrize("content", [b"", b"{", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"some text\n", bytes(64)])
def test_files_that_are_no_models(tmp_path, content):
    path = tmp_path / "odd.keras"
    path.write_bytes(content)
    with pytest.raises(lstmrt.ModelFileError, match="odd.keras" if content else "odd.keras: .*it is empty"):
        lstmrt.load(path)


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path / "absent.keras", tmp_path):
        with pytest.raises(lstmrt.ModelFileError, match=str(path)):
            lstmrt.load(path)


def test_a_saved_model_is_the_same_model(tmp_path):
    tokenizer = Tokenizer({"a": 1, "b": 2, "c": 3}, char_level=True)
    model = Model(ModelFile(LAST_STEP, tokenizer, GenerationDefaults("window", 5, pad_id=2, padding="right"),
                            {"framework": "keras", "version": "3.15"}))
    model.save(tmp_path / "model.lstmrt")
    again, x = lstmrt.load(tmp_path / "model.lstmrt"), ids(BATCH, TIME)
    assert (again(x) == model(x)).all()
    assert (again.tokenizer, again.generation, again.provenance) == (tokenizer, model.generation, model.provenance)
    assert again.generate([3], max_new_tokens=9).tolist() == model.generate([3], max_new_tokens=9).tolist()
    stored = again.source.selftest
    found = again.run(stored.inputs)["probabilities"]
    np.testing.assert_allclose(found, stored.outputs["probabilities"], rtol=0, atol=1e-6)


def test_after_release_source_a_model_runs_but_is_not_saved(tmp_path):
    model, x = compiled(LAST_STEP), ids(BATCH, TIME)
    before = model(x)
    model.release_source()
    assert (model(x) == before).all() and model.generate([3], max_new_tokens=4).shape == (4,)
    with pytest.raises(lstmrt.InputError, match="source was released"):
        model.save(tmp_path / "model.lstmrt")
    assert not list(tmp_path.iterdir())


def test_mode_and_tokenizer_may_be_given_to_load(tmp_path):
    compiled(LAST_STEP, GenerationDefaults("window", 5)).save(tmp_path / "model.lstmrt")
    (tmp_path / "words.json").write_text(json.dumps(["", *"abcdefghijklmnopqrstuv"]), encoding="utf-8")
    model = lstmrt.load(tmp_path / "model.lstmrt", tokenizer=tmp_path / "words.json", mode="stateful")
    assert model.generation == GenerationDefaults("stateful")
    assert isinstance(model.generate("abc", max_new_tokens=4), str)
    with pytest.raises(lstmrt.InputError, match="one of window, masked_window, stateful, growing"):
        lstmrt.load(tmp_path / "model.lstmrt", mode="beam")


def test_convert_to_onnx_and_back(tmp_path):
    x = ids(BATCH, TIME)
    compiled(LAST_STEP).save(tmp_path / "model.lstmrt")
    lstmrt.convert(tmp_path / "model.lstmrt", tmp_path / "model.onnx")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    lstmrt.convert(tmp_path / "model.onnx", tmp_path / "again.lstmrt")
    (expected,) = session.run(None, {"ids": x})
    assert (expected == run_onnxruntime(LAST_STEP, {"ids": x})["probabilities"]).all()
    np.testing.assert_allclose(lstmrt.load(tmp_path / "again.lstmrt")(x), expected, rtol=0, atol=1e-6)


def test_convert_replaces_a_file_only_with_force(tmp_path):
    source, destination = tmp_path / "source.lstmrt", tmp_path / "destination.lstmrt"
    write(source, ModelFile(LAST_STEP))
    destination.write_text("mine")
    with pytest.raises(lstmrt.InputError, match="destination.lstmrt exists already"):
        lstmrt.convert(source, destination)
    assert destination.read_text() == "mine"
    lstmrt.convert(source, destination, force=True)
    assert lstmrt.load(destination).source.selftest is not None


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path):
    source, destination = tmp_path / "source.lstmrt", tmp_path / "destination.onnx"
    write(source, ModelFile(language_model(mask=True)))
    destination.write_text("mine")
    with pytest.raises(lstmrt.UnsupportedError, match="layer_0.*mask"):
        lstmrt.convert(source, destination, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["destination.onnx", "source.lstmrt"]
    assert destination.read_text() == "mine"


def test_the_name_onnx_may_be_in_capitals(tmp_path):
    source, destination = tmp_path / "source.lstmrt", tmp_path / "MODEL.ONNX"
    write(source, ModelFile(LAST_STEP))
    lstmrt.convert(source, destination)
    assert lstmrt.load(destination).provenance["framework"] == "onnx"


@pytest.mark.parametrize("name", ["model.keras", "model.H5", "model.tflite"])
def test_names_of_formats_that_are_not_written(tmp_path, name):
    with pytest.raises(lstmrt.InputError, match="lstmrt writes .lstmrt and .onnx files"):
        compiled(LAST_STEP).save(tmp_path / name)
    with pytest.raises(lstmrt.InputError, match="lstmrt writes .lstmrt and .onnx files"):
        lstmrt.convert(tmp_path / "source.lstmrt", tmp_path / name, force=True)


def test_infinities_may_come_in_double_precision():
    model, x = compiled(features_graph()), np.full((2, 3, 5), -np.inf)
    np.testing.assert_array_equal(model(x), model(x.astype(np.float32)))


def test_names_that_no_file_can_have(tmp_path):
    source = tmp_path / "source.lstmrt"
    write(source, ModelFile(LAST_STEP))
    with pytest.raises(lstmrt.ModelFileError, match="too long"):
        lstmrt.convert(source, tmp_path / ("x" * 300))


@pytest.mark.parametrize("keywords, error, message", [
    ({"isa": 3}, lstmrt.IsaError, "expected a name, got 3"),
    ({"state": 3}, lstmrt.InputError, "state: expected a mapping"),
    ({"generation": 3}, lstmrt.InputError, "generation: expected a mapping"),
    ({"generation": {"eos_token_id": 3}}, lstmrt.InputError, "eos_token_id: for encoder-decoders"),
    ({"mode": "masked_window"}, lstmrt.InputError, "does not mask the padding: use mode='window'"),
])
def test_keywords_of_load_that_make_no_sense(keywords, error, message):
    with pytest.raises(error, match=message):
        lstmrt.load(files("lstmrt") / "data" / "sample.lstmrt", **keywords)


def test_a_model_says_why_it_is_not_pickled():
    with pytest.raises(TypeError, match="load it from its file"):
        pickle.dumps(compiled(LAST_STEP))
    with pytest.raises(TypeError, match="a state is not pickled"):
        pickle.dumps(compiled(LAST_STEP).new_state())


def test_repr_shows_what_goes_in_and_out():
    assert repr(compiled(LAST_STEP)) == ("<lstmrt.Model 'small': ids int64 ('batch', 'time') -> "
                                         f"probabilities float32 ('batch', {VOCABULARY})>")


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    model = lstmrt.load(files("lstmrt") / "data" / "sample.lstmrt")
    with pytest.raises(lstmrt.InputError, match="no regular file"):
        model.save(tmp_path)
    with pytest.raises(lstmrt.ModelFileError, match="absent"):
        model.save(tmp_path / "absent" / "x.lstmrt")
    assert list(tmp_path.iterdir()) == []


def test_ids_that_int64_cannot_hold_are_refused():
    model = lstmrt.load(files("lstmrt") / "data" / "sample.lstmrt")
    for ids in (np.full((1, 9), 2**64 - 1, np.uint64), np.full((1, 9), 1e30)):
        with pytest.raises(lstmrt.InputError, match="does not fit int64"):
            model(ids)
