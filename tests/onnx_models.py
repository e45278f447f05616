"""Hypothesis strategy: ONNX models of any opset from 7 to 22 that mix recurrent, plain and foreign operators.

Nodes are written in the words of their opset, by hand: nothing of lstmrt has a part in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

OLDEST, NEWEST = 7, 22
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = ("Tanh", "Sigmoid", "Relu", "Abs", "Neg", "Elu", "Softsign", "Softplus", "HardSigmoid", "LeakyRelu", "Identity",
             "Selu", "Exp")


@dataclass
class Writer:
    """A model in the making. Values are (time, batch, width) but where a piece says otherwise; it must give that back."""

    opset: int
    random: np.random.Generator
    nodes: list = field(default_factory=list)
    constants: list = field(default_factory=list)
    count: int = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    def add(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        made = [self.name(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, made, name=self.name("node"), domain=domain, **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, values: Any, dtype: str = "float32") -> str:
        name = self.name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, "int64")

    def weights(self, *shape: int) -> str:
        return self.constant(self.random.normal(size=shape) / np.sqrt(shape[-1]))

    # operators whose words changed

    def axes(self, op: str, x: str, *axes: int, since: int = 13, **attributes: Any) -> str:
        if self.opset < since:
            return self.add(op, x, axes=axes, **attributes)
        return self.add(op, x, self.ints(*axes), **attributes)

    def cut(self, x: str, axis: int, start: int, end: int) -> str:
        if self.opset < 10:
            return self.add("Slice", x, axes=[axis], starts=[start], ends=[end])
        return self.add("Slice", x, self.ints(start), self.ints(end), self.ints(axis))

    def clip(self, x: str, low: float, high: float) -> str:
        if self.opset < 11:
            return self.add("Clip", x, min=low, max=high)
        return self.add("Clip", x, self.constant(low), self.constant(high))

    def pad(self, x: str, pads: list[int], value: float) -> str:
        if self.opset < 11:
            return self.add("Pad", x, pads=pads, value=value)
        return self.add("Pad", x, self.ints(*pads), self.constant(value))

    def halves(self, x: str, width: int) -> list[str]:
        sizes = [width // 2, width - width // 2]
        if self.opset < 13:
            return self.add("Split", x, outputs=2, axis=2, split=sizes)
        return self.add("Split", x, self.ints(*sizes), outputs=2, axis=2)

    def largest(self, x: str, count: int) -> str:
        if self.opset < 10:
            return self.add("TopK", x, outputs=2, k=count, axis=2)[0]
        return self.add("TopK", x, self.ints(count), outputs=2, axis=2)[0]


# ---- pieces: (writer, x, width, draw) -> a value of the same axes, and its width ----


def function(w: Writer, x: str, width: int, draw) -> tuple[str, int]:
    op = draw(st.sampled_from(FUNCTIONS + (("Erf",) if w.opset >= 9 else ())))
    return w.add(op, w.add("Tanh", x) if op == "Exp" else x), width


def arithmetic(w: Writer, x: str, width: int, draw) -> tuple[str, int]:
    op = draw(st.sampled_from(("Add", "Sub", "Mul", "Div") + (("Max", "Min") if w.opset >= 8 else ())))
    shape = draw(st.sampled_from(((width,), (1,), (), (1, 1, width))))
    other = w.constant(np.abs(w.random.normal(size=shape)) + 0.5)
    return w.add(op, *((x, other) if op == "Div" or draw(st.booleans()) else (other, x))), width


def dense(w: Writer, x: str, width: int, draw) -> tuple[str, int]:
    units = draw(st.integers(1, 9))
    return w.add("Add", w.add("MatMul", x, w.weights(width, units)), w.weights(units)), units


def gemm(w: Writer, x: str, width: int, draw) -> tuple[str, int]:
    """Of the first step, laid over all of them again."""
    units = draw(st.integers(1, 9))
    first = w.add("Gather", x, w.constant(0, "int64"), axis=0)
    made = w.add("Gemm", first, w.weights(units, width), w.weights(units), transB=1, alpha=0.5)
    return w.add("Add", w.add("MatMul", x, w.weights(width, units)), made), units


def softmax(w: Writer, x: str, width: int, draw) -> tuple[str, int]:
    return w.add(draw(st.sampled_from(("Softmax", "LogSoftmax"))), x, axis=2), width


def softmax_of_several_axes(w: Writer, x: str, width: int, draw) -> tuple[str, int]:
    """Before opset 13 over batch and width at once, after it over the batch."""
    return w.add("Softmax", x, axis=1), width


def normalization(w: Writer, x: str, width: int, draw) -> tuple[str, int]:
    if w.opset >= 17 and draw(st.booleans()):
        return w.add("LayerNormalization", x, w.weights(width), w.weights(width), axis=-1, epsilon=1e-2), width
    variance = w.constant(np.abs(w.random.normal(size=width)) + 0.5)
    channels = w.add("Transpose", x, perm=[1, 2, 0])
    made = w.add("BatchNormalization", channels, w.weights(width), w.weights(width), w.weights(width), variance, epsilon=1e-3)
    return w.add("Transpose", made, perm=[2, 0, 1]), width


def convolution(w: Writer, x: str, width: int, draw) -> tuple[str, int]:
    """Over time; padded to as many steps."""
    filters, size = draw(st.integers(1, 5)), draw(st.sampled_from((1, 3)))
    channels = w.add("Transpose", x, perm=[1, 2, 0])
    made = w.add("Conv", channels, w.weights(filters, width, size), w.weights(filters), pads=[size // 2] * 2)
    return w.add("Transpose", made, perm=[2, 0, 1]), filters


def rearrangement(w: Writer, x: str, width: int, draw) -> tuple[str, int]:
    which = draw(st.sampled_from(("split", "slice", "pad", "top", "gather", "unsqueeze", "reduce", "shape", "cast", "dropout")))
    if which == "split" and width > 1:
        first, second = w.halves(x, width)
        return w.add("Concat", second, w.add("Tanh", first), x, axis=2), 2 * width
    if which == "slice" and width > 1:
        return w.cut(x, 2, 1, width), width - 1
    if which == "pad":
        return w.pad(x, [0, 0, 1, 0, 0, 2], 0.25), width + 3
    if which == "top" and width > 2:
        return w.largest(x, width - 1), width - 1
    if which == "gather":
        return w.add("Gather", x, w.ints(*w.random.integers(0, width, 3)), axis=2), 3
    if which == "unsqueeze":
        return w.axes("Squeeze", w.add("Relu", w.axes("Unsqueeze", x, 1)), 1), width
    if which == "reduce":
        since = 18 if (op := draw(st.sampled_from(("ReduceMean", "ReduceSum", "ReduceMax")))) != "ReduceSum" else 13
        return w.add("Sub", x, w.axes(op, x, 2, since=since, keepdims=1)), width
    if which == "shape":
        return w.add("Reshape", w.add("Reshape", x, w.ints(0, 0, 1, -1)), w.add("Shape", x)), width
    if which == "cast":
        return w.add("Cast", w.add("Cast", x, to=TensorProto.DOUBLE), to=TensorProto.FLOAT), width
    return w.add("Dropout", x), width


def foreign(w: Writer, x: str, width: int, draw) -> tuple[str, int]:
    if draw(st.booleans()):
        return w.add("QuickGelu", x, domain="com.microsoft"), width
    return w.axes("Squeeze", w.add("LRN", w.axes("Unsqueeze", x, 3), size=3), 3), width


def recurrent(w: Writer, x: str, width: int, draw) -> tuple[str, int]:
    op = draw(st.sampled_from(sorted(GATES)))
    direction = draw(st.sampled_from(("forward", "reverse", "bidirectional")))
    hidden, directions, gates = draw(st.integers(1, 9)), 2 if direction == "bidirectional" else 1, GATES[op]
    options = {}
    if op == "GRU":
        options["linear_before_reset"] = draw(st.integers(0, 1))
    if draw(st.booleans()):
        options["clip"] = 1.5
    y = w.add(op, x, w.weights(directions, gates * hidden, width), w.weights(directions, gates * hidden, hidden),
              *([w.weights(directions, 2 * gates * hidden)] if draw(st.booleans()) else []),
              hidden_size=hidden, direction=direction, **options)
    if directions == 1:
        return w.axes("Squeeze", y, 1), hidden
    return w.add("Reshape", w.add("Transpose", y, perm=[0, 2, 1, 3]), w.ints(0, 0, -1)), 2 * hidden


PIECES: tuple[Callable, ...] = (function, arithmetic, dense, gemm, softmax, softmax_of_several_axes, normalization, convolution,
                                rearrangement, rearrangement, foreign, recurrent)


@st.composite
def mixed_models(draw) -> tuple[onnx.ModelProto, np.ndarray]:
    """A model of one input x, (time, batch, width), and an x for it."""
    writer = Writer(draw(st.integers(OLDEST, NEWEST)), np.random.default_rng(draw(st.integers(0, 2**32))))
    time, batch, width = draw(st.sampled_from(((3, 2), (5, 3), (1, 4), (4, 1)))) + (draw(st.integers(2, 7)),)
    x, current = "x", width
    around = [draw(st.lists(st.sampled_from(PIECES), max_size=4)) for _ in range(2)]
    for piece in (*around[0], recurrent, *around[1]):
        x, current = piece(writer, x, current, draw)
    opsets = [helper.make_opsetid("", writer.opset), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(
        writer.nodes, "mixed", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("time", "batch", width))],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ("time", "batch", current))], writer.constants)
    model = helper.make_model(graph, ir_version=8, opset_imports=opsets)
    return model, writer.random.normal(size=(time, batch, width)).astype(np.float32)
