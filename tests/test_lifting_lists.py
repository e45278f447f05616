"""Loops that collect what their steps give in a list, as torch.jit.script writes `ys.append(y)`, against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstmrt
from lstmrt.gates import ONNX

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

WIDTH, HIDDEN, CLASSES = 5, 7, 3
FLOAT = TensorProto.FLOAT


class _Writer:
    def __init__(self) -> None:
        self.random, self.constants = np.random.default_rng(6), {}

    def weights(self, name: str, *shape: int) -> str:
        self.constants[name] = (self.random.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)
        return name

    def ints(self, *values: int) -> str:
        name = "ints " + " ".join(map(str, values))
        self.constants[name] = np.array(values, np.int64)
        return name

    def cell(self, op: str, x: str, states: list[str], made: list[str], width: int, **attributes) -> list:
        """The cell of torch's exporter: a layer of one step between axes that come and go."""
        gates = len(ONNX[op]) * HIDDEN
        inputs = [self.weights(f"{op} W", 1, gates, width), self.weights(f"{op} R", 1, gates, HIDDEN),
                  self.weights(f"{op} B", 1, 2 * gates)]
        front = [helper.make_node("Unsqueeze", [name, self.ints(0)], [f"{name} step"]) for name in (x, *states)]
        last = [f"{name} of {op}" for name in made]
        layer = helper.make_node(op, [f"{x} step", *inputs, "", *(f"{name} step" for name in states)], ["", *last],
                                 hidden_size=HIDDEN, **attributes)
        return [*front, layer, *(helper.make_node("Squeeze", [a, self.ints(0)], [b]) for a, b in zip(last, made))]


def model(op: str, *, axis: int = 0, joined: bool = False, batch_first: bool = False, head: tuple[str, ...] = (),
          meddles: bool = False, **attributes) -> onnx.ModelProto:
    """x, h0 and perhaps c0 -> y and the last h.

    axis, joined  of the list that is stacked, or whose parts of one step are joined
    head          operators behind the cell, inside the loop
    meddles       the body also looks at the list
    """
    writer, letters = _Writer(), "hc" if op == "LSTM" else "h"
    body = [helper.make_node("Slice", ["x", writer.ints(0), writer.ints(2**63 - 1), writer.ints(0)], ["all of x"]),
            helper.make_node("Gather", ["all of x", "t"], ["x_t"], axis=int(batch_first))]
    before, after = ([f"{letter}_{when}" for letter in letters] for when in ("t", "next"))
    body += writer.cell(op, "x_t", before, after, WIDTH, **attributes)
    y = "h_next"
    for i, kind in enumerate(head):
        inputs, options = [y], {}
        if kind == "Gemm":
            inputs += [writer.weights("head", CLASSES, HIDDEN), writer.weights("bias", CLASSES)]
            options = {"transB": 1, "beta": 0.5}
        if kind == "Div":
            inputs.insert(0, writer.weights("numerators", CLASSES))
        body.append(helper.make_node(kind, inputs, [f"head {i}"], **options))
        y = f"head {i}"
    if joined:
        body.append(helper.make_node("Unsqueeze", [y, writer.ints(0)], ["part"]))
    if meddles:
        body.append(helper.make_node("SequenceLength", ["ys_t"], ["length"]))
    body += [helper.make_node("SequenceInsert", ["ys_t", "part" if joined else y], ["ys_next"]),
             helper.make_node("Identity", ["going_on"], ["go_on"])]
    states = [helper.make_tensor_value_info(f"{letter}_t", FLOAT, ["batch", HIDDEN]) for letter in letters]
    inside = helper.make_graph(body, "body", [
        helper.make_tensor_value_info("t", TensorProto.INT64, []), helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
        *states, helper.make_tensor_sequence_value_info("ys_t", FLOAT, None)], [
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        *(helper.make_tensor_value_info(f"{letter}_next", FLOAT, ["batch", HIDDEN]) for letter in letters),
        helper.make_tensor_sequence_value_info("ys_next", FLOAT, None),
        *([helper.make_tensor_value_info("length", TensorProto.INT64, [])] if meddles else [])])
    nodes = [helper.make_node("Shape", ["x"], ["shape"]),
             helper.make_node("Gather", ["shape", "time axis"], ["count"]), helper.make_node("SequenceEmpty", [], ["ys"], dtype=FLOAT),
             helper.make_node("Loop", ["count", "true", *(f"{letter}0" for letter in letters), "ys"],
                              [*(f"{letter}_last" for letter in letters), "list", *(["lengths"] if meddles else [])], body=inside),
             helper.make_node("ConcatFromSequence", ["list"], ["y"], axis=axis, new_axis=int(not joined))]
    writer.constants |= {"time axis": np.array(int(batch_first)), "true": np.array(True)}
    sizes = ["batch", "time"] if batch_first else ["time", "batch"]
    given = [helper.make_tensor_value_info("x", FLOAT, [*sizes, WIDTH]),
             *(helper.make_tensor_value_info(f"{letter}0", FLOAT, ["batch", HIDDEN]) for letter in letters)]
    made = [helper.make_tensor_value_info("y", FLOAT, [None] * 3), helper.make_tensor_value_info("h_last", FLOAT, ["batch", HIDDEN]),
            *([helper.make_tensor_value_info("lengths", TensorProto.INT64, [None])] if meddles else [])]
    graph = helper.make_graph(nodes, "lists", given, made, [numpy_helper.from_array(array, name)
                                                             for name, array in writer.constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def check(proto: onnx.ModelProto, tmp_path, batch_first: bool = False) -> lstmrt.Model:
    path = tmp_path / "lists.onnx"
    onnx.save(proto, path)
    loaded, session = lstmrt.load(path), onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for time, batch in ((6, 2), (1, 3)):
        random = np.random.default_rng(time)
        sizes = {"time": time, "batch": batch}
        inputs = {value.name: random.normal(size=[sizes.get(size, size) for size in value.shape]).astype(np.float32)
                  for value in loaded.inputs}
        for found, wanted in zip(loaded.run(inputs).values(), session.run(None, inputs), strict=True):
            np.testing.assert_allclose(found, wanted, atol=2e-6, rtol=0, strict=True)
    return loaded


def is_lifted(loaded: lstmrt.Model, op: str) -> bool:
    ops = [node.op for node in loaded.graph.nodes]
    return "Loop" not in ops and op in ops and all(segment.kind != "onnxruntime" for segment in loaded.segments)


@pytest.mark.parametrize("op, options", [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})])
@pytest.mark.parametrize("form", [{}, {"axis": 1, "batch_first": True}, {"axis": -1}, {"joined": True}])
def test_a_list_of_outputs_is_an_output_of_a_layer(op, options, form, tmp_path):
    assert is_lifted(check(model(op, **form, **options), tmp_path), op)


@pytest.mark.parametrize("head", [("Gemm", "Relu"), ("Gemm", "Div", "Softmax"), ("Tanh",), ("Neg", "Gemm", "LogSoftmax")])
def test_what_a_step_makes_of_its_output_is_made_of_all_steps(head, tmp_path):
    assert is_lifted(check(model("LSTM", head=head), tmp_path), "LSTM")


@pytest.mark.parametrize("change", [{"meddles": True}, {"head": ("ReduceSum",)}, {"activations": ["Relu", "Tanh", "Tanh"]}])
def test_others_run_as_they_are(change, tmp_path):
    assert not is_lifted(check(model("LSTM", **change), tmp_path), "LSTM")
