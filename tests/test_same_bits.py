"""Within one instruction set a sequence's outputs have the same bits however it is run.

Whole or step by step, alone or beside others in a batch, wherever in the batch it stands.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instruction_sets import REDUCED
from strategies import Builder, recurrent_graphs

from lstmrt import _core, passes
from lstmrt.execution.compile import compile_graph
from lstmrt.gates import ONNX
from lstmrt.graph import Graph, Node, Value

ISAS = [name for name, supported in _core.isas() if supported]
random_cases = settings(max_examples=60, deadline=None, derandomize=True,
                        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Any NaN is the same as any other: which of two operands an addition passes on is the compiler's choice."""
    def plain(array: np.ndarray) -> bytes:
        return np.where(np.isnan(array), np.float32(np.nan), array).tobytes()

    return a.shape == b.shape and plain(a) == plain(b)


USUAL = st.one_of(st.integers(1, 70), st.sampled_from((127, 129)))  # hidden units
LARGE = st.integers(200, 300)  # enough for threads to share each step


@st.composite
def language_models(draw, sizes=USUAL) -> tuple[Graph, int]:
    """ids -> embedding -> recurrent layers -> dense softmax of every step, and the vocabulary's size."""
    vocabulary, width = draw(st.integers(2, 90)), draw(st.integers(1, 40))
    builder = Builder(np.random.default_rng(draw(st.integers(0, 2**32))), 0, 0, 1)
    x = builder.node("Gather", [builder.weights("embedding", vocabulary, width), "ids"], "embedded")
    for _ in range(draw(st.integers(1, 2))):
        hidden = draw(sizes)
        op = draw(st.sampled_from(list(ONNX)))
        gates = len(ONNX[op])
        attributes = {"hidden_size": hidden, "layout": 1}
        if op == "GRU":
            attributes["linear_before_reset"] = draw(st.integers(0, 1))
        inputs = [x, builder.weights("W", 1, gates * hidden, width, gates=gates, axis=1),
                  builder.weights("R", 1, gates * hidden, hidden, gates=gates, axis=1),
                  builder.weights("B", 1, 2 * gates * hidden, gates=2 * gates, axis=1)]
        y = builder.node(op, inputs, builder.name("Y"), **attributes)
        x, width = builder.node("Squeeze", [y, builder.constant("axes", np.array([2]))], builder.name("steps")), hidden
    x = builder.node("MatMul", [x, builder.weights("kernel", width, vocabulary)], "product")
    x = builder.node("Add", [x, builder.weights("bias", vocabulary)], "logits")
    builder.node("Softmax", [x], "probabilities")
    graph = Graph((Value("ids", "int64", ("batch", "time")),), (Value("probabilities", "float32", None),),
                  tuple(builder.nodes), builder.constants, "language model")
    return graph.validate(), vocabulary


def stepped(model: _core.Model, state: _core.State, ids: np.ndarray, vocabulary: int) -> np.ndarray:
    """(batch, time, vocabulary): the outputs of one step after the other."""
    out = np.empty((*ids.shape[::-1], vocabulary), np.float32)
    for t in range(ids.shape[1]):
        model.step(state, (np.ascontiguousarray(ids[:, t]),), (out[t],))
    return out.swapaxes(0, 1)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("with_table", [True, False], ids=["table", "matmul"])
@random_cases
@given(drawn=language_models(), batch=st.integers(2, 7), time=st.integers(1, 40), data=st.data())
def test_whole_stepped_and_batched_sequences(isa, with_table, drawn, batch, time, data):
    graph, vocabulary = drawn
    executable = compile_graph(passes.load(graph) if with_table else graph, isa=isa)
    assert executable.native.model.isa == isa
    check_whole_stepped_and_batched(executable, vocabulary, batch, time, data)


@pytest.mark.parametrize("precision, isa", REDUCED)
@settings(random_cases, max_examples=20)
@given(drawn=language_models(), with_table=st.booleans(), batch=st.integers(2, 24), time=st.integers(1, 40),
       data=st.data())
def test_whole_stepped_and_batched_sequences_with_reduced_weights(precision, isa, drawn, with_table, batch, time, data):
    graph, vocabulary = drawn
    executable = compile_graph(passes.load(graph) if with_table else graph, isa, precision=precision)
    assert executable.native.model.isa == isa
    check_whole_stepped_and_batched(executable, vocabulary, batch, time, data)


def check_whole_stepped_and_batched(executable, vocabulary, batch, time, data):
    model = executable.native.model
    assert model.steppable
    ids = np.random.default_rng(data.draw(st.integers(0, 999))).integers(0, vocabulary, (batch, time))
    whole = executable.run({"ids": ids})["probabilities"]

    assert same_bits(stepped(model, model.new_state(batch), ids, vocabulary), whole)
    order = data.draw(st.permutations(range(batch)))
    assert same_bits(executable.run({"ids": ids[order]})["probabilities"], whole[order])
    some = order[:data.draw(st.integers(1, batch))]
    assert same_bits(executable.run({"ids": ids[some]})["probabilities"], whole[some])
    cut = data.draw(st.integers(1, time))
    assert same_bits(executable.run({"ids": ids[:, :cut]})["probabilities"], whole[:, :cut])


