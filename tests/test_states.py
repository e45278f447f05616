"""Models that take their states as inputs: found, declared, carried from step to step, in files, and in generation."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import lstmrt
from lstmrt import format, passes
from lstmrt.execution.compile import compile_graph
from lstmrt.format import ModelFile
from lstmrt.graph import Graph, Node, Value
from lstmrt.model import Model
from lstmrt.states import find_states

BATCH, TIME, WIDTH, HIDDEN, WORDS = 2, 5, 3, 7, 11
RNG = np.random.default_rng(4)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


WEIGHTS = {f"{letter}{layer}": array for layer, width in ((0, WIDTH), (1, HIDDEN)) for letter, array in (
    ("W", floats(1, 4 * HIDDEN, width)), ("R", floats(1, 4 * HIDDEN, HIDDEN)), ("B", floats(1, 8 * HIDDEN)))}
CONSTANTS = {**WEIGHTS, "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]),
             "table": floats(WORDS, WIDTH), "kernel": 2 * floats(HIDDEN, WORDS)}


def lstm(layer: int, x: str) -> list[Node]:
    """One of two layers whose states are stacked in h0 and c0."""
    bounds = ("zero", "one", "zero") if layer == 0 else ("one", "two", "zero")
    return [Node("Slice", ("h0", *bounds), (f"h0.{layer}",)), Node("Slice", ("c0", *bounds), (f"c0.{layer}",)),
            Node("LSTM", (x, f"W{layer}", f"R{layer}", f"B{layer}", "", f"h0.{layer}", f"c0.{layer}"),
                 (f"Y{layer}", f"hn.{layer}", f"cn.{layer}"), {"hidden_size": HIDDEN}),
            Node("Squeeze", (f"Y{layer}", "one"), (f"y{layer}",))]


def language_model() -> Graph:
    """ids (batch, time), h0, c0 (2, batch, HIDDEN) -> logits, and the states again, as torch exports them."""
    stacked = ("h0", "c0")
    nodes = [Node("Gather", ("table", "ids"), ("embedded",)), Node("Transpose", ("embedded",), ("x",), {"perm": (1, 0, 2)}),
             *lstm(0, "x"), *lstm(1, "y0"), Node("Transpose", ("y1",), ("batch first",), {"perm": (1, 0, 2)}),
             Node("MatMul", ("batch first", "kernel"), ("logits",)),
             *(Node("Concat", (f"{name}.0", f"{name}.1"), (name,), {"axis": 0}) for name in ("hn", "cn"))]
    shape = (2, "batch", HIDDEN)
    return Graph((Value("ids", "int64", ("batch", "time")), *(Value(name, "float32", shape) for name in stacked)),
                 (Value("logits", "float32", None), Value("hn", "float32", shape), Value("cn", "float32", shape)),
                 tuple(nodes), CONSTANTS, "language model").validate()


def detector() -> Graph:
    """chunk (batch, WIDTH * 2), state (2, batch, HIDDEN), rate -> a probability of each row, and the state: h and c in one
    tensor, and an operator that no native program has in between."""
    nodes = (
        Node("Reshape", ("chunk", "frames"), ("framed",)), Node("Sin", ("framed",), ("sines",)),
        Node("Mul", ("sines", "rate"), ("scaled",)), Node("Transpose", ("scaled",), ("x",), {"perm": (1, 0, 2)}),
        Node("Gather", ("state", "first"), ("h",), {"axis": 0}), Node("Gather", ("state", "second"), ("c",), {"axis": 0}),
        Node("Unsqueeze", ("h", "zero"), ("h0",)), Node("Unsqueeze", ("c", "zero"), ("c0",)),
        Node("LSTM", ("x", "W0", "R0", "B0", "", "h0", "c0"), ("Y", "hn", "cn"), {"hidden_size": HIDDEN}),
        Node("Concat", ("hn", "cn"), ("stateN",), {"axis": 0}), Node("Squeeze", ("hn", "zero"), ("last",)),
        Node("Sin", ("last",), ("waved",)), Node("MatMul", ("waved", "kernel"), ("product",)),
        Node("Sigmoid", ("product",), ("speech",)))
    return Graph(
        (Value("chunk", "float32", ("batch", 2 * WIDTH)), Value("state", "float32", (2, "batch", HIDDEN)),
         Value("rate", "float32", ())),
        (Value("speech", "float32", None), Value("stateN", "float32", (2, "batch", HIDDEN))), nodes,
        {**CONSTANTS, "frames": np.array([0, 2, WIDTH]), "first": np.array(0), "second": np.array(1)}, "detector").validate()


def model_of(graph: Graph, **fields) -> Model:
    return Model(ModelFile(passes.canonical(graph), **fields))


IDS = RNG.integers(0, WORDS, (BATCH, TIME))
ZERO = np.zeros((2, BATCH, HIDDEN), np.float32)


def test_stacked_states_are_found_and_leave_one_native_program():
    model = model_of(language_model())
    assert model.states == {"h0": "hn", "c0": "cn"}
    assert [segment.kind for segment in model.segments] == ["native"]


def test_steps_give_the_bits_of_a_whole_run_with_states_of_zero():
    model = model_of(language_model())
    logits, hn, cn = model(IDS, ZERO, ZERO)
    state = model.new_state(BATCH)
    for t in range(TIME):
        assert (model.step(IDS[:, t], state) == logits[:, t]).all()
    assert hn.any() and cn.any()


def test_states_that_threads_make_first_belong_to_one_program(monkeypatch):
    model, threads = model_of(language_model()), 4
    started = threading.Barrier(threads)

    def slowly(*arguments, **options):
        time.sleep(0.05)  # so that all are there before one is done
        return compile_graph(*arguments, **options)

    def state(_: int):
        started.wait()
        return model.new_state(BATCH)

    monkeypatch.setattr("lstmrt.model.compile_graph", slowly)
    with ThreadPoolExecutor(threads) as pool:
        for made in pool.map(state, range(threads)):
            assert made.model is model.program.model
            model.step(IDS[:, 0], made)


def test_a_step_may_have_its_axis_of_time():
    model = model_of(language_model())
    one, other = model.new_state(BATCH), model.new_state(BATCH)
    assert (model.step(IDS[:, :1], one) == model.step(IDS[:, 0], other)[:, None]).all()


def test_a_step_may_have_many_steps_at_once():
    model = model_of(language_model())
    one, other = model.new_state(BATCH), model.new_state(BATCH)
    with pytest.raises(lstmrt.InputError, match=f"id {WORDS} is outside the vocabulary"):
        model.step(np.where(np.arange(TIME) == TIME - 1, WORDS, IDS), one)  # and the state is as it was
    assert (model.step(IDS[:, :3], one) == model(IDS, ZERO, ZERO)[0][:, :3]).all()
    for t in range(3):
        model.step(IDS[:, t], other)
    assert (model.step(IDS[:, 3], one) == model.step(IDS[:, 3], other)).all()
    for wrong in (IDS[:, :0], IDS[:1, :3], IDS[None]):
        with pytest.raises(lstmrt.InputError, match="for one step, got"):
            model.step(wrong, one)


def test_a_detector_runs_chunk_by_chunk():
    """What a caller would do with the arrays by hand, with copies and resets."""
    model = model_of(detector())
    assert model.states == {"state": "stateN"}
    assert len({segment.kind for segment in model.segments}) > 1
    carried, state = ZERO, model.new_state(BATCH)
    chunks = floats(4, BATCH, 2 * WIDTH)
    for chunk in chunks:
        wanted, carried = model(chunk, carried, 0.5)
        assert (model.step((chunk, 0.5), state) == wanted).all()
    copy = state.copy()
    again = model.step({"chunk": chunks[0], "rate": 0.5}, state)
    assert (model.step((chunks[0], 0.5), copy) == again).all()
    state.reset()
    assert (model.step((chunks[0], 0.5), state) == model(chunks[0], ZERO, 0.5)[0]).all()


def test_a_step_without_all_inputs_says_what_is_missing():
    model = model_of(detector())
    with pytest.raises(lstmrt.InputError, match=r"expected 2 inputs beside the states \(chunk, rate\), got 1"):
        model.step(floats(1, 2 * WIDTH), model.new_state())


def test_what_is_no_state_of_a_detector_is_refused():
    chunk, other = (floats(BATCH, 2 * WIDTH), 0.5), model_of(language_model()).new_state(BATCH)
    for state, message in ((None, "expected what new_state gave, got NoneType"), (other, "belongs to another model")):
        with pytest.raises(lstmrt.InputError, match=f"state.*{message}"):
            model_of(detector()).step(chunk, state)


# ---- declared ----


def renamed(graph: Graph) -> Graph:
    """The detector with its cache handed through a subtraction, which hides what flows where, and names that say nothing."""
    nodes = tuple(replace(node, outputs=("o7",)) if node.outputs == ("stateN",) else node for node in graph.nodes)
    nodes = tuple(replace(node, inputs=("minus", *node.inputs[1:])) if "state" in node.inputs else node for node in nodes)
    nodes = (Node("Neg", ("state",), ("minus",)), *nodes)
    return replace(graph, nodes=nodes, outputs=(graph.outputs[0], graph.outputs[1]._replace(name="o7")))


def test_states_that_cannot_be_told_are_declared():
    graph = passes.canonical(replace(renamed(detector()), nodes=tuple(
        replace(node, inputs=tuple("q" if name == "state" else name for name in node.inputs))
        for node in renamed(detector()).nodes), inputs=tuple(
        value._replace(name="q") if value.name == "state" else value for value in detector().inputs)))
    assert Model(ModelFile(graph, states={})).states == {}
    model = Model(ModelFile(graph, states={"q": "o7"}))
    state, carried = model.new_state(BATCH), ZERO
    for chunk in floats(3, BATCH, 2 * WIDTH):
        wanted, carried = model(chunk, carried, 2.0)
        assert (model.step((chunk, 2.0), state) == wanted).all()


def test_declared_states_are_kept_in_files(tmp_path):
    format.write(tmp_path / "found.lstmrt", ModelFile(passes.canonical(detector())))
    lstmrt.convert(tmp_path / "found.lstmrt", tmp_path / "declared.lstmrt", state={"state": "stateN"})
    assert format.read(tmp_path / "found.lstmrt").states is None
    assert format.read(tmp_path / "declared.lstmrt").states == {"state": "stateN"}
    assert lstmrt.load(tmp_path / "declared.lstmrt").states == {"state": "stateN"}


@pytest.mark.parametrize("state, message", [
    ({"nothing": "stateN"}, "expected an input of"), ({"state": "speech and more"}, "an output of"),
    ({"rate": "stateN"}, "does not fit"), ({"state": "speech"}, None),
])
def test_declarations_that_make_no_sense(tmp_path, state, message):
    path = tmp_path / "model.lstmrt"
    format.write(path, ModelFile(passes.canonical(detector())))
    if message is None:
        assert lstmrt.load(path, state=state).states == state  # the file does not say the output's shape
        return
    with pytest.raises(lstmrt.InputError, match=message):
        lstmrt.load(path, state=state)


def test_an_input_that_looks_like_an_output_is_no_state():
    graph = Graph((Value("x", "float32", ("batch", 3)),), (Value("y", "float32", ("batch", 3)),), (Node("Neg", ("x",), ("y",)),), {})
    assert find_states(graph) == {}
    cache = Graph((Value("x", "float32", (3,)), Value("cache", "float32", (3,))),
                  (Value("y", "float32", (3,)), Value("cache_out", "float32", (3,))),
                  (Node("Add", ("x", "cache"), ("y",)), Node("Neg", ("x",), ("cache_out",))), {})
    assert find_states(cache) == {"cache": "cache_out"}


# ---- generation ----


def test_generation_is_the_loop_that_carries_states_by_hand():
    model = model_of(language_model())
    prompt, made = [3, 1, 4], []
    h = c = np.zeros((2, 1, HIDDEN), np.float32)
    ids = np.array([prompt])
    for _ in range(12):
        logits, h, c = model(ids, h, c)
        made.append(int(logits[0, -1].argmax()))
        ids = np.array([made[-1:]])
    assert model.generate(prompt, max_new_tokens=12).tolist() == made


def test_a_released_source_is_missed_where_states_go_inside():
    model = model_of(language_model())
    model.release_source()
    with pytest.raises(lstmrt.InputError, match="source was released"):
        model.new_state()


@pytest.mark.parametrize("time", ["time", 4])
def test_a_mode_is_inferred_for_a_model_whose_file_tells_none(time):
    """All ids so far where any number may come; where their number is fixed, the last ones, padded in front."""
    graph = language_model()
    nodes = tuple(replace(node, inputs=node.inputs[:4]) if node.op == "LSTM" else node for node in graph.nodes)
    graph = replace(graph, inputs=(Value("ids", "int64", ("batch", time)),), outputs=graph.outputs[:1], nodes=nodes)
    model = model_of(passes.drop_unused(graph))
    ids, made = [3, 1, 4, 1, 5], []
    for _ in range(8):
        window = ids if time == "time" else ids[-4:]
        made.append(int(model(np.array([window]))[0, -1].argmax()))
        ids.append(made[-1])
    assert model.generate([3, 1, 4, 1, 5], max_new_tokens=8).tolist() == made
