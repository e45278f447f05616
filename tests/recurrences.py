"""ONNX models that say an LSTM, GRU or RNN with plain operators: as a Loop, a Scan or step after step.

Every model has its own weights, distinct for each gate. How it is written is drawn: gates joined or apart, in any order,
cut by Split or Slice, Gemm or MatMul and Add, operands either way round, and the other ways in which exporters differ.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GATES = {"LSTM": "ifoc", "GRU": "zrh", "RNN": "h"}


@dataclass(frozen=True)
class Form:
    """op; `linear`: a GRU whose reset gate comes after the matrix; `container` "Loop", "Scan" or "unrolled"; `states`
    "zeros", "expanded" zeros or "inputs"; `mask` None, "where" or "mul", with output "carry", "zero" or "state"."""

    op: str
    linear: bool = False
    container: str = "Loop"
    joined: bool = True
    product: str = "matmul"  # or gemm, concat
    cut: str = "Split"
    bias: bool = True
    states: str = "inputs"
    mask: str | None = None
    masked_output: str = "carry"
    backwards: bool = False
    batch_first: bool = False
    activation: str = "Sigmoid"
    other_update: bool = False  # GRU: (h - g) * z + g; LSTM: coupled gates
    last_only: bool = False
    time: int = 4
    batch: int = 3
    width: int = 5
    hidden: int = 7
    seed: int = 0
    dtype: str = "float32"  # of x, whose steps become float32

    @property
    def code(self) -> int:
        return helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))


@dataclass
class Writer:
    """Nodes and initializers in the making."""

    form: Form
    luck: random.Random
    rng: np.random.Generator
    nodes: list = field(default_factory=list)
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    count: int = 0

    def name(self, stem: str = "v") -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def constant(self, array) -> str:
        array = np.asarray(array)
        for name, known in self.initializers.items():  # weights that repeat are one initializer
            if known.dtype == array.dtype and known.shape == array.shape and np.array_equal(known, array):
                return name
        name = self.name("k")
        self.initializers[name] = array
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes):
        made = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, self.name("n"), **attributes))
        return made[0] if outputs == 1 else made

    def either(self, op: str, a: str, b: str) -> str:
        """Of an operator that does not mind the order."""
        return self.node(op, *((a, b) if self.luck.random() < 0.5 else (b, a)))

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))


class Weights:
    def __init__(self, form: Form, rng: np.random.Generator):
        def drawn(*shape: int) -> np.ndarray:
            return (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)

        gates = GATES[form.op]
        self.w = {gate: drawn(form.width, form.hidden) * (1 + 0.2 * i) for i, gate in enumerate(gates)}
        self.r = {gate: drawn(form.hidden, form.hidden) * (1 + 0.3 * i) for i, gate in enumerate(gates)}
        self.b = {gate: drawn(form.hidden) for gate in gates}
        self.rb = {gate: drawn(form.hidden) for gate in gates}


def step(writer: Writer, weights: Weights, order: str, x: str, h: str, c: str | None) -> tuple[str, str | None]:
    """The nodes of one step; the names of the new states."""
    form = writer.form
    if form.op == "GRU":
        return gru(writer, weights, order, x, h), None
    sums = gate_sums(writer, weights, order, x, h)
    if form.op == "RNN":
        return writer.node("Tanh", sums["h"]), None
    i, f, o = (writer.node(form.activation, sums[gate]) for gate in "ifo")
    if form.other_update:
        f = writer.node("Sub", writer.constant(np.float32(1)), i)
    new = writer.either("Mul", i, writer.node("Tanh", sums["c"]))
    c = writer.either("Add", writer.either("Mul", f, c), new)
    return writer.either("Mul", o, writer.node("Tanh", c)), c


def gate_sums(writer: Writer, weights: Weights, order: str, x: str, h: str) -> dict[str, str]:
    form = writer.form
    if form.product == "concat":
        both = writer.node("Concat", x, h, axis=-1)
        matrices = {gate: np.concatenate([weights.w[gate], weights.r[gate]]) for gate in order}
        return products(writer, both, matrices, weights.b, order)
    a, b = products(writer, x, weights.w, weights.b, order), products(writer, h, weights.r, weights.rb, order)
    return {gate: writer.either("Add", a[gate], b[gate]) for gate in order}


def products(writer: Writer, x: str, matrices: dict, biases: dict, order: str) -> dict[str, str]:
    """Gate -> its sum."""
    form = writer.form
    if not form.joined:
        return {gate: product(writer, x, matrices[gate], biases[gate]) for gate in order}
    whole = product(writer, x, np.concatenate([matrices[gate] for gate in order], 1),
                    np.concatenate([biases[gate] for gate in order]))
    if len(order) == 1:
        return {order: whole}
    if form.cut == "Split":
        sizes = writer.ints(*[form.hidden] * len(order))
        return dict(zip(order, writer.node("Split", whole, sizes, outputs=len(order), axis=-1)))
    return {gate: writer.node("Slice", whole, writer.ints(k * form.hidden), writer.ints((k + 1) * form.hidden), writer.ints(1))
            for k, gate in enumerate(order)}


def product(writer: Writer, x: str, matrix: np.ndarray, bias: np.ndarray) -> str:
    form = writer.form
    if form.product == "gemm":
        given = [x, writer.constant(matrix.T.copy())] + ([writer.constant(bias)] if form.bias else [])
        return writer.node("Gemm", *given, transB=1)
    made = writer.node("MatMul", x, writer.constant(matrix))
    return writer.either("Add", made, writer.constant(bias)) if form.bias else made


def gru(writer: Writer, weights: Weights, order: str, x: str, h: str) -> str:
    form = writer.form
    a = products(writer, x, weights.w, weights.b, order)
    if form.linear:
        b = products(writer, h, weights.r, weights.rb, order)
    else:
        b = products(writer, h, weights.r, weights.rb, order.replace("h", ""))
    z, r = (writer.node(form.activation, writer.either("Add", a[gate], b[gate])) for gate in "zr")
    inner = writer.either("Mul", r, b["h"]) if form.linear else product(
        writer, writer.either("Mul", r, h), weights.r["h"], weights.rb["h"])
    g = writer.node("Tanh", writer.either("Add", a["h"], inner))
    if form.other_update:
        return writer.either("Add", writer.either("Mul", writer.node("Sub", h, g), z), g)
    rest = writer.node("Sub", writer.constant(np.float32(1)), z)
    return writer.either("Add", writer.either("Mul", z, h), writer.either("Mul", rest, g))


def chosen(writer: Writer, mask: str, new: str, old: str | None) -> str:
    """`new` where the mask is set, else `old`, or zero."""
    if writer.form.mask == "where":
        return writer.node("Where", mask, new, old or writer.constant(np.float32(0)))
    kept = writer.either("Mul", writer.node("Cast", mask, to=TensorProto.FLOAT), new)
    if old is None:
        return kept
    off = writer.node("Cast", writer.node("Not", mask), to=TensorProto.FLOAT)
    return writer.either("Add", kept, writer.either("Mul", off, old))


# ---- whole models ----


def recurrence(form: Form) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model and inputs for it: x, with the states h and c and the mask where the form has them."""
    rng = np.random.default_rng(form.seed)
    writer, weights = Writer(form, random.Random(form.seed), rng), Weights(form, rng)
    order = "".join(writer.luck.sample(GATES[form.op], len(GATES[form.op])))
    rows = ("batch", "time") if form.batch_first else ("time", "batch")
    if form.container == "unrolled":
        rows = tuple(form.time if size == "time" else size for size in rows)
    sizes = {"batch": form.batch, "time": form.time}
    shape = [sizes.get(size, size) for size in rows]
    inputs = {"x": rng.normal(size=(*shape, form.width)).astype(form.dtype) if form.dtype != "bool"
              else rng.random((*shape, form.width)) < 0.5}
    values = [helper.make_tensor_value_info("x", form.code, (*rows, form.width))]
    names = ["h", "c"] if form.op == "LSTM" else ["h"]
    for name in names if form.states == "inputs" else ():
        inputs[name] = rng.normal(size=(form.batch, form.hidden)).astype(np.float32)
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", form.hidden)))
    if form.mask:
        inputs["mask"] = rng.random(shape) < 0.6
        values.append(helper.make_tensor_value_info("mask", TensorProto.BOOL, rows))

    x = writer.node("Transpose", "x", perm=(1, 0, 2)) if form.batch_first else "x"
    states = names if form.states == "inputs" else [zeros(writer, x)] * len(names)
    container = {"Loop": loop, "Scan": scan, "unrolled": unrolled}[form.container]
    y, last = container(writer, weights, order, x, states)
    if form.batch_first and not form.last_only:
        y = writer.node("Transpose", y, perm=(1, 0, 2))
    outputs = [writer.node("Identity", name) for name in (y, *last)]
    graph = helper.make_graph(
        writer.nodes, "recurrence", values,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (None,) * (2 if i or form.last_only else 3))
         for i, name in enumerate(outputs)],
        [numpy_helper.from_array(array, name) for name, array in writer.initializers.items()])
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)]), inputs


