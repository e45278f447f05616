"""Sequences and optional values as a graph's inputs and outputs, and between what runs it: as onnxruntime has them."""

from __future__ import annotations

import numpy as np
import pytest

import lstmrt
from lstmrt.benchmark import tasks
from lstmrt.errors import InputError, UnsupportedError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402  (after the skip)

UNITS, WIDTH = 5, 3
FLOATS = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
LIST = helper.make_sequence_type_proto(FLOATS)
OPTIONAL, OPTIONAL_LIST = helper.make_optional_type_proto(FLOATS), helper.make_optional_type_proto(LIST)
RANDOM = np.random.default_rng(8)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


CONSTANTS = {"W": floats(1, 4 * UNITS, WIDTH), "R": floats(1, 4 * UNITS, UNITS), "zero": np.array(0), "one": np.array([1]),
             "halves": np.array([WIDTH, UNITS])}
LAYER = (helper.make_node("LSTM", ["x", "W", "R"], ["Y"], hidden_size=UNITS), helper.make_node("Squeeze", ["Y", "one"], ["h"]))


def saved(path, inputs: dict, outputs: dict, *nodes) -> tuple[lstmrt.Model, ort.InferenceSession]:
    values = [[helper.make_value_info(name, kind) for name, kind in given.items()] for given in (inputs, outputs)]
    inner = [node for outer in nodes for attribute in outer.attribute for node in attribute.g.node]
    used = {name for node in (*nodes, *inner) for name in node.input}
    graph = helper.make_graph(list(nodes), "graph", *values, [
        numpy_helper.from_array(array, name) for name, array in CONSTANTS.items() if name in used])
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)]), path)
    return lstmrt.load(path), ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def check(model: lstmrt.Model, session: ort.InferenceSession, inputs: dict) -> None:
    for made, wanted in zip(model.run(inputs).values(), session.run(None, inputs), strict=True):
        assert type(made) is type(wanted)
        for a, b in zip(made, wanted, strict=True) if isinstance(made, list) else [(made, wanted)] if made is not None else []:
            np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.fixture
def lists(tmp_path):
    """The first of a sequence through an LSTM, which is put behind the others."""
    return saved(tmp_path / "m.onnx", {"all": LIST}, {"more": LIST}, helper.make_node("SequenceAt", ["all", "zero"], ["x"]), *LAYER,
                 helper.make_node("SequenceInsert", ["all", "h"], ["more"]))


def test_a_sequence_goes_in_and_comes_out(lists, tmp_path):
    model, session = lists
    assert (model.inputs[0].dtype, model.outputs[0].dtype) == ("seq(float32)", "seq(float32)")
    assert "native" in {segment.kind for segment in model.segments}
    model.save(tmp_path / "m.lstmrt")
    for one in (model, lstmrt.load(tmp_path / "m.lstmrt")):
        for shapes in ([(4, 2, WIDTH)], [(7, 1, WIDTH), (2, 2), ()]):
            check(one, session, {"all": [floats(*shape) for shape in shapes]})
    assert len(model([[[[1, 2, 3]]]])) == 2  # whatever makes arrays


def test_what_is_no_sequence_is_refused(lists, capfd):
    model, _ = lists
    with pytest.raises(InputError, match="'all': expected a list of arrays of float32, got ndarray"):
        model(floats(1, 2, WIDTH))
    with pytest.raises(InputError, match="'all': expected float32, got complex"):
        model([np.zeros(3, complex)])
    with pytest.raises(InputError, match="onnxruntime could not run SequenceAt"):
        model([])
    with pytest.raises(UnsupportedError, match="input 'all' is no array"):
        tasks(model, time=4)
    assert capfd.readouterr().err == ""  # the exception says it all


def test_sequences_between_sessions_even_empty_ones(tmp_path):
    split = (helper.make_node("SplitToSequence", ["both", "halves"], ["parts"], axis=2),
             helper.make_node("SequenceAt", ["parts", "zero"], ["x"]), helper.make_node("SequenceEmpty", [], ["none"]))
    join = (helper.make_node("SequenceInsert", ["parts", "h"], ["three"]), helper.make_node("SequenceInsert", ["none", "h"], ["only"]),
            helper.make_node("ConcatFromSequence", ["three"], ["y"], axis=2))
    model, session = saved(tmp_path / "m.onnx", {"both": FLOATS}, {"y": FLOATS, "only": LIST, "none": LIST}, *split, *LAYER, *join)
    assert [segment.kind for segment in model.segments].count("onnxruntime") == 2
    check(model, session, {"both": floats(6, 2, WIDTH + UNITS)})


@pytest.mark.parametrize("kind, given", [(OPTIONAL, floats(4, 2, WIDTH)), (OPTIONAL_LIST, [floats(4, 2, WIDTH), floats(3)])])
def test_an_optional_value_may_be_none(tmp_path, kind, given):
    """Where it is there, it (or the first of it) goes through an LSTM; where not, zeros do."""
    take = [helper.make_node("OptionalGetElement", ["maybe"], ["there"])]
    if kind is OPTIONAL_LIST:
        take.append(helper.make_node("SequenceAt", ["there", "zero"], ["first"]))
    result = helper.make_value_info("taken", FLOATS)
    then = helper.make_graph([*take, helper.make_node("Identity", [take[-1].output[0]], ["taken"])], "then", [], [result])
    other = helper.make_graph([helper.make_node("Sub", ["default", "default"], ["taken"])], "else", [], [result])
    model, session = saved(
        tmp_path / "m.onnx", {"maybe": kind, "default": FLOATS}, {"h": FLOATS, "same": kind},
        helper.make_node("OptionalHasElement", ["maybe"], ["is there"]),
        helper.make_node("If", ["is there"], ["x"], then_branch=then, else_branch=other), *LAYER,
        helper.make_node("Identity", ["maybe"], ["same"]))
    assert "native" in {segment.kind for segment in model.segments}
    for maybe in (given, None):
        check(model, session, {"maybe": maybe, "default": floats(2, 1, WIDTH)})


def test_what_is_handed_through_is_the_callers_own(tmp_path):
    model, session = saved(tmp_path / "m.onnx", {"all": LIST}, {"same": LIST}, helper.make_node("Identity", ["all"], ["same"]))
    given = [floats(2), floats(3, 1)]
    check(model, session, {"all": given})
    model(given)[0][...] = 7
    assert not (given[0] == 7).any()
