"""ConvLSTM, an operator of ours: native code beside the reference, on every instruction set, and what keeps its bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instruction_sets import REDUCED
from strategies import Builder, Case, activation_attributes

from lstmrt import _core, passes
from lstmrt.errors import GraphError
from lstmrt.execution.compile import compile_graph
from lstmrt.graph import EXTENSION, Graph, Node, Value
from lstmrt.shapes_layers import windowed
from oracles import exact_with_tolerances
from test_same_bits import check_rows_alone, same_bits

ISAS = [name for name, supported in _core.isas() if supported]
random_cases = settings(max_examples=25, deadline=None, derandomize=True,
                        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
SAFE = ("Sigmoid", "Tanh", "Relu", "HardSigmoid", "Softsign", "Elu", "Swish")


@st.composite
def conv_lstm_graphs(draw, whole: bool = True, largest: int = 9) -> Case:
    """One node with any option, or with those that sequences which run step by step may have (not `whole`)."""
    batch, time, channels = draw(st.integers(2, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    filters, kernel = draw(st.sampled_from((1, 2, 3, 5, 7, 8, 16, 17, 33))), draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    sizes = [draw(st.integers(3, largest if len(kernel) < 3 else 5)) for _ in kernel]
    windows = draw(_windows(kernel))
    counts = windowed(sizes, kernel, {"auto_pad": "NOTSET", "dilations": None, "pads": None, **windows})
    builder = Builder(np.random.default_rng(draw(st.integers(0, 2**32))), batch, time, 1)
    inputs = [builder.input("x", builder.floats(batch, time, *sizes, channels), ("batch", "time", *sizes, channels)),
              builder.weights("W", 4 * filters, *kernel, channels, gates=4),
              builder.weights("R", 4 * filters, *kernel, filters, gates=4),
              builder.weights("B", 4 * filters, gates=4) if draw(st.booleans()) else ""]
    outputs = ("Y", "Y_h", "Y_c") if whole else ("Y",)
    if whole:
        for name in ("h", "c"):
            given = draw(st.booleans())
            inputs.append(builder.input(name, builder.floats(batch, *counts, filters), ("batch", *counts, filters)) if given else "")
        if draw(st.booleans()):
            inputs.append(builder.input("mask", builder.rng.random((batch, time)) < 0.6, ("batch", "time")))
            windows["masked_output"] = draw(st.sampled_from(("carry", "zero")))
        windows |= {"direction": draw(st.sampled_from(("forward", "reverse"))), **draw(activation_attributes("LSTM", 1, SAFE))}
    node = Node("ConvLSTM", tuple(inputs), outputs, windows, "frames", EXTENSION)
    graph = Graph(tuple(builder.values), tuple(Value(name, "float32", None) for name in outputs), (node,), builder.constants)
    return Case(graph.validate(), builder.inputs)


@st.composite
def _windows(draw, kernel: list[int]) -> dict:
    """Of X: every way to say where they are. They fit into three places of each axis."""
    strides = tuple(draw(st.integers(1, 3)) for _ in kernel)
    if draw(st.booleans()):
        return {"strides": strides, "auto_pad": "SAME_UPPER"}
    dilations = tuple(draw(st.integers(1, 2)) for _ in kernel)
    before = tuple(draw(st.integers(0, 2)) + (width - 1) * dilation for width, dilation in zip(kernel, dilations))
    return {"strides": strides, "dilations": dilations, "pads": (*before, *(draw(st.integers(0, 2)) for _ in kernel))}


@pytest.mark.parametrize("isa", ISAS)
@random_cases
@given(case=conv_lstm_graphs())
def test_beside_the_reference(isa, case):
    executable = compile_graph(passes.load(case.graph), isa=isa)
    assert executable.native.model.isa == isa
    found = executable.run(case.inputs)
    wanted, tolerances = exact_with_tolerances(case.graph, case.inputs)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=tolerances[name], err_msg=f"{name} of {case}")


@pytest.mark.parametrize("isa", ISAS)
@random_cases
@given(case=conv_lstm_graphs())
def test_every_row_of_a_batch_alone(isa, case):
    check_rows_alone(case, compile_graph(passes.load(case.graph), isa=isa))


@pytest.mark.parametrize("isa", ISAS)
@random_cases
@given(case=conv_lstm_graphs(whole=False))
def test_step_by_step(isa, case):
    executable = compile_graph(case.graph, isa=isa)
    model, (x,) = executable.native.model, case.inputs.values()
    assert model.steppable
    whole, state = executable.run(case.inputs)["Y"], model.new_state(len(x))
    for t in range(x.shape[1]):
        y = np.empty_like(whole[:, t])
        model.step(state, (np.ascontiguousarray(x[:, t]),), (y,))
        assert same_bits(y, whole[:, t])
        state = state.copy()


@pytest.mark.parametrize("isa", ISAS)
@settings(random_cases, max_examples=6)
@given(case=conv_lstm_graphs(largest=40), threads=st.integers(2, 6))
def test_any_number_of_threads(isa, case, threads):
    alone, shared = (compile_graph(passes.load(case.graph), isa=isa, threads=n).run(case.inputs) for n in (1, threads))
    for name, array in alone.items():
        assert same_bits(array, shared[name])


@pytest.mark.parametrize("precision, isa", REDUCED)
@settings(random_cases, max_examples=5)
@given(case=conv_lstm_graphs())
def test_weights_stay_floats(precision, isa, case):
    """At any precision: on the same f32 kernels they have the same bits."""
    reduced, floats = (compile_graph(case.graph, one, precision=of).run(case.inputs)
                       for one, of in ((isa, precision), (_float_kernels(isa), "f32")))
    for name, array in floats.items():
        assert same_bits(array, reduced[name])


def _float_kernels(isa: str) -> str:
    return "avx512" if isa.startswith(("avx512", "amx")) else isa.removesuffix("_dot")


@pytest.mark.parametrize("change, message", [
    ({"W": (11, 3, 3, 2)}, r"W: shape \(11, 3, 3, 2\), expected \(4 filters, kernel sizes, channels\)"),
    ({"W": (12, 3, 2, 2)}, r"R: shape \(12, 3, 3, 3\), expected \(12, 3, 2, 3\)"),
    ({"W": (12, 3, 3, 4)}, r"X: shape .*, expected \('batch', 'time', 5, 6, 4\)"),
    ({"W": (12, 7, 3, 2), "R": (12, 7, 3, 3)}, "a kernel of 7 .* does not fit into 5"),
    ({"W": (12, 3, 2)}, "X: shape .*, expected \\(batch, time, 1 sizes, channels\\)"),
    ({"B": (13,)}, r"B: shape \(13,\), expected \(12,\)"),
    ({"strides": (0, 1)}, "strides"), ({"strides": (1,)}, "strides"), ({"pads": (10**9,) * 4}, "elements"),
    ({"strides": (2**31, 1)}, "strides .*: windows of 2"), ({"strides": (1, 2**63)}, "strides .*: windows of 2"),
    ({"dilations": (2**30, 1), "auto_pad": "SAME_UPPER"}, "dilations .*: windows of 2"),
    ({"direction": "bidirectional"}, "direction"), ({"activations": ("Softmax",) * 3}, "unknown function"),
    ({"activations": ("Tanh",)}, "1 functions"),
])
def test_nodes_that_do_not_fit(change, message):
    arrays = {"W": (12, 3, 3, 2), "R": (12, 3, 3, 3), "B": (12,)}
    shapes = {name: change.get(name, shape) for name, shape in arrays.items()}
    attributes = {name: value for name, value in change.items() if name not in arrays}
    node = Node("ConvLSTM", ("x", "W", "R", "B"), ("Y",), attributes, "frames", EXTENSION)
    x = Value("x", "float32", ("batch", "time", 5, 6, 2))
    with pytest.raises(GraphError, match=f"lstmrt:ConvLSTM 'frames'.*{message}"):
        Graph((x,), (Value("Y", "float32", None),), (node,),
              {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}).validate()