def zeros(writer: Writer, x: str) -> str:
    """A state of zeros for each row of x."""
    form = writer.form
    rows = writer.node("Gather", writer.node("Shape", x), writer.ints(1))
    shape = writer.node("Concat", rows, writer.ints(form.hidden), axis=0)
    return writer.node("Expand", writer.constant(np.zeros((1, 1), np.float32)), shape)


def masks(writer: Writer) -> str:
    """(time, batch, 1)"""
    mask = writer.node("Transpose", "mask", perm=(1, 0)) if writer.form.batch_first else "mask"
    return writer.node("Unsqueeze", mask, writer.ints(2))


def body(writer: Writer, weights: Weights, order: str, x: str, states: list[str], mask: str | None,
         before: str | None) -> tuple[list[str], str]:
    """One step of a body with its mask: the new states and the output. `before` is the last output."""
    x = x if writer.form.dtype == "float32" else writer.node("Cast", x, to=TensorProto.FLOAT)
    new = [name for name in step(writer, weights, order, x, states[0], states[1] if len(states) > 1 else None) if name]
    if mask is None:
        return new, new[0]
    after = [chosen(writer, mask, one, old) for one, old in zip(new, states)]
    if writer.form.masked_output == "state":
        return after, after[0]
    return after, chosen(writer, mask, new[0], before if writer.form.masked_output == "carry" else None)