@pytest.mark.parametrize("isa", ISAS)
@random_cases
@given(drawn=language_models(), cut=st.integers(1, 9))
def test_a_copied_state_goes_on_with_the_same_bits(isa, drawn, cut):
    graph, vocabulary = drawn
    model = compile_graph(passes.load(graph), isa=isa).native.model
    ids = np.random.default_rng(cut).integers(0, vocabulary, (3, 10))
    state = model.new_state(3)
    stepped(model, state, ids[:, :cut], vocabulary)
    copy = state.copy()
    rest = stepped(model, state, ids[:, cut:], vocabulary)
    assert same_bits(stepped(model, copy, ids[:, cut:], vocabulary), rest)
    state.reset()
    again = stepped(model, state, ids, vocabulary)
    assert same_bits(again[:, cut:], rest)


@pytest.mark.parametrize("isa", ISAS)
@random_cases
@given(case=recurrent_graphs(layouts=(1,), extensions=True))
def test_every_row_of_a_batch_alone(isa, case):
    """All options: states, lengths, masks, directions."""
    check_rows_alone(case, compile_graph(passes.load(case.graph), isa=isa))


@pytest.mark.parametrize("precision, isa", REDUCED)
@settings(random_cases, max_examples=20)
@given(case=recurrent_graphs(layouts=(1,), extensions=True))
def test_every_row_of_a_batch_alone_with_reduced_weights(precision, isa, case):
    check_rows_alone(case, compile_graph(passes.load(case.graph), isa, precision=precision))


def check_rows_alone(case, executable):
    together = executable.run(case.inputs)
    for row in range(len(next(iter(case.inputs.values())))):
        alone = executable.run({name: array[row:row + 1] for name, array in case.inputs.items()})
        for name, array in together.items():
            assert same_bits(alone[name], array[row:row + 1]), f"{name}, row {row}"


CELLS = [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("op, options", CELLS, ids=["LSTM", "GRU", "GRU-linear", "RNN"])
@pytest.mark.parametrize("time, inputs", [(16, 9), (17, 40), (24, 41), (39, 1), (48, 32), (70, 33)])
def test_a_long_sequence_alone(isa, op, options, direction, time, inputs):
    """The steps of a single row compute the input parts of later ones (ahead.c), those of a batch do not."""
    builder = Builder(np.random.default_rng(time), 2, time, 1)
    hidden, gates = 41, len(ONNX[op])
    weights = (builder.weights("W", 1, gates * hidden, inputs, gates=gates, axis=1),
               builder.weights("R", 1, gates * hidden, hidden, gates=gates, axis=1),
               builder.weights("B", 1, 2 * gates * hidden, gates=2 * gates, axis=1))
    node = Node(op, ("x", *weights), ("Y",), {"hidden_size": hidden, "layout": 1, "direction": direction, **options})
    graph = Graph((Value("x", "float32", ("batch", "time", inputs)),), (Value("Y", "float32", None),), (node,),
                  builder.constants)
    x = builder.floats(2, time, inputs)
    run = compile_graph(graph.validate(), isa=isa).run
    together, alone = run({"x": x})["Y"], [run({"x": x[row:row + 1]})["Y"] for row in range(2)]
    assert same_bits(np.concatenate(alone), together)


@pytest.mark.skipif(("amx", True) not in _core.isas("int8"), reason="this CPU has no amx")
@settings(random_cases, max_examples=30)
@given(drawn=language_models(), batch=st.integers(2, 40), time=st.integers(1, 20))
def test_amx_and_vnni(drawn, batch, time):
    graph, vocabulary = drawn
    ids = np.random.default_rng(batch).integers(0, vocabulary, (batch, time))
    by_amx, by_vnni = (compile_graph(graph, isa, precision="int8").run({"ids": ids}) for isa in ("amx", "avx512_vnni"))
    assert same_bits(by_amx["probabilities"], by_vnni["probabilities"])


@pytest.mark.parametrize("isa", ISAS)
@settings(random_cases, max_examples=15)
@given(drawn=language_models(LARGE), threads=st.integers(2, 6), batch=st.integers(1, 9), time=st.integers(8, 40))
def test_any_number_of_threads(isa, drawn, threads, batch, time):
    graph, vocabulary = drawn
    ids = np.random.default_rng(batch).integers(0, vocabulary, (batch, time))
    alone, shared = (compile_graph(passes.load(graph), isa=isa, threads=n).run({"ids": ids}) for n in (1, threads))
    assert same_bits(alone["probabilities"], shared["probabilities"])


@pytest.mark.parametrize("isa", ISAS)
def test_the_test_can_fail(isa):
    """Another input must give other bits, or the comparisons above would show nothing."""
    builder = Builder(np.random.default_rng(5), 2, 3, 1)
    weights = (builder.weights("W", 1, 20, 4, gates=4, axis=1), builder.weights("R", 1, 20, 5, gates=4, axis=1))
    node = Node("LSTM", ("x", *weights), ("Y",), {"hidden_size": 5, "layout": 1})
    graph = Graph((Value("x", "float32", ("batch", "time", 4)),), (Value("Y", "float32", None),), (node,),
                  builder.constants)
    x = builder.floats(2, 3, 4)
    nudged = np.nextafter(x, np.float32(9))
    run = compile_graph(graph.validate(), isa=isa).run
    assert not same_bits(run({"x": x})["Y"], run({"x": nudged})["Y"])
