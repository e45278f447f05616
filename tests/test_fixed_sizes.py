"""The programs that are made for the sizes of calls."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import lstmrt
from lstmrt.errors import InputError
from lstmrt.execution.fixed_sizes import MOST, PATIENCE

pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
import onnx  # noqa: E402  (after the skip)
from onnx import TensorProto, helper  # noqa: E402
from onnx_models import Writer  # noqa: E402

CHANNELS, FILTERS, HIDDEN = 3, 4, 5


def value(name: str, shape=None):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@pytest.fixture
def path(tmp_path):
    """x (batch, CHANNELS, time) through a convolution whose frames an If squeezes where there is one, into an LSTM."""
    w = Writer(17, np.random.default_rng(5))
    frames = w.add("Conv", "x", w.weights(FILTERS, CHANNELS, 2), w.weights(FILTERS), strides=[2])
    count = w.add("Gather", w.add("Shape", frames), w.constant(2, "int64"))
    one, many = Writer(17, w.random, count=100), Writer(17, w.random, count=200)
    ends = [one.add("Unsqueeze", one.add("Squeeze", frames, w.ints(2)), w.ints(0)),
            many.add("Transpose", frames, perm=[2, 0, 1])]
    branches = [helper.make_graph(part.nodes, "branch", [], [value(end)]) for part, end in zip((one, many), ends)]
    steps = w.add("If", w.add("Equal", count, w.constant(1, "int64")), then_branch=branches[0], else_branch=branches[1])
    y, *_ = w.add("LSTM", steps, w.weights(1, 4 * HIDDEN, FILTERS), w.weights(1, 4 * HIDDEN, HIDDEN),
                  w.weights(1, 8 * HIDDEN), outputs=3, hidden_size=HIDDEN)
    y = w.add("Squeeze", y, w.ints(1))
    graph = helper.make_graph(w.nodes, "frames", [value("x", ("batch", CHANNELS, "time"))], [value(y)], w.constants)
    path = tmp_path / "frames.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_calls_of_the_first_sizes_and_of_others_give_what_onnxruntime_does(path):
    model, random = lstmrt.load(path), np.random.default_rng(0)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((2, CHANNELS, 2), (2, CHANNELS, 9), (3, CHANNELS, 2), (2, CHANNELS, 2), (2, CHANNELS, 9)):
        x = random.normal(size=shape).astype(np.float32)
        np.testing.assert_allclose(model(x), session.run(None, {"x": x})[0], atol=1e-6)


def test_several_programs_become_one_where_the_batch_is_known(tmp_path):
    """A convolution and the layer behind it, whose rows are those of the batch."""
    w = Writer(17, np.random.default_rng(6))
    frames = w.add("Relu", w.add("Conv", "x", w.weights(FILTERS, CHANNELS, 3), w.weights(FILTERS)))
    y, last = w.add("GRU", w.add("Transpose", frames, perm=[2, 0, 1]), w.weights(1, 3 * HIDDEN, FILTERS),
                    w.weights(1, 3 * HIDDEN, HIDDEN), outputs=2, hidden_size=HIDDEN)
    y = w.add("Softmax", w.add("Squeeze", last, w.ints(0)), axis=1)
    graph = helper.make_graph(w.nodes, "one", [value("x", ("batch", CHANNELS, 9))], [value(y)], w.constants)
    path = tmp_path / "one.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    model, session = lstmrt.load(path), ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert len(model.segments) > 1
    for batch in (1, 3):
        x = np.random.default_rng(batch).normal(size=(batch, CHANNELS, 9)).astype(np.float32)
        np.testing.assert_allclose(model(x), session.run(None, {"x": x})[0], atol=1e-6)
        fixed = model._executable._of_sizes.executable({"x": x})
        assert [segment.kind for segment in fixed.segments] == ["native"]


@pytest.mark.parametrize("time", [2, 9])
def test_branches_by_shape_are_gone_where_sizes_are_fixed(path, time):
    model = lstmrt.load(path)
    assert any(node.op == "If" for segment in model.segments for node in segment.nodes)
    x = np.ones((2, CHANNELS, time), np.float32)
    model(x)
    fixed = model._executable._of_sizes.executable({"x": x})
    assert not any(node.op in ("If", "Shape") for segment in fixed.segments for node in segment.nodes)


def test_a_first_call_that_does_not_fit_says_so_and_leaves_nothing_behind(path):
    model = lstmrt.load(path)
    for _ in range(2):
        with pytest.raises(InputError, match="onnxruntime could not run"):
            model(np.ones((2, CHANNELS, 1), np.float32))  # shorter than the kernel
    assert model(np.ones((2, CHANNELS, 2), np.float32)).shape == (1, 2, HIDDEN)


def test_calls_that_do_not_fit_leave_room_for_those_that_do(path):
    model = lstmrt.load(path)
    for batch in range(1, MOST + 1):
        with pytest.raises(InputError):
            model(np.ones((batch, CHANNELS, 1), np.float32))
    x = np.ones((2, CHANNELS, 5), np.float32)
    model(x)
    assert model._executable._of_sizes.executable({"x": x}) is not None


def test_results_do_not_depend_on_the_order_of_calls(path):
    random = np.random.default_rng(1)
    calls = [random.normal(size=(batch, CHANNELS, time)).astype(np.float32) for batch, time in ((2, 9), (3, 4), (1, 12))]
    forwards, backwards = (lstmrt.load(path) for _ in range(2))
    made = [forwards(x) for x in calls], [backwards(x) for x in calls[::-1]][::-1]
    for a, b in zip(*made):
        np.testing.assert_array_equal(a, b)


def made_for(model) -> list[int]:
    return [shapes[0][2] for shapes in model._executable._of_sizes._made]


def test_programs_are_few_and_those_of_sizes_that_stay_take_the_place_of_others(path):
    model = lstmrt.load(path)

    def call(time: int, times: int = 1) -> None:
        for _ in range(times):
            model(np.ones((1, CHANNELS, time), np.float32))

    for time in range(4, 30):  # other sizes at every call
        call(time)
    assert made_for(model) == [4, 5, 6, 7] and MOST == 4
    call(4)
    call(20, PATIENCE)
    assert made_for(model) == [4, 6, 7, 20]
    call(21, 2 * PATIENCE - 1)
    call(25)  # not one after the other
    call(21, 2 * PATIENCE - 1)
    assert made_for(model) == [4, 6, 7, 20]
    call(21)
    assert made_for(model) == [4, 7, 20, 21]


def test_where_it_gains_nothing_there_is_no_second_program(tmp_path):
    w = Writer(17, np.random.default_rng(5))
    y = w.add("QuickGelu", "x", domain="com.microsoft")
    graph = helper.make_graph(w.nodes, "plain", [value("x", ("batch", CHANNELS, "time"))], [value(y)], w.constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), tmp_path / "plain.onnx")
    model, x = lstmrt.load(tmp_path / "plain.onnx"), np.ones((2, CHANNELS, 4), np.float32)
    model(x)
    assert model._executable._of_sizes.executable({"x": x}) is None


@pytest.mark.parametrize("called", [False, True])
def test_after_release_source_recurrent_weights_are_held_packed_alone(path, called):
    model, x = lstmrt.load(path), np.ones((2, CHANNELS, 9), np.float32)
    before = model(x) if called else lstmrt.load(path)(x)
    second = model._executable._of_sizes
    weights = [weakref.ref(array) for array in model.source.graph.constants.values() if array.ndim == 3]
    assert len(weights) == 3
    model.release_source()
    gc.collect()
    assert [array() for array in weights if array() is not None and len(array()) == 1] == []
    assert (second.executable({"x": x}) is not None) == called
    np.testing.assert_allclose(model(x), before, atol=1e-6)