def typed(name: str, dtype: int = TensorProto.FLOAT, shape=None):
    return helper.make_tensor_value_info(name, dtype, shape)


def loop(writer: Writer, weights: Weights, order: str, x: str, states: list[str]) -> tuple[str, list[str]]:
    form = writer.form
    length = writer.node("Gather", writer.node("Shape", x), writer.constant(np.array(0, np.int64)))
    mask = masks(writer) if form.mask else None
    carried = [*states, zeros(writer, x)] if form.mask and form.masked_output == "carry" else states
    end = writer.node("Sub", length, writer.constant(np.array(1, np.int64)))
    outer, writer.nodes = writer.nodes, []
    names = [writer.name("s") for _ in carried]
    index = writer.node("Sub", end, "i") if form.backwards else "i"
    new, output = body(writer, weights, order, writer.node("Gather", x, index, axis=0), names[:len(states)],
                       mask and writer.node("Gather", mask, index, axis=0), names[-1])
    after = [writer.node("Identity", name) for name in [*new, output][:len(carried)]]
    going = writer.node("Identity", "go")
    graph = helper.make_graph(
        writer.nodes + [helper.make_node("Identity", [output], ["scanned"])], "body",
        [typed("i", TensorProto.INT64, ()), typed("go", TensorProto.BOOL, ())] + [typed(name) for name in names],
        [typed(going, TensorProto.BOOL, ())] + [typed(name) for name in after] + [typed("scanned")])
    writer.nodes = outer
    made = writer.node("Loop", length, "", *carried, outputs=len(carried) + 1, body=graph)
    return finished(writer, made[-1]), made[:len(states)]


def scan(writer: Writer, weights: Weights, order: str, x: str, states: list[str]) -> tuple[str, list[str]]:
    form = writer.form
    mask = masks(writer) if form.mask else None
    carried = [*states, zeros(writer, x)] if form.mask and form.masked_output == "carry" else states
    outer, writer.nodes = writer.nodes, []
    names, steps = [writer.name("s") for _ in carried], [writer.name("x")] + ([writer.name("m")] if mask else [])
    new, output = body(writer, weights, order, steps[0], names[:len(states)], steps[1] if mask else None, names[-1])
    after = [writer.node("Identity", name) for name in [*new, output][:len(carried)]]
    graph = helper.make_graph(
        writer.nodes + [helper.make_node("Identity", [output], ["scanned"])], "body",
        [*map(typed, names), typed(steps[0], form.code)] + [typed(name, TensorProto.BOOL) for name in steps[1:]],
        [typed(name) for name in [*after, "scanned"]])
    writer.nodes = outer
    directions = {"scan_input_directions": [1] * len(steps)} if form.backwards else {}
    made = writer.node("Scan", *carried, x, *([mask] if mask else []), outputs=len(carried) + 1, body=graph,
                       num_scan_inputs=len(steps), **directions)
    return finished(writer, made[-1]), made[:len(states)]


def finished(writer: Writer, y: str) -> str:
    return writer.node("Gather", y, writer.constant(np.array(-1, np.int64)), axis=0) if writer.form.last_only else y


def mask_of_step(writer: Writer, mask: str, t: int) -> str:
    """(batch, 1), or tiled to (batch, hidden)."""
    if writer.form.seed % 2:
        step = writer.node("Gather", mask, writer.constant(np.array(t, np.int64)), axis=0)
    else:
        cut = writer.node("Slice", mask, writer.ints(t), writer.ints(t + 1), writer.ints(0))
        step = writer.node("Squeeze", cut, writer.ints(0))
    return writer.node("Tile", step, writer.ints(1, writer.form.hidden)) if writer.form.seed % 3 else step


def unrolled(writer: Writer, weights: Weights, order: str, x: str, states: list[str]) -> tuple[str, list[str]]:
    form, ys = writer.form, []
    mask = masks(writer) if form.mask else None
    output = zeros(writer, x) if form.mask and form.masked_output == "carry" else None
    steps = range(form.time)[::-1] if form.backwards else range(form.time)
    parts = writer.node("Split", x, outputs=form.time, axis=0, num_outputs=form.time) if form.cut == "Split" else None
    for t in steps:
        if parts:
            x_t = writer.node("Squeeze", parts[t], writer.ints(0))
        elif form.seed % 2:
            x_t = writer.node("Gather", x, writer.constant(np.array(t, np.int64)), axis=0)
        else:
            x_t = writer.node("Squeeze", writer.node("Slice", x, writer.ints(t), writer.ints(t + 1), writer.ints(0)),
                              writer.ints(0))
        states, output = body(writer, weights, order, x_t, states, mask and mask_of_step(writer, mask, t), output)
        ys.append(output)
    if form.last_only:
        return ys[-1], states
    return writer.node("Concat", *(writer.node("Unsqueeze", y, writer.ints(0)) for y in ys), axis=0), states
